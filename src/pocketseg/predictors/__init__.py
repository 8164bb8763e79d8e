"""Running models without torch."""

from pocketseg.predictors.base import NetPredictor, Predictor, Segmenter
from pocketseg.predictors.ensemble import Ensemble
from pocketseg.predictors.onnx import load_onnx
from pocketseg.predictors.openvino import OpenVinoPrecision, load_openvino
from pocketseg.predictors.pseg import (
    default_threads,
    load_packed,
    load_pseg,
    open_pseg,
    pipeline_of,
    read_pseg,
    warn_if_plain,
)
from pocketseg.predictors.segmentation import Segmentation, SegmentedObject, show

__all__ = [
    "Ensemble",
    "NetPredictor",
    "OpenVinoPrecision",
    "Predictor",
    "Segmentation",
    "SegmentedObject",
    "Segmenter",
    "default_threads",
    "load_onnx",
    "load_openvino",
    "load_packed",
    "load_pseg",
    "open_pseg",
    "pipeline_of",
    "read_pseg",
    "show",
    "warn_if_plain",
]
