"""`pocketseg inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode

# What the files of `Inspection.save` are for.
WRITTEN = {".json": "for programs", ".svg": "drawing", ".png": "drawing as pixels"}


def command(
    net: Annotated[
        str,
        typer.Argument(
            help="Name of a net (see `pocketseg nets`), run or stage folder, best or packed.safetensors, .pseg file."
        ),
    ],
    size: Annotated[
        tuple[int, int] | None, typer.Option(min=1, max=console.MAX_SIDE, help="Height and width of the image.")
    ] = None,
    in_channels: Annotated[int | None, typer.Option(min=1, max=255, help="Image channels of a net by name.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, max=255, help="Foreground classes of a net by name.")] = None,
    set_: Annotated[list[str], typer.Option("--set", help="OPTION=VALUE of a net by name.")] = [],  # noqa: B006
    fold: Annotated[int, typer.Option(help="Fold of a run folder.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for architecture.json, .svg and .png.")] = None,
    weights: Annotated[Path | None, typer.Option(help="PDF or PNG with the weights of a trained model.")] = None,
    images: Annotated[
        list[Path], typer.Option(help="With --weights: image or folder, draw what enters the layers too; repeatable.")
    ] = [],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: bytes, and whole numbers.")] = False,
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Show a net layer by layer: shapes, parameters, multiply-accumulates, bits and bytes of the weights.

    Examples:

        pocketseg inspect unet --set width=16 --set levels=3 --size 192 256

        pocketseg inspect runs/first --out drawings

        pocketseg inspect runs/first/fold-0/float/best.safetensors --json

        pocketseg inspect runs/first --weights weights.pdf --images scans

        pocketseg inspect model.pseg
    """
    from pocketseg.errors import RecipeError
    from pocketseg.flows.draw_weights import draw_weights
    from pocketseg.flows.inspect import inspect
    from pocketseg.runs.inspection import layer_table, totals
    from pocketseg.runs.shipped import shipped_file

    console.log_to_terminal()
    net = str(shipped_file(net) or net)
    if net.endswith(".pseg"):
        if size or in_channels or classes or set_ or out or weights or images:
            raise RecipeError(net, "is packed: nothing of it can be chosen or drawn", "inspect the run it came from")
        _packed(net, as_json)
        return
    if images and weights is None:
        raise RecipeError("--images", "is for the drawing of the weights", "add --weights weights.pdf")
    found = inspect(net, size=size, in_channels=in_channels, classes=classes, overrides=set_, fold=fold)
    written = [] if weights is None else [("weights, drawn", draw_weights(net, weights, images=images, fold=fold))]
    written += [(WRITTEN[path.suffix], path) for path in (found.save(out) if out is not None else [])]
    if as_json:
        print(found.json(), end="")
        return
    console.table(found.title, *layer_table(found.layers))
    console.pairs((f"{name}:", value) for name, value in totals(found.totals))
    console.pairs((f"{what}:", str(path)) for what, path in written)


def _packed(path: str, as_json: bool) -> None:
    from pocketseg.flows.inspect_packed import COLUMNS, inspect_packed

    found = inspect_packed(path)
    if as_json:
        print(found.json(), end="")
        return
    rows = [[str(number), *row] for number, row in enumerate(found.rows, start=1)]
    console.table(Path(path).name, ["no.", *COLUMNS], rows, keys=2)
    console.pairs((f"{name}:", value) for name, value in found.metadata)
