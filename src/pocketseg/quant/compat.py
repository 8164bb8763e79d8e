"""The published quantizers, number by number, for comparisons with their papers. Values in, values out.

For new work prefer the specs of this room: each function says which. `fixed_point_*`: AskariHemmat 2019;
`blu_net_*`: Zhang 2022, after ReBNet (Ghasemzadeh 2018).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pocketseg.errors import TrainingError
from pocketseg.quant.binary import source_gamma
from pocketseg.quant.ternary import Ternary


def fixed_point_int(x: Tensor, bits: int) -> Tensor:
    """floor(2^n · (x − min)/(max − min)) − 2^(n−1), min and max of this very tensor.

    Gradient: identity. Levels: 2^n + 1, so n bits do not hold them. Prefer `Int`.

    Odd: the result is the integers themselves, without scale or zero point, and the norm that follows must absorb it;
    the maximum has the code +2^(n−1) for itself; activations use the range of the batch, in evaluation too, so a
    result depends on its neighbors. A constant tensor was 0/0 there and is an error here.

    Example:
        >>> fixed_point_int(torch.tensor([-1.0, 0.0, 0.9, 1.0]), 2)
        tensor([-2.,  0.,  1.,  2.])
    """
    low, high = x.detach().min(), x.detach().max()
    if not high > low:
        raise TrainingError(
            "fixed_point.int",
            f"needs two different values, all are {float(low)} (0/0 in the source)",
            "use int instead",
        )
    return _replaced(x, torch.floor(2**bits * ((x.detach() - low) / (high - low))) - 2 ** (bits - 1))


def fixed_point_fixed_gm(x: Tensor, i: int, f: int) -> Tensor:
    """sign(x) · (rc(⌊|x|⌋, i) + rc(frac|x|, f)), rc(v, n) = round(clamp(v, 0, 2^n − 1) · 2^n)/2^n.

    The spinal cord (GM) and pancreas (NIH) code. Gradient: identity, without a mask where values saturate. Levels on
    [−1, 1]: 2^(f+1) + 1 (Q0.4: 33, 5.04 bits); Q4.0 has 31. Prefer `Fixed`.

    Odd: with i = 0 the integer part is dropped, so values wrap instead of saturating (1.3 becomes .3, 1.0 becomes 0);
    fractions round up to 1.0; with f = 0 values are truncated towards 0.

    Example:
        >>> fixed_point_fixed_gm(torch.tensor([0.3, 0.9, 1.0, 1.3, -1.3]), 0, 2)
        tensor([ 0.2500,  1.0000,  0.0000,  0.2500, -0.2500])
    """
    size = x.detach().abs()
    whole = torch.floor(size)
    return _replaced(x, torch.sign(x.detach()) * (_round_clamped(whole, i) + _round_clamped(size - whole, f)) + 0.0)


def fixed_point_fixed_em(x: Tensor, i: int, f: int) -> Tensor:
    """sign(x) · 2^round(log₂|x|), clamped to ±(2^(i−1) [if i > 0] + 1 − 2^-f [if f > 0]).

    The electron microscopy (EM) code. Gradient: identity. Levels: 0, both limits, and both signs of every power of two
    below the limit that f32 holds: some 300, whatever i and f are. Prefer `PowerOfTwo`, or `Fixed` for a grid.

    Odd: the widths only set the clamp, small powers survive at any f; the limit itself is not a power of two.

    Example:
        >>> fixed_point_fixed_em(torch.tensor([0.3, 0.9, 0.01, -3.0]), 0, 2)
        tensor([ 0.2500,  0.7500,  0.0078, -0.7500])
    """
    limit = (2.0 ** (i - 1) if i > 0 else 0.0) + (1 - 2.0**-f if f > 0 else 0.0)
    powers = torch.sign(x.detach()) * 2 ** torch.round(torch.log2(x.detach().abs()))
    return _replaced(x, powers.clamp(-limit, limit))


def fixed_point_bnn(x: Tensor) -> Tensor:
    """sign(x), for weights and activations, without a scale.

    Gradient: 1 where |x| ≤ 1, else 0. Levels: 3, because sign(0) = 0. Prefer `Binary`.

    Odd: 0 needs a third state that one bit does not have.

    Example:
        >>> fixed_point_bnn(torch.tensor([-0.2, 0.0, 3.0]))
        tensor([-1.,  0.,  1.])
    """
    return _replaced(x, torch.sign(x.detach()), x.detach().abs() <= 1)


def fixed_point_ternary(w: Tensor) -> Tensor:
    """Ternary weights for each output channel: Δ = 0.7·mean|w|, a = mean of |w| over |w| > Δ.

    Gradient: identity. Levels: 3 a channel. This one is sound: `Ternary` is the same, and stores codes.

    Example:
        >>> fixed_point_ternary(torch.tensor([[0.1, -0.5, 1.0]]))
        tensor([[ 0.0000, -0.7500,  0.7500]])
    """
    spec = Ternary(axis=0)
    return _replaced(w, spec.encode(w.detach(), spec.state(spec.measure(w))).values())


def blu_net_residual(x: Tensor, gamma: Tensor) -> Tensor:
    """Σ |γ_m|·b_m with b_m = sign(r_{m−1}), r_m = r_{m−1} − |γ_m|·b_m; one γ vector a layer.

    Gradient: the chain rule with sign′ = 1 where |r| ≤ 1, else 0, through every level, and to γ. Levels: at most 2^M,
    and those where a residual is exactly 0. Prefer `ResidualBinary`.

    Odd: sign(0) = 0. The published start `blu_net_gamma` has .5 = .333 + .167: M = 3 begins with 7 levels, and a small
    weight becomes 0, so a transferred net is erased at the first step.

    Example:
        >>> blu_net_residual(torch.tensor([0.9, -0.9, 0.0]), torch.tensor([0.5, 0.25]))
        tensor([ 0.7500, -0.7500,  0.0000])
    """
    total, residual = torch.zeros_like(x), x
    for size in gamma.abs():
        sign = _replaced(residual, torch.sign(residual.detach()), residual.detach().abs() <= 1)
        total, residual = total + size * sign, residual - size * sign
    return total


def blu_net_gamma(levels: int) -> Tensor:
    """The published start, (M, M−1, …, 1)/sum."""
    return source_gamma(levels)


class _Replace(torch.autograd.Function):
    """Other values forward, the gradient passed on where the mask lets it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        ctx.mask = mask
        return values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0] if ctx.mask is None else grads[0] * ctx.mask, None, None


def _replaced(x: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
    out: Tensor = _Replace.apply(x, values, mask)  # type: ignore[no-untyped-call]
    return out


def _round_clamped(v: Tensor, n: int) -> Tensor:
    return torch.round(v.clamp(0, 2.0**n - 1) * 2.0**n) * 2.0**-n
