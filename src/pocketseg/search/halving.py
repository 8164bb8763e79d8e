"""Successive halving (Jamieson and Talwalkar 2016): many briefly, the better half for twice as long, one in full."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

# Fewer steps tell nothing of a shape; trainings are of whole epochs, and a stage with quantizers takes one of its own.
LEAST_STEPS, LEAST_EPOCHS = 40, 2
# A net that learned for fewer is rarely worth using.
USEFUL_STEPS = 300
COUNTS = (8, 4, 2, 1)
# In points of Dice: a file of half the bytes is as good as one with so much more.
POINTS_PER_HALF = 0.25
# Steps with quantizers for each step without, and how much longer such a step takes.
QUANT_SHARE, QUANT_COST = 0.25, 2.0
# Opening, evaluating, packing and drawing a run, beside its steps.
RUN_S = 6.0


@dataclass(frozen=True)
class Schedule:
    """How many candidates each round has, for how many steps; and the steps of the winner."""

    rounds: tuple[tuple[int, int], ...]
    full_steps: int

    @property
    def candidates(self) -> int:
        return self.rounds[0][0] if self.rounds else 1


@dataclass(frozen=True)
class Side:
    """Trainings side by side, and how much longer a step of one takes then."""

    jobs: int = 1
    slower: float = 1.0

    def waves(self, trainings: int) -> int:
        """How many times as long as one training so many take."""
        return -(-trainings // self.jobs)


ALONE = Side()


def schedule(count: int, full_steps: int) -> Schedule:
    """Rounds of `count` candidates (a power of 2) and halves of them, each for twice the steps of the one before.

    Example:
        >>> schedule(8, 1600)
        Schedule(rounds=((8, 100), (4, 200), (2, 400)), full_steps=1600)
        >>> schedule(1, 1600).rounds
        ()
    """
    rounds = int(math.log2(count))
    return Schedule(
        tuple((count >> at, max(1, full_steps // 2 ** (rounds + 1 - at))) for at in range(rounds)), full_steps
    )


def work(plan: Schedule, folds: int, schemes: int, side: Side = ALONE) -> tuple[float, int]:
    """Steps in floats that a schedule takes, those with quantizers counted as what they cost, and its runs.

    Of trainings side by side the time of one counts; the winner is trained alone.
    """
    quantized = QUANT_SHARE * QUANT_COST
    searched = sum(side.waves(count * folds) * steps for count, steps in plan.rounds) * side.slower * (1 + quantized)
    runs = sum(side.waves(count * folds) for count, _ in plan.rounds) + 1
    return searched + plan.full_steps * (1 + quantized * schemes), runs


def fitted(
    seconds: float, step_s: float, folds: int, schemes: int, most: int, epoch_steps: int = 1, side: Side = ALONE
) -> Schedule:
    """The schedule of the most candidates that still learn something in the time, and as many steps as fill it.

    Args:
        seconds: of training.
        step_s: of a step of a usual candidate.
        folds: that each candidate of a round is trained in.
        schemes: that the winner is quantized by.
        most: candidates that there are.
        epoch_steps: of an epoch of a candidate.
        side: how many are trained at once.

    Example:
        >>> fitted(1800, 0.1, 1, 1, 40).candidates, fitted(60, 0.1, 1, 1, 40).candidates
        (8, 2)
    """

    def full_steps(count: int) -> int:
        unit, runs = work(schedule(count, 2**12), folds, schemes, side)
        return max(LEAST_STEPS, int((seconds - runs * RUN_S) / step_s / (unit / 2**12)))

    return most_candidates(most, full_steps, epoch_steps)


def lasting(
    plan: Schedule, step_s: float, folds: int, schemes: int, epoch_steps: Sequence[int], side: Side = ALONE
) -> float:
    """Seconds that a schedule takes in whole epochs, of which every stage has one at least.

    Args:
        plan: the schedule.
        step_s: of a step of a usual candidate.
        folds, schemes: as for `fitted`.
        epoch_steps: of an epoch of a candidate, and of the winner.
        side: how many candidates are trained at once.

    Example:
        >>> lasting(Schedule((), 100), 0.1, 1, 2, (50, 50))
        36.0
    """

    def run(steps: int, schemes: int, epoch: int, slower: float) -> float:
        epochs = max(1, round(steps / epoch))
        quantized = schemes * max(1, round(epochs * QUANT_SHARE))
        return RUN_S + slower * step_s * epoch * (epochs + quantized * QUANT_COST)

    first, full = epoch_steps
    searched = sum(side.waves(count * folds) * run(steps, 1, first, side.slower) for count, steps in plan.rounds)
    return searched + run(plan.full_steps, schemes, full, 1.0)


def most_candidates(most: int, full_steps: Callable[[int], int], epoch_steps: int = 1) -> Schedule:
    """The schedule of the most candidates that learn something in their first round.

    Args:
        most: candidates that there are.
        full_steps: of the winner, where there are so many candidates.
        epoch_steps: of an epoch of a candidate.

    Example:
        >>> most_candidates(40, lambda count: 300)
        Schedule(rounds=((2, 75),), full_steps=300)
        >>> most_candidates(40, lambda count: 300, epoch_steps=60)
        Schedule(rounds=(), full_steps=300)
    """
    least = max(LEAST_STEPS, LEAST_EPOCHS * epoch_steps)
    found = (schedule(count, full_steps(count)) for count in COUNTS if count <= most)
    return next(each for each in found if not each.rounds or each.rounds[0][1] >= least)


def ranked(scores: Mapping[str, float], sizes: Mapping[str, int]) -> list[str]:
    """Names, the best first: by Dice, where a file of half the bytes is worth `POINTS_PER_HALF`.

    A score that is nan comes last, and ties are broken by size and name, so that the order is always the same.

    Example:
        >>> ranked({"a": 0.9, "b": 0.899, "c": float("nan")}, {"a": 40, "b": 20, "c": 10})
        ['b', 'a', 'c']
    """

    def key(name: str) -> tuple[bool, float, int, str]:
        score = scores[name]
        worth = 0.0 if math.isnan(score) else 100 * score - POINTS_PER_HALF * math.log2(sizes[name])
        return math.isnan(score), -round(worth, 9), sizes[name], name

    return sorted(scores, key=key)


def better_half(scores: Mapping[str, float], sizes: Mapping[str, int], keep: int) -> Sequence[str]:
    """The names that go on."""
    return [name for name in ranked(scores, sizes) if not math.isnan(scores[name])][:keep]
