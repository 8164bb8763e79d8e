"""Masks whose regions have names of their own: segments of 3D Slicer, structures of radiotherapy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.volumes.base import VolumeFile
from pocketseg.data.volumes.grid import Pixels

WHITE = 255


@dataclass(frozen=True, eq=False, kw_only=True)
class NamedRegions(VolumeFile):
    """A mask on the grid of its image, of regions that may overlap.

    Attributes:
        names: of the regions.
        values: of the regions that are classes, the value that each is painted with; None until somebody says so.
        planes: of regions that are classes and may overlap, how many classes there are; `values` are their indices, and
            each class is a channel (i, j, k, planes) of 0 and 255.
        covered: how many voxels of one value another one covers, once it was painted.
    """

    # Whether the file itself stores a value for each region.
    numbered: ClassVar[bool] = False

    names: tuple[str, ...]
    values: Mapping[str, int] | None = None
    covered: list[int] = field(default_factory=list, repr=False)
    planes: int = 0

    def valued(self, values: Mapping[str, int], planes: int = 0) -> Self:
        """The same, painted by these values; regions without one are background."""
        return replace(self, values=values, covered=[], planes=planes)

    def voxels(self) -> Pixels:
        """The regions painted in the order of `values`, each over those before it; as they are stored where none are.

        Raises:
            DataError: a region that cannot be painted, or values that the file does not store and nobody gave.
        """
        if self.values is None:
            return self.as_stored()
        order = [name for name in self.values if name in self.names]
        if self.planes:
            channels = np.zeros((*self.grid.shape, self.planes), np.uint8)
            for name, inside in zip(order, self.inside(order), strict=True):
                channels[inside, self.values[name] - 1] = WHITE
            return channels
        # True and false say the same as any other value of a single class that masks beside it may store.
        highest = max(self.values.values(), default=1)
        painted = np.zeros(self.grid.shape, bool if highest == 1 else np.min_scalar_type(highest))
        covered = 0
        for name, inside in zip(order, self.inside(order), strict=True):
            under = painted[inside]
            covered += int(np.count_nonzero((under != 0) & (under != self.values[name])))
            painted[inside] = self.values[name]
        self.covered[:] = [covered]
        return painted

    @abstractmethod
    def inside(self, names: Sequence[str]) -> Iterator[NDArray[np.bool_]]:
        """Which voxels (i, j, k) lie inside each of some regions."""

    @abstractmethod
    def as_stored(self) -> Pixels:
        """(i, j, k) of the values that the file stores.

        Raises:
            DataError: it stores none, or several for a voxel.
        """
