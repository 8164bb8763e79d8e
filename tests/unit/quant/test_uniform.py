from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pocketseg.errors import RecipeError
from pocketseg.quant import Int, Quantizer


def codes(spec, values, measured=None):
    state = None if measured is None else spec.state(torch.tensor(measured))
    return spec.quantize(torch.tensor(values), state).codes.tolist()


def test_symmetric_codes_by_hand():
    # Scale 0.5: ties at ±0.25, ±0.75 go to even.
    values = [0.0, -0.0, 0.25, -0.25, 0.75, -0.75, 0.26, 3.5, -3.5, 3.75, 3.76, 1e30, -1e30]
    assert codes(Int(4), values, [-3.5, 3.5]) == [0, 0, 0, 0, 2, -2, 1, 7, -7, 7, 7, 7, -7]


def test_affine_codes_by_hand():
    # Range −1 … 6.5 at scale 0.5: zero point 2, codes 0 … 15.
    values = [0.0, -0.0, -1.0, -1.25, -2.0, 0.25, 0.75, 6.5, 7.0, 1e30]
    assert codes(Int(4, affine=True), values, [-1.0, 6.5]) == [2, 2, 0, 0, 0, 2, 4, 15, 15, 15]
    state = Int(4, affine=True).state(torch.tensor([-1.0, 6.5]))
    assert (float(state.scale), float(state.zero_point)) == (0.5, 2)


def test_the_range_always_holds_zero():
    constant = Int(8, affine=True)
    assert float(constant.state(torch.tensor([0.5, 2.0])).scale) == pytest.approx(2 / 255)
    assert float(constant.state(torch.tensor([-2.0, -0.5])).scale) == pytest.approx(2 / 255)
    for spec in (Int(8, affine=True), Int(8, affine=True, rule="mse"), Int(8, affine=True, rule="percentile")):
        relu = spec.state(spec.measure(torch.linspace(0.5, 2.0, 1000)))
        assert float(relu.zero_point) == 0
        negative = spec.state(spec.measure(torch.linspace(-2.0, -0.5, 1000)))
        assert float(negative.zero_point) == 255


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 7, 8, 16])
def test_levels_by_sweep(bits):
    x = torch.linspace(-1, 1, 400_001)
    symmetric, affine = Int(bits), Int(bits, affine=True)
    found = symmetric.quantize(x)
    assert found.codes.unique().tolist() == list(range(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1)))
    assert found.values().unique().numel() == symmetric.levels == 2**bits - 1
    # A full range can lose its last code to the rounding of the zero point; beyond the range every code is reached.
    found = affine.quantize(x * 1.01, affine.state(affine.measure(x)))
    assert found.codes.unique().tolist() == list(range(2**bits))
    assert found.values().unique().numel() == affine.levels == 2**bits


def test_scale_for_each_channel():
    w = torch.tensor([[1.0, -7.0], [0.4375, 0.25], [0.0, 0.0]])
    found = Int(4, axis=0).quantize(w)
    assert found.scale.tolist() == [1.0, 0.0625, 1.0]
    assert found.codes.tolist() == [[1, -7], [7, 4], [0, 0]]
    assert Int(4, axis=1).quantize(w).scale.shape == (2,)


def test_inverse_scale_is_one_f32_division():
    spec = Int(8)
    state = spec.state(spec.measure(torch.tensor([0.1, -0.3])))
    assert state.inverse_scale.numpy() == np.float32(1) / state.scale.numpy()
    assert state.scale.numpy() == np.float32(0.3) / np.float32(127)


def test_percentile_is_a_nearest_rank():
    x = torch.arange(1, 1001).float()
    assert Int(8, rule="percentile", percentile=99.0).measure(-x).tolist() == [-990, 990]
    assert Int(8, affine=True, rule="percentile", percentile=99.0).measure(x).tolist() == [11, 990]
    assert Int(8, rule="percentile", percentile=100).measure(x).tolist() == [-1000, 1000]
    both = torch.stack([x, 2 * x])
    assert Int(8, axis=0, rule="percentile", percentile=99.0).measure(both)[1].tolist() == [990, 1980]


@pytest.mark.parametrize("affine", [False, True])
def test_mse_search_is_the_best_of_its_candidates(affine):
    x = torch.randn(2, 500, generator=torch.Generator().manual_seed(1))
    x[0, 0] = 20.0
    spec, plain = Int(3, affine=affine, axis=0, rule="mse"), Int(3, affine=affine, axis=0)

    def error(measured):
        return (spec.quantize(x, spec.state(measured)).values() - x).square().sum(dim=1)

    found, widest = spec.measure(x), plain.measure(x)
    errors = torch.stack([error(widest * (1 - step / 50)) for step in range(40)])
    torch.testing.assert_close(error(found), errors.amin(dim=0))
    assert (error(found) < 0.9 * error(widest))[0]


def test_mse_search_keeps_the_widest_of_equals():
    # Zeros have no error at any range.
    assert Int(3, rule="mse")._least_squares(torch.zeros(1, 4), -torch.ones(1), torch.ones(1)) == (-1, 1)


def test_very_large_and_very_small_ranges_have_finite_scales():
    for size in (3e38, 1e-30, 1e-44):
        for spec in (Int(8), Int(8, affine=True), Int(2, affine=True)):
            found = spec.quantize(torch.tensor([-size, size]))
            assert 0 < float(found.scale) < math.inf
            assert found.values().isfinite().all()


def test_gradient_is_one_where_nothing_is_clipped():
    spec = Int(4)
    x = torch.tensor([0.0, 3.5, 3.74, 3.76, -3.74, -3.76, 100.0], requires_grad=True)
    by_x, by_scale = spec.gradient(torch.full((7,), 3.0), x.detach(), spec.state(torch.tensor([-3.5, 3.5])))
    assert by_x.tolist() == [3, 3, 3, 0, 3, 0, 0] and by_scale is None
    affine = Int(4, affine=True)
    by_x, _ = affine.gradient(
        torch.ones(5), torch.tensor([-1.2, -1.3, 0, 6.7, 6.8]), affine.state(torch.tensor([-1, 6.5]))
    )
    assert by_x.tolist() == [1, 0, 1, 1, 0]


def test_the_largest_weight_keeps_its_gradient():
    for seed in range(50):
        w = torch.randn(4, 9, generator=torch.Generator().manual_seed(seed), requires_grad=True)
        Quantizer(Int(8, axis=0), of="weights")(w).sum().backward()
        assert (w.grad == 1).all(), seed


@pytest.mark.parametrize("of", ["weights", "activations"])
@pytest.mark.parametrize("affine", [False, True])
def test_learned_scale_has_the_gradient_of_lsq(of, affine):
    """Esser 2020, equation 3 and its gradient scale, written out with NumPy."""
    spec = Int(3, affine=affine, rule="learned")
    x = torch.randn(4, 10, generator=torch.Generator().manual_seed(3))
    weight = torch.randn(4, 10, generator=torch.Generator().manual_seed(4))
    quantizer = Quantizer(spec, of=of)
    quantizer(x)
    with torch.no_grad():
        quantizer.scale.copy_(torch.tensor(0.3))
    x = x.requires_grad_()
    (quantizer(x) * weight).sum().backward()

    zero = 0.0 if not affine else float(spec.state(quantizer.measured).zero_point)
    low, high = spec.lowest - zero, spec.highest - zero
    v = x.detach().double().numpy() / np.float32(0.3)
    slope = np.where(np.rint(v) < low, low, np.where(np.rint(v) > high, high, np.rint(v) - v))
    count = 40 if of == "weights" else 10
    expected = (weight.numpy() * slope).sum() / math.sqrt(count * (7 if affine else 3))
    assert float(quantizer.scale.grad) == pytest.approx(expected, rel=1e-4)
    inside = (np.rint(v) >= low) & (np.rint(v) <= high)
    assert 0 < inside.sum() < 40
    np.testing.assert_array_equal(x.grad.numpy(), weight.numpy() * inside)


def test_learned_scale_starts_as_published():
    w = torch.randn(8, 30, generator=torch.Generator().manual_seed(0))
    quantizer = Quantizer(Int(4, axis=0, rule="learned"), of="weights", channels=8)
    quantizer(w)
    torch.testing.assert_close(quantizer.scale.detach(), 2 * w.abs().mean(dim=1) / math.sqrt(7))


def test_learning_finds_a_better_scale():
    x = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    quantizer = Quantizer(Int(2, rule="learned"), of="weights")

    def error():
        return (quantizer(x) - x).square().mean()

    error()
    with torch.no_grad():
        quantizer.scale.mul_(2)
    before = float(error().detach())
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=200.0)
    for _ in range(50):
        optimizer.zero_grad()
        error().backward()
        optimizer.step()
    # 0.1902 is the error of the best uniform three-level quantizer of a normal variable.
    assert float(error().detach()) < 0.21 < before


def test_wrong_numbers_are_recipe_errors():
    with pytest.raises(RecipeError, match="1 bits are not offered → choose 2 to 8, or 16"):
        Int(1)
    with pytest.raises(RecipeError, match="percentile"):
        Int(8, rule="percentile", percentile=0.999)
