"""Pictures of a stage: curves, and how some validation cases come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases
from pocketseg.metrics import overlap
from pocketseg.predictors import Predictor
from pocketseg.reporting import Panel, StageCurves, overlay, save_curves, save_examples
from pocketseg.runs.history import read_history
from pocketseg.training.stage_folder import StageFolder

if TYPE_CHECKING:
    import torch

    from pocketseg.training.model import Model

EXAMPLES = 8


def panel(cases: Cases, case: Case, predictor: Predictor) -> Panel:
    """A case with its reference and its prediction, and the Dice of any foreground as caption."""
    image, reference = cases.image(case), cases.mask(case)
    prediction = predictor.mask(image, case.spacing_mm)
    found = overlap(prediction > 0, reference > 0)
    caption = f"Dice {found.dice:.2f}" if found.outcome == "scored" else found.outcome
    return Panel(case.name, caption, image, reference, prediction)


def draw_stage(folder: StageFolder, title: str, cases: Cases, validation: Sequence[Case], ignored: int = 0) -> None:
    """Write curves.png and examples.png of a stage that has been trained; its first epochs are not its best."""
    from pocketseg.training.model import Model

    save_curves(StageCurves(title, read_history(folder.history), ignored), folder.curves)
    predictor = Model.load(folder.best).predictor()
    panels = [panel(cases, case, predictor) for case in _shown(validation)]
    save_examples(panels, folder.examples, predictor.pipeline.classes)


def draw_examples(
    cases: Cases, validation: Sequence[Case], model: Model, device: torch.device
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and picture of some validation cases with the contours of reference and prediction, uint8 (h, w, 3)."""
    predictor = model.predictor(device)
    for case in _shown(validation):
        image, reference = cases.image(case), cases.mask(case)
        yield case.name, overlay(image, predictor.mask(image), reference, classes=len(model.pipeline.classes))


def _shown(validation: Sequence[Case]) -> list[Case]:
    """Examples from everywhere in the validation part."""
    step = max(1, len(validation) // EXAMPLES)
    return list(validation)[::step][:EXAMPLES]
