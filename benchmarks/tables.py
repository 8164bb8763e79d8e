"""What the benchmarks share that fill tables of the docs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pocketseg.evaluation import compare_scores, read_scores

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def difference(first: Path, second: Path) -> list[float]:
    """Mean of the Dice differences of two runs case by case, second minus first, with its 95 % interval over groups."""
    found = compare_scores(*(read_scores(run / "fold-0/cases-test.csv") for run in (first, second)), str(second))
    dice = next(each.difference for each in found if each.metric == "dice")
    return [round(value, 4) for value in (dice.mean, dice.low, dice.high)]


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


def put_table(page: Path, table: str) -> None:
    """Write a table between its two marks in a page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}", encoding="utf-8")
