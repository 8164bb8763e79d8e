import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from pocketseg.nets import build
from pocketseg.recipes.schema import (
    ConstantSchedule,
    ConstantThenDecaySchedule,
    CosineSchedule,
    EarlyStopSection,
    InterpolatedSchedule,
    MultiStepSchedule,
    OptimizerSection,
    PlateauSchedule,
    RestartSchedule,
    StepSchedule,
)
from pocketseg.training import schedules
from pocketseg.training.optim import add_kernel_l2, make_optimizer, rate_factor, should_stop

KINDS = ("adamw", "adam", "sgd", "rmsprop")


def factors(schedule, epochs, *, progress=0.0, scores=None):
    return [
        rate_factor(schedule, epoch=epoch, progress=progress, epochs=epochs, scores=(scores or [])[:epoch])
        for epoch in range(epochs)
    ]


# --- the rate ---------------------------------------------------------------------------------------------


def test_constant():
    assert factors(ConstantSchedule(), 5) == [1, 1, 1, 1, 1]


def test_cosine():
    half = math.sqrt(0.5)
    expected = [1, (1 + half) / 2, 0.5, (1 - half) / 2]
    assert factors(CosineSchedule(), 4) == pytest.approx(expected)
    assert factors(CosineSchedule(floor=0.2), 4) == pytest.approx([0.2 + 0.8 * value for value in expected])


def test_cosine_within_an_epoch():
    last = rate_factor(CosineSchedule(), epoch=3, progress=0.9, epochs=4, scores=[])
    assert last == pytest.approx((1 + math.cos(math.pi * 3.9 / 4)) / 2)
    assert 0 < last < 0.002


def test_warmup_is_linear_and_never_zero():
    schedule = CosineSchedule(warmup=0.4)
    assert factors(schedule, 10)[1:6] == pytest.approx([0.25, 0.5, 0.75, 1, (1 + math.cos(math.pi / 6)) / 2])
    first = factors(schedule, 10)[0]
    assert 0 < first == pytest.approx(1 / (1000 * 10) / 0.4)
    assert rate_factor(schedule, epoch=0, progress=0.5, epochs=10, scores=[]) == pytest.approx(0.125)


@pytest.mark.parametrize("epochs", [1, 3, 1000])
@pytest.mark.parametrize("warmup", [0.0, 1e-9, 1e-6, 1e-3, 0.5, 0.999])
def test_cosine_stays_between_nothing_and_the_rate(warmup, epochs):
    for epoch in {0, epochs // 2, epochs - 1}:
        for progress in (0.0, 1e-7, 0.5, 0.99):
            found = rate_factor(CosineSchedule(warmup=warmup), epoch=epoch, progress=progress, epochs=epochs, scores=[])
            assert 0 < found <= 1


def test_step():
    schedule = StepSchedule(every=2, factor=0.1)
    assert factors(schedule, 6) == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert factors(schedule, 6, progress=0.99) == factors(schedule, 6)


def test_multi_step():
    schedule = MultiStepSchedule(at=[0.5, 0.75], factor=0.1)
    assert factors(schedule, 8) == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert rate_factor(schedule, epoch=3, progress=0.99, epochs=8, scores=[]) == 1
    # A share may fall into the middle of an epoch.
    assert factors(MultiStepSchedule(at=[0.5], factor=0.1), 3, progress=0.5) == pytest.approx([1, 0.1, 0.1])


def test_step_restarts():
    schedule = RestartSchedule(every=2, factor=0.5, cycle=5)
    assert factors(schedule, 12) == pytest.approx([1, 1, 0.5, 0.5, 0.25, 1, 1, 0.5, 0.5, 0.25, 1, 1])


def test_restarts_counted_from_one_as_vaze_et_al():
    """0.1 · 0.1^⌊(1 + e mod 40) / 15⌋: epochs 0 to 13, 14 to 28, 29 to 39, and again."""
    schedule = RestartSchedule(every=15, factor=0.1, cycle=40, first=1)
    assert factors(schedule, 80) == pytest.approx(([1] * 14 + [0.1] * 15 + [0.01] * 11) * 2)


def test_fifths_of_the_training():
    schedule = MultiStepSchedule(at=[0.2, 0.4, 0.6, 0.8], factor=0.1)
    for epochs in (5, 40, 200):
        expected = [0.1**fifth for fifth in range(5) for _ in range(epochs // 5)]
        assert factors(schedule, epochs) == pytest.approx(expected)


def test_constant_then_decay():
    schedule = ConstantThenDecaySchedule(constant=0.5, factor=0.9)
    assert factors(schedule, 6) == pytest.approx([1, 1, 1, 0.9, 0.81, 0.729])
    assert factors(ConstantThenDecaySchedule(constant=0, factor=0.5), 3) == pytest.approx([0.5, 0.25, 0.125])


def test_plateau():
    #         0    1    2    3    4    5    6    7    8     9
    scores = [0.1, 0.3, 0.3, 0.2, 0.3, 0.1, 0.1, 0.1, 0.31, 0.2]
    schedule = PlateauSchedule(factor=0.5, patience=2)
    # Epochs 2, 3, 4 are the third in a row without an improvement, so epoch 5 is slower; 5, 6, 7 likewise.
    assert factors(schedule, 10, scores=scores) == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_plateau_without_patience():
    scores = [0.5, 0.6, 0.6, 0.5, 0.7]
    assert factors(PlateauSchedule(factor=0.5, patience=0), 6, scores=scores) == [1, 1, 1, 0.5, 0.25, 0.25]


def test_plateau_has_a_floor():
    assert factors(PlateauSchedule(factor=0.1, patience=0, floor=0.05), 5, scores=[1.0, 0, 0, 0, 0]) == pytest.approx(
        [1, 1, 0.1, 0.05, 0.05]
    )


def test_plateau_takes_negative_scores():
    """Losses are negated, so that higher is better; all of them are below zero."""
    assert factors(PlateauSchedule(factor=0.5, patience=0), 4, scores=[-3.0, -2.0, -2.5, -1.0]) == [1, 1, 1, 0.5]


@settings(deadline=None)  # the first call imports
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 4))
def test_plateau_counts_like_torch(scores, patience):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    evaluate = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=0.0, eps=0.0
    )
    for score in scores:
        evaluate.step(score)
    schedule = PlateauSchedule(factor=0.5, patience=patience)
    found = rate_factor(schedule, epoch=len(scores), progress=0.3, epochs=99, scores=scores)
    assert found == optimizer.param_groups[0]["lr"]


# --- stopping ---------------------------------------------------------------------------------------------


def test_no_rule_never_stops():
    assert not should_stop([0.5] * 1000, None)


def test_it_stops_when_the_best_is_patience_epochs_back():
    rule = EarlyStopSection(patience=3)
    scores = [0.1, 0.5, 0.4, 0.4, 0.4, 0.6]
    assert [should_stop(scores[:n], rule) for n in range(7)] == [False, False, False, False, False, True, False]


def test_an_equal_score_is_no_improvement():
    assert should_stop([0.5, 0.5, 0.5], EarlyStopSection(patience=2))
    assert not should_stop([0.5, 0.5], EarlyStopSection(patience=2))


def test_it_never_stops_before_min_epochs():
    rule = EarlyStopSection(patience=1, min_epochs=5)
    scores = [0.9, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert [should_stop(scores[:n], rule) for n in range(7)] == [False] * 5 + [True, True]


# --- optimizers -------------------------------------------------------------------------------------------


def small_net() -> nn.Module:
    return build("thin_unet", 1, 1, width=4, blocks=2, conv="separable", seed=1)


def grouped(optimizer) -> list[tuple[float, set[int]]]:
    return [(group["weight_decay"], {p.ndim for p in group["params"]}) for group in optimizer.param_groups]


@pytest.mark.parametrize("kind", KINDS)
def test_decay_spares_biases_and_norms(kind):
    net = small_net()
    spare = make_optimizer(net, OptimizerSection(kind=kind, weight_decay=0.03))
    assert grouped(spare) == [(0.03, {4}), (0.0, {1})]
    everything = make_optimizer(net, OptimizerSection(kind=kind, weight_decay=0.03, decay="all"))
    assert grouped(everything) == [(0.03, {4}), (0.03, {1})]


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_in_one_group(kind):
    net = small_net()
    frozen = next(net.parameters())
    frozen.requires_grad_(False)
    optimizer = make_optimizer(net, OptimizerSection(kind=kind))
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters() if p is not frozen)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_steps_downhill(kind):
    torch.manual_seed(0)
    net = small_net()
    x, y = torch.randn(4, 1, 16, 16), torch.rand(4, 1, 16, 16)
    optimizer = make_optimizer(net, OptimizerSection(kind=kind, lr=1e-3))
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3}
    losses = []
    for _ in range(8):
        loss = (torch.sigmoid(net(x)) - y).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def one_step(before: float, grad: float, **options) -> float:
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(before)
    optimizer = make_optimizer(net, OptimizerSection(**options))
    net.weight.grad = torch.full((1, 1), grad)
    optimizer.step()
    return net.weight.item()


def test_first_steps_of_each_kind_by_hand():
    assert one_step(1.0, 2.0, kind="sgd", lr=0.1) == pytest.approx(0.8)
    assert one_step(1.0, 2.0, kind="sgd", lr=0.1, nesterov=True) == pytest.approx(1 - 0.1 * (2 + 0.9 * 2))
    assert one_step(1.0, 2.0, kind="sgd", lr=0.1, weight_decay=0.5) == pytest.approx(1 - 0.1 * 2.5)
    assert one_step(1.0, 2.0, kind="adam", lr=0.1) == pytest.approx(0.9)
    assert one_step(1.0, 2.0, kind="rmsprop", lr=0.1) == pytest.approx(0.0, abs=1e-6)  # 1 / sqrt(1 - 0.99) = 10
    # AdamW takes the decay from the weight, Adam adds it to the gradient (whose size Adam then divides out).
    assert one_step(1.0, 2.0, kind="adamw", lr=0.1, weight_decay=0.5) == pytest.approx(0.95 - 0.1)
    assert one_step(1.0, 2.0, kind="adam", lr=0.1, weight_decay=0.5) == pytest.approx(0.9)


@pytest.mark.parametrize("kind", ["sgd", "rmsprop"])
def test_momentum_is_used(kind):
    def two_steps(momentum):
        net = nn.Linear(1, 1, bias=False)
        net.weight.data.fill_(1.0)
        optimizer = make_optimizer(net, OptimizerSection(kind=kind, lr=0.01, momentum=momentum))
        for _ in range(2):
            net.weight.grad = torch.ones(1, 1)
            optimizer.step()
        return net.weight.item()

    assert two_steps(0.9) < two_steps(0.0)


def test_kernel_l2_is_the_gradient_of_its_penalty():
    strength = 0.37
    net, evaluate = small_net(), small_net()
    x = torch.randn(2, 1, 8, 8)
    optimizer = make_optimizer(net, OptimizerSection())
    net(x).square().mean().backward()
    add_kernel_l2(optimizer, strength)
    penalty = sum(p.square().sum() for p in evaluate.parameters() if p.ndim == 4)
    (evaluate(x).square().mean() + strength * penalty).backward()
    for found, expected in zip(net.parameters(), evaluate.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(net.core.head.weight.grad, torch.zeros(1))


def test_kernel_l2_leaves_the_kernels_and_missing_gradients_alone():
    net = small_net()
    optimizer = make_optimizer(net, OptimizerSection())
    before = [p.detach().clone() for p in net.parameters()]
    add_kernel_l2(optimizer, 0.5)
    assert all(p.grad is None for p in net.parameters())
    first = next(net.parameters())
    first.grad = torch.zeros_like(first)
    add_kernel_l2(optimizer, 0.5)
    assert torch.equal(first.grad, first.detach())
    assert all(torch.equal(p, old) for p, old in zip(net.parameters(), before, strict=True))
    add_kernel_l2(optimizer, 0.0)
    assert torch.equal(first.grad, first.detach())


@pytest.mark.parametrize("min_delta", [0.0, 1e-4, 0.05])
def test_a_plateau_is_that_of_torch(min_delta):
    """Factor by factor, on a loss that falls ever more slowly and rises now and then."""
    rng = np.random.default_rng(2)
    losses = 0.3 + 0.7 * 0.8 ** np.arange(60) + 0.003 * rng.standard_normal(60)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3, threshold=min_delta, eps=0)
    for epoch, loss in enumerate(losses, 1):
        theirs.step(loss)
        ours = schedules.plateau([-each for each in losses[:epoch]], factor=0.5, patience=3, min_delta=min_delta)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])
    assert ours < 1


def test_interpolated():
    """0.5 for a quarter, then down to 0.1 in the middle, up to 0.2 at three quarters, and there it stays."""
    schedule = InterpolatedSchedule(points=[(0.25, 0.5), (0.5, 0.1), (0.75, 0.2)])
    assert factors(schedule, 8) == pytest.approx([0.5, 0.5, 0.5, 0.3, 0.1, 0.15, 0.2, 0.2])
    assert rate_factor(schedule, epoch=3, progress=0.5, epochs=8, scores=[]) == pytest.approx(0.2)
    assert factors(InterpolatedSchedule(points=[(0.5, 0.7)]), 3) == pytest.approx([0.7] * 3)


@pytest.mark.parametrize("points", [[], [(0.5, 1), (0.5, 0.1)], [(0.6, 1), (0.2, 0.1)], [(0, -1)], [(1.5, 1)]])
def test_points_that_make_no_schedule(points):
    with pytest.raises(ValidationError):
        InterpolatedSchedule(points=points)
