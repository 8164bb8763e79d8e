"""From categories, as annotations call them, to the classes of a recipe."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from pocketseg.data.annotations.drawing import AnnotationSource, drawings
from pocketseg.data.layouts.listing import Listing
from pocketseg.data.masks import MaskCoding
from pocketseg.errors import Problem, near
from pocketseg.names import printable
from pocketseg.text import counted

WHITE = 255
SHOWN = 20


def with_classes(listing: Listing, names: Sequence[str], coding: MaskCoding) -> Listing:
    """The listing, the categories of its annotations mapped to classes.

    By name; a single category is a single class whatever they are called. Categories that are no class are background
    where every class is there: whoever names some means them. Otherwise one may be misspelled, and that is an error.

    Args:
        listing: cases, whose masks may be annotations.
        names: of the classes; none: as many categories as there are classes are these, in alphabetical order.
        coding: how masks store classes, which annotations then do too.
    """
    sources = [source for case in listing.cases for source in drawings(case.masks)]
    used = Counter(category for source in sources for category in {each.category for each in source.drawing.shapes})
    if not sources:
        return listing
    classes, problem = _mapping(used, names, coding)
    if problem is not None:
        listing.problems.append(replace(problem, where=str(sources[0].path), code="mask"))
    stored = (0, *(coding.values or ((WHITE,) if coding.classes == 1 else range(1, coding.classes + 1))))
    for number, case in enumerate(listing.cases):
        masks = tuple(
            replace(source, classes=tuple(classes.items()), stored=stored)
            if isinstance(source, AnnotationSource)
            else source
            for source in case.masks
        )
        listing.cases[number] = replace(case, masks=masks)
    return listing


def _mapping(used: Counter[str], names: Sequence[str], coding: MaskCoding) -> tuple[dict[str, int], Problem | None]:
    """The index of each category that is a class, and what is wrong."""
    categories = sorted(used)
    if coding.threshold is not None or (len(categories) == 1 and coding.classes == 1):
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
