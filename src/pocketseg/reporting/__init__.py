"""Figures and the report of runs. Sees plain tables and pictures only; flows hand them over."""

from pocketseg.reporting.architecture import draw_architecture
from pocketseg.reporting.charts import (
    Rated,
    StageCurves,
    curves_together,
    histogram,
    reliability,
    trade_off,
    training_charts,
)
from pocketseg.reporting.document import (
    Axis,
    Cell,
    Chart,
    Code,
    Column,
    Drawing,
    Gallery,
    Highlights,
    Interval,
    Item,
    Notes,
    Panel,
    Properties,
    Report,
    Section,
    Series,
    Table,
)
from pocketseg.reporting.figures import save_curves, save_examples
from pocketseg.reporting.formats import SUFFIXES, Format, write_report
from pocketseg.reporting.overlay import enlarge, overlay
from pocketseg.reporting.sweep import SweepPoint, save_sweep
from pocketseg.reporting.weights import Distribution, WeightPages, draw_weights

__all__ = [
    "SUFFIXES",
    "Axis",
    "Cell",
    "Chart",
    "Code",
    "Column",
    "Distribution",
    "Drawing",
    "Format",
    "Gallery",
    "Highlights",
    "Interval",
    "Item",
    "Notes",
    "Panel",
    "Properties",
    "Rated",
    "Report",
    "Section",
    "Series",
    "StageCurves",
    "SweepPoint",
    "Table",
    "WeightPages",
    "curves_together",
    "draw_architecture",
    "draw_weights",
    "enlarge",
    "histogram",
    "overlay",
    "reliability",
    "save_curves",
    "save_examples",
    "save_sweep",
    "trade_off",
    "training_charts",
    "write_report",
]
