"""The published numbers, from the papers' code as described in the project's notes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pocketseg.errors import TrainingError
from pocketseg.quant.compat import (
    blu_net_gamma,
    blu_net_residual,
    fixed_point_bnn,
    fixed_point_fixed_em,
    fixed_point_fixed_gm,
    fixed_point_int,
    fixed_point_ternary,
)

OPEN = torch.linspace(-1, 1, 200_003)[1:-1]


def slope(function, x):
    x = torch.tensor(x, requires_grad=True)
    function(x).sum().backward()
    return x.grad.tolist()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_int_has_one_level_too_many(bits):
    levels = fixed_point_int(OPEN, bits).unique().tolist()
    assert levels == list(range(-(2 ** (bits - 1)), 2 ** (bits - 1) + 1))
    assert len(levels) == 2**bits + 1


def test_int_by_hand():
    # Only the maximum has the code +8; floor, so just below it is 7.
    assert fixed_point_int(torch.tensor([0.0, 0.5, 0.99, 15.99, 16.0]), 4).tolist() == [-8, -8, -8, 7, 8]
    assert slope(lambda x: fixed_point_int(x, 4), [0.0, 0.5, 16.0]) == [1, 1, 1]
    with pytest.raises(TrainingError, match="0/0 in the source"):
        fixed_point_int(torch.ones(3), 4)


@pytest.mark.parametrize(("f", "count"), [(1, 5), (2, 9), (3, 17), (4, 33), (8, 513)])
def test_gm_fractions_have_more_levels_than_named(f, count):
    values = fixed_point_fixed_gm(OPEN, 0, f).unique()
    assert values.numel() == count
    assert values[-1] == 1.0


def test_gm_integers():
    values = fixed_point_fixed_gm(torch.linspace(-20, 20, 10_001), 4, 0).unique()
    assert values.tolist() == list(range(-15, 16))
    # Truncated, not rounded.
    assert fixed_point_fixed_gm(torch.tensor([0.99, -1.99]), 4, 0).tolist() == [0, -1]
    normal = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    assert float((fixed_point_fixed_gm(normal, 4, 0) == 0).float().mean()) == pytest.approx(0.68, abs=0.01)


def test_gm_wraps():
    values = fixed_point_fixed_gm(torch.tensor([1.3, 1.0, -1.3, 0.97]), 0, 4)
    assert values.tolist() == [0.3125, 0, -0.3125, 1.0]
    assert fixed_point_fixed_gm(torch.tensor([1.3]), 0, 2).tolist() == [0.25]
    assert slope(lambda x: fixed_point_fixed_gm(x, 0, 2), [0.3, 1.3, -7.0]) == [1, 1, 1]


def test_em_by_hand():
    x = torch.tensor([0.0, 1 / 128, 1 / 32, 0.3, 0.8, 1.5, -9.0])
    assert fixed_point_fixed_em(x, 0, 4).tolist() == [0, 1 / 128, 1 / 32, 0.25, 0.9375, 0.9375, -0.9375]
    assert fixed_point_fixed_em(x, 2, 2).tolist() == [0, 1 / 128, 1 / 32, 0.25, 1.0, 2.0, -2.75]
    assert fixed_point_fixed_em(x, 3, 0).tolist()[-2:] == [2.0, -4.0]
    assert slope(lambda x: fixed_point_fixed_em(x, 0, 2), [0.3, 5.0]) == [1, 1]


def test_em_widths_only_set_the_clamp():
    x = 2.0 ** -torch.arange(1, 100)
    for f in (2, 8):
        assert fixed_point_fixed_em(x, 0, f).unique().numel() == 99


def test_bnn():
    assert fixed_point_bnn(torch.tensor([-2.0, -0.0, 0.0, 0.5])).tolist() == [-1, 0, 0, 1]
    assert slope(fixed_point_bnn, [-1.01, -1.0, 0.0, 1.0, 1.01]) == [0, 1, 1, 1, 0]


def test_ternary():
    w = torch.rand(32, 1000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = fixed_point_ternary(w)
    size = w.abs().double().numpy()
    large = size > 0.7 * size.mean(axis=1, keepdims=True)
    a = (size * large).sum(axis=1) / large.sum(axis=1)
    np.testing.assert_allclose(values, np.sign(w.numpy()) * large * a[:, None], rtol=1e-6)
    assert (1 - large.mean(), a.mean()) == pytest.approx((0.35, 0.675), abs=0.01)
    assert slope(fixed_point_ternary, [[0.1, 5.0, -1.0]]) == [[1, 1, 1]]


def test_blu_net_starts_with_seven_levels_and_erases_small_weights():
    gamma = blu_net_gamma(3)
    np.testing.assert_allclose(gamma, [1 / 2, 1 / 3, 1 / 6], rtol=1e-6)
    # .5 − .333 − .167 is 1e-8 in f32, so levels are counted after rounding.
    levels = {round(float(value), 5) for value in blu_net_residual(OPEN * 2, gamma).unique()}
    assert levels == {-1, -0.66667, -0.33333, 0, 0.33333, 0.66667, 1}
    w = torch.randn(64, 576, generator=torch.Generator().manual_seed(0)) * 0.05
    error = float((blu_net_residual(w, gamma) - w).norm() / w.norm())
    assert error == pytest.approx(0.997, abs=0.003)


def test_blu_net_sign_of_zero_is_zero():
    gamma = torch.tensor([0.5, 0.25])
    # The residual of .5 is 0, so its second plane is silent; of −.75 the third value would be.
    assert blu_net_residual(torch.tensor([0.0, 0.5, -0.5, 0.6]), gamma).tolist() == [0, 0.5, -0.5, 0.75]
    assert blu_net_residual(torch.tensor([0.6]), -gamma).tolist() == [0.75]


def test_blu_net_gradient_by_hand():
    x = torch.tensor([0.6, 1.2, 3.0], requires_grad=True)
    gamma = torch.tensor([0.5, -0.25], requires_grad=True)
    blu_net_residual(x, gamma).sum().backward()
    # h = (1, 1), (0, 1), (0, 0): 1 − (1 − .5 h₁)(1 − .25 h₂)
    np.testing.assert_allclose(x.grad, [0.625, 0.25, 0.0])
    # γ₁: Σ b₁ (1 − .25 h₂) = .75 + .75 + 1; γ₂: Σ b₂ = 3, against its sign.
    np.testing.assert_allclose(gamma.grad, [2.5, -3.0])


def test_q04_really_needs_five_bits():
    assert math.log2(fixed_point_fixed_gm(OPEN, 0, 4).unique().numel()) == pytest.approx(5.04, abs=0.01)
