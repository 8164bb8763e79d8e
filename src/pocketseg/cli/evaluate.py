"""`pocketseg evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketseg.cli import console
from pocketseg.cli.options import AllowCode, Device, FoldOrAll, Tta


def command(
    model: Annotated[
        Path,
        typer.Argument(
            help="Run or stage folder, best or packed.safetensors, .pseg or .onnx file, a folder of masks, "
            "or a .csv of run lengths."
        ),
    ],
    data: Annotated[Path, typer.Argument(help="Folder (or .npz file) of images and masks.")],
    split: Annotated[Path | None, typer.Option(help="Evaluate a part of this split file only.")] = None,
    part: Annotated[
        str | None,
        typer.Option(help="With --split: train, validation, test (default) or fixed_test (default with --fold all)."),
    ] = None,
    fold: FoldOrAll = 0,
    also: Annotated[
        list[Path], typer.Option("--with", help="A further model; the mean of all is evaluated; repeatable.")
    ] = [],  # noqa: B006
    stage: Annotated[str | None, typer.Option(help="Stage of a run (default: the last).")] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="torch, onnx, openvino or pseg (default: a run's packed model if it is up to date)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the tables (default: MODEL.evaluation, or MODEL.evaluation-2 … for others.)"),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Names with commas between, such as dice,hd95,lesion_f1; docs/metrics.md has all."),
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Of surface_dice and boundary_f1: mm where spacing is known, else pixels.")
    ] = None,
    against: Annotated[
        list[Path],
        typer.Option(help="cases.csv of another model on the same cases, to compare with; repeatable for its seeds."),
    ] = [],  # noqa: B006
    again: Annotated[
        list[Path], typer.Option(help="With --against: cases.csv of a further seed of this model; repeatable.")
    ] = [],  # noqa: B006
    margin: Annotated[
        float | None,
        typer.Option(
            help="Of the Dice, rules off, with --against: is this model worse by less? Such as 0.015, stated before."
        ),
    ] = None,
    set_: Annotated[
        list[str],
        typer.Option("--set", help="data.KEY=VALUE, how to read the data; evaluate.KEY=VALUE, what to measure."),
    ] = [],  # noqa: B006
    device: Device = "cpu",
    tta: Tta = None,
    allow_code: AllowCode = [],  # noqa: B006
) -> None:
    """Evaluate a model, or masks that something else made, case by case.

    Examples:

        pocketseg evaluate runs/first/fold-0/model.onnx scans --split runs/first/split.json --part test

        pocketseg evaluate runs/cv scans --fold all --split runs/cv/split.json --part fixed_test

        pocketseg evaluate masks scans --out evaluated

        pocketseg evaluate model.onnx scans --metrics dice,hd95,surface_dice --tolerance 1.5 --against evaluated

        pocketseg evaluate small-0.pseg scans --again small-1.evaluation --against big-0 --against big-1 --margin 0.015
    """
    from pocketseg.evaluation.cells import (
        COMPARISON_COLUMNS,
        METRIC_COLUMNS,
        SHORT_COLUMNS,
        comparison_row,
        metric_name,
        metric_rows,
        short_row,
    )
    from pocketseg.flows.evaluate import evaluate

    measured = [] if metrics is None else [f"evaluate.metrics=[{metrics}]"]
    measured += [] if tolerance is None else [f"evaluate.tolerance={tolerance}"]
    console.log_to_terminal()
    with console.bars() as bars:
        found = evaluate(
            model,
            data,
            also=also,
            split=split,
            part=part,
            fold=fold,
            stage=stage,
            backend=backend,
            device=device,
            tta=tta,
            out=out,
            against=against,
            again=again,
            margin=margin,
            overrides=[*set_, *measured],
            progress=bars.of("evaluating"),
        )
    console.table("Results", SHORT_COLUMNS, [short_row(summary) for summary in found.summaries], keys=2)
    console.table("Metrics", METRIC_COLUMNS, metric_rows(found.summaries), keys=3)
    if found.comparisons:
        rows = [comparison_row(each) for each in found.comparisons]
        title = f"This model minus {' and '.join(map(str, against))}"
        console.table(title, COMPARISON_COLUMNS, rows, keys=2)
        safe = {each.class_name for each in found.comparisons if each.role == "safety"}
        for name in dict.fromkeys(each.class_name for each in found.comparisons if each.class_name not in safe):
            console.speak(
                f"{name}: the safety metric, what is missed at 90 % specificity, is not known: it takes probabilities "
                "of both models, and cases with and without the class"
            )
        for each in found.comparisons:
            if each.margin is not None:
                verdict = "worse by less than" if each.non_inferior else "not shown to be worse by less than"
                console.speak(
                    f"{each.class_name}: {verdict} {each.margin:g} in {metric_name(each)} (95 %, one-sided 2.5 %)"
                )
    console.speak(f"per case: {found.out / 'cases.csv'}")
