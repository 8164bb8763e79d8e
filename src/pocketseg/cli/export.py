"""`pocketseg export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode


def command(
    run: Annotated[Path, typer.Argument(help="Run folder; for c also a packed model.")],
    to: Annotated[str, typer.Option(help="Format: onnx, onnx-floats (quantized nets in f32), tflite or c.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File (default: RUN/fold-N/model.onnx, .tflite or .c); for c also a folder."),
    ] = None,
    fold: Annotated[int, typer.Option(help="Which fold's model.")] = 0,
    stage: Annotated[str | None, typer.Option(help="Which stage's model (default: the last).")] = None,
    data: Annotated[Path | None, typer.Option(help="Where the run's data lies now, if it was moved.")] = None,
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Write the model as one file that runs without PyTorch, checked against torch on validation images.

    Examples:

        pocketseg export runs/first --to onnx

        pocketseg export runs/first --to onnx --out lesion.onnx

        pocketseg export runs/low --to onnx --stage int8

        pocketseg export runs/fixed --to onnx-floats

        pocketseg export runs/low --to tflite

        pocketseg export model.pseg --to c --out firmware/lesion.c
    """
    from pocketseg.flows.export import export

    console.log_to_terminal()
    done = export(run, to, out=out, fold=fold, stage=stage, data=data)
    console.speak(f"{done.file}: {done.size_bytes / 1024:.0f} KiB")
    if done.needs is not None:
        console.speak(
            f"flash {done.needs.flash_bytes:,} bytes of weights and constants, and the code; "
            f"RAM {done.needs.ram_bytes:,} bytes, of which arena {done.needs.arena_bytes:,}, and image, mask and stack"
        )
    if done.file.suffix == ".onnx":
        console.advise(f"pocketseg predict {done.file} IMAGES --out masks --overlay")
