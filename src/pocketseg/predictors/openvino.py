"""ONNX files through OpenVINO."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import ModelFileError, missing_package
from pocketseg.predictors.base import NetPredictor
from pocketseg.predictors.int8 import saturates
from pocketseg.predictors.onnx_file import ANEW, check_input, read_onnx

OpenVinoPrecision = Literal["f32", "bf16"]


def load_openvino(path: Path, threads: int = 0, precision: OpenVinoPrecision = "f32") -> NetPredictor:
    """A predictor from an ONNX file that pocketseg exported.

    Args:
        path: the file; the pipeline is in its metadata.
        threads: 0 lets OpenVINO choose.
        precision: of what is not quantised. OpenVINO itself would take bf16 where the CPU has it, and compute
            something else than torch.

    Raises:
        ModelFileError: missing, damaged, without a pipeline, or with weights that are not finite.
        EnvironmentProblem: OpenVINO is not installed.
    """
    try:
        import openvino
    except Exception as error:  # a broken installation raises more than ImportError
        raise missing_package("openvino", "openvino", error) from error
    content, card, pipeline = read_onnx(path)
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if "quant" in card and saturates():
        settings["LP_TRANSFORMS_MODE"] = "NO"
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        core = openvino.Core()
        model = core.read_model(io.BytesIO(content))
        check_input(path, pipeline, (1, *(side.get_length() for side in list(model.input().partial_shape)[1:])))
        # Fixed sizes are faster, so images go one by one.
        model.reshape([1, pipeline.channels, *pipeline.net_size])
        request = core.compile_model(model, "CPU", settings).create_infer_request()
    except RuntimeError as error:
        raise ModelFileError(str(path), f"cannot be opened by OpenVINO ({error})", ANEW) from error

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        images = np.ascontiguousarray(batch)
        logits = [np.array(request.infer([image[None]], share_inputs=True, share_outputs=True)[0]) for image in images]
        return np.concatenate(logits)

    return NetPredictor(pipeline, forward, path.name, f"OpenVINO, {precision}", card)
