"""Whether there is anything at all, by one score of each case: errors at equal specificity.

Models that are cut at their own thresholds stand at different points of their curves, and most of what seems to differ
between them is that. At the threshold that leaves the same share of the cases without an object clean they are alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketseg.metrics.statistics import PairedDifference

SPECIFICITY = 0.9
DRAWS_AT_ONCE = 200


@dataclass(frozen=True)
class Presence:
    """How a score tells cases with an object from those without.

    Attributes:
        auc: how often a case with an object has the higher score of the two; ties count half.
        threshold: the lowest that leaves the wanted share of cases without an object clean; what is above is called
            present.
        positive, missed: cases with an object, and how many of them are not above the threshold.
        negative, false_alarms: cases without, and how many of them are above.
    """

    auc: float
    threshold: float
    positive: int
    missed: int
    negative: int
    false_alarms: int


def presence(scores: Sequence[float], positive: Sequence[bool], *, specificity: float = SPECIFICITY) -> Presence | None:
    """Errors of a score at a specificity; None where one of the two kinds of case is missing, or a score.

    Example:
        >>> presence([0.9, 0.3, 0.2, 0.4], [True, True, False, False], specificity=0.5)
        Presence(auc=0.75, threshold=0.2, positive=2, missed=0, negative=2, false_alarms=1)
    """
    values, with_object = np.asarray(scores, np.float64), np.asarray(positive, bool)
    ours, others = np.sort(values[with_object]), np.sort(values[~with_object])
    if not ours.size or not others.size or np.isnan(values).any():
        return None
    threshold = others[_clean(specificity, len(others)) - 1]
    below, up_to = (np.searchsorted(others, ours, side) for side in ("left", "right"))
    return Presence(
        auc=float((below + up_to).mean() / 2 / len(others)),
        threshold=float(threshold),
        positive=len(ours),
        missed=int((ours <= threshold).sum()),
        negative=len(others),
        false_alarms=int((others > threshold).sum()),
    )


def _clean(specificity: float, negative: int) -> int:
    """How many cases without an object have to stay clean. 0.7 of 10 are 7.000000000000001 to a computer."""
    return max(1, math.ceil(specificity * negative - 1e-9))


def missed_difference(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    positive: Sequence[bool],
    groups: Sequence[str],
    *,
    specificity: float = SPECIFICITY,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> PairedDifference:
    """Share of the cases with an object that is missed at a specificity: second minus first, paired by case.

    Each model, and each seed of it, has its own threshold. The interval draws groups with and without an object, finds
    the thresholds again in every draw (few cases without an object make them unsure), and draws seeds where there are
    several. There is no p-value: what is known of a threshold is not known of a case.

    Args:
        first: scores; a row for each seed, a number for each case.
        second: the same of the other model, on the same cases.
        positive: whether a case has an object.
        groups: the group of each case.
        specificity: share of the cases without an object that stay clean.
        level: coverage of the interval.
        draws: bootstrap samples.
        seed: of the draws.

    Returns:
        Lower is better; nan where a kind of case or a score is missing. Its cases and groups are those with an object.
    """
    models = [np.asarray(rows, np.float64) for rows in (first, second)]
    with_object = np.asarray(positive, bool)
    if with_object.all() or not with_object.any() or any(np.isnan(rows).any() for rows in models):
        return PairedDifference(0, 0, *[math.nan] * 6)
    names = np.asarray(groups, dtype=object).astype(str)
    known, index = np.unique(names, return_inverse=True)
    once = np.ones((1, len(names)), np.int64)
    mean = np.subtract(*(_missed(rows, with_object, once, specificity).mean() for rows in reversed(models)))
    rng = np.random.default_rng(seed)
    found = []
    for start in range(0, draws, DRAWS_AT_ONCE):
        count = min(DRAWS_AT_ONCE, draws - start)
        weights = _drawn(rng, len(known), count)[:, index]
        shares = [
            (_missed(rows, with_object, weights, specificity) * _drawn(rng, len(rows), count)).sum(1) / len(rows)
            for rows in models
        ]
        found.append(shares[1] - shares[0])
    low, high = np.nanquantile(np.concatenate(found), [(1 - level) / 2, (1 + level) / 2])
    own = int(with_object.sum())
    return PairedDifference(
        own, len(set(names[with_object])), float(mean), float(low), float(high), math.nan, math.nan, math.nan
    )


def _drawn(rng: np.random.Generator, of: int, draws: int) -> NDArray[np.int64]:
    """How often each of `of` things is drawn when as many are drawn with replacement, (draws, of)."""
    return rng.multinomial(of, np.full(of, 1 / of), draws)


def _missed(
    rows: NDArray[np.float64], positive: NDArray[np.bool_], weights: NDArray[np.int64], specificity: float
) -> NDArray[np.float64]:
    """Share missed in each draw with each row of scores, (draws, rows); nan where a draw lacks a kind of case.

    Args:
        rows: scores (seeds, cases).
        positive: (cases).
        weights: how often each draw has each case, (draws, cases).
        specificity: share that stays clean.
    """
    found = np.empty((len(weights), len(rows)))
    for at, scores in enumerate(rows):
        order = np.argsort(scores, kind="stable")
        others, ours = order[~positive[order]], order[positive[order]]
        counts = weights[:, others].cumsum(1)
        # The first score up to which enough cases without an object lie.
        wanted = np.ceil(specificity * counts[:, -1:] - 1e-9).clip(1)
        reached = np.minimum((counts < wanted).sum(1), len(others) - 1)
        below = np.searchsorted(scores[ours], scores[others[reached]], side="right")
        missed = np.concatenate([np.zeros((len(weights), 1), np.int64), weights[:, ours].cumsum(1)], axis=1)
        total = missed[:, -1].astype(np.float64)
        total[(total == 0) | (counts[:, -1] == 0)] = math.nan
        found[:, at] = missed[np.arange(len(weights)), below] / total
    return found
