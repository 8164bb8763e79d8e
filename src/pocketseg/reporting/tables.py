"""What a report is made of: plain tables, numbers and pictures that a flow hands over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Panel:
    """One picture of a case.

    Args:
        title: what the case is called; any text.
        caption: what is said about it, such as "Dice 0.93".
        image: (h, w) or (h, w, 3), any dtype; stretched to 0..255 for display.
        truth: (h, w) class indices, or None where no reference exists.
        prediction: (h, w) class indices.
    """

    title: str
    caption: str
    image: NDArray[Any]
    truth: NDArray[np.uint8] | None
    prediction: NDArray[np.uint8]


@dataclass(frozen=True)
class Table:
    """Cells as they shall read; the first column names the row. "nan" is shown as a dash, "inf" as ∞."""

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class StageCurves:
    """The rows of `history.csv`: epoch, lr, loss, the parts of the loss, val_loss, val_dice, val_iou."""

    title: str
    history: list[dict[str, float]]


@dataclass(frozen=True)
class Report:
    """Everything the page shows, in the order in which it is shown.

    Args:
        title: of the page.
        subtitle: net, data, date.
        facts: (what, value) of the summary, as in a model card.
        tables: results, one table a part or class.
        dice: part -> Dice of its cases with foreground; nan is left out of the histogram and counted beside it.
        curves: one a stage.
        best, median, worst: example cases.
        cases: one row a case.
        recipe: YAML.
        reproduce: commands.
        notes: limits, and how things are counted.
        class_names: names of the classes 1, 2, … for the legend.
        nets: (what it is, PNG) of drawings of the net.
    """

    title: str
    subtitle: str
    facts: list[tuple[str, str]]
    tables: list[Table]
    dice: dict[str, list[float]]
    curves: list[StageCurves]
    best: list[Panel]
    median: list[Panel]
    worst: list[Panel]
    cases: Table
    recipe: str
    reproduce: list[str]
    notes: list[str]
    class_names: Sequence[str] = field(default=())
    nets: Sequence[tuple[str, bytes]] = field(default=())


def class_name(index: int, class_names: Sequence[str]) -> str:
    """The name of the class 1, 2, …"""
    return class_names[index - 1] if index <= len(class_names) else f"class {index}"
