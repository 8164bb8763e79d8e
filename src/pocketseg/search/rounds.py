"""The rounds of a search, each a sweep of ordinary runs; what was scored is read from their folders."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pocketseg.errors import TrainingError
from pocketseg.evaluation import CaseScore, read_scores
from pocketseg.experiments.plan import Progress
from pocketseg.experiments.stage_checks import check_stage
from pocketseg.experiments.sweep import train_many
from pocketseg.metrics import with_empty
from pocketseg.recipes import Recipe, Sweep, Variant, load_recipe
from pocketseg.runs.folder import TRIALS, RunFolder
from pocketseg.search.begin import trial_values
from pocketseg.search.halving import better_half
from pocketseg.search.shapes import Shape
from pocketseg.search.state import Search, SearchFolder

if TYPE_CHECKING:
    from pocketseg.training.loop import Listener

log = logging.getLogger("pocketseg")

PART = "validation"


@dataclass(frozen=True)
class Round:
    """What a round found: the Dice of each shape by name, nan where its training failed, and what went wrong."""

    number: int
    steps: int
    scores: Mapping[str, float]
    errors: Mapping[str, str]
    kept: Sequence[str]


@dataclass(frozen=True)
class Trainer:
    """How trainings are done, and who is informed."""

    data: str | Path
    device: str = "auto"
    jobs: int | None = None
    cluster: str | None = None
    listener: Listener | None = None
    progress: Progress | None = None


def all_rounds(folder: SearchFolder, search: Search, trainer: Trainer) -> tuple[list[Round], Shape]:
    """Train what is not trained yet: the rounds, and the shape that is left at the end.

    Raises:
        TrainingError: all trainings of a round failed.
        Interrupted: a signal came; the state is saved.
    """
    shapes, rounds = list(search.taken), list[Round]()
    for number, (_, steps) in enumerate(search.schedule.rounds, start=1):
        keep = max(1, len(shapes) // 2)
        found = _round(folder, search, number, shapes, steps, keep, trainer)
        rounds.append(found)
        shapes = [shape for shape in shapes if shape.name in found.kept]
        best = found.kept[0]
        log.info("round %d: best is %s with Dice %.4f; %d go on", number, best, found.scores[best], len(shapes))
    return rounds, next(shape for shape in shapes if not rounds or shape.name == rounds[-1].kept[0])


def _round(
    folder: SearchFolder, search: Search, number: int, shapes: Sequence[Shape], steps: int, keep: int, trainer: Trainer
) -> Round:
    home = folder.round(number)
    recipes = {shape: trial_recipe(search, shape, steps) for shape in shapes}
    sweep = _sweep(search, recipes)
    log.info("round %d: %d candidates, %d steps each", number, len(shapes), steps)
    trained = train_many(
        sweep, trainer.data, home.path, fold=None, split=folder.search_split_file, device=trainer.device,
        resume=home.was_begun(), allow_changed=False, jobs=trainer.jobs, cluster=trainer.cluster, augment=None, logs=(),
        listener=trainer.listener, progress=trainer.progress,
    )  # fmt: skip
    errors = {trial.name: trial.error for trial in trained.trials if trial.error}
    scores = {
        shape.name: math.nan
        if shape.name in errors
        else dice_of(RunFolder(home.path / TRIALS / shape.name), search.folds)
        for shape in shapes
    }
    sizes = {shape.name: search.costs[shape].size_bytes for shape in shapes}
    kept = better_half(scores, sizes, keep)
    if not kept:
        name, why = next(iter(errors.items()), (shapes[0].name, "no validation case has a score"))
        raise TrainingError(
            str(home.path), f"no training of the round succeeded ({name}: {why})", "fix it, then --resume"
        )
    return Round(number, steps, scores, errors, kept)


def trial_recipe(search: Search, shape: Shape, steps: int) -> Recipe:
    """What a candidate is trained by: compared on validation alone, by Dice alone."""
    mine = (*search.overrides, f"evaluate.parts=[{PART}]", "evaluate.metrics=[dice]")
    return load_recipe({**trial_values(search, shape, steps), "name": shape.name}, mine, check_stage)


def _sweep(search: Search, recipes: Mapping[Shape, Recipe]) -> Sweep:
    """The recipes of a round as a sweep over the stages, which `pocketseg train` takes too."""
    from pocketseg.recipes.loading import SWEEP, dump_values

    first = next(iter(recipes.values())).model_dump(mode="json")
    varied = [
        {
            "stages.0.net": recipe.stages[0].net.model_dump(),
            "stages.1": recipe.stages[1].model_dump(mode="json"),
        }
        for recipe in recipes.values()
    ]
    text = dump_values({**first, SWEEP: varied})
    variants = tuple(Variant(shape.name, {"shape": shape.name}, recipe) for shape, recipe in recipes.items())
    return Sweep(text, ("shape",), variants)


def dice_of(run: RunFolder, folds: int) -> float:
    """The Dice of a run over all cases that its folds validate."""
    rows = [row for fold in range(folds) for row in read_scores(run.scores_file(fold, PART))]
    values = list(case_dice(rows).values())
    return float(np.mean(values)) if values else math.nan


def case_dice(rows: Iterable[CaseScore]) -> dict[str, float]:
    """The Dice of each case, the mean over classes: an empty mask left empty counts 1, a miss and a false alarm 0."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row.case, []).append(with_empty(row.dice))
    return {case: float(np.mean(values)) for case, values in found.items()}
