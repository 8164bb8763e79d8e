"""Soft masks go the way of an image that is 1 in a class and 0 elsewhere: to the grid, into windows, moved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from pocketseg.data import Cases
from pocketseg.data.masks import MaskCoding
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.recipes.schema import AugmentSection
from pocketseg.training.augment import augment, draw, move_maps, sample_generator
from pocketseg.training.samples import Samples


@pytest.fixture
def drawn_masks(tmp_path) -> Cases:
    """Two cases of 40×56 and 33×47 whose images are their masks; class 1 is stored as 255, or 1 and 2 as 1 and 2."""
    rng = np.random.default_rng(2)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    for name, size in (("a", (40, 56)), ("b", (33, 47))):
        mask = np.kron(rng.random((size[0] // 4 + 1, size[1] // 4 + 1)) < 0.4, np.ones((4, 4), bool))
        pixels = (255 * mask[: size[0], : size[1]]).astype(np.uint8)
        for folder in ("images", "masks"):
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    return Cases.open(tmp_path, coding=MaskCoding(classes=1))


def samples_of(cases: Cases, fit: str, size: tuple[int, int], **options) -> Samples:
    pipeline = Pipeline(size, fit=fit, normalization=Normalization("unit-range"), **options)
    return Samples.of(cases, list(cases), pipeline, seed=4)


@pytest.mark.parametrize(("fit", "size"), [
    ("resize", (16, 24)), ("resize", (64, 48)), ("letterbox", (24, 24)), ("pad", (64, 64)), ("crop", (24, 24)),
    ("tile", (16, 24)),
])  # fmt: skip
def test_the_geometry_is_that_of_the_image(drawn_masks, fit, size):
    samples = samples_of(drawn_masks, fit, size)
    images, masks = samples.batch(samples.part, 1, 5)
    shares = samples.shares(samples.part, 1, 5)
    torch.testing.assert_close(shares, images, rtol=0, atol=1e-6)
    assert shares.shape == (2, 1, *size)
    # The hard mask is the class that covers most.
    clear = (shares[:, 0] - 0.5).abs() > 1e-6
    assert torch.equal(masks[clear], (shares[:, 0] > 0.5)[clear].to(masks.dtype)) and clear.float().mean() > 0.95
    assert 0.1 < masks.float().mean() < 0.7
    if fit in ("resize", "letterbox"):
        assert ((shares > 0.01) & (shares < 0.99)).float().mean() > 0.05


def test_the_share_of_a_pixel_is_the_area(drawn_masks):
    """Of all pixels together to the last digits: nothing is lost where a mask is made smaller."""
    samples = samples_of(drawn_masks, "resize", (8, 8))
    for case in samples.part:
        found = samples.shares([case], 0, 0)
        assert found.mean().item() == pytest.approx((drawn_masks.mask(case) > 0).mean(), abs=0.01)


def test_augmentation_moves_them_as_it_moves_the_image(drawn_masks):
    samples = samples_of(drawn_masks, "resize", (16, 24))
    options = AugmentSection.model_validate({
        "flip": ["horizontal"], "affine": {"degrees": 30}, "elastic": {"probability": 1}, "zoom": (0.7, 1.3),
    })  # fmt: skip
    images, masks = samples.batch(samples.part, 0, 0)
    drawn = [draw(sample_generator(3, index), options, 16, 24) for index in range(2)]
    moved, _ = augment(images, masks, drawn, options)
    torch.testing.assert_close(move_maps(samples.shares(samples.part, 0, 0), drawn, options), moved, rtol=0, atol=1e-5)
    assert (moved - images).abs().mean() > 0.1


def test_every_class_has_its_own(discs):
    cases = discs(6, (40, 40), classes=3)
    pipeline = Pipeline((13, 17), classes=("a", "b", "c"))
    samples = Samples.of(cases, list(cases), pipeline, seed=0)
    shares = samples.shares(samples.part, 0, 0)
    assert shares.shape == (6, 3, 13, 17)
    for at, case in enumerate(cases):
        mask = cases.mask(case)
        assert [float(plane.mean()) for plane in shares[at]] == pytest.approx(
            [(mask == index).mean() for index in (1, 2, 3)], abs=0.01
        )
