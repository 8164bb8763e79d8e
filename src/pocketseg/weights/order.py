"""Putting the weights of another program's net into ours by the order of their layers, where names tell nothing.

Both Keras and PyTorch write layers in the order in which a net was built. For convolutions and for norms, each by
themselves, that is nearly always the order in which they run. A tiny zero image shows the order of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pocketseg.errors import ModelFileError
from pocketseg.text import counted
from pocketseg.weights.take import Taken, shape_text

COUNTER = "num_batches_tracked"


def running_layers(net: nn.Module, channels: int) -> list[nn.Module]:
    """The modules of a net that have parameters of their own, in the order in which they run first."""
    ran: list[nn.Module] = []

    def note(module: nn.Module, *_: Any) -> None:
        if module not in ran:
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
    return ran


@dataclass(frozen=True)
class Layer:
    """A layer: its name, and its tensors by role (`weight`, `bias`, …)."""

    name: str
    tensors: Mapping[str, Tensor]

    @property
    def kind(self) -> str:
        """`convolution` for all with a kernel, else `norm`."""
        return "convolution" if any(value.ndim > 1 for value in self.tensors.values()) else "norm"

    @property
    def text(self) -> str:
        shapes = ", ".join(f"{role} {shape_text(tuple(value.shape))}" for role, value in self.tensors.items())
        return f"{self.name!r} ({shapes})"


def layers_of(tensors: Mapping[str, Tensor]) -> list[Layer]:
    """The layers of a state dict in its order, without what is in front of all names and the counters of norms.

    Example:
        >>> tensors = {"net.a.weight": torch.ones(2, 3), "net.a.bias": torch.ones(2), "net.b.weight": torch.ones(1)}
        >>> [layer.text for layer in layers_of(tensors)]
        ["'a' (weight 2×3, bias 2)", "'b' (weight 1)"]
    """
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        layer, _, role = name.rpartition(".")
        if role != COUNTER:
            grouped.setdefault(layer, {})[role] = value
    while len(grouped) > 1 and len({name.partition(".")[0] for name in grouped}) == 1:
        grouped = {name.partition(".")[2]: found for name, found in grouped.items()}
    return [Layer(name, found) for name, found in grouped.items()]


def ends_of(tensors: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Image channels that the first convolution takes, and channels that the last one gives; None without any."""
    kernels = [layer.tensors["weight"] for layer in layers_of(tensors) if "weight" in layer.tensors]
    kernels = [kernel for kernel in kernels if kernel.ndim == 4]
    return (int(kernels[0].shape[1]), int(kernels[-1].shape[0])) if kernels else None


@torch.no_grad()
def take_in_order(core: nn.Module, tensors: Mapping[str, Tensor], *, channels: int, where: str) -> Taken:
    """Put the layers of a state dict into a net: convolutions in their order, and norms in theirs.

    An encoder that others publish has their names, and is filled by them: its shortcuts stand in another order. A bias
    that the file does not have is 0. A last layer of two logits, background and foreground, becomes one of their
    difference, whose sigmoid is their softmax.

    Args:
        core: a net of the catalog; where this raises, it is as it was. On the device `meta` it is only checked.
        tensors: by name, in the order of the file.
        channels: of its images.
        where: the file, for messages.

    Raises:
        ModelFileError: another number of layers, or a layer of another shape; or a value that is not finite.
    """
    theirs, names = layers_of(tensors), {module: name for name, module in core.named_modules()}
    ours = [Layer(names[module], _own(module)) for module in running_layers(core, channels)]
    last = ours[-1].name
    pairs = list(_named_pairs(core, theirs))
    ours = [layer for layer in ours if layer.name not in {mine.name for mine, _ in pairs}]
    theirs = [layer for layer in theirs if layer.name not in {other.name for _, other in pairs}]
    for kind in ("convolution", "norm"):
        mine, others = ([layer for layer in side if layer.kind == kind] for side in (ours, theirs))
        if len(mine) != len(others):
            raise ModelFileError(
                where,
                f"has {counted(len(others), kind)}, the net has {len(mine)}",
                "give the net the same depth, convolutions (conv), upsampling (up) and norms (norm)",
            )
        pairs += zip(mine, others, strict=True)
    values = dict(found for mine, other in pairs for found in _values(mine, other, where, mine.name == last))
    own = core.state_dict()
    for name, value in values.items():
        own[name].copy_(torch.zeros_like(own[name]) if value is None else value)
    zeros = tuple(name for name, value in values.items() if value is None)
    return Taken(names=tuple(name for name in values if name not in zeros), zeros=zeros)


def _own(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module of ours by role."""
    every = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    return {role: value for role, value in every if role != COUNTER}


def _named_pairs(core: nn.Module, theirs: Sequence[Layer]) -> Iterator[tuple[Layer, Layer]]:
    """The layers of an encoder that the file has under the names it is published with; none unless all are there."""
    encoder: Any = getattr(core, "encoder", None)
    if not hasattr(encoder, "translate"):
        return
    known = {layer.name: layer for layer in theirs}
    own = [(name, tensors) for name, module in encoder.named_modules() if (tensors := _own(module))]
    found = [(Layer(f"encoder.{name}", tensors), f"encoder.{name.removeprefix('net.')}") for name, tensors in own]
    if all(name in known for _, name in found):
        yield from ((layer, known[name]) for layer, name in found)


def _values(mine: Layer, other: Layer, where: str, last: bool) -> Iterator[tuple[str, Tensor | None]]:
    """Names of our tensors with what the file has for them; None is 0."""
    here, found = f"{where}, layer {other.name!r}", dict(other.tensors)
    own = mine.tensors
    if last and len(own["weight"]) == 1 and all(len(value) == 2 for value in found.values()):
        found = {role: value[1:] - value[:1] for role, value in found.items()}
    if found.keys() - own.keys() or own.keys() - found.keys() - ({"bias"} if mine.kind == "convolution" else set()):
        raise ModelFileError(
            here,
            f"has {', '.join(found)}; our layer {mine.text} is at its place",
            "give the net the same convolutions (conv) and norms (norm)",
        )
    for role, value in own.items():
        theirs = found.get(role)
        if theirs is not None and theirs.shape != value.shape:
            raise ModelFileError(
                here,
                f"{role} is {shape_text(tuple(theirs.shape))}; our layer {mine.text} is at its place",
                "give the net the same width, depth, kernels, image channels and classes",
            )
        if theirs is not None and not theirs.isfinite().all():
            raise ModelFileError(here, f"{role} holds numbers that are not finite", "use another checkpoint")
        yield f"{mine.name}.{role}", theirs
