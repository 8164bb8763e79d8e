"""The models of a report as their run folders tell: what was trained, how it was evaluated, what it weighs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pocketseg.errors import DataError, RunError
from pocketseg.evaluation import CaseScore, Summary, read_scores, summarize
from pocketseg.files import resolved, sha256_of
from pocketseg.recipes import Recipe, StageSection
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.inspection import Inspection, read_inspection
from pocketseg.runs.results import evaluated_stages
from pocketseg.runs.source import check_fold
from pocketseg.text import counted
from pocketseg.training.stage_folder import StageFolder

# The forms of a model.
PACKED, PACKED_WEIGHTS, ONNX, WEIGHTS = "packed model", "packed weights", "ONNX", "weights"


@dataclass(frozen=True)
class EvaluatedModel:
    """A stage of a run, over one fold or several, with the scores of one part.

    Attributes:
        name: in the report.
        place: the stage where it is not the last one; see `RunFolder.scores_file`.
        rows: of all folds together.
        fold_of: case -> the fold that evaluated it.
    """

    name: str
    run: RunFolder
    recipe: Recipe
    manifest: dict[str, Any]
    stage: StageSection
    place: str | None
    part: str
    rows: list[CaseScore]
    fold_of: dict[str, int]

    @property
    def folds(self) -> list[int]:
        return sorted(set(self.fold_of.values()))

    @property
    def cases(self) -> list[str]:
        """Names, in the order of the tables."""
        return list(dict.fromkeys(row.case for row in self.rows))

    @property
    def summaries(self) -> list[Summary]:
        return summarize(self.rows, self.part)

    @property
    def metadata(self) -> dict[str, Any]:
        """What the manifest says of the stage."""
        found: dict[str, Any] = self.manifest.get("stages", {}).get(f"fold-{self.folds[0]}/{self.stage.name}", {})
        return found

    @property
    def precision(self) -> str:
        return "f32" if self.stage.quant is None else self.stage.quant.scheme

    def best(self, fold: int) -> Path:
        return self.run.stage(fold, self.stage.name).best

    def files(self, fold: int) -> dict[str, Path]:
        """The forms in which the model is there: the one that is given away first, else what is stored."""
        folder = self.run.stage(fold, self.stage.name)
        places = {
            PACKED: self.run.packed_file(fold, self.place),
            PACKED_WEIGHTS: folder.packed,
            ONNX: self.run.onnx_file(fold, self.place),
            WEIGHTS: folder.best,
        }
        return {form: path for form, path in places.items() if path.is_file()}

    def size(self) -> tuple[str, int]:
        """Form and bytes of the file that holds it."""
        form, path = next(iter(self.files(self.folds[0]).items()))
        return form, path.stat().st_size

    def digests(self) -> list[tuple[str, str]]:
        """(file, SHA-256) of every form of every fold."""
        return [
            (f"fold {fold}, {form}" if len(self.folds) > 1 else form, sha256_of(path))
            for fold in self.folds
            for form, path in self.files(fold).items()
        ]

    def inspection(self) -> Inspection | None:
        """Layers and costs; None where the file is gone."""
        file = self.run.stage(self.folds[0], self.stage.name).architecture
        return read_inspection(file) if file.is_file() else None


def read_models(source: str | Path, fold: int | None, card: Sequence[str]) -> list[EvaluatedModel]:
    """Every evaluated stage of a run folder, the last one last; or the one stage whose folder is given.

    Args:
        source: run folder, or RUN/fold-N/STAGE.
        fold: only this one.
        card: `card.KEY=VALUE`, over what the recipe says.

    Raises:
        RunError: no such run, or it has not been evaluated.
    """
    from pocketseg.recipes import load_recipe

    path = resolved(Path(source))
    only = path.name if StageFolder(path).exists() else None
    if only and fold is None:
        fold = int(path.parent.name.removeprefix("fold-"))
    run = RunFolder.existing(path.parents[1] if only else Path(source))
    run = RunFolder(resolved(run.path))
    recipe, manifest = load_recipe(run.recipe_file, card), run.manifest()
    folds = run.evaluated()
    if fold is not None or not folds:
        check_fold(run, fold or 0)
        folds = [number for number in folds if number == fold]
        if not folds:
            what = "has not been evaluated" if fold is None else f"fold {fold} has not been evaluated"
            again = "import it with --data" if run.is_imported else "finish the training with --resume"
            raise RunError(str(run.path), what, again)
    part = "test" if run.scores_file(folds[0], "test").exists() else recipe.evaluate.parts[0]
    # Of other parts a case may lie in several folds.
    folds = folds if part == "test" else folds[:1]
    last = recipe.stages[-1]
    names = [name for name in evaluated_stages(run, recipe) if only in (None, name)]
    if not names:
        raise RunError(str(source), "has not been evaluated", "give a stage that learned to segment")
    found = []
    for name in names:
        stage = next(each for each in recipe.stages if each.name == name)
        place = None if stage is last else name
        found.append(EvaluatedModel(name, run, recipe, manifest, stage, place, part, *_rows(run, folds, part, place)))
    return found


def _rows(run: RunFolder, folds: Sequence[int], part: str, place: str | None) -> tuple[list[CaseScore], dict[str, int]]:
    rows: list[CaseScore] = []
    fold_of: dict[str, int] = {}
    for fold in folds:
        file = run.scores_file(fold, part, place)
        try:
            found = read_scores(file)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(str(file), f"cannot be read ({error})", "train again, or restore it") from error
        rows += found
        fold_of |= {row.case: fold for row in found}
    if not rows:
        raise RunError(str(run.path), f"its part {part} holds no case", "give a run with a test part")
    return rows, fold_of


def on_common_cases(models: Sequence[EvaluatedModel]) -> tuple[list[EvaluatedModel], list[str]]:
    """The models with the rows that all of them have, in the groups of the first; sentences tell what that changes.

    Raises:
        DataError: no case is common to all, or parts differ.
    """
    first = models[0]
    for other in models[1:]:
        if other.part != first.part:
            what = f"was evaluated on its {other.part} part, {first.name} on its {first.part} part"
            raise DataError(other.name, what, "compare runs that were evaluated on the same part")
    keys = [{(row.case, row.class_name) for row in model.rows} for model in models]
    common = set.intersection(*keys)
    if not common:
        names = ", ".join(model.name for model in models)
        raise DataError(names, "have no case in common", "train on the same data with the same split (--split)")
    group = {row.case: row.group for row in first.rows}
    kept = []
    for model in models:
        rows = [replace(row, group=group[row.case]) for row in model.rows if (row.case, row.class_name) in common]
        inside = {row.case for row in rows}
        folds = {name: fold for name, fold in model.fold_of.items() if name in inside}
        kept.append(replace(model, rows=rows, fold_of=folds))
    said = []
    if any(found != common for found in keys):
        counts = ", ".join(f"{len(model.cases)} of {model.name}" for model in models)
        said.append(
            f"The models were not evaluated on the same cases ({counts}). Every figure of this report is over the "
            f"{counted(len(kept[0].cases), 'case')} that all of them were evaluated on."
        )
    if any(row.group != group.get(row.case, row.group) for model in models for row in model.rows):
        said.append(f"The runs put the cases into other groups; those of {first.name} are used for all.")
    return kept, said
