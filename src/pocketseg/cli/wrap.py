"""`pocketseg wrap`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    net: Annotated[Path, typer.Argument(help="ONNX file of a net: one input (n, c, h, w), one output (n, k, h, w).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new file, which ends in .onnx.")],
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(min=1, max=console.MAX_SIDE, help="Height and width of the input, where the file has none."),
    ] = None,
    class_: Annotated[
        list[str], typer.Option("--class", help="Name of a foreground class; repeat it, in the order of the channels.")
    ] = [],  # noqa: B006
    normalize: Annotated[
        str, typer.Option(help="After scaling to 0 … 1: unit-range, min-max, z-score or train-mean-std.")
    ] = "unit-range",
    mean: Annotated[list[float], typer.Option(help="For train-mean-std; repeat it, one number a channel.")] = [],  # noqa: B006
    std: Annotated[list[float], typer.Option(help="For train-mean-std; repeat it, one number a channel.")] = [],  # noqa: B006
    fit: Annotated[str, typer.Option(help="How images come to the net's size: resize, letterbox, pad, crop, tile.")] = (
        "resize"
    ),
    output: Annotated[
        str, typer.Option(help="What the net gives: logits, or probabilities (after a sigmoid or softmax).")
    ] = "logits",
    threshold: Annotated[float, typer.Option(help="Of the probability, for one class.")] = 0.5,
    value_range: Annotated[
        tuple[float, float] | None, typer.Option("--range", help="Stored values that become 0 and 1.")
    ] = None,
) -> None:
    """Make a model of a net that another program exported to ONNX: it predicts, is evaluated, timed, and packed.

    Examples:

        pocketseg wrap net.onnx --out model.onnx --size 256 256 --class lesion --normalize z-score

        pocketseg wrap net.onnx --out model.onnx --output probabilities --class cell --class nucleus
    """
    from pocketseg.flows.wrap import wrap

    console.log_to_terminal()
    found = wrap(
        net, out, size=size, classes=class_, normalize=normalize, mean=mean, std=std, fit=fit,  # type: ignore[arg-type]
        output=output, threshold=threshold, value_range=value_range,  # type: ignore[arg-type]
    )  # fmt: skip
    console.speak(f"model:  {found.file}")
    console.advise(f"pocketseg predict {found.file} IMAGES --out masks --overlay")
