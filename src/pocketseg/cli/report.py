"""`pocketseg report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.errors import RunError


def command(
    run: Annotated[Path, typer.Argument(help="Run folder, or folder of a sweep.")],
    out: Annotated[Path | None, typer.Option(help="The page (default: RUN/report.html).")] = None,
    fold: Annotated[int, typer.Option(help="The fold whose cases are shown.")] = 0,
    data: Annotated[Path | None, typer.Option(help="Where the run's data lies now, if it was moved.")] = None,
) -> None:
    """Write one self-contained HTML page about a run, or about each run of a sweep.

    Example:

        pocketseg report runs/first
    """
    from pocketseg.flows.report import report
    from pocketseg.flows.run_folder import judged_runs

    console.log_to_terminal()
    runs = judged_runs(run)
    if out is not None and runs != [run]:
        raise RunError("--out", "names one page, but a sweep has one for each run", "leave it out, or give one run")
    for each in runs:
        console.speak(str(report(each, out=out, fold=fold, data=data)))
