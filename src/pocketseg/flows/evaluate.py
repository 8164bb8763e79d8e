"""`evaluate`: a model, or a folder of masks, evaluated on data."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg import notebook
from pocketseg.cards import json_object
from pocketseg.data import Case, Cases, MaskCoding, Split
from pocketseg.data.annotations.classes import classed
from pocketseg.data.case import ChannelSource, FileSource, Source
from pocketseg.data.layouts.listing import by_stem, image_files
from pocketseg.data.layouts.rle_csv import drawings_in
from pocketseg.data.readers import stem_of
from pocketseg.data.volumes import SliceSource, VolumeFile, difference, is_volume, open_volume
from pocketseg.errors import DataError, ModelFileError, Problem, RecipeError
from pocketseg.evaluation import (
    CaseScore,
    Comparison,
    Prediction,
    Respond,
    Summary,
    asking,
    by_group,
    by_size,
    class_means,
    compare_seeds,
    free_response_table,
    object_table,
    read_scores,
    score_cases,
    scores_in,
    summarize,
    write_scores,
    write_summaries,
    write_table,
)
from pocketseg.evaluation.cells import (
    COMPARISON_COLUMNS,
    METRIC_COLUMNS,
    SHORT_COLUMNS,
    comparison_row,
    metric_rows,
    short_row,
)
from pocketseg.files import MAX_TEXT, by_parts, read_file, remove, resolved, try_folder, write_json
from pocketseg.pipeline import OF_COLOR, Mirror, Pipeline
from pocketseg.recipes import DataRecipe, load_data_recipe
from pocketseg.runs.backends import ALL, Fold, load_predictor
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import metric_config, open_cases, run_around
from pocketseg.runs.shipped import shipped_file
from pocketseg.runs.source import WANTED
from pocketseg.text import brief, counted, number
from pocketseg.training.stage_folder import StageFolder

log = logging.getLogger("pocketseg")

CASES, SUMMARY, OPTIONS = "cases.csv", "summary.json", "options.json"
TABLE = ".csv"
# What stands beside them, where there is anything to say.
TABLES = ("class_means", "by_size", "by_group", "objects", "free_response", "comparison")


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Rows by case and class, their summary, what differs from another model, and where all was written."""

    rows: list[CaseScore]
    summaries: list[Summary]
    out: Path
    comparisons: list[Comparison]

    def __repr__(self) -> str:
        scores = ", ".join(f"{each.class_name} {number(each.dice)}" for each in self.summaries)
        return brief(self, f"mean Dice {scores}; {counted(len(self.rows), 'row')} in {self.out}")

    def _repr_html_(self) -> str:
        """The tables of the command line, for notebooks."""
        rows = [comparison_row(each) for each in self.comparisons]
        return (
            notebook.table(SHORT_COLUMNS, [short_row(each) for each in self.summaries])
            + notebook.table(METRIC_COLUMNS, metric_rows(self.summaries))
            + (notebook.table(COMPARISON_COLUMNS, rows, "minus the other model") if rows else "")
            + notebook.paragraph(f"per case: {self.out / CASES}")
        )


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    also: Sequence[str | Path] = (),
    split: str | Path | None = None,
    part: str | None = None,
    fold: Fold = 0,
    stage: str | None = None,
    backend: str | None = None,
    device: str = "cpu",
    tta: Sequence[Mirror] | None = None,
    out: str | Path | None = None,
    against: str | Path | Sequence[str | Path] = (),
    again: Sequence[str | Path] = (),
    margin: float | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate a run, a checkpoint, a packed model, an ONNX file, or a folder of predicted masks.

    Args:
        model: what predicts; in a folder of masks, or a table of run lengths (`image_id,rle`, Kaggle's), each mask has
            the name of its case.
        data: images and masks.
        also: further models, which are an ensemble with the first: the mean of their probabilities is evaluated.
        split: evaluate only a part of this split file; groups are taken from it too.
        part: train, validation, test or fixed_test; default test where a split is given, of `all` folds fixed_test.
        fold: of the split, and of a run. `all` is the ensemble of the run's folds; of a split it takes only the cases
            that none of the folds has seen.
        stage: of a run; default the last.
        backend: torch, onnx, openvino or pseg; default: a run's packed model where there is one, else by the file.
        device: cpu; cuda, cuda:N or mps, for torch (which then runs a run) and ONNX; auto: a GPU where there is one.
        tta: directions of test-time mirroring (horizontal, vertical); each doubles the time. Default: the model's own.
        out: folder for `cases.csv`, `summary.json`, `by_size.csv` and `by_group.csv`, with several classes also
            `class_means.csv`, with lesion metrics `objects.csv` and `free_response.csv`, and `options.json`; default
            `MODEL.evaluation` beside the model, or `MODEL.evaluation-2` and so on where that was made with other data
            or options.
        against: `cases.csv` of another model on the same cases, or its folder; gives `comparison.csv`. Several are
            seeds (trainings) of that model.
        again: `cases.csv` of further seeds of this model, which count in the comparison with it.
        margin: of the primary metric, the Dice with the rules off, stated before: `comparison.csv` says whether the
            model is worse than the other by less.
        overrides: `data.KEY=VALUE`, how to read the data, and `evaluate.KEY=VALUE`, what to measure; the settings of
            the run that the model lies in are the start. Masks of a folder are read as `predict` writes them.
        progress: called with (done, of).
    """
    model = Path(model)
    compared = [against] if isinstance(against, str | Path) else list(against or ())
    if again and not compared:
        raise DataError(
            f"--again {again[0]}", "is of a comparison, and there is nothing to compare with", "add --against"
        )
    twice = [path for at, path in enumerate([*compared, *again]) if path in [*compared, *again][:at]]
    if twice:
        raise DataError(str(twice[0]), "is given twice, and would be a seed of its own", "give each evaluation once")
    if margin is not None and (not compared or not 0 < margin < 1):
        what = "is not a margin of the Dice, between 0 and 1, to another model"
        raise DataError(f"--margin {margin:g}", what, "for example --against FOLDER --margin 0.015")
    if part is not None and split is None:
        raise DataError("--part", "needs the split it is a part of", "add --split RUN/split.json")
    odd: list[str] = []
    if shipped_file(model) is None and not model.exists():
        raise ModelFileError(str(model), "does not exist", f"{WANTED}, a folder of masks, or a .csv of run lengths")
    if _holds_masks(model) and also:
        raise ModelFileError(str(model), "holds masks, which are no part of an ensemble", "give models alone")
    models = model if not also else [model, *also]
    predictor = None
    if not _holds_masks(model):
        predictor = load_predictor(models, fold, stage, backend=backend, device=device, tta=tta, warn=odd.append)
    recipe = _recipe(model, None if predictor is None else predictor.pipeline, overrides, Path(data))
    choice = metric_config(recipe.evaluate)
    if predictor is None and choice.needs_probability:
        names = ", ".join(choice.needs_probability)
        raise RecipeError(
            "evaluate.metrics", f"masks hold no probabilities for {names}", "leave them out, or give a model"
        )
    earlier, further = ({str(path): scores_in(Path(path)) for path in paths} for paths in (compared, again))
    classes = recipe.data.classes if predictor is None else predictor.pipeline.classes
    multilabel = recipe.data.multilabel if predictor is None else predictor.pipeline.multilabel
    if multilabel != recipe.data.multilabel:
        may, data = ("may overlap", "true") if multilabel else ("exclude each other", "false")
        raise RecipeError("data.multilabel", f"classes of the model {may}", f"--set data.multilabel={data}")
    of_masks = _table_of_masks if model.suffix.lower() == TABLE else _folder_of_masks
    respond = of_masks(model, classes, multilabel=multilabel) if predictor is None else asking(predictor)
    cases = open_cases(data, recipe.data)
    if split is None and RunFolder(model).split_file.exists():
        test = f"--split {model}/split.json --part {'fixed_test' if fold == ALL else 'test'}"
        log.warning("all cases are evaluated, the training cases of %s too; for the test cases alone: %s", model, test)
    options = {
        "data": str(resolved(Path(data))), "also": [str(each) for each in also],
        "split": None if split is None else str(split), "part": part, "fold": fold, "stage": stage, "backend": backend,
        "device": device, "tta": None if tta is None else list(tta),
        "against": list(map(str, compared)), "again": list(map(str, again)), "margin": margin,
        "overrides": list(overrides),
    }  # fmt: skip
    folder = Path(out) if out is not None else _beside(model, options)
    try_folder(folder)
    _refuse_foreign(folder)
    rows = score_cases(cases, _chosen(cases, split, part, fold), respond, classes, progress, choice)
    colors = [text.removeprefix(OF_COLOR) for text in odd if text.startswith(OF_COLOR)]
    others = [text for text in odd if not text.startswith(OF_COLOR)]
    for warn, how in ((others, "are unlike"), (colors, "differ in color from")):
        if warn:
            log.warning("%s %s those of training; of the first, %s", counted(len(warn), "image"), how, warn[0])
    summaries = summarize(rows, part or (_usual_part(fold) if split else "all"))
    comparisons = compare_seeds(earlier, {"this model": rows, **further}, margin) if earlier else []
    found = Evaluation(rows, summaries, folder, comparisons)
    _write(found)
    write_json(folder / OPTIONS, options)
    return found


def _beside(model: Path, options: Mapping[str, Any]) -> Path:
    """The folder of an evaluation with these options, or the first that is not there yet."""
    usual = model.with_name(f"{model.name}.evaluation")
    folders = (usual if number == 1 else usual.with_name(f"{usual.name}-{number}") for number in count(1))
    folder = next(each for each in folders if not each.exists() or _options_of(each) == options)
    if folder != usual:
        log.info("%s holds an evaluation with other data or options, and stays", usual)
    return folder


def _options_of(folder: Path) -> dict[str, Any] | None:
    """What an evaluation was made with; None where its folder does not say."""
    try:
        return json_object(read_file(folder / OPTIONS, MAX_TEXT))
    except (OSError, ValueError):
        return None


def _refuse_foreign(out: Path) -> None:
    """Nothing but an earlier evaluation is replaced: its `cases.csv`, which is written first, tells that it is one.

    Raises:
        DataError: the folder holds files of these names that no evaluation wrote.
    """
    mine = [out / name for name in (CASES, SUMMARY, *(f"{table}.csv" for table in TABLES)) if (out / name).exists()]
    try:
        ours = not mine or bool(read_scores(out / CASES))
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        ours = False
    if not ours:
        raise DataError(str(mine[0]), "is there already, and no evaluation wrote it", "choose another --out")


def _write(found: Evaluation) -> None:
    with_margin = any(each.margin is not None for each in found.comparisons)
    write_scores(found.rows, found.out / CASES)
    write_summaries(found.summaries, found.out / SUMMARY)
    tables = (
        class_means(found.summaries),
        by_size(found.rows),
        by_group(found.rows),
        object_table(found.rows),
        free_response_table(found.rows),
        [_comparison(each, with_margin) for each in found.comparisons],
    )
    for name, rows in zip(TABLES, tables, strict=True):
        file = found.out / f"{name}.csv"
        if rows:
            write_table(rows, file)
        else:
            remove(file)  # of an earlier evaluation, which measured more


def _comparison(found: Comparison, with_margin: bool) -> dict[str, object]:
    """A row of comparison.csv; where there is a margin every row has its columns."""
    named = {"class_name": found.class_name, "metric": found.metric, "role": found.role, "unit": found.unit}
    tested = {"margin": found.margin, "non_inferior": found.non_inferior} if with_margin else {}
    return named | asdict(found.difference) | {name: "" if value is None else value for name, value in tested.items()}


def _holds_masks(model: Path) -> bool:
    """A table, or a folder that is neither a run nor a stage of one, is taken for one of masks."""
    if model.suffix.lower() == TABLE:
        return True
    return model.is_dir() and not RunFolder(model).recipe_file.exists() and not StageFolder(model).exists()


def _folder_of_masks(folder: Path, classes: Sequence[str], *, multilabel: bool) -> Respond:
    """Masks by the name of their case, stored as masks of data are: 0 is background, one class has one other value.

    Of classes that may overlap a file each, NAME_CLASS, or one file with all of them.
    """
    problems: list[Problem] = []
    files = by_stem([path for inside in _folders(folder) for path in image_files(inside)], problems)
    if problems:
        raise DataError.of(problems)
    if not files:
        raise DataError(
            str(folder), "holds no masks and is not a run folder", "give a model, a run, or a folder of masks"
        )

    coding = MaskCoding(classes=len(classes), multilabel=multilabel)
    single = MaskCoding()
    volumes: dict[str, VolumeFile] = {}

    def mask_of(stem: str, image: Source, names: Sequence[str], how: MaskCoding) -> NDArray[np.uint8]:
        if isinstance(image, SliceSource) and is_volume(files[stem]):
            if stem not in volumes:
                volumes[stem] = classed(open_volume(files[stem], image.volume), names, how)
            return how.decode(*_slice_of(volumes[stem], image, planes=how.multilabel))
        source = FileSource(files[stem], planes=how.multilabel)
        return how.decode(source.mask(gray=False), source.where)

    def respond(case: Case, _: NDArray[np.generic]) -> Prediction:
        image = case.image.parts[0] if isinstance(case.image, ChannelSource) else case.image
        stem = stem_of(image.path) if isinstance(image, SliceSource) else Path(case.name).name
        known = {stem, f"{stem}_{classes[0]}"} if multilabel else {stem}
        stem = stem if known & files.keys() else case.name.split("#")[0]  # where several files are one image
        missing = [f"{stem}_{name}" for name in classes if f"{stem}_{name}" not in files]
        if missing or not multilabel:
            if stem in files:
                return Prediction(mask_of(stem, image, classes, coding))
            wanted = f"{', '.join(missing)}, a file for each class" if multilabel else f"{stem}.png"
            raise DataError(str(folder), f"has no mask for the case {case.name!r}", f"add {wanted}")
        planes = [mask_of(f"{stem}_{name}", image, [name], single) for name in classes]
        if len({plane.shape for plane in planes}) > 1:
            raise DataError(str(folder), f"has masks of several sizes for {case.name!r}", "predict them again")
        return Prediction(np.stack(planes))

    return respond


def _table_of_masks(file: Path, classes: Sequence[str], *, multilabel: bool) -> Respond:
    """Masks as run lengths by the name of their case, or of its image; categories are the classes of the same name."""
    drawings = drawings_in(file)
    known = {name: index for index, name in enumerate(classes, start=1)}
    used = {shape.category for drawing in drawings.values() for shape in drawing.shapes}
    if len(classes) == 1 and len(used) == 1:
        known = dict.fromkeys(used, 1)
    if used - known.keys():
        odd = ", ".join(sorted(used - known.keys())[:5])
        raise DataError(str(file), f"has classes that are none of {', '.join(classes)}: {odd}", "set data.classes")

    def respond(case: Case, image: NDArray[np.generic]) -> Prediction:
        drawing = next((drawings[name] for name in (case.name, case.image.path.name) if name in drawings), None)
        if drawing is None:
            raise DataError(str(file), f"has no row for the case {case.name!r}", "add one; its rle may be empty")
        height, width = image.shape[:2]
        if drawing.size not in (None, (height, width)):
            what = "has masks of {}×{} for the case {!r}, whose image has {}×{}"
            shown = what.format(*(drawing.size or ()), case.name, height, width)
            raise DataError(str(file), shown, "write them at the size of the images")
        try:
            if multilabel:
                planes = drawing.paint_planes(tuple(known.items()), (height, width), len(classes))
                return Prediction(planes.astype(np.uint8))
            return Prediction(drawing.paint(tuple(known.items()), (height, width)))
        except ValueError as error:
            raise DataError(f"{file} ({case.name})", f"cannot be painted ({error})", "write the table again") from None

    return respond


def _slice_of(masks: VolumeFile, image: SliceSource, *, planes: bool) -> tuple[NDArray[np.generic], str]:
    """The slice of a volume of masks that lies where that of an image does, and how an error names it."""
    apart = difference(image.volume.grid, masks.grid)
    if apart:
        raise DataError(str(masks.path), apart, "predict on the grid of the image")
    source = replace(image, volume=masks, planes=planes)
    return source.mask(gray=False), source.where


def _folders(folder: Path) -> list[Path]:
    return [folder, *by_parts(path for path in folder.rglob("*") if path.is_dir())]


def _recipe(model: Path, pipeline: Pipeline | None, overrides: Sequence[str], data: Path) -> DataRecipe:
    """How to read the data and what to measure: as run or model did, changed by --set.

    The table of groups belongs to the data of the training: other data that lacks it is read without.
    """
    foreign = [text for text in overrides if not text.startswith(("data.", "evaluate."))]
    if foreign:
        raise RecipeError(
            f"--set {foreign[0]}",
            "evaluate only reads data and measures",
            "set keys that begin with data. or evaluate.",
        )
    start: dict[str, dict[str, Any]] = {}
    run = None if pipeline is None else run_around(model)
    if run is not None:
        recipe = run.recipe()
        start = {name: getattr(recipe, name).model_dump(mode="json") for name in ("data", "evaluate")}
        table = recipe.data.group_csv
        given = any(text.startswith("data.group_") for text in overrides)
        if table is not None and not given and not (data / table).exists():
            log.warning(
                "%s has no %s, by which the training's data was grouped: without groups intervals are too narrow where "
                "several images show one patient; --set data.group_csv=TABLE names another table",
                data, table,
            )  # fmt: skip
            start["data"] |= {"group_csv": None, "group_column": None}
    elif pipeline is not None:
        window, values = pipeline.reading.window, pipeline.intensity_range
        cut = {"axis": pipeline.reading.axis, "window": window, "range": values}
        start = {"data": {"classes": list(pipeline.classes), "multilabel": pipeline.multilabel, **cut}}
    return load_data_recipe(start, overrides)


def _usual_part(fold: Fold) -> str:
    return "fixed_test" if fold == ALL else "test"


def _chosen(cases: Cases, split: str | Path | None, part: str | None, fold: Fold) -> list[Case]:
    """The cases to evaluate, with the groups of the split file where there is one.

    Raises:
        DataError: an ensemble is to be evaluated on cases that some of its folds learned from.
    """
    if split is None:
        return list(cases)
    plan = Split.read(Path(split))
    part = part or _usual_part(fold)
    if fold == ALL and part != "fixed_test" and len(plan.folds) > 1:
        what = f"the cases of {part} of a fold are training cases of others, which are in the ensemble"
        raise DataError(f"--part {part}", what, "give --part fixed_test, or one --fold")
    names = plan.fold(0 if fold == ALL else fold).part(part)
    if not names:
        raise DataError(str(split), f"has no case in its part {part}", "choose another --part, or leave out --split")
    chosen = cases.named(names)
    return [replace(case, group=plan.groups.get(case.name, case.group)) for case in chosen]
