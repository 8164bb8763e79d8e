"""Samples that take a part of another one: rectangles (CutMix), and objects pasted where there are none.

Who gives and what is drawn for each sample by itself, as everything of augmentation is, and only training cases give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketseg.data import Case
from pocketseg.recipes.schema import AugmentSection

# Pixels of the net's grid around a pasted object in which it fades into the image.
BLEND = 3
# Rows top to bottom, columns left to right.
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Gift:
    """What a sample takes: a rectangle of a case's sample, or its objects where `box` is None."""

    giver: Case
    box: Box | None


def draw_gift(
    rng: np.random.Generator, options: AugmentSection, givers: Sequence[Case], with_objects: Sequence[Case], *,
    empty: bool, size: tuple[int, int],
) -> Gift | None:  # fmt: skip
    """What a sample takes of another one, or None.

    Args:
        rng: of the sample.
        options: the recipe's.
        givers: the cases that may give a rectangle.
        with_objects: those of them that have objects to paste.
        empty: whether the sample has no object.
        size: (height, width) of a sample.
    """
    paste, cut = rng.random(2)
    if empty and with_objects and paste < options.paste:
        return Gift(with_objects[int(rng.integers(len(with_objects)))], None)
    if cut < options.cutmix:
        return Gift(givers[int(rng.integers(len(givers)))], _box(rng, size))
    return None


def _box(rng: np.random.Generator, size: tuple[int, int]) -> Box:
    """A rectangle of the image's shape with a uniform share of its area, around a random place, cut at the border.

    As Yun et al. (2019) draw it.
    """
    share = math.sqrt(rng.random())
    (top, bottom), (left, right) = (
        (max(0, round(middle - share * side / 2)), min(side, round(middle + share * side / 2)))
        for middle, side in zip(rng.random(2) * size, size, strict=True)
    )
    return top, bottom, left, right


def opacity(gift: Gift, mask: Tensor) -> Tensor:
    """How much of each pixel a sample takes, (h, w) from 0 to 1.

    A rectangle is taken as it is. Objects are taken whole, with a rim that fades out over `BLEND` pixels: at a distance
    of d pixels (in steps to any of the 8 neighbors) it is 1 − d / (BLEND + 1).

    Args:
        gift: what is taken.
        mask: of the sample that gives, class indices (h, w) or planes (k, h, w).
    """
    if gift.box is not None:
        top, bottom, left, right = gift.box
        taken = torch.zeros(mask.shape[-2:], device=mask.device)
        taken[top:bottom, left:right] = 1
        return taken
    objects = (mask if mask.ndim == 2 else mask.amax(0)).gt(0).float()[None]
    grown = [F.max_pool2d(objects, 2 * steps + 1, 1, steps) for steps in range(BLEND + 1)]
    return torch.stack(grown).mean(0)[0]


def blend(planes: Tensor, given: Tensor, taken: Tensor) -> Tensor:
    """Images or maps (k, h, w) with a part of others, by opacity (h, w)."""
    return torch.lerp(planes, given, taken)


def replace(labels: Tensor, given: Tensor, taken: Tensor) -> Tensor:
    """Masks ([k, ]h, w), or shares of pixels (k, h, w), with those of another sample wherever it is taken at all."""
    return torch.where(taken > 0, given, labels)
