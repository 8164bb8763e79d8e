"""Masks of classes that may overlap: which sources give planes, and data sets with files or folders of each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pocketseg.data.annotations.classes import with_classes
from pocketseg.data.case import ArraySource, Case, FileSource, LayeredSource, Source
from pocketseg.data.layouts import find_cases
from pocketseg.data.layouts.listing import Listing
from pocketseg.data.masks import MaskCoding
from pocketseg.data.volumes import SliceSource
from pocketseg.errors import Problem

# Stands for the name of a class in folders and names of masks.
CLASS = "{class}"


def is_by_class(masks: str | None, naming: Sequence[str]) -> bool:
    """Whether the folder or the names of masks say that each class has files of its own."""
    return any(CLASS in text for text in (masks or "", *naming))


def of_classes(place: str, classes: Sequence[str]) -> list[str]:
    """A folder, or one for each class.

    Example:
        >>> of_classes("masks/{class}", ["organ", "tumor"]), of_classes("images", ["organ", "tumor"])
        (['masks/organ', 'masks/tumor'], ['images'])
    """
    return [place.replace(CLASS, name) for name in classes] if CLASS in place else [place]


def with_planes(listing: Listing, coding: MaskCoding) -> Listing:
    """The listing, whose masks give planes where classes may overlap and no stored value stands for several."""
    if coding.multilabel and coding.layers is None:
        cases = [replace(case, masks=tuple(map(_with_planes, case.masks))) for case in listing.cases]
        return replace(listing, cases=cases)
    return listing


def _with_planes(source: Source) -> Source:
    return replace(source, planes=True) if isinstance(source, FileSource | SliceSource | ArraySource) else source


def find_by_class(
    root: Path,
    layout: str,
    images: str | None,
    masks: str | None,
    naming: Sequence[str],
    classes: Sequence[str],
    coding: MaskCoding,
    **how: Any,
) -> tuple[str, Path, Listing]:
    """As `find_cases`, once for each class; `{class}` in `masks` and `naming` is its name.

    Each case has the masks of all classes; one that lacks one is a problem, since a missing file does not say that
    nothing is there.
    """
    single = MaskCoding(threshold=coding.threshold)
    found = []
    for name in classes:
        names = [text.replace(CLASS, name) for text in naming]
        place = None if masks is None else masks.replace(CLASS, name)
        *where, listing = find_cases(root, layout, images, place, naming=names, **how)
        found.append((*where, with_classes(listing, [name], single)))
    layouts, folders, listings = zip(*found, strict=True)
    return layouts[0], folders[0], _joined(listings, classes)


def _joined(listings: Sequence[Listing], classes: Sequence[str]) -> Listing:
    """One listing of those of all classes."""
    rule = " and ".join(dict.fromkeys(listing.rule for listing in listings))
    whole = Listing(rule=rule)
    for listing in listings:
        whole.problems += [problem for problem in listing.problems if problem not in whole.problems]
    tables = [{case.name: case for case in listing.cases} for listing in listings]
    reported = {place for problem in whole.problems for place in (problem.where, *problem.places)}
    for name in dict.fromkeys(name for table in tables for name in table):
        having = [table[name] for table in tables if name in table]
        missing = [of for of, table in zip(classes, tables, strict=True) if name not in table]
        first = having[0]
        if missing:
            if str(first.image.path) not in reported:
                what = f"has no mask of the {'class' if len(missing) == 1 else 'classes'} {', '.join(missing)}"
                fix = "add it; a mask without foreground says that nothing is there"
                whole.problems.append(Problem(first.image.where, what, fix))
        elif any(case.raters for case in having):
            what = "has masks of several raters, each in files of single classes"
            fix = "store all classes of a rater in one file: pages of a TIFF, or data.mask.layers"
            whole.problems.append(Problem(first.image.where, what, fix))
        else:
            whole.cases.append(_with_all(having))
    return whole


def _with_all(cases: Sequence[Case]) -> Case:
    """A case with the masks that it has in the listings of all classes."""
    masks = [
        LayeredSource(tuple(mask if other == at else None for other in range(len(cases))))
        for at, case in enumerate(cases)
        for mask in case.masks
    ]
    return replace(cases[0], masks=tuple(masks))
