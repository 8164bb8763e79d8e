"""Running models without torch."""

from pocketseg.predictors.base import NetPredictor, Predictor
from pocketseg.predictors.onnx import load_onnx

__all__ = ["NetPredictor", "Predictor", "load_onnx"]
