"""`pocketseg recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

from pocketseg.cli import console, convert_config

app = typer.Typer(
    help="List the shipped recipes, print one to start your own from, convert one of another program, or print the "
    "schema for editors.",
    no_args_is_help=False,
)


@app.callback(invoke_without_command=True)
def listed(context: typer.Context) -> None:
    """List the shipped recipes. Some have other presets, NAME:PRESET, such as a quick one to try them.

    Examples:

        pocketseg recipes

        pocketseg recipes show thin-unet > mine.yaml
    """
    if context.invoked_subcommand is not None:
        return
    from pocketseg.recipes import load_sweep, preset_names, shipped_names

    lines = []
    for name in shipped_names():
        lines.append((name, load_sweep(name).variants[0].recipe.description))
        if presets := preset_names(name):
            lines.append(("", f"{name}:PRESET with {', '.join(presets)}"))
    console.pairs(lines)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a shipped recipe, or NAME:PRESET.")]) -> None:
    """Print a shipped recipe; a preset is printed with what it sets."""
    from pocketseg.recipes import preset_text, shipped_text

    print(preset_text(name) if ":" in name else shipped_text(name), end="")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a recipe file, for editors that complete and check YAML.

    Example:

        pocketseg recipes schema > recipe.schema.json
    """
    import json

    from pocketseg.recipes import recipe_schema

    print(json.dumps(recipe_schema(), indent=2, ensure_ascii=False))


app.command("convert")(convert_config.command)
