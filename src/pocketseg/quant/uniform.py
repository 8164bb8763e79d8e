"""Uniform integers of 2 to 8 and 16 bits, with their ranges found or their scale learned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pocketseg.errors import RecipeError
from pocketseg.grids import Uniform
from pocketseg.quant.codes import TINY, Codes, Spec, State, along, in_memory_order, inside, on_grid, rint, rows, sum_but

Rule = Literal["min-max", "percentile", "mse", "learned"]
INT_BITS = (2, 3, 4, 5, 6, 7, 8, 16)
# The MSE search shrinks the min-max range by these factors; the widest of equals wins.
SHRINK = [1 - step / 50 for step in range(40)]


@dataclass(frozen=True)
class Int(Spec):
    """Uniform integers: code = clip(rint(x · inverse_scale) + zero_point, lowest, highest).

    Symmetric: codes −(2^(n−1)−1) … 2^(n−1)−1, zero point 0, 2^n − 1 levels; for weights. Affine: codes 0 … 2^n − 1,
    2^n levels; for activations. The range always holds 0, and 0 always has a code of its own, so that after a ReLU the
    zero point is 0. A tensor of zeros has scale 1.

    Gradient by x: 1 where v = x · inverse_scale + zero_point lies between lowest − ½ and highest + ½, else 0. By a
    learned scale (LSQ, Esser 2020): rint(v) − v there, else the clipped code (minus zero point); `Quantizer` multiplies
    the sum by 1/√(N · Qp), with N the values that share a scale and Qp the highest code.

    Storage: n bits a value, f32 scale (and zero point) a tensor or channel.

    Args:
        bits: 2 to 8, or 16.
        affine: codes are unsigned with a zero point.
        axis: one scale for each channel on this axis; None for one a tensor.
        rule: range from the smallest and largest value; from `percentile` (nearest rank, of |x| when symmetric, of both
            tails when affine); from the least squared error over 40 shrunken ranges (slow: calibrate, then freeze); or
            `learned`, which starts at 2·mean|x|/√Qp.
        percentile: in percent.

    Example:
        >>> Int(4).quantize(torch.tensor([-1.4, 0.1, 0.5, 0.7])).codes
        tensor([-7,  0,  2,  4], dtype=torch.int32)
    """

    bits: int = 8
    affine: bool = False
    axis: int | None = None
    rule: Rule = "min-max"
    percentile: float = 99.9
    smallest_scale: ClassVar[float] = TINY

    def __post_init__(self) -> None:
        if self.bits not in INT_BITS:
            raise RecipeError("quant: int", f"{self.bits} bits are not offered", "choose 2 to 8, or 16")
        if not 50 < self.percentile <= 100:
            raise RecipeError("quant: percentile", f"{self.percentile} is outside 50 … 100", "99.9 is usual")

    @property
    def learned(self) -> bool:
        return self.rule == "learned"

    @property
    def measures(self) -> int:
        return 2

    @property
    def has_zero_point(self) -> bool:
        return self.affine

    @property
    def lowest(self) -> int:
        return 0 if self.affine else -self.highest

    @property
    def highest(self) -> int:
        return int(2**self.bits - 1) if self.affine else int(2 ** (self.bits - 1) - 1)

    @property
    def levels(self) -> int:
        return self.highest - self.lowest + 1

    def measure(self, x: Tensor) -> Tensor:
        """The range (low, high) that the rule finds."""
        if self.rule == "min-max" and self.axis is None:
            return torch.stack(torch.aminmax(in_memory_order(x.detach()))).float()
        values = rows(x.detach().float(), self.axis)
        if self.rule == "learned":
            low, high = self._learned_start(values)
        elif self.rule == "percentile":
            low, high = self._percentiles(values)
        else:
            low, high = values.aminmax(dim=1)
        if self.rule == "mse":
            low, high = self._least_squares(values, low, high)
        measured = torch.stack([low, high])
        return measured[:, 0] if self.axis is None else measured

    def state(self, measured: Tensor) -> State:
        low, high = measured[0].clamp(max=0), measured[1].clamp(min=0)
        if not self.affine:
            return State(_or_one(torch.maximum(-low, high) / self.highest))
        # Divided first: the difference of two large floats may overflow.
        scale = _or_one(high / self.highest - low / self.highest)
        return State(scale, rint(-low * (1.0 / scale)).clamp(self.lowest, self.highest))

    def grid(self, state: State) -> Uniform | None:
        if self.axis is not None:
            return None
        zero = 0 if state.zero_point is None else int(state.zero_point)
        return Uniform(zero, self.lowest, self.highest, float(state.scale), float(state.inverse_scale))

    def encode(self, x: Tensor, state: State) -> Codes:
        codes = self._unclipped(x, state).clamp_(self.lowest, self.highest)
        return Codes(codes, state.scale, state.zero_point, self.axis)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, Tensor | None]:
        zero = 0.0 if state.zero_point is None else along(state.zero_point, self.axis, x.ndim)
        if self.axis is None and not self.learned:
            scale, low, high = float(state.scale), self.lowest - 0.5 - float(zero), self.highest + 0.5 - float(zero)
            return inside(grad, x, low * scale, high * scale), None
        steps = x.float() * along(state.inverse_scale, self.axis, x.ndim)
        by_x = inside(grad.float(), steps + zero, self.lowest - 0.5, self.highest + 0.5)
        if not self.learned:
            return by_x, None
        codes = torch.clamp(steps.round() + zero, self.lowest, self.highest) - zero
        return by_x, sum_but(grad * codes, self.axis) - sum_but(by_x * steps, self.axis)

    def fake(self, x: Tensor, state: State) -> Tensor:
        return super().fake(x, state) if self.axis is not None else on_grid(x, state, self.lowest, self.highest)

    def scale_slope(self, count: int) -> float:
        return 1 / math.sqrt(count * self.highest)

    def _unclipped(self, x: Tensor, state: State) -> Tensor:
        # In place: a training step spends its time here, and fresh memory costs more than the arithmetic.
        codes = (x * along(state.inverse_scale, self.axis, x.ndim)).round_()
        # + 0.0 because an integer knows no −0.0.
        return codes.add_(0.0 if state.zero_point is None else along(state.zero_point, self.axis, x.ndim))

    def _learned_start(self, values: Tensor) -> tuple[Tensor, Tensor]:
        scale = (2 * values.abs().double().mean(dim=1) / math.sqrt(self.highest)).float()
        low = values.amin(dim=1).clamp(max=0) if self.affine else -scale * self.highest
        low = torch.maximum(low, -scale * self.highest)
        return low, low + scale * (self.highest - (self.lowest if self.affine else -self.highest))

    def _percentiles(self, values: Tensor) -> tuple[Tensor, Tensor]:
        count = values.shape[1]
        rank = math.ceil(self.percentile / 100 * count)
        if not self.affine:
            high = values.abs().kthvalue(rank, dim=1).values
            return -high, high
        return values.kthvalue(count + 1 - rank, dim=1).values, values.kthvalue(rank, dim=1).values

    def _least_squares(self, values: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        by_row = Int(self.bits, affine=self.affine, axis=0)
        least = torch.full_like(low, math.inf, dtype=torch.float64)
        best = torch.ones_like(low)
        for factor in SHRINK:
            state = by_row.state(torch.stack([low * factor, high * factor]))
            error = (by_row.encode(values, state).values() - values).square().double().sum(dim=1)
            best = torch.where(error < least, factor, best)
            least = torch.minimum(error, least)
        return low * best, high * best


def _or_one(scale: Tensor) -> Tensor:
    """Zeros, and ranges too small to be divided by, get scale 1: their codes are all 0."""
    return torch.where(scale >= TINY, scale, 1.0)
