"""`pocketseg import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode


def command(
    weights: Annotated[Path, typer.Argument(help="Weights: .pth, .pt, .pkl of PyTorch, .h5 of Keras, .safetensors.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to make.")],
    net: Annotated[str | None, typer.Option(help="Name of the net; `pocketseg nets` lists them.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe, by name or file, whose net, data section and rules are taken.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Images and masks, on which the model is evaluated.")] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", help="KEY=VALUE of the recipe; net.KEY=VALUE are options of the net; may be repeated."),
    ] = [],  # noqa: B006
    size: Annotated[
        tuple[int, int] | None, typer.Option(min=8, max=console.MAX_SIDE, help="Height and width that the net sees.")
    ] = None,
    class_: Annotated[list[str], typer.Option("--class", help="Name of a foreground class; repeat it, in order.")] = [],  # noqa: B006
    normalize: Annotated[
        str | None, typer.Option(help="After scaling to 0 … 1: unit-range, min-max, z-score or train-mean-std.")
    ] = None,
    mean: Annotated[list[float], typer.Option(help="For train-mean-std; repeat it, one number a channel.")] = [],  # noqa: B006
    std: Annotated[list[float], typer.Option(help="For train-mean-std; repeat it, one number a channel.")] = [],  # noqa: B006
    threshold: Annotated[float | None, typer.Option(help="Of the probability, for one class.")] = None,
    device: Annotated[str, typer.Option(help="With --data: auto, cpu, cuda, cuda:N or mps.")] = "auto",
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Make a model of weights that another program trained: it predicts, is evaluated, packed, quantized, trained on.

    Layers are matched in their order. What the file does not say (size, normalization, threshold) is assumed and
    reported.

    Examples:

        pocketseg import unet.pth --net light_unet_baseline --size 256 256 --class lesion --out runs/foreign

        pocketseg import unet.h5 --net unet --set net.width=32 --normalize z-score --out runs/keras

        pocketseg import model.pkl --recipe fixed-point-grid --data slices --out runs/membranes
    """
    from pocketseg.flows.import_weights import import_weights

    console.log_to_terminal()
    said = {
        "data.size": None if size is None else list(size),
        "data.classes": class_ or None,
        "normalize.kind": normalize,
        "postprocess.threshold": threshold,
    }
    overrides = [*(f"{key}={json.dumps(value)}" for key, value in said.items() if value is not None), *set_]
    found = import_weights(
        weights, out, net=net, recipe=recipe, data=data, overrides=overrides, mean=mean, std=std, device=device
    )
    console.speak(f"model:  {found.run}, {found.text}")
    console.advise(f"pocketseg predict {found.run} IMAGES --out masks --overlay")
