"""`pocketseg report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    run: Annotated[Path, typer.Argument(help="Run folder.")],
    out: Annotated[Path | None, typer.Option(help="The page (default: RUN/report.html).")] = None,
    fold: Annotated[int, typer.Option(help="The fold whose cases are shown.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Where the run's data lies now, if it was moved.")] = None,
) -> None:
    """Write one self-contained HTML page about a run.

    Example:

        pocketseg report runs/first
    """
    from pocketseg.flows.report import report

    console.log_to_terminal()
    console.speak(str(report(run, out=out, fold=fold, data=data)))
