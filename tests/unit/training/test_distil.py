"""Soft targets and hint losses against slow NumPy versions."""

import math

import numpy as np
import pytest
import torch

from pocketseg.recipes.schema import DistilSection
from pocketseg.training.distil import NEAREST, hint_loss, logits_of, soft_loss


def drawn(channels: int, seed: int, size: tuple[int, int] = (6, 5)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (3, channels, *size))


def probabilities(z: np.ndarray) -> np.ndarray:
    """(c, h, w) with the background, in f64."""
    if z.shape[0] == 1:
        p = 1 / (1 + np.exp(-z))
        return np.concatenate([1 - p, p])
    powers = np.exp(z - z.max(0))
    return powers / powers.sum(0)


def on_rim(mask: np.ndarray, y: int, x: int) -> bool:
    """Whether a 4-neighbor has another class."""
    return any(
        0 <= y + dy < mask.shape[0] and 0 <= x + dx < mask.shape[1] and mask[y + dy, x + dx] != mask[y, x]
        for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
    )


def slow_soft(student: np.ndarray, teacher: np.ndarray, o: DistilSection) -> float:
    """Pixel by pixel."""
    totals = []
    for z, t in zip(student / o.temperature, teacher / o.temperature, strict=True):
        p, q = probabilities(z), probabilities(t)
        mask = q.argmax(0)
        weights, losses = np.zeros(mask.shape), np.zeros(mask.shape)
        for y, x in np.ndindex(mask.shape):
            a, b = p[:, y, x], q[:, y, x]
            cross = -float((b * np.log(a)).sum())
            losses[y, x] = {
                "bce": cross,
                "kl": cross + float((b * np.log(b)).sum()),
                "mse": float(((a - b)[1:] ** 2).sum()),
            }[o.kind]
            weights[y, x] = 1 + o.boundary * on_rim(mask, y, x)
        if o.per == "region":
            weights = sum((mask == c) * weights / max(weights[mask == c].sum(), 1e-9) for c in range(p.shape[0]))
        totals.append((weights * losses).sum() / weights.sum())
    return o.temperature**2 * float(np.mean(totals))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["bce", "kl", "mse"])
@pytest.mark.parametrize("more", [{}, {"per": "region"}, {"boundary": 3}, {"per": "region", "boundary": 0.5}])
@pytest.mark.parametrize("temperature", [1, 3])
def test_soft_targets(channels, kind, more, temperature):
    options = DistilSection(kind=kind, temperature=temperature, **more)
    student, teacher = drawn(channels, 1), drawn(channels, 2)
    teacher[0] = -5.0  # the teacher sees nothing there (one class), or all alike
    found = soft_loss(torch.tensor(student), torch.tensor(teacher), **options.arguments())
    assert found.item() == pytest.approx(slow_soft(student, teacher, options), rel=1e-4)


def test_cross_entropy_and_divergence_teach_alike_and_agreement_costs_nothing():
    student = torch.tensor(drawn(1, 1), requires_grad=True)
    teacher = torch.tensor(drawn(1, 2))
    gradients = [
        torch.autograd.grad(soft_loss(student, teacher, **DistilSection(kind=kind).arguments()), student)[0]
        for kind in ("bce", "kl")
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
    for kind in ("kl", "mse"):
        assert soft_loss(teacher, teacher, **DistilSection(kind=kind).arguments()).item() == pytest.approx(0, abs=1e-6)
    assert soft_loss(teacher, teacher, **DistilSection(kind="bce").arguments()).item() > 0.1


def test_the_gradient_keeps_its_size_when_the_temperature_rises():
    """That is what T² is for (Hinton et al. 2015)."""
    student, teacher = torch.tensor(drawn(1, 1) / 20, requires_grad=True), torch.tensor(drawn(1, 2) / 20)
    sizes = [
        torch.autograd.grad(soft_loss(student, teacher, **DistilSection(temperature=t).arguments()), student)[0]
        .norm()
        .item()
        for t in (1, 8)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


def test_regions_count_alike_however_small():
    teacher = torch.full((1, 1, 10, 10), -9.0)
    teacher[0, 0, 4, 4] = 9.0
    blind = torch.full((1, 1, 10, 10), -9.0)
    pixel, region = (
        soft_loss(blind, teacher, **DistilSection(temperature=1, per=per).arguments()).item()
        for per in ("pixel", "region")
    )
    assert pixel == pytest.approx(9 / 100, rel=0.02)
    assert region == pytest.approx(9 / 2, rel=0.02)


def slow_hint(a: np.ndarray, b: np.ndarray, kind: str) -> list[float]:
    found = []
    for s, t in zip(a, b, strict=True):
        pixels = [(s[:, y, x], t[:, y, x]) for y, x in np.ndindex(s.shape[1:])]
        if kind == "l1":
            found.append(np.mean([abs(u - v).mean() for u, v in pixels]))
        elif kind == "l2":
            found.append(np.mean([((u - v) ** 2).mean() for u, v in pixels]))
        elif kind == "cosine":
            found.append(np.mean([1 - u @ v / math.sqrt((u @ u) * (v @ v)) for u, v in pixels]))
        else:
            u, v = (np.array([(pair[i] ** 2).sum() for pair in pixels]) for i in (0, 1))
            found.append(((u / math.sqrt(u @ u) - v / math.sqrt(v @ v)) ** 2).sum())
    return found


@pytest.mark.parametrize("kind", ["l1", "l2", "cosine", "attention"])
def test_hint_losses(kind):
    student, teacher = drawn(4, 3), drawn(4, 4)
    mine = torch.tensor(student, requires_grad=True)
    found = hint_loss(mine, torch.tensor(teacher), kind)
    np.testing.assert_allclose(found.detach().numpy(), slow_hint(student, teacher, kind), rtol=1e-4)
    found.mean().backward()
    assert mine.grad is not None and mine.grad.abs().max() > 0
    np.testing.assert_allclose(hint_loss(mine, mine, kind).detach().numpy(), 0, atol=1e-6)


def test_attention_takes_any_number_of_channels():
    one = torch.tensor(drawn(1, 3)).abs()
    four = torch.cat([one] * 4, 1)
    np.testing.assert_allclose(hint_loss(one, four, "attention").numpy(), 0, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_of_probabilities(channels):
    logits = torch.tensor(drawn(channels, 5))
    p = torch.sigmoid(logits) if channels == 1 else torch.softmax(logits, 1)[:, 1:]
    back = logits_of(p)
    again = torch.sigmoid(back) if channels == 1 else torch.softmax(back, 1)[:, 1:]
    torch.testing.assert_close(again.double(), p, rtol=0, atol=3 * NEAREST)
    sure = logits_of(torch.tensor([[[[0.0, 1.0]]]]))
    assert torch.isfinite(sure).all() and sure[0, 0, 0, 0] < -11 and sure[0, 0, 0, 1] > 11


@pytest.mark.parametrize("kind", ["l1", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_slope_of_a_difference_is_that_of_its_formula(kind, dtype):
    draw = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(3, 5, 6, 7, generator=draw).to(dtype) for _ in range(2))
    weights = torch.tensor([1.0, 0.0, 3.0])
    ours, plain = student.clone().requires_grad_(), student.float().requires_grad_()
    (hint_loss(ours, teacher, kind) * weights).sum().backward()
    apart = plain - teacher.float()
    ((apart.abs() if kind == "l1" else apart.square()).mean((1, 2, 3)) * weights).sum().backward()
    assert ours.grad.dtype == dtype and not ours.grad[1].any()
    torch.testing.assert_close(ours.grad.float(), plain.grad, rtol=1e-6 if dtype == torch.float32 else 1e-2, atol=0)
