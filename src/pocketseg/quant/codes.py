"""What a quantizer is: a frozen spec, the state that fixes its grid, and the codes it gives.

    measured = spec.measure(x)             what the data says: a range, a threshold, gammas
    state = spec.state(measured)           the grid: scale, zero point, threshold, in f32
    codes = spec.quantize(x, state)        integers and their scale: `Codes`, or `Planes` of ±1
    codes.values()                         what the integers mean, in f32

docs/decisions/0006 holds the arithmetic. Non-finite input is an error, inf as well as nan, raised by `quantize`, which
every evaluation passes through. Training forwards do not look: there a nan travels to the loss, or is found by the next
evaluation.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pocketseg.errors import TrainingError
from pocketseg.grids import Quantization

# Scales below the smallest normal f32 have no finite inverse.
TINY = 2.0**-126
# How codes are stored: in two's complement; ±2^k as ±(k + 1); planes of ±1 in a bit each.
Encoding = Literal["integers", "powers", "signs"]


@dataclass(frozen=True)
class State:
    """The grid of a quantizer, one entry a tensor, () , or one a channel, (c,).

    Args:
        scale: f32, what code 1 means; gammas of residual planes are (m,) or (m, c).
        zero_point: whole numbers held in f32, the code of 0; None where it is 0 by construction.
        threshold: f32, the largest magnitude that still becomes 0 (ternary).
        span: f32 (2,), lowest value and width of a range whose ends are not whole multiples of the scale.
    """

    scale: Tensor
    zero_point: Tensor | None = None
    threshold: Tensor | None = None
    span: Tensor | None = None

    @property
    def inverse_scale(self) -> Tensor:
        """One correctly rounded f32 division; this number is stored in files, so that no engine divides."""
        return 1.0 / self.scale


@dataclass(frozen=True)
class Codes:
    """Integers and their scale; value = (code − zero_point) · scale, one f32 rounding.

    Args:
        codes: int32, of the shape of the tensor. (Within a training step the same whole numbers are held in f32.)
        scale: f32 () or (c,).
        zero_point: int32 like scale, or None for 0.
        axis: the axis of the channels of scale; None for one scale.

    Example:
        >>> Codes(torch.tensor([-1, 0, 3]), torch.tensor(0.5)).values()
        tensor([-0.5000,  0.0000,  1.5000])
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None = None
    axis: int | None = None

    def values(self) -> Tensor:
        codes, ndim = self.codes.float(), self.codes.ndim
        if self.zero_point is not None:
            return (codes - along(self.zero_point.float(), self.axis, ndim)).mul_(along(self.scale, self.axis, ndim))
        return codes * along(self.scale, self.axis, ndim)

    def integers(self) -> Codes:
        zero_point = None if self.zero_point is None else self.zero_point.to(torch.int32)
        return dataclasses.replace(self, codes=self.codes.to(torch.int32), zero_point=zero_point)


@dataclass(frozen=True)
class Planes:
    """Planes of ±1, each with its gamma; value = ((γ₁·b₁ + γ₂·b₂) + γ₃·b₃) + … in f32, in this order.

    Args:
        planes: int8 (m, *shape of the tensor). (Within a training step f32.)
        gamma: f32 (m,) or (m, c), not negative.
        axis: the axis of the channels of gamma in the tensor, not counting the planes; None for one gamma a plane.

    Example:
        >>> Planes(torch.tensor([[1, -1], [-1, -1]]), torch.tensor([0.5, 0.25])).values()
        tensor([ 0.2500, -0.7500])
    """

    planes: Tensor
    gamma: Tensor
    axis: int | None = None

    def values(self) -> Tensor:
        ndim = self.planes.ndim - 1
        total = self.planes[0].float() * along(self.gamma[0], self.axis, ndim)
        for plane, gamma in zip(self.planes[1:], self.gamma[1:], strict=True):
            total = total + plane.float() * along(gamma, self.axis, ndim)
        return total

    def integers(self) -> Planes:
        return dataclasses.replace(self, planes=self.planes.to(torch.int8))


@dataclass(frozen=True)
class Pair:
    """How a layer's weights and its input are quantized; None leaves them in f32."""

    weights: Spec | None
    inputs: Spec | None


class Spec(ABC):
    """One way to quantize, as data. Subclasses are frozen dataclasses; `QUANTIZERS` lists them.

    Everything below works on any shape; `axis` names the channels that have a scale each (0 for output channels of
    weights, 1 for channels of activations), None means one scale.

    A kind trains and evaluates with its abstract methods alone. `of_words` lets schemes ask for it; `encoding` says how
    its weights are stored; `grid` lets it quantize inputs where the engine or an ONNX runtime computes.

    Attributes:
        smallest_scale: of a learned scale.
        encoding: how its codes are stored. Where it is `signs`, all values are sums of signs.
        words: a scheme that asks for it, such as `fixed Q0.4/Q6.0`, for messages.
        by_batch: in training, activations are on the grid of their own batch and not on the moving average.
    """

    axis: int | None
    by_batch: ClassVar[bool] = False
    smallest_scale: ClassVar[float] = 0.0
    encoding: ClassVar[Encoding] = "integers"
    words: ClassVar[str] = ""

    @classmethod
    def of_words(cls, text: str, options: Mapping[str, Any]) -> Pair | None:
        """The quantizers of weights and inputs that a scheme asks for; None where its words are not of this kind.

        Args:
            text: the scheme.
            options: the other fields of `Scheme`, such as `rule` and `start`.
        """
        return None

    @property
    def learned(self) -> bool:
        """Whether the scale is a parameter."""
        return False

    @property
    def measures(self) -> int:
        """How many numbers a channel `measure` gives; 0 for a grid that needs no data."""
        return 0

    @property
    @abstractmethod
    def bits(self) -> int:
        """Bits in storage for one value, sign included; scales are extra."""

    @property
    @abstractmethod
    def levels(self) -> int:
        """How many different values it can give."""

    @property
    def has_zero_point(self) -> bool:
        """Whether its states have one."""
        return False

    @property
    def has_zero(self) -> bool:
        """Whether 0 is one of the values."""
        return self.has_zero_point or self.levels % 2 == 1

    def measure(self, x: Tensor) -> Tensor:
        """f32 (measures,) or (measures, c), what the state is computed from. Means are taken in f64."""
        return torch.empty(0, device=x.device)

    @abstractmethod
    def state(self, measured: Tensor) -> State:
        """The grid that belongs to a measurement, or to a moving average of measurements."""

    def grid(self, state: State) -> Quantization | None:
        """What its codes mean as the input of a layer on integers; None where there is no such layer for it."""
        return None

    @abstractmethod
    def encode(self, x: Tensor, state: State) -> Codes | Planes:
        """The codes of f32 values, as whole numbers still held in f32, unchecked."""

    @abstractmethod
    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        """The gradients by x (of any float type) and, where the scale is learned, by scale."""

    def fake(self, x: Tensor, state: State) -> Tensor:
        """The values `encode` stands for, in the type of x, in as few passes over memory as a training step needs."""
        return self.encode(x.float(), state).values().to(x.dtype)

    def exportable(self, x: Tensor, state: State) -> Tensor:
        """The values of f32 numbers, by operations that ONNX has."""
        return self.encode(x, state).values()

    def scale_slope(self, count: int) -> float:
        """A factor on the gradient of a learned scale that `count` values share."""
        return 1.0

    def quantize(self, x: Tensor, state: State | None = None) -> Codes | Planes:
        """Integer codes; without a state the grid is measured on x itself."""
        check_finite(x)
        with torch.no_grad():
            return self.encode(x.float(), state or self.state(self.measure(x))).integers()


# A training step spends its time on memory: the two functions below touch it as rarely as torch allows, with operations
# that run vectorized on bf16 in channels-last. Masks of bool do not.


def on_grid(x: Tensor, state: State, lowest: int, highest: int) -> Tensor:
    """(clip(rint(x · inverse_scale), lowest − zero_point, highest − zero_point)) · scale, one scale for all of x."""
    zero = 0.0 if state.zero_point is None else float(state.zero_point)
    values = x.to(torch.float32, copy=True)
    values.mul_(float(state.inverse_scale)).round_().clamp_(lowest - zero, highest - zero)
    return values.mul_(float(state.scale)).to(x.dtype)


def inside(grad: Tensor, x: Tensor, low: float, high: float) -> Tensor:
    """The gradient where low < x < high, else 0.

    Example:
        >>> inside(torch.ones(3), torch.tensor([-1.0, 0.5, 1.0]), -1, 1)
        tensor([0., 1., 0.])
    """
    masked: Tensor = torch.ops.aten.hardtanh_backward(grad, x.to(grad.dtype), low, high)
    return masked


def check_finite(x: Tensor) -> None:
    """An error for nan and inf.

    Example:
        >>> check_finite(torch.tensor([1.0, float("nan")]))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        pocketseg.errors.TrainingError: quantizer input: 1 of 2 values are nan or inf → ...
    """
    finite = x.isfinite()
    if not finite.all():
        raise TrainingError(
            "quantizer input",
            f"{int((~finite).sum())} of {x.numel()} values are nan or inf",
            "look for the layer that overflows, or lower the learning rate",
        )


def along(t: Tensor, axis: int | None, ndim: int) -> Tensor:
    """One entry a channel, shaped to be broadcast along `axis`."""
    if axis is None:
        return t
    shape = [1] * ndim
    shape[axis] = -1
    return t.reshape(shape)


def rows(x: Tensor, axis: int | None) -> Tensor:
    """(c, everything else), or (1, everything)."""
    return x.reshape(1, -1) if axis is None else x.movedim(axis, 0).flatten(1)


def sum_but(x: Tensor, axis: int | None) -> Tensor:
    """The sum over everything but `axis`."""
    return x.sum() if axis is None else rows(x, axis).sum(dim=1)


def in_memory_order(x: Tensor) -> Tensor:
    """The same numbers with axes as they lie in memory: some reductions copy a channels-last tensor first."""
    return x.permute(sorted(range(x.ndim), key=x.stride, reverse=True))


def rint(x: Tensor) -> Tensor:
    """Nearest whole number, half to even; +0.0 because an integer knows no −0.0."""
    return torch.round(x).add_(0.0)
