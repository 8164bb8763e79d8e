"""Masks of many objects: which lesions were found, and how well cells were kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.metrics.optional import scipy_part
from pocketseg.metrics.overlap import Overlap, require_one_shape

# False positives an image at which free-response studies read the sensitivity (Setio et al. 2017).
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Detection:
    """The objects of one class in one case: what was found of the reference, what was right of the prediction.

    Ratios follow the rule of `Overlap`: nan where there is no object at all, 0 where only one side has some.

    Attributes:
        found: one truth value for each object of the reference, in reading order.
        right: one truth value for each predicted object.
        confidence: highest probability inside of each predicted object; 1 where none is known.
        sizes: pixels of each object of the reference.
        predicted_sizes: pixels of each predicted object.

    Example:
        >>> reference = np.array([[1, 1, 0, 0, 1], [1, 1, 0, 0, 0]], bool)
        >>> prediction = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 1, 0]], bool)
        >>> found = detect(prediction, reference)
        >>> found.found.tolist(), found.right.tolist(), found.recall
        ([True, False], [True, False], 0.5)
    """

    found: NDArray[np.bool_]
    right: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    sizes: NDArray[np.int64]
    predicted_sizes: NDArray[np.int64]

    @property
    def true_positive(self) -> int:
        return int(np.count_nonzero(self.found))

    @property
    def false_positive(self) -> int:
        return int(np.count_nonzero(~self.right))

    @property
    def false_negative(self) -> int:
        return int(np.count_nonzero(~self.found))

    @property
    def precision(self) -> float:
        """Share of the predicted objects that are right."""
        return self._counts.precision

    @property
    def recall(self) -> float:
        """Share of the reference's objects that were found (lesion-wise sensitivity)."""
        return self._counts.recall

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN), counted in objects."""
        return self._counts.dice

    @property
    def _counts(self) -> Overlap:
        return Overlap(self.true_positive, self.false_positive, self.false_negative, 0)


def detect(
    prediction: Mask, reference: Mask, *, min_iou: float = 0.1, probability: NDArray[np.floating] | None = None
) -> Detection:
    """Pair predicted with true objects, one to one, as many as can be.

    Objects are connected components whose pixels touch by faces or corners. Two may be a pair where their intersection
    over union is at least `min_iou`; from 0.5 on nothing is left to choose.

    Args:
        prediction: bool, any number of axes.
        reference: bool, the same shape.
        min_iou: above 0, up to 1.
        probability: of the class, the same shape; gives the predicted objects their confidence.

    Raises:
        ValueError: other shapes, or a `min_iou` out of range.
        EnvironmentProblem: SciPy is not installed.
    """
    require_one_shape(prediction, reference)
    if not 0 < min_iou <= 1:
        raise ValueError(f"min_iou is above 0 and up to 1, not {min_iou}")
    ours, count = components(prediction)
    theirs, wanted = components(reference)
    sizes, references = (
        np.bincount(ours.ravel(), minlength=count + 1),
        np.bincount(theirs.ravel(), minlength=wanted + 1),
    )
    a, b, shared = _meetings(ours, theirs)
    likely = shared / (sizes[a] + references[b] - shared) >= min_iou
    pairs = scipy_part("sparse").coo_matrix(
        (np.ones(np.count_nonzero(likely), np.int8), (a[likely] - 1, b[likely] - 1)), shape=(count, wanted)
    )
    partner = np.full(count, -1)
    if count and wanted:
        partner = scipy_part("sparse.csgraph").maximum_bipartite_matching(pairs.tocsr(), perm_type="column")
    found = np.zeros(wanted, bool)
    found[partner[partner >= 0]] = True
    confidence = np.ones(count)
    if probability is not None and count:
        confidence = scipy_part("ndimage").maximum(probability, ours, np.arange(1, count + 1)).astype(np.float64)
    return Detection(found, partner >= 0, confidence, references[1:], sizes[1:])


def components(mask: Mask, *, diagonal: bool = True) -> tuple[Labels, int]:
    """Numbers 1, 2, … for the connected components of a mask, in reading order, and how many there are.

    Args:
        mask: bool, any number of axes.
        diagonal: whether pixels that share only a corner touch.
    """
    ndimage = scipy_part("ndimage")
    structure = ndimage.generate_binary_structure(mask.ndim, mask.ndim if diagonal else 1)
    labels, count = ndimage.label(mask, structure)
    return labels, int(count)


@dataclass(frozen=True)
class FreeResponse:
    """Sensitivity against false positives, as the confidence asked for falls (Bunch et al. 1977).

    Attributes:
        thresholds: confidences, falling.
        false_positives: mean number an image at each threshold.
        sensitivity: share of all reference objects found at each threshold.
    """

    thresholds: NDArray[np.float64]
    false_positives: NDArray[np.float64]
    sensitivity: NDArray[np.float64]

    def at(self, rate: float) -> float:
        """The highest sensitivity with at most so many false positives an image."""
        return float(self.sensitivity[self.false_positives <= rate].max(initial=0.0))

    @property
    def score(self) -> float:
        """Mean sensitivity at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives an image."""
        return float(np.mean([self.at(rate) for rate in RATES]))


def free_response(cases: Sequence[Detection]) -> FreeResponse:
    """The curve over all cases; it ends where the masks' own threshold ended.

    Args:
        cases: with the confidence of each predicted object; at least one reference object among them.

    Example:
        >>> reference = np.array([True, False])
        >>> sizes = np.array([5, 5])
        >>> curve = free_response([Detection(reference, reference, np.array([0.6, 0.9]), sizes, sizes)])
        >>> curve.thresholds.tolist(), curve.false_positives.tolist(), curve.sensitivity.tolist()
        ([0.9, 0.6], [1.0, 1.0], [0.0, 0.5])
    """
    wanted = sum(len(case.found) for case in cases)
    if not wanted:
        raise ValueError("no reference has an object: a sensitivity needs one")
    confidence = np.concatenate([case.confidence for case in cases])
    right = np.concatenate([case.right for case in cases])
    thresholds, index = np.unique(-confidence, return_inverse=True)
    hits, falls = (np.cumsum(np.bincount(index[kind], minlength=len(thresholds))) for kind in (right, ~right))
    return FreeResponse(-thresholds, falls / len(cases), hits / wanted)


@dataclass(frozen=True)
class Rand:
    """How two divisions of the same pixels into objects agree; nan where the reference has no object.

    Attributes:
        index: share of pixel pairs that both divisions keep together or both keep apart (Rand 1971).
        split: of two pixels of one true object, the share that one predicted object holds (1: nothing was split).
        merge: of two pixels of one predicted object, the share that lies in one true object (1: nothing was merged).
    """

    index: float
    split: float
    merge: float

    @property
    def f_score(self) -> float:
        """Harmonic mean of split and merge: V-Rand at α = ½ (Arganda-Carreras et al. 2015)."""
        return 2 * self.split * self.merge / (self.split + self.merge)


def rand(prediction: NDArray[np.integer], reference: NDArray[np.integer]) -> Rand:
    """Compare two label images inside of the reference's objects.

    Args:
        prediction: labels, any number of axes. A pixel of label 0 belongs to no object and is alone.
        reference: labels, the same shape; pixels of label 0 are left out.

    Example:
        >>> rand(np.array([1, 1, 1, 1]), np.array([1, 1, 2, 2]))
        Rand(index=0.3333333333333333, split=1.0, merge=0.5)
    """
    require_one_shape(prediction, reference)
    inside = reference > 0
    pixels = int(np.count_nonzero(inside))
    if not pixels:
        return Rand(float("nan"), float("nan"), float("nan"))
    a, _, shared = _meetings(prediction, reference)
    alone = int(np.count_nonzero(inside & (prediction == 0)))
    both = _squares(shared) + alone
    ours = _squares(np.bincount(a, weights=shared)) + alone
    theirs = _squares(np.bincount(reference[inside]))
    pairs = pixels * (pixels - 1)
    index = 1.0 if pairs == 0 else (pairs + 2 * both - ours - theirs) / pairs
    return Rand(index, both / theirs, both / ours)


def rand_of_masks(prediction: Mask, reference: Mask, *, membranes: bool = False) -> Rand:
    """Compare the objects of two masks: their components, or with `membranes` what their foreground keeps apart.

    Pixels that share only a corner do not touch, so that a thin diagonal membrane is tight.
    """
    if membranes:
        prediction, reference = ~prediction, ~reference
    return rand(components(prediction, diagonal=False)[0], components(reference, diagonal=False)[0])


def _meetings(
    a: NDArray[np.integer], b: NDArray[np.integer]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
    """Every pair of labels above 0 that share pixels, and how many."""
    both = (a > 0) & (b > 0)
    width = int(b.max(initial=0)) + 1
    codes, shared = np.unique(a[both].astype(np.int64) * width + b[both], return_counts=True)
    return codes // width, codes % width, shared


def _squares(counts: NDArray[Any]) -> int:
    return int(np.square(counts.astype(np.int64)).sum())
