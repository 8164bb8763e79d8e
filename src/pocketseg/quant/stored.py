"""Integer nets in few bytes: codes packed in the bits they need, everything else as it is; and what that amounts to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pocketseg.errors import ModelFileError
from pocketseg.quant.encodings import packed_codes, unpacked_codes
from pocketseg.quant.layers import IntegerConv2d, QuantConv2d

# How `pack_net` writes; version 1 wrote a number for every channel, also where all channels have the same.
PACKING = 2
# Numbers of an `IntegerConv2d`, whose last axis are its channels.
OF_CHANNELS = ("m", "b")


@dataclass(frozen=True)
class Storage:
    """What a layer's weights are made of.

    Attributes:
        name: of the layer.
        bits: of one weight, all planes together.
        levels: how many different values there are, at most in one output channel.
        zeros: share of weights that are 0.
        nominal_bits: weights times bits.
        packed_bytes: of the packed codes.
        floats: numbers that stay f32: factors, offsets, scales, gammas.
    """

    name: str
    bits: int
    levels: int
    zeros: float
    nominal_bits: int
    packed_bytes: int
    floats: int

    @property
    def bytes(self) -> int:
        """Of the packed file, with a byte each that says whether the channels share factors and offsets."""
        return self.packed_bytes + 4 * self.floats + len(OF_CHANNELS)


def storage(core: nn.Module) -> list[Storage]:
    """Every layer of an integer net that holds codes, in the order of the net."""
    rows = []
    for name, layer in core.named_modules():
        if not isinstance(layer, IntegerConv2d):
            continue
        weights = layer.codes[0].numel()
        # The value of a weight is its codes of all planes together; a plane of signs is a bit of them.
        together = sum(plane.flatten(1).int() << index for index, plane in enumerate(layer.codes))
        ordered = torch.as_tensor(together).sort(dim=1).values
        levels = 1 + int((ordered.diff(dim=1) != 0).sum(dim=1).max())
        zeros = (layer.codes == 0).all(dim=0).float().mean().item()
        grid = 0 if layer.input_spec is None else layer.scale.numel() * (2 if layer.has_zero_point else 1)
        grid += 0 if layer.span is None else layer.span.numel()
        floats = _shared(layer.m).numel() + _shared(layer.b).numel() + grid
        bits = layer.weight_spec.bits
        rows.append(Storage(name, bits, levels, zeros, weights * bits, _codes(layer).numel(), floats))
    return rows


def nominal(core: nn.Module) -> tuple[int, int]:
    """Bits of quantized weights, and numbers that stay f32, in a net that trains with quantizers.

    The way in which papers count: weights times bits; biases, norms, gammas and learned scales, and layers left in f32.
    Running statistics of norms, and scales that are measured and not learned, are not counted. A size is
    `stored_bytes`.
    """
    bits, coded = 0, set()
    for layer in core.modules():
        if isinstance(layer, QuantConv2d) and layer.weights is not None:
            bits += layer.weight.numel() * layer.weights.spec.bits
            coded.add(id(layer.weight))
    return bits, sum(p.numel() for p in core.parameters() if id(p) not in coded)


def stored_bytes(core: nn.Module) -> dict[str, int]:
    """Bytes of every module of an integer net in the packed file; children stand for themselves."""
    sizes = {name: 0 for name, _ in core.named_modules()}
    names = {module: name for name, module in core.named_modules()}
    for owner, name, value in _numbers(core):
        sizes[names[owner]] += len(_bytes(owner, name, value))
    return sizes


def _codes(layer: IntegerConv2d) -> Tensor:
    return torch.from_numpy(packed_codes(layer.weight_spec, layer.codes).reshape(-1))


def pack_net(core: nn.Module) -> Tensor:
    """uint8 (bytes,): every number of an integer net, one after the other in the net's own order, without names.

    Codes are packed, everything else is little-endian f32. Before the factors and the offsets of a layer stands a
    byte: 1 where all channels have the same, which are stored once. What is fixed by the scheme (a zero point of
    0, the scale of an input that is not quantized) and the norms' counters are left out.
    """
    return torch.cat([_bytes(owner, name, value) for owner, name, value in _numbers(core)])


def unpack_net(core: nn.Module, packed: Tensor, where: str, packing: int = PACKING) -> None:
    """Put packed numbers into an integer net of the same scheme, in place.

    Args:
        core: which gets them.
        packed: uint8 (bytes,), as `pack_net` made it.
        where: what errors call it.
        packing: version that wrote it.

    Raises:
        ModelFileError: the number of bytes does not fit, or the version is unknown.
    """
    if packing not in (1, PACKING):
        raise ModelFileError(
            where, f"has weights of packing {packing}, this version reads 1 and {PACKING}", "update it"
        )
    first = 0
    for owner, name, value in _numbers(core):
        if isinstance(owner, IntegerConv2d) and name == "codes":
            count = len(_codes(owner))
        else:
            shape: Sequence[int] = value.shape
            if isinstance(owner, IntegerConv2d) and name in OF_CHANNELS and packing > 1:
                shape = (*shape[:-1], 1) if packed[first : first + 1].tolist() == [1] else shape
                first += 1
            count = 4 * math.prod(shape)
        part, first = packed[first : first + count], first + count
        if len(part) < count:
            break
        if isinstance(owner, IntegerConv2d) and name == "codes":
            value.copy_(unpacked_codes(owner.weight_spec, part.numpy(), value))
        else:
            value.copy_(torch.from_numpy(part.numpy().copy().view("<f4")).reshape(shape))
    if first != len(packed):
        raise ModelFileError(where, f"holds {len(packed)} bytes of weights, its net needs {first}", "make it again")


def _numbers(core: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor]]:
    """Every tensor that is stored, with its module and its name there."""
    for owner in core.modules():
        for name, value in [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]:
            fixed = isinstance(owner, IntegerConv2d) and (
                (name == "zero_point" and not owner.has_zero_point) or (name == "scale" and owner.input_spec is None)
            )
            if not fixed and name != "num_batches_tracked":
                yield owner, name, value.detach()


def _bytes(owner: nn.Module, name: str, value: Tensor) -> Tensor:
    if isinstance(owner, IntegerConv2d) and name == "codes":
        return _codes(owner)
    if isinstance(owner, IntegerConv2d) and name in OF_CHANNELS:
        stored = _shared(value)
        return torch.cat([torch.tensor([stored.numel() < value.numel()], dtype=torch.uint8), _f32(stored)])
    return _f32(value)


def _shared(numbers: Tensor) -> Tensor:
    """Numbers (…, channels), or (…, 1) where all channels have the same."""
    first = numbers[..., :1]
    return first if torch.equal(numbers, first.expand_as(numbers)) else numbers


def _f32(value: Tensor) -> Tensor:
    return torch.from_numpy(np.frombuffer(value.cpu().numpy().astype("<f4").tobytes(), np.uint8).copy())
