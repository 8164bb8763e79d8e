"""Run lengths in a CSV file whose pixels are numbered along the rows; never detected, since a file does not say so."""

from __future__ import annotations

from pathlib import Path

from pocketseg.data.layouts import rle_csv
from pocketseg.data.layouts.listing import Listing

NAME = "rle-csv-rows"
LOOKS_LIKE = "as rle-csv, pixels numbered along the rows (only by name: data.layout=rle-csv-rows)"


def matches(_: Path) -> bool:
    return False


def find(root: Path) -> Listing:
    return rle_csv.find(root, by_rows=True)
