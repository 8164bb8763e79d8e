"""`pocketseg evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    model: Annotated[
        Path,
        typer.Argument(
            help="Run or stage folder, best or packed.safetensors, .pseg or .onnx file, or a folder of masks."
        ),
    ],
    data: Annotated[Path, typer.Argument(help="Folder (or .npz file) of images and masks.")],
    split: Annotated[Path | None, typer.Option(help="Judge a part of this split file only.")] = None,
    part: Annotated[str | None, typer.Option(help="train, validation or test (default: test, with --split).")] = None,
    fold: Annotated[int, typer.Option(help="Fold of the split, and of a run.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the tables (default: MODEL.evaluation).")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="data.KEY=VALUE, how to read the data.")] = [],  # noqa: B006
) -> None:
    """Judge a model, or masks that something else made, case by case.

    Examples:

        pocketseg evaluate runs/first/fold-0/model.onnx scans --split runs/first/split.json --part test

        pocketseg evaluate masks scans --out judged
    """
    from pocketseg.flows.evaluate import evaluate
    from pocketseg.flows.tables import SHORT_COLUMNS, short_row

    console.log_to_terminal()
    with console.bars() as bars:
        found = evaluate(
            model,
            data,
            split=split,
            part=part,
            fold=fold,
            out=out,
            overrides=set_,
            progress=bars.of("judging"),
        )
    console.table("Results", SHORT_COLUMNS, [short_row(summary) for summary in found.summaries])
    console.speak(f"per case: {found.out / 'cases.csv'}")
