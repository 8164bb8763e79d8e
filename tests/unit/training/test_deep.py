"""Deep supervision against slow versions: what the heads see, what they add, and that no model keeps them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pocketseg.errors import RecipeError
from pocketseg.nets import build, skeleton
from pocketseg.nets.taps import tapped
from pocketseg.recipes.schema import DeepSupervisionSection, LossSection, StageSection
from pocketseg.training.deep import Supervised, deep_places, supervised_loss
from pocketseg.training.objective import Inputs

LOSS = LossSection(bce=1, dice=1)


def supervised(levels=2, **options):
    net = build("thin_unet", 1, 1, width=3, blocks=3, seed=2, **options)
    places = deep_places(net.core, levels)
    return Supervised(net, places, [3] * levels, 1, seed=4)


def enlarged(planes: np.ndarray, factor: int) -> np.ndarray:
    """Bilinear between the centers of pixels, the border repeated, pixel by pixel."""
    height, width = (side * factor for side in planes.shape)
    out = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            y, x = ((at + 0.5) / factor - 0.5 for at in (row, column))
            y, x = max(y, 0.0), max(x, 0.0)
            above, left = int(y), int(x)
            below, right = min(above + 1, planes.shape[0] - 1), min(left + 1, planes.shape[1] - 1)
            u, v = x - left, y - above
            upper = planes[above, left] * (1 - u) + planes[above, right] * u
            lower = planes[below, left] * (1 - u) + planes[below, right] * u
            out[row, column] = upper * (1 - v) + lower * v
    return out


@pytest.mark.parametrize("size", [(16, 16), (13, 18)])
def test_heads_see_the_blocks_before_the_last_and_are_enlarged(size):
    """A size that the net does not divide is padded for it; its heads are cut to it as its logits are."""
    both = supervised().eval()
    image = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(1))
    logits, others = both(image)
    assert torch.equal(logits, both.net(image)) and both.places == ["decoder.1", "decoder.0"]
    with tapped(both.net.core, both.places) as seen:
        both.net(image)
    for factor, place, head, other in zip((2, 4), both.places, both.heads, others, strict=True):
        kernel, bias = (values.detach().numpy().astype(np.float64) for values in (head.weight[0, :, 0, 0], head.bias))
        said = np.tensordot(kernel, seen[place].detach().numpy()[0], axes=1) + bias[0]
        expected = enlarged(said, factor)[: size[0], : size[1]]
        np.testing.assert_allclose(other.detach().numpy()[0, 0], expected, atol=1e-5)


def test_the_loss_adds_those_of_the_heads_by_falling_weights():
    rng = np.random.default_rng(0)
    logits = [torch.from_numpy(rng.normal(size=(3, 1, 8, 8))) for _ in range(3)]
    masks = torch.from_numpy(rng.integers(0, 2, (3, 8, 8)))

    def slow(values):
        p, t = 1 / (1 + np.exp(-values.numpy()[:, 0])), masks.numpy()
        bce = -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))
        dice = [1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1) for a, b in zip(p, t, strict=True)]
        return bce + np.mean(dice)

    section = DeepSupervisionSection(levels=2, weight=0.4)
    loss, parts = supervised_loss(logits[0], logits[1:], Inputs(logits[0], masks, [0, 1, 2]), LOSS, section)
    deep = 0.4 * slow(logits[1]) + 0.16 * slow(logits[2])
    assert float(parts["deep"]) == pytest.approx(deep) and float(loss) == pytest.approx(slow(logits[0]) + deep)
    assert float(parts["bce"] + parts["dice"]) == pytest.approx(slow(logits[0]))


def test_the_heads_teach_the_blocks_below():
    both = supervised()
    logits, others = both(torch.randn(2, 1, 16, 16))
    others[1].sum().backward()
    assert both.net.core.decoder[0][0].weight.grad.abs().sum() > 0
    assert both.net.core.decoder[2][0].weight.grad is None and both.net.core.head.weight.grad is None
    assert both.heads[1].weight.grad.abs().sum() > 0 and logits.shape == (2, 1, 16, 16)


def test_they_are_no_part_of_the_net_and_the_seed_is_theirs_alone():
    state = torch.random.get_rng_state()
    both, again = supervised(), supervised()
    names = set(both.net.core.state_dict())
    assert names == set(build("thin_unet", 1, 1, width=3, blocks=3).core.state_dict())
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(both.heads, again.heads, strict=True))
    build("thin_unet", 1, 1, width=3, blocks=3)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("arch", ["unet", "xtiny_unet", "efficientnet_lite0_unet", "light_unet"])
def test_nets_of_the_catalog_have_them(arch):
    core = skeleton(arch, in_channels=1, out_channels=1)
    assert deep_places(core, 1)[0].startswith("decoder.")


def test_too_many_levels_are_refused():
    core = skeleton("thin_unet", in_channels=1, out_channels=1, width=3, blocks=2)
    with pytest.raises(RecipeError, match="wants 2 levels, and the decoder has 1 block before its last"):
        deep_places(core, 2)
    with pytest.raises(RecipeError, match="no blocks called encoder and decoder"):
        deep_places(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 3)), 1)


def test_a_teacher_beside_it_is_refused():
    stage = {"name": "a", "net": {"arch": "thin_unet"}, "deep_supervision": {}}
    assert StageSection.model_validate(stage).deep_supervision == DeepSupervisionSection()
    for more in ({"teacher": {"run": "x"}, "distil": {}}, {"loss": None, "teacher": {"run": "x"}, "hints": {}}):
        with pytest.raises(ValidationError, match="learns from masks alone"):
            StageSection.model_validate(stage | more)
