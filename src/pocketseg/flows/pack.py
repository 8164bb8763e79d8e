"""`pack`: a model as one small file that the native engine runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.layouts.listing import image_files
from pocketseg.data.readers import read_image
from pocketseg.errors import DataError, RecipeError
from pocketseg.packages import require_torch
from pocketseg.pipeline import Pipeline
from pocketseg.runs.packed import Packed, Packing, pack_model, pack_module, pack_onnx, tune_packed
from pocketseg.runs.source import ModelSource

if TYPE_CHECKING:
    from torch import nn

CALIBRATION_IMAGES = 64


def pack(
    source: str | Path | nn.Module,
    out: str | Path | None = None,
    *,
    pipeline: Pipeline | None = None,
    fold: int = 0,
    stage: str | None = None,
    calibrate: str | Path | Sequence[NDArray[np.generic]] | None = None,
    weights: Literal["f32", "bf16"] = "f32",
    constants: Literal["f32", "f16"] = "f32",
    tune: bool = False,
    gate: bool = False,
    max_drop: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Pack a model: pipeline, net, weights in the bits they need, threshold, class names, facts.

    It is compared with torch, on validation images where the run's data are there, else on generated ones. The file
    says which weights it was made of, so that it stands for the run only as long as the run has them.

    Args:
        source: run folder, a stage's folder, best.safetensors or packed.safetensors; an ONNX file with a pipeline (see
            `pocketseg wrap`); to be tuned, also a packed model, which needs no torch. From Python also a net of one's
            own: a module from images (n, c, h, w) to logits (n, k, h, w), of operations that the engine has.
        out: the file; default `RUN/fold-N/model.pseg` (`RUN/fold-N/STAGE.pseg` where a stage is named), or
            `model.pseg` beside a checkpoint; a packed model itself; `model-w8a8.pseg`, `model-bf16.pseg`,
            `model-f16.pseg` where the next options make another model of it.
        pipeline: of a net of one's own: what is done to an image before it and to the probabilities behind it.
        fold: of a run folder.
        stage: of a run folder; default the last.
        calibrate: images, or a folder of them, from which a float net's activation ranges are taken: it is packed with
            8 by 8 bits.
        weights: how weights that are f32 are stored.
        constants: how scales, biases and norms are; f16 halves them.
        tune: time every kernel of this machine that fits, and let the file ask for those that are faster than the
            library's choice. Results stay the same; machines of other sets ignore it.
        gate: write it only if it passes the gate that `fit` has: on the validation cases of its run it is shown to lose
            less than `max_drop` to the float net, and is not slower here.
        max_drop: points of Dice.
        progress: of tuning, called with (done, of).

    Raises:
        ModelFileError: there is no such model, or the engine computes something else than torch; or what is rounded
            here finds less than half or more than twice the foreground of the float net, or loses more than 0.02 of its
            mean Dice on validation images; or `gate` refuses it. No file is left.
        RecipeError: the model to calibrate is quantized already, or an option is for what is not packed so far, or
            changes nothing.
    """
    path = None if out is None else Path(out)
    if not isinstance(source, str | Path):
        if pipeline is None or path is None or stage is not None or fold:
            what = "is packed with a pipeline and a name for the file, and has no folds or stages"
            raise RecipeError(type(source).__name__, what, "pack(net, 'model.pseg', pipeline=Pipeline((256, 256)))")
        _refuse(gate, type(source).__name__)
        return pack_module(source, pipeline, path, _packing(calibrate, weights, constants, tune, progress))
    if pipeline is not None:
        raise RecipeError("pipeline", "is for a net of one's own; a trained model has one", "leave it out")
    if Path(source).suffix in (".pseg", ".onnx"):
        _refuse(gate, str(source))
    if Path(source).suffix == ".pseg":
        if not tune or stage is not None or calibrate is not None or fold or (weights, constants) != ("f32", "f32"):
            raise RecipeError(str(source), "is packed already: it can be tuned only", "give --tune alone, or the run")
        return tune_packed(Path(source), path or Path(source), progress)
    require_torch()
    if Path(source).suffix == ".onnx":
        return pack_onnx(Path(source), path, _packing(calibrate, weights, constants, tune, progress))
    found = ModelSource.resolve(source, fold, stage)
    how = _packing(calibrate, weights, constants, tune, progress)
    if not gate:
        return pack_model(found, path, how)
    from pocketseg.search.run_gate import pack_through_gate

    if not 0 < max_drop < 100:
        raise RecipeError(f"--max-drop {max_drop:g}", "is not between 0 and 100 points of Dice", "for example 0.5")
    return pack_through_gate(found, path, how, max_drop / 100)


def _refuse(gate: bool, what: str) -> None:
    if gate:
        raise RecipeError("--gate", f"compares on validation cases of a run, and {what} is none", "leave it out")


def _packing(
    calibrate: str | Path | Sequence[NDArray[np.generic]] | None,
    weights: Literal["f32", "bf16"],
    constants: Literal["f32", "f16"],
    tune: bool,
    progress: Callable[[int, int], None] | None,
) -> Packing:
    images = None if calibrate is None else _calibration_images(calibrate)
    return Packing(images, weights, constants, tune, progress)


def _calibration_images(given: str | Path | Sequence[NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """At most `CALIBRATION_IMAGES`, evenly from all that are given."""
    if not isinstance(given, str | Path):
        if not len(given):
            raise DataError("calibrate", "holds no images", "give images like those of training")
        return list(given[:: -(-len(given) // CALIBRATION_IMAGES)])
    folder = Path(given)
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        raise DataError(
            str(folder), "holds no images to calibrate with", "give a folder of images like those of training"
        )
    return [read_image(file) for file in files[:: -(-len(files) // CALIBRATION_IMAGES)]]
