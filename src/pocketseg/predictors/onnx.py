"""ONNX files through onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import ModelFileError, missing_package
from pocketseg.predictors.base import NetPredictor
from pocketseg.predictors.int8 import saturates
from pocketseg.predictors.onnx_file import ANEW, check_input, read_onnx


def load_onnx(path: Path, threads: int = 0) -> NetPredictor:
    """A predictor from an ONNX file that pocketseg exported.

    Args:
        path: the file; the pipeline is in its metadata.
        threads: 0 lets onnxruntime choose.

    Raises:
        ModelFileError: missing, damaged, without a pipeline, or with weights that are not finite.
        EnvironmentProblem: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except Exception as error:  # a broken installation raises more than ImportError
        raise missing_package("onnxruntime", "onnx", error) from error
    content, card, pipeline = read_onnx(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if "quant" in card and saturates():
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelFileError(str(path), f"cannot be opened as ONNX ({error})", ANEW) from error
    (image, *others) = session.get_inputs()
    check_input(path, pipeline, () if others else tuple(image.shape))

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {image.name: batch})[0]
        return logits

    return NetPredictor(pipeline, forward, path.name, "onnxruntime", card)
