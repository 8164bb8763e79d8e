"""Choosing threshold and component rules on validation cases, as far as these can carry the choice.

For every threshold the components of every case are measured once (size, peak, pixels that are right, objects they
touch); any combination of rules is then a sum over components, so the whole grid costs little more than one pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.layers import grid_of, layer, overlaps
from pocketseg.pipeline.components import fill_holes, label_components
from pocketseg.pipeline.postprocess import Postprocess, component_sizes_and_peaks, threshold_or_argmax
from pocketseg.text import counted

# Mildest first.
THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8)
PEAKS = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)
# As shares of the median image's area.
SIZES = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02)

# A rate near a half that is measured on so many groups has a 95 % interval of ± 1.96 √(¼ / 40) = 0.15. On 18 images
# without foreground it is ± 0.23: rules that differ by four false alarms are the same.
FEWEST_GROUPS = 40
# The share of the objects that are found, and of their Dice, that rules may cost each class.
MAY_COST = 0.05

Probability = NDArray[np.float32]
# Group, probabilities (h, w, k) and mask (`layers`).
Example = tuple[str, Probability, NDArray[np.uint8]]


@dataclass(frozen=True)
class Choice:
    """Rules, and what was not chosen.

    Attributes:
        rules: what is used.
        dice: mean Dice on the validation cases, an empty mask left empty counting 1 and a false alarm 0.
        mildest_dice: the same with the mildest rules.
        left: name of a rule that stays at its mildest value -> why.
    """

    rules: Postprocess
    dice: float
    mildest_dice: float
    left: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Measured:
    """The components of one class in one case at one threshold; `touches` pairs them with objects of the reference."""

    sizes: NDArray[np.int64]
    peaks: NDArray[np.float32]
    right: NDArray[np.int64]
    touches: NDArray[np.int32]
    reference: int
    pixels: int

    def scores(self, grid: Sequence[Postprocess]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """For each of several rules the Dice, and how many objects of the reference are touched by what is kept."""
        if not len(self.sizes):
            return np.full(len(grid), float(self.reference == 0)), np.zeros(len(grid), np.int64)
        kept = np.stack([rules.kept(self.sizes, self.peaks) for rules in grid])
        both, either = 2 * (kept @ self.right), kept @ self.sizes + self.reference
        dice = np.where(either > 0, both / np.maximum(either, 1), 1.0)  # nothing there and nothing found is right
        touched = kept[:, self.touches[:, 0]]
        objects = np.unique(self.touches[:, 1])
        found = np.array([touched[:, self.touches[:, 1] == each].any(1) for each in objects], np.int64)
        return dice, found.sum(0) if len(objects) else np.zeros(len(grid), np.int64)


@dataclass(frozen=True)
class _Entries:
    """What is known of each case and class: group, class, whether it has foreground."""

    groups: NDArray[np.intp]
    classes: NDArray[np.intp]
    positive: NDArray[np.bool_]

    def group_count(self, where: NDArray[np.bool_]) -> int:
        return len(np.unique(self.groups[where]))


@dataclass(frozen=True)
class _Candidate:
    """Rules with the Dice and the number of found objects of each entry; `cost` orders rules, mildest first."""

    rules: Postprocess
    dice: NDArray[np.float64]
    found: NDArray[np.int64]
    cost: tuple[int, int]


def choose_rules(
    rules: Postprocess,
    auto: Sequence[str],
    cases: Iterable[Example],
    classes: Sequence[str],
    *,
    multilabel: bool = False,
) -> Choice:
    """The mildest rules that validation cannot tell from those with the highest mean Dice.

    - A rule is chosen only on enough groups (patients): `FEWEST_GROUPS` with each class, and for component rules as
      many without it, if there are any without.
    - No rule may cost a class more than a twentieth of the objects that the mildest rules find, or of its Dice on cases
      that have it, however rare the class is.
    - Of the rest, those whose mean Dice is within one standard error of the best (of the paired difference, over
      groups) are alike, and the one that interferes least is taken (Breiman et al. 1984).

    Of classes that may overlap each gets a threshold of its own first, as if it were the only one; then component rules
    are chosen for all of them together.

    Args:
        rules: fixed values, and the start for what is chosen.
        auto: names among `threshold`, `min_peak`, `min_pixels` that are to be chosen.
        cases: the validation cases, taken one by one; of classes that may overlap kept all at once.
        classes: names of the foreground classes.
        multilabel: whether they may overlap.
    """
    if multilabel and "threshold" in auto:
        return _class_by_class(rules, auto, list(cases), classes)
    several, entries, area = _measure_all(rules, auto, cases)
    left = _too_few(auto, entries, classes)
    free = [name for name in auto if name not in left]
    candidates = _candidates(rules, free, several, area)
    mildest = candidates[0]
    if not any(each.found.any() for each in candidates):
        left |= dict.fromkeys(free, "nothing is found under any rule")
        return Choice(mildest.rules, float(mildest.dice.mean()), float(mildest.dice.mean()), left)
    useful = _harmless(candidates, entries) or [mildest]
    best = max(useful, key=lambda each: float(each.dice.mean()))
    alike = [each for each in useful if _behind(each, best, entries) <= 1]
    chosen = min(alike, key=lambda each: each.cost)
    for name in free:
        value, wanted = getattr(chosen.rules, name), getattr(best.rules, name)
        if value == getattr(mildest.rules, name) != wanted:
            left[name] = f"{wanted:g} is better by less than one standard error"
    return Choice(chosen.rules, float(chosen.dice.mean()), float(mildest.dice.mean()), left)


def _class_by_class(
    rules: Postprocess, auto: Sequence[str], cases: Sequence[Example], classes: Sequence[str]
) -> Choice:
    """A threshold for each class, then the component rules of all."""
    left: dict[str, str] = {}
    limits = []
    for index, name in enumerate(classes, start=1):
        alone = ((group, p[:, :, index - 1 : index], layer(mask, index).astype(np.uint8)) for group, p, mask in cases)
        found = choose_rules(replace(rules, thresholds=(), presence=()), ["threshold"], alone, [name])
        limits.append(found.rules.threshold)
        left |= {f"threshold of {name}": why for why in found.left.values()}
    chosen = replace(rules, thresholds=() if set(limits) == {rules.threshold} else tuple(limits))
    others = [name for name in auto if name != "threshold"]
    mildest = choose_rules(rules, [], cases, classes, multilabel=True)
    choice = choose_rules(chosen, others, cases, classes, multilabel=True)
    return replace(choice, mildest_dice=mildest.dice, left=left | dict(choice.left))


def _measure_all(
    rules: Postprocess, auto: Sequence[str], cases: Iterable[Example]
) -> tuple[dict[float, list[_Measured]], _Entries, float]:
    """Components at each threshold that may be chosen, what the entries are, and the median area of an image."""
    several: dict[float, list[_Measured]] = {}
    areas: list[int] = []
    groups: list[str] = []
    kinds: list[int] = []
    for group, probability, reference in cases:
        areas.append(math.prod(grid_of(reference)))
        thresholds = THRESHOLDS if "threshold" in auto and probability.shape[2] == 1 else (rules.threshold,)
        for threshold in thresholds:
            several.setdefault(threshold, []).extend(
                _measure(probability, reference, replace(rules, threshold=threshold))
            )
        groups += [group] * probability.shape[2]
        kinds += range(probability.shape[2])
    first = next(iter(several.values()))
    _, numbers = np.unique(groups, return_inverse=True)
    positive = np.array([measured.reference > 0 for measured in first])
    return several, _Entries(numbers, np.array(kinds), positive), float(np.median(areas))


def _too_few(auto: Sequence[str], entries: _Entries, classes: Sequence[str]) -> dict[str, str]:
    """Rules that these cases cannot carry -> why."""
    found: dict[str, str] = {}
    for index, name in enumerate(classes):
        own = entries.classes == index
        counts = {
            "with": entries.group_count(own & entries.positive),
            "without": entries.group_count(own & ~entries.positive),
        }
        for which, count in counts.items():
            if count >= FEWEST_GROUPS or (which == "without" and count == 0):
                continue
            why = f"{counted(count, 'validation group')} {which} {name}, {FEWEST_GROUPS} are needed"
            for rule in auto:
                if rule != "threshold" or (which == "with" and len(classes) == 1):
                    found.setdefault(rule, why)
    return found


def _candidates(
    rules: Postprocess, free: Sequence[str], several: Mapping[float, list[_Measured]], area: float
) -> list[_Candidate]:
    """Every combination of the rules that are free, the mildest first."""
    thresholds = list(several) if "threshold" in free else [rules.threshold]
    peaks = PEAKS if "min_peak" in free else (rules.min_peak,)
    sizes = [round(share * area) for share in SIZES] if "min_pixels" in free else [rules.min_pixels]
    found: list[_Candidate] = []
    for number, threshold in enumerate(thresholds):
        steps = list(product(enumerate(peaks), enumerate(sizes)))
        grid = [replace(rules, threshold=threshold, min_peak=peak, min_pixels=size) for (_, peak), (_, size) in steps]
        scores = [measured.scores(grid) for measured in several[threshold]]
        dice, objects = (np.stack(each, 1) for each in zip(*scores, strict=True))
        costs = [(first + second, number) for (first, _), (second, _) in steps]
        found += map(_Candidate, grid, dice, objects, costs)
    return found


def _harmless(candidates: Sequence[_Candidate], entries: _Entries) -> list[_Candidate]:
    """Those that leave every class its objects and its Dice, but for a small share.

    They are compared with the mildest; where that finds nothing of a class, with the most that any finds of it.
    """
    left = list(candidates)
    for index in np.unique(entries.classes):
        own = (entries.classes == index) & entries.positive
        if not candidates[0].found[own].any():
            usual = max(candidates, key=lambda each: int(each.found[own].sum()))
        else:
            usual = candidates[0]
        least_found = (1 - MAY_COST) * usual.found[own].sum()
        least_dice = (1 - MAY_COST) * usual.dice[own].sum()
        left = [each for each in left if each.found[own].sum() >= least_found and each.dice[own].sum() >= least_dice]
    return left


def _behind(candidate: _Candidate, best: _Candidate, entries: _Entries) -> float:
    """By how many standard errors its mean Dice is below the best; the error is that of the difference, over groups."""
    differences = best.dice - candidate.dice
    mean = float(differences.mean())
    if mean <= 0:
        return 0.0
    sums = np.bincount(entries.groups, differences - mean)
    if len(sums) < 2:
        return 0.0
    error = math.sqrt(len(sums) / (len(sums) - 1) * float((sums**2).sum())) / len(differences)
    return mean / error if error else math.inf


def _measure(probability: Probability, reference: NDArray[np.uint8], rules: Postprocess) -> Iterable[_Measured]:
    limits = rules.limits(probability.shape[2]) if overlaps(reference) else rules.threshold
    winner = threshold_or_argmax(probability, limits, multilabel=overlaps(reference))
    for index in range(1, probability.shape[2] + 1):
        mask, own = layer(winner, index) & (not rules.absent(index, probability)), layer(reference, index)
        labels, count = label_components(fill_holes(mask) if rules.fill_holes else mask)
        sizes, peaks = component_sizes_and_peaks(labels, count, probability[:, :, index - 1])
        right = np.bincount(labels[own], minlength=count + 1)[1:]
        both = own & (labels > 0)
        pairs: NDArray[Any] = np.stack([labels[both] - 1, label_components(own)[0][both]], 1)
        yield _Measured(sizes, peaks, right, np.unique(pairs, axis=0), int(own.sum()), own.size)
