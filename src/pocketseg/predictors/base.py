"""What every runnable model offers: image in, probabilities out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pocketseg import notebook
from pocketseg.pipeline import Forward, Pipeline
from pocketseg.pipeline.geometry import Spacing
from pocketseg.pipeline.given import as_spacing
from pocketseg.predictors.segmentation import Segmentation, read_given
from pocketseg.text import brief, counted


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
            DataError: it is not an image, holds nan or inf, or the net gives such numbers for it.
        """

    def mask(self, image: NDArray[np.generic], spacing_mm: Spacing | None = None) -> NDArray[np.uint8]:
        """Class indices (h, w), post-processed; planes (k, h, w) where classes may overlap."""

    def both(
        self, image: NDArray[np.generic], spacing_mm: Spacing | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """`mask` and `predict` of an image that the net sees once."""


class Segmenter(ABC):
    """What every predictor offers beside its probabilities.

    Attributes:
        pipeline: whose rules make masks, and which says what an image may be.
        name: how tables call it.
        runtime: what runs the net, with what decides its speed or its numbers.
        card: what its file says of the model; empty for torch.
    """

    pipeline: Pipeline
    name: str
    runtime: str
    card: Mapping[str, Any]

    @property
    def precision(self) -> str:
        """What the net computes in: f32, or a scheme such as w8a8."""
        return str(self.card.get("precision", "unknown"))

    @abstractmethod
    def predict(self, image: Any, spacing_mm: Spacing | None = None) -> NDArray[np.float32]:
        """Probabilities of the k classes on the grid of an image: float32 (h, w, k), 0 to 1.

        Args and errors: as `segment`, but for paths and bytes, which are not read.
        """

    def mask(self, image: Any, spacing_mm: Spacing | None = None) -> NDArray[np.uint8]:
        """Class indices on the grid of an image: uint8 (h, w), post-processed; 0 is background.

        Of a model whose classes may overlap planes (k, h, w) of 0 and 1, one a class.

        Args and errors: as `predict`.
        """
        return self.both(image, spacing_mm)[0]

    def both(self, image: Any, spacing_mm: Spacing | None = None) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """`mask` and `predict` of an image; the net runs once.

        Args and errors: as `predict`.
        """
        probabilities = self.predict(image, spacing_mm)
        return self.pipeline.mask(probabilities), probabilities

    def segment(self, image: Any, spacing_mm: Spacing | None = None) -> Segmentation:
        """Segment one image; the net runs once.

        Args:
            image: the path of a picture, or of a DICOM or NIfTI file of one slice; the bytes of a picture; or pixels
                (h, w) or (h, w, c): an array, nested lists, a torch tensor, a Pillow picture. Which stored values are
                black and white: see `pocketseg.load`.
            spacing_mm: pixel size (row, column); default: what the file says. Sizes of objects in millimeters need it,
                and so does a model with a pixel size of its own.

        Returns:
            Mask, probabilities and objects.

        Raises:
            DataError: it is not an image, cannot be meant as one, holds nan or inf, or a volume of several slices.

        Example:
            found = pocketseg.load("model.pseg").segment("scan.png")
            print(found, found.objects[0].area_px)
            found.save("mask.png")
        """
        size = None if spacing_mm is None else as_spacing(spacing_mm)
        pixels, known = read_given(image, size, self.pipeline.reading, self.pipeline.channels)
        mask, probabilities = self.both(pixels, known)
        return Segmentation(mask, probabilities, tuple(self.pipeline.classes), pixels, known)

    def __repr__(self) -> str:
        height, width = self.pipeline.size
        classes = ", ".join(self.pipeline.classes)
        text = f"{self.name}, {classes} in images of {height}×{width}, {self.runtime}, {self.precision}"
        return brief(self, text)

    def _repr_html_(self) -> str:
        """The metadata of a model, for notebooks."""
        height, width = self.pipeline.size
        return notebook.facts({
            "model": self.name,
            "classes": ", ".join(self.pipeline.classes),
            "input": f"{height}×{width}, {counted(self.pipeline.channels, 'channel')}, {self.pipeline.fit}",
            "precision": self.precision,
            "parameters": f"{self.card['parameters']:,}" if isinstance(self.card.get("parameters"), int) else "",
            "runs on": self.runtime,
        })  # fmt: skip


@dataclass(repr=False)
class NetPredictor(Segmenter):
    """A pipeline around any function that runs the net: torch, ONNX Runtime, or the engine.

    What an image may be, and what is refused, is the pipeline's rule and the same for all of them (see `Predictor`).

    Attributes:
        pipeline: everything but the net.
        forward: net input (n, c, h, w) to logits.
        name: how tables call it.
        runtime: what runs the net, with what decides its speed or its numbers.
        card: what its file says of the model; empty for torch.
        warn: gets a line for an image whose intensities are very different from those of training; None: nobody.
    """

    pipeline: Pipeline
    forward: Forward
    name: str = "net"
    runtime: str = "torch"
    card: Mapping[str, Any] = field(default_factory=dict)
    warn: Callable[[str], None] | None = None

    def predict(self, image: Any, spacing_mm: Spacing | None = None) -> NDArray[np.float32]:
        return self.pipeline.predict(image, self.forward, spacing_mm, self.warn)
