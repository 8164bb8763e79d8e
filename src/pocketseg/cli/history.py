"""`pocketseg history`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or the folder of a sweep.")],
    epochs: Annotated[
        tuple[int, int] | None, typer.Option(min=0, help="FIRST LAST epoch, counted from 1 (default: all).")
    ] = None,
    column: Annotated[
        list[str], typer.Option(help="Of history.csv, such as val_dice; repeatable (default: all).")
    ] = [],  # noqa: B006
    fold: Annotated[int | None, typer.Option(help="Only this fold.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Mean, lowest and highest value of every column of a training over a range of epochs.

    Examples:

        pocketseg history runs/first --epochs 40 60

        pocketseg history runs/first runs/second --epochs 150 200 --column val_dice --column val_loss
    """
    from pocketseg.flows.history import COLUMNS, history

    console.log_to_terminal()
    found = history(*runs, epochs=epochs, columns=column, fold=fold)
    if as_json:
        print(found.json(), end="")
        return
    console.table("History", COLUMNS, [row.cells() for row in found.rows], keys=4)
