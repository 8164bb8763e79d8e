"""Pictures of a stage: curves, and how some validation cases come out."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from pocketseg.data import Case, Cases
from pocketseg.metrics import overlap
from pocketseg.predictors import Predictor
from pocketseg.reporting import Panel, StageCurves, save_curves, save_examples

EXAMPLES = 8


def read_history(folder: Path) -> list[dict[str, float]]:
    """Rows of a stage's history.csv."""
    path = folder / "history.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


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
    step = max(1, len(validation) // EXAMPLES)
    shown = list(validation)[::step][:EXAMPLES]
    panels = [panel(cases, case, predictor) for case in shown]
    save_examples(panels, folder / "examples.png", predictor.pipeline.classes)
