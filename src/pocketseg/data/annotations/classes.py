"""From the names of annotations, segments and structures to the classes of a recipe."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pocketseg.data.annotations.drawing import WHITE, AnnotationSource, drawings
from pocketseg.data.case import Source
from pocketseg.data.layouts.listing import Listing
from pocketseg.data.masks import MaskCoding
from pocketseg.data.volumes import NamedRegions, SliceSource, VolumeFile
from pocketseg.errors import DataError, Problem, near
from pocketseg.names import printable
from pocketseg.text import counted

SHOWN = 20


def with_classes(listing: Listing, names: Sequence[str], coding: MaskCoding) -> Listing:
    """The listing, the categories of its annotations and the regions of its volumes mapped to classes.

    By name; a single category is a single class whatever they are called. Categories that are no class are background
    where every class is there: whoever names some means them. Otherwise one may be misspelled, and that is an error.

    Args:
        listing: cases, whose masks may be annotations, or regions with names.
        names: of the classes; none: as many categories as there are classes are these, in alphabetical order.
        coding: how masks store classes, which annotations then do too.
    """
    sources = [source for case in listing.cases for source in drawings(case.masks)]
    volumes = list(dict.fromkeys(volume for case in listing.cases for volume in regions(case.masks, coding)))
    if not sources and not volumes:
        return listing
    used = Counter(category for source in sources for category in {each.category for each in source.drawing.shapes})
    used.update(name for volume in volumes for name in volume.names)
    classes, problem = _mapping(used, names, coding)
    if problem is not None:
        where = [*(source.path for source in sources), *(volume.path for volume in volumes)][0]
        listing.problems.append(replace(problem, where=str(where), code="mask"))
    stored = _stored(coding)
    valued: dict[VolumeFile, VolumeFile] = {}
    for volume in volumes:
        try:
            valued[volume] = _valued(volume, classes, coding)
        except DataError as error:
            listing.problems += error.coded("mask").problems

    def of_classes(source: Source) -> Source:
        if isinstance(source, AnnotationSource):
            return replace(source, classes=tuple(classes.items()), stored=stored, planes=coding.multilabel)
        if isinstance(source, SliceSource):
            return replace(source, volume=valued.get(source.volume, source.volume))
        return source

    for number, case in enumerate(listing.cases):
        listing.cases[number] = replace(case, masks=tuple(of_classes(source) for source in case.masks))
    return listing


def regions(masks: Sequence[Source], coding: MaskCoding) -> list[NamedRegions]:
    """Those of some masks whose regions have names.

    Where the user says which stored values are the classes, those of files that store values are read by them.
    """
    volumes = [source.volume for source in masks if isinstance(source, SliceSource)]
    named = [volume for volume in volumes if isinstance(volume, NamedRegions)]
    return [volume for volume in named if not (volume.numbered and coding.by_value)]


def classed(volume: VolumeFile, names: Sequence[str], coding: MaskCoding) -> VolumeFile:
    """A single mask, whose regions, where it has some, become these classes by name, as in `with_classes`.

    Raises:
        DataError: it has others.
    """
    if not isinstance(volume, NamedRegions) or (volume.numbered and coding.by_value):
        return volume
    classes, problem = _mapping(Counter(volume.names), names, coding)
    if problem is not None:
        raise DataError.of([replace(problem, where=str(volume.path))])
    return _valued(volume, classes, coding)


def _valued(volume: NamedRegions, classes: Mapping[str, int], coding: MaskCoding) -> NamedRegions:
    """A volume whose regions are painted as these classes, each in a channel of its own where they may overlap."""
    return volume.valued(classes, coding.classes) if coding.multilabel else volume.valued(_values(classes, coding))


def _stored(coding: MaskCoding, single: int = WHITE) -> tuple[int, ...]:
    """The value that stands for each class in a mask, from 0 for background on; `single` for a single class."""
    return (0, *(coding.values or ((single,) if coding.classes == 1 else range(1, coding.classes + 1))))


def _values(classes: Mapping[str, int], coding: MaskCoding) -> dict[str, int]:
    """The value of each region, in the order of the classes: a later one is painted over an earlier one."""
    stored = _stored(coding, WHITE if coding.threshold is not None else 1)
    return {name: stored[index] for name, index in sorted(classes.items(), key=lambda each: each[1])}


def _mapping(used: Counter[str], names: Sequence[str], coding: MaskCoding) -> tuple[dict[str, int], Problem | None]:
    """The index of each category that is a class, and what is wrong."""
    categories = sorted(used)
    united = coding.threshold is not None and not coding.multilabel
    if united or (len(categories) == 1 and coding.classes == 1):
        return dict.fromkeys(categories, 1), None
    if not names and len(categories) == coding.classes:
        return {name: index for index, name in enumerate(categories, start=1)}, None
    classes = {name: index for index, name in enumerate(names, start=1)}
    known = {name: classes[name] for name in categories if name in classes}
    others = [name for name in categories if name not in classes]
    absent = [name for name in classes if name not in used]
    if not others or (classes and not absent):
        return known, None
    shown = ", ".join(f"{name} (in {counted(used[name], 'image')})" for name in categories[:SHOWN])
    more = f" and {len(categories) - SHOWN} more" if len(categories) > SHOWN else ""
    wanted = ", ".join(names) or f"{coding.classes} without names"
    what = f"holds {len(categories)} categories, {shown}{more}; the classes are {wanted}"
    looked_at = dict.fromkeys(categories, 1) | known  # nothing is made of it; what else is wrong is found all the same
    if len(names) > 1:
        hints = "; ".join(f"{name}: {near(name, others)}" for name in absent)
        return looked_at, Problem("", what, f"name the classes in data.classes as the categories are called ({hints})")
    listed = ",".join(map(_in_yaml, categories[:SHOWN]))
    fix = (
        f"--set 'data.classes=[{listed}]' (or some of these; the others are background then), "
        "or --set data.mask.threshold=1 to unite them"
    )
    return looked_at, Problem("", what, fix)


def _in_yaml(name: str) -> str:
    """A name as `--set` takes it: numbers and words with signs in quotes."""
    return name if re.fullmatch(r"[A-Za-z][A-Za-z0-9_ -]*", name) else json.dumps(printable(name), ensure_ascii=False)
