"""`pocketseg web`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.text import bytes_text


def command(
    model: Annotated[Path, typer.Argument(help="Packed model, run folder, or name of a model that ships.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page, which ends in .html.")] = Path("page.html"),
    folder: Annotated[
        Path | None, typer.Option(help="In place of --out, a folder for a web server: an app that works offline.")
    ] = None,
) -> None:
    """Write one file that segments pictures in any browser: engine and model are inside, nothing leaves the page.

    It opens by a double click, from a disk or out of a mail, and works without a network and on a phone.

    Examples:

        pocketseg web model.pseg --out page.html

        pocketseg web runs/first --out lesion.html

        pocketseg web runs/first --folder site
    """
    from pocketseg.flows.web import web

    console.log_to_terminal()
    page = web(model, out, folder=folder)
    console.speak(f"page:   {page.file} ({bytes_text(page.bytes)})")
    if folder is None:
        console.speak("Open it in a browser, and drop pictures on it.")
    else:
        console.speak("Put the folder on a web server (https); a browser that opened it once offers to install it.")
