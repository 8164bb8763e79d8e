"""`pocketseg benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode, Device
from pocketseg.errors import RecipeError


def command(
    models: Annotated[
        list[Path],
        typer.Argument(help=".pseg or .onnx files, best or packed.safetensors, run or stage folders, names of nets."),
    ] = [],  # noqa: B006
    backend: Annotated[
        list[str],
        typer.Option(help="torch, onnx, openvino or pseg; repeatable: each model with each (default: its own)."),
    ] = [],  # noqa: B006
    size: Annotated[
        tuple[int, int],
        typer.Option(min=1, max=console.MAX_SIDE, help="Height and width of the image, a synthetic one."),
    ] = (
        256,
        256,
    ),
    image: Annotated[Path | None, typer.Option(help="An image file to take instead.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="For each; 0: one for each core, at most 8.")] = 0,
    fold: Annotated[int, typer.Option(help="Fold of run folders.")] = 0,
    turns: Annotated[int, typer.Option(min=1, help="Of each model; they take turns.")] = 10,
    turn_seconds: Annotated[float, typer.Option(help="How long a turn goes on.")] = 0.2,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: bytes, and milliseconds.")] = False,
    profile: Annotated[
        Path | None,
        typer.Option(help="Write what this machine takes for nets of every width and kind, for `fit --profile`."),
    ] = None,
    device: Device = "cpu",
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Time models on this machine interleaved: the net alone, and from the image file to the mask.

    Before, the masks of models that were made of the same weights are compared; a difference is reported.

    Examples:

        pocketseg benchmark model.pseg

        pocketseg benchmark runs/first --backend torch --backend pseg --threads 1

        pocketseg benchmark thin_unet_w32_n4 unet --size 512 512

        pocketseg benchmark --profile this-machine.json

        pocketseg benchmark float.pseg int8.pseg model.onnx --image scan.png --json
    """
    from pocketseg.flows.benchmark import COLUMNS, benchmark, write_profile

    console.log_to_terminal()
    if profile is not None:
        if models:
            raise RecipeError("--profile", "times nets of its own", "leave out the models, or --profile")
        with console.bars() as bars:
            made = write_profile(profile, threads=threads, progress=bars.of("timing"))
        console.speak(f"{profile}: {made.said}")
        return
    found = benchmark(
        models,
        backends=backend,
        size=size,
        image=image,
        threads=threads,
        fold=fold,
        device=device,
        turns=turns,
        turn_s=turn_seconds,
    )
    if as_json:
        print(found.json(), end="")
        return
    console.table(f"{found.title}; ratios to the first, interleaved", COLUMNS, found.rows(), keys=3)
