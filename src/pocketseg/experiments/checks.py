"""What is checked of a run before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pocketseg.data import Case, Cases, CheckedData, Fold, Split
from pocketseg.data.doctor.sets import split_findings
from pocketseg.errors import DataError, RecipeError, RunError
from pocketseg.experiments.distillation import check_teachers
from pocketseg.experiments.initialization import check_starts
from pocketseg.pipeline.intensity import Numbers, converts, numbers_of
from pocketseg.recipes import Recipe
from pocketseg.runs.folder import RunFolder

if TYPE_CHECKING:
    pass


def check_run(recipe: Recipe, plan: Split, cases: Cases, checked: CheckedData, fold: int | None) -> dict[int, Fold]:
    """The folds to train, once all is checked that can be before training.

    Raises:
        PocketsegError: channels, folds, starting weights or teachers that do not fit.
    """
    folds = {number: plan.fold(number) for number in (range(len(plan.folds)) if fold is None else [fold])}
    torn = [finding.problem for finding in split_findings(plan, checked.twins, (), "the split")]
    if torn:
        raise DataError.of(torn)
    if recipe.data.drop_empty == "train":
        folds = {number: _without_empty(found, checked) for number, found in folds.items()}
    _check_channels(recipe, checked)
    known_numbers(recipe, checked)
    _check_weights(recipe, [case for found in folds.values() for case in cases.named(found.train)])
    check_starts(recipe, folds, plan.groups, checked.digest)
    check_teachers(recipe, folds, plan.groups, checked.digest, cases)
    return folds


def check_out(run: RunFolder, resume: bool) -> None:
    if resume:
        # A run that was killed before its first checkpoint begins again.
        if not run.recipe_file.exists() and not run.was_begun():
            raise RunError(str(run.path), "holds no run to resume", "check the path, or train without --resume")
    elif not run.is_empty():
        what = "already holds a run" if run.manifest_file.exists() else "is not empty"
        raise RunError(str(run.path), what, "go on with --resume, or choose another --out")


def refuse_begun(run: RunFolder, fold: int | None, resume: bool) -> None:
    """The same once the folder is held: another training may have begun it while the data were read.

    Folds may be begun at one moment by several processes, each its own.
    """
    if not resume and run.manifest_file.exists() and (fold is None or run.fold(fold).exists()):
        raise RunError(str(run.path), "already holds a run", "go on with --resume, or choose another --out")


def _check_channels(recipe: Recipe, checked: CheckedData) -> None:
    wanted = recipe.data.channels
    strange = [have for have in sorted(checked.channels) if not converts(have, wanted)]
    if strange:
        raise RecipeError(
            "data.channels",
            f"is {wanted}, but there are images with {' and '.join(map(str, strange))} channels",
            f"set data.channels={strange[-1]}",
        )


def known_numbers(recipe: Recipe, checked: CheckedData) -> Numbers | None:
    """What kind of numbers the images hold, where no declared range says what they mean."""
    return None if recipe.data.range is not None else numbers_of(checked.stored)


def _check_weights(recipe: Recipe, cases: Sequence[Case]) -> None:
    from pocketseg.training.samples import no_weights

    if any(stage.loss is not None and stage.loss.pixel_weights == "files" for stage in recipe.stages):
        problems = [problem for case in cases if case.weights is None for problem in no_weights(case).problems]
        if problems:
            raise DataError.of(problems)


def _without_empty(fold: Fold, checked: CheckedData) -> Fold:
    """The fold without blank images and empty masks in its training part; all are judged."""
    kept = tuple(name for name in fold.train if name not in checked.empty and name not in checked.blank)
    if not kept:
        what = "all training cases are blank or have an empty mask"
        raise RecipeError("data.drop_empty=train", what, "check the masks, or set data.drop_empty=null")
    return replace(fold, train=kept)
