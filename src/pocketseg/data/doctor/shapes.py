"""What became of shapes when annotations were painted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from pocketseg.data.annotations.drawing import drawings
from pocketseg.data.case import Case
from pocketseg.data.doctor.finding import Finding
from pocketseg.text import counted


def shape_findings(cases: Sequence[Case]) -> Iterator[Finding]:
    """Findings about annotations of cases whose masks have been read."""
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
