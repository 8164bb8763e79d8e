"""`pocketseg phantom`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.text import counted

# What a training of each kind needs to know.
SETTINGS = {
    "ultrasound": "",
    "microscopy": "--set data.classes='[nucleus]' --set data.fit=tile --set augment.copies=4",
    "ct": "--set data.classes='[organ, lesion]' --set stages.0.loss='{ce: 1, dice: 1}' "
    "--set data.window='[60, 400]' --set data.drop_empty=train --set augment.flip='[]'",
    "cine": "",
}


def command(
    out: Annotated[Path, typer.Argument(help="New or empty folder.")],
    kind: Annotated[str, typer.Option(help="ultrasound, microscopy, ct (needs the extra medical) or cine (video).")] = (
        "ultrasound"
    ),
    cases: Annotated[
        int | None, typer.Option(help="Number of images, volumes or clips (default: 200, 60, 24 or 1, by the kind).")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            help="Height and width in pixels, of microscopy the shortest side (default: 128, 384, 128 or 256)."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Other seeds give other patients.")] = 0,
) -> None:
    """Make synthetic images with masks, to try everything on: ultrasound, microscopy of cell nuclei, CT volumes, or
    clips of ultrasound.

    Example:

        pocketseg phantom phantoms --cases 200 --size 128 --seed 0
    """
    from pocketseg.flows.phantom import phantom

    console.log_to_terminal()
    with console.bars() as bars:
        made = phantom(out, kind=kind, cases=cases, size=size, seed=seed, progress=bars.of("making images"))
    count = len(list((made / "images").iterdir()))
    console.speak(f"{counted(count, 'image[ and its mask|s with masks]')} in {made}")
    if kind == "cine":
        console.advise(f"pocketseg predict MODEL {made / 'images'} --out masks --overlay")
        return
    console.advise(f"pocketseg train thin-unet --data {made} --out runs/phantom {SETTINGS[kind]}".rstrip())
