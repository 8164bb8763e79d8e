"""`pocketseg train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe (see `pocketseg recipes`) or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Folder (or .npz file) of images and masks.")],
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of the recipe; may be repeated.")] = [],  # noqa: B006
    images: Annotated[str | None, typer.Option(help="Folder of images, any name; with --masks.")] = None,
    masks: Annotated[str | None, typer.Option(help="Folder of masks, any name; with --images.")] = None,
    split: Annotated[Path | None, typer.Option(help="A split.json to use instead of the recipe's rule.")] = None,
    fold: Annotated[int | None, typer.Option(help="Train only this fold of a k-fold split.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was left.")] = False,
) -> None:
    """Train a recipe on a folder of images and masks.

    The run folder gets the resolved recipe, the split, checkpoints, history, pictures, scores and a log. Ctrl-C saves;
    the same command with --resume goes on, to the same bytes on a CPU. A config.yaml of the fixed-point study (see
    `pocketseg convert-config`) is a recipe too.

    Examples:

        pocketseg train thin-unet --data scans --out runs/first

        pocketseg train thin-unet --data scans --out runs/quick --set stages.0.epochs=5 --set seed=1

        pocketseg train thin-unet --data busi --out runs/busi --set data.group_csv=t.csv --set data.group_column=patient

        pocketseg train thin-unet --data . --images photos --masks labels --out runs/other

        pocketseg train thin-unet --data scans --out runs/first --resume

        pocketseg train config.yaml --data slices --out runs/em
    """
    from pocketseg.flows.report import report
    from pocketseg.flows.tables import SHORT_COLUMNS, short_row
    from pocketseg.flows.train import train

    console.log_to_terminal()
    overrides = [
        *set_,
        *(f"data.{key}={value}" for key, value in (("images", images), ("masks", masks)) if value),
    ]
    with console.bars() as bars:
        result = train(
            recipe, data, out,
            overrides=overrides, fold=fold, split=split, device=device, resume=resume, listener=bars, progress=bars,
        )  # fmt: skip
    rows = [[str(number), *short_row(summary)] for number, found in result.summaries.items() for summary in found]
    if not rows:
        return  # one of several processes; the first one reports
    console.table("Results", ["fold", *SHORT_COLUMNS], rows)
    page = report(result.run, fold=next(iter(result.summaries)))
    console.speak(f"report: {page}")
    console.speak(f"next:   pocketseg export {result.run} --to onnx")
