"""Running models without torch."""

from pocketseg.predictors.base import NetPredictor, Predictor
from pocketseg.predictors.onnx import load_onnx
from pocketseg.predictors.pseg import load_pseg, open_pseg

__all__ = ["NetPredictor", "Predictor", "load_onnx", "load_pseg", "open_pseg"]
