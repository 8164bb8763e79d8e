"""Figures and the one-file HTML page about a run. Sees plain tables only; flows hand them over."""

from pocketseg.reporting.architecture import draw_architecture
from pocketseg.reporting.figures import save_curves, save_examples
from pocketseg.reporting.overlay import enlarge, overlay
from pocketseg.reporting.page import write_report
from pocketseg.reporting.sweep import SweepPoint, save_sweep
from pocketseg.reporting.tables import Panel, Report, StageCurves, Table
from pocketseg.reporting.weights import Distribution, WeightPages, draw_weights

__all__ = [
    "Distribution",
    "Panel",
    "Report",
    "StageCurves",
    "SweepPoint",
    "Table",
    "WeightPages",
    "draw_architecture",
    "draw_weights",
    "enlarge",
    "overlay",
    "save_curves",
    "save_examples",
    "save_sweep",
    "write_report",
]
