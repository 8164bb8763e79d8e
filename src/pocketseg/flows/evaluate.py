"""`evaluate`: a model, or a folder of masks, judged on data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases, MaskCoding, Split
from pocketseg.data.layouts.listing import by_stem, image_files
from pocketseg.data.readers import read_mask
from pocketseg.errors import DataError, Problem, RecipeError
from pocketseg.evaluation import CaseScore, Summary, score_cases, summarize, write_scores, write_summaries
from pocketseg.evaluation.scores import Masker
from pocketseg.flows.loading import is_stage, load_predictor, open_cases
from pocketseg.flows.run_folder import RunFolder
from pocketseg.predictors import Predictor
from pocketseg.recipes import load_recipe
from pocketseg.recipes.models import DataSection


@dataclass(frozen=True)
class Evaluation:
    """Rows by case and class, their summary, and where both were written."""

    rows: list[CaseScore]
    summaries: list[Summary]
    out: Path


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    split: str | Path | None = None,
    part: str | None = None,
    fold: int = 0,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Judge a run, a checkpoint, a packed model, an ONNX file, or a folder of predicted masks.

    Args:
        model: what predicts; in a folder of masks, each has the name of its case.
        data: images and masks.
        split: judge only a part of this split file; groups are taken from it too.
        part: train, validation or test; default test where a split is given.
        fold: of the split, and of a run.
        out: folder for `cases.csv` and `summary.json`; default `MODEL.evaluation` beside the model.
        overrides: `data.KEY=VALUE`, how to read the data; a run's own settings are the start.
        progress: called with (done, of).
    """
    model = Path(model)
    if part is not None and split is None:
        raise DataError("--part", "needs the split it is a part of", "add --split RUN/split.json")
    predictor = None if _holds_masks(model) else load_predictor(model, fold)
    section = _data_section(model, [] if predictor is None else predictor.pipeline.classes, overrides)
    masker = _folder_of_masks(model, section.classes) if predictor is None else _asking(predictor)
    cases = open_cases(data, section)
    chosen = _chosen(cases, split, part, fold)
    classes = section.classes if predictor is None else predictor.pipeline.classes
    rows = score_cases(cases, chosen, masker, classes, progress)
    summaries = summarize(rows, part or ("test" if split else "all"))
    folder = Path(out) if out is not None else model.with_name(f"{model.name}.evaluation")
    write_scores(rows, folder / "cases.csv")
    write_summaries(summaries, folder / "summary.json")
    return Evaluation(rows, summaries, folder)


def _holds_masks(model: Path) -> bool:
    """A folder that is neither a run nor a stage of one is taken for one of masks."""
    return model.is_dir() and not RunFolder(model).recipe_file.exists() and not is_stage(model)


def _asking(predictor: Predictor) -> Masker:
    return lambda _, image: predictor.mask(image)


def _folder_of_masks(folder: Path, classes: Sequence[str]) -> Masker:
    """Masks by the name of their case, stored as masks of data are: 0 is background, one class has one other value."""
    problems: list[Problem] = []
    files = by_stem([path for inside in _folders(folder) for path in image_files(inside)], problems)
    if problems:
        raise DataError.of(problems)
    if not files:
        raise DataError(str(folder), "holds no masks and is no run folder", "give a model, a run, or a folder of masks")

    coding = MaskCoding(classes=len(classes))

    def masker(case: Case, _: NDArray[np.generic]) -> NDArray[np.uint8]:
        stem = Path(case.name).name
        if stem not in files:
            raise DataError(str(folder), f"has no mask for the case {case.name!r}", f"add {stem}.png")
        return coding.decode(read_mask(files[stem]), str(files[stem]))

    return masker


def _folders(folder: Path) -> list[Path]:
    return [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]


def _data_section(model: Path, classes: Sequence[str], overrides: Sequence[str]) -> DataSection:
    """How to read the data: as the run did, with the model's classes, changed by --set."""
    foreign = [text for text in overrides if not text.startswith("data.")]
    if foreign:
        raise RecipeError(f"--set {foreign[0]}", "evaluate reads data only", "set keys that begin with data.")
    start: dict[str, object] = {}
    run = RunFolder(model)
    if model.is_dir() and run.recipe_file.exists():
        start = run.recipe().data.model_dump(mode="json")
    elif classes:
        start = {"classes": list(classes)}
    # A whole recipe is validated, so that a wrong key is told with its neighbours; only its data section is used.
    stage = {"name": "none", "net": {"arch": "none"}, "loss": {"dice": 1}}
    return load_recipe({"data": start, "stages": [stage]}, overrides).data


def _chosen(cases: Cases, split: str | Path | None, part: str | None, fold: int) -> list[Case]:
    """The cases to judge, with the groups of the split file where there is one."""
    if split is None:
        return list(cases)
    plan = Split.read(Path(split))
    chosen = cases.named(plan.fold(fold).part(part or "test"))
    return [replace(case, group=plan.groups.get(case.name, case.group)) for case in chosen]
