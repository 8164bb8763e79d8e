"""What a plan needs to know of a data set: plain numbers, so that a plan can be made of any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shape = tuple[int, int]

# Of all objects, the share that may be smaller than what counts as the smallest: specks of a drawing.
SPECKS = 0.05


@dataclass(frozen=True)
class ObjectSize:
    """An object of a mask: the diameter of a disk of its area, in pixels and as a share of the image's long side."""

    diameter: float
    share: float


@dataclass(frozen=True)
class DataSummary:
    """A data set in numbers. What pixels tell comes from cases that are not held out for the test.

    Attributes:
        cases, groups: how many; groups are patients, volumes, or clusters of near-duplicates.
        grouped: whether somebody said which cases belong together.
        parts: whether the data came divided into train and test.
        near_duplicates: images that were alike in another group, and clusters of them, which were made one group each.
        classes: names of the foreground classes.
        mask: what `data.mask` says of how they are stored.
        coding: why classes and masks are read so.
        channels: numbers of channels that images have.
        contrasts: whether these are images of their own.
        colored: images in color, of `looked`.
        looked: cases whose pixels were looked at.
        shapes: (height, width) of these images.
        spacings: distinct pixel sizes (row, column) in mm; empty where unknown.
        objects: of all masks.
        empty: masks without foreground.
        shares: of each class, its share of all pixels.
        values: NumPy's name of each type of image -> its lowest and highest value.
        volumes: whether the images are slices of volumes.
        one_spacing: keys of `data` that bring all images to one pixel size, where that is possible and needed.
    """

    cases: int
    groups: int
    classes: tuple[str, ...] = ("foreground",)
    grouped: bool = False
    parts: bool = False
    near_duplicates: tuple[int, int] = (0, 0)
    mask: Mapping[str, Any] = field(default_factory=dict)
    coding: str = "masks hold one foreground value"
    channels: tuple[int, ...] = (1,)
    contrasts: bool = False
    colored: int = 0
    looked: int = 0
    shapes: tuple[Shape, ...] = ()
    spacings: tuple[tuple[float, float], ...] = ()
    objects: tuple[ObjectSize, ...] = ()
    empty: int = 0
    shares: tuple[float, ...] = ()
    values: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    volumes: bool = False
    one_spacing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def usual_shape(self) -> Shape:
        """The median height and width."""
        height, width = np.median(np.array(self.shapes), axis=0)
        return int(height), int(width)

    @property
    def one_shape(self) -> bool:
        return len(set(self.shapes)) == 1

    @property
    def aspects(self) -> tuple[float, float]:
        """The smallest and the largest ratio of width to height."""
        ratios = [width / height for height, width in self.shapes]
        return min(ratios), max(ratios)

    def smallest(self) -> ObjectSize | None:
        """The size that all but some specks reach; None without objects."""
        if not self.objects:
            return None
        sizes = np.array([(each.diameter, each.share) for each in self.objects])
        diameter, share = np.quantile(sizes, SPECKS, axis=0)
        return ObjectSize(float(diameter), float(share))

    def largest(self) -> float:
        """The diameter in pixels that nearly all objects stay below."""
        return float(np.quantile([each.diameter for each in self.objects], 1 - SPECKS)) if self.objects else 0.0
