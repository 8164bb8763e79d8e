"""Overlap of a predicted and a true mask, and the rule for empty ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.layers import layer

Outcome = Literal["scored", "miss", "false alarm", "true negative"]


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of one class in one case, and the ratios made of them.

    Ratios of the foreground are nan where the reference and the prediction are both empty; how such a case enters a
    mean is decided by the aggregator (`evaluation`), not here. One empty mask gives a Dice of 0. Specificity and
    accuracy count the background too and have a value there.

    Example:
        >>> a = np.array([1, 1, 0, 0], bool); b = np.array([0, 1, 1, 0], bool)
        >>> overlap(a, b).dice
        0.5
        >>> overlap(a, a & False).outcome
        'false alarm'
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN) (Dice 1945)."""
        return _ratio(2 * self.true_positive, 2 * self.true_positive + self.false_positive + self.false_negative)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN) (Jaccard 1912)."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive + self.false_negative)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); 0 where nothing was predicted although something is there."""
        return self._share(self.false_positive)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); 0 where something was predicted although nothing is there."""
        return self._share(self.false_negative)

    @property
    def volume_similarity(self) -> float:
        """1 − |FP − FN| / (2 TP + FP + FN): how alike the sizes are, wherever they lie (Taha and Hanbury 2015)."""
        both = 2 * self.true_positive + self.false_positive + self.false_negative
        return 1 - _ratio(abs(self.false_positive - self.false_negative), both)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP); nan where the reference covers the whole image."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all pixels; near 1 for every small object, found or not."""
        right, wrong = self.true_positive + self.true_negative, self.false_positive + self.false_negative
        return _ratio(right, right + wrong)

    def _share(self, others: int) -> float:
        if self.outcome in ("miss", "false alarm"):
            return 0.0
        return _ratio(self.true_positive, self.true_positive + others)

    @property
    def outcome(self) -> Outcome:
        """How the case is counted: a miss and a false alarm are never hidden in a mean."""
        reference = self.true_positive + self.false_negative > 0
        predicted = self.true_positive + self.false_positive > 0
        if reference:
            return "scored" if predicted else "miss"
        return "false alarm" if predicted else "true negative"


def with_empty(ratio: float) -> float:
    """A ratio in a mean over all cases: nothing there and nothing found is right, and counts 1.

    Example:
        >>> with_empty(float("nan")), with_empty(0.5)
        (1.0, 0.5)
    """
    return 1.0 if math.isnan(ratio) else ratio


def class_overlaps(mask: NDArray[np.uint8], reference: NDArray[np.uint8], classes: int) -> list[Overlap]:
    """The overlap of every foreground class, 1 to `classes`, of two masks."""
    return [overlap(layer(mask, index), layer(reference, index)) for index in range(1, classes + 1)]


def overlap(prediction: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Overlap:
    """Count the pixels of two masks of one shape.

    Args:
        prediction: bool, any shape.
        reference: bool, the same shape.
    """
    require_one_shape(prediction, reference)
    both = int(np.count_nonzero(prediction & reference))
    false_positive = int(np.count_nonzero(prediction)) - both
    false_negative = int(np.count_nonzero(reference)) - both
    return Overlap(both, false_positive, false_negative, prediction.size - both - false_positive - false_negative)


def require_one_shape(prediction: NDArray[Any], reference: NDArray[Any]) -> None:
    """NumPy would stretch some shapes and count wrongly."""
    if prediction.shape != reference.shape:
        raise ValueError(f"masks of one shape are needed, not {prediction.shape} and {reference.shape}")


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
