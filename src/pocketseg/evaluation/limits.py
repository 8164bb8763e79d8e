"""From which evidence on anything is there: a limit for each class, chosen at a stated specificity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pocketseg.evaluation.choose import FEWEST_GROUPS, Example
from pocketseg.evaluation.scores import CaseScore
from pocketseg.layers import layer
from pocketseg.metrics import Presence, presence
from pocketseg.pipeline import evidence
from pocketseg.text import counted


@dataclass(frozen=True)
class Evidence:
    """How sure a map is that a class is there, and whether it is."""

    group: str
    class_name: str
    value: float
    positive: bool


@dataclass(frozen=True)
class PresenceChoice:
    """Limits, one for each class; 0 where none was chosen.

    Attributes:
        limits: a class is there where its evidence is above.
        found: class -> errors at its limit, on the cases it was chosen on.
        left: class -> why it has no limit.
    """

    limits: tuple[float, ...]
    found: Mapping[str, Presence] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)


def evidence_of(cases: Iterable[Example], classes: Sequence[str]) -> list[Evidence]:
    """That of every case and class, from maps."""
    return [
        Evidence(group, name, evidence(probability[:, :, index]), bool(layer(reference, index + 1).any()))
        for group, probability, reference in cases
        for index, name in enumerate(classes)
    ]


def evidence_in(rows: Sequence[CaseScore], groups: Mapping[str, str]) -> list[Evidence]:
    """That of rows that an evaluation wrote, of the cases in `groups` (name -> group) alone."""
    return [
        Evidence(groups[row.case], row.class_name, row.evidence, row.reference_pixels > 0)
        for row in rows
        if row.case in groups
    ]


def choose_presence(known: Sequence[Evidence], classes: Sequence[str], specificity: float) -> PresenceChoice:
    """The lowest limits that leave the wanted share of the cases without a class clean.

    A limit is chosen only on enough groups (patients), `FEWEST_GROUPS` with the class and as many without.

    Args:
        known: of cases that the model has not learned from.
        classes: names of the foreground classes.
        specificity: share of the cases without a class that are to be left empty.
    """
    limits, found, left = [], {}, {}
    for name in classes:
        own = [each for each in known if each.class_name == name]
        counts = {
            "with": len({each.group for each in own if each.positive}),
            "without": len({each.group for each in own if not each.positive}),
        }
        few = [f"{counted(count, 'group')} {which} {name}" for which, count in counts.items() if count < FEWEST_GROUPS]
        errors = presence([each.value for each in own], [each.positive for each in own], specificity=specificity)
        if few:
            left[name] = f"{' and '.join(few)}, {FEWEST_GROUPS} are needed"
        elif errors is None:
            left[name] = "some of the tables hold masks without evidence: evaluate a model"
        else:
            found[name] = errors
        limits.append(found[name].threshold if name in found else 0.0)
    return PresenceChoice(tuple(limits), found, left)
