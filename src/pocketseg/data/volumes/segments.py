"""Segmentations of 3D Slicer (`.seg.nrrd`): segments with names, whose labels lie in one or several layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.volumes.base import VolumeFile, whole_labels
from pocketseg.data.volumes.grid import Pixels, difference, offset
from pocketseg.data.volumes.regions import NamedRegions
from pocketseg.errors import DataError

SHOWN = 10


@dataclass(frozen=True)
class Segment:
    """A segment: its name, the label of its voxels, and the layer in which they have it."""

    name: str
    label: int
    layer: int


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentFile(NamedRegions):
    """A segmentation with named segments.

    Attributes:
        labels: the volume of labels, whose channels are layers.
        segments: all of them.
    """

    numbered = True

    labels: VolumeFile
    segments: tuple[Segment, ...]

    @classmethod
    def of(cls, labels: VolumeFile, segments: Sequence[Segment], images: VolumeFile | None) -> SegmentFile:
        """A segmentation on its own grid; on that of its images where it covers a part of their voxels.

        Raises:
            DataError: two segments with one label in a layer, or a layer that is not there.
        """
        layers = labels.contrasts or 1
        twice = [place for place, count in Counter((each.label, each.layer) for each in segments).items() if count > 1]
        same = sorted({each.name for each in segments if (each.label, each.layer) in twice})
        if len(same) > 1:
            what = f"gives the segments {', '.join(same[:SHOWN])} one label"
            raise DataError(str(labels.path), what, "save the segmentation again")
        away = [each.name for each in segments if not 0 <= each.layer < layers]
        if away:
            what = f"has no layer for its segments {', '.join(away[:SHOWN])}"
            raise DataError(str(labels.path), what, "save the segmentation again")
        grid = labels.grid
        if images is not None and difference(images.grid, grid) and offset(images.grid, grid) is not None:
            grid = images.grid
        names = tuple(dict.fromkeys(each.name for each in segments))
        return cls(labels.path, labels.files, grid, names=names, labels=labels, segments=tuple(segments))

    def inside(self, names: Sequence[str]) -> Iterator[NDArray[np.bool_]]:
        layers = self._layers()
        for name in names:
            found = np.zeros(self.grid.shape, bool)
            for each in self.segments:
                if each.name == name:
                    found |= layers[each.layer] == each.label
            yield found

    def as_stored(self) -> Pixels:
        """The labels; those of several layers in one volume, where no two segments share a label or a voxel."""
        layers = self._layers()
        if len(layers) == 1:
            return layers[0]
        labels = [each.label for each in self.segments]
        whole = np.zeros_like(layers[0])
        if len(set(labels)) < len(labels) or np.count_nonzero(layers) > np.count_nonzero(np.any(layers, axis=0)):
            what = f"has the segments {', '.join(self.names[:SHOWN])} in layers, where labels or voxels are shared"
            raise DataError(str(self.path), what, "name the classes as the segments are called (data.classes)")
        for layer in layers:
            np.copyto(whole, layer, where=layer != 0)
        return whole

    def _layers(self) -> list[Pixels]:
        """Each layer's labels (i, j, k) on the grid.

        Raises:
            DataError: labels that are not whole, or that no segment has, or that lie outside of the grid.
        """
        values = whole_labels(self.labels.voxels())
        if values.dtype.kind not in "ui":
            raise DataError(str(self.path), "has labels that are not whole numbers", "save the segmentation again")
        layers = [values] if values.ndim == 3 else list(np.moveaxis(values, -1, 0))
        for number, layer in enumerate(layers):
            known = [each.label for each in self.segments if each.layer == number]
            strange = np.setdiff1d(np.unique(layer), [0, *known])
            if len(strange):
                shown = ", ".join(map(str, strange[:SHOWN]))
                what = f"holds the labels {shown}, which are none of its segments {', '.join(self.names[:SHOWN])}"
                raise DataError(str(self.path), what, "save the segmentation again")
        return [self._placed(layer) for layer in layers]

    def _placed(self, layer: Pixels) -> Pixels:
        """Labels of a part of the grid, with background around them."""
        begin = None if self.grid is self.labels.grid else offset(self.grid, self.labels.grid)
        if begin is None:
            return layer
        part = self.labels.grid.canonical(layer)
        whole = np.zeros(self.grid.canonical_shape, layer.dtype)
        first = [max(0, start) for start in begin]
        last = [min(side, start + size) for side, start, size in zip(whole.shape, begin, part.shape, strict=True)]
        there = tuple(slice(low, max(low, high)) for low, high in zip(first, last, strict=True))
        here = tuple(slice(at.start - start, at.stop - start) for at, start in zip(there, begin, strict=True))
        whole[there] = part[here]
        if np.count_nonzero(whole) < np.count_nonzero(part):
            raise DataError(str(self.path), "reaches out of its image", "export it on the grid of the image")
        return self.grid.stored(whole)
