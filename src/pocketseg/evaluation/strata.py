"""Results apart: by size of the reference, by group, and object by object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pocketseg.evaluation.scores import MIXED, CaseScore, Summary, summarize
from pocketseg.metrics import Detection, free_response

SIZES = ("small", "medium", "large")
Row = dict[str, Any]


def by_size(rows: Sequence[CaseScore]) -> list[Row]:
    """Small, medium and large references of each class: thirds of these cases by area, equal areas together.

    Areas are in mm² where all spacings are known, else in pixels.
    """
    return [row for inside in _by_class(rows) for row in _thirds(inside)]


def _thirds(rows: Sequence[CaseScore]) -> Iterator[Row]:
    known = all(row.unit == "mm" for row in rows)
    positive = [row for row in rows if row.outcome in ("scored", "miss")]
    if not positive:
        return
    areas = np.array([row.reference_pixels * (row.pixel_area if known else 1) for row in positive])
    third = np.searchsorted(np.quantile(areas, [1 / 3, 2 / 3]), areas, side="left")
    for index, name in enumerate(SIZES):
        chosen = third == index
        if chosen.any():
            bounds = {"smallest": float(areas[chosen].min()), "largest": float(areas[chosen].max())}
            inside = [row for row, here in zip(positive, chosen, strict=True) if here]
            yield _row(inside, {"size": name, **bounds, "area_unit": "mm²" if known else "px"})


def by_group(rows: Sequence[CaseScore]) -> list[Row]:
    """Each class in each group (patient, cluster), groups in the order of the cases."""
    return [
        _row([row for row in inside if row.group == group], {"group": group})
        for inside in _by_class(rows)
        for group in dict.fromkeys(row.group for row in inside)
    ]


def _by_class(rows: Sequence[CaseScore]) -> list[list[CaseScore]]:
    names = dict.fromkeys(row.class_name for row in rows)
    return [[row for row in rows if row.class_name == name] for name in names]


def _row(rows: Sequence[CaseScore], stratum: Row) -> Row:
    (found,) = summarize(rows, "")
    counts = {name: getattr(found, name) for name in ("cases", "groups", "positive", "misses", "false_alarms")}
    interval = {"dice_low": found.dice_low, "dice_high": found.dice_high}
    means = {name: each.mean for name, each in found.metrics.items()}
    return {"class_name": found.class_name, **stratum, **counts, **means, **interval, "unit": _unit(found)}


def _unit(found: Summary) -> str:
    """Of the distances among the means."""
    return {"mm²": "mm", "px": "px"}.get(found.area_unit, MIXED)


def object_table(rows: Sequence[CaseScore]) -> list[Row]:
    """One row for each object of a reference and each predicted one; empty where no lesion metric was chosen."""
    return [
        {"case": row.case, "group": row.group, "class_name": row.class_name, **each}
        for row in rows
        if row.objects is not None
        for each in _objects(row.objects)
    ]


def _objects(found: Detection) -> Iterator[Row]:
    for pixels, hit in zip(found.sizes, found.found, strict=True):
        yield {"object": "reference", "outcome": "found" if hit else "missed", "pixels": int(pixels), "confidence": ""}
    for pixels, right, sure in zip(found.predicted_sizes, found.right, found.confidence, strict=True):
        outcome = "right" if right else "false positive"
        yield {"object": "predicted", "outcome": outcome, "pixels": int(pixels), "confidence": float(sure)}


def free_response_table(rows: Sequence[CaseScore]) -> list[Row]:
    """The free-response curve of each class that has objects in a reference."""
    table: list[Row] = []
    for inside in _by_class(rows):
        found = [row.objects for row in inside if row.objects is not None]
        if any(len(each.found) for each in found):
            curve = free_response(found)
            points = zip(curve.thresholds, curve.false_positives, curve.sensitivity, strict=True)
            table += [
                {"class_name": inside[0].class_name, "confidence": float(at), "false_positives_per_image": float(wrong),
                 "sensitivity": float(share)}
                for at, wrong, share in points
            ]  # fmt: skip
    return table
