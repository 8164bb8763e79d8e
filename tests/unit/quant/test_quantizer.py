from __future__ import annotations

import pytest
import torch

from pocketseg.errors import RecipeError, TrainingError
from pocketseg.quant import Binary, Int, Quantizer, ResidualBinary, Ternary
from pocketseg.quant.quantizer import MOMENTUM


def test_activation_range_is_a_moving_average():
    quantizer = Quantizer(Int(8, affine=True), of="activations")
    quantizer(torch.tensor([-1.0, 3.0]))
    assert quantizer.measured.tolist() == [-1, 3]
    quantizer(torch.tensor([-2.0, 13.0]))
    torch.testing.assert_close(quantizer.measured, torch.tensor([-1 - MOMENTUM, 3 + 10 * MOMENTUM]))
    quantizer.observing = False
    before = quantizer.measured.clone()
    quantizer(torch.tensor([-50.0, 50.0]))
    quantizer.observing = True
    quantizer.eval()(torch.tensor([-50.0, 50.0]))
    assert torch.equal(quantizer.measured, before)


def test_evaluation_does_not_depend_on_the_batch():
    quantizer = Quantizer(Int(4, affine=True), of="activations")
    quantizer(torch.linspace(-1, 2, 50))
    quantizer.eval()
    alone, together = quantizer(torch.tensor([0.3])), quantizer(torch.tensor([0.3, 99.0]))
    assert torch.equal(alone, together[:1])


def test_weights_are_measured_afresh_in_evaluation():
    w = torch.nn.Parameter(torch.tensor([[1.0, -0.5]]))
    quantizer = Quantizer(Int(8, axis=0), of="weights")
    quantizer(w)
    with torch.no_grad():
        w.mul_(10)
    assert quantizer.eval()(w)[0, 0] == pytest.approx(10)
    assert not quantizer.state_dict()


@pytest.mark.parametrize("spec", [Int(8, affine=True), Int(8, rule="learned"), ResidualBinary(2), Ternary(axis=None)])
def test_evaluation_before_any_data_is_an_error(spec):
    quantizer = Quantizer(spec, of="activations").eval()
    with pytest.raises(TrainingError, match=r"has seen no data.*run training batches"):
        quantizer(torch.ones(3))


def test_a_grid_without_statistics_needs_no_data():
    assert Quantizer(Binary(), of="activations").eval()(torch.tensor([-3.0])).tolist() == [-1]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_batch_does_not_enter_the_average(bad):
    quantizer = Quantizer(Int(8, affine=True), of="activations")
    quantizer(torch.tensor([0.0, 1.0]))
    with pytest.raises(TrainingError, match="nan or inf"):
        quantizer(torch.tensor([0.5, bad]))
    assert quantizer.measured.tolist() == [0, 1]


def test_a_learned_scale_never_reaches_zero_and_may_change_sign():
    quantizer = Quantizer(Int(4, rule="learned"), of="weights")
    x = torch.tensor([0.5, -1.0])
    quantizer(x)
    with torch.no_grad():
        quantizer.scale.copy_(torch.tensor(-0.5))
    assert quantizer.eval()(x).tolist() == [0.5, -1.0]
    with torch.no_grad():
        quantizer.scale.zero_()
    assert quantizer(x).isfinite().all()


def test_missing_channels_are_a_recipe_error():
    with pytest.raises(RecipeError, match="their number is missing → give channels"):
        Quantizer(ResidualBinary(2, axis=1), of="activations")


def test_trains_under_autocast():
    quantizer = Quantizer(Int(8, affine=True), of="activations")
    layer = torch.nn.Conv2d(2, 3, 3)
    weights = Quantizer(Ternary(), of="weights")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = torch.nn.functional.conv2d(quantizer(torch.rand(2, 2, 5, 5)), weights(layer.weight))
    out.float().sum().backward()
    assert layer.weight.grad.any()
