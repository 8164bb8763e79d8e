"""What a stage learns from its teacher, as one objective with the labels' loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketseg.data import Case
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.geometry import pad_to_size, tiles
from pocketseg.recipes.schema import DistilSection, LossSection
from pocketseg.training.distil import logits_of, soft_loss
from pocketseg.training.hints import Hints, Student
from pocketseg.training.losses import segmentation_loss
from pocketseg.training.teachers import Teacher

# Probabilities (k, h, w) of a case on a grid (h, w).
Planes = Callable[[Case, tuple[int, int]], NDArray[np.float32]]


@dataclass(frozen=True)
class Inputs:
    """A step's share of one process.

    Attributes:
        images: (n, c, h, w), augmented.
        masks: class indices (n, h, w), or planes (n, k, h, w) where classes may overlap.
        labelled: which of them have a mask.
        share: weight of the labels' loss here, so that its mean over processes is that over all labelled samples.
        teacher_probabilities: the teacher's probabilities (n, k, h, w) where they come from files.
        weights: of the pixels (n, h, w), where the loss has some.
        shares: of the pixels that each class covers (n, classes, h, w), where masks are soft.
    """

    images: Tensor
    masks: Tensor
    labelled: Sequence[int]
    share: float = 1.0
    teacher_probabilities: Tensor | None = None
    weights: Tensor | None = None
    shares: Tensor | None = None


@dataclass(frozen=True)
class DistillationObjective:
    """A teacher, and what of it is learned.

    Attributes:
        teacher: asked about every batch; None where `planes` has its answers.
        planes: its probabilities from files.
        soft, hints: what is learned.
        unlabelled: images without masks.
    """

    teacher: Teacher | None
    planes: Planes | None
    soft: DistilSection | None
    hints: Hints | None
    unlabelled: Sequence[Case] = ()

    def loss(
        self, logits: Tensor, maps: Sequence[Tensor], inputs: Inputs, labels: LossSection | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """(1 − weight) · labels + weight · soft + Σ weight_j · hint_j, and the parts before their weights.

        The hints' part has the weights of the single hints in it. Without `labels` their term is left out.
        """
        prediction, others = self._taught(inputs)
        total = logits.new_zeros((), dtype=torch.float32)
        parts: dict[str, Tensor] = {}
        if labels is not None:
            loss, parts = labels_loss(logits, inputs, labels)
            total = total + (loss if self.soft is None else (1 - self.soft.weight) * loss)
        if self.soft is not None:
            parts["soft"] = soft_loss(logits, prediction, **self.soft.arguments())
            total = total + self.soft.weight * parts["soft"]
        if self.hints is not None:
            parts["hint"] = self.hints.losses(maps, others).mean()
            total = total + parts["hint"]
        return total, parts

    def _taught(self, inputs: Inputs) -> tuple[Tensor, list[Tensor]]:
        if self.teacher is not None:
            return self.teacher.predict(inputs.images)
        assert inputs.teacher_probabilities is not None
        return logits_of(inputs.teacher_probabilities), []

    def hint_losses(
        self, student: Student, prepared: Sequence[NDArray[np.float32]], pipeline: Pipeline, device: torch.device
    ) -> list[float]:
        """The hint loss of each prepared image (c, h, w), the mean over its tiles where it is cut into them."""
        assert self.hints is not None and self.teacher is not None
        if pipeline.fit != "tile":
            return self._hint_losses(student, np.stack(prepared), device)
        found = []
        for planes in prepared:
            whole = pad_to_size(planes, pipeline.size)
            windows = [
                whole[(slice(None), *place.window)] for place in tiles((whole.shape[1], whole.shape[2]), pipeline.size)
            ]
            found.append(float(np.mean([self._hint_losses(student, window[None], device) for window in windows])))
        return found

    def _hint_losses(self, student: Student, batch: NDArray[np.float32], device: torch.device) -> list[float]:
        assert self.hints is not None and self.teacher is not None
        images = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
        _, maps = student(images)
        return self.hints.losses(maps, self.teacher.predict(images)[1]).tolist()


def labels_loss(logits: Tensor, inputs: Inputs, weights: LossSection) -> tuple[Tensor, dict[str, Tensor]]:
    """The labels' loss over the labelled samples; 0 where none is."""
    rows = list(inputs.labelled)
    pixels, shares = inputs.weights, inputs.shares
    if len(rows) == len(logits) and inputs.share == 1:
        return segmentation_loss(logits, inputs.masks, **weights.arguments(), pixel_weights=pixels, shares=shares)
    chosen = rows or list(range(len(logits)))
    pixels, shares = (None if each is None else each[chosen] for each in (pixels, shares))
    loss, parts = segmentation_loss(
        logits[chosen], inputs.masks[chosen], **weights.arguments(), pixel_weights=pixels, shares=shares
    )
    share = inputs.share if rows else 0.0
    return share * loss, {name: share * value for name, value in parts.items()}
