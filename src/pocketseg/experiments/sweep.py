"""Many trainings from one recipe: the trials of a sweep, and the folds of a run side by side."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketseg.data import Split
from pocketseg.errors import EnvironmentProblem, Interrupted, Problem, RecipeError, RunError, TrainingError
from pocketseg.evaluation import read_summaries
from pocketseg.experiments.ensemble import evaluate_ensemble
from pocketseg.experiments.listeners import Labelled
from pocketseg.experiments.manifest import changed_since, lengthen, longer_stages
from pocketseg.experiments.plan import OpenedData, Progress, open_data, plan_run
from pocketseg.experiments.run import TrainResult, Trial, train_run
from pocketseg.experiments.stopping import stop_on_signals
from pocketseg.experiments.workers import LocalWorkers, RayWorkers, Task, Workers, do_all, format_error
from pocketseg.files import resolved, write_atomically
from pocketseg.recipes import Sweep, Variant, dump_recipe
from pocketseg.reporting import SweepPoint, save_sweep
from pocketseg.runs.folder import TRIALS, RunFolder
from pocketseg.runs.history import read_history
from pocketseg.runs.results import FAILED, FINISHED, UNFINISHED, can_list, fold_scores, list_run, result_row
from pocketseg.runs.tables import write_table
from pocketseg.text import counted
from pocketseg.training.own_augment import Function

if TYPE_CHECKING:
    from pocketseg.training.loop import Listener

log = logging.getLogger("pocketseg")

# A parameter of this name is a repetition: its values are the spread of a point, not another point.
SEED = "seed"


@dataclass
class _Trial:
    """A variant, its run folder, data, split and folds, whether it gets more epochs, and what went wrong in folds."""

    variant: Variant
    run: RunFolder
    data: OpenedData
    split: Split
    folds: list[int]
    longer: bool
    errors: dict[int, str] = field(default_factory=dict)

    def left(self) -> list[int]:
        """Folds that are not evaluated yet."""
        evaluated = set() if self.longer else set(self.run.evaluated())
        return [fold for fold in self.folds if fold not in evaluated]

    @property
    def error(self) -> str:
        several = len(self.folds) > 1
        return "; ".join(f"fold {fold}: {text}" if several else text for fold, text in sorted(self.errors.items()))

    @property
    def status(self) -> str:
        return FAILED if self.errors else UNFINISHED if self.left() else FINISHED


def train_many(
    sweep: Sweep,
    data: str | Path,
    out: Path,
    *,
    fold: int | None,
    split: str | Path | None,
    device: str,
    resume: bool,
    allow_changed: bool,
    jobs: int | None,
    cluster: str | None,
    augment: Function | None,
    logs: Sequence[str],
    listener: Listener | None,
    progress: Progress | None,
) -> TrainResult:
    """As `train`, for a sweep or for folds side by side."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        fix = "start it as a single process, with --jobs or --cluster"
        raise EnvironmentProblem("torchrun", "starts several processes, which cannot share a sweep", fix)
    if jobs is not None and jobs < 1:
        raise EnvironmentProblem(f"--jobs {jobs}", "is not a valid number of jobs", "use 1 or more")
    if augment is not None and (cluster is not None or (jobs or 1) > 1):
        fix = "leave out jobs and cluster, or put it into a file: augment.own=FILE:NAME with --allow-code FILE.py"
        raise RecipeError("augment", "is a function of this process, which others that train do not have", fix)
    home = RunFolder(out)
    _check_out(home, bool(sweep.keys), resume)
    from pocketseg.nets import allowed_code

    trials = _prepare(sweep, data, home, fold, split, allow_changed, augment, progress)
    tasks = [
        Task(
            str(resolved(trial.run.path)),
            number,
            str(resolved(Path(data))),
            device,
            tuple(logs),
            str(Path.cwd()),
            allow_changed,
            tuple(allowed_code()),
        )
        for trial in trials
        for number in trial.left()
    ]
    with ExitStack() as stack:
        side_by_side = bool(tasks) and (cluster is not None or (jobs or 1) > 1)
        workers = stack.enter_context(closing(_workers(cluster, jobs, device, len(tasks)))) if side_by_side else None
        stack.enter_context(home.led())
        _check_out(home, bool(sweep.keys), resume)  # another may have been here meanwhile
        stack.enter_context(home.logged())
        listed = not sweep.keys and can_list(home)
        _begin(home, sweep, trials)
        folds = sum(len(trial.folds) for trial in trials)
        log.info(
            "%d of %s to do, %s", len(tasks), counted(folds, "training"), workers.said if workers else "one by one"
        )
        work = SweepProgress(home, sweep, trials, len(tasks), progress)
        if workers is None:
            work.one_by_one(tasks, listener, augment)
        else:
            do_all(tasks, workers, stack.enter_context(stop_on_signals()), work.ended, work.watch)
        for trial in trials:
            evaluate_ensemble(trial.run, trial.data.cases, device)
        return work.finish(listed)


def _check_out(home: RunFolder, several: bool, resume: bool) -> None:
    """A sweep lies in a folder with trials, a run in a run folder."""
    if not resume:
        if not home.is_empty():
            raise RunError(str(home.path), "is not empty", "go on with --resume, or choose another --out")
        return
    if not home.path.joinpath(TRIALS).is_dir() and home.was_begun() and home.is_empty():
        return  # ended before it began
    if several and not (home.path / TRIALS).is_dir():
        raise RunError(str(home.path), "holds no sweep to resume", "check the path, or train without --resume")
    if not several and not home.recipe_file.exists():
        raise RunError(str(home.path), "holds no run to resume", "check the path, or train without --resume")
    if not several and (home.path / TRIALS).is_dir():
        raise RunError(str(home.path), "holds a sweep, but the recipe has none", "give the recipe it was started with")


def _prepare(
    sweep: Sweep,
    data: str | Path,
    home: RunFolder,
    fold: int | None,
    split: str | Path | None,
    allow_changed: bool,
    augment: Function | None,
    progress: Progress | None,
) -> list[_Trial]:
    """All trials, checked as far as can be before training; nothing is written. What they share is looked at once."""
    opened: dict[str, OpenedData] = {}
    trials = []
    for variant in sweep.variants:
        recipe = variant.recipe
        key = recipe.data.model_dump_json()
        if key not in opened:
            opened[key] = open_data(data, recipe.data, progress)
        run = RunFolder(home.path / TRIALS / variant.name) if sweep.keys else home
        plan = plan_run(
            recipe, opened[key], run, begun=run.manifest_file.exists(), split=split, fold=fold, augment=augment
        )
        longer = False
        if run.manifest_file.exists():
            longer = bool(longer_stages(run, plan.recipe))
            changed_since(run, plan, allow_changed)
        folds = [each.number for each in plan.folds]
        trials.append(_Trial(replace(variant, recipe=plan.recipe), run, plan.data, plan.split, folds, longer))
    return trials


def _begin(home: RunFolder, sweep: Sweep, trials: Sequence[_Trial]) -> None:
    """Put recipe and split into every run folder, for the processes that train them."""
    if sweep.keys:
        write_atomically(home.recipe_file, sweep.text)
        log.info("%s %s", counted(len(trials), "trial[ varies|s vary]"), ", ".join(sweep.keys))
    for trial in trials:
        if not trial.run.manifest_file.exists():
            write_atomically(trial.run.recipe_file, dump_recipe(trial.variant.recipe))
            trial.split.write(trial.run.split_file)
        elif trial.longer:
            with trial.run.manifest_changed() as manifest:
                lengthen(trial.run, trial.variant.recipe, manifest)
            trial.longer = False


def _workers(cluster: str | None, jobs: int | None, device: str, tasks: int) -> Workers:
    import torch

    if cluster is not None:
        return RayWorkers(cluster, jobs, device)
    count = min(jobs or 1, tasks)
    return LocalWorkers(count, max(1, torch.get_num_threads() // count), torch.cuda.device_count())


class SweepProgress:
    """The trainings under way: who ended, the table, and what is reported."""

    def __init__(
        self, home: RunFolder, sweep: Sweep, trials: Sequence[_Trial], tasks: int, progress: Progress | None
    ) -> None:
        self.home, self.sweep, self.trials, self.tasks, self.progress = home, sweep, trials, tasks, progress
        self.trial_of = {str(resolved(trial.run.path)): trial for trial in trials}
        self.done = 0
        self.shown: set[Task] = set()
        self._write_table()

    def one_by_one(self, tasks: Sequence[Task], listener: Listener | None, augment: Function | None) -> None:
        """All trainings in this process."""
        for task in tasks:
            trial = self.trial_of[task.run]
            log.info("%s", self._label(task))
            try:
                train_run(
                    trial.variant.recipe, task.data, trial.run.path, fold=task.fold, device=task.device, trial=True,
                    opened=trial.data, allow_changed=task.allow_changed, augment=augment, logs=task.logs,
                    listener=None if listener is None else Labelled(self._label(task), listener),
                )  # fmt: skip
            except Interrupted:
                raise
            except Exception as error:
                log.debug("%s", self._label(task), exc_info=True)
                self.ended(task, format_error(error))
            else:
                self.ended(task, "")

    def ended(self, task: Task, error: str) -> None:
        trial = self.trial_of[task.run]
        self.done += 1
        if error:
            trial.errors[task.fold] = error
            log.error("%s failed: %s", self._label(task), error)
        else:
            score = fold_scores(trial.run, trial.variant.recipe)[task.fold]
            log.info("%s finished: Dice %.4f (%d of %d)", self._label(task), score, self.done, self.tasks)
        self._tell(task, finished=True)
        self._write_table()

    def watch(self, running: Sequence[Task]) -> None:
        """Tell how far the running trainings are, as their folders show it."""
        for task in running:
            self._tell(task)

    def _tell(self, task: Task, *, finished: bool = False) -> None:
        if self.progress is None:
            return
        trial = self.trial_of[task.run]
        stages = trial.variant.recipe.stages
        histories = [read_history(trial.run.stage(task.fold, stage.name).history) for stage in stages]
        of = sum(max(1, stage.epochs) for stage in stages)
        done = sum(map(len, histories))
        if finished or done or task in self.shown:
            self.shown.add(task)
            self.progress(self._label(task), of if finished else min(done, of - 1), of)

    def _label(self, task: Task) -> str:
        name = self.trial_of[task.run].variant.name
        fold = f"fold {task.fold}" if len(self.trial_of[task.run].folds) > 1 or not name else ""
        return ", ".join(filter(None, (name, fold)))

    def _write_table(self) -> None:
        if self.sweep.keys:
            write_table(self.home.path / "results.csv", [self._row(trial) for trial in self.trials])

    def _row(self, trial: _Trial) -> dict[str, Any]:
        values = {short: _cell(trial.variant.values, key) for key, short in self.sweep.columns.items()}
        variant = trial.variant
        return result_row(trial.run, variant.recipe, variant.name, values, status=trial.status, error=trial.error)

    def finish(self, listed: bool) -> TrainResult:
        """Draw the plot, or list the run where it can be, and say what failed.

        Raises:
            TrainingError: of a run that is not a sweep, when one of its folds failed.
        """
        if not self.sweep.keys:
            (trial,) = self.trials
            if trial.errors:
                where = str(self.home.path)
                fix = "fix it, then resume"
                raise TrainingError.of([
                    Problem(f"{where}, fold {fold}", text, fix) for fold, text in trial.errors.items()
                ])  # fmt: skip
            if listed:
                list_run(self.home)
            return TrainResult(self.home.path, _summaries(trial))
        self._write_table()
        self._draw()
        results = tuple(
            Trial(one.variant.name, one.variant.values, one.run.path, one.error, _summaries(one))
            for one in self.trials
        )  # fmt: skip
        return TrainResult(self.home.path, {}, results)

    def _draw(self) -> None:
        points = [
            SweepPoint(
                {short: _cell(trial.variant.values, key) for key, short in self.sweep.columns.items()},
                list(fold_scores(trial.run, trial.variant.recipe).values()),
            )
            for trial in self.trials
        ]
        columns = self.sweep.columns
        repeated = [short for key, short in columns.items() if key.split(".")[-1] == SEED]
        save_sweep(points, [short for short in columns.values() if short not in repeated] or repeated,
                   self.home.path / "sweep.png")  # fmt: skip


def _cell(values: Mapping[str, Any], key: str) -> Any:
    return values.get(key, "")


def _summaries(trial: _Trial) -> dict[int, Any]:
    return {fold: read_summaries(trial.run.summary_file(fold)) for fold in trial.folds if fold not in trial.left()}
