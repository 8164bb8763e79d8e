"""`pocketseg report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode, Device
from pocketseg.errors import RunError


def command(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, folders of stages, or the folder of a sweep.")],
    compare: Annotated[bool, typer.Option("--compare", help="One page with all of them side by side.")] = False,
    compare_to: Annotated[
        str | None, typer.Option(help="The model that others are held against (default: the first).")
    ] = None,
    format: Annotated[Literal["html", "markdown", "json", "csv"], typer.Option(help="Of CSV, a folder.")] = "html",
    out: Annotated[
        Path | None, typer.Option(help="The file (default: RUN/report.html, or comparison.html beside the first run).")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="Only this fold (default: all that are evaluated).")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the data lies now, if it was moved.")] = None,
    pictures: Annotated[bool, typer.Option("--pictures/--no-pictures", help="Show pictures of cases.")] = True,
    set_: Annotated[
        list[str],
        typer.Option("--set", help="card.KEY=VALUE: intended_use, not_intended_use, limits, contact, folders."),
    ] = [],  # noqa: B006
    device: Device = "cpu",
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Write the report of a run, of each run of a sweep, or of several side by side.

    One file that loads nothing. Cases appear under ids; the key to them stays in case-ids.csv of the run.

    Examples:

        pocketseg report runs/first

        pocketseg report runs/first runs/second runs/third --compare

        pocketseg report runs/first --format json --set card.intended_use='research on thyroid ultrasound'
    """
    from pocketseg.flows.report import SUFFIXES, report
    from pocketseg.runs.folder import evaluated_runs

    console.log_to_terminal()
    found = [each for run in runs for each in evaluated_runs(run)]
    together = compare or compare_to is not None
    if together and len(found) < 2 and compare_to is None:
        raise RunError("--compare", f"has {len(found)} run to compare", "give several run folders, or a sweep")
    if out is not None and not together and found != runs[:1]:
        raise RunError(
            "--out", f"names one file for {len(found)} reports", "leave it out, add --compare, or give one run"
        )
    if together and out is None and len(runs) == 1 and found != runs:
        out = runs[0] / f"comparison{SUFFIXES[format]}"
    with console.bars() as bars:
        for some in [found] if together else [[each] for each in found]:
            page = report(
                *some,
                out=out,
                form=format,
                fold=fold,
                data=data,
                baseline=compare_to,
                pictures=pictures,
                device=device,
                overrides=set_,
                progress=bars.of("report"),
            )
            console.speak(str(page))
