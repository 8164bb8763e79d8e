"""The live table: its numbers, its width, and who shows it."""

import io
import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress

from pocketseg import live
from pocketseg.cli.console import log_to_terminal
from pocketseg.live import StageTable, bars_of


@pytest.fixture
def shown():
    """A live table whose clock stands still until it is set."""
    clock = {"now": 0.0}
    table = StageTable(Progress(), lambda: clock["now"])

    def at(seconds: float) -> StageTable:
        clock["now"] = seconds
        return table

    return at


def text(table: StageTable, width: int = 200) -> str:
    out = Console(file=io.StringIO(), width=width, force_terminal=False)
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


def test_an_epoch_without_validation_keeps_the_score_before(shown):
    """`validate_every` of a recipe."""
    shown(0).stage_begins("float", 0, 3, 1)
    shown(1).epoch_ends({"epoch": 1, "loss": 1.0})
    assert shown(1).rows[0].cells()[4] == "–"
    shown(2).epoch_ends({"epoch": 2, "loss": 1.0, "val_dice": 0.5})
    shown(3).epoch_ends({"epoch": 3, "loss": 1.0})
    assert shown(3).rows[0].cells()[4] == "0.500"


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
    monkeypatch.setattr("pocketseg.terminal.err", out)
    logger = logging.getLogger("pocketseg")
    log_to_terminal()
    logging.getLogger("pocketseg.epochs").info("epoch 1/2")
    logger.info("resuming")
    logger.debug("for the log")
    assert "resuming" in out.file.getvalue() and "for the log" not in out.file.getvalue()
    assert ("epoch 1/2" in out.file.getvalue()) is not terminal


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_terminal_shows_fewer_columns_and_whole_numbers(width):
    clock = iter(range(100))
    out = Console(file=io.StringIO(), width=width)
    table = StageTable(bars_of(out), lambda: next(clock))
    table.stage_begins("width=8,lr=0.002, fold 0, float of a long name", 0, 120, 250)
    table.step_ends(0, 1, 8, 2.125, {"bce": 0.5, "dice": 1.5, "boundary": 0.125}, 0.002)
    table.epoch_ends({"epoch": 0, "val_dice": 0.75})
    table("evaluating float, test, which takes very long", 1, 200)
    out.print(table)
    lines = out.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width, lines
    assert lines[1].split()[-3 - (width == 100) :] == ["2.125", "0.750", *["4.0"] * (width == 100), "16:39:58"]
    assert "1/120" in lines[1] and "by part" not in lines[0] and ("images/s" in lines[0]) is (width == 100)
    assert lines[-1].split()[-3:] == ["1/200", "0:00:00", "-:--:--"]


def test_a_notebook_shows_the_table_in_one_place(monkeypatch):
    """`display` of IPython, as its documentation has it: an object with a place that can be updated."""
    drawn = []
    place = SimpleNamespace(update=lambda table: drawn.append(table._repr_html_()))
    module = ModuleType("IPython.display")
    module.display = lambda table, display_id: place
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(live.err, "is_jupyter", True)
    with live.watched() as table:
        table.EVERY_S = 0
        table.stage_begins("<b>", 0, 3, 2)
        table.step_ends(0, 1, 8, 2.0, {"bce": 0.5}, 0.002)
        table("reading", 1, 4)
    assert "&lt;b&gt;" in drawn[-1] and "<b>" not in drawn[-1] and "2.000" in drawn[-1]
    assert "<p>reading: 1 of 4</p>" in drawn[-1] and "<script" not in drawn[-1]


def test_a_program_that_said_nothing_of_its_log_sees_lines(monkeypatch):
    out = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr("pocketseg.terminal.err", out)
    logger = logging.getLogger("pocketseg")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", False)
    with live.watched():
        logging.getLogger("pocketseg.epochs").info("epoch 1/2")
    logger.warning("afterwards")
    assert out.file.getvalue() == "epoch 1/2\n" and not logger.handlers


def test_a_program_that_has_a_log_keeps_it(monkeypatch):
    out = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr("pocketseg.terminal.err", out)
    logger = logging.getLogger("pocketseg")
    own = logging.NullHandler()
    monkeypatch.setattr(logger, "handlers", [own])
    with live.watched():
        assert logger.handlers == [own]
        logger.info("epoch 1/2")
    assert out.file.getvalue() == ""
