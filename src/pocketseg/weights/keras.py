"""Keras' HDF5 weights, and putting them into a net of ours.

Names differ between the two worlds, so layers are matched by the order in which they run: Keras writes a model's
layers in that order, and a tiny zero image shows ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from pocketseg import memory
from pocketseg.errors import ModelFileError, missing_package
from pocketseg.files import open_regular
from pocketseg.text import counted
from pocketseg.weights.hdf5 import Array, KerasLayer, RefusedError, read_apart
from pocketseg.weights.order import running_layers

KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")

# A module of ours and how to bring Keras' array into its form; by the name that Keras has for the weight.
Places = dict[str, tuple[Tensor, Callable[[Array], Array]]]


def read_keras(path: Path) -> list[KerasLayer]:
    """Layers with weights in the file's order, from `save_weights` of Keras 2 or a whole model in HDF5.

    Nothing in the file is executed, and a process of its own reads it, with a limit of time and memory.

    Raises:
        ModelFileError: missing, truncated, no Keras weights, or in a form that has no layer order.
        EnvironmentProblem: h5py is not installed, or memory ended.
    """
    try:
        import h5py  # noqa: F401 - that it is there
    except Exception as error:  # broken installations raise more than ImportError
        raise missing_package("h5py", "keras-weights", error) from error
    try:
        with open_regular(path) as file:
            start = file.read(2)
    except FileNotFoundError:
        raise ModelFileError(str(path), "does not exist", "check the path") from None
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelFileError(str(path), f"cannot be read ({what})", "check the path") from None
    if start == b"PK":
        _refuse(path, "is a zip of Keras 3")
    try:
        return read_apart(path)
    except RefusedError as error:
        _refuse(path, str(error))
    except (OSError, MemoryError, ValueError) as error:
        what = f"cannot be read ({error})"
        raise memory.explained(error, ModelFileError(str(path), what, "use another copy")) from None


def _refuse(path: Path, what: str) -> NoReturn:
    raise ModelFileError(str(path), what, 'load it in Keras and save it with model.save("name.h5")')


# --- ours -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def put_keras(net: nn.Module, layers: Sequence[KerasLayer], *, channels: int, where: str) -> tuple[str, ...]:
    """Put Keras' layers into a net, one after another in the order in which they run.

    A depthwise convolution followed by a 1×1 one is one layer, SeparableConv2D.

    Args:
        net: a net of the catalog; where this raises, it is as it was. On the device `meta` it is only checked.
        layers: from `read_keras`.
        channels: of its images.
        where: the file, for messages.

    Returns:
        Names of ours that were filled.

    Raises:
        ModelFileError: another number of layers, or a layer of another kind or shape.
    """
    ours = _in_running_order(net, channels)
    names = {id(module): name for name, module in net.named_modules()}
    tensor_names = {id(tensor): name for name, tensor in (*net.named_parameters(), *net.named_buffers())}
    for (module, second), layer in zip(ours, layers, strict=False):
        _compare(layer, module, _places(module, second), names[id(module)], where)
    if len(ours) != len(layers):
        extra = f"its layer {layers[len(ours)].name!r}" if len(layers) > len(ours) else "our last layers"
        raise ModelFileError(
            where,
            f"has {counted(len(layers), 'layer')} with weights, the net has {len(ours)}; "
            f"nothing is the partner of {extra}",
            "give the net the same depth, convolutions and place of the norms",
        )
    filled = []
    for (module, second), layer in zip(ours, layers, strict=True):
        for role, (tensor, convert) in _places(module, second).items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(convert(layer.weights[role]))))
            filled.append(tensor_names[id(tensor)])
    return tuple(filled)


def _in_running_order(net: nn.Module, channels: int) -> list[tuple[nn.Module, nn.Module | None]]:
    """Layers with weights as they run, each with the second half of its separable pair."""
    pairs: dict[nn.Module, nn.Module] = {}
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) == 2 and _is_pair(module[0], module[1]):
            pairs[module[0]] = module[1]
    halves = set(pairs.values())
    return [(module, pairs.get(module)) for module in running_layers(net, channels) if module not in halves]


def _is_pair(first: nn.Module, second: nn.Module) -> bool:
    return (
        isinstance(first, nn.Conv2d)
        and isinstance(second, nn.Conv2d)
        and first.groups == first.in_channels
        and first.bias is None
        and second.kernel_size == (1, 1)
        and second.groups == 1
    )


def _places(module: nn.Module, second: nn.Module | None) -> Places:
    """Where Keras' weights go, by their names; {} for a layer that Keras files do not fill."""
    places: Places = {}
    if isinstance(module, nn.BatchNorm2d):
        ours = (module.weight, module.bias, module.running_mean, module.running_var)
        for role, tensor in zip(("gamma", "beta", "moving_mean", "moving_variance"), ours, strict=True):
            if tensor is not None:
                places[role] = (tensor, _as_it_is)
        return places
    if isinstance(module, nn.Conv2d) and isinstance(second, nn.Conv2d):
        places["depthwise_kernel"] = (module.weight, _depthwise)
        places["pointwise_kernel"] = (second.weight, _kernel)
        last = second
    elif isinstance(module, nn.Conv2d) and module.groups == 1:
        places["kernel"] = (module.weight, _kernel)
        last = module
    else:
        return {}
    if last.bias is not None:
        places["bias"] = (last.bias, _as_it_is)
    return places


def _as_it_is(values: Array) -> Array:
    return values


def _kernel(values: Array) -> Array:
    """(h, w, i, o) -> (o, i, h, w)."""
    return values.transpose(3, 2, 0, 1)


def _depthwise(values: Array) -> Array:
    """(h, w, i, m) -> (i·m, 1, h, w): filter j of channel c comes out as channel c·m + j, here and there."""
    height, width, channels, multiplier = values.shape
    return values.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)


def _compare(layer: KerasLayer, module: nn.Module, places: Places, name: str, where: str) -> None:
    """One of Keras' layers against the one of ours at its place."""
    here = f"{where}, layer {layer.name!r}"
    ours = f"our layer {name!r} ({type(module).__name__})"
    if not places:
        raise ModelFileError(here, f"{ours} at its place cannot take Keras weights", "choose another net")
    if set(layer.weights) != set(places):
        raise ModelFileError(
            here,
            f"has {', '.join(sorted(layer.weights))}; {ours} at its place needs {', '.join(sorted(places))}",
            "give the net the same kind of convolutions (conv) and place of the norms (norm)",
        )
    for role, (tensor, convert) in places.items():
        values = layer.weights[role]
        axes = 4 if convert is not _as_it_is else 1
        converted = convert(values).shape if values.ndim == axes else None
        if converted != tuple(tensor.shape):
            theirs = "×".join(map(str, values.shape)) or "a single number"
            turned = f", which is {'×'.join(map(str, converted))} here" if converted and axes == 4 else ""
            needed = "×".join(map(str, tensor.shape))
            raise ModelFileError(
                here,
                f"{role} is {theirs}{turned}; {ours} at its place has {needed}",
                "give the net the same widths, kernels, image channels and classes",
            )
        if not np.isfinite(values).all():
            raise ModelFileError(here, f"{role} holds numbers that are not finite", "use another checkpoint")
    if isinstance(module, nn.BatchNorm2d) and layer.epsilon is not None and layer.epsilon != module.eps:
        raise ModelFileError(
            here, f"has epsilon {layer.epsilon:g}; {ours} has {module.eps:g}", f"set net.norm_eps={layer.epsilon:g}"
        )
