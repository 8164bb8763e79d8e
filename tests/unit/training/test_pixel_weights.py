"""Weights of pixels: the formula against one written pixel by pixel, and their way into the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pocketseg.recipes.schema import LossSection
from pocketseg.training.losses import segmentation_loss
from pocketseg.training.pixel_weights import FLOOR, GAP, border_weights, skeleton


def bars(apart: int) -> np.ndarray:
    """Two upright bars, 11 wide, `apart` pixels between them."""
    mask = np.zeros((60, 120), np.uint8)
    mask[10:50, 30:41] = 1
    mask[10:50, 41 + apart : 52 + apart] = 1
    return mask


def test_a_gap_between_objects_weighs_more_than_their_insides():
    mask = bars(5)
    weights = border_weights(mask)
    gap, inside = weights[20:40, 41:46], weights[20:40, 31:40]
    assert gap.max() == 1 and gap.max() > inside.max() > inside.min() > FLOOR
    assert weights[20:40, 43].min() == 1  # its middle is its skeleton
    assert weights[:5].max() == weights[:, 110:].max() == np.float32(FLOOR)


@pytest.mark.parametrize("apart", [GAP - 2, GAP + 6])
def test_objects_far_apart_have_no_border(apart):
    between = border_weights(bars(apart))[30, 41 : 41 + apart]
    assert (between.max() > FLOOR) == (apart < GAP)


def test_the_numbers_are_those_of_the_formula():
    mask = bars(5)
    weights = border_weights(mask)
    bones = np.argwhere(skeleton(_eroded(mask > 0)))
    row, column = 30, 33
    nearest = min(np.hypot(row - y, column - x) for y, x in bones)
    border = np.zeros_like(mask, bool)
    border[10:50, 41:46] = True  # what a closing adds between two straight bars, but for its rounded ends
    share = skeleton(border).sum() / len(bones)
    assert weights[row, column] == pytest.approx(share / (1 + nearest) ** 2, rel=0.15)
    assert weights[30, 42] == pytest.approx(1 / (1 + 1) ** 2)


def _eroded(shape: np.ndarray) -> np.ndarray:
    out = shape.copy()
    out[1:] &= shape[:-1]
    out[:-1] &= shape[1:]
    out[:, 1:] &= shape[:, :-1]
    out[:, :-1] &= shape[:, 1:]
    return out


@pytest.mark.parametrize("mask", [np.zeros((9, 9), np.uint8), np.ones((9, 9), np.uint8), np.eye(9, dtype=np.uint8)])
def test_empty_full_and_thin_masks_have_weights_too(mask):
    weights = border_weights(mask)
    assert weights.shape == mask.shape and weights.dtype == np.float32
    assert np.isfinite(weights).all() and weights.min() >= np.float32(FLOOR) and weights.max() <= 1


def test_an_object_at_the_rim_is_not_eroded_by_the_closing():
    mask = np.zeros((40, 40), np.uint8)
    mask[:, :8] = mask[:, 12:20] = 1
    assert border_weights(mask)[0, 9:11].min() > FLOOR


@pytest.mark.parametrize("classes", [1, 2])
def test_pixel_weights_multiply_the_cross_entropy_and_nothing_else(classes):
    draw = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 1 if classes == 1 else 3, 4, 5, generator=draw)
    target = torch.randint(0, classes + 1, (2, 4, 5), generator=draw)
    pixels = torch.rand(2, 4, 5, generator=draw)
    ce = "bce" if classes == 1 else "ce"
    options = LossSection(**{ce: 1}, dice=1, class_weights=[1.0, 2.0, 3.0][: classes + 1], pixel_weights="borders")
    _, parts = segmentation_loss(logits, target, **options.arguments(), pixel_weights=pixels)
    if classes == 1:
        each = F.binary_cross_entropy_with_logits(logits[:, 0], target.float(), reduction="none")
    else:
        each = F.cross_entropy(logits, target, reduction="none")
    each = each * torch.tensor(options.class_weights)[target]
    torch.testing.assert_close(parts[ce], (each * pixels).mean())
    assert parts["dice"] == segmentation_loss(logits, target, **options.arguments())[1]["dice"]
