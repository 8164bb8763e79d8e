"""Normalize, fit to size, tile, post-process: the NumPy code shared by training, prediction and every export."""

from pocketseg.pipeline.evidence import evidence
from pocketseg.pipeline.intensity import Normalization, TrainedOn
from pocketseg.pipeline.pipeline import OF_COLOR, Forward, Mirror, Pipeline, to_probabilities
from pocketseg.pipeline.postprocess import Postprocess
from pocketseg.pipeline.reading import Reading

__all__ = [
    "OF_COLOR",
    "Forward",
    "Mirror",
    "Normalization",
    "Pipeline",
    "Postprocess",
    "Reading",
    "TrainedOn",
    "evidence",
    "to_probabilities",
]
