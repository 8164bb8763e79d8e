"""`history`: the columns of a training over a range of its epochs, in a few numbers."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pocketseg import notebook
from pocketseg.errors import RunError, near
from pocketseg.runs.folder import RunFolder, evaluated_runs
from pocketseg.runs.history import read_history
from pocketseg.text import brief, counted

COLUMNS = ["run", "fold", "stage", "column", "epochs", "mean", "standard deviation", "lowest", "highest", "last"]
EPOCH = "epoch"


@dataclass(frozen=True)
class ColumnRange:
    """A column of a stage over a range of epochs.

    Attributes:
        run, fold, stage, column: what it is of.
        epochs: that have a value.
        mean, standard_deviation: over them; of one epoch there is no deviation (None).
        lowest, highest: and in which epoch, the first of several.
        last: value of the last of them.
    """

    run: str
    fold: int
    stage: str
    column: str
    epochs: int
    mean: float
    standard_deviation: float | None
    lowest: tuple[float, int]
    highest: tuple[float, int]
    last: float

    def cells(self) -> list[str]:
        """The cells of `COLUMNS`."""
        deviation = "–" if self.standard_deviation is None else f"{self.standard_deviation:.4g}"
        low, high = (f"{value:.4g} (epoch {epoch})" for value, epoch in (self.lowest, self.highest))
        return [
            self.run, str(self.fold), self.stage, self.column, str(self.epochs), f"{self.mean:.4g}", deviation,
            low, high, f"{self.last:.4g}",
        ]  # fmt: skip


@dataclass(frozen=True, repr=False)
class History:
    """Every column of every stage over the range."""

    rows: list[ColumnRange]

    def json(self) -> str:
        """Numbers in full."""
        return json.dumps([asdict(row) for row in self.rows], indent=1) + "\n"

    def __repr__(self) -> str:
        return brief(
            self, f"{counted(len(self.rows), 'column')} of {', '.join(dict.fromkeys(r.run for r in self.rows))}"
        )

    def _repr_html_(self) -> str:
        """The table of the command line, for notebooks."""
        return notebook.table(COLUMNS, [row.cells() for row in self.rows])


def history(
    *runs: str | Path, epochs: tuple[int, int] | None = None, columns: Sequence[str] = (), fold: int | None = None
) -> History:
    """Mean, lowest and highest value of columns of `history.csv` over a range of epochs.

    Args:
        runs: run folders, or the folder of a sweep.
        epochs: the first and the last, counted from 1; default all.
        columns: names of columns, such as val_dice; default all but the epoch.
        fold: only this one.

    Raises:
        RunError: no run, no such column or fold, or no epoch in the range.
    """
    if epochs is not None and not 0 <= epochs[0] <= epochs[1]:
        raise RunError("--epochs {} {}".format(*epochs), "is no range", "give the first and the last epoch")
    found: list[ColumnRange] = []
    for path in (each for run in runs for each in evaluated_runs(Path(run))):
        run = RunFolder.existing(path)
        for number in run.folds() if fold is None else [fold]:
            for stage in run.recipe().stages:
                found += _of_stage(run, number, stage.name, epochs, columns)
    if not found:
        where = ", ".join(map(str, runs))
        fold_said = "" if fold is None else f" of fold {fold}"
        range_said = "" if epochs is None else " from {} to {}".format(*epochs)
        raise RunError(where, f"has no epoch{range_said}{fold_said}", "choose another range, or train longer")
    return History(found)


def _of_stage(
    run: RunFolder, fold: int, stage: str, epochs: tuple[int, int] | None, columns: Sequence[str]
) -> list[ColumnRange]:
    file = run.stage(fold, stage).history
    rows = read_history(file)
    known = [key for key in (rows[0] if rows else {}) if key != EPOCH]
    for name in columns:
        if rows and name not in known:
            raise RunError(str(file), f"has no column {name!r}", near(name, known))
    low, high = epochs or (0, math.inf)
    chosen = [row for row in rows if low <= row[EPOCH] <= high]
    found = []
    for name in columns or known:
        values = [(row[name], int(row[EPOCH])) for row in chosen if math.isfinite(row[name])]
        if values:
            numbers = [value for value, _ in values]
            found.append(
                ColumnRange(
                    run.path.name, fold, stage, name, len(values), statistics.fmean(numbers),
                    statistics.stdev(numbers) if len(numbers) > 1 else None,
                    min(values), max(values, key=lambda each: (each[0], -each[1])), numbers[-1],
                )
            )  # fmt: skip
    return found
