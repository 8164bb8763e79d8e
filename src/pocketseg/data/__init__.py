"""Cases: images with masks, found in a layout, decoded once, checked, grouped and split."""

from pocketseg.data.case import BoundedCache, Case
from pocketseg.data.cases import Cases, CasesOptions, CheckedData
from pocketseg.data.filters import Only
from pocketseg.data.groups import Grouping
from pocketseg.data.masks import MaskCoding
from pocketseg.data.split import Fold, Split, given, holdout, kfold

__all__ = [
    "BoundedCache",
    "Case",
    "Cases",
    "CasesOptions",
    "CheckedData",
    "Fold",
    "Grouping",
    "MaskCoding",
    "Only",
    "Split",
    "given",
    "holdout",
    "kfold",
]
