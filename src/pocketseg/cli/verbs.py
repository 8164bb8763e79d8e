"""All verbs, in the order of a project."""

from __future__ import annotations

import typer

from pocketseg.cli import (
    benchmark,
    convert_config,
    data,
    demo,
    doctor,
    evaluate,
    export,
    fit,
    history,
    import_weights,
    inspect,
    listen,
    models,
    nets,
    overlay,
    pack,
    phantom,
    predict,
    recipes,
    report,
    run,
    serve,
    train,
    verify,
    web,
    wrap,
)
from pocketseg.version import VERSION

app = typer.Typer(
    name="pocketseg",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Small segmentation networks for medical images: a folder of images and masks becomes a small network, "
    "a file that runs without PyTorch, and a report.\n\n"
    "Example:\n\n"
    "    pocketseg fit scans --out runs/first\n\n"
    "    pocketseg predict runs/first/model.pseg new_scans --out masks\n\n"
    "Every verb explains itself with --help. --debug shows the traceback of an error.",
)


def _version(asked: bool) -> None:
    if asked:
        print(VERSION)
        raise typer.Exit


@app.callback()
def common(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Options before the verb."""


VERBS = (
    doctor, fit, train, evaluate, pack, verify, export, wrap, predict, web, benchmark, overlay, report, history, nets,
    inspect, models, phantom, demo, run, serve, listen,
)  # fmt: skip
for verb in VERBS:
    app.command(verb.__name__.rsplit(".", 1)[1].replace("_", "-"))(verb.command)
app.command("import")(import_weights.command)  # no module can be named so
app.command("convert-config", hidden=True)(convert_config.by_its_old_name)
app.add_typer(recipes.app, name="recipes")
app.add_typer(data.app, name="data")
