"""ONNX files through onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import ModelFileError, missing_package
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.pipeline import FORMAT_VERSION, METADATA_KEY
from pocketseg.predictors.base import NetPredictor
from pocketseg.predictors.reading import read_model
from pocketseg.predictors.runtime import Runtime

# The first field of every ONNX file is a number, the version of its form; such files have no longer magic.
BEGIN = b"\x08"
# Of what protobuf can read.
MOST_FILE_BYTES = 2**31 - 1


def load_onnx(path: Path, threads: int = 0) -> NetPredictor:
    """A predictor from an ONNX file that pocketseg exported.

    Args:
        path: the file; the pipeline is in its metadata.
        threads: 0 lets onnxruntime choose.

    Raises:
        ModelFileError: missing, damaged, or without a pipeline.
        EnvironmentProblem: onnxruntime is not installed.
    """
    try:
        import onnxruntime  # noqa: F401 - whether it is there
    except Exception as error:  # a broken installation raises more than ImportError
        raise missing_package("onnxruntime", "onnx", error) from error
    content = read_onnx(path)
    try:
        forward = Runtime(OnnxSession, content, threads)
    except Exception as error:
        raise ModelFileError(str(path), f"cannot be opened as ONNX ({error})", "export it again") from error
    card = read_card(path, forward.session.metadata)
    return NetPredictor(Pipeline.from_dict(card["pipeline"], str(path)), forward, path.name, "onnxruntime", card)


class OnnxSession:
    """A session of onnxruntime."""

    def __init__(self, content: bytes, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self._name = self._session.get_inputs()[0].name
        self.metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run(None, {self._name: batch})[0]
        return logits


def read_onnx(path: Path) -> bytes:
    """The bytes of a file that should be ONNX.

    Raises:
        ModelFileError: it is not there, is no ONNX file, or cannot be read.
    """
    return read_model(path, BEGIN, MOST_FILE_BYTES, "cannot be opened as ONNX (it is another file)", "export it again")


def read_card(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The pipeline and the facts in the metadata of an ONNX file.

    Raises:
        ModelFileError: there is none, or it is damaged or too new.
    """
    if METADATA_KEY not in metadata:
        raise ModelFileError(
            str(path),
            "holds no pocketseg pipeline in its metadata",
            "export it with `pocketseg export RUN --to onnx`",
        )
    try:
        card: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        version = card["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(str(path), f"its metadata is damaged ({error})", "export it again") from error
    if version > FORMAT_VERSION:
        raise ModelFileError(str(path), f"is of version {version}, newer than {FORMAT_VERSION}", "upgrade pocketseg")
    return card
