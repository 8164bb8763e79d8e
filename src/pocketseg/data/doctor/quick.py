"""What the facts of all cases tell together: no pixel is needed any more, so training asks for it too."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

from pocketseg.data.case import Case
from pocketseg.data.doctor.facts import Facts
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.masks import MaskCoding

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


def quick_findings(cases: Sequence[Case], facts: Sequence[Facts], rules: Rules) -> Iterator[Finding]:
    """Findings about masks, images and groups that cost no further decoding."""
    coding, classes = rules.coding, rules.classes
    yield from rules.said
    if not rules.grouped:
        what = "every case is its own group"
        fix = (
            "if several images show one patient, set data.group_regex, data.group_folder or data.group_csv, "
            "or the test result will be too optimistic"
        )
        yield Finding("ungrouped", ("groups",), what, fix)
    if facts:
        yield from _coding(facts, coding)
        yield from _absent(facts, classes)
        yield from _foreground(facts, coding)
        yield from _values(facts)
        yield from _colors(facts, rules.channels)
    yield from _duplicates(cases, facts)


def twins(facts: Sequence[Facts]) -> list[list[Facts]]:
    """Cases whose images are equal in every pixel, in groups of two and more; blank images are not twins."""
    found: dict[bytes, list[Facts]] = defaultdict(list)
    for fact in facts:
        if not fact.constant:
            found[fact.digest].append(fact)
    return [same for same in found.values() if len(same) > 1]


def _coding(facts: Sequence[Facts], coding: MaskCoding) -> Iterator[Finding]:
    for fact in facts:
        if fact.copied:
            yield Finding("image-is-mask", (fact.mask,), "has the same content as its image", "put the mask in place")
    if coding.classes > 1 or coding.values is not None or coding.threshold is not None:
        return
    users: dict[float, list[str]] = defaultdict(list)
    for fact in facts:
        for value in fact.values:
            users[value].append(fact.mask)
    if len(users) > 1:
        told = "; ".join(
            f"{value:g} in {len(files)} ({files[0]}{', …' if len(files) > 1 else ''})"
            for value, files in sorted(users.items())
        )
        _, rarest = min((len(files), files) for files in users.values())
        fix = "--set data.mask.threshold=1 takes all as one foreground; if they are classes, name them in data.classes"
        yield Finding("mixed-coding", tuple(rarest), f"masks store foreground in {len(users)} ways: {told}", fix)
    elif users and not set(users) & set(USUAL_VALUES):
        value = next(iter(users))
        fix = f"nothing, or --set data.mask.values=[{value:g}] to say that it is meant"
        yield Finding("odd-value", tuple(users[value]), f"foreground is stored as {value:g} everywhere", fix)


def _absent(facts: Sequence[Facts], classes: int) -> Iterator[Finding]:
    present = {index for fact in facts for index in fact.classes}
    absent = [index for index in range(1, classes + 1) if index not in present]
    if absent and classes > 1:
        numbers = ", ".join(map(str, absent))
        fix = "correct data.classes and data.mask.values, or add examples"
        yield Finding("absent-class", ("masks",), f"no mask holds the class number {numbers}", fix)


def _foreground(facts: Sequence[Facts], coding: MaskCoding) -> Iterator[Finding]:
    shares = np.array([fact.foreground for fact in facts])
    empty = tuple(fact.mask for fact in facts if not fact.foreground)
    if len(empty) > 0.5 * len(facts):
        fix = "check the masks; --set data.drop_empty=train trains without them"
        yield Finding("mostly-empty", empty, f"{len(empty)} of {len(facts)} masks are empty", fix)
    elif empty:
        yield Finding("empty-masks", empty, f"{len(empty)} of {len(facts)} masks are empty")
    if coding.classes == 1 and (shares > MOSTLY).mean() > MOSTLY:
        what = "foreground covers most of most images"
        fix = f"if it is stored inverted, set data.mask.invert={str(not coding.invert).lower()}"
        yield Finding("inverted", tuple(fact.mask for fact in facts if fact.foreground > MOSTLY), what, fix)
    full = tuple(fact.mask for fact in facts if fact.foreground == 1)
    if full:
        yield Finding("full-mask", full, f"{len(full)} masks are foreground everywhere", "check them")


def _values(facts: Sequence[Facts]) -> Iterator[Finding]:
    channels = _by(facts, lambda fact: fact.channels)
    if len(channels) > 1:
        counts = " and ".join(map(str, sorted(channels)))
        told = ", ".join(f"{len(channels[count])} with {count}" for count in sorted(channels))
        fix = "data.channels decides"
        rarest = min(channels.values(), key=len)
        yield Finding("mixed-channels", _images(rarest), f"images with {counts} channels are mixed ({told})", fix)
    kinds = _by(facts, lambda fact: fact.kind)
    if len(kinds) > 1:
        told = ", ".join(f"{len(same)} {kind}" for kind, same in sorted(kinds.items()))
        fix = "each is scaled by its own type; --set data.range=[LOW,HIGH] declares one range for all"
        yield Finding("mixed-depth", _images(min(kinds.values(), key=len)), f"images of several types: {told}", fix)
    for kind, same in kinds.items():
        if kind.startswith("float"):
            fix = "--set data.range=[LOW,HIGH] declares which values become 0 and 1"
            what = "float images are scaled by their own minimum and maximum unless data.range declares them"
            yield Finding("float-range", _images(same), what, fix)
        elif kind.startswith(("uint", "int")):
            highest, limit = max(fact.high for fact in same), float(np.iinfo(kind).max)
            if 0 < highest < LITTLE * limit:
                what = f"the brightest of {len(same)} {kind} images is {highest:g} of {limit:g}"
                low = min(0.0, *(fact.low for fact in same))
                bits = 2 ** int(np.ceil(np.log2(highest + 1))) - 1
                fix = f"--set data.range=[{low:g},{bits}] scales them to their own bits"
                yield Finding("few-bits", _images(same), what, fix)
    blank = [fact for fact in facts if fact.constant]
    if blank:
        fix = "remove them, or --set data.drop_empty=train"
        yield Finding("constant", _images(blank), f"{len(blank)} images hold a single value", fix)


def _colors(facts: Sequence[Facts], channels: int | None) -> Iterator[Finding]:
    """Images that a net of one channel sees in grey, and grey ones that one of three gets three times."""
    colored = [fact for fact in facts if fact.colored]
    grey = [fact for fact in facts if not fact.colored and fact.channels in (1, 3) and not fact.contrasts]
    if channels == 1 and colored:
        what = f"{len(colored)} of {len(facts)} images are colored and are read as grey"
        yield Finding("color-as-grey", _images(colored), what, "--set data.channels=3 keeps their colors")
    if channels == 3 and grey and not colored:
        what = f"{len(grey)} of {len(facts)} images are grey, and the net takes 3 channels"
        yield Finding("grey-as-color", _images(grey), what, "--set data.channels=1 makes a smaller net of the same use")
    elif channels != 1 and grey and colored:
        what = f"{len(grey)} of {len(facts)} images are grey, the others colored"
        fix = "check that color tells nothing but what is shown, or --set data.channels=1"
        yield Finding("mixed-colors", _images(min(grey, colored, key=len)), what, fix)


def _duplicates(cases: Sequence[Case], facts: Sequence[Facts]) -> Iterator[Finding]:
    groups = {case.name: case.group for case in cases}
    for same in twins(facts):
        apart = len({groups[fact.name] for fact in same}) > 1
        where = "which lie in several groups" if apart else "all of one group"
        fix = "rules of a split keep them together; `pocketseg doctor DATA --fix OUT` keeps one of each"
        yield Finding("duplicate", _images(same), f"{len(same)} images are the same in every pixel, {where}", fix)


def _by(facts: Sequence[Facts], key: Callable[[Facts], Key]) -> dict[Key, list[Facts]]:
    found: dict[Key, list[Facts]] = defaultdict(list)
    for fact in facts:
        found[key(fact)].append(fact)
    return dict(found)


def _images(facts: Sequence[Facts]) -> tuple[str, ...]:
    return tuple(fact.image for fact in facts)
