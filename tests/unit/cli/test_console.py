import io
import json
import logging
import os
import subprocess
import sys

import pytest
from rich.console import Console
from rich.progress import Progress

from pocketseg.cli import console
from pocketseg.cli.console import StageTable


@pytest.fixture
def shown():
    """A live table whose clock stands still until it is reported."""
    clock = {"now": 0.0}
    table = StageTable(Progress(), lambda: clock["now"])

    def at(seconds: float) -> StageTable:
        clock["now"] = seconds
        return table

    return at


def text(table: StageTable) -> str:
    out = Console(file=io.StringIO(), width=200, force_terminal=False)
    out.print(table)
    return out.file.getvalue()


def test_a_row_of_the_live_table(shown):
    shown(0).stage_begins("float", 0, 3, 2)
    assert shown(0).rows[0].cells() == ["float", "1/3", "–", "–", "–", "–", "–", "–"]
    shown(1).step_ends(0, 1, 8, 2.0, {"bce": 0.5, "dice": 1.5}, 0.002)
    shown(2).step_ends(0, 2, 4, 1.0, {"bce": 0.25, "dice": 0.75}, 0.001)
    # Means over images: (8·2 + 4·1) / 12; 12 images in 2 s; four steps are left at 1 s each.
    bce, dice = (8 * 0.5 + 4 * 0.25) / 12, (8 * 1.5 + 4 * 0.75) / 12
    parts = f"bce {bce:.3f}  dice {dice:.3f}"
    assert shown(2).rows[0].cells() == ["float", "2/3", "1.667", parts, "–", "1.00e-03", "6.0", "0:00:04"]
    shown(3).epoch_ends({"epoch": 0, "val_dice": 0.75})
    shown(5).step_ends(1, 1, 8, 0.5, {"bce": 0.5}, 0.001)
    cells = shown(5).rows[0].cells()
    assert cells[2:5] == ["0.500", "bce 0.500", "0.750"], "an epoch's means begin again"
    assert cells[6:] == ["4.0", "0:00:05"]
    for text_of_row in ("float", "0.750", "by part", "learning rate", "images/s", "left"):
        assert text_of_row in text(shown(5))


def test_the_last_step_is_done(shown):
    shown(0).stage_begins("a", 0, 1, 1)
    shown(1).step_ends(0, 1, 2, 1.0, {"bce": 1.0}, 0.1)
    assert shown(1).rows[0].cells()[1] == "1/1" and shown(1).rows[0].left() == "done"


def test_a_resumed_stage_counts_its_own_pace(shown):
    shown(10).stage_begins("a", 8, 10, 4)
    shown(12).step_ends(8, 1, 2, 1.0, {"bce": 1.0}, 0.1)
    assert shown(12).rows[0].left() == "0:00:14"


def test_stages_without_epochs_and_names_like_markup(shown):
    shown(0).stage_begins("[red]fold 1", 0, 0, 3)
    shown(1).epoch_ends({"epoch": 0, "val_dice": 0.5})
    assert shown(1).rows[0].cells()[1] == "–" and shown(1).rows[0].left() == "done"
    assert "[red]fold 1" in text(shown(1))


def test_only_the_last_stages_are_shown(shown):
    for number in range(30):
        shown(0).stage_begins(f"stage-{number}", 0, 1, 1)
    assert "stage-29" in text(shown(0)) and "stage-3 " not in text(shown(0))


def test_a_full_bar_goes(shown):
    shown(0)("reading", 1, 2)
    assert "reading" in text(shown(0))
    shown(0)("reading", 2, 2)
    assert "reading" not in text(shown(0)) and not shown(0).tasks
    shown(0)("reading", 1, 2)
    assert "reading" in text(shown(0))


@pytest.mark.parametrize("terminal", [True, False])
def test_epoch_lines_are_for_files_and_pipes(monkeypatch, terminal):
    out = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    monkeypatch.setattr(console, "err", out)
    logger = logging.getLogger("pocketseg")
    console.log_to_terminal()
    logging.getLogger("pocketseg.epochs").info("epoch 1/2")
    logger.info("resuming")
    logger.debug("for the log")
    assert "resuming" in out.file.getvalue() and "for the log" not in out.file.getvalue()
    assert ("epoch 1/2" in out.file.getvalue()) is not terminal


def test_what_is_said_goes_to_the_log(caplog, capsys):
    with caplog.at_level(logging.DEBUG, logger="pocketseg"):
        console.speak("report: [here]")
        console.table("Results", ["run", "Dice"], [["first", "0.5"]])
    assert "report: [here]" in caplog.text and "first" in caplog.text and "Results" in caplog.text


HOSTILE = "a\x1b[31mred\x1b]0;owned\x07\rb\x9b2J"


@pytest.mark.row("A19")
def test_no_name_steers_the_terminal(capsys):
    console.speak(HOSTILE)
    console.table(HOSTILE, ["name", HOSTILE], [[HOSTILE, "[red]"]])
    console.log_to_terminal()
    logging.getLogger("pocketseg").warning("%s\n%s", HOSTILE, "second")
    shown = "".join(capsys.readouterr())
    assert "a\\x1b[31mred" in shown and "[red]" in shown
    assert not [sign for sign in shown if not sign.isprintable() and sign != "\n"]
    assert "\\nsecond" in shown, "a log line stays one"


@pytest.mark.row("F25")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_shown_as_json_does(encoding):
    text = {"name": "größe 病 😀 \udcff →"}
    code = "import json, sys; from pocketseg.cli import console; console.any_encoding(); "
    code += f"print(json.dumps({text!a}, ensure_ascii=False)); console.speak({text['name']!a})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0].decode(encoding)) == text
