"""`pack`: a model as one small file that the native engine runs."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Split
from pocketseg.data.layouts.listing import image_files
from pocketseg.data.readers import read_image
from pocketseg.engine.session import Session
from pocketseg.engine.verification import generated, recorded
from pocketseg.errors import DataError, ModelFileError, PocketsegError, RecipeError
from pocketseg.files import write_atomically
from pocketseg.flows.loading import BEST, best_checkpoint, checkpoint_of, is_stage, open_cases, require_torch
from pocketseg.flows.run_folder import RunFolder
from pocketseg.pipeline.pipeline import FORMAT_VERSION

if TYPE_CHECKING:
    from pocketseg.exporters import Parity
    from pocketseg.training.model import Model

log = logging.getLogger("pocketseg")

CALIBRATED = "w8a8"
CALIBRATION_IMAGES = 64
COMPARED_CASES = 8
PROBES = 2


@dataclass(frozen=True)
class Packed:
    """The file written.

    Attributes:
        file: where it is.
        size_bytes: of the whole file.
        arena_bytes: memory for one image of the pipeline's size, weights apart.
        parity: how it compares with torch.
    """

    file: Path
    size_bytes: int
    arena_bytes: int
    parity: Parity


def pack(
    source: str | Path,
    out: str | Path | None = None,
    *,
    fold: int = 0,
    stage: str | None = None,
    calibrate: str | Path | None = None,
    weights: Literal["f32", "bf16"] = "f32",
    constants: Literal["f32", "f16"] = "f32",
) -> Packed:
    """Pack a model: pipeline, net, weights in the bits they need, threshold, class names, facts.

    It is compared with torch, on validation images where the run's data are there, else on generated ones.

    Args:
        source: run folder, a stage's folder, best.safetensors or packed.safetensors.
        out: the file; default `RUN/fold-N/model.pseg` (`RUN/fold-N/STAGE.pseg` where a stage is named), or
            `model.pseg` beside a checkpoint.
        fold: of a run folder.
        stage: of a run folder; default the last.
        calibrate: images from which a float net's activation ranges are taken: it is packed with 8 by 8 bits.
        weights: how weights that are f32 are stored.
        constants: how scales, biases and norms are; f16 halves them.

    Raises:
        ModelFileError: there is no such model, or the engine computes something else than torch; no file is left.
        RecipeError: the model to calibrate is quantised already.
    """
    require_torch()
    from pocketseg.packing.writer import file_of, program_of
    from pocketseg.training.model import Model

    source = Path(source)
    model = Model.load(_checkpoint(source, fold, stage))
    if calibrate is not None:
        _quantize(model, Path(calibrate))
    path = Path(out) if out is not None else _default(source, fold, stage)
    core = model.integer_core()
    program = program_of(core, model.pipeline.channels, float_weights=weights, constants=constants)
    card = {"version": FORMAT_VERSION, "pipeline": asdict(model.pipeline), **_facts(source, model)}
    session = Session(file_of(program, card), str(path))
    rounds = model.quant is not None or (weights, constants) != ("f32", "f32")
    parity = _compared(source, model, session, fold, rounds=rounds)
    if not parity.holds:
        raise ModelFileError(
            str(path),
            f"differs from torch: by {parity.largest:.1e} in probability, {parity.share:.3%} of the pixels in class",
            "this net cannot be packed faithfully; nothing was written",
        )
    content = file_of(program, {**card, "verification": recorded(session, program.exact)})
    write_atomically(path, content)
    height, width = model.pipeline.net_size
    log.info("%s: largest difference from torch %.1e in probability (%d images)", path, parity.largest, parity.images)
    return Packed(path, len(content), session.arena_bytes(height, width), parity)


def _checkpoint(source: Path, fold: int, stage: str | None) -> Path:
    if stage is not None:
        return best_checkpoint(RunFolder.existing(source), fold, stage)
    path = checkpoint_of(source, fold)
    if path.suffix != ".safetensors":
        raise ModelFileError(str(path), "is no trained model", f"give a run folder or its {BEST}")
    return path


def _default(source: Path, fold: int, stage: str | None) -> Path:
    if not source.is_dir():
        return source.with_name("model.pseg")
    return source / "model.pseg" if is_stage(source) else RunFolder(source).fold(fold) / f"{stage or 'model'}.pseg"


def _facts(source: Path, model: Model) -> dict[str, Any]:
    """What a reader may know of the model; no path, no name of a case."""
    from pocketseg.nets import parameter_count

    facts: dict[str, Any] = {
        "pocketseg": metadata.version("pocketseg"),
        "net": model.net_options,
        "parameters": parameter_count(model.net),
        "precision": "f32" if model.quant is None else model.quant["scheme"],
    }
    if model.quant is not None:
        facts["quant"] = model.quant
    if RunFolder(source).recipe_file.is_file():
        run = RunFolder.existing(source)
        facts |= {"description": run.recipe().description, "trained_on_sha256": run.manifest()["data"]["sha256"]}
    return facts


def _quantize(model: Model, folder: Path) -> None:
    import torch

    from pocketseg.training.model import logit_count

    if model.quant is not None:
        raise RecipeError("--calibrate", f"the model is quantised already ({model.quant['scheme']})", "leave it out")
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        raise DataError(
            str(folder), "holds no images to calibrate with", "give a folder of images like those of training"
        )
    batches: list[NDArray[np.float32]] = []

    def seen(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        batches.append(batch)
        return np.zeros((len(batch), outputs, *batch.shape[2:]), np.float32)

    outputs = logit_count(len(model.pipeline.classes))
    for file in files[:: -(-len(files) // CALIBRATION_IMAGES)]:
        model.pipeline.predict(read_image(file), seen)
    model.quantize({"scheme": CALIBRATED}, (torch.from_numpy(batch) for batch in batches))


def _compared(source: Path, model: Model, session: Session, fold: int, rounds: bool) -> Parity:
    from pocketseg.exporters import compare

    images = _validation_images(source, fold)
    if not images:
        height, width = model.pipeline.size
        for seed in range(PROBES):
            image = np.moveaxis(generated(model.pipeline.channels, height, width, seed), 0, -1)
            images.append((image if model.pipeline.channels > 1 else image[:, :, 0], model.pipeline.spacing_mm))
    return compare(model.pipeline, model.predictor().forward, session, images, quantised=rounds)


def _validation_images(source: Path, fold: int) -> list[tuple[NDArray[np.generic], tuple[float, float] | None]]:
    """Some of a run's validation images with their pixel sizes; none where it is no run, or its data are gone."""
    if not RunFolder(source).recipe_file.is_file():
        return []
    run = RunFolder.existing(source)
    try:
        cases = open_cases(run.manifest()["data"]["path"], run.recipe().data)
        chosen = cases.named(Split.read(run.split_file).fold(fold).validation)[:COMPARED_CASES]
        return [(cases.image(case), case.spacing_mm) for case in chosen]
    except PocketsegError as error:
        log.info(
            "the run's data cannot be read (%s): the model is compared on generated images", error.problems[0].what
        )
        return []
