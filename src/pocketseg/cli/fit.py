"""`pocketseg fit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketseg.cli import console

if TYPE_CHECKING:
    from pocketseg.flows.fit import FitResult


def command(
    data: Annotated[Path, typer.Argument(help="Folder (or .npz file) of images and masks.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the search to make; not needed with --plan.")] = None,
    size: Annotated[str | None, typer.Option(help="Of the packed file at most: 40KB (1000 bytes each), 40KiB.")] = None,
    latency: Annotated[str | None, typer.Option(help="Of the net for one image on this machine at most: 5ms.")] = None,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Of another machine, which milliseconds then are for: made by `pocketseg benchmark --profile`."
        ),
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Of the engine for one image at most: 2MB.")] = None,
    time: Annotated[
        str,
        typer.Option(help="That all may take about, from the look at the data to the report: 5min, 30min, 2h."),
    ] = "30min",
    steps: Annotated[
        int | None,
        typer.Option(
            help="Steps of the winner, instead of --time: the result no longer depends on this machine's speed."
        ),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option(help="A run, or the name of a shipped model: nets of its shape start from its weights."),
    ] = None,
    max_drop: Annotated[
        float, typer.Option(help="Points of Dice that a quantized file may lose at most, shown on validation cases.")
    ] = 0.5,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be done, and why.")] = False,
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of the plan; may be repeated.")] = [],  # noqa: B006
    images: Annotated[str | None, typer.Option(help="Folder of images, any name; with --masks.")] = None,
    masks: Annotated[str | None, typer.Option(help="Folder of masks, any name; with --images.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the search was left.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    jobs: Annotated[int | None, typer.Option(help="Trainings side by side, the threads divided among them.")] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Hand trainings to Ray: local, or ray://HOST:PORT; as in `pocketseg train`.")
    ] = None,
) -> None:
    """Find the smallest accurate net for a folder of images and masks, without a recipe.

    Looks at the data, plans, leaves out what cannot keep to the budget, trains the other shapes for a short time, the
    better half for longer, the winner in full, and accepts its quantized files where they lose nothing that matters.
    Ctrl-C saves; the same command with --resume goes on. The folder gets model.pseg, report.html, plan.md, plan.yaml
    (an ordinary recipe), candidates.csv, and every training as a run folder.

    Examples:

        pocketseg fit scans --plan

        pocketseg fit scans --out runs/first

        pocketseg fit scans --out runs/tiny --size 40KB --latency 5ms --time 10min

        pocketseg fit scans --out runs/tiny --size 40KB --latency 5ms --time 10min --resume

        pocketseg fit scans --out runs/pi --latency 20ms --profile pi.json

        pocketseg fit scans --out runs/groups --set 'data.group_regex=^([^_]+)_'
    """
    from pocketseg.flows.fit import fit

    console.log_to_terminal()
    overrides = [
        *set_,
        *(f"data.{key}={value}" for key, value in (("images", images), ("masks", masks)) if value),
    ]
    with console.bars() as shown:
        found = fit(
            data, out, size=size, latency=latency, memory=memory, time=time, steps=steps, max_drop=max_drop,
            overrides=overrides, plan=plan, resume=resume, device=device, jobs=jobs, cluster=cluster, profile=profile,
            start_from=start_from,
            listener=shown, progress=shown,
        )  # fmt: skip
    if found.model is None:
        console.speak(found.plan)
        return
    _tell(found)


def _tell(found: FitResult) -> None:
    rows = [
        [
            each.bits, f"{each.size_bytes / 1024:.1f}", f"{each.ms:.2f}", f"{each.dice:.4f}",
            f"{100 * each.change:+.2f}", each.refused or "accepted",
        ]
        for each in found.verdicts
    ]  # fmt: skip
    console.table("Files of the winner", ["file", "KiB", "ms", "validation Dice", "points", "verdict"], rows)
    console.speak(found.said)
    for each in found.tested:
        console.speak(
            f"test:   Dice of {each.class_name} {each.dice:.3f} ({each.dice_low:.3f} to {each.dice_high:.3f})"
        )
    console.speak(f"model:  {found.model}")
    console.speak(f"report: {found.report}")
    console.advise(f"pocketseg predict {found.model} IMAGES --out masks --overlay")
