"""Pure functions that evaluate masks and probabilities; `docs/metrics.md` has every formula."""

from pocketseg.metrics import compat
from pocketseg.metrics.calibration import Calibration, calibration
from pocketseg.metrics.ellipse import Ellipse, circumference_error, fit_ellipse
from pocketseg.metrics.objects import (
    Detection,
    FreeResponse,
    Rand,
    components,
    detect,
    free_response,
    rand,
    rand_of_masks,
)
from pocketseg.metrics.overlap import Outcome, Overlap, class_overlaps, overlap, with_empty
from pocketseg.metrics.presence import SPECIFICITY, Presence, missed_difference, presence
from pocketseg.metrics.statistics import (
    Description,
    PairedDifference,
    SeedSpread,
    bootstrap_interval,
    describe,
    paired_difference,
    seed_spread,
    seeds_difference,
    two_way_interval,
)
from pocketseg.metrics.surface import SurfaceDistances, diagonal, surface_distances, surface_pixels
from pocketseg.metrics.thresholds import dice_at_thresholds

__all__ = [
    "SPECIFICITY",
    "Calibration",
    "Description",
    "Detection",
    "Ellipse",
    "FreeResponse",
    "Outcome",
    "Overlap",
    "PairedDifference",
    "Presence",
    "Rand",
    "SeedSpread",
    "SurfaceDistances",
    "bootstrap_interval",
    "calibration",
    "circumference_error",
    "class_overlaps",
    "compat",
    "components",
    "describe",
    "detect",
    "diagonal",
    "dice_at_thresholds",
    "fit_ellipse",
    "free_response",
    "missed_difference",
    "overlap",
    "paired_difference",
    "presence",
    "rand",
    "rand_of_masks",
    "seed_spread",
    "seeds_difference",
    "surface_distances",
    "surface_pixels",
    "two_way_interval",
    "with_empty",
]
