"""Keras' HDF5 weights, and putting them into a net of ours.

Names differ between the two worlds, so layers are matched by the order in which they run: Keras writes a model's
layers in that order, and a tiny zero image shows ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketseg.errors import ModelFileError, missing_package

KERAS_SUFFIXES = (".h5", ".hdf5", ".keras")
# Keras writes its weights as they are; a file whose weights are larger than itself wants to fill the memory.
MOST_TIMES_LARGER = 4

Array = NDArray[np.float32]
# A module of ours and how to bring Keras' array into its form; by the name that Keras has for the weight.
Places = dict[str, tuple[Tensor, Callable[[Array], Array]]]


@dataclass(frozen=True)
class KerasLayer:
    """A layer with weights.

    Args:
        name: as the file has it.
        weights: by the last part of their names: kernel, bias, gamma, …
        epsilon: of a norm, where the file tells.
    """

    name: str
    weights: dict[str, Array]
    epsilon: float | None = None


def read_keras(path: Path) -> list[KerasLayer]:
    """Layers with weights in the file's order, from `save_weights` of Keras 2 or a whole model in HDF5.

    Nothing in the file is executed; but HDF5 is a large C library, in which an altered file can loop or crash. Give it
    files of people you trust.

    Raises:
        ModelFileError: missing, torn, no Keras weights, or in a form that has no layer order.
        EnvironmentProblem: h5py is not installed.
    """
    try:
        import h5py
    except Exception as error:  # broken installations raise more than ImportError
        raise missing_package("h5py", "keras-weights", error) from error
    if not path.is_file():
        raise ModelFileError(str(path), "does not exist", "check the path")
    with path.open("rb") as start:
        if start.read(2) == b"PK":
            _refuse(path, "is a zip of Keras 3")
    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            if not _texts(root, "layer_names"):
                _refuse(path, "has no list of layers")
            epsilons = _epsilons(file.attrs.get("model_config"))
            return list(_layers(path, root, epsilons))
    except (OSError, LookupError, ValueError, TypeError, RuntimeError, OverflowError, AttributeError) as error:
        raise ModelFileError(
            str(path), f"is torn or no Keras file ({error})", "use another copy, or save the model anew"
        ) from None


def _refuse(path: Path, what: str) -> NoReturn:
    raise ModelFileError(str(path), what, 'load it in Keras and save it with model.save("name.h5")')


def _layers(path: Path, root: Any, epsilons: dict[str, float]) -> Iterator[KerasLayer]:
    left = MOST_TIMES_LARGER * path.stat().st_size
    for layer in _texts(root, "layer_names"):
        # The layers of a model within the model lie in one group; the rest of a weight's name tells them apart.
        inner: dict[str, dict[str, Array]] = {}
        for weight in _texts(root[layer], "weight_names"):
            above, _, last = weight.rpartition("/")
            data = _dataset(path, root[layer], weight)
            left -= 4 * data.size
            if left < 0:
                _refuse(path, f"promises more than {MOST_TIMES_LARGER} times its bytes")
            weights = inner.setdefault(above, {})
            role = last.split(":")[0]
            if role in weights:
                _refuse(path, f"has two weights {role!r} in the layer {layer!r}")
            weights[role] = np.asarray(data[()], np.float32)
        for above, weights in inner.items():
            name = layer if len(inner) == 1 else above
            yield KerasLayer(name, weights, epsilons.get(name.rpartition("/")[2]))


def _texts(group: Any, attribute: str) -> list[str]:
    """A list of names. Keras cuts one that is longer than 64 kB into NAME0, NAME1, …"""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = [group.attrs[f"{attribute}{i}"] for i in range(len(group.attrs)) if f"{attribute}{i}" in group.attrs]
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in part]


def _dataset(path: Path, group: Any, name: str) -> Any:
    """The numbers of a weight; never those of another file, to which HDF5 could point."""
    import h5py

    link = group
    for part in name.split("/"):
        if not isinstance(link.get(part, getlink=True), h5py.HardLink):
            _refuse(path, f"points elsewhere for {name!r}")
        link = link[part]
    if not isinstance(link, h5py.Dataset) or link.external or link.is_virtual or link.dtype.kind != "f":
        _refuse(path, f"has no plain numbers in {name!r}")
    return link


def _epsilons(config: Any) -> dict[str, float]:
    """The norms' epsilons by layer name, from the description that a whole model has."""
    if config is None:
        return {}
    found: dict[str, float] = {}
    waiting = [json.loads(config)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            if isinstance(value.get("name"), str) and isinstance(value.get("epsilon"), float):
                found[value["name"]] = value["epsilon"]
    return found


# --- ours -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def put_keras(net: nn.Module, layers: Sequence[KerasLayer], *, channels: int, where: str) -> tuple[str, ...]:
    """Put Keras' layers into a net, one after another in the order in which they run.

    A depthwise convolution followed by a 1×1 one is one layer, SeparableConv2D.

    Args:
        net: a net of the catalogue; where this raises, it is as it was.
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
    tensor_names = {tensor.data_ptr(): name for name, tensor in net.state_dict().items() if tensor.numel()}
    for (module, second), layer in zip(ours, layers, strict=False):
        _compare(layer, module, _places(module, second), names[id(module)], where)
    if len(ours) != len(layers):
        extra = f"its layer {layers[len(ours)].name!r}" if len(layers) > len(ours) else "our last layers"
        raise ModelFileError(
            where,
            f"has {len(layers)} layers with weights, the net has {len(ours)}; nothing is the partner of {extra}",
            "give the net the same depth, convolutions and place of the norms",
        )
    filled = []
    for (module, second), layer in zip(ours, layers, strict=True):
        for role, (tensor, convert) in _places(module, second).items():
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(convert(layer.weights[role]))))
            filled.append(tensor_names[tensor.data_ptr()])
    return tuple(filled)


def _in_running_order(net: nn.Module, channels: int) -> list[tuple[nn.Module, nn.Module | None]]:
    """Layers with weights as they run, each with the second half of its separable pair."""
    pairs: dict[nn.Module, nn.Module] = {}
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) == 2 and _is_pair(module[0], module[1]):
            pairs[module[0]] = module[1]
    halves = set(pairs.values())
    ran: list[nn.Module] = []

    def note(module: nn.Module, *_: Any) -> None:
        if module not in ran and module not in halves:
            ran.append(module)

    leaves = [module for module in net.modules() if list(module.parameters(recurse=False))]
    hooks = [module.register_forward_hook(note) for module in leaves]
    training = net.training
    net.eval()
    try:
        like = next(net.parameters())
        side = int(net.stride)  # type: ignore[arg-type]
        net(torch.zeros(1, channels, side, side, device=like.device, dtype=like.dtype))
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return [(module, pairs.get(module)) for module in ran]


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
