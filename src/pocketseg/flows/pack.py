"""`pack`: a model as one small file that the native engine runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Split
from pocketseg.data.layouts.listing import image_files
from pocketseg.data.readers import read_image
from pocketseg.engine.container import MAGIC, read_container
from pocketseg.engine.program import Convolution, Transposed
from pocketseg.engine.session import Session
from pocketseg.engine.verification import generated, recorded
from pocketseg.errors import DataError, ModelFileError, PocketsegError, RecipeError
from pocketseg.files import open_regular, try_output, write_atomically
from pocketseg.flows.backends import origin
from pocketseg.flows.loading import BEST, best_checkpoint, checkpoint_of, is_stage, open_cases, require_torch
from pocketseg.flows.run_folder import RunFolder
from pocketseg.flows.tuning import Tuning, tuned
from pocketseg.metrics import class_overlaps, with_empty
from pocketseg.pipeline import Forward, Pipeline
from pocketseg.pipeline.geometry import Spacing
from pocketseg.pipeline.pipeline import FORMAT_VERSION
from pocketseg.predictors import default_threads, read_pseg

if TYPE_CHECKING:
    from pocketseg.exporters import Parity
    from pocketseg.training.model import Model

log = logging.getLogger("pocketseg")

CALIBRATED = "w8a8"
CALIBRATION_IMAGES = 64
COMPARED_CASES = 8
PROBES = 2
# Of the mean Dice, by what `pack` itself rounds.
LARGEST_DROP = 0.02


@dataclass(frozen=True)
class Packed:
    """The file written.

    Attributes:
        file: where it is.
        size_bytes: of the whole file.
        arena_bytes: memory for one image of the pipeline's size, weights apart.
        parity: how it compares with torch; None where a packed model was tuned.
        tuning: which kernels it asks for; None where it was not tuned.
    """

    file: Path
    size_bytes: int
    arena_bytes: int
    parity: Parity | None
    tuning: Tuning | None = None


def pack(
    source: str | Path,
    out: str | Path | None = None,
    *,
    fold: int = 0,
    stage: str | None = None,
    calibrate: str | Path | Sequence[NDArray[np.generic]] | None = None,
    weights: Literal["f32", "bf16"] = "f32",
    constants: Literal["f32", "f16"] = "f32",
    tune: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Pack a model: pipeline, net, weights in the bits they need, threshold, class names, facts.

    It is compared with torch, on validation images where the run's data are there, else on generated ones. The file
    says which weights it was made of, so that it stands for the run only as long as the run has them.

    Args:
        source: run folder, a stage's folder, best.safetensors or packed.safetensors; to be tuned, also a packed model,
            which needs no torch.
        out: the file; default `RUN/fold-N/model.pseg` (`RUN/fold-N/STAGE.pseg` where a stage is named), or
            `model.pseg` beside a checkpoint; a packed model itself; `model-w8a8.pseg`, `model-bf16.pseg`,
            `model-f16.pseg` where the next options make another model of it.
        fold: of a run folder.
        stage: of a run folder; default the last.
        calibrate: images, or a folder of them, from which a float net's activation ranges are taken: it is packed with
            8 by 8 bits.
        weights: how weights that are f32 are stored.
        constants: how scales, biases and norms are; f16 halves them.
        tune: time every kernel of this machine that fits, and let the file ask for those that are faster than the
            library's choice. Results stay the same; machines of other sets ignore it.
        progress: of tuning, called with (done, of).

    Raises:
        ModelFileError: there is no such model, or the engine computes something else than torch; or what is rounded
            here finds less than half or more than twice the foreground of the float net, or loses more than 0.02 of its
            mean Dice on validation images. No file is left.
        RecipeError: the model to calibrate is quantised already, or an option is for what is not packed so far, or
            changes nothing.
    """
    source = Path(source)
    if source.suffix == ".pseg":
        if not tune or stage is not None or calibrate is not None or fold or (weights, constants) != ("f32", "f32"):
            raise RecipeError(str(source), "is packed already: it can be tuned only", "give --tune alone, or the run")
        path = Path(out) if out is not None else source
        _check_target(path)
        return _tuned(source, path, progress)
    require_torch()
    from pocketseg.packing.writer import file_of, program_of
    from pocketseg.training.model import Model

    checkpoint = _checkpoint(source, fold, stage)
    model = Model.load(checkpoint)
    pictures: list[NDArray[np.generic]] = []
    if calibrate is not None:
        if model.quant is not None:
            raise RecipeError(
                "--calibrate", f"the model is quantised already ({model.quant['scheme']})", "leave it out"
            )
        pictures = _calibration_images(calibrate)
        log.info("%s: ranges of activations from %d images", source, len(pictures))
        _quantize(model, pictures)
    changes = [*([] if calibrate is None else [CALIBRATED]), *(each for each in (weights, constants) if each != "f32")]
    path = Path(out) if out is not None else _default(source, fold, "-".join([stage or "model", *changes]))
    _check_target(path)
    core = model.integer_core()
    program = program_of(core, model.pipeline.channels, float_weights=weights, constants=constants)
    operations = [each.operation for each in program.instructions]
    kinds = {each.weights.kind for each in operations if isinstance(each, Convolution | Transposed)}
    if weights != "f32" and weights not in kinds:
        raise RecipeError(f"--weights {weights}", "changes nothing: no weights of this model are f32", "leave it out")
    card = {
        "version": FORMAT_VERSION,
        "pipeline": model.pipeline.to_dict(),
        "rounded": bool(changes),
        **_facts(source, checkpoint, model),
    }
    session = Session(file_of(program, card), str(path), default_threads())
    images = _images(source, model.pipeline, fold, pictures)
    parity = _compared(images, model, session, rounds=bool(changes) or model.quant is not None)
    if not parity.holds:
        raise ModelFileError(
            str(path),
            f"differs from torch: by {parity.largest:.1e} in probability, {parity.share:.3%} of the pixels in class, "
            f"{parity.ratio:.2f} times the foreground",
            "this net cannot be packed faithfully; nothing was written",
        )
    if changes:
        _gate(path, images, Model.load(checkpoint), session)
    content = file_of(program, {**card, "verification": recorded(session, program.exact)})
    tuning = tuned(content, str(path), progress) if tune else None
    log.info("%s: largest difference from torch %.1e in probability (%d images)", path, parity.largest, parity.images)
    return _written(path, tuning.content if tuning else content, model.pipeline, parity, tuning)


def _tuned(source: Path, out: Path, progress: Callable[[int, int], None] | None) -> Packed:
    """A packed model, with no other change than the kernels that it asks for."""
    content = read_pseg(source)
    pipeline = Pipeline.from_dict(read_container(content, str(source)).card.get("pipeline"), str(source))
    tuning = tuned(content, str(source), progress)
    return _written(out, tuning.content, pipeline, None, tuning)


def _written(path: Path, content: bytes, pipeline: Pipeline, parity: Parity | None, tuning: Tuning | None) -> Packed:
    memory = Session(content, str(path), default_threads()).arena_bytes(*pipeline.net_size)
    write_atomically(path, content)
    return Packed(path, len(content), memory, parity, tuning)


def _check_target(path: Path) -> None:
    """Nothing but a packed model may be replaced; and what cannot be written is not computed."""
    try_output(path)
    if not path.is_file():
        return
    with open_regular(path) as file:
        packed = file.read(len(MAGIC)) == MAGIC
    if not packed:
        raise ModelFileError(str(path), "is there already and is no packed model", "give another name with --out")


def _checkpoint(source: Path, fold: int, stage: str | None) -> Path:
    if stage is not None:
        return best_checkpoint(RunFolder.existing(source), fold, stage)
    path = checkpoint_of(source, fold)
    if path.suffix != ".safetensors":
        raise ModelFileError(str(path), "is no trained model", f"give a run folder or its {BEST}")
    return path


def _default(source: Path, fold: int, name: str) -> Path:
    if not source.is_dir():
        return source.with_name(f"{name}.pseg")
    return (source if is_stage(source) else RunFolder(source).fold(fold)) / f"{name}.pseg"


def _facts(source: Path, checkpoint: Path, model: Model) -> dict[str, Any]:
    """What a reader may know of the model; no path, no name of a case."""
    from pocketseg.nets import parameter_count

    facts: dict[str, Any] = {
        **origin(checkpoint),
        "pocketseg": metadata.version("pocketseg"),
        "net": model.net_options,
        "parameters": parameter_count(model.net),
        "precision": model.precision,
    }
    if model.quant is not None:
        facts["quant"] = model.quant
    if RunFolder(source).recipe_file.is_file():
        run = RunFolder.existing(source)
        facts |= {"description": run.recipe().description, "trained_on_sha256": run.manifest()["data"]["sha256"]}
    return facts


def _quantize(model: Model, images: Sequence[NDArray[np.generic]]) -> None:
    import torch

    from pocketseg.training.model import logit_count

    batches: list[NDArray[np.float32]] = []

    def seen(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        batches.append(batch)
        return np.zeros((len(batch), outputs, *batch.shape[2:]), np.float32)

    outputs = logit_count(len(model.pipeline.classes))
    for image in images:
        model.pipeline.predict(image, seen)
    model.quantize({"scheme": CALIBRATED}, (torch.from_numpy(batch) for batch in batches))


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


@dataclass(frozen=True)
class _Seen:
    """An image to compare models on, and its mask where it is known."""

    image: NDArray[np.generic]
    spacing_mm: Spacing | None
    truth: NDArray[np.uint8] | None = None


def _compared(images: Sequence[_Seen], model: Model, session: Session, rounds: bool) -> Parity:
    from pocketseg.exporters import compare

    pairs = [(each.image, each.spacing_mm) for each in images]
    return compare(model.pipeline, model.predictor().forward, session, pairs, quantised=rounds)


def _gate(path: Path, images: Sequence[_Seen], exact: Model, session: Session) -> None:
    """Hold a model that `pack` rounded against the float net, before it is written.

    Raises:
        ModelFileError: it finds less than half or more than twice the foreground, the same everywhere, or where masks
            are known loses more than `LARGEST_DROP` of the mean Dice.
    """
    found = _compared(images, exact, session, rounds=True)
    dice = [_mean_dice(exact.pipeline, forward, images) for forward in (exact.predictor().forward, session)]
    lost = f", and {dice[0] - dice[1]:.4f} of the Dice ({dice[0]:.4f}) is lost" if np.isfinite(dice[0]) else ""
    told = f"{100 * found.share:.2f} % of the pixels have another class than by the float net{lost}"
    if not found.sees_as_much or dice[0] - dice[1] > LARGEST_DROP:
        told += f"; it finds {found.ratio:.2f} times the foreground (allowed 0.5 to 2, and {LARGEST_DROP} of the Dice)"
        fix = "nothing was written; calibrate with other images, or train a stage with quant"
        raise ModelFileError(str(path), told, fix)
    log.info("%s: %s", path, told)


def _mean_dice(pipeline: Pipeline, forward: Forward, images: Sequence[_Seen]) -> float:
    """Over images whose mask is known and classes; an empty mask left empty counts 1. nan where no mask is known."""
    found = [
        with_empty(overlap.dice)
        for each in images
        if each.truth is not None
        for overlap in class_overlaps(
            pipeline.mask(pipeline.predict(each.image, forward, each.spacing_mm)), each.truth, len(pipeline.classes)
        )
    ]
    return float(np.mean(found)) if found else np.nan


def _images(source: Path, pipeline: Pipeline, fold: int, pictures: Sequence[NDArray[np.generic]]) -> list[_Seen]:
    """Some of a run's validation images; where it is no run, or its data are gone, the given pictures; else noise."""
    found = _validation_images(source, fold) or [_Seen(each, None) for each in pictures[:COMPARED_CASES]]
    if found:
        return found
    height, width = pipeline.size
    noise = [np.moveaxis(generated(pipeline.channels, height, width, seed), 0, -1) for seed in range(PROBES)]
    return [_Seen(each if pipeline.channels > 1 else each[:, :, 0], pipeline.spacing_mm) for each in noise]


def _validation_images(source: Path, fold: int) -> list[_Seen]:
    """Some of a run's validation images; none where it is no run, or its data are gone."""
    if not RunFolder(source).recipe_file.is_file():
        return []
    run = RunFolder.existing(source)
    try:
        cases = open_cases(run.manifest()["data"]["path"], run.recipe().data)
        chosen = cases.named(Split.read(run.split_file).fold(fold).validation)[:COMPARED_CASES]
        return [_Seen(cases.image(case), case.spacing_mm, cases.mask(case)) for case in chosen]
    except PocketsegError as error:
        log.info("the run's data cannot be read (%s): the model is compared on other images", error.problems[0].what)
        return []
