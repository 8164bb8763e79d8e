"""What commands say in a terminal of 80 columns, and of 60: no line is longer, and no number is cut."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys

import pytest
from rich.console import Console

from helpers.commands import overrides
from pocketseg.cli import console
from pocketseg.cli.verbs import app

# What is left whole to be copied.
COPIED = re.compile(r"next: |\S+$|\w+: +\S+$")


@pytest.fixture
def said(monkeypatch):
    """What a command writes to a terminal of so many columns; where it moves the cursor, a line begins."""

    def run(width: int, *arguments: object) -> str:
        file = io.StringIO()
        terminal = Console(
            file=file, width=width, force_terminal=True, color_system=None, soft_wrap=True, highlight=False
        )
        for place in ("pocketseg.cli.console.out", "pocketseg.terminal.err", "pocketseg.live.err"):
            monkeypatch.setattr(place, terminal)
        app([str(each) for each in arguments], standalone_mode=False)
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "\n", file.getvalue())

    return run


def check(text: str, width: int) -> None:
    long = [line for line in text.splitlines() if len(line) > width and not COPIED.match(line.strip())]
    assert not long, "\n".join(long)
    assert not re.search(r"\d…|…\d", text), text


def numbers(text: str) -> set[str]:
    """Numbers of a text but for those of bars, whose lines have times."""
    return {
        each
        for line in text.splitlines()
        if not re.search(r"\d:\d\d", line)
        for each in re.findall(r"\d[\d.,]*\d|\d", line)
    }


@pytest.mark.whole
@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize(
    "verb", ["evaluate", "compare", "inspect", "inspect packed", "doctor", "recipes", "layouts", "predict"]
)
def test_what_a_narrow_terminal_shows_is_all_there(said, trained_run, phantom_data, tmp_path, verb, width):
    packed = trained_run / "fold-0/model.pseg"
    evaluate = ["evaluate", packed, phantom_data, "--split", trained_run / "split.json", "--out", tmp_path / "scores"]
    words = {
        "evaluate": evaluate,
        "compare": [*evaluate, "--metrics", "dice,hd95,surface_dice", "--against", tmp_path / "scores"],
        "inspect": ["inspect", "thin_unet"],
        "inspect packed": ["inspect", packed],
        "doctor": ["doctor", phantom_data],
        "recipes": ["recipes"],
        "layouts": ["data", "layouts"],
        "predict": ["predict", packed, phantom_data / "images", "--out", tmp_path / "masks"],
    }[verb]
    if verb == "compare":
        said(200, *evaluate, "--metrics", "dice,hd95,surface_dice")
    wide, narrow = said(1000, *words), said(width, *words)
    check(narrow, width)
    assert numbers(wide) <= numbers(narrow) and len(wide) > 60


@pytest.mark.parametrize("width", [60, 80])
def test_benchmark(said, trained_run, width):
    packed = trained_run / "fold-0/model.pseg"
    text = said(width, "benchmark", packed, trained_run, "--turns", 1, "--turn-seconds", 0.01, "--size", 32, 32)
    check(text, width)
    assert "file to mask ms" in text and "quartiles" in text


@pytest.mark.slow("trainings, with their report")
def test_train_and_sweep(said, phantom_data, tmp_path):
    values = overrides("stages.0.epochs=1")
    text = said(80, "train", "demo", "--data", phantom_data, "--out", tmp_path / "run", "--device", "cpu", *values)
    check(text, 80)
    assert "val Dice" in text and "Dice with empty" in text and "report:" in text
    assert (tmp_path / "run/report.html").exists()
    sweep = ["--set", "sweep.seed=[0,1]"]
    text = said(60, "train", "demo", "--data", phantom_data, "--out", tmp_path / "two", *values, *sweep)
    check(text, 60)
    assert "false alarms" in text and "seed" in text
    for log in tmp_path.rglob("log.txt"):
        assert "x1b" not in log.read_text() and "\x1b" not in log.read_text(), log


def test_log_files_hold_tables_without_escape_codes(monkeypatch, tmp_path):
    from pocketseg.runs.folder import RunFolder

    out = Console(file=io.StringIO(), width=60, force_terminal=True, color_system="truecolor")
    monkeypatch.setattr(console, "out", out)
    with RunFolder(tmp_path).logged():
        console.table("Results", ["run", *"abcdefg"], [["first", *["0.123456"] * 7], ["second", *["0.2"] * 7]])
    text = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert "\x1b" in out.file.getvalue() and "x1b" not in text and "[3m" not in text
    assert "│ first  │ 0.123456 │ 0.123456 │" in text, "a file has the table in one piece"


def test_a_pipe_gets_whole_tables(trained_run, phantom_data, tmp_path):
    """Whatever width the surroundings speak of: nothing is cut for a file."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    for columns in ({}, {"COLUMNS": "40"}):
        done = subprocess.run(
            [sys.executable, "-m", "pocketseg.cli.main", "evaluate", trained_run, phantom_data, "--out", tmp_path],
            capture_output=True, text=True, env={**environment, **columns}, check=True,
        )  # fmt: skip
        heads = [line for line in done.stdout.splitlines() if "95 % interval" in line]
        assert len(heads) == 2 and "Dice with empty" in heads[0] and "mean without misses" in heads[1], done.stdout
