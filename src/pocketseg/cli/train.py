"""`pocketseg train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode
from pocketseg.errors import Problem, TrainingError

if TYPE_CHECKING:
    from pocketseg.experiments.run import TrainResult


def command(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe (see `pocketseg recipes`) or a YAML file.")],
    data: Annotated[Path, typer.Option(help="Folder (or .npz file) of images and masks.")],
    out: Annotated[Path, typer.Option(help="Run folder to make.")],
    set_: Annotated[list[str], typer.Option("--set", help="KEY=VALUE of the recipe; may be repeated.")] = [],  # noqa: B006
    images: Annotated[str | None, typer.Option(help="Folder of images, any name; with --masks.")] = None,
    masks: Annotated[str | None, typer.Option(help="Folder of masks, any name; with --images.")] = None,
    split: Annotated[Path | None, typer.Option(help="A split.json to use instead of the recipe's rule.")] = None,
    fold: Annotated[int | None, typer.Option(help="Train only this fold of a k-fold split.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run was left.")] = False,
    allow_changed: Annotated[
        bool,
        typer.Option(
            "--allow-changed",
            help="Resume though data, or versions of pocketseg, torch or NumPy, changed; the manifest lists what.",
        ),
    ] = False,
    jobs: Annotated[
        int | None, typer.Option(help="Trials and folds that train side by side, the threads divided among them.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Hand trials and folds to Ray: local, or ray://HOST:PORT. All its machines must see --data and --out "
            "under the same paths, on a disk they share, and have pocketseg installed."
        ),
    ] = None,
    log: Annotated[list[str], typer.Option(help="Also log to: tensorboard (scalars and example images).")] = [],  # noqa: B006
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Train a recipe on a folder of images and masks.

    The run folder gets the resolved recipe, the split, checkpoints, history, pictures, scores and a log. Ctrl-C saves;
    the same command with --resume goes on, to the same bytes on a CPU; with more epochs, a finished run too.

    A recipe with `sweep: {KEY: [VALUE, …]}` makes one run for each combination, with a table (results.csv) and a plot
    (sweep.png); --resume trains what is missing or failed. A config.yaml of the fixed-point study (see `pocketseg
    recipes convert`) is a recipe too.

    Examples:

        pocketseg train thin-unet --data scans --out runs/first

        pocketseg train thin-unet --data scans --out runs/quick --set stages.0.epochs=5 --set seed=1

        pocketseg train thin-unet --data busi --out runs/busi --set data.group_csv=t.csv --set data.group_column=patient

        pocketseg train thin-unet --data . --images photos --masks labels --out runs/other

        pocketseg train thin-unet --data scans --out runs/first --resume

        pocketseg train thin-unet --data scans --out runs/first --resume --set stages.0.epochs=110

        pocketseg train config.yaml --data slices --out runs/em

        pocketseg train thin-unet --data scans --out runs/widths --set 'sweep.stages.0.net.width=[8,16,32]' --jobs 2

        pocketseg train thin-unet --data scans --out runs/cv --set split.kind=kfold --jobs 2

        pocketseg train thin-unet --data scans --out runs/seeds --set 'sweep.seed=[0,1,2]' --cluster local

        pocketseg train thin-unet --data scans --out runs/watched --log tensorboard
    """
    from pocketseg.flows.train import train
    from pocketseg.runs.folder import RunFolder

    console.log_to_terminal()
    overrides = [
        *set_,
        *(f"data.{key}={value}" for key, value in (("images", images), ("masks", masks)) if value),
    ]
    result = train(
        recipe, data, out,
        overrides=overrides, fold=fold, split=split, device=device, resume=resume, allow_changed=allow_changed,
        jobs=jobs, cluster=cluster, logs=log,
    )  # fmt: skip
    if not any(result.summaries.values()) and not result.trials:
        return  # one of several processes; the first one reports
    with RunFolder(result.run).logged():
        if result.trials:
            _tell_sweep(result)
        else:
            _tell_run(result)


def _tell_run(result: TrainResult) -> None:
    from pocketseg.evaluation.cells import SHORT_COLUMNS, short_row
    from pocketseg.runs.folder import RunFolder
    from pocketseg.runs.results import ensemble_summaries, stage_summaries

    found = [row for row in stage_summaries(RunFolder(result.run)) if row[0] in result.summaries]
    rows = [[str(number), stage, *short_row(summary)] for number, stage, summary in found]
    rows += [["all", stage, *short_row(summary)] for stage, summary in ensemble_summaries(RunFolder(result.run))]
    console.table("Results", ["fold", "stage", *SHORT_COLUMNS], rows, keys=4)
    console.speak(f"report: {result.report}")
    console.advise(f"pocketseg predict {result.run} IMAGES --out masks --overlay")


def _tell_sweep(result: TrainResult) -> None:
    """The table of the trials; those that failed make it an error at the end."""
    from pocketseg.runs.tables import read_table

    columns, rows = read_table(result.run / "results.csv")
    shown = [at for at, column in enumerate(columns) if column != "error"]
    console.table("Results", [columns[at] for at in shown], [[row[at] for at in shown] for row in rows])
    console.speak(f"table:  {result.run / 'results.csv'}")
    console.speak(f"plot:   {result.run / 'sweep.png'}")
    console.advise(f"pocketseg report {result.run}")
    failed = [trial for trial in result.trials if trial.error]
    if failed:
        raise TrainingError.of(
            [Problem(trial.name, trial.error, "fix it; --resume tries it again") for trial in failed]
        )
