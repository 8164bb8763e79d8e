"""`pocketseg phantom`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.text import counted


def command(
    out: Annotated[Path, typer.Argument(help="New or empty folder.")],
    cases: Annotated[int, typer.Option(help="Number of images.")] = 200,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 128,
    seed: Annotated[int, typer.Option(help="Other seeds give other patients.")] = 0,
) -> None:
    """Make synthetic ultrasound images with masks, to try everything on.

    Example:

        pocketseg phantom phantoms --cases 200 --size 128 --seed 0
    """
    from pocketseg.flows.phantom import phantom

    console.log_to_terminal()
    with console.bars() as bars:
        made = phantom(out, cases=cases, size=size, seed=seed, progress=bars.of("making images"))
    console.speak(f"{counted(cases, 'image[ and its mask|s with masks]')} in {made}")
    console.advise(
        f"pocketseg train thin-unet --data {made} --out runs/phantom "
        "--set data.group_csv=patients.csv --set data.group_column=patient"
    )
