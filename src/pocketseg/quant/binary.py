"""One bit a value, and sums of such planes. Here sign(0) = +1, also for −0.0: one bit has no third state."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from pocketseg.errors import RecipeError
from pocketseg.grids import BinaryPlanes
from pocketseg.quant.codes import Codes, Encoding, Pair, Planes, Spec, State, along, inside, rows, sum_but

# The next f32 after 1.
OVER_ONE = 1 + 2.0**-23


@dataclass(frozen=True)
class Binary(Spec):
    """One bit: code = +1 where x ≥ 0, else −1; value = scale · code.

    Gradient: scale · slope(x), the scale taken as a constant. Slope `clipped`: 1 where |x| ≤ 1, else 0 (Hubara 2016);
    `approx-sign`: 2 − 2|x| where |x| < 1, else 0 (Bi-Real, Liu 2018). Levels: 2 a channel. Storage: 1 bit, and an f32
    scale a channel unless it is 1.

    Args:
        scale: `none` is 1; `mean` is mean|w|, for weights (XNOR-Net, Rastegari 2016).
        slope: of the gradient.
        axis: the channels that have a scale each; None for one scale.

    Example:
        >>> Binary(scale="mean").quantize(torch.tensor([0.0, -0.5, 1.0])).values()
        tensor([ 0.5000, -0.5000,  0.5000])
    """

    scale: Literal["none", "mean"] = "none"
    slope: Literal["clipped", "approx-sign"] = "clipped"
    axis: int | None = None
    encoding: ClassVar[Encoding] = "signs"

    def __post_init__(self) -> None:
        if self.scale == "none" and self.axis is not None:
            raise RecipeError("quant: binary", "has an axis but no scale", "take scale mean, or leave axis out")

    @property
    def measures(self) -> int:
        return 1 if self.scale == "mean" else 0

    @property
    def bits(self) -> int:
        return 1

    @property
    def levels(self) -> int:
        return 2

    def measure(self, x: Tensor) -> Tensor:
        """mean|x|, or nothing."""
        if self.scale == "none":
            return super().measure(x)
        return _mean_magnitude(x.detach().float(), self.axis)[None]

    def state(self, measured: Tensor) -> State:
        return State(measured[0] if self.scale == "mean" else torch.ones((), device=measured.device))

    def grid(self, state: State) -> BinaryPlanes | None:
        return BinaryPlanes((1.0,)) if self.scale == "none" else None

    def encode(self, x: Tensor, state: State) -> Codes:
        return Codes(_sign(x), state.scale, axis=self.axis)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, None]:
        by_x = _clipped(grad, x) if self.slope == "clipped" else grad * (2 - 2 * x.abs()).clamp_(min=0)
        return by_x if self.scale == "none" else by_x * along(state.scale, self.axis, x.ndim), None

    def fake(self, x: Tensor, state: State) -> Tensor:
        return torch.copysign(along(state.scale, self.axis, x.ndim).to(x.dtype), x + 0.0)


@dataclass(frozen=True)
class ResidualBinary(Spec):
    """A sum of binary planes: r₀ = x, b_m = sign(r_{m−1}), r_m = r_{m−1} − γ_m·b_m, value = Σ γ_m·b_m.

    γ is learned; `Quantizer` uses its magnitude. Gradients, with h_m = 1 where |r_{m−1}| ≤ 1, else 0:
    by x 1 − Π_m (1 − γ_m·h_m), by γ_m b_m · Π_{k>m} (1 − γ_k·h_k), which is the chain rule with sign′ = h.
    Levels: 2^M where no two sums of ±γ are equal. Storage: M bits, and M f32 gammas a tensor or channel. Quantizing its
    own values again gives the same planes where each γ is larger than the sum of those after it. After ReBNet
    (Ghasemzadeh 2018), as in BLU-Net (Zhang 2022).

    Args:
        planes: M.
        axis: the channels that have gammas of their own; None for one set. For activations a bit engine needs None:
            another scale for each input channel does not leave the sum.
        start: `data` takes γ_m = mean|r_{m−1}| level by level; `source` (M, M−1, …, 1)/sum, the published start, whose
            M = 3 has 7 levels and sends small weights to 0.

    Example:
        >>> ResidualBinary(2).quantize(torch.tensor([-3.0, -1.0, 1.0, 3.0])).values()
        tensor([-3., -1.,  1.,  3.])
    """

    planes: int = 3
    axis: int | None = None
    start: Literal["data", "source"] = "data"
    encoding: ClassVar[Encoding] = "signs"
    words: ClassVar[str] = "residual w3a3"

    @classmethod
    def of_words(cls, text: str, options: Mapping[str, Any]) -> Pair | None:
        """`residual wNaM`, N and M planes."""
        if not (match := re.fullmatch(r"residual w(\d+)(?:a(\d+))?", text)):
            return None
        start, (weights, inputs) = options["start"], match.groups()
        return Pair(cls(int(weights), start=start), None if inputs is None else cls(int(inputs), start=start))

    def __post_init__(self) -> None:
        if not 1 <= self.planes <= 8:
            raise RecipeError(
                "quant: residual", f"{self.planes} planes are not offered", "choose 1 to 8; 2 or 3 are usual"
            )

    @property
    def learned(self) -> bool:
        return True

    @property
    def measures(self) -> int:
        return self.planes

    @property
    def bits(self) -> int:
        return self.planes

    @property
    def levels(self) -> int:
        return int(2**self.planes)

    def measure(self, x: Tensor) -> Tensor:
        """The gammas to start from."""
        residual = x.detach().float()
        if self.start == "source":
            gamma = source_gamma(self.planes).to(x.device)
            return gamma if self.axis is None else gamma[:, None].repeat(1, x.shape[self.axis])
        gammas = []
        for _ in range(self.planes):
            gammas.append(_mean_magnitude(residual, self.axis))
            residual = residual - along(gammas[-1], self.axis, x.ndim) * _sign(residual)
        return torch.stack(gammas)

    def state(self, measured: Tensor) -> State:
        return State(measured)

    def grid(self, state: State) -> BinaryPlanes | None:
        return BinaryPlanes(tuple(float(gamma) for gamma in state.scale)) if self.axis is None else None

    def encode(self, x: Tensor, state: State) -> Planes:
        planes = []
        for gamma in state.scale:
            planes.append(_sign(x))
            x = x - along(gamma, self.axis, x.ndim) * planes[-1]
        return Planes(torch.stack(planes), state.scale, self.axis)

    def fake(self, x: Tensor, state: State) -> Tensor:
        residual = x.float() + 0.0  # no −0.0, of which copysign would make −1
        total = torch.zeros_like(residual)
        for gamma in state.scale:
            part = torch.copysign(along(gamma, self.axis, x.ndim), residual)
            residual -= part
            total += part
        return total.to(x.dtype)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, Tensor]:
        gammas = [along(gamma, self.axis, x.ndim) for gamma in state.scale]
        residuals = [x.float() + 0.0]
        for gamma in gammas[:-1]:
            residuals.append(residuals[-1] - torch.copysign(gamma, residuals[-1]))
        # From the last plane to the first: grad · Π_{k>m} (1 − γ_k·h_k).
        passed = grad.float()
        by_gamma = []
        for residual, gamma in zip(reversed(residuals), reversed(gammas), strict=True):
            by_gamma.append(sum_but(passed * torch.copysign(torch.ones_like(gamma), residual), self.axis))
            passed = passed - gamma * _clipped(passed, residual)
        return grad - passed, torch.stack(by_gamma[::-1])


def source_gamma(planes: int) -> Tensor:
    """(M, M−1, …, 1)/sum, the start of ReBNet and BLU-Net.

    Example:
        >>> source_gamma(3)
        tensor([0.5000, 0.3333, 0.1667])
    """
    falling = torch.arange(planes, 0, -1, dtype=torch.float32)
    return falling / falling.sum()


def _clipped(grad: Tensor, x: Tensor) -> Tensor:
    """The gradient where |x| ≤ 1."""
    return inside(grad, x, -OVER_ONE, OVER_ONE)


def _sign(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1.0, -1.0)


def _mean_magnitude(x: Tensor, axis: int | None) -> Tensor:
    mean = rows(x, axis).abs().double().mean(dim=1).float()
    return mean[0] if axis is None else mean
