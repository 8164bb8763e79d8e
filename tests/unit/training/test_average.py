"""Averaged weights against a slow version, and what of them is validated and kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pocketseg.nets import build
from pocketseg.training.average import WeightAverage


def moved(net: nn.Module, steps: int, average: WeightAverage | None = None) -> list[dict[str, np.ndarray]]:
    """Weights and running statistics after each of some steps of SGD."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    seen = []
    for step in range(1, steps + 1):
        net.train()(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(step))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if average:
            average.update(step)
        seen.append({name: value.double().numpy().copy() for name, value in net.state_dict().items()})
    return seen


@pytest.mark.parametrize("decay", [0.5, 0.998])
def test_the_average_is_the_formula(decay):
    net = build("thin_unet", 1, 1, width=2, blocks=2, norm="conv")
    expected = {name: value.double().numpy().copy() for name, value in net.state_dict().items()}
    average = WeightAverage(net, decay)
    for step, numbers in enumerate(moved(net, 6, average), 1):
        share = min(decay, (1 + step) / (10 + step))
        expected = {name: share * value + (1 - share) * numbers[name] for name, value in expected.items()}
    assert any("running_var" in name for name in average.tensors)
    assert not any("num_batches" in name for name in average.tensors)
    for name, value in average.tensors.items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-7)


def test_the_net_has_it_within_the_block_alone():
    net = build("thin_unet", 1, 1, width=2, blocks=2)
    average = WeightAverage(net, 0.9)
    moved(net, 3, average)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(ZeroDivisionError), average.in_place():
        assert all(torch.equal(net.state_dict()[name], value) for name, value in average.tensors.items())
        1 / 0  # noqa: B018
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_the_training_is_that_without_it():
    """The optimizer moves the same weights, whether somebody averages them or not."""
    plain, averaged = (build("thin_unet", 1, 1, width=2, blocks=2, seed=3) for _ in range(2))
    for one, other in zip(moved(plain, 4), moved(averaged, 4, WeightAverage(averaged, 0.9)), strict=True):
        assert all(np.array_equal(value, other[name]) for name, value in one.items())


def test_an_average_of_equal_weights_is_them():
    net = build("thin_unet", 1, 1, width=2, blocks=2)
    average = WeightAverage(net, 0.998)
    for step in range(1, 50):
        average.update(step)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in average.tensors.items())
