"""What every runnable model offers: image in, probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketseg.pipeline import Forward, Pipeline
from pocketseg.pipeline.geometry import Spacing


class Predictor(Protocol):
    """One method, image in, probabilities out; the evaluator knows nothing else of a model."""

    pipeline: Pipeline

    def predict(self, image: NDArray[np.generic], spacing_mm: Spacing | None = None) -> NDArray[np.float32]:
        """Foreground probabilities (h, w, k) on the grid of an image (h, w) or (h, w, c).

        Args:
            image: what `pipeline.given.as_image` takes; which values are black and white says
                `pipeline.intensity.unit_range`.
            spacing_mm: pixel size (row, column); a model with one of its own (`pipeline.spacing_mm`) needs it.

        Raises:
            DataError: it is no image, cannot be meant as one, holds nan or inf, or the net gives such numbers for it.
        """

    def mask(self, image: NDArray[np.generic], spacing_mm: Spacing | None = None) -> NDArray[np.uint8]:
        """Class indices (h, w), post-processed."""


@dataclass
class NetPredictor:
    """A pipeline around any function that runs the net: torch, ONNX Runtime, or the engine.

    What an image may be, and what is refused, is the pipeline's rule and the same for all of them (see `Predictor`).

    Attributes:
        pipeline: everything but the net.
        forward: net input (n, c, h, w) to logits.
        name: how tables call it.
        runtime: what runs the net, with what decides its speed or its numbers.
        card: what its file says of the model; empty for torch.
        told: gets a line for an image whose intensities are very different from those of training; None: nobody.
    """

    pipeline: Pipeline
    forward: Forward
    name: str = "net"
    runtime: str = "torch"
    card: Mapping[str, Any] = field(default_factory=dict)
    told: Callable[[str], None] | None = None

    def predict(self, image: NDArray[np.generic], spacing_mm: Spacing | None = None) -> NDArray[np.float32]:
        return self.pipeline.predict(image, self.forward, spacing_mm, self.told)

    def mask(self, image: NDArray[np.generic], spacing_mm: Spacing | None = None) -> NDArray[np.uint8]:
        return self.pipeline.mask(self.predict(image, spacing_mm))
