"""Pure functions that judge masks."""

from pocketseg.metrics.overlap import Outcome, Overlap, overlap, with_empty
from pocketseg.metrics.statistics import bootstrap_interval

__all__ = ["Outcome", "Overlap", "bootstrap_interval", "overlap", "with_empty"]
