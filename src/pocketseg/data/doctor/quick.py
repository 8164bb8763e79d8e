"""What the statistics of all cases tell together: no pixel is needed any more, so training asks for it too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from pocketseg.data.annotations.drawing import AnnotationSource
from pocketseg.data.case import ArraySource, Case
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.doctor.shapes import shape_findings
from pocketseg.data.doctor.statistics import CaseStatistics
from pocketseg.data.masks import MaskCoding
from pocketseg.files import resolved
from pocketseg.text import counted

Key = TypeVar("Key")

MOSTLY = 0.9
USUAL_VALUES = (1.0, 255.0)
# A type is hardly used where the brightest image stays below this share of it.
LITTLE = 1 / 8


class Rules(Protocol):
    """How a data set is read."""

    @property
    def coding(self) -> MaskCoding: ...

    @property
    def classes(self) -> int: ...

    @property
    def grouped(self) -> bool: ...

    @property
    def channels(self) -> int | None: ...

    @property
    def said(self) -> Sequence[Finding]: ...


def quick_findings(cases: Sequence[Case], statistics: Sequence[CaseStatistics], rules: Rules) -> Iterator[Finding]:
    """Findings about masks, images and groups that cost no further decoding."""
    coding, classes = rules.coding, rules.classes
    yield from rules.said
    if not cases:
        return
    if not rules.grouped:
        what = "every case is its own group"
        fix = (
            "if several images show one patient, set data.group_regex, data.group_folder or data.group_csv, "
            "or the test result will be too optimistic"
        )
        yield Finding("ungrouped", ("groups",), what, fix)
    if statistics:
        yield from _coding(statistics, coding)
        yield from _absent(statistics, classes)
        yield from _foreground(statistics, coding)
        yield from _values(statistics)
        yield from _colors(statistics, rules.channels)
    yield from _duplicates(cases, statistics)
    yield from _shared_masks(cases, statistics)
    yield from shape_findings(cases)


def duplicates(statistics: Sequence[CaseStatistics]) -> list[list[CaseStatistics]]:
    """Cases whose images are equal in every pixel, in groups of two and more; blank images are not duplicates."""
    found: dict[bytes, list[CaseStatistics]] = defaultdict(list)
    for each in statistics:
        if not each.constant:
            found[each.digest].append(each)
    return [same for same in found.values() if len(same) > 1]


def _coding(statistics: Sequence[CaseStatistics], coding: MaskCoding) -> Iterator[Finding]:
    for each in statistics:
        if each.copied:
            yield Finding("image-is-mask", (each.mask,), "has the same content as its image", "put the mask in place")
    if coding.classes > 1 or coding.values is not None or coding.threshold is not None:
        return
    users: dict[float, list[str]] = defaultdict(list)
    for each in statistics:
        for value in each.values:
            users[value].append(each.mask)
    if len(users) > 1:
        described = "; ".join(
            f"{value:g} in {len(files)} ({files[0]}{', …' if len(files) > 1 else ''})"
            for value, files in sorted(users.items())
        )
        _, rarest = min((len(files), files) for files in users.values())
        fix = "--set data.mask.threshold=1 takes all as one foreground; if they are classes, name them in data.classes"
        yield Finding("mixed-coding", tuple(rarest), f"masks store foreground in {len(users)} ways: {described}", fix)
    elif users and not set(users) & set(USUAL_VALUES):
        value = next(iter(users))
        fix = f"nothing, or --set 'data.mask.values=[{value:g}]' to say that it is meant"
        yield Finding("odd-value", tuple(users[value]), f"foreground is stored as {value:g} everywhere", fix)


def _absent(statistics: Sequence[CaseStatistics], classes: int) -> Iterator[Finding]:
    present = {index for each in statistics for index in each.classes}
    absent = [index for index in range(1, classes + 1) if index not in present]
    if absent and classes > 1:
        numbers = ", ".join(map(str, absent))
        fix = "correct data.classes and data.mask.values, or add examples"
        yield Finding("absent-class", ("masks",), f"no mask holds the class number {numbers}", fix)


def _foreground(statistics: Sequence[CaseStatistics], coding: MaskCoding) -> Iterator[Finding]:
    fractions = np.array([each.foreground for each in statistics])
    empty = tuple(each.mask for each in statistics if not each.foreground)
    described = f"of {counted(len(statistics), 'mask')} [is|are] empty"
    if len(empty) > 0.5 * len(statistics):
        fix = "check the masks; --set data.drop_empty=train trains without them"
        if len(empty) == len(statistics):
            fix = "check the masks, and which values of them are foreground (data.mask); no training begins with these"
        yield Finding("mostly-empty", empty, counted(len(empty), described), fix)
    elif empty:
        yield Finding("empty-masks", empty, counted(len(empty), described))
    if coding.classes == 1 and (fractions > MOSTLY).mean() > MOSTLY:
        what = "foreground covers most of most images"
        fix = f"if it is stored inverted, set data.mask.invert={str(not coding.invert).lower()}"
        yield Finding("inverted", tuple(each.mask for each in statistics if each.foreground > MOSTLY), what, fix)
    full = tuple(each.mask for each in statistics if each.foreground == 1)
    if full:
        yield Finding("full-mask", full, counted(len(full), "mask[ is|s are] foreground everywhere"), "check them")


def _values(statistics: Sequence[CaseStatistics]) -> Iterator[Finding]:
    channels = _by(statistics, lambda each: each.channels)
    if len(channels) > 1:
        counts = " and ".join(map(str, sorted(channels)))
        described = ", ".join(f"{len(channels[count])} with {count}" for count in sorted(channels))
        fix = "data.channels decides"
        rarest = min(channels.values(), key=len)
        yield Finding("mixed-channels", _images(rarest), f"images with {counts} channels are mixed ({described})", fix)
    kinds = _by(statistics, lambda each: each.kind)
    if len(kinds) > 1:
        described = ", ".join(f"{len(same)} {kind}" for kind, same in sorted(kinds.items()))
        fix = "each is scaled by its own type; --set 'data.range=[LOW,HIGH]' declares one range for all"
        yield Finding(
            "mixed-depth", _images(min(kinds.values(), key=len)), f"images of several types: {described}", fix
        )
    for kind, same in kinds.items():
        if kind.startswith("float"):
            fix = "--set 'data.range=[LOW,HIGH]' declares which values become 0 and 1"
            what = "float images are scaled by their own minimum and maximum unless data.range declares them"
            yield Finding("float-range", _images(same), what, fix)
        elif kind.startswith(("uint", "int")):
            highest, limit = max(each.high for each in same), float(np.iinfo(kind).max)
            if 0 < highest < LITTLE * limit:
                what = f"the brightest of {counted(len(same), f'{kind} image')} is {highest:g} of {limit:g}"
                low = min(0.0, *(each.low for each in same))
                bits = 2 ** int(np.ceil(np.log2(highest + 1))) - 1
                fix = f"--set 'data.range=[{low:g},{bits}]' scales them to their own bits"
                yield Finding("few-bits", _images(same), what, fix)
    blank = [each for each in statistics if each.constant]
    if blank:
        fix = "remove them, or --set data.drop_empty=train"
        yield Finding("constant", _images(blank), counted(len(blank), "image[ holds|s hold] a single value"), fix)


def _colors(statistics: Sequence[CaseStatistics], channels: int | None) -> Iterator[Finding]:
    """Images that a net of one channel sees in gray, and gray ones that one of three gets three times."""
    colored = [each for each in statistics if each.colored]
    gray = [each for each in statistics if not each.colored and each.channels in (1, 3) and not each.contrasts]
    if channels == 1 and colored:
        what = f"{len(colored)} of {len(statistics)} images are colored and are read as gray"
        yield Finding("color-as-gray", _images(colored), what, "--set data.channels=3 keeps their colors")
    if channels == 3 and gray and not colored:
        what = f"{len(gray)} of {len(statistics)} images are gray, and the net takes 3 channels"
        yield Finding("gray-as-color", _images(gray), what, "--set data.channels=1 makes a smaller net of the same use")
    elif channels != 1 and gray and colored:
        what = f"{len(gray)} of {len(statistics)} images are gray, the others colored"
        fix = "check that color tells nothing but what is shown, or --set data.channels=1"
        yield Finding("mixed-colors", _images(min(gray, colored, key=len)), what, fix)


def _duplicates(cases: Sequence[Case], statistics: Sequence[CaseStatistics]) -> Iterator[Finding]:
    groups = {case.name: case.group for case in cases}
    for same in duplicates(statistics):
        apart = len({groups[each.name] for each in same}) > 1
        where = "which lie in several groups" if apart else "all of one group"
        fix = "rules of a split keep them together; `pocketseg doctor DATA --fix OUT` keeps one of each"
        yield Finding(
            "duplicate",
            _images(same),
            f"{counted(len(same), 'image[ is|s are]')} the same in every pixel, {where}",
            fix,
        )


def _shared_masks(cases: Sequence[Case], statistics: Sequence[CaseStatistics]) -> Iterator[Finding]:
    """Images that have one mask: of one file, or, between groups, equal in every pixel though something is drawn."""
    fix = "give each image its own mask"
    users: dict[tuple[Path, ...], dict[tuple[Path, ...], str]] = defaultdict(dict)
    for case in cases:
        for source in case.masks:
            if not isinstance(source, AnnotationSource | ArraySource):  # one file for many
                users[tuple(map(resolved, source.files))][case.image.files] = case.image.where
    for files, images in users.items():
        if len(images) > 1:
            what = f"{len(images)} images have one mask, {files[0].name}"
            yield Finding("shared-mask", tuple(images.values()), what, fix)
    groups = {case.name: case.group for case in cases}
    drawn = [each for each in statistics if 0 < each.foreground < 1]
    for same in _by(drawn, lambda each: (each.shape, each.mask_digest)).values():
        apart = {groups[each.name]: each for each in same}.values()
        if len({each.digest for each in apart}) > 1 and len({resolved(Path(each.mask)) for each in apart}) > 1:
            what = f"{len(same)} images have masks that are the same in every pixel"
            yield Finding("shared-mask", tuple(each.mask for each in same), what, fix)


def _by(statistics: Sequence[CaseStatistics], key: Callable[[CaseStatistics], Key]) -> dict[Key, list[CaseStatistics]]:
    found: dict[Key, list[CaseStatistics]] = defaultdict(list)
    for each in statistics:
        found[key(each)].append(each)
    return dict(found)


def _images(statistics: Sequence[CaseStatistics]) -> tuple[str, ...]:
    return tuple(each.image for each in statistics)
