"""`pocketseg pack`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode

if TYPE_CHECKING:
    from pocketseg.engine.tuning import Tuning


class FloatWeights(StrEnum):
    """How weights that are f32 are stored."""

    f32 = "f32"
    bf16 = "bf16"


class Constants(StrEnum):
    """How scales, biases and norms are stored."""

    f32 = "f32"
    f16 = "f16"


def command(
    model: Annotated[Path, typer.Argument(help="Run or stage folder, best or packed.safetensors; with --tune .pseg.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File (default: RUN/fold-N/model.pseg).")] = None,
    fold: Annotated[int, typer.Option(help="Which fold's model.")] = 0,
    stage: Annotated[str | None, typer.Option(help="Which stage's model (default: the last).")] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="Folder of images: pack a float net with 8-bit weights and activations.")
    ] = None,
    weights: Annotated[FloatWeights, typer.Option(help="How f32 weights are stored.")] = FloatWeights.f32,
    constants: Annotated[Constants, typer.Option(help="How scales, biases and norms are stored.")] = Constants.f32,
    tune: Annotated[
        bool, typer.Option("--tune", help="Time this machine's kernels and ask for the fastest; results stay the same.")
    ] = False,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate", help="Write it only if it loses less than --max-drop to the float net and is no slower."
        ),
    ] = False,
    max_drop: Annotated[
        float, typer.Option(help="Points of Dice that --gate allows, shown on the run's validation cases.")
    ] = 0.5,
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Pack a model into one small file that runs without PyTorch, checked against torch.

    Examples:

        pocketseg pack runs/first

        pocketseg pack runs/low --stage ternary --constants f16 --out lesion.pseg

        pocketseg pack runs/first/fold-0/float/best.safetensors --calibrate scans/images --out int8.pseg

        pocketseg pack runs/low --gate --out accepted.pseg

        pocketseg pack model.pseg --tune --out model-for-this-machine.pseg
    """
    from pocketseg.flows.pack import pack

    console.log_to_terminal()
    with console.bars() as bars:
        done = pack(
            model, out, fold=fold, stage=stage, calibrate=calibrate, weights=weights.value, constants=constants.value,
            tune=tune, gate=gate, max_drop=max_drop, progress=bars.of("tuning"),
        )  # fmt: skip
    if done.tuning:
        _tell(done.tuning)
    console.speak(
        f"{done.file}: {done.size_bytes / 1024:.1f} KiB; {done.arena_bytes / 2**20:.1f} MiB of memory an image"
    )
    console.advise(f"pocketseg predict {done.file} IMAGES --out masks --overlay")


def _tell(tuning: Tuning) -> None:
    if tuning.changes:
        rows = [
            [str(each.instruction), each.operation, each.before, each.after, f"{each.ratio:.2f}"]
            for each in tuning.changes
        ]
        console.table("other kernels", ["instruction", "operation", "before", "after", "net's time"], rows)
    console.speak(f"tuned: {tuning.text}")
