"""The metrics that can be asked for by name, and what each is of one class in one case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import RecipeError, near
from pocketseg.metrics import (
    Calibration,
    Detection,
    Overlap,
    Rand,
    SurfaceDistances,
    calibration,
    circumference_error,
    compat,
    detect,
    overlap,
    rand_of_masks,
    surface_distances,
)

DEFAULT = ("dice", "iou", "precision", "recall", "hd95", "assd")


@dataclass(frozen=True)
class MetricConfig:
    """What is to be measured.

    Attributes:
        metrics: names of `METRICS` (or those of other tools in `OTHER_NAMES`), or `compat.` and a name of
            `metrics.compat`.
        tolerance: of `surface_dice` and `boundary_f1`, in mm where spacing is known, in pixels elsewhere.
        lesion_iou: from which intersection over union on an object counts as found.

    Raises:
        RecipeError: names that are unknown, all reported at once.
    """

    metrics: tuple[str, ...] = DEFAULT
    tolerance: float = 2.0
    lesion_iou: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(dict.fromkeys(OTHER_NAMES.get(name, name) for name in self.metrics)))
        faults = [f"{name!r} is not a metric; {near(name, known())}" for name in self.metrics if name not in known()]
        if faults:
            raise RecipeError("evaluate.metrics", "; ".join(faults), "see docs/metrics.md")

    def check_packages(self) -> None:
        """Find out early whether a chosen metric lacks a package: measure two pixels that lie far apart.

        Raises:
            EnvironmentProblem: SciPy is not installed.
        """
        pixels = np.arange(20)[None, :] == 0
        pair = Pair(pixels, pixels[:, ::-1], pixels.astype(np.float32), None, self)
        for name in self.metrics:
            metric(name).value(pair)

    @property
    def needs_probability(self) -> list[str]:
        """The chosen metrics that masks alone cannot give."""
        return [name for name in self.metrics if name in METRICS and METRICS[name].needs_probability]


@dataclass(frozen=True)
class Pair:
    """One class of one case. Each family of metrics is worked out when the first of its members is asked for.

    Attributes:
        prediction: bool (h, w).
        reference: bool (h, w).
        probability: float32 (h, w), where the model gives one.
        spacing: pixel size (row, column) in mm; None gives distances in pixels.
        config: tolerance and rule of the objects.
    """

    prediction: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    probability: NDArray[np.float32] | None
    spacing: tuple[float, float] | None
    config: MetricConfig

    @cached_property
    def overlap(self) -> Overlap:
        return overlap(self.prediction, self.reference)

    @cached_property
    def surface(self) -> SurfaceDistances:
        return surface_distances(self.prediction, self.reference, self.spacing)

    @cached_property
    def objects(self) -> Detection:
        return detect(self.prediction, self.reference, min_iou=self.config.lesion_iou, probability=self.probability)

    @cached_property
    def rand(self) -> Rand:
        return rand_of_masks(self.prediction, self.reference)

    @cached_property
    def membranes(self) -> Rand:
        return rand_of_masks(self.prediction, self.reference, membranes=True)

    @property
    def circumference_error(self) -> float:
        return circumference_error(self.prediction, self.reference, self.spacing)

    @cached_property
    def calibration(self) -> Calibration:
        assert self.probability is not None
        return calibration(self.probability, self.reference)


@dataclass(frozen=True)
class Metric:
    """A metric by name.

    Attributes:
        value: of a pair; nan and inf as its family says.
        kind: `distance` has the unit of the spacing, `ratio` and `count` none.
        over: the cases its mean is over, those with something in the reference or all.
        needs_probability: masks alone do not give it.
    """

    value: Callable[[Pair], float]
    kind: Literal["ratio", "distance", "count"] = "ratio"
    over: Literal["positive", "all"] = "positive"
    needs_probability: bool = False


METRICS: dict[str, Metric] = {
    "dice": Metric(lambda pair: pair.overlap.dice),
    "iou": Metric(lambda pair: pair.overlap.iou),
    "precision": Metric(lambda pair: pair.overlap.precision),
    "recall": Metric(lambda pair: pair.overlap.recall),
    "specificity": Metric(lambda pair: pair.overlap.specificity, over="all"),
    "accuracy": Metric(lambda pair: pair.overlap.accuracy, over="all"),
    "volume_similarity": Metric(lambda pair: pair.overlap.volume_similarity),
    "hd": Metric(lambda pair: pair.surface.hd, kind="distance"),
    "hd95": Metric(lambda pair: pair.surface.hd95, kind="distance"),
    "asd": Metric(lambda pair: pair.surface.asd, kind="distance"),
    "assd": Metric(lambda pair: pair.surface.assd, kind="distance"),
    "circumference_error": Metric(lambda pair: pair.circumference_error, kind="distance"),
    "surface_dice": Metric(lambda pair: pair.surface.surface_dice(pair.config.tolerance)),
    "boundary_f1": Metric(lambda pair: pair.surface.boundary_f1(pair.config.tolerance)),
    "lesion_recall": Metric(lambda pair: pair.objects.recall),
    "lesion_precision": Metric(lambda pair: pair.objects.precision),
    "lesion_f1": Metric(lambda pair: pair.objects.f1),
    "lesion_false_positives": Metric(lambda pair: float(pair.objects.false_positive), kind="count", over="all"),
    "rand": Metric(lambda pair: pair.rand.index),
    "vrand": Metric(lambda pair: pair.rand.f_score),
    "membrane_rand": Metric(lambda pair: pair.membranes.index, over="all"),
    "membrane_vrand": Metric(lambda pair: pair.membranes.f_score, over="all"),
    "calibration_error": Metric(lambda pair: pair.calibration.expected_error, over="all", needs_probability=True),
    "brier": Metric(lambda pair: pair.calibration.brier, over="all", needs_probability=True),
}


# What MONAI, torchmetrics, nnU-Net and papers call them.
OTHER_NAMES = {
    "dsc": "dice", "f1": "dice", "jaccard": "iou", "ppv": "precision", "sensitivity": "recall", "hausdorff": "hd",
    "hausdorff95": "hd95", "nsd": "surface_dice", "normalized_surface_dice": "surface_dice", "ece": "calibration_error",
}  # fmt: skip


def known() -> Sequence[str]:
    """Every name that can be chosen."""
    return [*METRICS, *(f"compat.{name}" for name in compat.FUNCTIONS)]


def metric(name: str) -> Metric:
    """A metric by name; those of other programs keep their own rule for empty masks and are averaged over all cases."""
    if name in METRICS:
        return METRICS[name]
    function = compat.FUNCTIONS[name.removeprefix("compat.")]
    return Metric(lambda pair: function(pair.prediction, pair.reference), over="all")
