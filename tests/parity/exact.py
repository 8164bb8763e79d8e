"""Integer nets in torch with the engine's order of sums where the operands are f32, so that results agree to the bit.

torch's own f32 convolution and bilinear resize have no stated order of operations; docs/decisions/0009 states the
engine's.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketseg.quant.layers import IntegerConv2d, QuantConv2d, pads


def convolved(x: Tensor, weight: Tensor, layer: nn.Module) -> Tensor:
    """Tap by tap, row by row, and channel by channel within a tap; every product and sum rounded to f32."""
    (top, left), (down, right), (far, wide) = layer.padding, layer.stride, layer.dilation
    out_channels, inside, height, width = weight.shape
    padded = F.pad(x, pads((top, left)))
    rows = (padded.shape[2] - far * (height - 1) - 1) // down + 1
    columns = (padded.shape[3] - wide * (width - 1) - 1) // right + 1
    group = torch.arange(out_channels) // (out_channels // layer.groups) * inside
    total = torch.zeros(len(x), out_channels, rows, columns)
    for i in range(height):
        for j in range(width):
            seen = padded[:, :, i * far : i * far + rows * down : down, j * wide : j * wide + columns * right : right]
            for channel in range(inside):
                total = total + seen[:, group + channel, :rows, :columns] * weight[:, channel, i, j][:, None, None]
    return total


class OrderedConv2d(nn.Module):
    """An f32 convolution."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        if isinstance(layer, QuantConv2d) and layer.inputs is not None:
            assert not layer.pads_first or not any(layer.padding)
            x = layer.inputs(x)
        bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
        return convolved(x, layer.weight, layer) + bias[:, None, None]


class OrderedCodes(nn.Module):
    """A convolution of codes over an f32 input."""

    def __init__(self, layer: IntegerConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer, out = self.layer, None
        for codes, m in zip(layer.codes, layer.m, strict=True):
            part = convolved(x, codes.float(), layer) * m[0][:, None, None]
            out = part if out is None else out + part
        return out + layer.b[:, None, None]


class OrderedBilinear(nn.Module):
    """left · (1 − u) + right · u for the upper row and the lower, then upper · (1 − v) + lower · v."""

    def __init__(self, factor: int, corners: bool) -> None:
        super().__init__()
        self.factor, self.corners = factor, corners

    def between(self, size: int) -> tuple[Tensor, Tensor, Tensor]:
        out = torch.arange(size * self.factor, dtype=torch.float32)
        if self.corners:
            step = torch.tensor(float(size - 1)) / torch.tensor(float(max(size * self.factor - 1, 1)))
            place = step * out
        else:
            place = ((out + 0.5) * (1 / torch.tensor(float(self.factor))) - 0.5).clamp(min=0)
        low = place.long().clamp(max=size - 1)
        return low, (low + 1).clamp(max=size - 1), place - low.float()

    def forward(self, x: Tensor) -> Tensor:
        top, bottom, v = self.between(x.shape[2])
        left, right, u = self.between(x.shape[3])
        v = v[:, None]
        rows = [x[:, :, row][..., left] * (1 - u) + x[:, :, row][..., right] * u for row in (top, bottom)]
        return rows[0] * (1 - v) + rows[1] * v


def exact(core: nn.Module) -> nn.Module:
    """A copy of an integer net that computes in the engine's order."""
    core = copy.deepcopy(core).eval()
    for name, module in list(core.named_modules()):
        if isinstance(module, IntegerConv2d) and module.input_spec is None:
            core.set_submodule(name, OrderedCodes(module))
        elif isinstance(module, nn.Conv2d) and not name.endswith(".layer"):
            core.set_submodule(name, OrderedConv2d(module))
        elif isinstance(module, nn.Upsample) and module.mode == "bilinear":
            core.set_submodule(name, OrderedBilinear(int(module.scale_factor), bool(module.align_corners)))
    return core
