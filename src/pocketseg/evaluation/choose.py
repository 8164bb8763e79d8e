"""Choosing threshold and component rules on validation cases.

For every threshold the components of every case are measured once (size, peak, pixels that are right); any combination
of rules is then a sum over components, so the whole grid costs little more than one pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pocketseg.metrics import Overlap, with_empty
from pocketseg.pipeline.components import fill_holes, label_components
from pocketseg.pipeline.postprocess import Postprocess, component_sizes_and_peaks, threshold_or_argmax

# Mildest first: a tie keeps the rule that interferes least.
THRESHOLDS = (0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8)
PEAKS = (0.0, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)
# As shares of the median image's area.
SIZES = (0.0, 0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02)

# Differences in mean Dice below this are less than a hundred validation cases can tell.
TOLERANCE = 0.01
# The share that rules must keep of the Dice on cases that have something.
KEPT = 0.9

Probability = NDArray[np.float32]


@dataclass(frozen=True)
class _Measured:
    """The components of one class in one case at one threshold."""

    sizes: NDArray[np.int64]
    peaks: NDArray[np.float32]
    right: NDArray[np.int64]
    reference: int
    pixels: int

    def dice(self, rules: Postprocess) -> float:
        kept = rules.kept(self.sizes, self.peaks)
        predicted = int(self.sizes[kept].sum())
        right = int(self.right[kept].sum())
        wrong, missed = predicted - right, self.reference - right
        return with_empty(Overlap(right, wrong, missed, self.pixels - right - wrong - missed).dice)


def choose_rules(
    rules: Postprocess, auto: Sequence[str], cases: Iterable[tuple[Probability, NDArray[np.uint8]]]
) -> tuple[Postprocess, float]:
    """The rules with the highest mean Dice over cases, an empty mask left empty counting 1 and a false alarm 0.

    Among rules that come within a hundredth of the best, which is less than the cases can tell apart, the ones with the
    highest Dice on cases that have something to find are taken: a rule is not to cost objects for nothing. And no rule
    may cost more than a tenth of that Dice, or where most cases are empty, erasing everything would be best. Where
    nothing is found under any rule, the mildest are taken.

    Args:
        rules: fixed values, and the start for what is chosen.
        auto: names among `threshold`, `min_peak`, `min_pixels` that are to be chosen.
        cases: probabilities (h, w, k) and class indices (h, w) of each case; taken one by one.

    Returns:
        The rules, and their mean Dice on these cases.
    """
    several: dict[float, list[_Measured]] = {}
    areas = []
    for probability, reference in cases:
        areas.append(reference.size)
        thresholds = THRESHOLDS if "threshold" in auto and probability.shape[2] == 1 else (rules.threshold,)
        for threshold in thresholds:
            several.setdefault(threshold, []).extend(_measure(probability, reference, threshold, rules.fill_holes))
    area = float(np.median(areas))
    peaks = PEAKS if "min_peak" in auto else (rules.min_peak,)
    sizes = [round(share * area) for share in SIZES] if "min_pixels" in auto else [rules.min_pixels]
    evaluated = []
    for threshold, peak, size in product(several, peaks, sizes):
        candidate = replace(rules, threshold=threshold, min_peak=peak, min_pixels=size)
        dice = np.array([measured.dice(candidate) for measured in several[threshold]])
        positive = np.array([measured.reference > 0 for measured in several[threshold]])
        found = float(dice[positive].mean()) if positive.any() else 0.0
        evaluated.append((candidate, float(dice.mean()), found))
    most = max(found for _, _, found in evaluated)
    # The grid begins with the mildest, and max keeps the first of equals.
    useful = [entry for entry in evaluated if entry[2] >= KEPT * most] if most else evaluated[:1]
    highest = max(dice for _, dice, _ in useful)
    best, mean, _ = max((entry for entry in useful if entry[1] >= highest - TOLERANCE), key=lambda entry: entry[2])
    return best, mean


def _measure(
    probability: Probability, reference: NDArray[np.uint8], threshold: float, fill: bool
) -> Iterable[_Measured]:
    winner = threshold_or_argmax(probability, threshold)
    for index in range(1, probability.shape[2] + 1):
        mask, reference = winner == index, reference == index
        labels, count = label_components(fill_holes(mask) if fill else mask)
        sizes, peaks = component_sizes_and_peaks(labels, count, probability[:, :, index - 1])
        right = np.bincount(labels[reference], minlength=count + 1)[1:]
        yield _Measured(sizes, peaks, right, int(reference.sum()), reference.size)
