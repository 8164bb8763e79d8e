"""ONNX files through onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.errors import EnvironmentProblem, ModelFileError, PocketsegError
from pocketseg.packages import require
from pocketseg.pipeline import Pipeline
from pocketseg.predictors.base import NetPredictor
from pocketseg.predictors.device import CPU, PROVIDERS, parts_of, provider
from pocketseg.predictors.int8 import saturates
from pocketseg.predictors.onnx_file import AGAIN, check_input, read_onnx
from pocketseg.predictors.runtime import Runtime


def load_onnx(path: Path, threads: int = 0, device: str = "cpu") -> NetPredictor:
    """A predictor from an ONNX file that pocketseg exported.

    Args:
        path: the file; the pipeline is in its metadata.
        threads: 0 lets onnxruntime choose.
        device: cpu, cuda, cuda:N or mps; auto is the best of them that this build of onnxruntime has.

    Raises:
        ModelFileError: missing, damaged, without a pipeline, or with weights that are not finite.
        EnvironmentProblem: onnxruntime is not installed, or has nothing for the device.
    """
    require("onnx", "onnxruntime")
    return open_onnx(*read_onnx(path), path, threads, device)


def open_onnx(
    content: bytes, card: Mapping[str, Any], pipeline: Pipeline, path: Path, threads: int = 0, device: str = "cpu"
) -> NetPredictor:
    """The same from what `read_onnx` gives; `path` is what errors call it."""
    chosen = provider(device)
    try:
        forward = Runtime(OnnxSession, content, threads, "quant" in card, chosen, parts_of(device)[1])
    except PocketsegError:
        raise
    except Exception as error:
        raise memory.explained(
            error, ModelFileError(str(path), f"cannot be opened as ONNX ({error})", AGAIN)
        ) from error
    check_input(path, pipeline, forward.session.shape)
    runtime = "onnxruntime" if chosen == CPU else f"onnxruntime on {chosen.removesuffix('ExecutionProvider')}"
    return NetPredictor(pipeline, forward, path.name, runtime, card)


class OnnxSession:
    """A session of onnxruntime.

    Args:
        content: the file.
        threads: 0 lets onnxruntime choose.
        quantized: whether its net is.
        provider: of onnxruntime, beside the CPU's, which does what that has no code for.
        index: of the device.

    Raises:
        EnvironmentProblem: the provider does not start, where onnxruntime would take the CPU in silence.
    """

    def __init__(self, content: bytes, threads: int, quantized: bool, provider: str = CPU, index: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if quantized and saturates():
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        place = {"device_id": index} if provider == PROVIDERS["cuda"] else {}
        wanted = [(provider, place), *([] if provider == CPU else [(CPU, {})])]
        self._session = onnxruntime.InferenceSession(content, options, providers=wanted)
        if self._session.get_providers()[0] != provider:
            what = f"onnxruntime has {provider} but cannot start it here"
            raise EnvironmentProblem("--device", what, "check its driver and libraries, or take --device cpu")
        (image, *others) = self._session.get_inputs()
        self._name = image.name
        self.shape: tuple[Any, ...] = () if others else tuple(image.shape)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run(None, {self._name: batch})[0]
        return logits
