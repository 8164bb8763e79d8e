"""ONNX files through OpenVINO."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.errors import ModelFileError, missing_package
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.pipeline import METADATA_KEY
from pocketseg.predictors.base import NetPredictor
from pocketseg.predictors.onnx import read_card

OpenVinoPrecision = Literal["f32", "bf16"]


def load_openvino(path: Path, threads: int = 0, precision: OpenVinoPrecision = "f32") -> NetPredictor:
    """A predictor from an ONNX file that pocketseg exported.

    Args:
        path: the file; the pipeline is in its metadata.
        threads: 0 lets OpenVINO choose.
        precision: of what is not quantised. OpenVINO itself would take bf16 where the CPU has it, and compute
            something else than torch.

    Raises:
        ModelFileError: missing, damaged, or without a pipeline.
        EnvironmentProblem: OpenVINO is not installed.
    """
    try:
        import openvino
    except Exception as error:  # a broken installation raises more than ImportError
        raise missing_package("openvino", "openvino", error) from error
    if not path.is_file():
        raise ModelFileError(str(path), "does not exist", "check the path")
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    try:
        core = openvino.Core()
        model = core.read_model(path)
        has_card = model.has_rt_info(["framework", METADATA_KEY])
        metadata = {METADATA_KEY: model.get_rt_info(["framework", METADATA_KEY]).astype(str)} if has_card else {}
        card = read_card(path, metadata)
        # Fixed sizes are faster, so images go one by one.
        model.reshape([1, *(side.get_length() for side in list(model.input().partial_shape)[1:])])
        request = core.compile_model(model, "CPU", settings).create_infer_request()
    except RuntimeError as error:
        otherwise = ModelFileError(str(path), f"cannot be opened by OpenVINO ({error})", "export it again")
        raise memory.told(error, otherwise) from error

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        images = np.ascontiguousarray(batch)
        logits = [np.array(request.infer([image[None]], share_inputs=True, share_outputs=True)[0]) for image in images]
        return np.concatenate(logits)

    pipeline = Pipeline.from_dict(card["pipeline"], str(path))
    return NetPredictor(pipeline, forward, path.name, f"OpenVINO, {precision}", card)
