"""ONNX files through onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory
from pocketseg.errors import ModelFileError, missing_package
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.pipeline import FORMAT_VERSION, METADATA_KEY
from pocketseg.predictors.base import NetPredictor


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
        import onnxruntime
    except Exception as error:  # a broken installation raises more than ImportError
        raise missing_package("onnxruntime", "onnx", error) from error
    if not path.is_file():
        raise ModelFileError(str(path), "does not exist", "check the path")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        otherwise = ModelFileError(str(path), f"cannot be opened as ONNX ({error})", "export it again")
        raise memory.told(error, otherwise) from error
    card = read_card(path, session.get_modelmeta().custom_metadata_map)
    name = session.get_inputs()[0].name

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {name: batch})[0]
        return logits

    return NetPredictor(Pipeline.from_dict(card["pipeline"], str(path)), forward, path.name, "onnxruntime", card)


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
