"""The numbers of other programs, formula by formula, for comparisons with their papers and logs.

For new work prefer the metrics of this room. Each function takes two bool masks of one shape, prediction first, and
measures in pixels; what is odd about it stands in its text. `vaze2020_*`: Vaze et al. 2020; `blu_net_*`: Zhang 2022;
`fixed_point_*`: AskariHemmat et al. 2019; `resnet18_unet_*`: the breast ultrasound project of that name; `medpy_*`: the
package MedPy, which the light U-Net study uses; `monai_*`: MONAI 1.6 with its defaults.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pocketseg.metrics.overlap import overlap
from pocketseg.metrics.surface import SurfaceDistances, surface_distances

Mask = NDArray[np.bool_]


def vaze2020_dice(prediction: Mask, reference: Mask) -> float:
    """(2 |A ∩ B| + s) / (|A| + |B| + s) with s = 10⁻⁴.

    Odd: two empty masks give 1 and one empty mask a little above 0.
    """
    counts = overlap(prediction, reference)
    sizes = 2 * counts.true_positive + counts.false_positive + counts.false_negative
    return (2 * counts.true_positive + 1e-4) / (sizes + 1e-4)


def resnet18_unet_iou(prediction: Mask, reference: Mask) -> float:
    """TP / (TP + FP + FN).

    Odd: 0/0 = nan for a normal image rightly left empty, and the plain mean over a batch takes the nan along.
    """
    return overlap(prediction, reference).iou


def blu_net_iou(prediction: Mask, reference: Mask) -> float:
    """TP / (TP + FP + FN + 10⁻⁷).

    Odd: two empty masks give 0.
    """
    counts = overlap(prediction, reference)
    return counts.true_positive / (counts.true_positive + counts.false_positive + counts.false_negative + 1e-7)


def blu_net_f1(prediction: Mask, reference: Mask) -> float:
    """TP / (TP + ½ (FP + FN) + 10⁻⁷).

    Odd: two empty masks give 0.
    """
    counts = overlap(prediction, reference)
    return counts.true_positive / (counts.true_positive + (counts.false_positive + counts.false_negative) / 2 + 1e-7)


def fixed_point_dice(prediction: Mask, reference: Mask) -> float:
    """100 · Dice.

    Odd: in percent; two empty masks give 0.
    """
    return 100 * _or_zero(overlap(prediction, reference).dice)


def fixed_point_iou(prediction: Mask, reference: Mask) -> float:
    """100 · IoU, with 0 where it is undefined."""
    return 100 * _or_zero(overlap(prediction, reference).iou)


def fixed_point_precision(prediction: Mask, reference: Mask) -> float:
    """100 · precision, with 0 where it is undefined."""
    return 100 * _or_zero(overlap(prediction, reference).precision)


def fixed_point_recall(prediction: Mask, reference: Mask) -> float:
    """100 · recall, with 0 where it is undefined."""
    return 100 * _or_zero(overlap(prediction, reference).recall)


def fixed_point_specificity(prediction: Mask, reference: Mask) -> float:
    """100 · specificity, with 0 where it is undefined."""
    return 100 * _or_zero(overlap(prediction, reference).specificity)


def fixed_point_accuracy(prediction: Mask, reference: Mask) -> float:
    """100 · accuracy."""
    return 100 * overlap(prediction, reference).accuracy


def fixed_point_rand_index(prediction: Mask, reference: Mask) -> float:
    """(TP + TN) / all pixels.

    Odd: the name. It is the accuracy; no pair of pixels is compared. `rand_of_masks` has the Rand index.
    """
    return overlap(prediction, reference).accuracy


def fixed_point_hausdorff(prediction: Mask, reference: Mask) -> float:
    """max over rows a of the prediction of min over rows b of the reference of |a − b|, rows taken as points.

    Odd: an image row of w pixels is taken for a point of w coordinates, one direction is measured only, and the number
    is the root of how many pixels of two rows differ. It says nothing about contours. Two-dimensional masks only.
    """
    a, b = prediction.astype(np.int64), reference.astype(np.int64)
    # |a − b|² = |a| + |b| − 2 a·b for rows of zeros and ones.
    squared = a.sum(axis=1)[:, None] + b.sum(axis=1)[None, :] - 2 * a @ b.T
    return math.sqrt(int(squared.min(axis=1).max()))


def medpy_hd(prediction: Mask, reference: Mask) -> float:
    """The largest distance of both directions; nan where a mask is empty (MedPy raises, the study wrote nan)."""
    return _nan_if_empty(surface_distances(prediction, reference), lambda found: found.hd)


def medpy_hd95(prediction: Mask, reference: Mask) -> float:
    """The 95th percentile of the distances of both directions together.

    Odd: the two directions are pooled before the percentile is taken, so a large surface outvotes a small one: never
    more than the larger of the two percentiles, and often much less. nan where a mask is empty.
    """
    return _nan_if_empty(
        surface_distances(prediction, reference),
        lambda found: float(np.percentile(np.concatenate([found.to_reference, found.to_prediction]), 95)),
    )


def medpy_asd(prediction: Mask, reference: Mask) -> float:
    """Mean distance from prediction to reference; nan where a mask is empty."""
    return _nan_if_empty(surface_distances(prediction, reference), lambda found: found.asd)


def medpy_assd(prediction: Mask, reference: Mask) -> float:
    """Mean of the two directed means.

    Odd: a surface of ten pixels weighs as much as one of a thousand. nan where a mask is empty.
    """
    return _nan_if_empty(
        surface_distances(prediction, reference),
        lambda found: float(found.to_reference.mean() + found.to_prediction.mean()) / 2,
    )


def monai_dice(prediction: Mask, reference: Mask) -> float:
    """Dice.

    Odd: nan wherever the reference is empty, so false alarms vanish from its mean (`ignore_empty`).
    """
    return overlap(prediction, reference).dice if reference.any() else math.nan


def monai_iou(prediction: Mask, reference: Mask) -> float:
    """IoU; nan wherever the reference is empty, as `monai_dice`."""
    return overlap(prediction, reference).iou if reference.any() else math.nan


def monai_hd95(prediction: Mask, reference: Mask) -> float:
    """The larger of the two directed 95th percentiles.

    Odd: nan where either mask is empty, and its mean leaves nan out: a missed structure costs nothing.
    """
    return _nan_if_empty(surface_distances(prediction, reference), lambda found: found.hd95)


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _nan_if_empty(found: SurfaceDistances, value: Callable[[SurfaceDistances], float]) -> float:
    return value(found) if found.to_reference.size and found.to_prediction.size else math.nan


FUNCTIONS: dict[str, Callable[[Mask, Mask], float]] = {
    function.__name__: function
    for function in (
        vaze2020_dice, resnet18_unet_iou, blu_net_iou, blu_net_f1, fixed_point_dice, fixed_point_iou,
        fixed_point_precision, fixed_point_recall, fixed_point_specificity, fixed_point_accuracy,
        fixed_point_rand_index, fixed_point_hausdorff, medpy_hd, medpy_hd95, medpy_asd, medpy_assd,
        monai_dice, monai_iou, monai_hd95,
    )
}  # fmt: skip
