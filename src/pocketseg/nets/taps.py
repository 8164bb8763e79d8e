"""Places inside a net whose output has a meaning of its own, under names that quantization does not change.

A place is a module by name, or, for an encoder that gives all its feature maps at once, `encoder[i]`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pocketseg.nets.encoder_base import Encoder

Part = Literal["encoder", "decoder"]
At = Literal["before-norm", "after-norm"]
ACTIVATIONS = (nn.ReLU, nn.Hardtanh)


@dataclass(frozen=True)
class Block:
    """A block of an encoder or decoder; `level` is how many times the image was halved before it."""

    name: str
    part: Part
    level: int


def blocks(core: nn.Module) -> list[Block]:
    """The blocks of a net in the order in which they run; the deepest belongs to the encoder."""
    found: list[Block] = []
    body: Any = core.get_submodule("encoder")
    if isinstance(body, Encoder):
        found += [Block(f"encoder[{index}]", "encoder", index + 1) for index in range(len(body.out_channels))]
    else:
        found += [Block(f"encoder.{index}", "encoder", index) for index in range(len(body))]
        if not isinstance(core.get_submodule("deepest"), nn.Identity):
            found.append(Block("deepest", "encoder", len(body)))
    decoder: Any = core.get_submodule("decoder")
    return found + [Block(f"decoder.{index}", "decoder", len(decoder) - 1 - index) for index in range(len(decoder))]


def block_output(core: nn.Module, name: str, at: At) -> str:
    """The place that has a block's output, before or after its last norm; the same where it ends in no norm.

    Before a norm that follows a ReLU stands the ReLU's output, before one that follows a convolution the convolution's.
    """
    if at == "after-norm" or "[" in name:
        return name
    block, path = core.get_submodule(name), name
    while isinstance(block, nn.Sequential):
        names, layers = zip(*block.named_children(), strict=True)
        place = len(layers) - 1
        if isinstance(layers[place], ACTIVATIONS) and place and isinstance(layers[place - 1], nn.BatchNorm2d):
            place -= 1
        if isinstance(layers[place], nn.BatchNorm2d):
            return f"{path}.{names[place - 1]}"
        if not isinstance(layers[place], nn.Sequential):
            return name
        block, path = layers[place], f"{path}.{names[place]}"
    return name


def activations(core: nn.Module, block: Block) -> list[str]:
    """The activations behind the convolutions of a block one by one; those of its upsampling come first.

    Raises:
        ValueError: the block is not a plain chain of convolutions.
    """
    names = [block.name]
    if block.part == "decoder":
        names.insert(0, block.name.replace("decoder", "ups"))
    chains = [(name, core.get_submodule(name)) for name in names] if "[" not in block.name else []
    if not chains or not _is_plain(chains[-1][1]):
        raise ValueError(block.name)
    return [
        f"{name}.{inside}"
        for name, chain in chains
        for inside, layer in chain.named_children()
        if isinstance(layer, ACTIVATIONS)
    ]


def _is_plain(chain: nn.Module) -> bool:
    """Whether its activations stand in the chain itself."""
    return isinstance(chain, nn.Sequential) and not any(
        isinstance(inside, ACTIVATIONS) for layer in chain for inside in layer.modules() if inside is not layer
    )


@contextmanager
def tapped(core: nn.Module, places: Iterable[str]) -> Iterator[OrderedDict[str, Tensor]]:
    """What comes out at some places while the net runs, in the order of the places.

    Example:
        >>> from pocketseg.nets import build
        >>> net = build("thin_unet", 1, 1, width=4, blocks=2)
        >>> with tapped(net.core, ["encoder.1"]) as seen:
        ...     _ = net(torch.zeros(1, 1, 8, 8))
        >>> seen["encoder.1"].shape
        torch.Size([1, 4, 4, 4])
    """
    seen: OrderedDict[str, Tensor] = OrderedDict((place, torch.empty(0)) for place in places)
    handles = []
    for place in seen:
        name, _, index = place.partition("[")
        hook = partial(_keep, seen, place, int(index.rstrip("]")) if index else None)
        handles.append(core.get_submodule(name).register_forward_hook(hook))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _keep(
    seen: OrderedDict[str, Tensor], place: str, index: int | None, module: nn.Module, inputs: Any, output: Any
) -> None:
    seen[place] = output if index is None else output[index]


def place_shapes(core: nn.Module, places: Iterable[str], input_shape: tuple[int, int, int]) -> dict[str, torch.Size]:
    """(c, h, w) of what comes out at some places of a `skeleton`, for an image (c, h, w)."""
    training = core.training
    core.eval()
    with tapped(core, places) as seen, torch.no_grad():
        core(torch.zeros(1, *input_shape, device="meta"))
    core.train(training)
    return {place: tensor.shape[1:] for place, tensor in seen.items()}
