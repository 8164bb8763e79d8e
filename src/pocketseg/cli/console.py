"""How the command line speaks: results to standard output, everything else to standard error."""

from __future__ import annotations

import codecs
import io
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from pocketseg.names import printable

ESCAPED = "pocketseg.escaped"
# Of an image, where a size is given by hand: above every scanner's, and products of two still fit everywhere.
MAX_SIDE = 32_768

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def any_encoding() -> None:
    """What the encoding of standard output or error does not have is shown as JSON writes it; so JSON stays JSON."""
    codecs.register_error(ESCAPED, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPED)


def _escaped(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return json.dumps(error.object[error.start : error.end])[1:-1], error.end


def _shown(text: str, keep: str = "") -> str:
    """Text for a terminal: names of files, classes and models neither steer it nor are read as markup."""
    return escape(printable(text, keep))


def speak(message: str) -> None:
    """A line of result, or several."""
    out.print(_shown(message, keep="\n"))
    logging.getLogger("pocketseg").debug("%s", message)


def log_to_terminal() -> None:
    """Show what the package logs."""
    logger = logging.getLogger("pocketseg")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers[:] = [_Handler(logging.INFO)]


class _Handler(logging.Handler):
    """Log lines above the live table; only what is not information is called by its level."""

    def emit(self, record: logging.LogRecord) -> None:
        # The live table shows the epochs.
        if err.is_terminal and record.name == "pocketseg.epochs":
            return
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        err.print(_shown(level + record.getMessage()))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as its cells: nothing is cut, whatever the terminal says of its width."""
    grid = Table(title=_shown(title), title_justify="left")
    for index, column in enumerate(columns):
        grid.add_column(_shown(column), justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*map(_shown, row))
    needed = Console(width=1000).measure(grid).maximum
    console = Console(width=max(needed, out.width), highlight=False)
    console.print(grid)
    with console.capture() as text:
        console.print(grid)
    logging.getLogger("pocketseg").debug("%s", text.get().rstrip())


class Bars:
    """Progress bars on a terminal, nothing elsewhere; a bar goes when it is full."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, of: int) -> None:
        """One bar for each thing that takes long."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(_shown(what), total=of)
        self.progress.update(self.tasks[what], completed=done, total=of)
        if done >= of:
            self.progress.remove_task(self.tasks.pop(what))

    def of(self, what: str) -> Callable[[int, int], None]:
        return lambda done, of: self(what, done, of)


@dataclass
class StageRow:
    """A row of the live table: how far a stage is, and how it is doing."""

    stage: str
    epochs: int
    steps: int
    done: int
    first: int
    began: float
    epoch_began: float
    now: float
    images: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    rate: float = math.nan
    dice: float = math.nan

    def cells(self) -> list[str]:
        """As in `StageTable.COLUMNS`; what is not known so far is a dash."""
        epoch = f"{min(self.epochs, self.done // self.steps + 1)}/{self.epochs}" if self.epochs else "–"
        means = {name: total / self.images for name, total in self.sums.items()} if self.images else {}
        parts = "  ".join(f"{name} {value:.3f}" for name, value in means.items() if name != "loss")
        speed = self.images / max(self.now - self.epoch_began, 1e-9)
        loss = f"{means['loss']:.3f}" if means else "–"
        return [
            self.stage, epoch, loss, parts or "–", "–" if math.isnan(self.dice) else f"{self.dice:.3f}",
            "–" if math.isnan(self.rate) else f"{self.rate:.2e}", f"{speed:.1f}" if self.images else "–", self.left(),
        ]  # fmt: skip

    def left(self) -> str:
        """Hours, minutes and seconds to the end of the stage, at the pace since it began."""
        of, done = self.epochs * self.steps, self.done - self.first
        if self.done >= of:
            return "done"
        if not done:
            return "–"
        seconds = round((self.now - self.began) / done * (of - self.done))
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


class StageTable(Bars):
    """The listener of the terminal: a row for each stage, the bars below."""

    COLUMNS = ("stage", "epoch", "loss", "by part", "val Dice", "learning rate", "images/s", "left")
    ROWS = 12

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(progress)
        self.clock = clock
        self.rows: list[StageRow] = []

    def stage_begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        now = self.clock()
        self.rows.append(StageRow(stage, epochs, steps, epoch * steps, epoch * steps, now, now, now))

    def step_ends(
        self, epoch: int, step: int, images: int, loss: float, parts: Mapping[str, float], rate: float
    ) -> None:
        row = self.rows[-1]
        if row.done % row.steps == 0:
            row.images, row.sums, row.epoch_began = 0, {}, row.now
        row.done, row.now, row.rate = epoch * row.steps + step, self.clock(), rate
        row.images += images
        for name, value in {"loss": loss, **parts}.items():
            row.sums[name] = row.sums.get(name, 0.0) + value * images

    def epoch_ends(self, found: Mapping[str, float]) -> None:
        row = self.rows[-1]
        row.dice, row.now = found.get("val_dice", row.dice), self.clock()

    def __rich__(self) -> Group:
        grid = Table(box=None, pad_edge=False)
        for index, column in enumerate(self.COLUMNS):
            grid.add_column(column, justify="left" if index in (0, 3) else "right", no_wrap=True)
        for row in self.rows[-self.ROWS :]:
            grid.add_row(*map(_shown, row.cells()))
        return Group(*([grid] if self.rows else []), self.progress)


@contextmanager
def bars() -> Iterator[StageTable]:
    """A live table and bars for the length of a block; without a terminal the log's lines are all."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
    )
    shown = StageTable(progress)
    if not err.is_terminal:
        yield shown
        return
    with Live(shown, console=err, refresh_per_second=4):
        yield shown
