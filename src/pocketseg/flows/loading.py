"""What several verbs load in the same way: data, recipes, models."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data import Cases, Grouping, MaskCoding
from pocketseg.errors import ModelFileError, RunError, missing_package
from pocketseg.flows.run_folder import RunFolder
from pocketseg.predictors import NetPredictor, load_onnx
from pocketseg.recipes.models import DataSection


def open_cases(path: str | Path, section: DataSection) -> Cases:
    """The data set at a path, read as a recipe's data section says."""
    values = section.mask.values
    coding = MaskCoding(
        classes=len(section.classes),
        values=None if values is None else tuple(values),
        invert=section.mask.invert,
        threshold=section.mask.threshold,
    )
    grouping = Grouping(section.group_csv, section.group_column, section.group_regex, section.group_folder)
    return Cases.open(
        path, section.layout, images=section.images, masks=section.masks, coding=coding, grouping=grouping
    )


def require_torch() -> None:
    """Tell how to install what training needs, where it is not there."""
    for package in ("torch", "accelerate", "safetensors"):
        try:
            __import__(package)
        except Exception as error:  # broken installations raise more than ImportError
            raise missing_package(package, "train", error) from error


def load_predictor(path: str | Path, fold: int = 0) -> NetPredictor:
    """A predictor from a run folder, a checkpoint, or an ONNX file; the last needs no torch.

    Raises:
        ModelFileError: nothing that can predict is there.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        return load_onnx(path)
    if path.is_dir():
        path = best_checkpoint(RunFolder.existing(path), fold)
    if not path.is_file():
        raise ModelFileError(str(path), "does not exist", "give a run folder, best.safetensors, or an .onnx file")
    if path.suffix != ".safetensors":
        raise ModelFileError(str(path), "is no model", "give a run folder, best.safetensors, or an .onnx file")
    require_torch()
    from pocketseg.training.model import Model

    return Model.load(path).predictor()


def best_checkpoint(run: RunFolder, fold: int) -> Path:
    """The best weights of a run's last stage.

    Raises:
        RunError: that fold was not trained so far.
    """
    path = run.best(fold, run.recipe().stages[-1].name)
    if not path.is_file():
        trained = ", ".join(map(str, run.folds())) or "none"
        raise RunError(str(path), f"does not exist (folds begun: {trained})", "finish the training with --resume")
    return path
