"""How the command line speaks: results to standard output, everything else to standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
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

out = Console(soft_wrap=True, highlight=False)
err = Console(stderr=True, soft_wrap=True, highlight=False)


def speak(message: str) -> None:
    """A line of result; nothing in it is read as markup."""
    out.print(escape(message))


def log_to_terminal() -> None:
    """Show what the package logs."""
    logger = logging.getLogger("pocketseg")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers[:] = [_Handler(logging.INFO)]


class _Handler(logging.Handler):
    """Log lines above the bars; only what is not information is called by its level."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        err.print(escape(level + record.getMessage().replace("\n", "\\n")))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as wide as its cells: nothing is cut, whatever the terminal says of its width."""
    grid = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        grid.add_column(escape(column), justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*map(escape, row))
    needed = Console(width=1000).measure(grid).maximum
    Console(width=max(needed, out.width), highlight=False).print(grid)


class Bars:
    """Progress bars on a terminal, a line now and then elsewhere."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, of: int) -> None:
        """One bar for each thing that takes long."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=of, note="")
        self.progress.update(self.tasks[what], completed=done, total=of)

    def of(self, what: str) -> Callable[[int, int], None]:
        return lambda done, of: self(what, done, of)


class TrainingBars(Bars):
    """Adds a bar for each stage: epoch, loss, validation Dice, images a second, time left."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(progress)
        self.stage = ""
        self.epochs = self.steps = 0
        self.validation = ""

    def stage_begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        self.stage, self.epochs, self.steps, self.validation = f"training {stage}", epochs, steps, ""
        self(self.stage, epoch * steps, epochs * steps)

    def step_ends(self, epoch: int, step: int, images: int, loss: float) -> None:
        self(self.stage, epoch * self.steps + step, self.epochs * self.steps)
        note = f"epoch {epoch + 1}/{self.epochs}  loss {loss:.3f}{self.validation}"
        self.progress.update(self.tasks[self.stage], note=note)

    def epoch_ends(self, row: Mapping[str, float]) -> None:
        self.validation = f"  val Dice {row['val_dice']:.3f}"
        if not self.progress.console.is_terminal:
            text = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "epoch")
            when = f"epoch {int(row['epoch']) + 1}/{self.epochs}" if self.epochs else "as it starts"
            print(f"{when}  {text}", file=sys.stderr, flush=True)


@contextmanager
def bars() -> Iterator[TrainingBars]:
    """Bars for the length of a block; without a terminal they are drawn once, at the end."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        disable=not err.is_terminal,
    )
    with progress:
        yield TrainingBars(progress)
