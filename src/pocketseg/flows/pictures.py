"""Pictures of a stage: curves, and how some validation cases come out."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases
from pocketseg.errors import RunError
from pocketseg.metrics import overlap
from pocketseg.predictors import Predictor
from pocketseg.reporting import Panel, StageCurves, overlay, save_curves, save_examples

if TYPE_CHECKING:
    import torch

    from pocketseg.training.model import Model

EXAMPLES = 8


def read_history(folder: Path, name: str = "history.csv") -> list[dict[str, float]]:
    """Rows of a stage's history.csv, or of its timings.csv; none where it is not there.

    Raises:
        RunError: it is damaged.
    """
    path = folder / name
    try:
        # Version 0.1 appended its timings, and a kill could cut off the last line.
        whole = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.exists() else ""
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(io.StringIO(whole))]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(str(path), f"is damaged ({error})", "restore it from a copy, or remove it") from error


def panel(cases: Cases, case: Case, predictor: Predictor) -> Panel:
    """A case with its reference and its prediction, and the Dice of any foreground as caption."""
    image, truth = cases.image(case), cases.mask(case)
    prediction = predictor.mask(image, case.spacing_mm)
    found = overlap(prediction > 0, truth > 0)
    caption = f"Dice {found.dice:.2f}" if found.outcome == "scored" else found.outcome
    return Panel(case.name, caption, image, truth, prediction)


def draw_stage(folder: Path, title: str, cases: Cases, validation: Sequence[Case]) -> None:
    """Write curves.png and examples.png of a stage that has been trained."""
    from pocketseg.training.model import Model

    save_curves(StageCurves(title, read_history(folder)), folder / "curves.png")
    predictor = Model.load(folder / "best.safetensors").predictor()
    panels = [panel(cases, case, predictor) for case in _shown(validation)]
    save_examples(panels, folder / "examples.png", predictor.pipeline.classes)


def draw_examples(
    cases: Cases, validation: Sequence[Case], model: Model, device: torch.device
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and picture of some validation cases with the contours of reference and prediction, uint8 (h, w, 3)."""
    predictor = model.predictor(device)
    for case in _shown(validation):
        image, truth = cases.image(case), cases.mask(case)
        yield case.name, overlay(image, predictor.mask(image), truth, classes=len(model.pipeline.classes))


def _shown(validation: Sequence[Case]) -> list[Case]:
    """Examples from everywhere in the validation part."""
    step = max(1, len(validation) // EXAMPLES)
    return list(validation)[::step][:EXAMPLES]
