"""`pocketseg nets`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    names: Annotated[list[str] | None, typer.Argument(help="Names of nets (default: all).")] = None,
    in_channels: Annotated[int, typer.Option(min=1, help="Image channels.")] = 1,
    classes: Annotated[int, typer.Option(min=1, help="Foreground classes.")] = 1,
    size: Annotated[tuple[int, int], typer.Option(min=1, help="Height and width of the image.")] = (256, 256),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: bytes, and whole numbers.")] = False,
) -> None:
    """List the nets and what they cost for one image, in f32; no weight is drawn.

    MACs are multiply-accumulates of convolutions. The peak is the most memory that activations take at once.

    Examples:

        pocketseg nets

        pocketseg nets thin_unet unet --size 512 512 --in-channels 3

        pocketseg nets --json
    """
    from pocketseg.flows.nets import NET_COLUMNS, net_row, nets

    console.log_to_terminal()
    found = nets(names or (), in_channels=in_channels, classes=classes, size=size)
    if as_json:
        print(json.dumps(found, indent=1))
        return
    console.table(f"Nets at {size[0]}×{size[1]}", NET_COLUMNS, [net_row(row) for row in found])
