"""From files to cases: volumes become slices, and masks of several raters one case or several."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pocketseg.data.case import Case, ChannelSource, FileSource, SeriesSource, Source
from pocketseg.data.layouts.listing import Listing
from pocketseg.data.volumes import VolumeFile, difference, is_volume, open_volume, slices_of
from pocketseg.errors import DataError
from pocketseg.pipeline.reading import Reading


def expand(listing: Listing, reading: Reading, *, each_rater: bool) -> Listing:
    """The cases of a listing with volumes cut into slices.

    A slice is named after its volume and its number, `scan#012`. Slices of a volume are one group, and so are volumes
    of one patient as DICOM tells it; the group has the name of the first of them.

    Args:
        listing: cases whose sources are files.
        reading: how volumes are cut.
        each_rater: several raters' masks become a case each, `scan@r2`, in one group.
    """
    whole = replace(listing, cases=[], problems=list(listing.problems))
    patients: dict[str, str] = {}
    for case in listing.cases:
        try:
            whole.cases += _slices(case, reading, patients)
        except DataError as error:
            whole.problems += error.coded("volume").problems
    if each_rater:
        whole.cases = [single for case in whole.cases for single in _by_rater(case)]
    return whole


def _by_rater(case: Case) -> Iterator[Case]:
    if not case.raters:
        yield case
    for rater, mask in zip(case.raters, case.masks if case.raters else (), strict=True):
        group = case.group or case.name
        yield replace(case, name=f"{case.name}@{rater}", masks=(mask,), raters=(rater,), group=group)


def _slices(case: Case, reading: Reading, patients: dict[str, str]) -> list[Case]:
    source = case.image if isinstance(case.image, ChannelSource) else ChannelSource((case.image,))
    files = source.parts
    if not all(isinstance(file, FileSource) and is_volume(file.path) for file in files):
        return [case]
    volumes = [open_volume(file.path, files=file.slices if isinstance(file, SeriesSource) else ()) for file in files]
    image = volumes[0]
    for volume in volumes[1:]:
        check_grid(volume, image)
    masks = [_mask_volume(mask, image) for mask in case.masks]
    images = [slices_of(volume, reading) for volume in volumes]
    layers = [[mask] if isinstance(mask, FileSource) else slices_of(mask, reading, image) for mask in masks]
    axis = image.grid.axis(reading.axis)
    group = case.group or patients.setdefault(image.patient or case.name, case.name)
    digits = max(3, len(str(len(images[0]) - 1)))
    parts = list(zip(*images, strict=True))
    return [
        replace(
            case,
            name=case.name if len(images[0]) == 1 else f"{case.name}#{index:0{digits}d}",
            image=parts[index][0] if len(images) == 1 else replace(source, parts=parts[index]),
            masks=tuple(layer[index] for layer in layers),
            group=group,
            spacing_mm=image.grid.plane_spacing(axis),
        )
        for index in range(len(images[0]))
    ]


def _mask_volume(mask: Source, image: VolumeFile) -> VolumeFile | FileSource:
    """A mask on its image's grid; a picture is enough for a volume of one slice."""
    if not isinstance(mask, FileSource) or not is_volume(mask.path):
        if isinstance(mask, FileSource) and 1 in image.grid.shape:
            return mask
        raise DataError(mask.where, f"is a picture, but {image.path} is a volume", "give the mask as a volume")
    volume = open_volume(mask.path, image)
    check_grid(volume, image)
    return volume


def check_grid(volume: VolumeFile, image: VolumeFile) -> None:
    """Raises: DataError: a volume does not lie where an image does."""
    found = difference(image.grid, volume.grid)
    if found:
        raise DataError(str(volume.path), found, f"resample it to the grid of {image.path}")
