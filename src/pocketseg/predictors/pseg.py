"""Packed models through the native engine: nothing but the base install is needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pocketseg.engine.container import MAGIC, read_container
from pocketseg.engine.session import Session
from pocketseg.errors import ModelFileError
from pocketseg.pipeline import Pipeline
from pocketseg.predictors.base import NetPredictor
from pocketseg.predictors.reading import read_model

# More do not pay for one image of a small net.
MAX_THREADS = 8
# docs/format.md, as in native/src/program.h.
MAX_FILE_BYTES = 2**31


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
    session = Session(content, str(path), threads or default_threads())
    return NetPredictor(pipeline_of(card, session), session, path.name, f"engine, {session.isa} kernels", card)


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
    return Session(content, str(path), threads), card


def read_pseg(path: Path) -> bytes:
    """The bytes of a file that should be a packed model.

    Raises:
        ModelFileError: it is not there, is not a packed model, or cannot be read.
    """
    return read_model(path, MAGIC, MAX_FILE_BYTES, "is not a packed model", "make one with `pocketseg pack`")
