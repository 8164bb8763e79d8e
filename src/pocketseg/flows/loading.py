"""What several verbs load in the same way: data, recipes, models."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data import Cases, Grouping, MaskCoding, Only
from pocketseg.errors import RunError, missing_package, near
from pocketseg.evaluation import Choice
from pocketseg.flows.run_folder import RunFolder
from pocketseg.pipeline import Reading
from pocketseg.recipes.models import DataSection, EvaluateSection

BEST = "best.safetensors"
WANTED = "give a run folder, best.safetensors, packed.safetensors, a .pseg or an .onnx file"


def open_cases(path: str | Path, section: DataSection) -> Cases:
    """The data set at a path, read as a recipe's data section says."""
    values = section.mask.values
    coding = MaskCoding(
        classes=1 if section.mask.by_folder else len(section.classes),
        values=None if values is None else tuple(values),
        invert=section.mask.invert,
        threshold=section.mask.threshold,
    )
    grouping = Grouping(section.group_csv, section.group_column, section.group_regex, section.group_folder)
    chosen = (None if value is None else tuple(value) for value in section.only.model_dump().values())
    return Cases.open(
        path,
        section.layout,
        images=section.images,
        masks=section.masks,
        coding=coding,
        grouping=grouping,
        reading=reading_of(section),
        raters=section.raters,
        class_folders=tuple(section.classes) if section.mask.by_folder else (),
        only=Only(*chosen),
    )


def metric_choice(section: EvaluateSection) -> Choice:
    """What a recipe's evaluate section wants measured; told before anything is trained or predicted.

    Raises:
        RecipeError: a metric that is not known.
        EnvironmentProblem: one that needs SciPy, which is not installed.
    """
    choice = Choice(tuple(section.metrics), section.tolerance, section.lesion_iou)
    choice.check_packages()
    return choice


def reading_of(section: DataSection) -> Reading:
    """How volumes are cut into slices, as a recipe's data section says."""
    return Reading(section.axis, section.window, raw=section.range is not None)


def require_torch() -> None:
    """Tell how to install what training needs, where it is not there."""
    for package in ("torch", "accelerate", "safetensors"):
        try:
            __import__(package)
        except Exception as error:  # broken installations raise more than ImportError
            raise missing_package(package, "train", error) from error


def checkpoint_of(path: Path, fold: int) -> Path:
    """The best weights in a run folder (of its last stage) or in the folder of a stage; a file is itself."""
    if not path.is_dir():
        return path
    return path / BEST if is_stage(path) else best_checkpoint(RunFolder.existing(path), fold)


def is_stage(path: Path) -> bool:
    """Whether this is the folder of a trained stage, RUN/fold-N/STAGE."""
    return (path / BEST).is_file()


def best_checkpoint(run: RunFolder, fold: int, stage: str | None = None) -> Path:
    """The best weights of a stage of a run, the last one unless named.

    Raises:
        RunError: there is no such stage, or that fold was not trained so far.
    """
    names = [section.name for section in run.recipe().stages]
    if stage is not None and stage not in names:
        raise RunError(f"--stage {stage}", f"{run.path} has no such stage", near(stage, names))
    path = run.best(fold, stage or names[-1])
    if not path.is_file():
        trained = ", ".join(map(str, run.folds())) or "none"
        raise RunError(str(path), f"does not exist (folds begun: {trained})", "finish the training with --resume")
    return path
