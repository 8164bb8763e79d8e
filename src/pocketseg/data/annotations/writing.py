"""Masks as annotations of others: COCO JSON, and Kaggle's table of run lengths. Both hold every pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.annotations.rle import counts_of_mask, text_of_counts, text_of_pairs
from pocketseg.layers import covered, grid_of, layer
from pocketseg.pipeline.components import label_components

Trace = Callable[[NDArray[np.bool_]], list[list[tuple[int, int]]]]


@dataclass(frozen=True)
class NamedMask:
    """The mask of one image (`layers`), by the name that the image has in the file."""

    name: str
    mask: NDArray[np.uint8]


def coco(masks: Iterable[NamedMask], classes: Sequence[str], trace: Trace) -> dict[str, Any]:
    """The content of a COCO file: an annotation for each object.

    A polygon where one closed line holds it, along the edges of pixels; run lengths where it has holes, or parts that
    touch at a corner only.

    Args:
        masks: of all images.
        classes: names of the foreground classes.
        trace: the closed lines of corners (row, column) around a mask.
    """
    images: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for number, each in enumerate(masks, start=1):
        height, width = grid_of(each.mask)
        images.append({"id": number, "file_name": each.name, "width": width, "height": height})
        for index in range(1, len(classes) + 1):
            for thing in _objects(layer(each.mask, index)):
                note = {"id": len(notes) + 1, "image_id": number, "category_id": index, "iscrowd": 0}
                notes.append(note | _annotation(thing, trace))
    categories = [{"id": index, "name": name} for index, name in enumerate(classes, start=1)]
    return {"images": images, "categories": categories, "annotations": notes}


def _objects(mask: NDArray[np.bool_]) -> Iterator[NDArray[np.bool_]]:
    labels, count = label_components(mask)
    return (labels == number for number in range(1, count + 1))


def _annotation(thing: NDArray[np.bool_], trace: Trace) -> dict[str, Any]:
    rows, columns = np.flatnonzero(thing.any(axis=1)), np.flatnonzero(thing.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    bottom, right = int(rows[-1]) + 1, int(columns[-1]) + 1
    lines = trace(thing[top:bottom, left:right])
    segmentation: Any = {"size": list(thing.shape), "counts": text_of_counts(counts_of_mask(thing))}
    if len(lines) == 1:
        segmentation = [[number for row, column in lines[0] for number in (column + left, row + top)]]
    box = [left, top, right - left, bottom - top]
    return {"segmentation": segmentation, "area": int(thing.sum()), "bbox": box}


def rle_rows(masks: Iterable[NamedMask], classes: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The rows of Kaggle's table: pixels are numbered down the columns from 1; an empty mask is an empty text.

    With several classes each image has a row for each.
    """
    if len(classes) == 1:
        yield "image_id", "rle"
        yield from ((each.name, text_of_pairs(covered(each.mask))) for each in masks)
        return
    yield "image_id", "class", "rle"
    for each in masks:
        rows = ((name, text_of_pairs(layer(each.mask, index))) for index, name in enumerate(classes, start=1))
        yield from ((each.name, *row) for row in rows)
