"""`pocketseg recipes convert`, which was `pocketseg convert-config`."""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    config: Annotated[Path | None, typer.Argument(help="The study's config.yaml, with its mapping UNET.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="New file for the recipe (default: print it).")
    ] = None,
    experiment: Annotated[str | None, typer.Option(help="An experiment of the study instead of a file.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the experiments.")] = False,
) -> None:
    """Turn a configuration of the fixed-point study (AskariHemmat et al. 2019) into a recipe.

    Settings without effect, or with another meaning here, are reported and noted in the recipe's comments, with the
    faults that are corrected. `pocketseg train config.yaml …` takes such a file as it is.

    Examples:

        pocketseg recipes convert config.yaml -o recipe.yaml

        pocketseg recipes convert --list

        pocketseg recipes convert --experiment em/a6.0w0.4 -o recipe.yaml
    """
    from pocketseg.flows.convert_config import convert_config, listed

    console.log_to_terminal()
    if list_:
        console.pairs(listed())
        return
    done = convert_config(config, name=experiment, out=out)
    if out is None:
        print(done.text, end="")
        print(f"next:   {done.next}", file=sys.stderr)
        return
    console.speak(f"recipe: {out}")
    console.advise(f"{done.next}")


@wraps(command)
def by_its_old_name(**options: Path | str | bool | None) -> None:
    print("convert-config is now called: pocketseg recipes convert", file=sys.stderr)
    command(**options)  # type: ignore[arg-type]
