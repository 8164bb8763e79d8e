"""`export`: a run's model in a format that runs without torch, refused where it computes something else."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pocketseg import notebook
from pocketseg.data import Split
from pocketseg.engine.codec import program_in
from pocketseg.engine.session import Session
from pocketseg.errors import ModelFileError, RecipeError, near
from pocketseg.exporters import Parity, compare, onnx_file
from pocketseg.exporters.c_source import MARK, CSource, c_source, check_image, digest
from pocketseg.exporters.onnx import MAX_DIFFERENCE, MAX_SHARE
from pocketseg.exporters.tflite import litert_forward, tflite_file
from pocketseg.files import try_output, try_own, whole_file, write_atomically
from pocketseg.packages import require, require_torch
from pocketseg.pipeline import Forward, Pipeline
from pocketseg.pipeline.geometry import Spacing
from pocketseg.predictors import NetPredictor, load_onnx, pipeline_of, read_pseg
from pocketseg.runs.backends import open_model, origin
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import open_cases
from pocketseg.runs.packed import comparable_images, trained_on
from pocketseg.runs.source import ModelSource
from pocketseg.text import brief, bytes_text
from pocketseg.version import VERSION

if TYPE_CHECKING:
    from pocketseg.training.model import Model

log = logging.getLogger("pocketseg")

ONNX, FLOATS, TFLITE, C = "onnx", "onnx-floats", "tflite", "c"
FORMATS = (ONNX, FLOATS, TFLITE, C)
COMPARED_CASES = 32


@dataclass(frozen=True, repr=False)
class Export:
    """The file written, its size, and how it was checked.

    Attributes:
        file: where it is; of C the source, and its header lies beside it.
        size_bytes: of the file.
        parity: how it compares with torch; None of C.
        needs: of C, what it needs where it runs.
        compared: of C, how it is compared with the engine.
    """

    file: Path
    size_bytes: int
    parity: Parity | None
    needs: CSource | None = None
    compared: str = ""

    @property
    def checked(self) -> str:
        """How it was checked, in words."""
        return self.compared if self.parity is None else self.parity.text

    def __repr__(self) -> str:
        return brief(self, f"{self.file}, {bytes_text(self.size_bytes)}; {self.checked}")

    def _repr_html_(self) -> str:
        """What was written, for notebooks."""
        return notebook.facts({"file": self.file, "size": bytes_text(self.size_bytes), "checked": self.checked})


def export(
    run: str | Path,
    to: str = "onnx",
    *,
    out: str | Path | None = None,
    fold: int = 0,
    stage: str | None = None,
    data: str | Path | None = None,
) -> Export:
    """Export a stage's best model and compare it with torch on validation images.

    A quantized model is written with uint8 activations and int8 weights, also where its weights have fewer bits; or, in
    the format `onnx-floats`, as a graph of floats: every scheme has this form, which is as large and as slow as f32.
    `tflite` writes the net of the ONNX form for LiteRT, for one image at a time, and LiteRT computes what is compared.
    `c` writes the packed model as one C99 file and a header, for images of the model's own size: net and pipeline, from
    bytes to a mask, in static memory. It is not compiled here: it has a check of its own, for the machine that it is
    for, which knows what the engine's plain kernels found on a stated image.

    Args:
        run: run folder; for `c` also a packed model.
        to: format; `onnx`, `onnx-floats`, `tflite` or `c`.
        out: the file; default `RUN/fold-N/model.onnx`, or `RUN/fold-N/STAGE.onnx` where a stage is named. Of C a folder
            may be named.
        fold: which fold's model.
        stage: which stage's; default the last.
        data: where the run's data lies now, if it was moved; of imported weights images of their kind.

    Raises:
        ModelFileError: the exported net differs by more than 1e-4 in probability, or in a mask pixel that is no
            near-tie (of a quantized model: in more than 0.2 % of the pixels), or its scheme or an operation has no
            form in the format; no file is left.
        EnvironmentProblem: a package that writes the format, or runs it for the comparison, is not installed.
    """
    if to not in FORMATS:
        raise RecipeError(f"--to {to}", "is not an export format", near(to, FORMATS))
    if to == C:
        return _export_c(run, None if out is None else Path(out), fold, stage)
    require_torch()
    ending = f".{TFLITE}" if to == TFLITE else f".{ONNX}"
    if to == TFLITE:
        require(TFLITE, "ai_edge_litert", "flatbuffers")
    from pocketseg.nets import parameter_count
    from pocketseg.training.model import Model

    folder = RunFolder.existing(run)
    source = ModelSource.of_run(folder, fold, stage)
    recipe, manifest = folder.recipe(), folder.manifest()
    checkpoint = source.trained()
    model = Model.load(checkpoint)
    path = Path(out) if out is not None else source.made(ending)
    try_output(path, checkpoint, ending=ending)
    if data is None and folder.is_imported:
        images = ((each.image, each.spacing_mm) for each in comparable_images(model.pipeline))
    else:
        cases = open_cases(data or manifest["data"]["path"], recipe.data)
        chosen = list(cases) if folder.is_imported else cases.named(Split.read(folder.split_file).fold(fold).validation)
        images = ((cases.image(case), case.spacing_mm) for case in chosen[:COMPARED_CASES])
    card = {
        **origin(checkpoint),
        "pocketseg": VERSION,
        "description": recipe.description,
        "net": model.net_options,
        "parameters": parameter_count(model.net),
        "precision": model.precision,
        **({} if model.quant is None else {"quant": model.quant}),
        **trained_on(folder),
    }
    content = onnx_file(model.integer_core(), model.pipeline, card, path, floats=to == FLOATS)
    if to == TFLITE:
        content = tflite_file(content, path)
    with whole_file(path, len(content)) as temporary:
        temporary.write_bytes(content)
        if to == TFLITE:
            pipeline, forward = model.pipeline, litert_forward(content)
        else:
            exported = load_onnx(temporary)
            pipeline, forward = exported.pipeline, exported.forward
        parity = _compared(model, pipeline, forward, path, images)
    log.info("%s: %s", path, _said(parity))
    if to == FLOATS and model.quant is not None:
        log.warning("%s: weights are f32 constants and all is computed in f32: no smaller and no faster than f32", path)
    if to == TFLITE and model.quant is not None:
        log.info("%s: weights are int8, also those of fewer bits, which take as much room; their values stay", path)
    return Export(path, path.stat().st_size, parity)


def _said(parity: Parity) -> str:
    if parity.quantized:
        return (
            f"its classes differ from the integer net's in {parity.share:.3%} of the pixels "
            f"of {parity.images} validation images "
            f"(allowed {MAX_SHARE:.1%}; largest difference {parity.largest:.1e} in probability)"
        )
    return (
        f"equal to torch on {parity.images} validation images "
        f"(largest difference {parity.largest:.1e} in probability, {parity.ties} near-ties)"
    )


def _compared(
    model: Model,
    pipeline: Pipeline,
    forward: Forward,
    wanted: Path,
    images: Iterable[tuple[NDArray[np.generic], Spacing | None]],
) -> Parity:
    parity = compare(pipeline, model.predictor().forward, forward, images, quantized=model.quant is not None)
    if not parity.holds and parity.quantized:
        raise ModelFileError(
            str(wanted),
            _said(parity),
            "nothing was written; use packed.safetensors of the stage, or train longer: nets that have learned little "
            "decide many pixels by a hair",
        )
    if not parity.holds:
        raise ModelFileError(
            str(wanted),
            f"differs from torch: {parity.largest:.1e} in probability (allowed {MAX_DIFFERENCE:.0e}), "
            f"{parity.wrong} mask pixels that are not near-ties",
            "this net cannot be exported faithfully; nothing was written",
        )
    return parity


# --- C --------------------------------------------------------------------------------------------------------


def _export_c(run: str | Path, out: Path | None, fold: int, stage: str | None) -> Export:
    _, file = open_model(run, fold, stage, backend="pseg")
    content = read_pseg(file)
    program, container = program_in(content, str(file))
    path = (
        out
        if out is not None and out.suffix == ".c"
        else (out or ModelSource.resolve(run, fold, stage).folder) / f"{file.stem}.c"
    )
    name = re.sub(r"\W", "_", path.stem, flags=re.ASCII)
    if not re.match("[A-Za-z]", name):
        name = f"net_{name}"
    header = path.with_name(f"{name}.h")
    for each in (path, header):
        try_own(each, MARK, "export --to c", file, ending=each.suffix)
    with _plain_kernels():
        session = Session(content, str(file))
    logits: list[NDArray[np.float32]] = []

    def forward(planes: NDArray[np.float32]) -> NDArray[np.float32]:
        logits.append(session(planes))
        return logits[-1]

    engine = NetPredictor(pipeline_of(container.card, session), forward)
    pipeline, image = engine.pipeline, check_image(engine.pipeline)

    def mask(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return engine.mask(pixels[:, :, 0] if pipeline.channels == 1 else pixels, pipeline.spacing_mm)

    # The first refuses what has no form, before the net runs.
    c_source(program, pipeline, container.card, name, str(file))
    wanted = mask(image)
    rows = np.ascontiguousarray(logits[-1][0].transpose(1, 0, 2))
    made = c_source(program, pipeline, container.card, name, str(file), (digest(rows), digest(wanted)))
    check = f"{name}_check() says whether it gives the engine's logits and mask"
    compared = f"compiled with -D{name.upper()}_CHECK, {check}"
    write_atomically(header, made.header.encode())
    write_atomically(path, made.source.encode())
    log.info("%s: %s", path, compared)
    return Export(path, path.stat().st_size, None, made, compared)


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Models that are opened meanwhile run with the plain kernels, which C is written after."""
    before = os.environ.get("POCKETSEG_ISA")
    os.environ["POCKETSEG_ISA"] = "scalar"
    try:
        yield
    finally:
        if before is None:
            del os.environ["POCKETSEG_ISA"]
        else:
            os.environ["POCKETSEG_ISA"] = before
