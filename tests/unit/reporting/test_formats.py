"""Four forms of one report: what one of them says the others say too."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest

from pocketseg.reporting import (
    Axis,
    Chart,
    Code,
    Column,
    Highlights,
    Interval,
    Notes,
    Properties,
    Report,
    Section,
    Series,
    Table,
    write_report,
)
from pocketseg.reporting.document import shown
from pocketseg.reporting.formats import as_csv, as_json, markdown
from pocketseg.reporting.page import render

TABLE = Table(
    "Models | and more",
    [Column("model"), Column("Dice"), Column("95 %"), Column("change", signed=True), Column("p", least=0.001)],
    [
        ["a|b *c*", 0.123456, Interval(0.1, 0.2), -0.25, 0.00001],
        ["nan", math.nan, Interval(math.nan, math.nan), None, 0.5],
        ["third", math.inf, Interval(0.5, math.inf), 0.25, 0.04],
    ],
    "a note",
)
CHART = Chart("Curve", "It rises.", Axis("x"), Axis("y"), [Series("one", [(1.0, 0.25), (2.0, 0.75)])])


def report() -> Report:
    items = [
        Highlights([("Dice", "0.84", "of 9")]),
        Properties("Use", [("Intended use", "research")]),
        TABLE,
        CHART,
        Notes("Limits", ["One `site` only."]),
        Code("Commands", "echo ```\n"),
    ]
    return Report("Title", "sub", [Section("all", "Everything", items), Section("none", "Nothing", [])])


@pytest.mark.parametrize("write", [render, markdown])
def test_every_cell_reads_the_same_in_html_and_markdown(write) -> None:
    text = write(report()).replace("\\", "").replace("&lt;", "<")
    for row in TABLE.rows:
        for cell, column in zip(row, TABLE.columns, strict=True):
            assert shown(cell, column) in text
    for words in ("0.123", "0.100 to 0.200", "−0.250", "+0.250", "< 0.001", "∞", "It rises.", "research", "0.84"):
        assert words in text, words
    assert "Nothing" not in text, "an empty section is left out"


def test_json_has_all_digits_and_no_nan() -> None:
    content = json.loads(as_json(report()))
    [section] = content["sections"]
    table = next(item for item in section["items"] if item["kind"] == "table")
    assert table["rows"][0] == ["a|b *c*", 0.123456, [0.1, 0.2], -0.25, 0.00001]
    assert table["rows"][1] == ["nan", None, [None, None], None, 0.5]
    chart = next(item for item in section["items"] if item["kind"] == "chart")
    assert chart["series"][0]["points"] == [[1.0, 0.25], [2.0, 0.75]]
    assert "NaN" not in as_json(report()) and "Infinity" not in as_json(report())


def test_csv_has_two_columns_for_an_interval_and_nothing_for_no_value() -> None:
    head, *rows = csv.reader(io.StringIO(as_csv(TABLE)))
    assert head == ["model", "Dice", "95 % low", "95 % high", "change", "p"]
    assert rows[0] == ["a|b *c*", "0.123456", "0.1", "0.2", "-0.25", "1e-05"]
    assert rows[1] == ["nan", "", "", "", "", "0.5"]


def test_csv_is_a_file_for_each_table_and_chart(tmp_path: Path) -> None:
    twice = Report("t", "", [Section("s", "S", [TABLE, TABLE, CHART, Properties("Use", [("a", "b")])])])
    write_report(twice, tmp_path / "out", "csv")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["s-curve.csv", "s-models-and-more-2.csv", "s-models-and-more.csv", "s-use.csv"]
    assert (tmp_path / "out/s-curve.csv").read_text() == "x,one\n1,0.25\n2,0.75\n"


def test_markdown_stays_a_table_whatever_stands_in_it() -> None:
    lines = markdown(report()).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| model"))
    rows = lines[start : start + 5]
    assert {line.replace("\\|", "").count("|") for line in rows} == {6}
    assert rows[1] == "| :-- | --: | --: | --: | --: |"
    assert r"a\|b \*c\*" in rows[2]
    assert "````\necho ```\n````" in markdown(report()), "a fence longer than those inside"
