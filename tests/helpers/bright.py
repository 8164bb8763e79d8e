"""A model that nothing had to be trained for."""

from __future__ import annotations

import numpy as np

from pocketseg.pipeline import Pipeline, Postprocess
from pocketseg.predictors.base import Segmenter


class Bright(Segmenter):
    """Probability is brightness."""

    pipeline = Pipeline((8, 8), classes=("spot",), postprocess=Postprocess(threshold=0.5))

    def predict(self, image, spacing_mm=None):
        return (np.asarray(image, np.float32) / 255)[..., None]
