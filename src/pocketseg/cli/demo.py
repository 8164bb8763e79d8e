"""`pocketseg demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.text import counted


def command(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("demo"),
    cases: Annotated[int, typer.Option(help="Number of phantom images.")] = 280,
    size: Annotated[int, typer.Option(help="Height and width of the phantom images.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the phantom.")] = 0,
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of the recipe.")] = [],  # noqa: B006
) -> None:
    """Everything once on synthetic images: train, export, pack, compare, predict, report. Minutes on two cores.

    Example:

        pocketseg demo --out demo
    """
    from pocketseg.evaluation.cells import SHORT_COLUMNS, short_row
    from pocketseg.flows.demo import demo

    console.log_to_terminal()
    began = time.monotonic()
    with console.bars() as bars:
        done = demo(out, cases=cases, size=size, seed=seed, overrides=tuple(set_), listener=bars, progress=bars)
    rows = [
        [variant.name, f"{variant.size_bytes / 1024:.0f}", f"{variant.ms:.1f}", *short_row(summary)[2:]]
        for variant in done.variants
        for summary in variant.summaries
    ]
    title = f"The same test cases; ms from an image file to its mask, {counted(done.threads, 'thread')}, interleaved"
    console.table(title, ["model", "KiB", "ms", *SHORT_COLUMNS[2:]], rows)
    console.pairs((f"{name}:", str(path)) for name, path in done.places)
    if done.missing:
        console.speak(done.missing)
    console.speak(f"done in {time.monotonic() - began:.0f} s")
