"""Whether a probability of 0.8 is right in eight of ten pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pocketseg.metrics.overlap import require_one_shape

BINS = 10
# Sums of weighted tiles in float32 miss 0 and 1 by less than this.
ROUNDING = 1e-5


@dataclass(frozen=True)
class Calibration:
    """Pixels of one class sorted by probability into bins of equal width; calibrations of several cases add up.

    Attributes:
        pixels: number in each bin.
        positive: number of reference foreground in each bin.
        probability: sum in each bin.
        squared_error: sum of (probability − reference)² over all pixels.

    Example:
        >>> found = calibration(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, True, False, True]))
        >>> round(found.expected_error, 3), round(found.brier, 3)
        (0.25, 0.21)
    """

    pixels: NDArray[np.int64]
    positive: NDArray[np.int64]
    probability: NDArray[np.float64]
    squared_error: float

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration(
            self.pixels + other.pixels,
            self.positive + other.positive,
            self.probability + other.probability,
            self.squared_error + other.squared_error,
        )

    @property
    def brier(self) -> float:
        """Mean squared error of the probability (Brier 1950); 0 is perfect, 0.25 is a coin."""
        return self.squared_error / int(self.pixels.sum())

    @property
    def expected_error(self) -> float:
        """ECE: Σ pixels of a bin / all pixels · |share of foreground − mean probability| (Naeini et al. 2015)."""
        return float(np.abs(self.positive - self.probability).sum() / self.pixels.sum())

    @property
    def largest_error(self) -> float:
        """MCE: the largest |share of foreground − mean probability| of a bin that holds pixels."""
        held = self.pixels > 0
        return float((np.abs(self.positive - self.probability)[held] / self.pixels[held]).max())


def calibration(probability: NDArray[np.floating], reference: NDArray[np.bool_], *, bins: int = BINS) -> Calibration:
    """Sort the pixels of one class of one case into bins.

    Args:
        probability: of the class, 0 to 1, any shape that holds at least one pixel.
        reference: bool, the same shape.
        bins: of equal width; a probability of exactly 1 lies in the last one.
    """
    require_one_shape(probability, reference)
    if not probability.size:
        raise ValueError("the image has no pixels")
    values, reference = probability.ravel().astype(np.float64), reference.ravel()
    if not (values.min() >= -ROUNDING and values.max() <= 1 + ROUNDING):
        raise ValueError(f"probabilities lie between 0 and 1, not {values.min():g} and {values.max():g}")
    values = values.clip(0, 1)
    bin_of = np.minimum((values * bins).astype(np.intp), bins - 1)
    return Calibration(
        pixels=np.bincount(bin_of, minlength=bins),
        positive=np.bincount(bin_of[reference], minlength=bins),
        probability=np.bincount(bin_of, weights=values, minlength=bins).astype(np.float64),
        squared_error=float(np.square(values - reference).sum()),
    )
