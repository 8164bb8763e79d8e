"""What became of shapes when annotations, and regions with names, were painted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pocketseg.data.annotations.drawing import drawings
from pocketseg.data.case import Case, single
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.volumes import NamedRegions, SliceSource
from pocketseg.text import counted


def shape_findings(cases: Sequence[Case]) -> Iterator[Finding]:
    """Findings about annotations and regions of cases whose masks have been read."""
    yield from _of_regions(cases)
    sources = [source for case in cases for source in drawings(case.masks)]
    for which, what, fix in (
        ("covered", "{} pixels of one class are covered by another, which is drawn later", "check the order of shapes"),
        ("cut", "{} shapes reach out of their image and are cut at its border", "check that they belong to it"),
        ("lines", "{} points, lines and polygons of less than three corners have no inside and are left out", ""),
    ):
        counts = {source.where: getattr(source.drawing, which) for source in sources}
        files = tuple(where for where, count in counts.items() if count)
        if files:
            shown = what.format(f"{sum(counts.values()):,}")
            yield Finding("annotation", files, f"{shown} (in {len(files)} of {len(sources)} images)", fix)
    unnamed: Counter[str] = Counter()
    for source in sources:
        known = dict(source.classes)
        unnamed.update({each.category for each in source.drawing.shapes} - known.keys())
    if unnamed:
        shown = ", ".join(f"{name} (in {counted(count, 'image')})" for name, count in sorted(unnamed.items()))
        files = tuple(sorted({str(source.path) for source in sources}))
        fix = "name them in data.classes, where they are classes"
        yield Finding("annotation", files, f"categories that are not a class are background: {shown}", fix)


def _of_regions(cases: Sequence[Case]) -> Iterator[Finding]:
    """The same of volumes whose regions have names."""
    masks = [mask.volume for case in cases for mask in single(case.masks) if isinstance(mask, SliceSource)]
    volumes = dict.fromkeys(
        volume for volume in masks if isinstance(volume, NamedRegions) and volume.values is not None
    )
    covered = {str(volume.path): sum(volume.covered) for volume in volumes}
    files = tuple(where for where, count in covered.items() if count)
    if files:
        what = f"{sum(covered.values()):,} voxels of one class are covered by another, which is named later"
        fix = "name the classes in data.classes so that the one that covers is the last"
        yield Finding("annotation", files, f"{what} (in {len(files)} of {counted(len(volumes), 'volume')})", fix)
    unnamed = Counter(name for volume in volumes for name in volume.names if name not in (volume.values or {}))
    if unnamed:
        shown = ", ".join(f"{name} (in {counted(count, 'volume')})" for name, count in sorted(unnamed.items()))
        fix = "name them in data.classes, where they are classes"
        where = tuple(sorted(str(volume.path) for volume in volumes))
        yield Finding("annotation", where, f"regions that are not a class are background: {shown}", fix)
