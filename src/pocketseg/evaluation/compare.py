"""Two models on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pocketseg.errors import DataError
from pocketseg.evaluation.measures import metric
from pocketseg.evaluation.scores import CaseScore
from pocketseg.metrics import PairedDifference, paired_difference
from pocketseg.text import counted

# What a margin is for: one metric, chosen before anybody looks.
PRIMARY = "dice"


@dataclass(frozen=True)
class Comparison:
    """How the second model differs from the first in one metric of one class: second minus first.

    `margin` is that of a test whether the second is worse by less; only the Dice has one, where it is wanted.
    """

    class_name: str
    metric: str
    unit: str
    difference: PairedDifference
    margin: float | None = None

    @property
    def non_inferior(self) -> bool | None:
        """Whether the second model is worse by less than the margin."""
        return None if self.margin is None else self.difference.non_inferior(self.margin)


def compare_scores(
    first: Sequence[CaseScore], second: Sequence[CaseScore], where: str, margin: float | None = None
) -> list[Comparison]:
    """Paired differences of every metric that both tables have.

    Args:
        first: rows of the model compared with.
        second: rows of the other model, on the same cases.
        where: what to name in the error.
        margin: of the Dice; see `Comparison`.

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
    found = []
    for class_name in dict.fromkeys(row.class_name for row in second):
        pairs = [(before[key], row) for key, row in after.items() if key[1] == class_name]
        for name in second[0].values:
            if name in first[0].values:
                found.append(_comparison(name, class_name, margin if name == PRIMARY else None, pairs))
    return found


def _comparison(
    name: str, class_name: str, margin: float | None, pairs: Sequence[tuple[CaseScore, CaseScore]]
) -> Comparison:
    wanted = metric(name)
    chosen = [pair for pair in pairs if wanted.over == "all" or pair[0].outcome in ("scored", "miss")]
    units = {pair[0].unit for pair in chosen} if wanted.kind == "distance" else {""}
    if len(units) != 1:
        chosen = []
    found = paired_difference(
        [one.values[name] for one, _ in chosen],
        [other.values[name] for _, other in chosen],
        [other.group for _, other in chosen],
    )
    return Comparison(class_name, name, units.pop() if len(units) == 1 else "", found, margin)
