"""What a data set as a whole tells: classes, sizes, spacing, groups, and what a split would tear apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from pocketseg.data.case import Case
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.doctor.fits import misfits, to_one_spacing
from pocketseg.data.doctor.statistics import CaseStatistics
from pocketseg.data.split import PARTS, Split
from pocketseg.pipeline import Pipeline
from pocketseg.text import counted

MIN_PIXELS, MIN_SHARE = 10, 0.05
# Images of less or more than so many times the usual area stand out, unless they are many.
TIMES, RARE = 4.0, 0.05
SPACING_RATIO = 1.5


def set_findings(
    cases: Sequence[Case], statistics: Sequence[CaseStatistics], *, grouped: bool, pipeline: Pipeline | None = None
) -> Iterator[Finding]:
    """Findings about all cases together, and about what a pipeline asks of them."""
    yield from _balance(cases)
    yield from _sizes(statistics)
    shapes = {each.name: each.shape for each in statistics}
    readable = [case for case in cases if case.name in shapes]
    if pipeline is not None:
        yield from map(Finding.of, misfits(readable, shapes, pipeline))
    if pipeline is None or pipeline.spacing_mm is None:
        yield from _spacing(readable, shapes)
    if grouped:
        counts = Counter(case.group for case in cases)
        lonely = tuple(group for group, count in counts.items() if count == 1)
        if lonely and len(lonely) < len(counts):
            what = counted(len(lonely), f"of {counted(len(counts), 'group')} [has|have] one case")
            yield Finding("lonely-groups", lonely, what, "check that their names are spelled like the others")


def _balance(cases: Sequence[Case]) -> Iterator[Finding]:
    counts = Counter(case.label for case in cases if case.label)
    rare = {label: count for label, count in counts.items() if count < max(MIN_PIXELS, MIN_SHARE * len(cases))}
    if len(counts) > 1 and rare:
        described = ", ".join(f"{label} {count}" for label, count in counts.most_common())
        yield Finding("imbalance", tuple(rare), f"classes differ much in size: {described}", "add cases, or use k-fold")


def _sizes(statistics: Sequence[CaseStatistics]) -> Iterator[Finding]:
    if not statistics:
        return
    areas = np.array([each.shape[0] * each.shape[1] for each in statistics])
    usual = float(np.median(areas))
    odd = [each for each, area in zip(statistics, areas, strict=True) if not 1 / TIMES <= area / usual <= TIMES]
    if odd and len(odd) <= RARE * len(statistics):
        sizes = ", ".join("{}×{}".format(*each.shape) for each in odd[:3])
        what = f"{counted(len(odd), 'image[ is|s are]')} of an unusual size ({sizes}; usual are {usual:.0f} pixels)"
        yield Finding("size-outlier", tuple(each.image for each in odd), what, "check how they were exported")


def _spacing(cases: Sequence[Case], shapes: Mapping[str, tuple[int, int]]) -> Iterator[Finding]:
    known = [(case, case.spacing_mm) for case in cases if case.spacing_mm is not None]
    if not known:
        what = "no image has a known pixel size"
        yield Finding("no-spacing", ("images",), what, "no action needed; NIfTI and DICOM files give it")
        return
    sizes = np.array([np.sqrt(row * column) for _, (row, column) in known])
    if sizes.max() > SPACING_RATIO * sizes.min():
        ends = tuple(known[int(at)][0].image.where for at in (sizes.argmin(), sizes.argmax()))
        what = f"pixel sizes run from {sizes.min():.3g} to {sizes.max():.3g} mm"
        options = to_one_spacing(cases, shapes)
        fix = f"{options} brings them to one" if options else "check them, and give every image its pixel size"
        yield Finding("mixed-spacing", ends, what, fix)


def split_findings(
    split: Split, duplicates: Sequence[Sequence[str]], clusters: Sequence[Sequence[str]], where: str
) -> Iterator[Finding]:
    """What of equal and of alike images a split puts into several parts.

    Args:
        split: which case lies in which part, in each fold.
        duplicates: names of cases whose images are equal.
        clusters: names of cases whose images are alike.
        where: the split, as it is named to the user.
    """
    for names in duplicates:
        if torn := parts_of(split, names):
            what = f"are the same in every pixel and lie in {' and '.join(torn)} of {where}"
            fix = "put them into one part, or --set split.ignore_parts=true deals by a rule, which keeps them together"
            yield Finding("split-duplicate", tuple(names), what, fix)
    leaking = [names for names in clusters if parts_of(split, names)]
    if leaking:
        what = f"{where} tears {len(leaking)} of {counted(len(clusters), 'cluster')} of near-duplicates apart"
        fix = (
            "`pocketseg doctor DATA --fix OUT` writes groups that keep them together (near-duplicate says which column)"
        )
        yield Finding("split-leak", tuple(name for names in leaking for name in names), what, fix)


def parts_of(split: Split, names: Sequence[str]) -> list[str]:
    """The parts that names are torn into, in the first fold that does; none where no fold does."""
    for fold in split.folds:
        found = [part for part in PARTS if set(names) & set(fold.part(part))]
        if len(found) > 1:
            return found
    return []
