"""`pocketseg data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode
from pocketseg.errors import lines
from pocketseg.text import counted

# Lines of problems.
SHOWN = 20
app = typer.Typer(help="Look at data sets, and convert them and masks.", no_args_is_help=True)


@app.callback()
def common() -> None:
    """Verbs about data."""


@app.command()
def layouts() -> None:
    """List the layouts of data sets on disk; they are detected automatically, or named by data.layout."""
    from pocketseg.flows.convert import known_layouts

    console.pairs(known_layouts())


@app.command()
def preview(
    data: Annotated[Path, typer.Argument(help="Folder of images and masks, an .npz file, or a table of paths.")],
    out: Annotated[Path, typer.Option(help="HTML file.")] = Path("preview.html"),
    cases: Annotated[int, typer.Option(min=1, max=1000, help="How many cases are shown.")] = 24,
    recipe: Annotated[str, typer.Option(help="Recipe that says how data is read.")] = "thin-unet",
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of it, such as data.mask.invert=true.")] = [],  # noqa: B006
) -> None:
    """Write a page of images with their masks as pocketseg reads them, and of what was decided about the data.

    Layout, channels, classes and mask values, groups, sizes, parts.

    The first thing to look at. One file that loads nothing; names of files stand in it.

    Examples:

        pocketseg data preview scans --out page.html

        pocketseg data preview scans --cases 60 --set data.mask.invert=true
    """
    from pocketseg.flows.preview import preview

    console.log_to_terminal()
    with console.bars() as bars:
        done = preview(data, out, cases=cases, recipe=recipe, overrides=set_, progress=bars.of("reading"))
    for line in lines(done.problems, SHOWN):
        console.speak(f"ERROR {line}")
    console.speak(f"page: {done.page}, {done.shown} of {counted(done.cases, 'case')}")
    if done.problems:
        console.advise(f"pocketseg doctor {data}")


@app.command()
def convert(
    what: Annotated[
        str,
        typer.Argument(
            help="A layout (auto, or one that `data layouts` lists), or outlines-to-masks, masks-to-outlines, "
            "rois-to-masks, masks-to-rois, probabilities-to-masks, masks-to-rle."
        ),
    ],
    source: Annotated[Path, typer.Argument(help="The data set, or a folder of masks.")],
    out: Annotated[Path, typer.Argument(help="FILE.npz, FILE.json (COCO), FILE.csv (run lengths), or a new folder.")],
    size: Annotated[
        tuple[int, int] | None, typer.Option(min=1, max=console.MAX_SIDE, help="HEIGHT WIDTH of what is written.")
    ] = None,
    drop_empty: Annotated[bool, typer.Option("--drop-empty", help="Leave out blank images and empty masks.")] = False,
    classes: Annotated[int, typer.Option(min=1, max=255, help="Number of foreground classes in the masks.")] = 1,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Probabilities from here on are foreground.")] = 0.5,
    min_pixels: Annotated[int, typer.Option(min=0, help="Smaller objects are left out.")] = 0,
    pixel_weights: Annotated[
        bool,
        typer.Option(
            "--pixel-weights",
            help="Write NAME.png, NAME_mask.png and NAME_weights.npy (layout dic), for loss.pixel_weights: files.",
        ),
    ] = False,
    images: Annotated[Path | None, typer.Option(help="Images of ImageJ regions, for the size of masks.")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="How masks are read: data.mask.threshold=128.")] = [],  # noqa: B006
) -> None:
    """Turn a data set into NPZ, plain folders, COCO JSON or run lengths; or masks into outlines, regions, and back.

    Examples:

        pocketseg data convert kaggle-nerve train nerve.npz --drop-empty --size 64 128

        pocketseg data convert hc18 training_set heads

        pocketseg data convert auto scans plain --set data.mask.threshold=128

        pocketseg data convert coco scans plain

        pocketseg data convert auto cells weighted --pixel-weights

        pocketseg data convert auto scans annotations.json

        pocketseg data convert rois-to-masks rois masks --images scans

        pocketseg data convert masks-to-outlines masks outlines --min-pixels 6

        pocketseg data convert masks-to-rle masks submission.csv

        pocketseg data convert probabilities-to-masks maps masks --threshold 0.4
    """
    from pocketseg.flows.convert import Options, convert

    console.log_to_terminal()
    options = Options(size, drop_empty, classes, threshold, min_pixels, images, pixel_weights=pixel_weights)
    with console.bars() as bars:
        done = convert(what, source, out, options, bars.of("reading"), set_)
    made = what.rpartition("-to-")[2] if "-to-" in what else "data set"
    left = f", {counted(done.left_out, 'empty one')} left out" if done.left_out else ""
    console.speak(f"{made}: {out}, {counted(done.written, 'case')}{left}")
    if done.groups is not None:
        console.advise(f"add --set data.group_csv={done.groups.name} --set data.group_column=group")


@app.command()
def augment(
    source: Annotated[Path, typer.Argument(metavar="DATA", help="Folder (or .npz file) of images and masks.")],
    out: Annotated[Path, typer.Option(help="New folder.")],
    recipe: Annotated[str, typer.Option(help="Name of a shipped recipe or a YAML file, whose augment is taken.")],
    copies: Annotated[int, typer.Option(min=1, max=1000, help="Of each case, beside the case itself.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other copies.")] = 0,
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of the recipe; may be repeated.")] = [],  # noqa: B006
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Write augmented copies of a data set, masks moved with their images, with a table that keeps copies in one group.

    Examples:

        pocketseg data augment scans --recipe thin-unet --copies 7 --out more

        pocketseg data augment scans --recipe thin-unet --out turned --set augment='{rotate90: true}'
    """
    from pocketseg.flows.augment import augment as write_copies

    console.log_to_terminal()
    with console.bars() as bars:
        done = write_copies(
            source, recipe, out, copies=copies, seed=seed, overrides=set_, progress=bars.of("augmenting")
        )
    console.speak(f"data set: {out}, {counted(done.written, 'case')}, copies included")
    console.advise(f"pocketseg train {recipe} --data {out} --out RUN; its groups.csv keeps copies with their originals")
