"""Integer nets as a graph of floats: what every scheme can be written as, with no gain in size or speed.

Weights are f32 constants, their codes times their factors; the input of a layer is brought to its grid by float
operations. Sums are f32, so a value beside a tie may get another code than the integer net gives it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketseg.quant import Spec, State
from pocketseg.quant.layers import IntegerConv2d, QuantConv2d, pads


def float_graph(core: nn.Module) -> nn.Module:
    """A copy of an integer net whose layers hold and compute floats only."""
    core = copy.deepcopy(core).eval()
    for name, layer in list(core.named_modules()):
        if isinstance(layer, IntegerConv2d):
            core.set_submodule(name, FloatConv2d.of_integers(layer))
        elif isinstance(layer, QuantConv2d):
            core.set_submodule(name, FloatConv2d.of_floats(layer))
    return core


class FloatConv2d(nn.Module):
    """A convolution with constant weights of an input that is brought to a grid.

    Args:
        weight, bias: f32.
        like: the layer, for stride, padding, dilation and groups.
        spec, state: how the input is quantized; None: as it comes.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self, weight: Tensor, bias: Tensor, like: IntegerConv2d | QuantConv2d, spec: Spec | None, state: State | None
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.spec, self.state, self.pads_first = spec, state, like.pads_first
        self.padding = like.padding
        self.geometry: Any = (like.stride, (0, 0) if self.pads_first else like.padding, like.dilation, like.groups)

    @classmethod
    def of_integers(cls, layer: IntegerConv2d) -> FloatConv2d:
        """m holds scale of weights · scale of input for each pair of planes; the input's are in its values already."""
        scales = layer.scale.double().reshape(-1) if layer.input_spec is not None else torch.ones(1).double()
        largest = int(scales.argmax())
        factors = layer.m[:, largest].double() / scales[largest].clamp(min=2.0**-126)
        weight = (layer.codes.double() * factors[:, :, None, None, None]).sum(0).float()
        return cls(weight, layer.b, layer, layer.input_spec, None if layer.input_spec is None else layer.input_state)

    @classmethod
    def of_floats(cls, layer: QuantConv2d) -> FloatConv2d:
        """A layer whose weights stay in f32."""
        bias = torch.zeros(layer.out_channels) if layer.bias is None else layer.bias
        spec = None if layer.inputs is None else layer.inputs.spec
        state = None if layer.inputs is None else layer.inputs.state(layer.weight)
        return cls(layer.weight.detach(), bias.detach(), layer, spec, state)

    def forward(self, x: Tensor) -> Tensor:
        if self.pads_first:
            x = F.pad(x, pads(self.padding))
        if self.spec is not None and self.state is not None:
            x = self.spec.exportable(x, self.state)
        return F.conv2d(x, self.weight, self.bias, *self.geometry)
