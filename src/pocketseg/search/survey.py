"""The look at a data set before anything is planned: the doctor's pass, with what a plan wants to know besides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import BoundedCache, Case, Cases
from pocketseg.data.annotations.classes import regions
from pocketseg.data.annotations.drawing import drawings
from pocketseg.data.doctor.checkup import Checkup, checkup
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.doctor.fits import to_one_spacing
from pocketseg.data.doctor.statistics import CaseStatistics, Look
from pocketseg.data.groups import tied
from pocketseg.data.masks import MaskCoding
from pocketseg.data.split import has_parts
from pocketseg.data.volumes import SliceSource
from pocketseg.errors import DataError, PocketsegError, RecipeError
from pocketseg.pipeline.components import label_components
from pocketseg.recipes import load_data_recipe, parse_yaml
from pocketseg.recipes.schema import DataSection
from pocketseg.runs.opening import cases_options
from pocketseg.search.summary import DataSummary, ObjectSize
from pocketseg.text import counted

Progress = Callable[[str, int, int], None]
# Cases are looked at one after the other.
CACHE_BYTES = 64 * 2**20
# More values than these are gray levels or numbered objects; those from 1 on without a gap may be a few more.
MAX_CLASSES, MOST_CLASSES = 16, 64
# White masks that were made smaller or larger have gray rims, which are less than this of all that is not black.
WHITE, MOST_RIMS = 255, 0.5
# Pixel sizes that differ less count as one.
ONE_SPACING = 1.1


@dataclass(frozen=True)
class MaskReading:
    """How masks are read: names of the classes, what `data.mask` says, and why."""

    classes: tuple[str, ...]
    mask: Mapping[str, Any]
    why: str


@dataclass(frozen=True)
class Survey:
    """What looking at all cases once gave.

    Attributes:
        cases: the data set, its cases in the groups that hold near-duplicates together.
        section: how it is read.
        found: by the doctor.
        reading: how masks are read.
        regrouped: whether groups are others than the data says, since images are alike.
    """

    cases: Cases
    section: DataSection
    found: Checkup
    reading: MaskReading
    regrouped: bool
    statistics: Mapping[str, CaseStatistics] = field(repr=False)
    objects: Mapping[str, Sequence[ObjectSize]] = field(repr=False)
    pixels: Mapping[str, NDArray[np.int64]] = field(repr=False)

    def summary(self, names: Collection[str]) -> DataSummary:
        """In numbers; what pixels tell is that of the named cases alone."""
        looked, wanted = [self.statistics[name] for name in names], set(names)
        chosen = [case for case in self.cases if case.name in wanted]
        # Groups that the user gave are not joined; of these the doctor warns.
        torn = [names for names in self.found.clusters if self.regrouped and self._groups(names) > 1]
        values: dict[str, tuple[float, float]] = {}
        for each in looked:
            low, high = values.get(each.kind, (each.low, each.high))
            values[each.kind] = min(low, each.low), max(high, each.high)
        spacings = sorted({case.spacing_mm for case in chosen if case.spacing_mm is not None})
        pixels = np.sum([self.pixels[each.name] for each in looked], axis=0)
        return DataSummary(
            cases=len(self.cases),
            groups=len({case.group for case in self.cases}),
            classes=self.reading.classes,
            grouped=self.cases.grouped,
            parts=has_parts(self.cases.cases),
            near_duplicates=(sum(map(len, torn)), len(torn)),
            mask=self.reading.mask,
            coding=self.reading.why,
            channels=tuple(sorted({each.channels for each in looked})),
            contrasts=any(each.contrasts for each in looked),
            colored=sum(each.colored for each in looked),
            looked=len(looked),
            shapes=tuple(each.shape for each in looked),
            spacings=tuple(spacings),
            objects=tuple(size for each in looked for size in self.objects[each.name]),
            empty=sum(not each.foreground for each in looked),
            shares=tuple((pixels[1:] / max(1, pixels.sum())).tolist()),
            values=values,
            volumes=any(isinstance(case.image, SliceSource) for case in chosen),
            one_spacing=self._one_spacing(chosen, spacings),
        )

    def _groups(self, names: Sequence[str]) -> int:
        """How many groups they lay in before they were joined."""
        before = {case.name: case.group for case in self.found.cases}
        return len({before[name] for name in names})

    def _one_spacing(self, cases: Sequence[Case], spacings: Sequence[tuple[float, float]]) -> dict[str, Any]:
        sides = [side for spacing in spacings for side in spacing]
        if not sides or max(sides) <= ONE_SPACING * min(sides):
            return {}
        options = to_one_spacing(cases, {name: each.shape for name, each in self.statistics.items()})
        pairs = [text.split("=", 1) for text in options.split() if text != "--set"]
        return {key.removeprefix("data."): parse_yaml(value, key) for key, value in pairs}


def survey(data: str | Path, overrides: Sequence[str], progress: Progress | None = None) -> Survey:
    """Look at a data set.

    Args:
        data: folder, or `.npz` file.
        overrides: `data.KEY=VALUE` that the user gave, which hold.
        progress: informed about reading.

    Raises:
        DataError: what cannot be used, all of it, as the doctor tells it; no mask holds any foreground.
        RecipeError: classes that may overlap are asked for.
    """
    root, section = Path(data), load_data_recipe({"data": {"classes": ["foreground"]}}, overrides).data
    if section.multilabel:
        what, fix = "makes classes that may overlap, for which fit has no plan", "train a recipe: `pocketseg train`"
        raise RecipeError("--set data.multilabel=true", what, fix)
    given = {override.partition("=")[0] for override in overrides}
    cases, problems = Cases.found(root, section.layout, **cases_options(section))
    reading = _reading(cases, section, given)
    if reading.classes != tuple(section.classes) or reading.mask:
        changed = {"data": {"classes": list(reading.classes), **({"mask": dict(reading.mask)} if reading.mask else {})}}
        section = load_data_recipe(changed, overrides).data
        cases, problems = Cases.found(root, section.layout, **cases_options(section))
    cases.cache = BoundedCache(CACHE_BYTES)
    options = cases_options(section)
    seen = _Seen(cases.classes)
    reading_bar = None if progress is None else lambda done, of: progress("looking at the data", done, of)
    found = checkup(cases, problems, reading_bar, groups_given=bool(options["grouping"]), seen=seen)
    wrong = [finding.problem for finding in found.errors]
    if wrong:
        raise DataError.of(wrong)
    if not any(each.foreground for each in seen.statistics.values()):
        what = f"none of {counted(len(cases), 'mask')} holds any foreground, so there is nothing to learn"
        raise DataError(str(root), what, "check the masks; `pocketseg data preview DATA` shows them as they are read")
    joined = found.groups()
    regrouped = any(joined[case.name] != case.group for case in cases)
    if regrouped:
        cases.cases = tied(cases.cases, (*found.clusters, *found.duplicates))
    return Survey(cases, section, found, reading, regrouped, seen.statistics, seen.objects, seen.pixels)


class _Seen:
    """What is kept of each decoded case."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.statistics: dict[str, CaseStatistics] = {}
        self.objects: dict[str, list[ObjectSize]] = {}
        self.pixels: dict[str, NDArray[np.int64]] = {}

    def __call__(self, case: Case, look: Look) -> None:
        self.statistics[case.name] = look.statistics
        self.pixels[case.name] = np.bincount(look.mask.ravel(), minlength=self.classes + 1)
        self.objects[case.name] = [
            size for index in look.statistics.classes for size in object_sizes(look.mask == index)
        ]


def object_sizes(mask: NDArray[np.bool_]) -> list[ObjectSize]:
    """Of each connected object of a mask (h, w).

    Example:
        >>> [round(each.diameter, 2) for each in object_sizes(np.ones((2, 8), bool))]
        [4.51]
    """
    labels, count = label_components(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return [ObjectSize(float(each), float(each) / max(mask.shape)) for each in 2 * np.sqrt(areas / np.pi)]


def _reading(cases: Cases, section: DataSection, given: Collection[str]) -> MaskReading:
    """How masks are read: as the user says, as annotations name their classes, or as the stored values tell."""
    if any(key == "data.classes" or f"{key}.".startswith("data.mask.") for key in given):
        return MaskReading(tuple(section.classes), {}, "as you set it")
    sources = [source for case in cases for source in case.masks]
    named = {shape.category for source in drawings(sources) for shape in source.drawing.shapes}
    named |= {name for volume in regions(sources, MaskCoding()) for name in volume.names}
    if named:
        names = tuple(sorted(named))
        return MaskReading(names, {}, f"the annotations name {counted(len(names), '[class|classes]')}")
    values, pixels = [], Counter[float]()
    for source in sources:
        try:
            found, counts = np.unique(source.mask(gray=False, colors="look"), return_counts=True)
        except PocketsegError:
            continue  # the doctor tells of it
        pixels.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        values.append(frozenset(found.tolist()) - {0})
    return reading_of_values(values, cases.coding.named, pixels)


def reading_of_values(
    masks: Sequence[frozenset[float]], names: Sequence[str] = (), pixels: Mapping[float, int] = MappingProxyType({})
) -> MaskReading:
    """How masks are read that store these values but 0; what cannot be classes is left to the doctor, who refuses it.

    Args:
        masks: the values of each.
        names: of the classes, where the data set gives some.
        pixels: how many have each value, in all masks together.

    Example:
        >>> reading_of_values([frozenset({255}), frozenset()]).classes
        ('foreground',)
        >>> reading_of_values([frozenset({1, 2}), frozenset({3})], ["disc", "cup", "rim"]).classes
        ('disc', 'cup', 'rim')
        >>> reading_of_values([frozenset(range(1, 31)), frozenset(range(1, 20))]).mask
        {'threshold': 1}
    """
    found = sorted(frozenset().union(*masks))
    if len(found) <= 1:
        name = names[0] if len(names) == 1 else "foreground"
        return MaskReading((name,), {}, "masks hold one foreground value")
    whole = all(value == round(value) and 0 < value < 2**16 for value in found)
    if found == [1, 255] and all(len(values) <= 1 for values in masks):
        return MaskReading(("foreground",), {"threshold": 1}, "masks store the foreground as 1 or as 255")
    numbered = found == list(range(1, len(found) + 1))
    counts = {len(values) for values in masks if values}
    from_one = all(values == set(range(1, len(values) + 1)) for values in masks)
    if numbered and from_one and len(counts) > 1 and len(found) > MAX_CLASSES and found[-1] != WHITE:
        return MaskReading(("foreground",), {"threshold": 1}, "masks number their objects 1, 2, …, which are one class")
    if not whole or len(found) > (MOST_CLASSES if numbered else MAX_CLASSES):
        rims = 1 - pixels.get(WHITE, 0) / max(1, sum(count for value, count in pixels.items() if value))
        if found[-1] == WHITE and rims < MOST_RIMS:
            share = f"{100 * rims:.0f} % of what is not black"
            why = f"masks are white with gray rims ({share}), as resized ones are, and cut at 128"
            return MaskReading(("foreground",), {"threshold": 128}, why)
        return MaskReading(("foreground",), {}, "masks hold one foreground value")
    known = tuple(names) if len(names) == len(found) else tuple(f"class-{value:g}" for value in found)
    mask = {} if numbered else {"values": [int(value) for value in found]}
    return MaskReading(known, mask, f"masks store {counted(len(found), 'value')} beside 0")


def notable(found: Checkup) -> list[Finding]:
    """What the doctor warns of, one finding of each kind."""
    kinds: dict[str, Finding] = {}
    for finding in found.findings:
        if finding.level == "warning":
            kinds.setdefault(finding.code, finding)
    return list(kinds.values())
