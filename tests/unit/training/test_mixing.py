"""Parts of other samples: what is drawn, how it is blended, who gives."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pocketseg.recipes.schema import AugmentSection
from pocketseg.training.augment import sample_generator
from pocketseg.training.mixing import BLEND, Gift, blend, draw_gift, opacity, replace

CASES = [SimpleNamespace(name=f"case{index}") for index in range(5)]


def gifts(options: AugmentSection, count: int, *, empty: bool, with_objects=CASES[3:], size=(20, 30)):
    return [
        draw_gift(sample_generator(9, index), options, CASES, with_objects, empty=empty, size=size)
        for index in range(count)
    ]


def slow_opacity(mask: np.ndarray) -> np.ndarray:
    """1 − d / (BLEND + 1), d the steps to the nearest object, pixel by pixel."""
    objects = np.argwhere(mask > 0)
    out = np.zeros(mask.shape)
    for place in np.ndindex(*mask.shape):
        steps = min((np.abs(objects - place).max(1)), default=99)
        out[place] = max(0.0, 1 - steps / (BLEND + 1))
    return out


@pytest.mark.parametrize("seed", range(3))
def test_objects_fade_into_the_image(seed):
    rng = np.random.default_rng(seed)
    mask = (rng.random((12, 15)) > 0.96).astype(np.uint8) * 2
    found = opacity(Gift(CASES[0], None), torch.from_numpy(mask))
    np.testing.assert_allclose(found.numpy(), slow_opacity(mask), atol=1e-6)
    assert 0 < (found > 0).sum() < mask.size


def test_a_rectangle_is_taken_as_it_is():
    found = opacity(Gift(CASES[0], (2, 5, 1, 4)), torch.ones(8, 8, dtype=torch.uint8))
    expected = np.zeros((8, 8))
    expected[2:5, 1:4] = 1
    assert np.array_equal(found, expected)


def test_blending_and_replacing():
    rng = np.random.default_rng(1)
    image, other = (torch.from_numpy(rng.normal(size=(3, 6, 7)).astype(np.float32)) for _ in range(2))
    taken = torch.from_numpy(rng.choice([0, 0.25, 1], (6, 7)).astype(np.float32))
    a = taken.numpy()
    np.testing.assert_allclose(blend(image, other, taken), (1 - a) * image.numpy() + a * other.numpy(), atol=1e-6)
    mask, given = (torch.from_numpy(rng.integers(0, 3, (6, 7)).astype(np.uint8)) for _ in range(2))
    assert np.array_equal(replace(mask, given, taken), np.where(a > 0, given, mask))


def test_rectangles_have_a_uniform_share_of_the_area_where_nothing_is_cut():
    areas, whole = [], 0
    for gift in gifts(AugmentSection(cutmix=1), 600, empty=False, size=(200, 300)):
        assert gift is not None and gift.box is not None
        top, bottom, left, right = gift.box
        assert 0 <= top <= bottom <= 200 and 0 <= left <= right <= 300
        if top and left and bottom < 200 and right < 300:
            areas.append((bottom - top) * (right - left) / 60_000)
            assert (right - left) / (bottom - top + 1e-9) == pytest.approx(1.5, abs=3 / (bottom - top + 1e-9))
        whole += 1
    assert whole == 600 and len(areas) > 60 and max(areas) > 0.4
    assert {gift.giver.name for gift in gifts(AugmentSection(cutmix=1), 60, empty=True)} == {c.name for c in CASES}


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.3, 60, 120), (1.0, 300, 300)])
def test_how_often(probability, low, high):
    for key, empty in (("cutmix", False), ("paste", True)):
        found = gifts(AugmentSection.model_validate({key: probability}), 300, empty=empty)
        assert low <= sum(gift is not None for gift in found) <= high


def test_objects_are_pasted_where_there_are_none_by_those_who_have_some():
    both = AugmentSection(paste=1, cutmix=1)
    pasted = gifts(both, 40, empty=True)
    assert all(gift.box is None for gift in pasted) and {gift.giver.name for gift in pasted} == {"case3", "case4"}
    assert all(gift.box is not None for gift in gifts(both, 20, empty=False))
    assert gifts(AugmentSection(paste=1), 20, empty=True, with_objects=[]) == [None] * 20
