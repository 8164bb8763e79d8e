"""`report`: one HTML page about a run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pocketseg.data import Case, Cases, Split
from pocketseg.errors import RunError
from pocketseg.evaluation import CaseScore, read_scores, read_summaries
from pocketseg.flows.backends import load_predictor
from pocketseg.flows.inspect import read_inspection
from pocketseg.flows.loading import open_cases
from pocketseg.flows.pictures import panel, read_history
from pocketseg.flows.results import stage_summaries
from pocketseg.flows.run_folder import RunFolder
from pocketseg.flows.tables import METRIC_COLUMNS, RESULT_COLUMNS, metric_rows, number, result_row, totals
from pocketseg.predictors import NetPredictor, Predictor
from pocketseg.recipes import Recipe
from pocketseg.reporting import Panel, Report, StageCurves, Table, write_report

SHOWN = 6
TIMED_IMAGES = 10


def report(run: str | Path, *, out: str | Path | None = None, fold: int = 0, data: str | Path | None = None) -> Path:
    """Write the report of a finished run.

    Args:
        run: run folder.
        out: the page; default `RUN/report.html`.
        fold: the fold whose cases and pictures are shown; the results table has all folds.
        data: where the run's data lies now, if it was moved.

    Raises:
        RunError: no part of the run has been judged yet.
    """
    folder = RunFolder.existing(run)
    recipe, manifest = folder.recipe(), folder.manifest()
    judged = folder.judged()
    if fold not in judged:
        raise RunError(str(folder.path), f"fold {fold} has not been judged", "finish the training with --resume")
    cases = open_cases(data or manifest["data"]["path"], recipe.data)
    part = "test" if folder.scores_file(fold, "test").exists() else recipe.evaluate.parts[0]
    rows = read_scores(folder.scores_file(fold, part))
    predictor = load_predictor(folder.path, fold)
    ranked = _ranked(rows)
    content = Report(
        title=f"{folder.path.name}: {_shown_stage(recipe)}",
        subtitle=recipe.description,
        facts=_facts(folder, recipe, manifest, fold, cases, predictor),
        tables=[_results(folder), *_metrics(folder, judged), _by_label(rows, part)],
        dice={part: [row.dice for row in rows if row.outcome in ("scored", "miss")]},
        curves=[
            StageCurves(f"{stage.name}, fold {number}", history)
            for number in judged
            for stage in recipe.stages
            if (history := read_history(folder.stage(number, stage.name)))
        ],
        best=_panels(cases, ranked[::-1][:SHOWN], predictor),
        median=_panels(cases, _middle(ranked), predictor),
        worst=_panels(cases, ranked[:SHOWN], predictor),
        cases=_case_table(rows, part),
        recipe=folder.recipe_file.read_text(encoding="utf-8"),
        reproduce=_commands(folder, fold, manifest, part),
        notes=NOTES,
        class_names=recipe.data.classes,
        nets=_drawings(folder, recipe, fold),
    )
    path = Path(out) if out is not None else folder.report_file
    write_report(content, path)
    return path


NOTES = [
    "Dice, IoU, precision and recall are means over cases whose reference has foreground; a missed object counts 0.",
    "“Dice with empty” is the mean over all cases: an empty reference counts 1 when nothing is predicted "
    "and 0 at a false alarm.",
    "Intervals are 95 % BCa bootstrap intervals over groups (patients, clusters), not over images.",
    "Masks are compared on the images' own grid, after threshold and component rules; "
    "what the recipe leaves to `auto` was chosen on validation cases.",
    "A figure on data of one source says little about another scanner or hospital: validate before use. "
    "Not a medical device.",
]


def _shown_stage(recipe: Recipe) -> str:
    """The stage that the page is about."""
    last = recipe.stages[-1]
    return last.net.arch if len(recipe.stages) == 1 else f"stage {last.name}, {last.net.arch}"


def _facts(
    folder: RunFolder, recipe: Recipe, manifest: dict[str, Any], fold: int, cases: Cases, predictor: NetPredictor
) -> list[tuple[str, str]]:
    plan = Split.read(folder.split_file).fold(fold)
    checkpoint = folder.best(fold, recipe.stages[-1].name)
    stage = manifest["stages"][f"fold-{fold}/{recipe.stages[-1].name}"]
    rules, machine = predictor.pipeline.postprocess, manifest["hardware"]
    versions = {"pocketseg": manifest["pocketseg"], **manifest["libraries"]}
    files = [
        ("Checkpoint", checkpoint), ("Packed weights", checkpoint.with_name("packed.safetensors")),
        ("Packed model", folder.packed_file(fold)), ("ONNX file", folder.onnx_file(fold)),
    ]  # fmt: skip
    return [
        ("Classes", ", ".join(recipe.data.classes)),
        ("Cases", f"{len(plan.train)} training, {len(plan.validation)} validation, {len(plan.test)} test"),
        ("Groups", f"{len({case.group for case in cases})} groups; none lies in two parts"),
        ("Input", f"{recipe.data.size[0]}×{recipe.data.size[1]}, {recipe.data.channels} channel(s), {recipe.data.fit}"),
        ("Net", ", ".join(f"{key} {value}" for key, value in stage["net"].items())),
        ("Parameters", f"{stage['parameters']:,}"),
        *[(name, f"{path.stat().st_size / 1024:.0f} KiB") for name, path in files if path.exists()],
        ("Time per image", _timing(cases, cases.named(plan.test or plan.validation), predictor)),
        ("Threshold", f"{rules.threshold:g}"),
        ("Component rules", f"peak ≥ {rules.min_peak:g}, at least {rules.min_pixels} pixels, keep {rules.keep}"),
        ("Trained in", f"{manifest['wall_time_s'] / 60:.1f} min, {stage['precision']}, on {machine['device']}"),
        ("Machine", f"{machine['machine']}, {machine['cpu_capability']}, {machine['threads']} threads"),
        ("Seed", str(recipe.seed)),
        ("Repeatability", manifest["determinism"]),
        ("Data digest", manifest["data"]["sha256"]),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Finished", manifest.get("finished", "not finished")),
    ]  # fmt: skip


def _timing(cases: Cases, chosen: Sequence[Case], predictor: NetPredictor) -> str:
    """Median time from decoded image to mask, one image at a time, on this machine."""
    images = [(cases.image(case), case.spacing_mm) for case in chosen[:TIMED_IMAGES]]
    predictor.mask(*images[0])  # the first call sets things up
    times = []
    for image, spacing_mm in images:
        began = time.perf_counter()
        predictor.mask(image, spacing_mm)
        times.append(time.perf_counter() - began)
    median_ms = 1000 * statistics.median(times)
    return f"{median_ms:.1f} ms, image to mask, {predictor.runtime} (median of {len(times)}, this machine)"


def _drawings(folder: RunFolder, recipe: Recipe, fold: int) -> list[tuple[str, bytes]]:
    """The last stage's net; runs of before version 0.2 have none."""
    file = folder.stage(fold, recipe.stages[-1].name) / "architecture.json"
    if not file.is_file():
        return []
    found = read_inspection(file)
    said = ", ".join(f"{name} {value}" for name, value in totals(found.totals))
    return [(f"Drawing of the net {found.title}: {said}.", found.drawing()[1])]


def _ranked(rows: Sequence[CaseScore]) -> list[str]:
    """Case names from worst to best mean Dice over classes; false alarms and misses are the worst."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        if row.outcome != "true negative":
            scores.setdefault(row.case, []).append(row.dice)
    return sorted(scores, key=lambda name: (statistics.mean(scores[name]), name))


def _middle(ranked: Sequence[str]) -> list[str]:
    start = max(0, len(ranked) // 2 - SHOWN // 2)
    return list(ranked[start : start + SHOWN])


def _panels(cases: Cases, names: Sequence[str], predictor: Predictor) -> list[Panel]:
    return [panel(cases, case, predictor) for case in cases.named(names)]


def _results(folder: RunFolder) -> Table:
    rows = [[str(fold), stage, *result_row(summary)] for fold, stage, summary in stage_summaries(folder)]
    first, *columns = RESULT_COLUMNS
    text = "Best epoch of each stage; a quantised one is judged on integers. What follows is about the last stage."
    return Table("Results", text, [first, "stage", *columns], rows)


def _metrics(folder: RunFolder, judged: Sequence[int]) -> list[Table]:
    """Every metric with its spread; runs of version 0.1 have none."""
    rows = [[str(fold), *cells] for fold in judged for cells in metric_rows(read_summaries(folder.summary_file(fold)))]
    return [Table("Metrics", "A miss counts the image's diagonal as distance.", ["fold", *METRIC_COLUMNS], rows)][
        : len(rows)
    ]


def _by_label(rows: Sequence[CaseScore], part: str) -> Table:
    """Results by class folder; without class folders one row."""
    table = []
    for label in sorted({row.label for row in rows}):
        inside = [row for row in rows if row.label == label]
        positive = [row.dice for row in inside if row.outcome in ("scored", "miss")]
        negative = sum(row.outcome in ("false alarm", "true negative") for row in inside)
        table.append([
            label or "(all)", str(len(inside)), number(statistics.mean(positive)) if positive else "–",
            f"{sum(row.outcome == 'miss' for row in inside)} of {len(positive)}",
            f"{sum(row.outcome == 'false alarm' for row in inside)} of {negative}",
        ])  # fmt: skip
    return Table(f"By class folder ({part})", "", ["folder", "cases", "Dice", "misses", "false alarms"], table)


def _case_table(rows: Sequence[CaseScore], part: str) -> Table:
    columns = [
        "case", "group", "folder", "class", "outcome", "Dice", "IoU", "precision", "recall", "reference px",
        "predicted px", *rows[0].more, "unit",
    ]  # fmt: skip
    cells = [
        [
            row.case, row.group, row.label, row.class_name, row.outcome, number(row.dice), number(row.iou),
            number(row.precision), number(row.recall), str(row.reference_pixels), str(row.predicted_pixels),
            *map(number, row.more.values()), row.unit,
        ]
        for row in rows
    ]  # fmt: skip
    return Table(f"Cases of the {part} part", "", columns, cells)


def _commands(folder: RunFolder, fold: int, manifest: dict[str, Any], part: str) -> list[str]:
    name = folder.path.name
    return [
        f"pocketseg train {name}/recipe.yaml --data DATA --split {name}/split.json --out AGAIN",
        f"pocketseg evaluate {name} DATA --split {name}/split.json --part {part} --fold {fold}",
        f"pocketseg export {name} --to onnx --fold {fold}",
    ]
