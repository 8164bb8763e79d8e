"""Two models on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pocketseg.errors import DataError
from pocketseg.evaluation.measures import metric
from pocketseg.evaluation.scores import CaseScore
from pocketseg.metrics import PairedDifference, paired_difference
from pocketseg.text import counted


@dataclass(frozen=True)
class Comparison:
    """How the second model differs from the first in one metric of one class: second minus first."""

    class_name: str
    metric: str
    unit: str
    difference: PairedDifference


def compare_scores(first: Sequence[CaseScore], second: Sequence[CaseScore], where: str) -> list[Comparison]:
    """Paired differences of every metric that both tables have.

    Args:
        first: rows of the model compared with.
        second: rows of the other model, on the same cases.
        where: what to name in the error.

    Raises:
        DataError: other cases, classes, references or units, which would compare what cannot be.
    """
    before = {(row.case, row.class_name): row for row in first}
    after = {(row.case, row.class_name): row for row in second}
    if before.keys() != after.keys():
        odd = sorted(before.keys() ^ after.keys())[0]
        sizes = f"{counted(len(before), 'row')} and {len(after)}"
        what = f"was made on other cases or classes ({sizes}; {odd[0]!r} is in one only)"
        raise DataError(where, what, "evaluate both models on the same part of the same split")
    for key, row in after.items():
        other = before[key]
        if (row.reference_pixels, row.unit) != (other.reference_pixels, other.unit):
            what = (
                f"has another reference for {key[0]!r}: {counted(other.reference_pixels, 'pixel')} in {other.unit}, "
                f"here {row.reference_pixels} in {row.unit}"
            )
            raise DataError(where, what, "evaluate both models on the same data")
    return [
        _comparison(name, class_name, [(before[key], after[key]) for key in after if key[1] == class_name])
        for class_name in dict.fromkeys(row.class_name for row in second)
        for name in second[0].values
        if name in first[0].values
    ]


def _comparison(name: str, class_name: str, pairs: Sequence[tuple[CaseScore, CaseScore]]) -> Comparison:
    asked = metric(name)
    chosen = [pair for pair in pairs if asked.over == "all" or pair[0].outcome in ("scored", "miss")]
    units = {pair[0].unit for pair in chosen} if asked.kind == "distance" else {""}
    if len(units) != 1:
        chosen = []
    found = paired_difference(
        [one.values[name] for one, _ in chosen],
        [other.values[name] for _, other in chosen],
        [other.group for _, other in chosen],
    )
    return Comparison(class_name, name, units.pop() if len(units) == 1 else "", found)
