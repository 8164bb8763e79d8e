"""A training as it goes on: a live table in a terminal or a notebook, lines of the log elsewhere."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from pocketseg import notebook
from pocketseg.terminal import LogLines, err, shown

# Columns of the terminal that a bar takes, and that counts and times take.
BAR, TIMES = 24, 32


def bars_of(console: Console) -> Progress:
    """Bars as wide as a terminal: a narrow one has counts and times alone, and what is too long is cut off names."""
    bar = [BarColumn(bar_width=BAR)] if console.width >= TIMES + 2 * BAR else []
    most = max(console.width - TIMES - (BAR + 1) * len(bar), 8)
    name = TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=most, overflow="ellipsis"))
    return Progress(name, *bar, MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=console)


class Bars:
    """Progress bars on a terminal, nothing elsewhere; a bar goes when it is full."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, of: int) -> None:
        """One bar for each thing that takes long."""
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(shown(what), total=of)
        self.progress.update(self.tasks[what], completed=done, total=of)
        if done >= of:
            self.progress.remove_task(self.tasks.pop(what))
        self.changed()

    def of(self, what: str) -> Callable[[int, int], None]:
        return lambda done, of: self(what, done, of)

    def changed(self) -> None:
        """Something is other than before; a terminal looks by itself."""


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
    """A listener of trainings: a row for each stage, the bars below."""

    COLUMNS = ("stage", "epoch", "loss", "by part", "val Dice", "learning rate", "images/s", "left")
    TEXTS = ("stage", "by part")
    # What a narrow terminal does without, in this order.
    SPARED = ("by part", "learning rate", "images/s")
    ROWS = 12

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(progress)
        self.clock = clock
        self.rows: list[StageRow] = []

    def stage_begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        now = self.clock()
        self.rows.append(StageRow(stage, epochs, steps, epoch * steps, epoch * steps, now, now, now))
        self.changed()

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
        self.changed()

    def epoch_ends(self, found: Mapping[str, float]) -> None:
        row = self.rows[-1]
        row.dice, row.now = found.get("val_dice", row.dice), self.clock()
        self.changed()

    def cells(self) -> list[list[str]]:
        """The last stages, as in `COLUMNS`."""
        return [row.cells() for row in self.rows[-self.ROWS :]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        for spared in range(len(self.SPARED) + 1):
            grid = self._grid(self.SPARED[:spared])
            if console.measure(grid, options=options.update(width=1000)).maximum <= options.max_width:
                break
        yield Group(*([grid] if self.rows else []), self.progress)

    def _grid(self, without: Sequence[str]) -> Table:
        """The table without some columns; names of stages that are too long then take several lines."""
        kept = [index for index, column in enumerate(self.COLUMNS) if column not in without]
        grid = Table(box=None, pad_edge=False)
        for column in (self.COLUMNS[index] for index in kept):
            text = column in self.TEXTS
            grid.add_column(column, justify="left" if text else "right", no_wrap=not text, overflow="fold")
        for cells in self.cells():
            grid.add_row(*(shown(cells[index]) for index in kept))
        return grid


class NotebookTable(StageTable):
    """The same in a notebook, drawn again in its place a few times a second."""

    EVERY_S = 0.5

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(progress, clock)
        self.drawn = clock()
        self.place = import_module("IPython.display").display(self, display_id=True)

    def changed(self) -> None:
        if self.clock() - self.drawn >= self.EVERY_S:
            self.draw()

    def draw(self) -> None:
        self.drawn = self.clock()
        self.place.update(self)

    def _repr_html_(self) -> str:
        stages = notebook.table(self.COLUMNS, self.cells()) if self.rows else ""
        counts = {task.id: f"{task.completed:.0f} of {task.total:.0f}" for task in self.progress.tasks}
        return stages + "".join(notebook.paragraph(f"{what}: {counts[key]}") for what, key in self.tasks.items())

    def __repr__(self) -> str:
        return "\n".join("  ".join(cells) for cells in self.cells()) or "…"


@contextmanager
def watched() -> Iterator[StageTable]:
    """What shows a training for the length of a block: a live table, and the lines of the log.

    Where the program has said what becomes of log lines, that holds.
    """
    progress = bars_of(err)
    with _log_lines():
        if err.is_jupyter:
            shown_in = NotebookTable(progress)
            try:
                yield shown_in
            finally:
                shown_in.draw()
        elif err.is_terminal:
            table = StageTable(progress)
            with Live(table, console=err, refresh_per_second=4):
                yield table
        else:
            yield StageTable(progress)


@contextmanager
def _log_lines() -> Iterator[None]:
    logger = logging.getLogger("pocketseg")
    if logger.hasHandlers():
        yield
        return
    handler, before = LogLines(logging.INFO), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
