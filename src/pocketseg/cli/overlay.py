"""`pocketseg overlay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pocketseg.cli import console

Planes = Literal["auto", "axial", "coronal", "sagittal"]


def command(
    image: Annotated[Path, typer.Argument(help="A picture, a volume, or the folder of a DICOM series.")],
    reference: Annotated[Path | None, typer.Option("--reference", "--truth", help="Reference mask.")] = None,
    prediction: Annotated[list[Path], typer.Option(help="Predicted mask; may be repeated.")] = [],  # noqa: B006
    out: Annotated[Path, typer.Option(help="PNG file.")] = Path("overlay.png"),
    color: Annotated[
        str, typer.Option(help="Colors of reference only, prediction only, both.")
    ] = "#56B4E9,#E69F00,#009E73",
    alpha: Annotated[float, typer.Option(help="How strongly regions are tinted, 0 to 1.")] = 0.5,
    axis: Annotated[Planes, typer.Option(help="Planes of a volume.")] = "auto",
    slice_: Annotated[int | None, typer.Option("--slice", help="Slice of a volume (default: most foreground).")] = None,
    run: Annotated[Path | None, typer.Option(help="Run whose recipe says how the reference stores classes.")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="The same by hand: data.mask.invert=true.")] = [],  # noqa: B006
) -> None:
    """Draw reference and predictions on their image: missed, too much, and right in three colors.

    Several predictions stand side by side, each under its name and Dice.

    Examples:

        pocketseg overlay scan.png --reference scan_mask.png --prediction small/scan.png --prediction large/scan.png

        pocketseg overlay scan.nii.gz --prediction mask.nii.gz --slice 20 --color "#56B4E9,#D55E00,#009E73" --alpha 0.3

        pocketseg overlay cells.png --truth membranes.png --prediction mask.png --set data.mask.invert=true
    """
    from pocketseg.flows.overlay import overlay

    console.log_to_terminal()
    drawn = overlay(
        image, out, reference=reference, predictions=prediction, colors=color.split(","), alpha=alpha,
        axis=axis, slice_=slice_, run=run, overrides=set_,
    )  # fmt: skip
    console.speak(f"picture: {drawn.file}" + ("" if drawn.slice is None else f": slice {drawn.slice}"))
