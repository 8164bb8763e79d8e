from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pocketseg.errors import RecipeError
from pocketseg.quant import Fixed, PowerOfTwo
from pocketseg.quant.fixed import exponents, from_exponents


def test_fixed_codes_by_hand():
    # Step ¼, from −¾ to ¾; ties at odd eighths go to even.
    values = [0.0, -0.0, 0.124, 0.125, 0.375, -0.375, 0.626, 0.75, 0.875, 1.0, 1.3, -1.3, 1e30]
    assert Fixed(0, 2).quantize(torch.tensor(values)).codes.tolist() == [0, 0, 0, 0, 2, -2, 3, 3, 3, 3, 3, -3, 3]
    # Whole numbers up to ±3: f = 0 rounds, it does not truncate.
    assert Fixed(2, 0).quantize(torch.tensor([0.5, 0.51, 1.5, 2.5, 3.4, -7.0])).codes.tolist() == [0, 1, 2, 2, 3, -3]


@pytest.mark.parametrize(("i", "f"), [(0, 1), (0, 2), (0, 4), (0, 8), (4, 0), (6, 0), (1, 3), (8, 8)])
def test_fixed_levels_by_sweep(i, f):
    spec = Fixed(i, f)
    limit = 2**i - 2.0**-f
    x = torch.linspace(-limit * 1.1, limit * 1.1, 2**19 + 1)
    values = spec.quantize(x).values().unique()
    assert values.numel() == spec.levels == 2 * 2 ** (i + f) - 1
    np.testing.assert_array_equal(values.numpy(), np.arange(-limit, limit + 2.0**-f / 2, 2.0**-f))
    assert 2 ** (spec.bits - 1) < spec.levels < 2**spec.bits


def test_fixed_gradient_stops_where_it_saturates():
    spec = Fixed(0, 2)
    x = torch.tensor([0.0, 0.75, 0.87, 0.88, -0.87, -0.88])
    by_x, by_scale = spec.gradient(torch.full((6,), 2.0), x, spec.state(spec.measure(x)))
    assert by_x.tolist() == [2, 2, 2, 0, 2, 0] and by_scale is None


def test_power_of_two_by_hand():
    # ±2^k, k = −2 … 0. Half way in the logarithm: √2/8 = .17678, √2/4 = .35355, √2/2 = .70711.
    values = [0.0, -0.0, 0.1767, 0.1768, -0.1768, 0.3535, 0.3536, 0.5, 0.7071, 0.7072, 1.0, 9.0, -1e30]
    expected = [0, 0, 0, 0.25, -0.25, 0.25, 0.5, 0.5, 0.5, 1, 1, 1, -1]
    assert PowerOfTwo(1, 2).quantize(torch.tensor(values)).values().tolist() == expected


@pytest.mark.parametrize(("i", "f"), [(0, 1), (0, 4), (1, 2), (4, 4), (8, 8)])
def test_power_of_two_levels_by_sweep(i, f):
    spec = PowerOfTwo(i, f)
    x = torch.logspace(-f - 3, i + 3, 20_001, base=2.0)
    values = spec.quantize(torch.cat([-x, torch.zeros(1), x])).values().unique()
    powers = 2.0 ** np.arange(-f, i)
    np.testing.assert_array_equal(values.numpy(), np.concatenate([-powers[::-1], [0], powers]))
    assert values.numel() == spec.levels == 2 * (i + f) + 1
    assert spec.bits == math.ceil(math.log2(spec.levels))


def test_power_of_two_is_the_nearest_in_the_logarithm():
    x = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) * 4 + 0.1
    values = PowerOfTwo(4, 8).quantize(x).values().double()
    np.testing.assert_array_equal(values.numpy(), 2 ** np.rint(np.log2(x.double().numpy())))


def test_power_of_two_gradient_stops_where_it_saturates():
    spec = PowerOfTwo(1, 2)
    x = torch.tensor([0.0, 0.1, 1.41, 1.42, -1.41, -1.42])
    by_x, _ = spec.gradient(torch.ones(6), x, spec.state(spec.measure(x)))
    assert by_x.tolist() == [1, 1, 1, 0, 1, 0]


def test_exponents_come_back():
    codes = torch.tensor([0] + [sign * 2**k for k in range(16) for sign in (1, -1)])
    stored = exponents(codes)
    assert stored.abs().max() == 16 and stored.unique().numel() == codes.numel()
    assert torch.equal(from_exponents(stored), codes.to(torch.int32))


@pytest.mark.parametrize("kind", [Fixed, PowerOfTwo])
@pytest.mark.parametrize(("i", "f"), [(0, 0), (-1, 4), (9, 8)])
def test_impossible_grids(kind, i, f):
    with pytest.raises(RecipeError, match=r"i \+ f must be 1 … 16"):
        kind(i, f)
