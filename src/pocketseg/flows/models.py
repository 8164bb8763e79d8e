"""`models`: the small trained models that ship with the package."""

from __future__ import annotations

from collections.abc import Sequence

from pocketseg.errors import ModelFileError, near
from pocketseg.runs.shipped import ShippedModel, shipped_models


def models(names: Sequence[str] = ()) -> list[ShippedModel]:
    """Trained models that ship with the package, with what they were trained on, scores and limits.

    Args:
        names: which; default all.

    Returns:
        One for each; empty where none ships.

    Raises:
        ModelFileError: there is no such model.
    """
    found = {model.name: model for model in shipped_models()}
    for name in names:
        if name not in found:
            raise ModelFileError(name, "does not ship with this version", near(name, found) if found else "none does")
    return [found[name] for name in names or found]


MODEL_COLUMNS = ["model", "finds", "size", "scores", "license"]


def model_row(model: ShippedModel) -> list[str]:
    """A model as the cells of MODEL_COLUMNS."""
    scores = ", ".join(f"{name} {value}" for name, value in model.card.scores.items())
    return [model.name, model.card.title, model.size, scores, model.card.license]


def card_lines(model: ShippedModel) -> list[str]:
    """The whole card of a model, a line each."""
    card = model.card
    facts = {
        "finds": card.title, "size": model.size, "data": card.data, "license": card.license, "split": card.split,
        **card.scores, "recipe": card.recipe, "weights to start from": "yes" if model.weights else "no",
    }  # fmt: skip
    return [model.name, *(f"  {name}: {value}" for name, value in facts.items()), *(f"  ! {x}" for x in card.limits)]
