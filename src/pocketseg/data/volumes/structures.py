"""DICOM structure sets of radiotherapy (RTSTRUCT): regions as contours on the slices of an image series."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.polygons import Corners, fill
from pocketseg.data.volumes.base import VolumeFile
from pocketseg.data.volumes.dicom import Dicom, damage_reported, header_text, read_dataset
from pocketseg.data.volumes.grid import Pixels
from pocketseg.data.volumes.regions import NamedRegions
from pocketseg.errors import DataError, Problem
from pocketseg.text import counted

# What encloses an area; several of a slice enclose what lies in an odd number of them, so that one inside is a hole.
CLOSED, POINT = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"), "POINT"
CORNERS = 3
# How far from a slice, as a share of the distance between slices, a contour may be stored.
NEAR = 0.1
# Farther away, in millimeters, lies nothing that was drawn.
MOST_MM = 1e6
SHOWN = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Structures(NamedRegions):
    """A structure set on the grid of its images.

    Attributes:
        lines: of each region, by slice, its closed contours as corners in pixels.
        faults: of regions that cannot be painted, what is wrong.
    """

    lines: Mapping[str, Mapping[int, Sequence[Corners]]]
    faults: Mapping[str, str]

    def valued(self, values: Mapping[str, int], planes: int = 0) -> Self:
        """As for all regions.

        Raises:
            DataError: a region that is a class cannot be painted.
        """
        self._refuse([name for name in values if name in self.names])
        return super().valued(values, planes)

    def _refuse(self, names: Sequence[str]) -> None:
        fix = "correct it where it was drawn, or export it with the images that it was drawn on"
        wrong = [f"its region {name!r} {self.faults[name]}" for name in names if name in self.faults]
        if wrong:
            raise DataError.of([Problem(str(self.path), what, fix) for what in wrong])

    def inside(self, names: Sequence[str]) -> Iterator[NDArray[np.bool_]]:
        self._refuse(names)
        columns, rows, slices = self.grid.shape
        for name in names:
            found = np.zeros((slices, rows, columns), bool)
            for number, lines in self.lines[name].items():
                try:
                    found[number] = fill(lines, (rows, columns))
                except ValueError as error:
                    what = f"has a contour in {name!r} that cannot be painted ({error})"
                    raise DataError(str(self.path), what, "export it again from its source") from None
            yield found.transpose(2, 1, 0)

    def as_stored(self) -> Pixels:
        """1 inside of its region, where it has one only: several have names, and no values."""
        if len(self.names) > 1:
            what = f"holds the regions {_shown(self.names)}, and no values for them"
            raise DataError(str(self.path), what, "name the ones that are classes: --set 'data.classes=[…]'")
        return next(self.inside(self.names)).astype(np.uint8)


def open_structures(path: Path, images: VolumeFile | None) -> Structures:
    """A structure set on the grid of the images it was drawn on.

    Raises:
        DataError: no images, other images, or no closed contours.
    """
    if not isinstance(images, Dicom):
        what = "is a DICOM structure set (RTSTRUCT), whose images are not here"
        raise DataError(str(path), what, "give the DICOM images with it")
    if images.grid.affine is None:
        raise DataError(str(images.path), "says not where its slices lie, as contours need", "export it again")
    frame = header_text(images.files[0], "FrameOfReferenceUID")
    lines, faults = _read(path, images, frame)
    names = tuple(name for name in lines if lines[name] or name in faults)
    if not names:
        raise DataError(str(path), "holds no closed contours", "export the structures again, as contours")
    found = Structures(path, (path,), images.grid, names=names, lines=lines, faults=faults)
    if all(name in faults for name in names):
        found._refuse(names[:1])
    return found


@damage_reported
def _read(path: Path, images: Dicom, frame: str) -> tuple[dict[str, dict[int, list[Corners]]], dict[str, str]]:
    """The lines of each region by slice, and what is wrong with regions."""
    header = read_dataset(path, pixels=True)
    regions = {int(item.ROINumber): item for item in header.get("StructureSetROISequence") or []}
    lines: dict[str, dict[int, list[Corners]]] = {}
    faults: dict[str, str] = {}
    for item in header.get("ROIContourSequence") or []:
        region = regions[int(item.ReferencedROINumber)]
        name = str(region.get("ROIName") or f"ROI {region.ROINumber}").strip()
        contours = list(item.get("ContourSequence") or [])
        drawn, fault = _on_slices(contours, images)
        of = str(region.get("ReferencedFrameOfReferenceUID") or "")
        if contours and of and frame and of != frame:
            fault = "was drawn in another frame of reference than that of the images"
        for number, found in drawn.items():
            lines.setdefault(name, {}).setdefault(number, []).extend(found)
        lines.setdefault(name, {})
        if fault:
            faults[name] = fault
    return lines, faults


def _on_slices(contours: Sequence[Any], images: Dicom) -> tuple[dict[int, list[Corners]], str]:
    """Closed contours by slice, in pixels; and what is wrong with them, in words."""
    found: dict[int, list[Corners]] = defaultdict(list)
    assert images.grid.affine is not None
    to_index = np.linalg.inv(images.grid.affine)
    elsewhere: list[float] = []
    absent = apart = 0
    for contour in contours:
        kind = str(contour.get("ContourGeometricType") or "")
        if kind == POINT:  # a mark, such as an isocenter
            continue
        if kind not in CLOSED:
            return {}, f"has contours of the type {kind or 'unknown'}, which enclose nothing"
        points = np.array(contour.ContourData, np.float64).reshape(-1, 3)
        if not np.isfinite(points).all() or (np.abs(points) > MOST_MM).any():
            return {}, "has coordinates that are not finite, or far outside of any image"
        if len(points) < CORNERS:
            continue
        # From LPS to RAS, and to voxels.
        index = np.column_stack([points * (-1, -1, 1), np.ones(len(points))]) @ to_index[:3].T
        number = int(np.rint(np.median(index[:, 2])))
        if np.abs(index[:, 2] - number).max() > NEAR or not 0 <= number < images.grid.shape[2]:
            elsewhere.append(float(points[:, 2].mean()))
            continue
        uids = {str(each.ReferencedSOPInstanceUID) for each in contour.get("ContourImageSequence") or []}
        absent += bool(uids - set(images.uids))
        apart += images.frames is None and bool(uids) and images.uids[number] not in uids
        # Corners lie on the edges of pixels, and DICOM counts from the center of the first one.
        found[number].append(np.ascontiguousarray(index[:, 1::-1] + 0.5))
    if absent:
        return found, f"has {counted(absent, 'contour')} on images that are not in {images.path}"
    if apart:
        return found, f"has {counted(apart, 'contour[|s]')} on another slice than that of the image that is named"
    if elsewhere:
        places = ", ".join(f"{place:.1f}" for place in sorted(elsewhere)[:SHOWN])
        what = counted(len(elsewhere), "contour[ that lies|s that lie]")
        return found, f"has {what} on no slice of {images.path} (at a height of {places} mm)"
    return found, ""


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
