"""The rounds of a search, each a sweep of ordinary runs; what was scored is read from their folders."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pocketseg.errors import RunError, TrainingError
from pocketseg.evaluation import CaseScore, read_scores
from pocketseg.experiments.plan import Progress
from pocketseg.experiments.stage_checks import check_stage
from pocketseg.experiments.sweep import train_many
from pocketseg.files import write_json
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
    """What a round found: the Dice of each shape by name, nan where its training failed, and what went wrong.

    Attributes:
        order: the names of those that have a score, the best first.
    """

    number: int
    steps: int
    scores: Mapping[str, float]
    errors: Mapping[str, str]
    order: Sequence[str]

    def write(self, path: Path) -> None:
        scores = {name: None if math.isnan(score) else score for name, score in self.scores.items()}
        write_json(path, {**asdict(self), "scores": scores})

    @classmethod
    def read(cls, path: Path) -> Round:
        """What `write` wrote.

        Raises:
            RunError: it is damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            scores = {name: math.nan if score is None else float(score) for name, score in content["scores"].items()}
            return cls(content["number"], content["steps"], scores, content["errors"], content["order"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            fix = "restore it from a copy, or begin again in another folder"
            raise RunError(str(path), f"is damaged ({type(error).__name__}: {error})", fix) from error


@dataclass(frozen=True)
class Trainer:
    """How trainings are done, and who is informed."""

    data: str | Path
    device: str = "auto"
    jobs: int | None = None
    cluster: str | None = None
    listener: Listener | None = None
    progress: Progress | None = None


def all_rounds(folder: SearchFolder, search: Search, trainer: Trainer) -> tuple[list[Round], list[Shape]]:
    """Train what is not trained yet: the rounds, and the shapes of the last one, the best first.

    What a round found is written at its end and read from then on. So a training that failed in it stays failed, and
    those that went on are the same however often the search is resumed.

    Raises:
        TrainingError: all trainings of a round failed.
        Interrupted: a signal came; the state is saved.
    """
    shapes, rounds = list(search.taken), list[Round]()
    for number, (_, steps) in enumerate(search.schedule.rounds, start=1):
        if folder.outcome(number).exists():
            found = Round.read(folder.outcome(number))
        else:
            found = _round(folder, search, number, shapes, steps, trainer)
            found.write(folder.outcome(number))
        rounds.append(found)
        by_name = {shape.name: shape for shape in shapes}
        order = [by_name[name] for name in found.order]
        if number == len(search.schedule.rounds):
            shapes = order
        else:
            kept = order[: max(1, len(shapes) // 2)]
            shapes = [shape for shape in shapes if shape in kept]
            log.info("round %d: best is %s; %d go on", number, best_said(found), len(shapes))
    if rounds:
        log.info("round %d: best is %s", rounds[-1].number, best_said(rounds[-1]))
    return rounds, shapes


def best_said(found: Round) -> str:
    return f"{found.order[0]} with Dice {found.scores[found.order[0]]:.4f}"


def _round(
    folder: SearchFolder, search: Search, number: int, shapes: Sequence[Shape], steps: int, trainer: Trainer
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
    order = better_half(scores, sizes, len(shapes))
    if not order:
        name, why = next(iter(errors.items()), (shapes[0].name, "no validation case has a score"))
        raise TrainingError(
            str(home.path), f"no training of the round succeeded ({name}: {why})", "fix it, then --resume"
        )
    return Round(number, steps, scores, errors, order)


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
