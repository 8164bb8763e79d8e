"""`pocketseg demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("demo"),
    cases: Annotated[int, typer.Option(help="Number of phantom images.")] = 280,
    size: Annotated[int, typer.Option(help="Height and width of the phantom images.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the phantom.")] = 0,
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of the recipe.")] = [],  # noqa: B006
) -> None:
    """Everything once on synthetic images: train, export, evaluate, predict, report. About three minutes on two cores.

    Example:

        pocketseg demo --out demo
    """
    from pocketseg.flows.demo import demo
    from pocketseg.flows.tables import SHORT_COLUMNS, short_row

    console.log_to_terminal()
    began = time.monotonic()
    with console.bars() as bars:
        done = demo(out, cases=cases, size=size, seed=seed, overrides=tuple(set_), listener=bars, progress=bars)
    rows = [["torch f32", f"{done.checkpoint_bytes / 1024:.0f}", *short_row(s)[2:]] for s in done.torch]
    rows += [["ONNX", f"{done.onnx_bytes / 1024:.0f}", *short_row(s)[2:]] for s in done.onnx]
    console.table("The same test cases, judged twice", ["model", "KiB", *SHORT_COLUMNS[2:]], rows)
    for name, path in done.places:
        console.speak(f"{name + ':':<20}{path}")
    console.speak(f"done in {time.monotonic() - began:.0f} s")
