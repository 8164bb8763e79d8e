"""Two models on the same cases, each with one seed or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

from pocketseg.errors import DataError
from pocketseg.evaluation.measures import metric
from pocketseg.evaluation.scores import CaseScore
from pocketseg.metrics import PairedDifference, missed_difference, seeds_difference
from pocketseg.text import counted

Rows = Sequence[CaseScore]
# What is looked at first, chosen before anybody looks: how well objects are outlined without rules that were chosen,
# and how many are missed where all models leave the same share of images without one clean.
DICE_OFF, MISSED = "dice_off", "missed_at_90"


@dataclass(frozen=True)
class Comparison:
    """How the second model differs from the first in one metric of one class: second minus first.

    Attributes:
        metric: its name; `dice_off` is the Dice with the rules off, `missed_at_90` the share of cases with an object
            that is missed at a specificity of 90 % (`metrics.missed_difference`).
        role: the primary metric of a comparison is the Dice with the rules off (as it is, where that is not known), its
            safety metric what is missed at a specificity of 90 %.
        margin: that of a test whether the second is worse by less; the primary metric has one, where it is wanted.
    """

    class_name: str
    metric: str
    unit: str
    difference: PairedDifference
    margin: float | None = None
    role: Literal["", "primary", "safety"] = ""

    @property
    def non_inferior(self) -> bool | None:
        """Whether the second model is worse by less than the margin."""
        return None if self.margin is None else self.difference.non_inferior(self.margin)


def compare_scores(first: Rows, second: Rows, where: str, margin: float | None = None) -> list[Comparison]:
    """`compare_seeds` of one seed each; `where` names the first in errors."""
    return compare_seeds({where: first}, {"this model": second}, margin)


def compare_seeds(
    first: Mapping[str, Rows], second: Mapping[str, Rows], margin: float | None = None
) -> list[Comparison]:
    """Paired differences of every metric that all tables have, the primary and the safety metric first.

    Args:
        first: the model compared with: rows of each of its seeds, by the name that errors tell.
        second: the other model, on the same cases.
        margin: of the primary metric; see `Comparison`.

    Raises:
        DataError: other cases, classes, references or units, which would compare what cannot be.
    """
    tables = {
        name: {(row.case, row.class_name): row for row in rows} for name, rows in chain(second.items(), first.items())
    }
    reference = next(iter(tables.values()))
    for name, table in tables.items():
        _refuse_other_cases(name, table, reference)
    found = []
    for class_name in dict.fromkeys(key[1] for key in reference):
        keys = [key for key in reference if key[1] == class_name]
        before, after = ([[tables[name][key] for key in keys] for name in model] for model in (first, second))
        found += _of_class(before, after, class_name, margin)
    return found


def _refuse_other_cases(
    where: str, table: Mapping[tuple[str, str], CaseScore], reference: Mapping[tuple[str, str], CaseScore]
) -> None:
    if table.keys() != reference.keys():
        odd = sorted(table.keys() ^ reference.keys())[0]
        sizes = f"{counted(len(table), 'row')} and {len(reference)}"
        what = f"was made on other cases or classes ({sizes}; {odd[0]!r} is in one only)"
        raise DataError(where, what, "evaluate both models on the same part of the same split")
    for key, row in reference.items():
        other = table[key]
        if (row.reference_pixels, row.unit) != (other.reference_pixels, other.unit):
            what = (
                f"has another reference for {key[0]!r}: {counted(other.reference_pixels, 'pixel')} in {other.unit}, "
                f"here {row.reference_pixels} in {row.unit}"
            )
            raise DataError(where, what, "evaluate both models on the same data")


def _of_class(before: Sequence[Rows], after: Sequence[Rows], class_name: str, margin: float | None) -> list[Comparison]:
    """All comparisons of one class; rows of the seeds of either model, in one order of cases."""
    tables = [*before, *after]
    groups = [row.group for row in after[0]]
    positive = [row.reference_pixels > 0 for row in after[0]]
    common = [name for name in after[0][0].values if all(name in table[0].values for table in tables)]
    found = []
    if all(row.outcome_off for table in tables for row in table):
        kept = [at for at, there in enumerate(positive) if there]
        one, other = ([[rows[at].dice_off for at in kept] for rows in model] for model in (before, after))
        difference = seeds_difference(one, other, [groups[at] for at in kept])
        found.append(Comparison(class_name, DICE_OFF, "", difference, margin, "primary"))
    one, other = ([[row.evidence for row in rows] for rows in model] for model in (before, after))
    missed = missed_difference(one, other, positive, groups)
    plain = [_metric(name, class_name, before, after) for name in common]
    if not found:
        plain = [replace(each, margin=margin, role="primary") if each.metric == "dice" else each for each in plain]
    if missed.cases:
        found.append(Comparison(class_name, MISSED, "", missed, role="safety"))
    return found + plain


def _metric(name: str, class_name: str, before: Sequence[Rows], after: Sequence[Rows]) -> Comparison:
    wanted = metric(name)
    kept = [at for at, row in enumerate(after[0]) if wanted.over == "all" or row.reference_pixels]
    units = {after[0][at].unit for at in kept} if wanted.kind == "distance" else {""}
    if len(units) != 1:
        kept = []
    one, other = ([[rows[at].values[name] for at in kept] for rows in model] for model in (before, after))
    difference = seeds_difference(one, other, [after[0][at].group for at in kept])
    return Comparison(class_name, name, units.pop() if len(units) == 1 else "", difference)
