"""ONNX files through OpenVINO."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.errors import ModelFileError
from pocketseg.packages import require
from pocketseg.predictors.base import NetPredictor
from pocketseg.predictors.int8 import saturates
from pocketseg.predictors.onnx_file import AGAIN, check_input, read_onnx
from pocketseg.predictors.runtime import Runtime

OpenVinoPrecision = Literal["f32", "bf16"]


def load_openvino(path: Path, threads: int = 0, precision: OpenVinoPrecision = "f32") -> NetPredictor:
    """A predictor from an ONNX file that pocketseg exported.

    Args:
        path: the file; the pipeline is in its metadata.
        threads: 0 lets OpenVINO choose.
        precision: of what is not quantized. OpenVINO itself would take bf16 where the CPU has it, and compute
            something else than torch.

    Raises:
        ModelFileError: missing, damaged, without a pipeline, or with weights that are not finite.
        EnvironmentProblem: OpenVINO is not installed.
    """
    require("openvino", "openvino")
    content, card, pipeline = read_onnx(path)
    shape = (pipeline.channels, *pipeline.net_size)
    try:
        forward = Runtime(OpenVinoSession, content, threads, precision, shape, "quant" in card)
    except RuntimeError as error:
        otherwise = ModelFileError(str(path), f"cannot be opened by OpenVINO ({error})", AGAIN)
        raise memory.explained(error, otherwise) from error
    check_input(path, pipeline, forward.session.shape)
    return NetPredictor(pipeline, forward, path.name, f"OpenVINO, {precision}", card)


class OpenVinoSession:
    """A compiled model for images (c, h, w) of one size; not compiled where the file's net takes others.

    Args:
        content: the ONNX file.
        threads: 0 lets OpenVINO choose.
        precision: of what is not quantized.
        size: (c, h, w) of images.
        quantized: whether the net is.
    """

    def __init__(
        self,
        content: bytes,
        threads: int,
        precision: OpenVinoPrecision,
        size: tuple[int, int, int],
        quantized: bool,
    ) -> None:
        import openvino

        settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if quantized and saturates():
            settings["LP_TRANSFORMS_MODE"] = "NO"
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        core = openvino.Core()
        model = core.read_model(io.BytesIO(content))
        self.shape = (1, *(side.get_length() for side in list(model.input().partial_shape)[1:]))
        if self.shape[1:] != size:
            return
        # Fixed sizes are faster, so images go one by one.
        model.reshape([1, *size])
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        infer, images = self._request.infer, np.ascontiguousarray(batch)
        return np.concatenate(
            [np.array(infer([image[None]], share_inputs=True, share_outputs=True)[0]) for image in images]
        )
