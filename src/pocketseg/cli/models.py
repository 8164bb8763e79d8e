"""`pocketseg models`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pocketseg.cli import console


def command(
    names: Annotated[list[str] | None, typer.Argument(help="Names of models, whose whole cards are shown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON: the whole cards.")] = False,
) -> None:
    """List the small trained models that ship with the package; where a command takes a model, it takes their names.

    Each has a card: what it was trained on, under which license, how it was tested, its scores, and its limits.

    Examples:

        pocketseg models

        pocketseg models --json
    """
    from pocketseg.flows.models import MODEL_COLUMNS, card_lines, model_row, models

    console.log_to_terminal()
    found = models(names or ())
    if as_json:
        cards = [{"name": each.name, "file": str(each.file), **each.card.model_dump()} for each in found]
        print(json.dumps(cards, indent=1))
    elif not found:
        console.speak("no trained model ships with this version")
        console.advise("pocketseg demo, which trains one in minutes")
    elif names:
        for line in (line for each in found for line in card_lines(each)):
            console.speak(line)
    else:
        console.table("Trained models", MODEL_COLUMNS, [model_row(each) for each in found])
