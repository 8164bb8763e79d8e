"""Augmentation by a function of the user's."""

from __future__ import annotations

import numpy as np
import pytest

from pocketseg.errors import RecipeError, TrainingError
from pocketseg.training.own_augment import OwnAugmentation, own_augmentation

IMAGE = np.linspace(-2, 3, 24, dtype=np.float32).reshape(2, 3, 4)
MASK = np.array([[0, 1, 2, 0]] * 3, np.uint8)


def through(function, classes=2):
    rng = np.random.default_rng(0)
    return OwnAugmentation("mine:f", function, classes)(IMAGE, MASK, rng, "a.png")


def test_the_function_sees_zero_to_one_and_its_answer_is_stretched_back():
    seen = {}

    def mirror(image, mask, rng):
        seen.update(image=image.copy(), mask=mask.copy())
        mask[:] = mask[:, ::-1]  # in place: the original stays
        return image[:, ::-1], mask

    image, mask = through(mirror)
    assert seen["image"].shape == (3, 4, 2) and seen["image"].dtype == np.float32
    assert (seen["image"].min(), seen["image"].max()) == (0, 1)
    assert np.allclose(image, IMAGE[:, :, ::-1], atol=1e-6) and image.flags.c_contiguous
    assert np.array_equal(mask, np.array([[0, 2, 1, 0]] * 3)) and MASK[0, 1] == 1


def raises(image, mask, rng):
    raise ValueError("no")


@pytest.mark.whole
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raises, r"fails \(ValueError: no\)"),
        (lambda image, mask, rng: image, "fails"),
        (lambda image, mask, rng: (image[:2], mask), r"gives an image float32 \(2, 4, 2\), not float32 \(3, 4, 2\)"),
        (lambda image, mask, rng: (image, mask[:, :2]), r"gives a mask uint8 \(3, 2\)"),
        (lambda image, mask, rng: (image, mask / 2), "gives a mask float64"),
        (lambda image, mask, rng: (image * np.nan, mask), "gives an image with NaN or infinite"),
        (lambda image, mask, rng: (image, mask * 2), "gives a mask with the values 0 to 4, not 0 to 2"),
    ],
)
def test_what_a_function_may_not_give(function, said):
    with pytest.raises(TrainingError, match=f"the augmentation mine:f, for a.png: {said}"):
        through(function)


def test_names_and_what_is_refused():
    found = own_augmentation(None, raises, 1)
    assert found is not None and found.name == f"{__name__}:raises"
    assert own_augmentation(None, None, 1) is None
    with pytest.raises(RecipeError, match="and a function is given too"):
        own_augmentation("file:name", raises, 1)
    with pytest.raises(RecipeError, match="is int, not a function"):
        own_augmentation(None, 3, 1)
    with pytest.raises(RecipeError, match=r"give the file with --allow-code file\.py"):
        own_augmentation("file:name", None, 1)
