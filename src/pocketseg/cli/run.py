"""`pocketseg run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    config: Annotated[Path, typer.Argument(help="The study's config.yaml, with its mapping UNET.")],
    data: Annotated[Path | None, typer.Option(help="Images and masks; not needed to draw weights.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Where results go (default: LOG_OUTPUT_DIR/EXPERIMENT_NAME).")
    ] = None,
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of the recipe; may be repeated.")] = [],  # noqa: B006
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
) -> None:
    """Do what the operation_mode of a file of the fixed-point study says: train, retrain, evaluate, or draw weights.

    trained_model and log_output_dir are followed. Settings without effect, or with another meaning here, are reported.

    Examples:

        pocketseg run config.yaml --data slices

        pocketseg run config.yaml --data slices --out results/em --set stages.0.epochs=20
    """
    from pocketseg.flows.run import run

    console.log_to_terminal()
    done = run(config, data, out=out, overrides=set_, resume=resume, device=device)
    console.speak(f"{done.mode}: {done.place}")
