"""`pocketseg predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    model: Annotated[
        Path,
        typer.Argument(help=".pseg or .onnx file (need no torch), best or packed.safetensors, run or stage folder."),
    ],
    inputs: Annotated[list[str], typer.Argument(help="Images, folders, or quoted patterns.")],
    out: Annotated[Path, typer.Option(help="Folder for the masks.")],
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write the contour on the image.")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write 16-bit probabilities.")] = False,
    fold: Annotated[int, typer.Option(help="Fold of a run folder.")] = 0,
) -> None:
    """Segment images; masks have the size and name of their image.

    Files that cannot be read are listed at the end, the others are done; the exit code is then 2.

    Examples:

        pocketseg predict model.pseg scans --out masks

        pocketseg predict model.onnx one.png two.tif "more/*.png" --out masks --overlay --probabilities
    """
    from pocketseg.errors import DataError
    from pocketseg.flows.predict import predict

    console.log_to_terminal()
    with console.bars() as bars:
        done = predict(
            model, inputs, out,
            with_overlay=overlay, probabilities=probabilities, fold=fold, progress=bars.of("predicting"),
        )  # fmt: skip
    console.speak(f"{len(done.written)} files in {out}")
    if done.problems:
        raise DataError.of(done.problems)
