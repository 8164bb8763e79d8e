from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketseg.errors import RecipeError
from pocketseg.quant import Binary, Quantizer, ResidualBinary, Ternary, ternary_beta, ternary_tanh
from pocketseg.quant.compat import blu_net_residual


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_ternary_by_hand():
    # Row 0: mean|w| = 1, threshold .7 (f32), a = (1 + 2.3)/2. Row 1: ±1.4, 0.7·1 = 0.7. Row 2: zeros.
    w = torch.tensor([[1.0, -2.3, 0.7, 0.0], [0.6, -0.6, 1.4, -1.4], [0.0, -0.0, 0.0, 0.0]])
    spec = Ternary()
    found = spec.quantize(w)
    assert found.codes.tolist() == [[1, -1, 0, 0], [0, 0, 1, -1], [0, 0, 0, 0]]
    np.testing.assert_allclose(found.scale.numpy(), [1.65, 1.4, 0.0], rtol=1e-6)


def test_ternary_keeps_a_value_on_the_threshold_at_zero():
    spec = Ternary(axis=None)
    state = spec.state(torch.tensor([0.5, 1.0]))
    above = float(np.nextafter(np.float32(0.5), np.float32(1)))
    assert spec.quantize(torch.tensor([0.5, -0.5, above, -above]), state).codes.tolist() == [0, 0, 1, -1]


def test_ternary_of_a_uniform_start():
    w = torch.rand(64, 4096, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = Ternary().quantize(w)
    assert float((found.codes == 0).float().mean()) == pytest.approx(0.35, abs=0.005)
    assert float(found.scale.mean()) == pytest.approx(0.675, abs=0.005)
    assert found.values()[0].unique().numel() == Ternary().levels == 3


def test_ternary_gradient_is_the_identity():
    w = normal(4, 9).requires_grad_()
    grad = normal(4, 9, seed=1)
    (Quantizer(Ternary(), of="weights")(w) * grad).sum().backward()
    assert torch.equal(w.grad, grad)


def test_ternary_tanh_and_its_gradient():
    x = torch.linspace(-2, 2, 81, dtype=torch.float64).requires_grad_()
    for beta in (3.0, 8.0):
        y = ternary_tanh(x, beta)
        np.testing.assert_allclose(y[[0, 40, 80]].detach(), [-1, 0, 1], atol=1e-7)
        assert float(y[50].detach()) == pytest.approx(0.5, abs=1e-3)
        (slope,) = torch.autograd.grad(y.sum(), x)
        left, right = (np.tanh(beta * (2 * x.detach().numpy() + side)) for side in (-1, 1))
        np.testing.assert_allclose(slope, beta * (2 - left**2 - right**2), rtol=1e-9, atol=1e-12)


def test_beta_is_linear_and_ends_sharp():
    assert ternary_beta(0, 200) == 3 and ternary_beta(199, 200) == 8
    assert ternary_beta(1, 3) == 5.5 and ternary_beta(0, 1) == 8


def test_binary_by_hand():
    x = torch.tensor([0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38])
    assert Binary().quantize(x).codes.tolist() == [1, 1, 1, -1, 1, -1]
    assert Binary().quantize(x).values().unique().tolist() == [-1, 1]
    w = torch.tensor([[1.0, -2.0], [0.0, 0.5]])
    found = Binary("mean", axis=0).quantize(w)
    assert found.scale.tolist() == [1.5, 0.25]
    assert found.values().tolist() == [[1.5, -1.5], [0.25, 0.25]]
    assert Binary("mean").quantize(w).scale.shape == ()


def test_binary_gradients():
    x = torch.tensor([-1.01, -1.0, -0.25, 0.0, 0.5, 1.0, 1.01])
    grad = torch.full((7,), 3.0)
    state = Binary().state(Binary().measure(x))
    assert Binary().gradient(grad, x, state)[0].tolist() == [0, 3, 3, 3, 3, 3, 0]
    assert Binary(slope="approx-sign").gradient(grad, x, state)[0].tolist() == [0, 0, 4.5, 6, 3, 0, 0]
    w = torch.tensor([[0.5, -1.5]], requires_grad=True)
    Quantizer(Binary("mean", axis=0), of="weights")(w).sum().backward()
    assert w.grad.tolist() == [[1.0, 0.0]]  # scale 1, and clipped
    w = torch.tensor([[0.5, -0.25]], requires_grad=True)
    Quantizer(Binary("mean", axis=0), of="weights")(w).sum().backward()
    assert w.grad.tolist() == [[0.375, 0.375]]  # the scale


def test_approx_sign_is_the_derivative_of_bi_real():
    """2x + x² below 0, 2x − x² above (Liu 2018)."""
    x = torch.linspace(-0.99, 0.99, 100, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(torch.where(x < 0, 2 * x + x**2, 2 * x - x**2).sum(), x)
    spec = Binary(slope="approx-sign")
    ours, _ = spec.gradient(torch.ones(100), x.detach().float(), spec.state(torch.empty(0)))
    np.testing.assert_allclose(ours, slope, atol=1e-6)


def test_residual_by_hand():
    spec = ResidualBinary(2)
    state = spec.state(torch.tensor([1.0, 0.5]))
    found = spec.quantize(torch.tensor([0.0, -0.0, 1.0, 0.99, -1.0, -1.01, 9.0, -9.0]), state)
    # r₁ of 1.0 is 0 → +1; r₁ of −1.0 is 0 → +1.
    assert found.planes.tolist() == [[1, 1, 1, 1, -1, -1, 1, -1], [-1, -1, 1, -1, 1, -1, 1, -1]]
    assert found.values().tolist() == [0.5, 0.5, 1.5, 0.5, -0.5, -1.5, 1.5, -1.5]


@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_residual_levels_by_sweep(planes):
    spec = ResidualBinary(planes)
    x = torch.linspace(-2, 2, 100_001)
    state = spec.state(0.5 ** torch.arange(planes))
    assert spec.quantize(x, state).values().unique().numel() == spec.levels == 2**planes


def test_residual_starts_at_the_mean_of_each_residual():
    w = normal(3, 1000) * torch.tensor([[0.01], [1.0], [5.0]])
    gamma = ResidualBinary(3, axis=0).measure(w).numpy()
    residual = w.double().numpy()
    for level in range(3):
        expected = np.abs(residual).mean(axis=1)
        np.testing.assert_allclose(gamma[level], expected, rtol=1e-5)
        residual = residual - expected[:, None] * np.sign(residual)
    one = ResidualBinary(1).measure(w)
    assert float(one) == pytest.approx(float(w.abs().mean()))


def test_the_start_from_the_data_keeps_small_weights():
    w = normal(64, 576) * 0.05
    value = {start: ResidualBinary(3, start=start).quantize(w).values() for start in ("data", "source")}
    error = {start: float((found - w).norm() / w.norm()) for start, found in value.items()}
    assert error["data"] < 0.25 and error["source"] > 0.99, error


@pytest.mark.parametrize("axis", [None, 1])
def test_residual_gradient_is_the_chain_rule_and_the_closed_form(axis):
    spec = ResidualBinary(3, axis=axis)
    x = normal(50, 2).requires_grad_()
    grad = normal(50, 2, seed=1)
    quantizer = Quantizer(spec, of="activations", channels=2)
    quantizer(x.detach())
    with torch.no_grad():
        quantizer.scale[1].neg_()  # its magnitude counts
    out = quantizer(x)
    (out * grad).sum().backward()

    # The chain rule by autograd, an independent program.
    y = x.detach().clone().requires_grad_()
    gamma = quantizer.scale.detach().clone().requires_grad_()
    if axis is None:
        chain = blu_net_residual(y, gamma)
    else:
        chain = torch.stack([blu_net_residual(y[:, c], gamma[:, c]) for c in range(2)], dim=1)
    (chain * grad).sum().backward()
    torch.testing.assert_close(out, chain)
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(quantizer.scale.grad, gamma.grad)

    # The closed form of the docstring.
    sizes, residual, passed = gamma.detach().abs(), x.detach(), torch.ones(50, 2)
    for size in sizes:
        passed = passed * (1 - size * (residual.abs() <= 1))
        residual = residual - size * torch.where(residual >= 0, 1.0, -1.0)
    torch.testing.assert_close(x.grad, grad * (1 - passed))
    assert (passed == 1).any() and (passed < 1).any()


def test_a_dead_gamma_can_leave_zero():
    quantizer = Quantizer(ResidualBinary(2), of="activations")
    quantizer(torch.zeros(4, 3))
    assert not quantizer.scale.any()
    quantizer(normal(4, 3).abs()).sum().backward()
    assert quantizer.scale.grad[0] > 0


def test_wrong_numbers_are_recipe_errors():
    with pytest.raises(RecipeError, match="0 planes are not offered"):
        ResidualBinary(0)
    with pytest.raises(RecipeError, match="axis but no scale"):
        Binary(axis=0)
