"""Ternary weights, and the smooth activation that was published with them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pocketseg.quant.codes import Codes, Spec, State, along, rows

THRESHOLD = 0.7


@dataclass(frozen=True)
class Ternary(Spec):
    """Ternary weights (TWN, Li 2016): code = sign(w) where |w| > Δ, else 0; value = a · code.

    Δ = 0.7 · mean|w| and a = mean of |w| over |w| > Δ, for each channel; a channel of zeros has a = 0.
    Gradient: identity, Δ and a taken as constants. Levels: 3 a channel. Storage: 2 bits, a in f32 a channel.

    Args:
        axis: the output channels; None for one Δ and a for all.

    Example:
        >>> Ternary(axis=None).quantize(torch.tensor([0.1, -0.5, 1.0, 0.0])).values()
        tensor([ 0.0000, -0.7500,  0.7500,  0.0000])
    """

    axis: int | None = 0

    @property
    def measures(self) -> int:
        return 2

    @property
    def bits(self) -> int:
        return 2

    @property
    def levels(self) -> int:
        return 3

    def measure(self, x: Tensor) -> Tensor:
        """Threshold and scale."""
        size = rows(x.detach().float(), self.axis).abs().double()
        # Rounded before it is used, so that scale and codes mean the same threshold.
        threshold = (THRESHOLD * size.mean(dim=1)).float()
        large = size > threshold[:, None].double()
        scale = ((size * large).sum(dim=1) / large.sum(dim=1).clamp(min=1)).float()
        measured = torch.stack([threshold, scale])
        return measured[:, 0] if self.axis is None else measured

    def state(self, measured: Tensor) -> State:
        return State(scale=measured[1], threshold=measured[0])

    def encode(self, x: Tensor, state: State) -> Codes:
        assert state.threshold is not None
        threshold = along(state.threshold, self.axis, x.ndim)
        return Codes((x > threshold).float() - (x < -threshold).float(), state.scale, axis=self.axis)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, None]:
        return grad, None


def ternary_tanh(x: Tensor, beta: float | Tensor) -> Tensor:
    """½·[tanh(β(2x − 1)) + tanh(β(2x + 1))]: steps at ±½ between −1, 0 and 1 that sharpen with β (AskariHemmat 2019).

    An activation, smooth at any β: its gradient is its own, β·[2 − tanh²(β(2x − 1)) − tanh²(β(2x + 1))], and its
    values are real numbers, not levels.

    Example:
        >>> ternary_tanh(torch.tensor([-2.0, 0.0, 0.5, 2.0]), beta=8)
        tensor([-1.0000,  0.0000,  0.5000,  1.0000])
    """
    return (torch.tanh(beta * (2 * x - 1)) + torch.tanh(beta * (2 * x + 1))) / 2


def ternary_beta(epoch: int, epochs: int, first: float = 3.0, last: float = 8.0) -> float:
    """β for an epoch (from 0), linear from first to last; `last` where there is one epoch only.

    Example:
        >>> [ternary_beta(epoch, 6) for epoch in range(6)]
        [3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    """
    return last if epochs <= 1 else first + (last - first) * epoch / (epochs - 1)


class TernaryTanhActivation(nn.Module):
    """`ternary_tanh` in the place of ReLU; β sharpens from epoch to epoch, as `ternary_beta` says."""

    beta: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("beta", torch.tensor(ternary_beta(0, 2)))

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.beta.fill_(ternary_beta(epoch, epochs))

    def forward(self, x: Tensor) -> Tensor:
        return ternary_tanh(x, self.beta)
