"""Grids that need no statistics: fixed point and powers of two."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from pocketseg.errors import RecipeError
from pocketseg.grids import PowersOfTwo, Uniform
from pocketseg.quant.codes import Codes, Encoding, Pair, Spec, State, inside, on_grid, rint

MAX_BITS = 16
# Above √½ a mantissa in [½, 1) is nearer to 1, in log₂. √½ is irrational, so there are no ties.
SQRT_HALF = math.sqrt(0.5)


@dataclass(frozen=True)
class Qif(Spec):
    """What Qi.f grids share: their words, which begin with `name`, and the step 2^-f."""

    i: int
    f: int
    axis: None = field(default=None, init=False)
    name: ClassVar[str]

    @classmethod
    def of_words(cls, text: str, options: Mapping[str, Any]) -> Pair | None:
        """`NAME Qi.f/Qi.f`, weights and inputs."""
        if not (match := re.fullmatch(rf"{cls.name} Q(\d+)\.(\d+)(?:/Q(\d+)\.(\d+))?", text)):
            return None
        i, f, inputs_i, inputs_f = match.groups()
        return Pair(cls(int(i), int(f)), None if inputs_i is None else cls(int(inputs_i), int(inputs_f)))

    def __post_init__(self) -> None:
        if self.i < 0 or self.f < 0 or not 1 <= self.i + self.f <= MAX_BITS:
            raise RecipeError(
                f"quant: Q{self.i}.{self.f}",
                f"i + f must be 1 … {MAX_BITS}, neither negative",
                "Q0.4 or Q6.0 are usual",
            )

    def state(self, measured: Tensor) -> State:
        return State(torch.tensor(2.0**-self.f, device=measured.device))


@dataclass(frozen=True)
class Fixed(Qif):
    """Fixed point Qi.f with the sign beside it: code = clip(rint(x · 2^f), ±(2^(i+f) − 1)), scale 2^-f.

    Saturates at ±(2^i − 2^-f). Gradient: 1 where |x| is less than half a step beyond that, else 0.
    Levels: 2·2^(i+f) − 1. Storage: i + f + 1 bits, no scale. The idea of AskariHemmat 2019, whose code does something
    else (`compat.fixed_point_fixed_gm`, `compat.fixed_point_fixed_em`).

    Args:
        i: integer bits.
        f: fraction bits.

    Example:
        >>> Fixed(0, 2).quantize(torch.tensor([0.3, 0.375, 1.3, -9.0])).values()
        tensor([ 0.2500,  0.5000,  0.7500, -0.7500])
    """

    name: ClassVar[str] = "fixed"
    words: ClassVar[str] = "fixed Q0.4/Q6.0"

    @property
    def highest(self) -> int:
        return int(2 ** (self.i + self.f) - 1)

    @property
    def bits(self) -> int:
        return self.i + self.f + 1

    @property
    def levels(self) -> int:
        return 2 * self.highest + 1

    def grid(self, state: State) -> Uniform:
        return Uniform(0, -self.highest, self.highest, 2.0**-self.f, 2.0**self.f)

    def encode(self, x: Tensor, state: State) -> Codes:
        return Codes(rint(x * 2.0**self.f).clamp(-self.highest, self.highest), state.scale)

    def fake(self, x: Tensor, state: State) -> Tensor:
        return on_grid(x, state, -self.highest, self.highest)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, None]:
        bound = (self.highest + 0.5) * 2.0**-self.f
        return inside(grad, x, -bound, bound), None


@dataclass(frozen=True)
class PowerOfTwo(Qif):
    """Zero and ±2^k with k = −f … i − 1: sign(x) · 2^rint(log₂|x|), saturating at 2^(i−1), 0 below 2^(−f−½).

    These are points of the Qi.f grid: code = ±2^(k+f), scale 2^-f, so a product is a shift. Gradient: 1 where
    |x| < 2^(i−½), that is where nothing saturates, else 0. Levels: 2·(i + f) + 1. Storage: as `exponents`, in
    ⌈log₂ levels⌉ bits. After the EM code of AskariHemmat 2019, which keeps every small power whatever f is and clamps
    to a number that is not a power (`compat.fixed_point_fixed_em`).

    Args:
        i: the largest power is 2^(i−1).
        f: the smallest power is 2^-f.

    Example:
        >>> PowerOfTwo(1, 2).quantize(torch.tensor([0.7, 0.71, -9.0, 0.1])).values()
        tensor([ 0.5000,  1.0000, -1.0000,  0.0000])
    """

    name: ClassVar[str] = "power-of-two"
    words: ClassVar[str] = "power-of-two Q0.4/Q6.0"
    encoding: ClassVar[Encoding] = "powers"

    @property
    def bits(self) -> int:
        return self.levels.bit_length()

    @property
    def levels(self) -> int:
        return 2 * (self.i + self.f) + 1

    def grid(self, state: State) -> PowersOfTwo:
        return PowersOfTwo(self.i, self.f)

    def encode(self, x: Tensor, state: State) -> Codes:
        mantissa, exponent = torch.frexp(x)
        power = exponent - 1 + (mantissa.abs() > SQRT_HALF)
        codes = (1 << (power + self.f).clamp(0, self.i + self.f - 1)).float()
        return Codes(torch.where((power < -self.f) | (x == 0), 0.0, codes.copysign(x)), state.scale)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, None]:
        bound = 2.0 ** (self.i - 0.5)
        return inside(grad, x, -bound, bound), None

    def exportable(self, x: Tensor, state: State) -> Tensor:
        power = torch.round(torch.log2(x.abs()))
        return torch.where(power < -self.f, 0.0, torch.sign(x) * torch.exp2(power.clamp(max=self.i - 1)))


def exponents(codes: Tensor) -> Tensor:
    """±2^k → ±(k + 1), 0 → 0: what is stored for a power of two.

    Example:
        >>> exponents(torch.tensor([0, 1, -2, 8]))
        tensor([ 0,  1, -2,  4], dtype=torch.int32)
    """
    return torch.frexp(codes.abs().float()).exponent.to(torch.int32) * codes.sign().to(torch.int32)


def from_exponents(stored: Tensor) -> Tensor:
    """The inverse of `exponents`.

    Example:
        >>> from_exponents(torch.tensor([0, 1, -2, 4]))
        tensor([ 0,  1, -2,  8], dtype=torch.int32)
    """
    return (stored.sign() * 2 ** (stored.abs() - 1).clamp(min=0)).to(torch.int32)
