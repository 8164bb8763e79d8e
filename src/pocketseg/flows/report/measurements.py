"""What a report measures itself: pictures, probabilities at other thresholds, calibration, and time per image."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases
from pocketseg.data.doctor.pictures import suspicions
from pocketseg.errors import EnvironmentProblem
from pocketseg.evaluation import CaseScore
from pocketseg.flows.report.evaluated import ONNX, PACKED, WEIGHTS, EvaluatedModel
from pocketseg.layers import layer
from pocketseg.metrics import Calibration, calibration, dice_at_thresholds, with_empty
from pocketseg.predictors import Segmenter
from pocketseg.reporting import Panel
from pocketseg.runs.backends import open_model
from pocketseg.timing import in_turns

# Curves and time are taken on some cases of a part, evenly drawn from it.
CURVE_CASES, TIMED_CASES = 50, 10
# Time is taken in so many turns of each form of a model; one that takes longer for a call has a few calls.
TURNS, TURN_S, SLOW_S = 5, 0.2, 0.5
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
TORCH = "PyTorch"
RUNTIMES = {PACKED: "engine", ONNX: "ONNX Runtime", WEIGHTS: TORCH}

Image = tuple[NDArray[np.generic], tuple[float, float] | None]


@dataclass
class LoadedModel:
    """An evaluated model with its data; the predictor of a fold is loaded when it is needed."""

    model: EvaluatedModel
    cases: Cases
    device: str = "cpu"
    predictors: dict[int, Segmenter] = field(default_factory=dict)

    def predictor(self, fold: int) -> Segmenter:
        if fold not in self.predictors:
            # The last stage is the run: its packed model runs where it is up to date.
            last = self.model.place is None
            path = self.model.run.path if last else self.model.best(fold)
            self.predictors[fold], _ = open_model(path, fold, device=self.device)
        return self.predictors[fold]

    def image(self, case: Case) -> Image:
        return self.cases.image(case), case.spacing_mm

    def panel(self, name: str, title: str, caption: str) -> Panel:
        """A case with its reference and the prediction of the fold that evaluated it."""
        (case,) = self.cases.named([name])
        prediction = self.predictor(self.model.fold_of[name]).mask(*self.image(case))
        return Panel(title, caption, self.cases.image(case), self.cases.mask(case), prediction)


@dataclass(frozen=True)
class Curves:
    """Probabilities of some cases of a part.

    Attributes:
        part: its name.
        cases: how many.
        calibration: of all their pixels and classes.
        dice: mean Dice of cases with foreground at each of `THRESHOLDS`, before component rules; empty with several
            classes, which no threshold decides.
        marked: how many of them seem to have calipers, or colored marks, drawn in.
        shapes, spacings: (height, width) of the images, and their pixel sizes in mm where they are known.
    """

    part: str
    cases: int
    calibration: Calibration
    dice: list[float]
    marked: int
    shapes: list[tuple[int, int]]
    spacings: list[tuple[float, float]]


def curves(loaded: LoadedModel, part: str, names: Sequence[str], fold_of: Callable[[str], int]) -> Curves:
    """Ask a model about some cases of a part.

    Args:
        names: all cases of the part.
        fold_of: whose predictor segments a case.
    """
    step = -(-len(names) // CURVE_CASES)
    chosen = loaded.cases.named(list(names)[::step])
    parts: list[Calibration] = []
    dice: list[NDArray[np.float64]] = []
    for case in chosen:
        predictor = loaded.predictor(fold_of(case.name))
        probability, reference = predictor.predict(*loaded.image(case)), loaded.cases.mask(case)
        classes = probability.shape[2]
        parts += [calibration(probability[:, :, index], layer(reference, index + 1)) for index in range(classes)]
        if classes == 1 and reference.any():
            dice.append(dice_at_thresholds(probability[:, :, 0], reference == 1, THRESHOLDS))
    total = parts[0]
    for one in parts[1:]:
        total = total + one
    shapes = [loaded.cases.image(case).shape[:2] for case in chosen]
    return Curves(
        part,
        len(chosen),
        total,
        np.mean(dice, axis=0).tolist() if dice else [],
        sum(bool({"calipers", "marks"} & set(suspicions(loaded.cases.image(case)))) for case in chosen),
        [(height, width) for height, width in shapes],
        [case.spacing_mm for case in chosen if case.spacing_mm],
    )


def ranked(rows: Sequence[CaseScore]) -> list[str]:
    """Case names from worst to best mean Dice over rows (classes, models); a miss and a false alarm count 0.

    Cases in which nothing is to be found and nothing was are left out.
    """
    scores: dict[str, list[float]] = {}
    scored = {row.case for row in rows if row.outcome != "true negative"}
    for row in rows:
        if row.case in scored:
            scores.setdefault(row.case, []).append(with_empty(row.dice))
    return sorted(scores, key=lambda name: (statistics.mean(scores[name]), name))


@dataclass(frozen=True)
class Speed:
    """Milliseconds from a decoded image to its mask, one image at a time: the median, and what was found how often."""

    ms: float
    fastest: float
    slowest: float
    calls: int


def speeds(models: Sequence[LoadedModel]) -> dict[tuple[str, str], Speed]:
    """(model, runtime) -> how fast it is here, for every form that can run; they take turns.

    A runtime that is not installed is left out.
    """
    runs: dict[tuple[str, str], Segmenter] = {}
    for one in models:
        fold = one.model.folds[0]
        for form, path in one.model.files(fold).items():
            # Packed and ONNX files are given to machines without a GPU; torch is timed where it is asked to run.
            if form in RUNTIMES and (loaded := _load(path, one.device if form == WEIGHTS else "cpu")):
                runs[one.model.name, RUNTIMES[form]] = loaded
    first = models[0]
    names = first.model.cases
    images = [first.image(case) for case in first.cases.named(names[:: -(-len(names) // TIMED_CASES)])]
    calls = {key: _on_each(predictor, images) for key, predictor in runs.items()}
    found = in_turns(calls, turns=TURNS, turn_s=TURN_S, slow_s=SLOW_S)
    return {
        key: Speed(timing.median_ms, min(timing.calls_ms), max(timing.calls_ms), len(timing.calls_ms))
        for key, timing in found.items()
    }


def _load(path: Path, device: str) -> Segmenter | None:
    try:
        return open_model(path, device=device)[0]
    except EnvironmentProblem:
        return None


def _on_each(predictor: Segmenter, images: Sequence[Image]) -> Callable[[], object]:
    """Segments the next image whenever it is called, the first one after the last."""
    following = cycle(images)
    return lambda: predictor.mask(*next(following))


def common_runtime(models: Sequence[EvaluatedModel], found: dict[tuple[str, str], Speed]) -> str:
    """The runtime that the models are compared in: the first that all of them have of engine, ONNX Runtime, PyTorch."""
    wanted = ("engine", "ONNX Runtime", TORCH)
    return next(name for name in wanted if all((model.name, name) in found for model in models))


def threads() -> str:
    """How many threads each runtime takes here."""
    try:
        import torch
    except ImportError:
        return f"up to {os.cpu_count()}"
    return f"{torch.get_num_threads()} for PyTorch, up to {os.cpu_count()} for the others"
