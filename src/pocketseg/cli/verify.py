"""`pocketseg verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(model: Annotated[Path, typer.Argument(help="Packed model, model.pseg, or a run folder.")]) -> None:
    """Tell whether a packed model computes here what it computed where it was packed. Needs no image.

    Examples:

        pocketseg verify model.pseg

        pocketseg verify runs/first
    """
    from pocketseg.flows.verify import verify

    console.log_to_terminal()
    console.speak(f"{model}: {verify(model).text}")
