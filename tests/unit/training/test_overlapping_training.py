"""Training on planes of classes that may overlap: every part is what slow loops, or single classes, give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketseg.data import BoundedCache, Case, Cases, MaskCoding
from pocketseg.data.case import ArraySource
from pocketseg.errors import TrainingError
from pocketseg.pipeline import Pipeline
from pocketseg.recipes.schema import AugmentSection, SamplingSection
from pocketseg.training.augment import augment, draw, sample_generator
from pocketseg.training.losses import segmentation_loss
from pocketseg.training.mixing import Gift, opacity, replace
from pocketseg.training.own_augment import OwnAugmentation
from pocketseg.training.pixel_weights import border_weights
from pocketseg.training.samples import Samples


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(0, 2, (2, 3, 6, 5)), dtype=torch.float32)
    return logits, torch.tensor(rng.random((2, 3, 6, 5)) < 0.4).to(torch.uint8)


def test_cross_entropy_is_the_mean_of_the_binary_ones(batch):
    logits, planes = batch
    total = 0.0
    for index in np.ndindex(*logits.shape):
        p = 1 / (1 + np.exp(-float(logits[index])))
        total -= np.log(p if planes[index] else 1 - p)
    loss, parts = segmentation_loss(logits, planes, bce=2)
    assert float(parts["bce"]) == pytest.approx(total / logits.numel(), rel=1e-5)
    assert float(loss) == pytest.approx(2 * total / logits.numel(), rel=1e-5)


def test_every_part_is_that_of_single_classes(batch):
    """The mean over classes, but for the variation, which is added up."""
    logits, planes = batch
    names = {"bce": 1, "dice": 1, "batch_dice": 1, "boundary": 1, "tv": 1}
    weights = torch.rand(2, 6, 5)
    _, parts = segmentation_loss(logits, planes, **names, pixel_weights=weights)
    single = [
        segmentation_loss(logits[:, k : k + 1], planes[:, k], **names, pixel_weights=weights)[1] for k in range(3)
    ]
    for name, value in parts.items():
        scale = 1 if name == "tv" else 3
        assert float(value) == pytest.approx(sum(float(each[name]) for each in single) / scale, rel=1e-5), name


def test_soft_masks_of_zeros_and_ones_are_hard_ones(batch):
    logits, planes = batch
    hard = segmentation_loss(logits, planes, bce=1, dice=1)[0]
    soft = segmentation_loss(logits, planes, bce=1, dice=1, shares=planes.float())[0]
    assert float(hard) == pytest.approx(float(soft), rel=1e-6)


def test_the_same_logits_without_planes_are_a_softmax(batch):
    logits, planes = batch
    exclusive = segmentation_loss(logits, planes[:, 0], ce=1)[0]
    expected = torch.nn.functional.cross_entropy(logits, planes[:, 0].long())
    assert float(exclusive) == pytest.approx(float(expected), rel=1e-6)


def test_planes_are_moved_as_masks_of_single_classes(batch):
    _, planes = batch
    options = AugmentSection(flip=["horizontal"], affine={}, elastic={})
    images = torch.rand(2, 1, 6, 5)
    drawn = [draw(sample_generator(0, at), options, 6, 5) for at in range(2)]
    _, moved = augment(images, planes, drawn, options)
    assert moved.dtype == torch.uint8 and moved.shape == planes.shape
    for plane in range(3):
        torch.testing.assert_close(moved[:, plane], augment(images, planes[:, plane], drawn, options)[1])


def test_objects_of_all_planes_are_pasted(batch):
    _, planes = batch
    planes = planes[0]
    gift = Gift(Case("a", None, ()), None)
    union = (planes.amax(0) > 0).to(torch.uint8)
    torch.testing.assert_close(opacity(gift, planes), opacity(gift, union))
    box = opacity(Gift(Case("a", None, ()), (1, 3, 0, 2)), planes)
    assert box.shape == (6, 5) and box.sum() == 4
    taken = replace(torch.zeros_like(planes), planes, box)
    assert taken[:, 1:3, :2].equal(planes[:, 1:3, :2]) and taken.sum() == planes[:, 1:3, :2].sum()


def samples(planes, size=(8, 8), **options):
    cases = Cases(None, "npz", [], MaskCoding(classes=2, multilabel=True))
    names = [f"c{at}" for at in range(len(planes))]
    listed = [Case(name, ArraySource(None, None, at), (ArraySource(None, None, at),)) for at, name in enumerate(names)]
    for name, mask in zip(names, planes, strict=True):
        image = np.zeros(mask.shape[1:], np.uint8)
        cases.cache.get(("image", name), lambda image=image: (image,))
        cases.cache.get(("mask", name), lambda mask=mask: (mask, np.array([1])))
    pipeline = Pipeline(size, classes=("a", "b"), multilabel=True, fit=options.pop("fit", "resize"))
    return Samples(cases, listed, pipeline, 0, BoundedCache(2**24), **options), listed


def test_which_classes_a_sample_shows():
    planes = np.zeros((4, 2, 8, 8), np.uint8)
    planes[1, 0, :4] = planes[2, :, 2:5] = planes[3, 1] = 1
    found, listed = samples(planes)
    assert found.classes == {"c0": (0,), "c1": (0, 1), "c2": (0, 1, 2), "c3": (2,)}
    assert [case.name for case in found.with_objects] == ["c1", "c2", "c3"]
    images, masks = found.batch(listed, 0, 0)
    assert images.shape == (4, 1, 8, 8) and masks.shape == (4, 2, 8, 8)
    np.testing.assert_array_equal(masks.numpy(), planes)
    np.testing.assert_array_equal(found.shares(listed, 0, 0).numpy(), planes)


def test_windows_are_laid_over_pixels_of_a_class():
    planes = np.zeros((1, 2, 40, 30), np.uint8)
    planes[0, 1, 37, 28] = 1
    found, listed = samples(planes, fit="tile", sampling=SamplingSection(foreground=1.0, windows="area"))
    assert found.windows(listed[0]) == 19  # 40 · 30 / 64
    for epoch in range(5):
        _, masks = found.batch(listed, epoch, 0)
        assert masks.shape == (1, 2, 8, 8) and masks[0, 1].sum() == 1 and masks[0, 0].sum() == 0


def test_a_function_of_the_users_sees_axes_as_those_of_the_image():
    planes = (np.random.default_rng(0).random((2, 6, 5)) < 0.5).astype(np.uint8)
    image = np.random.default_rng(1).random((1, 6, 5)).astype(np.float32)

    def mirror(pixels, mask, _):
        assert mask.shape == (6, 5, 2)
        return np.flip(pixels, 1), np.flip(mask, 1)

    changed, mask = OwnAugmentation("mirror", mirror, 2)(image, planes, np.random.default_rng(0), "c")
    np.testing.assert_array_equal(mask, planes[:, :, ::-1])
    np.testing.assert_allclose(changed, image[:, :, ::-1], atol=1e-6)
    with pytest.raises(TrainingError, match="not 0 to 1"):
        OwnAugmentation("double", lambda i, m, _: (i, m * 2), 2)(image, planes, np.random.default_rng(0), "c")


def test_borders_between_overlapping_objects_are_refused():
    with pytest.raises(ValueError, match="no borders"):
        border_weights(np.ones((2, 5, 5), np.uint8))
