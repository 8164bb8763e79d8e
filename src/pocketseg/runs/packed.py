"""A trained model as one small file that the native engine runs, held against torch before it is written."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg import notebook
from pocketseg.data import Split
from pocketseg.engine.container import MAGIC, read_container
from pocketseg.engine.program import Convolution, Transposed
from pocketseg.engine.session import Session
from pocketseg.engine.tuning import Tuning, tuned
from pocketseg.engine.verification import generated, recorded
from pocketseg.errors import ModelFileError, PocketsegError, RecipeError
from pocketseg.files import open_regular, try_output, write_atomically
from pocketseg.metrics import class_overlaps, with_empty
from pocketseg.packages import require
from pocketseg.pipeline import Forward, Pipeline
from pocketseg.pipeline.geometry import Spacing
from pocketseg.pipeline.pipeline import FORMAT_VERSION
from pocketseg.predictors import default_threads, read_pseg
from pocketseg.predictors.onnx import open_onnx
from pocketseg.predictors.onnx_file import read_onnx
from pocketseg.runs.backends import origin
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import open_cases
from pocketseg.runs.source import ModelSource
from pocketseg.text import brief, bytes_text, counted
from pocketseg.training.stage_folder import BEST
from pocketseg.version import VERSION

if TYPE_CHECKING:
    from torch import nn

    from pocketseg.exporters import Parity
    from pocketseg.training.model import Model

log = logging.getLogger("pocketseg")

CALIBRATED = "w8a8"
COMPARED_CASES = 8
PROBES = 2
# Of the mean Dice, by what `pack` itself rounds.
MAX_DROP = 0.02


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        checked = "" if self.parity is None else f"; {self.parity.text}"
        return brief(self, f"{self.file}, {bytes_text(self.size_bytes)}{checked}")

    def _repr_html_(self) -> str:
        """What was written, for notebooks."""
        return notebook.facts({
            "file": self.file,
            "size": bytes_text(self.size_bytes),
            "memory for an image": bytes_text(self.arena_bytes),
            "checked": "" if self.parity is None else self.parity.text,
            "tuned": "" if self.tuning is None else self.tuning.text,
        })  # fmt: skip


@dataclass(frozen=True)
class Packing:
    """How a model is packed; the fields are the options of `pocketseg.pack`."""

    calibrate: Sequence[NDArray[np.generic]] | None = None
    weights: Literal["f32", "bf16"] = "f32"
    constants: Literal["f32", "f16"] = "f32"
    tune: bool = False
    progress: Callable[[int, int], None] | None = None

    @property
    def changes(self) -> list[str]:
        """What makes another model of it."""
        rounded = [each for each in (self.weights, self.constants) if each != "f32"]
        return [*([] if self.calibrate is None else [CALIBRATED]), *rounded]


def pack_model(source: ModelSource, out: Path | None = None, how: Packing = Packing()) -> Packed:
    """Pack the model of a run, a stage, or a checkpoint; see `pocketseg.pack`.

    Args:
        source: the model.
        out: the file; default beside the weights.
        how: it is packed.
    """
    from pocketseg.training.model import Model

    checkpoint = source.trained()
    if checkpoint.suffix != ".safetensors":
        raise ModelFileError(str(checkpoint), "is not a trained model", f"give a run folder or its {BEST}")
    model = Model.load(checkpoint)
    path = out or source.folder / ("-".join([source.name, *how.changes]) + ".pseg")
    metadata = {**origin(checkpoint), **_metadata(model), **_run_metadata(source)}
    return _packed(model, path, metadata, how, source)


def pack_module(module: nn.Module, pipeline: Pipeline, out: Path, how: Packing = Packing()) -> Packed:
    """Pack a net of one's own; see `pocketseg.pack`."""
    from pocketseg.training.model import Model

    model = Model.of(module, pipeline)
    return _packed(model, out, _metadata(model), how)


def pack_onnx(source: Path, out: Path | None = None, how: Packing = Packing()) -> Packed:
    """Pack the net of an ONNX file with a pipeline, once it is known that it was read as the runtime reads it.

    Raises:
        ModelFileError: an operation that the engine does not have, or another answer than that of the runtime.
    """
    require("export", "onnx")
    require("onnx", "onnxruntime")
    import onnx

    from pocketseg.exporters import compare
    from pocketseg.nets.from_onnx import module_of
    from pocketseg.training.model import Model

    content, card, pipeline = read_onnx(source)
    runtime = open_onnx(content, card, pipeline, source)
    model = Model.of(module_of(onnx.load_from_string(content), str(source)), pipeline)
    if model.pipeline.net_size != pipeline.net_size:
        what = f"takes images of {pipeline.net_size}, which are not multiples of its stride {model.net.stride}"
        raise ModelFileError(str(source), what, "wrap it with another --size")
    images = comparable_images(pipeline, how.calibrate or ())
    pairs = [(each.image, each.spacing_mm) for each in images]
    parity = compare(pipeline, runtime.forward, model.predictor().forward, pairs, quantized=False)
    if not parity.holds:
        what = f"is read as another net: {parity.largest:.1e} of probability lie between it and its runtime"
        raise ModelFileError(str(source), what, "use it as ONNX, and report how it was exported")
    return _packed(model, out or source.with_suffix(".pseg"), _metadata(model), how)


def _packed(
    model: Model, path: Path, metadata: Mapping[str, Any], how: Packing, source: ModelSource | None = None
) -> Packed:
    """Pack a model and hold it against torch, on validation images of its run where there are some."""
    from pocketseg.packing.compile import file_of, program_of

    check_target(path)
    exact = copy.deepcopy(model) if how.changes else model
    if how.calibrate is not None:
        if model.quant is not None:
            raise RecipeError(
                "--calibrate", f"the model is quantized already ({model.quant['scheme']})", "leave it out"
            )
        log.info("%s: calibrated on %s", path, counted(len(how.calibrate), "image"))
        _quantize(model, how.calibrate)
    core = model.integer_core()
    program = program_of(core, model.pipeline.channels, float_weights=how.weights, constants=how.constants)
    operations = [each.operation for each in program.instructions]
    kinds = {each.weights.kind for each in operations if isinstance(each, Convolution | Transposed)}
    if how.weights != "f32" and how.weights not in kinds:
        what = "changes nothing: no weights of this model are f32"
        raise RecipeError(f"--weights {how.weights}", what, "leave it out")
    card = {
        "version": FORMAT_VERSION,
        "pipeline": model.pipeline.to_dict(),
        "rounded": bool(how.changes),
        **metadata,
        "precision": model.precision,
        **({} if model.quant is None else {"quant": model.quant}),
    }
    session = Session(file_of(program, card), str(path), default_threads())
    images = _validation_images(source) or comparable_images(model.pipeline, how.calibrate or ())
    parity = _compared(images, model, session, rounds=bool(how.changes) or model.quant is not None)
    if not parity.holds:
        raise ModelFileError(
            str(path),
            f"differs from torch: by {parity.largest:.1e} in probability, {parity.share:.3%} of the pixels in class, "
            f"{parity.ratio:.2f} times the foreground",
            "this net cannot be packed faithfully; nothing was written",
        )
    if how.changes:
        _gate(path, images, exact, session)
    content = file_of(program, {**card, "verification": recorded(session, program.exact)})
    tuning = _tuning(content, str(path), model.pipeline, how.progress) if how.tune else None
    same = f"differ by at most {parity.largest:.1e}" if parity.largest else "are identical"
    seen = counted(parity.images, "image")
    log.info("%s: checked with PyTorch and the same stored weights: probabilities %s (%s)", path, same, seen)
    return _written(path, tuning.content if tuning else content, model.pipeline, parity, tuning)


def tune_packed(source: Path, out: Path, progress: Callable[[int, int], None] | None = None) -> Packed:
    """A packed model, with no other change than the kernels that it asks for."""
    check_target(out)
    content = read_pseg(source)
    pipeline = Pipeline.from_dict(read_container(content, str(source)).card.get("pipeline"), str(source))
    tuning = _tuning(content, str(source), pipeline, progress)
    return _written(out, tuning.content, pipeline, None, tuning)


def _tuning(content: bytes, where: str, pipeline: Pipeline, progress: Callable[[int, int], None] | None) -> Tuning:
    """At the size of the pipeline, with as many threads as `predict` takes."""
    return tuned(content, where, pipeline.net_size, default_threads(), progress)


def _written(path: Path, content: bytes, pipeline: Pipeline, parity: Parity | None, tuning: Tuning | None) -> Packed:
    memory = Session(content, str(path), default_threads()).arena_bytes(*pipeline.net_size)
    write_atomically(path, content)
    return Packed(path, len(content), memory, parity, tuning)


def check_target(path: Path) -> None:
    """Nothing but a packed model may be replaced; and what cannot be written is not computed."""
    try_output(path)
    if not path.is_file():
        return
    with open_regular(path) as file:
        packed = file.read(len(MAGIC)) == MAGIC
    if not packed:
        raise ModelFileError(str(path), "is there already and is not a packed model", "give another name with --out")


def _metadata(model: Model) -> dict[str, Any]:
    """What a reader may know of the model; no path, no name of a case."""
    from pocketseg.nets import parameter_count

    return {"pocketseg": VERSION, "net": model.net_options, "parameters": parameter_count(model.net)}


def _run_metadata(source: ModelSource) -> dict[str, Any]:
    if source.run is None:
        return {}
    return {
        "description": source.run.recipe().description,
        **trained_on(source.run),
    }


def trained_on(run: RunFolder) -> dict[str, str]:
    """The digest of the data that a run was trained on, for the cards of files; nothing where nobody knows."""
    digest = run.manifest()["data"]["sha256"]
    return {} if digest is None else {"trained_on_sha256": digest}


def _quantize(model: Model, images: Sequence[NDArray[np.generic]]) -> None:
    import torch

    batches: list[NDArray[np.float32]] = []

    def seen(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        batches.append(batch)
        return np.zeros((len(batch), model.pipeline.logits, *batch.shape[2:]), np.float32)

    for image in images:
        model.pipeline.predict(image, seen)
    model.quantize({"scheme": CALIBRATED}, (torch.from_numpy(batch) for batch in batches))


@dataclass(frozen=True)
class Seen:
    """An image to compare models on, and its mask where it is known."""

    image: NDArray[np.generic]
    spacing_mm: Spacing | None
    reference: NDArray[np.uint8] | None = None


def _compared(images: Sequence[Seen], model: Model, session: Session, rounds: bool) -> Parity:
    from pocketseg.exporters import compare

    pairs = [(each.image, each.spacing_mm) for each in images]
    return compare(model.pipeline, model.predictor().forward, session, pairs, quantized=rounds)


def _gate(path: Path, images: Sequence[Seen], exact: Model, session: Session) -> None:
    """Hold a model that `pack` rounded against the float net, before it is written.

    Raises:
        ModelFileError: it finds less than half or more than twice the foreground, the same everywhere, or where masks
            are known loses more than `MAX_DROP` of the mean Dice.
    """
    found = _compared(images, exact, session, rounds=True)
    dice = [_mean_dice(exact.pipeline, forward, images) for forward in (exact.predictor().forward, session)]
    seen = f"on {counted(len(images), 'image')}"
    changed = f"; Dice {dice[0]:.4f} → {dice[1]:.4f}" if np.isfinite(dice[0]) else ""
    described = f"{100 * found.share:.2f} % of the pixels differ from the float net, {seen}{changed}"
    if not found.sees_as_much or dice[0] - dice[1] > MAX_DROP:
        described += f"; it finds {found.ratio:.2f} times the foreground (allowed 0.5 to 2, and {MAX_DROP} of the Dice)"
        fix = "nothing was written; calibrate with other images, or train a stage with quant"
        raise ModelFileError(str(path), described, fix)
    log.info("%s: %s", path, described)


def _mean_dice(pipeline: Pipeline, forward: Forward, images: Sequence[Seen]) -> float:
    """Over images whose mask is known and classes; an empty mask left empty counts 1. nan where no mask is known."""
    found = [
        with_empty(overlap.dice)
        for each in images
        if each.reference is not None
        for overlap in class_overlaps(
            pipeline.mask(pipeline.predict(each.image, forward, each.spacing_mm)), each.reference, len(pipeline.classes)
        )
    ]
    return float(np.mean(found)) if found else np.nan


def comparable_images(pipeline: Pipeline, pictures: Sequence[NDArray[np.generic]] = ()) -> list[Seen]:
    """The given pictures, where there are some; else noise."""
    if len(pictures):
        return [Seen(each, None) for each in pictures[:COMPARED_CASES]]
    height, width = pipeline.size
    noise = [np.moveaxis(generated(pipeline.channels, height, width, seed), 0, -1) for seed in range(PROBES)]
    return [Seen(each if pipeline.channels > 1 else each[:, :, 0], pipeline.spacing_mm) for each in noise]


def _validation_images(source: ModelSource | None) -> list[Seen]:
    """Some of a run's validation images; none where it is not a run, or its data are gone or were never known."""
    if source is None or source.run is None or source.run.is_imported:
        return []
    run = source.run
    try:
        cases = open_cases(run.manifest()["data"]["path"], run.recipe().data)
        chosen = cases.named(Split.read(run.split_file).fold(source.fold).validation)[:COMPARED_CASES]
        return [Seen(cases.image(case), case.spacing_mm, cases.mask(case)) for case in chosen]
    except PocketsegError as error:
        log.info("the run's data cannot be read (%s): the model is compared on other images", error.problems[0].what)
        return []
