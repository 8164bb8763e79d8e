"""Every metric of the recipe on validation cases while a stage is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case
from pocketseg.evaluation import CaseScore, MetricConfig, Prediction, metric_means, score_case

# The history has them by another rule for empty masks, and always.
HELD = ("dice", "iou")


@dataclass(frozen=True)
class Measuring:
    """What a training asks each `every` epochs.

    Attributes:
        every: epochs.
        classes: names of the foreground classes.
        config: what is measured.
    """

    every: int
    classes: tuple[str, ...]
    config: MetricConfig

    def of_case(
        self, case: Case, reference: NDArray[np.uint8], mask: NDArray[np.uint8], probability: NDArray[np.float32]
    ) -> list[CaseScore]:
        """A row for each class."""
        return score_case(case, reference, Prediction(mask, probability), self.classes, self.config)

    def means(self, rows: Sequence[CaseScore]) -> dict[str, float]:
        """Columns of the history: means as the evaluation's, of each class; what has no value is left out."""
        several = len(self.classes) > 1
        return {
            f"val_{name}{f' {class_name}' if several else ''}": value
            for class_name in self.classes
            for name, value in metric_means([row for row in rows if row.class_name == class_name]).items()
            if name not in HELD or several
        }
