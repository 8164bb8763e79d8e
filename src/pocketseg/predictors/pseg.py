"""Packed models through the native engine: nothing but the base install is needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.engine.container import MAGIC, read_container
from pocketseg.engine.library import TYPES, kernel_names
from pocketseg.engine.session import Session
from pocketseg.errors import EnvironmentProblem, ModelFileError, PocketsegError
from pocketseg.memory import ended
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.geometry import Spacing
from pocketseg.pipeline.given import as_image, as_spacing
from pocketseg.predictors.base import NetPredictor
from pocketseg.predictors.reading import read_model

# What runs the pipeline around the net: the native library (default), or NumPy. Both give the same bytes.
PIPELINE, NATIVE, NUMPY = "POCKETSEG_PIPELINE", "native", "numpy"
# More do not pay for one image of a small net.
MAX_THREADS = 8
# docs/format.md, as in native/src/program.h.
MAX_FILE_BYTES = 2**31
PLAIN = "scalar"

log = logging.getLogger("pocketseg")


@dataclass(repr=False)
class PackedPredictor(NetPredictor):
    """A packed model. Its pipeline runs in the native library.

    NumPy runs it where the library does not take the type of an image (other than uint8, uint16, int16 and float32) or
    what the pipeline asks for (calipers painted out, classes that may overlap, limits of presence), and what the
    library refuses, so that errors are the same. With POCKETSEG_PIPELINE=numpy NumPy runs everything. Results do not
    depend on it.
    """

    def predict(self, image: Any, spacing_mm: Spacing | None = None) -> NDArray[np.float32]:
        return self.both(image, spacing_mm)[1]

    def mask(self, image: Any, spacing_mm: Spacing | None = None) -> NDArray[np.uint8]:
        found = self._native(image, spacing_mm, False)
        return self.pipeline.mask(super().predict(image, spacing_mm)) if found is None else found[0]

    def both(self, image: Any, spacing_mm: Spacing | None = None) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        found = self._native(image, spacing_mm, True)
        if found is not None and found[1] is not None:
            return found[0], found[1]
        probabilities = super().predict(image, spacing_mm)
        return self.pipeline.mask(probabilities), probabilities

    def _native(
        self, image: Any, spacing_mm: Spacing | None, probabilities: bool
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None] | None:
        """Mask and, where they are asked for, probabilities; None where NumPy has to look at the image."""
        session = self.forward
        if not isinstance(session, Session) or os.environ.get(PIPELINE) == NUMPY or self.pipeline.multilabel:
            return None
        pixels, spacing = as_image(image), as_spacing(spacing_mm)
        if pixels.dtype.name not in TYPES:
            return None
        try:
            mask, found, seen = session.segment(pixels, self.pipeline.to_json(), spacing, probabilities)
        except PocketsegError as error:
            if ended(error):
                raise
            return None
        if self.warn:
            for odd in self.pipeline.oddities(pixels, seen):
                self.warn(odd)
        return mask, found


def check_choice() -> None:
    """Refuse a name of what runs the pipeline that there is not.

    Raises:
        EnvironmentProblem: POCKETSEG_PIPELINE is set to one.
    """
    chosen = os.environ.get(PIPELINE) or NATIVE
    if chosen not in (NATIVE, NUMPY):
        raise EnvironmentProblem(f"{PIPELINE}={chosen}", "is not known", f"set it to {NATIVE} or {NUMPY}, or unset it")


def load_pseg(path: Path, threads: int = 0) -> NetPredictor:
    """A predictor from a packed model.

    Args:
        path: the file.
        threads: how many the engine may use; 0 is one for each core, at most 8. Results do not depend on it.

    Raises:
        ModelFileError: missing, damaged, of another kind, or too new.
        EnvironmentProblem: the native library is not there.
    """
    return load_packed(read_pseg(path), path, threads)


def load_packed(content: bytes, path: Path, threads: int = 0) -> NetPredictor:
    """The same from the bytes of a file; `path` is what errors call it."""
    if not content.startswith(MAGIC):
        raise ModelFileError(str(path), "is not a packed model", "make one with `pocketseg pack`")
    card = read_container(content, str(path)).card
    check_choice()
    session = Session(content, str(path), threads or default_threads())
    warn_if_plain(session.isa)
    return PackedPredictor(pipeline_of(card, session), session, path.name, f"engine, {session.isa} kernels", card)


def pipeline_of(card: Mapping[str, Any], session: Session) -> Pipeline:
    """The pipeline in the card of a packed model, held against its net.

    Raises:
        ModelFileError: it is not valid, or for another net, or needs more than the engine has.
    """
    pipeline = Pipeline.from_dict(card.get("pipeline"), session.where)
    height, width = pipeline.net_size
    wanted = (session.in_channels, session.out_channels, 0, 0)
    if (pipeline.channels, pipeline.logits, height % session.multiple, width % session.multiple) != wanted:
        what = "has a net and a pipeline that do not fit each other"
        raise ModelFileError(session.where, what, "pack the model again")
    session.arena_bytes(height, width)  # before images of that size are made
    return pipeline


@cache
def warn_if_plain(isa: str) -> None:
    """Say why the plain kernels run, where they do: the results are the same, and nothing else would tell.

    Args:
        isa: the set of kernels that a session chose.
    """
    if isa != PLAIN:
        return
    if os.environ.get("POCKETSEG_ISA") == PLAIN:
        why = "POCKETSEG_ISA asks for them; unset it"
    elif all(name.startswith(f"{PLAIN}/") for name in kernel_names()):
        why = "this library was built without others; install a wheel of pocketseg, or build it for x86-64 or ARM64"
    else:
        why = (
            "this processor has no SSE4.1, which every x86-64 processor since 2013 has (see the flags of the "
            "processor that a virtual machine shows); another runtime may be faster here (`pocketseg export --to onnx`)"
        )
    log.warning("the engine's plain kernels run, which take up to 80 times as long as others: %s", why)


def default_threads() -> int:
    """How many threads a net gets that was given none."""
    return min(os.cpu_count() or 1, MAX_THREADS)


def open_pseg(path: Path, threads: int = 1) -> tuple[Session, Mapping[str, Any]]:
    """The net of a packed model, and its card: pipeline, facts about the model, verification.

    Raises:
        ModelFileError: missing, damaged, of another kind, or too new.
    """
    content = read_pseg(path)
    card = read_container(content, str(path)).card
    session = Session(content, str(path), threads)
    warn_if_plain(session.isa)
    return session, card


def read_pseg(path: Path) -> bytes:
    """The bytes of a file that should be a packed model.

    Raises:
        ModelFileError: it is not there, is not a packed model, or cannot be read.
    """
    return read_model(path, MAGIC, MAX_FILE_BYTES, "is not a packed model", "make one with `pocketseg pack`")
