"""Where the voxels of a volume lie, and the way from stored order to slices and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.pipeline.reading import Axis

Pixels = NDArray[Any]
Triple = tuple[int, int, int]

# Canonical axes run to the right, to the front and to the head (RAS), as in NIfTI.
PLANES = ("sagittal", "coronal", "axial")
# Axes whose voxel sizes differ by less count as equally fine.
SAME_SIZE = 1.01


@dataclass(frozen=True, eq=False)
class Grid:
    """Shape and place of a volume as it is stored.

    A slice is shown as radiologists see it: patient's left on the right, front or head on top.

    Attributes:
        shape: (i, j, k).
        spacing_mm: size of a voxel along i, j, k; None where the file does not say.
        affine: (4, 4), voxel index to millimeters in RAS; None where the file does not say: i then runs to the left,
            j down and k through the slices, so slices are the stored ones.
    """

    shape: Triple
    spacing_mm: tuple[float, float, float] | None = None
    affine: NDArray[np.float64] | None = None

    @cached_property
    def _orientation(self) -> tuple[Triple, tuple[bool, bool, bool]]:
        """Stored axis of each canonical axis, and whether it runs against it.

        Of the six ways to pair axes the one whose directions agree best.
        """
        if self.affine is None:
            return (0, 1, 2), (True, True, False)
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        order = max(permutations(range(3)), key=lambda axes: np.abs(directions[range(3), axes]).sum())
        flips = directions[range(3), order] < 0
        return (order[0], order[1], order[2]), (bool(flips[0]), bool(flips[1]), bool(flips[2]))

    @property
    def order(self) -> Triple:
        return self._orientation[0]

    @property
    def flips(self) -> tuple[bool, bool, bool]:
        return self._orientation[1]

    @property
    def canonical_shape(self) -> Triple:
        i, j, k = (self.shape[axis] for axis in self.order)
        return i, j, k

    @cached_property
    def canonical_affine(self) -> NDArray[np.float64] | None:
        """Canonical voxel index to millimeters."""
        if self.affine is None:
            return None
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for axis, (stored, flip) in enumerate(zip(self.order, self.flips, strict=True)):
            turn[stored, axis] = -1 if flip else 1
            turn[stored, 3] = self.shape[stored] - 1 if flip else 0
        return self.affine @ turn

    def canonical(self, voxels: Pixels) -> Pixels:
        """A view of stored voxels (i, j, k) or (i, j, k, c) in canonical order."""
        turned = voxels.transpose(*self.order, *range(3, voxels.ndim))
        return turned[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]

    def stored(self, voxels: Pixels) -> Pixels:
        """The way back of `canonical`."""
        turned = voxels[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return turned.transpose(*np.argsort(self.order), *range(3, voxels.ndim))

    def axis(self, wanted: Axis) -> int:
        """The canonical axis that slices are cut across."""
        if wanted != "auto":
            return PLANES.index(wanted)
        stored = 2
        if 1 in self.shape:
            stored = 2 - self.shape[::-1].index(1)
        elif self.spacing_mm is not None and max(self.spacing_mm) > SAME_SIZE * self.spacing_mm[2]:
            stored = int(np.argmax(self.spacing_mm))
        return self.order.index(stored)

    def plane_spacing(self, axis: int) -> tuple[float, float] | None:
        """(row, column) size in millimeters of a slice's pixels."""
        if self.spacing_mm is None:
            return None
        column, row = (self.spacing_mm[stored] for a, stored in enumerate(self.order) if a != axis)
        return (float(row), float(column)) if np.isfinite([row, column]).all() else None

    def rebuild(self, planes: Sequence[Pixels], axis: int) -> Pixels:
        """Stored voxels from all slices (h, w) across a canonical axis, in their order."""
        return self.stored(np.stack([plane.T[::-1, ::-1] for plane in planes], axis))


def plane(canonical: Pixels, axis: int, index: int) -> Pixels:
    """One slice of canonical voxels as an image (h, w) or (h, w, c)."""
    flat: Pixels = canonical[(slice(None),) * axis + (index,)].copy()  # `take` would copy a turned volume whole
    return flat[::-1, ::-1].swapaxes(0, 1)


def difference(image: Grid, mask: Grid) -> str | None:
    """How a mask's grid differs from its image's, in words; None where they agree.

    Compared are the canonical grids: a mask may be stored in another order than its image. Spacing and directions may
    differ by a thousandth, origins by a tenth of a voxel.
    """
    if image.canonical_shape != mask.canonical_shape:
        sizes = ["×".join(map(str, grid.canonical_shape)) for grid in (mask, image)]
        return f"is {sizes[0]} voxels, its image {sizes[1]}"
    a, b = image.canonical_affine, mask.canonical_affine
    if a is None or b is None:
        return None
    sizes_a, sizes_b = np.linalg.norm(a[:3, :3], axis=0), np.linalg.norm(b[:3, :3], axis=0)
    if (np.abs(sizes_a - sizes_b) > 1e-3 * sizes_a).any():
        return f"has voxels of {_triple(sizes_b)} mm, its image of {_triple(sizes_a)} mm"
    if (np.abs(a[:3, :3] / sizes_a - b[:3, :3] / sizes_b) > 1e-3).any():
        return "is turned against its image (another direction matrix)"
    if (np.abs(a[:3, 3] - b[:3, 3]) > 0.1 * sizes_a.min()).any():
        return f"begins at {_triple(b[:3, 3])} mm, its image at {_triple(a[:3, 3])} mm"
    return None


def offset(image: Grid, part: Grid) -> Triple | None:
    """Where a part of an image begins in it, in canonical indices; None where their voxels are not the same.

    Sizes and directions of voxels may differ by a thousandth, and the beginning by a tenth of a voxel.
    """
    a, b = image.canonical_affine, part.canonical_affine
    if a is None or b is None:
        return None
    steps = np.linalg.solve(a, b)
    begin = np.rint(steps[:3, 3])
    if np.abs(steps[:3, :3] - np.eye(3)).max() > 1e-3 or np.abs(steps[:3, 3] - begin).max() > 0.1:
        return None
    i, j, k = map(int, begin)
    return i, j, k


def _triple(values: NDArray[np.float64]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
