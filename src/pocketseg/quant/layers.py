"""The convolution that trains with quantizers, and the one that computes on integers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketseg.quant.codes import Codes, Planes, Spec, State
from pocketseg.quant.quantizer import Quantizer

# Whole numbers up to here are exact in f32, in whatever order they are added.
EXACT_F32 = 2**24


class QuantConv2d(nn.Conv2d):
    """A convolution of quantized weights over a quantized input; bias in f32.

    It quantizes what enters it, so that whatever stands before (a concatenation, a bilinear resize, a norm) brings its
    tensors to one grid here. Padding is the code of 0: where that does not mean 0 (planes of ±1), zeros are padded
    before they are quantized.

    Args:
        like: the convolution to take over, with its parameters.
        weights: how weights are quantized; None leaves them in f32.
        inputs: how the input is; None leaves it as it comes.
        identity: pass gradients on unchanged.
    """

    def __init__(self, like: nn.Conv2d, weights: Spec | None, inputs: Spec | None, *, identity: bool = False) -> None:
        super().__init__(
            like.in_channels, like.out_channels, like.kernel_size, like.stride, like.padding, like.dilation,  # type: ignore[arg-type]
            like.groups, like.bias is not None, device="meta",
        )  # fmt: skip
        self.weight, self.bias = like.weight, like.bias
        self.weights = self.inputs = None
        if weights is not None:
            self.weights = Quantizer(weights, of="weights", channels=like.out_channels, identity=identity)
        if inputs is not None:
            self.inputs = Quantizer(inputs, of="activations", channels=like.in_channels, identity=identity)

    @property
    def pads_first(self) -> bool:
        """Whether the code of 0 has another value than 0."""
        return self.inputs is not None and not self.inputs.spec.has_zero

    def forward(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.pads_first:
            x, padding = F.pad(x, pads(self.padding)), (0, 0)
        if self.inputs is not None:
            x = self.inputs(x)
        weight = self.weight if self.weights is None else self.weights(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)


def pads(padding: Any) -> tuple[int, int, int, int]:
    height, width = padding
    return (width, width, height, height)


def terms(codes: Codes | Planes) -> list[tuple[Tensor, Tensor]]:
    """Whole numbers in f32 and the f32 scale of each: value = Σ numbers · scale."""
    if isinstance(codes, Planes):
        return [(plane.float(), gamma) for plane, gamma in zip(codes.planes, codes.gamma, strict=True)]
    numbers = codes.codes.float()
    return [(numbers if codes.zero_point is None else numbers - codes.zero_point.float(), codes.scale)]


class IntegerConv2d(nn.Module):
    """A convolution on codes: for every weight plane p and input plane q in turn, y += acc_pq · m_pq; then y + b.

    The sums acc are exact; the products and additions after them are single f32 operations, in this order. m holds the
    scales and the factor of a norm that follows at once, b the bias and the norm's offset, each rounded once to f32.
    Where the input is not quantized, acc is an f32 convolution of the input with the codes.

    Attributes:
        codes: int8 or int32 (weight planes, o, i, k, k); one plane unless the weights are residual.
        m: f32 (weight planes, input planes, o).
        b: f32 (o,).
        scale, zero_point, span: the grid of the input; scale holds the gammas of input planes.
    """

    codes: Tensor
    m: Tensor
    b: Tensor
    scale: Tensor
    zero_point: Tensor
    span: Tensor | None

    def __init__(self, layer: QuantConv2d, factor: Tensor | None = None, offset: Tensor | None = None) -> None:
        """From a trained layer, and the factor and offset (o,) in f64 of the norm behind it."""
        super().__init__()
        assert layer.weights is not None
        self.weight_spec = layer.weights.spec
        self.input_spec = None if layer.inputs is None else layer.inputs.spec
        self.stride, self.padding = layer.stride, layer.padding
        self.dilation, self.groups = layer.dilation, layer.groups
        self.pads_first = layer.pads_first
        with torch.no_grad():
            none = torch.zeros(layer.out_channels, dtype=torch.float64, device=layer.weight.device)
            factor, offset = none + 1 if factor is None else factor, none if offset is None else offset
            bias = none if layer.bias is None else layer.bias.double()
            grid = State((none[0] + 1).float()) if layer.inputs is None else layer.inputs.state(layer.weight)
            weights = terms(layer.weights.quantize(layer.weight))
            gammas = grid.scale.double().reshape(-1)
            m = torch.stack([torch.stack([s.double() * g * factor for g in gammas]) for _, s in weights])
            codes = torch.stack([numbers for numbers, _ in weights])
            zero_point = torch.zeros_like(grid.scale) if grid.zero_point is None else grid.zero_point
            # A power of two has larger codes than its stored bits say.
            small = self.weight_spec.bits <= 8 and self.weight_spec.encoding != "powers"
            self.register_buffer("codes", codes.to(torch.int8 if small else torch.int32))
            self.register_buffer("m", m.float())
            self.register_buffer("b", (bias * factor + offset).float())
            self.register_buffer("scale", grid.scale.detach().clone())
            self.register_buffer("zero_point", zero_point.detach().clone())
            self.register_buffer("span", None if grid.span is None else grid.span.detach().clone())

    @property
    def has_zero_point(self) -> bool:
        """Whether the grid of the input has a zero point of its own."""
        return self.input_spec is not None and self.input_spec.has_zero_point

    @property
    def input_state(self) -> State:
        """The state of the input's quantizer."""
        return State(self.scale, self.zero_point if self.has_zero_point else None, span=self.span)

    def forward(self, x: Tensor) -> Tensor:
        padding: Any = self.padding
        if self.pads_first:
            x, padding = F.pad(x, pads(self.padding)), (0, 0)
        inputs, largest = [x], 0.0
        if self.input_spec is not None:
            inputs = [numbers for numbers, _ in terms(self.input_spec.quantize(x, self.input_state))]
            largest = max(float(numbers.abs().max()) for numbers in inputs)
        out: Tensor | None = None
        for p, weight in enumerate(self.codes):
            # f64 where f32 could round a sum.
            most = largest * float(weight.abs().flatten(1).sum(1, dtype=torch.int64).max())
            dtype = torch.float32 if most <= EXACT_F32 else torch.float64
            kernel = weight.to(dtype)
            for q, numbers in enumerate(inputs):
                acc = F.conv2d(numbers.to(dtype), kernel, None, self.stride, padding, self.dilation, self.groups)
                part = acc.float() * self.m[p, q][:, None, None]
                out = part if out is None else out + part
        assert out is not None
        return out + self.b[:, None, None]


class Affine(nn.Module):
    """What a norm is in inference, where it stands behind no integer convolution: x · a + c, two f32 operations."""

    a: Tensor
    c: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        a, c = factors(norm)
        self.register_buffer("a", a.float())
        self.register_buffer("c", c.float())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.a[:, None, None] + self.c[:, None, None]


def factors(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Factor and offset of a norm in inference, f64 (c,)."""
    with torch.no_grad():
        assert norm.running_mean is not None and norm.running_var is not None
        a = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        return a, norm.bias.double() - norm.running_mean.double() * a
