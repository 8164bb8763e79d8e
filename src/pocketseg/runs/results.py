"""One row a run: what it scored, what it costs, how it ended. The same row for a single run, a trial, and a stage."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketseg.errors import PocketsegError, RunError
from pocketseg.evaluation import Summary, read_scores, read_summaries, summarize
from pocketseg.evaluation.cells import metric_cells
from pocketseg.files import locked, resolved
from pocketseg.metrics import SeedSpread, seed_spread
from pocketseg.recipes import Recipe, StageSection
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.history import read_history
from pocketseg.runs.inspection import read_inspection
from pocketseg.runs.tables import add_result, read_rows

log = logging.getLogger("pocketseg")

# By these a table of runs is known; the others may be taken out.
OURS = {"name", "recipe"}
FINISHED, FAILED, UNFINISHED = "finished", "failed", "unfinished"


def table_of(run: RunFolder) -> Path:
    """The table beside the run."""
    return resolved(run.path).parent / "results.csv"


def can_list(run: RunFolder) -> bool:
    """Whether the run can be listed in `results.csv`. Where not, that is reported now and not when all is trained.

    A run is complete without: its folder may be the only one that this user may write to.
    """
    path = table_of(run)
    try:
        with locked(path.with_name(f".{path.name}.lock")):
            _check_table(path, read_rows(path))
    except PocketsegError as error:
        log.warning("%s: this run will not be listed there; it has all in its own folder", error.problems[0])
        return False
    return True


def _check_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Refuse a table of something else that happens to have names: a row of the run's name would be replaced."""
    if rows and not set(rows[0]) >= OURS:
        raise RunError(str(path), "is not a table of runs", "rename it, and a new one is begun")


def list_run(run: RunFolder) -> None:
    """Put a run into `results.csv` beside it; earlier stages that were evaluated stand above it as RUN/STAGE."""
    recipe, manifest = run.recipe(), run.manifest()
    name = resolved(run.path).name
    for stage in (*evaluated_stages(run, recipe)[:-1], None):
        about = {
            "recipe": recipe.name,
            "data": Path(manifest["data"]["path"]).name,
            "net": _section(recipe, stage).net.arch,
            "seed": recipe.seed,
        }
        row = result_row(run, recipe, f"{name}/{stage}" if stage else name, about, stage)
        add_result(table_of(run), row)


def evaluated_stages(run: RunFolder, recipe: Recipe) -> list[str]:
    """The stages that were scored in any fold, in their order."""
    *earlier, last = [stage.name for stage in recipe.stages]
    return [
        *(stage for stage in earlier if any(run.summary_file(fold, stage).exists() for fold in run.evaluated())),
        last,
    ]


def stage_summaries(run: RunFolder) -> list[tuple[int, str, Summary]]:
    """Fold, stage and summary of everything that was scored."""
    recipe = run.recipe()
    stages = evaluated_stages(run, recipe)
    return [
        (fold, stage, summary)
        for fold in run.evaluated()
        for stage in stages
        if (file := run.summary_file(fold, None if stage == stages[-1] else stage)).exists()
        for summary in read_summaries(file)
    ]


def ensemble_summaries(run: RunFolder) -> list[tuple[str, Summary]]:
    """Stage and summary of all folds together on the cases that no fold has seen; none before all are trained."""
    file = run.ensemble_summary_file
    return [(run.recipe().stages[-1].name, one) for one in read_summaries(file)] if file.exists() else []


def result_row(
    run: RunFolder,
    recipe: Recipe,
    name: str,
    about: Mapping[str, Any],
    stage: str | None = None,
    status: str = FINISHED,
    error: str = "",
) -> dict[str, Any]:
    """A run as a row of `results.csv`; what is not known so far is empty.

    `fold-N` is the Dice of a fold's test part (of its first evaluated part where there is no test part), the mean over
    classes; `mean` and `std` are over folds. `test` is the Dice over the test cases of all folds together. `fixed test`
    is the mean of the folds on the cases that no fold has seen, with its `std`, and `ensemble` that of all of them
    together; they are there where such cases are. These are means over cases with foreground; `with empty`, `misses`
    and `false alarms` tell the rest. `rules off` is `test` at a threshold of 0.5 without component rules. The other
    metrics stand last.

    Args:
        run: which may not be begun.
        recipe: of the run.
        name: first cell.
        about: cells between name and scores.
        stage: an earlier one than the last.
        status, error: how it ended.
    """
    evaluated = run.evaluated()
    found = fold_scores(run, recipe, stage)
    folds = {f"fold-{number}": _shown(score) for number, score in found.items()}
    scores = [score for score in found.values() if math.isfinite(score)]
    tested = _tested(run, evaluated, stage)
    off = [one.off for one in tested if one.off is not None]
    return {
        "name": name,
        **about,
        **folds,
        "test": _shown(_mean([one.dice for one in tested])),
        "mean": _shown(_mean(scores)),
        "std": _shown(statistics.stdev(scores) if len(scores) > 1 else math.nan),
        **_fixed_test(run, stage),
        "with empty": _shown(_mean([one.dice_all for one in tested])),
        "misses": sum(one.misses for one in tested) if tested else "",
        "false alarms": sum(one.false_alarms for one in tested) if tested else "",
        "rules off": _shown(_mean([one.dice for one in off])),
        "misses off": sum(one.misses for one in off) if off else "",
        "false alarms off": sum(one.false_alarms for one in off) if off else "",
        **_costs(run, _section(recipe, stage).name, evaluated),
        "seconds": _seconds(run, evaluated, stage),
        "status": status,
        "error": error,
        **_metrics(tested),
    }


def _section(recipe: Recipe, stage: str | None) -> StageSection:
    """The stage of that name; None is the last."""
    return next(section for section in reversed(recipe.stages) if stage in (None, section.name))


def fold_scores(run: RunFolder, recipe: Recipe, stage: str | None = None) -> dict[int, float]:
    """The Dice of each evaluated fold, on the test part where there is one; nan where no case has foreground."""
    scores = {}
    for fold in run.evaluated():
        file = run.summary_file(fold, stage)
        summaries = read_summaries(file) if file.exists() else []
        parts = [part for part in ("test", *recipe.evaluate.parts) if any(one.part == part for one in summaries)]
        scores[fold] = _mean([one.dice for one in summaries if one.part == parts[0]]) if parts else math.nan
    return scores


def fixed_test_spread(run: RunFolder, class_name: str | None = None, stage: str | None = None) -> SeedSpread | None:
    """The Dice of the folds' nets on the cases that no fold has seen, of one class or the mean of all; None of none."""
    found = []
    for fold in run.evaluated():
        file = run.summary_file(fold, stage)
        known = read_summaries(file) if file.exists() else []
        found.append(
            _mean([one.dice for one in known if one.part == "fixed_test" and class_name in (None, one.class_name)])
        )
    scores = [score for score in found if math.isfinite(score)]
    return seed_spread(scores) if scores else None


def _fixed_test(run: RunFolder, stage: str | None) -> dict[str, str]:
    """Mean and spread of the folds on the cases that no fold has seen, and their ensemble; none without such cases."""
    found = fixed_test_spread(run, None, stage)
    if found is None:
        return {}
    together = ensemble_summaries(run) if stage is None else []
    return {
        "fixed test": _shown(found.mean),
        "fixed test std": _shown(found.standard_deviation),
        "ensemble": _shown(_mean([one.dice for _, one in together])),
    }


def _tested(run: RunFolder, evaluated: Sequence[int], stage: str | None) -> list[Summary]:
    """One summary a class over the test cases of all folds."""
    files = [run.scores_file(fold, "test", stage) for fold in evaluated]
    return summarize([row for file in files if file.exists() for row in read_scores(file)], "test")


def _metrics(tested: Sequence[Summary]) -> dict[str, str]:
    """What else was asked for, each class for itself."""
    return {
        f"{one.class_name} {title}" if len(tested) > 1 else title: cell
        for one in tested
        for title, cell in metric_cells(one)
    }


def _costs(run: RunFolder, stage: str, evaluated: Sequence[int]) -> dict[str, Any]:
    """Of a stage: parameters, the size of the smallest file that holds it, multiply-accumulates."""
    for fold in evaluated:
        folder = run.stage(fold, stage)
        files = [file for file in (folder.packed, folder.best) if file.exists()]
        if files and folder.architecture.is_file():
            totals = read_inspection(folder.architecture).totals
            kib = files[0].stat().st_size / 1024
            return {"parameters": totals["parameters"], "KiB": f"{kib:.1f}", "MACs": totals["macs"]}
    return {"parameters": "", "KiB": "", "MACs": ""}


def _seconds(run: RunFolder, evaluated: Sequence[int], stage: str | None) -> float | str:
    """Of the whole run; of an earlier stage the seconds of its epochs."""
    if stage is None:
        return run.manifest()["wall_time_s"] if run.manifest_file.exists() else ""
    epochs = [row for fold in evaluated for row in read_history(run.stage(fold, stage).timings)]
    return round(sum(row["train_s"] + row["validation_s"] for row in epochs), 1)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return statistics.fmean(known) if known else math.nan


def _shown(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else ""
