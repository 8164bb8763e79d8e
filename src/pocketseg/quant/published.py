"""The quantizers of the fixed-point study (AskariHemmat et al. 2019) as schemes that train, to repeat its results.

Forward they are the functions `compat.fixed_point_*`, number by number, up to what is said below; `compat` says what is
odd about each. No engine has their grids: a net of them is evaluated by torch, and exported as a graph of floats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from pocketseg.errors import RecipeError
from pocketseg.quant.codes import TINY, Codes, Pair, Spec, State
from pocketseg.quant.fixed import Qif

MAX_INT_BITS = 15
# Powers of `PublishedPowers` below 2^-SMALLEST are 0, so that all others are whole multiples of it.
SMALLEST, MAX_I = 15, 8


@dataclass(frozen=True)
class PublishedInt(Spec):
    """code = floor(2^n · (x − min)/(max − min)) − 2^(n−1); the value is the code itself, without a scale.

    Gradient: identity. Levels: 2^n + 1. Storage: n + 1 bits. Weights are measured at every forward. Activations take
    the range of their batch in training, as in the source, and in evaluation a moving average of it, where the source
    takes that of the batch again: an image's result does not depend on its neighbors. What lies outside of the average
    is clipped. A constant tensor, 0/0 in the source, has the lowest code.

    Args:
        n: bits, by the source's count.

    Example:
        >>> PublishedInt(2).quantize(torch.tensor([-1.0, 0.0, 0.9, 1.0])).values()
        tensor([-2.,  0.,  1.,  2.])
    """

    n: int
    axis: None = field(default=None, init=False)
    words: ClassVar[str] = "compat int 8/8"
    by_batch: ClassVar[bool] = True

    @classmethod
    def of_words(cls, text: str, options: Mapping[str, Any]) -> Pair | None:
        """`compat int N/N`, weights and inputs."""
        if not (match := re.fullmatch(r"compat int (\d+)(?:/(\d+))?", text)):
            return None
        weights, inputs = match.groups()
        return Pair(cls(int(weights)), None if inputs is None else cls(int(inputs)))

    def __post_init__(self) -> None:
        if not 1 <= self.n <= MAX_INT_BITS:
            raise RecipeError(f"quant: compat int {self.n}", f"n must be 1 … {MAX_INT_BITS}", "8 or 4 are usual")

    @property
    def highest(self) -> int:
        return int(2 ** (self.n - 1))

    @property
    def bits(self) -> int:
        return self.n + 1

    @property
    def levels(self) -> int:
        return 2 * self.highest + 1

    @property
    def measures(self) -> int:
        return 2

    def measure(self, x: Tensor) -> Tensor:
        """Lowest and highest value."""
        return torch.stack(torch.aminmax(x.detach().float()))

    def state(self, measured: Tensor) -> State:
        low, high = measured
        return State(torch.ones_like(low), span=torch.stack([low, (high - low).clamp(min=TINY)]))

    def encode(self, x: Tensor, state: State) -> Codes:
        assert state.span is not None
        low, width = state.span
        codes = torch.floor(2.0**self.n * ((x - low) / width)) - self.highest
        return Codes(codes.clamp(-self.highest, self.highest), state.scale)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, None]:
        return grad, None


@dataclass(frozen=True)
class PublishedFixed(Qif):
    """sign(x) · (rc(⌊|x|⌋, i) + rc(frac|x|, f)), rc(v, n) = round(clamp(v, 0, 2^n − 1) · 2^n)/2^n.

    The code for spinal cord (GM) and pancreas (NIH). Gradient: identity. Levels: 2·2^(i+f) + 1, and 2^(i+1) − 1 where f
    is 0. Storage: as many bits as these need, sign included. With i = 0 values wrap: 1.3 becomes 0.25 in Q0.2.

    Args:
        i: integer bits.
        f: fraction bits.

    Example:
        >>> PublishedFixed(0, 2).quantize(torch.tensor([0.3, 0.9, 1.0, 1.3, -1.3])).values()
        tensor([ 0.2500,  1.0000,  0.0000,  0.2500, -0.2500])
    """

    name: ClassVar[str] = "compat fixed"
    words: ClassVar[str] = "compat fixed Q0.4/Q6.0"

    @property
    def highest(self) -> int:
        return int(2 ** (self.i + self.f)) if self.f else int(2**self.i - 1)

    @property
    def bits(self) -> int:
        return self.highest.bit_length() + 1

    @property
    def levels(self) -> int:
        return 2 * self.highest + 1

    def encode(self, x: Tensor, state: State) -> Codes:
        size = x.abs()
        whole = torch.floor(size)
        size = _round_clamped(whole, self.i) + _round_clamped(size - whole, self.f)
        return Codes(torch.sign(x) * size * 2.0**self.f + 0.0, state.scale)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, None]:
        return grad, None


@dataclass(frozen=True)
class PublishedPowers(Qif):
    """sign(x) · 2^round(log₂|x|), clamped to ±L, L = 2^(i−1) [if i > 0] + 1 − 2^-f [if f > 0].

    The code for electron microscopy (EM). Gradient: identity. Powers below 2^-15, which the source keeps, are 0. Codes
    are multiples of 2^-15: what is stored are their bits, though the levels are few.

    Args:
        i, f: the source's widths, which only set the limit.

    Example:
        >>> PublishedPowers(0, 2).quantize(torch.tensor([0.3, 0.9, 0.01, -3.0])).values()
        tensor([ 0.2500,  0.7500,  0.0078, -0.7500])
    """

    name: ClassVar[str] = "compat powers"
    words: ClassVar[str] = "compat powers Q0.4/Q6.0"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.i > MAX_I or self.f > SMALLEST:
            what = f"i must be 0 … {MAX_I} and f 0 … {SMALLEST}"
            raise RecipeError(f"quant: compat powers Q{self.i}.{self.f}", what, "Q0.4 or Q6.0 are usual")

    @property
    def limit(self) -> float:
        return (2.0 ** (self.i - 1) if self.i else 0.0) + (1 - 2.0**-self.f if self.f else 0.0)

    @property
    def bits(self) -> int:
        return int(self.limit * 2**SMALLEST).bit_length() + 1

    @property
    def levels(self) -> int:
        return 2 * (SMALLEST + math.ceil(math.log2(self.limit)) + 1) + 1

    def state(self, measured: Tensor) -> State:
        return State(torch.tensor(2.0**-SMALLEST, device=measured.device))

    def encode(self, x: Tensor, state: State) -> Codes:
        power = torch.round(torch.log2(x.abs()))
        size = torch.where(power < -SMALLEST, 0.0, torch.exp2(power)).clamp(max=self.limit)
        return Codes(torch.sign(x) * size * 2.0**SMALLEST + 0.0, state.scale)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, None]:
        return grad, None


@dataclass(frozen=True)
class PublishedSign(Spec):
    """sign(x) with sign(0) = 0, for weights and activations, without a scale; ReLU stays before the norm.

    Gradient: 1 where |x| ≤ 1, else 0. Levels: 3. Storage: 2 bits, since 0 is a third state.

    Example:
        >>> PublishedSign().quantize(torch.tensor([-0.2, 0.0, 3.0])).values()
        tensor([-1.,  0.,  1.])
    """

    axis: None = field(default=None, init=False)
    words: ClassVar[str] = "compat bnn"

    @classmethod
    def of_words(cls, text: str, options: Mapping[str, Any]) -> Pair | None:
        """`compat bnn`, weights and inputs."""
        return Pair(cls(), cls()) if text == cls.words else None

    @property
    def bits(self) -> int:
        return 2

    @property
    def levels(self) -> int:
        return 3

    def state(self, measured: Tensor) -> State:
        return State(torch.ones((), device=measured.device))

    def encode(self, x: Tensor, state: State) -> Codes:
        return Codes(torch.sign(x) + 0.0, state.scale)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, None]:
        return grad * (x.abs() <= 1), None


def _round_clamped(v: Tensor, n: int) -> Tensor:
    return torch.round(v.clamp(0.0, 2.0**n - 1) * 2.0**n) * 2.0**-n
