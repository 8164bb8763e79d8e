"""Pure functions that judge masks."""

from pocketseg.metrics.overlap import Outcome, Overlap, class_overlaps, overlap, with_empty
from pocketseg.metrics.statistics import bootstrap_interval

__all__ = ["Outcome", "Overlap", "bootstrap_interval", "class_overlaps", "overlap", "with_empty"]
