"""A recipe as it may be given away: what may name a person or a place is taken out."""

from __future__ import annotations

from typing import Any

from pocketseg.recipes import Recipe
from pocketseg.recipes.loading import dump_values

HIDDEN = "(left out)"
# Keys whose texts are paths, patterns of names, or columns of a table of patients.
PRIVATE = {
    "images", "masks", "group_csv", "group_column", "group_regex", "subject", "site", "rater", "run", "runs", "onnx",
    "maps", "unlabelled",
}  # fmt: skip
NAMED = {"imagenet"}


def recipe_text(recipe: Recipe) -> str:
    """YAML of what differs from the defaults, without paths, patterns of names, and the card, which stands on top."""
    values = recipe.model_dump(mode="json", exclude_defaults=True, exclude={"card"})
    return dump_values({key: _shown(key, value) for key, value in values.items()})


def _shown(key: str, value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shown(name, each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shown(key, each) for each in value]
    if isinstance(value, str) and (key in PRIVATE or (key == "weights" and value not in NAMED) or _is_path(value)):
        return value if key == "weights" and value in ("uniform", "area") else HIDDEN
    return value


def _is_path(text: str) -> bool:
    return any(word.startswith(("/", "~", "\\\\")) or word[1:3] == ":\\" for word in text.split())
