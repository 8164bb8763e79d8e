"""What the benchmarks share that fill tables of the docs."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pocketseg.evaluation import CaseScore, read_scores
from pocketseg.metrics import paired_difference


def difference(first: Sequence[Path], second: Sequence[Path]) -> list[float]:
    """Mean of the Dice differences case by case, second minus first, with its 95 % interval over groups.

    Args:
        first, second: tables of the same cases, one a seed or fold; a case counts with its mean over the seeds.
    """
    groups = {row.case: row.group for file in first for row in read_scores(file)}
    before, after = (_over_seeds([read_scores(file) for file in files]) for files in (first, second))
    if before.keys() != after.keys():
        raise SystemExit(f"{first[0]} and {second[0]} are tables of other cases")
    found = paired_difference(
        list(before.values()), [after[case] for case in before], [groups[case] for case in before]
    )
    return [round(value, 4) for value in (found.mean, found.low, found.high)]


def _over_seeds(tables: Sequence[Sequence[CaseScore]]) -> dict[str, float]:
    """The Dice of each case with foreground, the mean over tables."""
    found: dict[str, list[float]] = {}
    for row in itertools.chain(*tables):
        if row.reference_pixels:
            found.setdefault(row.case, []).append(row.dice)
    return {case: statistics.fmean(values) for case, values in found.items()}


def points(found: list[float] | None) -> str:
    """A difference in Dice points with its interval."""
    if found is None:
        return ""
    mean, low, high = (f"{100 * value:+.1f}".replace("-", "−") for value in found)
    return f"{mean} ({low} to {high})"


def append_line(file: Path, line: dict[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]


def put_table(page: Path, table: str, name: str = "table") -> None:
    """Write a table between its two marks in a page: `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    page.write_text(f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}", encoding="utf-8")
