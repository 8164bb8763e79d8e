"""What a stage wrote down while it was trained."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from pocketseg.errors import RunError


def read_history(path: Path) -> list[dict[str, float]]:
    """Rows of a stage's history.csv, or of its timings.csv; none where it is not there, nan where a cell is empty.

    Raises:
        RunError: it is damaged.
    """
    try:
        # A row that was cut off by a kill has no end of line.
        text = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.exists() else ""
        return [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(io.StringIO(text))]
    except (OSError, ValueError, TypeError) as error:
        raise RunError(str(path), f"is damaged ({error})", "restore it from a copy, or remove it") from error
