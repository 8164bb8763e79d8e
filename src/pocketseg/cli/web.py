"""`pocketseg web`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.text import bytes_text


def command(
    model: Annotated[Path, typer.Argument(help="Packed model, model.pseg, or a run folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page, which ends in .html.")] = Path("page.html"),
) -> None:
    """Write one file that segments pictures in any browser: engine and model are inside, nothing leaves the page.

    It opens by a double click, from a disk or out of a mail, and works without a network and on a phone.

    Examples:

        pocketseg web model.pseg --out page.html

        pocketseg web runs/first --out lesion.html
    """
    from pocketseg.flows.web import web

    console.log_to_terminal()
    page = web(model, out)
    console.speak(f"page:   {page.file} ({bytes_text(page.bytes)})")
    console.speak("Open it in a browser, and drop a picture on it.")
