"""`pocketseg predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode, Device, FoldOrAll, Tta


def command(
    model: Annotated[
        Path,
        typer.Argument(help=".pseg or .onnx file (need no torch), best or packed.safetensors, run or stage folder."),
    ],
    inputs: Annotated[list[str], typer.Argument(help="Images, folders, or quoted patterns.")],
    out: Annotated[Path, typer.Option(help="Folder for the masks.")],
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also write the contour on the image; of a video a video.")
    ] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write 16-bit probabilities.")] = False,
    to: Annotated[str, typer.Option(help="Masks of volumes: same, nifti, nrrd, mha, dicom-seg, tiff or png.")] = "same",
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity", help="Copy the patient's identity into DICOM segmentations.")
    ] = False,
    table: Annotated[
        bool, typer.Option("--table", help="Also write measurements.csv: area, objects, highest probability.")
    ] = False,
    tint: Annotated[float, typer.Option(help="How strongly overlays color regions, 0 to 1.")] = 0.0,
    smooth: Annotated[
        float, typer.Option(help="Of videos: seconds over which probabilities are smoothed, looking back alone.")
    ] = 0.0,
    fold: FoldOrAll = 0,
    also: Annotated[
        list[Path], typer.Option("--with", help="A further model; the mean of all is taken (an ensemble); repeatable.")
    ] = [],  # noqa: B006
    stage: Annotated[str | None, typer.Option(help="Stage of a run folder (default: the last).")] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="torch, onnx, openvino or pseg (default: a run's packed model if it is up to date)."),
    ] = None,
    device: Device = "cpu",
    tta: Tta = None,
    jobs: Annotated[
        int | None, typer.Option(help="Share the images among so many processes, with one thread each.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Do also what is done already.")] = False,
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Segment images; masks have the size and name of their image.

    Volumes come back in their own format and geometry: NIfTI as NIfTI, NRRD as a segmentation of 3D Slicer (.seg.nrrd),
    MetaImage as MetaImage, a folder with a DICOM series as a DICOM segmentation without the patient's name, TIFF pages
    as pages. The masks of a video's frames are the pages of a TIFF file; videos need the extra `video`.

    Nothing is replaced but what an earlier `predict` wrote: a mask that somebody drew or corrected stops it before it
    begins.

    What is done already is kept: of the same images, by the same model and options. So what was interrupted goes on
    with the same command. With --jobs a process that is killed costs the image that it was at.

    Files that cannot be read are listed at the end, the others are done; the exit code is then 2, or 3 where memory
    was too small for one.

    Examples:

        pocketseg predict model.pseg scans/images --out masks

        pocketseg predict runs/first scans --out masks --backend torch

        pocketseg predict runs/cv scans --out masks --fold all

        pocketseg predict model.onnx scan.nii.gz patient7/series3 --out masks

        pocketseg predict model.onnx patient7/series3 --out masks --to nifti

        pocketseg predict model.pseg scans/images --out masks --jobs 2 --table

        pocketseg predict model.pseg clip.mp4 --out masks --overlay --smooth 0.1

        pocketseg predict model.onnx one.png two.tif "more/*.png" --out masks --overlay --tint 0.3 --table
    """
    from pocketseg.flows.predict import MaskFormat, predict

    console.log_to_terminal()
    with console.bars() as bars:
        done = predict(
            [model, *also], inputs, out, to=cast(MaskFormat, to),
            with_overlay=overlay, probabilities=probabilities, keep_identity=keep_identity, table=table, tint=tint,
            smooth=smooth, fold=fold, stage=stage, backend=backend, device=device, tta=tta, jobs=jobs, again=again,
            progress=bars.of("predicting"),
        )  # fmt: skip
    console.speak(f"masks:  {out}, {done.text}")
    if error := done.error():
        raise error
