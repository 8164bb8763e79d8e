"""The report of a run, or of several beside each other: read, ask, put together, write."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pocketseg.data import Cases, Split
from pocketseg.errors import RecipeError, near
from pocketseg.files import resolved, try_folder, try_output
from pocketseg.flows.report import card, plots, tables
from pocketseg.flows.report.evaluated import EvaluatedModel, on_common_cases, read_models
from pocketseg.flows.report.measurements import (
    RUNTIMES,
    Curves,
    LoadedModel,
    common_runtime,
    curves,
    ranked,
    speeds,
    threads,
)
from pocketseg.flows.report.names import FILE, Pseudonyms
from pocketseg.flows.report.recipe_text import recipe_text
from pocketseg.pipeline import Pipeline
from pocketseg.reporting import (
    SUFFIXES,
    Code,
    Drawing,
    Format,
    Gallery,
    Highlights,
    Item,
    Notes,
    Report,
    Section,
    StageCurves,
    curves_together,
    training_charts,
    write_report,
)
from pocketseg.runs.history import read_history
from pocketseg.runs.inspection import totals
from pocketseg.runs.opening import open_cases
from pocketseg.text import counted
from pocketseg.training.collapse import CAUSES, collapse

SHOWN, SHOWN_SIDE_BY_SIDE, MAX_SIDE_BY_SIDE = 6, 8, 4
Progress = Callable[[int, int], None]

NOTES = [
    "Dice, IoU, precision and recall are means over cases whose reference has foreground; a missed object counts 0.",
    "“Dice with empty” is the mean over all cases: an empty reference counts 1 when nothing is predicted "
    "and 0 at a false alarm.",
    "Intervals are 95 % BCa bootstrap intervals over groups (patients, clusters), not over images.",
    "Masks are compared on the images' own grid, after threshold and component rules; "
    "what the recipe leaves to “auto” was chosen on validation cases.",
    "Cases, groups and folders are called by numbers. Pictures show their pixels as they are: text that is burnt into "
    "an image would be seen.",
]


def report(
    *runs: str | Path,
    out: str | Path | None = None,
    form: Format = "html",
    fold: int | None = None,
    data: str | Path | None = None,
    baseline: str | None = None,
    pictures: bool = True,
    device: str = "cpu",
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Write the report of a finished run, or of several beside each other, on the cases that all were evaluated on.

    Of a single run its stages stand beside each other, and the last one is what the page is about. Cases appear under
    ids; the key to them is kept in `case-ids.csv` of the first run.

    Args:
        runs: run folders, or folders of single stages (RUN/fold-N/STAGE).
        out: the file, of CSV the folder; default `report.html` (.md, .json; `report/`) in the run, and
            `comparison.html` beside the first run where there are several.
        form: `html`, `markdown`, `json` or `csv`.
        fold: only this fold; default all that are evaluated, together.
        data: where the runs' data lies now, if it was moved.
        baseline: the model that others are held against; default the first.
        pictures: show cases; False leaves every picture of a patient out.
        device: cpu, cuda, cuda:N, mps, or auto: where torch runs the nets, and is timed.
        overrides: `card.KEY=VALUE`, what the model card says of intended use and limits.
        progress: called with (done, of).

    Raises:
        RunError: a run is not there or has not been evaluated.
        DataError: the runs share no case, or their references differ.
        RecipeError: another key than one of the card, or no such baseline.
    """
    foreign = [text for text in overrides if not text.startswith("card.")]
    if foreign:
        raise RecipeError(f"--set {foreign[0]}", "a report only sets its card", "set keys that begin with card.")
    found = [read_models(run, fold, overrides) for run in runs]
    models = found[0] if len(found) == 1 else _named([each[-1] for each in found])
    models, stated = on_common_cases(models)
    about = models if len(found) > 1 else models[-1:]
    first = _baseline(models, baseline)
    path = Path(out) if out is not None else _place(about[-1] if len(found) == 1 else models[0], form, len(found) > 1)
    try_folder(path) if form == "csv" else try_output(path, ending=SUFFIXES[form])
    names = _names(models)
    loaded = _load(models, data, device)
    steps = _Steps(progress, 2 + 2 * len(about))
    speed = speeds(list(loaded.values()))
    steps.next()
    seen = {model.name: _curves(loaded[model.name], steps) for model in about}
    runtime = common_runtime(models, speed)
    measured = tables.measure(models, first, {model.name: speed[model.name, runtime] for model in models})
    described = (
        f"median time from a decoded image to its mask in {runtime} on this machine "
        f"(threads: {threads()}{'' if device == 'cpu' else f'; PyTorch on {device}'}), one image at a time"
    )
    order = ranked([row for model in about for row in model.rows])
    subject = about[-1]
    one_run = len(found) == 1
    sections = [
        _card(models, about, measured, loaded, seen, stated, one_run=one_run),
        _results(models, first, measured, speed, runtime, described, one_run=one_run),
        _strata(about, names),
        *([_examples(about, loaded, order, names)] if pictures else []),
        _behavior(about, loaded, seen),
        _training(about if not one_run else models[-1:], one_run=one_run),
        data_check(subject),
        _cases(about, order, names),
        _nets(about),
        _reproduce(about),
    ]  # fmt: skip
    title = subject.run.path.name if one_run else "Comparison of " + ", ".join(model.name for model in models)
    content = Report(title, _subtitle(about), sections)
    names.save()
    write_report(content, path, form)
    steps.next()
    return path


class _Steps:
    """Counts what is done, for a bar."""

    def __init__(self, progress: Progress | None, of: int) -> None:
        self.progress, self.of, self.done = progress, of, 0

    def next(self) -> None:
        self.done += 1
        if self.progress:
            self.progress(self.done, self.of)


def _place(model: EvaluatedModel, form: Format, several: bool) -> Path:
    folder = model.run.path.parent if several else model.run.path
    return folder / f"{'comparison' if several else 'report'}{SUFFIXES[form]}"


def _named(models: Sequence[EvaluatedModel]) -> list[EvaluatedModel]:
    """Models of several runs, called by their runs, with names that no two share."""
    count: Counter[str] = Counter()
    found = []
    for model in models:
        name = f"{model.run.path.name}/{model.place}" if model.place else model.run.path.name
        count[name] += 1
        found.append(replace(model, name=f"{name} ({count[name]})" if count[name] > 1 else name))
    return found


def _baseline(models: Sequence[EvaluatedModel], name: str | None) -> EvaluatedModel:
    if name is None:
        return models[0]
    known = {model.name: model for model in models}
    path = resolved(Path(name))
    wanted = next((each for each in (name, path.name, f"{path.parent.parent.name}/{path.name}") if each in known), "")
    if wanted not in known:
        raise RecipeError(f"--compare-to {name}", "is not among the models", near(name, known))
    return known[wanted]


def _names(models: Sequence[EvaluatedModel]) -> Pseudonyms:
    names = Pseudonyms(models[0].run.path / FILE)
    for model in models:
        names.add("case", (row.case for row in model.rows))
        names.add("group", (row.group for row in model.rows))
        names.add("folder", (row.label for row in model.rows if row.label))
    return names


def _load(models: Sequence[EvaluatedModel], data: str | Path | None, device: str) -> dict[str, LoadedModel]:
    """The models with their data, which is opened once where it is the same."""
    opened: dict[tuple[str, Any], Cases] = {}
    loaded = {}
    for model in models:
        place = str(data or model.manifest["data"]["path"])
        key = (place, model.recipe.data.model_dump_json())
        if key not in opened:
            opened[key] = open_cases(place, model.recipe.data)
        loaded[model.name] = LoadedModel(model, opened[key], device)
    return loaded


def _curves(loaded: LoadedModel, steps: _Steps) -> list[Curves]:
    """On validation, where thresholds are chosen, and on the part that is evaluated."""
    model = loaded.model
    fold = model.folds[0]
    validation = Split.read(model.run.split_file).fold(fold).validation
    found = []
    if model.part != "validation" and validation:
        found.append(curves(loaded, "validation", validation, lambda name: fold))
    found.append(curves(loaded, model.part, model.cases, model.fold_of.__getitem__))
    steps.next()
    return found


def _subtitle(about: Sequence[EvaluatedModel]) -> str:
    model = about[-1]
    if len(about) > 1:
        return f"{counted(len(about), 'model')} on the same {counted(len(model.cases), f'{model.part} case')}"
    several = f"stage {model.stage.name}, " if len(model.recipe.stages) > 1 else ""
    return f"{model.recipe.description} ({several}{model.stage.net.arch}, {model.precision})".strip()


def _card(
    models: Sequence[EvaluatedModel],
    about: Sequence[EvaluatedModel],
    measured: Sequence[tables.Measured],
    loaded: dict[str, LoadedModel],
    seen: dict[str, list[Curves]],
    stated: Sequence[str],
    *,
    one_run: bool,
) -> Section:
    subject = about[-1]
    top = [one for one in measured if one.model in about]
    if len(about) == 1:
        (one,) = top
        highlights = [
            plots.score_words(one),
            ("Size", f"{one.kib:,.1f} KiB", one.form),
            ("Time per image", f"{one.speed.ms:,.1f} ms", "image to mask, on the machine that wrote this"),
            (
                "Evaluated on",
                counted(len(subject.cases), "case"),
                f"of {counted(len({row.group for row in subject.rows}), 'group')}",
            ),
        ]
    else:
        highlights = [
            (
                one.model.name,
                plots.score_words(one)[1],
                f"{plots.score_words(one)[2]} · {one.kib:,.1f} KiB · {one.speed.ms:,.1f} ms",
            )
            for one in top
        ]
    items: list[Item] = [
        Highlights(highlights),
        card.use(subject.recipe),
        card.limits(about, seen, stated),
        *(card.model_properties(model, _rules(loaded[model.name])) for model in about),
        card.data_properties(subject, [one for each in seen.values() for one in each]),
        card.split_properties(subject),
        *([card.training_properties(subject)] if one_run else []),
        card.digests(models if one_run else about),
        card.versions(subject),
    ]
    lead = "Mean Dice, 95 % interval, size and time of each model." if len(about) > 1 else ""
    return Section("card", "Model card", items, lead)


def _rules(loaded: LoadedModel) -> str:
    pipeline = loaded.predictor(loaded.model.folds[0]).pipeline
    rules = pipeline.postprocess
    said = [
        _threshold(pipeline),
        f"objects whose peak is at least {rules.min_peak:g}" if rules.min_peak else "",
        f"objects of at least {counted(rules.min_pixels, 'pixel')}" if rules.min_pixels else "",
        "the largest object only" if rules.keep == "largest" else "",
        "holes filled" if rules.fill_holes else "",
        f"nothing where the evidence is at most {' or '.join(f'{each:.9g}' for each in rules.presence)}"
        if any(rules.presence)
        else "",
    ]
    return ", ".join(word for word in said if word)


def _threshold(pipeline: Pipeline) -> str:
    if len(pipeline.classes) > 1 and not pipeline.multilabel:
        return "the likeliest class"
    if not pipeline.postprocess.thresholds:
        return f"threshold {pipeline.postprocess.threshold:g}"
    each = zip(pipeline.classes, pipeline.postprocess.thresholds, strict=True)
    return "thresholds " + ", ".join(f"{limit:g} for {name}" for name, limit in each)


def _results(
    models: Sequence[EvaluatedModel],
    first: EvaluatedModel,
    measured: Sequence[tables.Measured],
    speed: dict[Any, Any],
    runtime: str,
    described: str,
    *,
    one_run: bool,
) -> Section:
    items: list[Item | None] = [
        tables.model_table(measured, first.name, described),
        *tables.trade_offs(measured, runtime),
        tables.difference_table(measured, first.name),
        tables.metric_table(measured),
        tables.file_table(models, speed, RUNTIMES),
        tables.part_table(models[-1]) if one_run else None,
        tables.gate_table(models[-1]) if one_run else None,
        Notes("How to read these numbers", NOTES),
    ]
    return Section("results", "Results", [item for item in items if item is not None])


def _strata(about: Sequence[EvaluatedModel], names: Pseudonyms) -> Section:
    items: list[Item | None] = [tables.size_table(about), tables.folder_table(about, names), plots.against_size(about)]
    return Section("sizes", "By size and folder", [item for item in items if item is not None])


def _examples(
    about: Sequence[EvaluatedModel], loaded: dict[str, LoadedModel], order: Sequence[str], names: Pseudonyms
) -> Section:
    classes = about[0].recipe.data.classes
    if len(about) == 1:
        (model,) = about
        start = max(0, len(order) // 2 - SHOWN // 2)
        chosen = {"Worst": order[:SHOWN], "Median": order[start : start + SHOWN], "Best": order[::-1][:SHOWN]}
        galleries = [
            Gallery(title, [_panel(loaded[model.name], case, names, alone=True) for case in cases], classes)
            for title, cases in chosen.items()
            if cases
        ]
        return Section(
            "examples", "Examples", galleries, "Worst cases are chosen by mean Dice; a miss or a false alarm counts 0."
        )
    shown = about[:MAX_SIDE_BY_SIDE]
    panels = [
        _panel(loaded[model.name], case, names, alone=False) for case in order[:SHOWN_SIDE_BY_SIDE] for model in shown
    ]
    hidden = f" The first {len(shown)} of {len(about)} models are shown." if len(about) > len(shown) else ""
    lead = f"The cases with the lowest mean Dice over all models, one case a row, one model a column.{hidden}"
    gallery = Gallery("Worst cases, models side by side", panels, classes, len(shown))
    return Section("examples", "Examples", [gallery] if panels else [], lead)


def _panel(loaded: LoadedModel, case: str, names: Pseudonyms, *, alone: bool) -> Any:
    rows = [row for row in loaded.model.rows if row.case == case]
    scored = [row.dice for row in rows if row.outcome == "scored"]
    said = f"Dice {sum(scored) / len(scored):.2f}" if scored else rows[0].outcome
    return loaded.panel(case, names.case(case), said if alone else f"{loaded.model.name}: {said}")


def _behavior(
    about: Sequence[EvaluatedModel], loaded: dict[str, LoadedModel], seen: dict[str, list[Curves]]
) -> Section:
    chosen = {
        model.name: loaded[model.name].predictor(model.folds[0]).pipeline.postprocess.threshold for model in about
    }
    items: list[Item | None] = [
        *plots.histograms(about),
        plots.calibration_chart(seen, about[0].part),
        plots.threshold_chart(seen, chosen),
        plots.calibration_table(seen),
    ]
    return Section("behavior", "Spread, calibration, threshold", [item for item in items if item is not None])


def _training(about: Sequence[EvaluatedModel], *, one_run: bool) -> Section:
    items: list[Item] = []
    warnings = []
    for model in about:
        for fold in model.folds:
            for stage in model.recipe.stages:
                history = read_history(model.run.stage(fold, stage.name).history)
                where = stage.name if one_run else f"{model.name}, {stage.name}"
                where += f", fold {fold}" if len(model.folds) > 1 else ""
                curve = StageCurves(where, history, stage.ignore_epochs)
                if stage.loss is not None and (found := collapse(history, ended=True)):
                    warnings.append(f"{where}: {found}; {CAUSES}.")
                items += [
                    replace(chart, title=f"{where}: {chart.title}")
                    for chart in training_charts(curve.history, curve.ignored)
                ]
    together = _curves_together(about)
    return Section("training", "Training", [*together, *([Notes("Warnings", warnings)] if warnings else []), *items])


def _curves_together(about: Sequence[EvaluatedModel]) -> list[Item]:
    """The last stage of each model, or the folds of one, over one another."""
    found = {}
    for model in about:
        for fold in model.folds:
            name = [model.name] * (len(about) > 1) + [f"fold {fold}"] * (len(model.folds) > 1)
            found[", ".join(name)] = read_history(model.run.stage(fold, model.stage.name).history)
    return [*curves_together(found)]


def data_check(model: EvaluatedModel) -> Section:
    """What the doctor found when the run began, where the manifest has it; never with names of files."""
    found = model.manifest.get("doctor")
    if found is None:
        line = "This run recorded no findings. “pocketseg doctor DATA” examines the data."
        return Section("data", "Data check", [Notes("Findings", [line])])
    lines = [f"{each['level']}: {each['code']} ({counted(each['files'], 'file')}): {each['why']}" for each in found]
    return Section("data", "Data check", [Notes("Findings", lines or ["Nothing was found."])])


def _cases(about: Sequence[EvaluatedModel], order: Sequence[str], names: Pseudonyms) -> Section:
    return Section("cases", "Cases", [tables.case_table(about, order, names)])


def _nets(about: Sequence[EvaluatedModel]) -> Section:
    items: list[Item] = []
    for model in about:
        found = model.inspection()
        if found is not None:
            said = ", ".join(f"{name} {value}" for name, value in totals(found.totals))
            items.append(Drawing(f"Drawing of the net {found.title} of {model.name}: {said}.", found.drawing()[1]))
    return Section("net", "Nets" if len(about) > 1 else "Net", items)


def _reproduce(about: Sequence[EvaluatedModel]) -> Section:
    items: list[Item] = []
    for run in {model.run.path: model for model in about}.values():
        name = shlex.quote(run.run.path.name)
        fold = run.folds[0]
        lines = [
            f"pocketseg train {name}/recipe.yaml --data DATA --split {name}/split.json --out AGAIN",
            f"pocketseg export {name} --to onnx --fold {fold}",
            f"pocketseg evaluate {name}/fold-{fold}/model.onnx DATA --split {name}/split.json --part {run.part}"
            f" --fold {fold}",
            f"pocketseg report {name}",
        ]
        items += [
            Code(f"Commands for {run.run.path.name}", "\n".join(lines) + "\n"),
            Code(f"Recipe of {run.run.path.name}", recipe_text(run.recipe)),
        ]
    lead = "DATA is the folder with the digest above. The recipe shows what differs from defaults, without paths."
    return Section("reproduce", "Reproduce", items, lead)
