"""ONNX files through onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.errors import ModelFileError
from pocketseg.packages import require
from pocketseg.pipeline import Pipeline
from pocketseg.predictors.base import NetPredictor
from pocketseg.predictors.int8 import saturates
from pocketseg.predictors.onnx_file import AGAIN, check_input, read_onnx
from pocketseg.predictors.runtime import Runtime


def load_onnx(path: Path, threads: int = 0) -> NetPredictor:
    """A predictor from an ONNX file that pocketseg exported.

    Args:
        path: the file; the pipeline is in its metadata.
        threads: 0 lets onnxruntime choose.

    Raises:
        ModelFileError: missing, damaged, without a pipeline, or with weights that are not finite.
        EnvironmentProblem: onnxruntime is not installed.
    """
    require("onnx", "onnxruntime")
    return open_onnx(*read_onnx(path), path, threads)


def open_onnx(
    content: bytes, card: Mapping[str, Any], pipeline: Pipeline, path: Path, threads: int = 0
) -> NetPredictor:
    """The same from what `read_onnx` gives; `path` is what errors call it."""
    try:
        forward = Runtime(OnnxSession, content, threads, "quant" in card)
    except Exception as error:
        raise memory.explained(
            error, ModelFileError(str(path), f"cannot be opened as ONNX ({error})", AGAIN)
        ) from error
    check_input(path, pipeline, forward.session.shape)
    return NetPredictor(pipeline, forward, path.name, "onnxruntime", card)


class OnnxSession:
    """A session of onnxruntime; `quantized` is what its net is."""

    def __init__(self, content: bytes, threads: int, quantized: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if quantized and saturates():
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (image, *others) = self._session.get_inputs()
        self._name = image.name
        self.shape: tuple[Any, ...] = () if others else tuple(image.shape)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run(None, {self._name: batch})[0]
        return logits
