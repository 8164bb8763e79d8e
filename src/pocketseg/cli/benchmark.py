"""`pocketseg benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode

if TYPE_CHECKING:
    from pocketseg.flows.benchmark import Benchmark, Measured
    from pocketseg.timing import Timing


def command(
    models: Annotated[
        list[Path],
        typer.Argument(help=".pseg or .onnx files, best or packed.safetensors, run or stage folders."),
    ],
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
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Time models on this machine interleaved: the net alone, and from the image file to the mask.

    Before, the masks of models that were made of the same weights are compared; a difference is reported.

    Examples:

        pocketseg benchmark model.pseg

        pocketseg benchmark runs/first --backend torch --backend pseg --threads 1

        pocketseg benchmark float.pseg int8.pseg model.onnx --image scan.png --json
    """
    from pocketseg.flows.benchmark import benchmark

    console.log_to_terminal()
    found = benchmark(
        models, backends=backend, size=size, image=image, threads=threads, fold=fold, turns=turns, turn_s=turn_seconds
    )
    if as_json:
        print(found.json(), end="")
        return
    height, width = found.image
    title = f"image {height}×{width}, {found.threads} threads, {found.machine}; ratios to the first, interleaved"
    console.table(title, BENCHMARK_COLUMNS, [benchmark_row(number, found) for number in range(len(found.models))])


BENCHMARK_COLUMNS = [
    "model", "runs on", "bits", "KiB", "input", "load ms", "first ms", "net ms", "quartiles", "a second", "ratio",
    "file to mask ms", "quartiles ", "a second ", "ratio ", "mask",
]  # fmt: skip


def benchmark_row(number: int, found: Benchmark) -> list[str]:
    """The cells of BENCHMARK_COLUMNS for one of the models."""
    each, first = found.models[number], found.models[0]
    return [
        each.model, each.runtime, each.precision, f"{each.size_bytes / 1024:,.0f}", "×".join(map(str, each.input)),
        f"{each.load_ms:.1f}", f"{each.first_ms:.1f}", *_timing_cells(each.net, first.net),
        *_timing_cells(each.whole, first.whole), _agreement(each, found),
    ]  # fmt: skip


def _timing_cells(timing: Timing, first: Timing) -> list[str]:
    low, high = timing.quartiles_ms
    return [
        f"{timing.median_ms:.2f}", f"{low:.2f} to {high:.2f}", f"{1000 / timing.median_ms:.1f}",
        f"{timing.ratio(first)[0]:.2f}",
    ]  # fmt: skip


def _agreement(each: Measured, found: Benchmark) -> str:
    agreement = each.agreement
    if agreement is None:
        return "–"
    other = found.models[agreement.other].runtime
    if not agreement.pixels:
        return f"that of {other}"
    return f"{agreement.pixels} pixels ({agreement.share:.2%}) other than {other}"
