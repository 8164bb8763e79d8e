"""The JSON Schema of a recipe file: what editors complete and check, and what the reference of keys is made of."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

from pocketseg.recipes import schema as models
from pocketseg.recipes.loading import PRESETS, SWEEP

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def recipe_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a recipe file, with what the loader knows beside the model: sweeps and presets.

    It checks every key by itself. What concerns several keys at once (`bce` is for one class) is checked by `train`.

    Example:
        >>> recipe_schema()["properties"]["seed"]["description"]
        'Seed of weights, order and augmentation.'
    """
    schema = models.Recipe.model_json_schema()
    definitions: dict[str, Any] = schema.pop("$defs")
    described = _descriptions()
    for name, section in [("Recipe", schema), *definitions.items()]:
        section.pop("title", None)
        for key, field in section["properties"].items():
            field.pop("title", None)
            field["description"] = described[name, key]
    for node in list(_nodes([schema, definitions])):
        _plain_pair(node)
        for member in node.pop("discriminator", {}).get("mapping", {}).values():
            definitions[member.rpartition("/")[2]]["required"] = ["kind"]  # it decides which member is meant
    _allow_steps(definitions["StageSection"]["properties"]["quant"])
    schema["properties"] |= {SWEEP: _sweep(), PRESETS: _presets()}
    return {"$schema": DIALECT, "title": "pocketseg recipe", **schema, "$defs": definitions}


def _descriptions() -> dict[tuple[str, str], str]:
    """(section, key) -> the string below the field in the source, on one line.

    Pydantic's `use_attribute_docstrings` reads the same, but at every import.
    """
    found = {}
    for section in ast.parse(inspect.getsource(models)).body:
        if isinstance(section, ast.ClassDef):
            for field, below in zip(section.body, section.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    found[section.name, ast.unparse(field.target)] = " ".join(ast.literal_eval(below.value).split())
    return found


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in a schema."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _nodes(inner)


def _plain_pair(node: dict[str, Any]) -> None:
    """Items that are all alike are said once, which more editors understand."""
    items = node.get("prefixItems")
    if items and all(item == items[0] for item in items):
        node["items"] = node.pop("prefixItems")[0]


def _allow_steps(quant: dict[str, Any]) -> None:
    """`quant` may also be a list, which the loader turns into a chain of stages."""
    section = next(choice for choice in quant["anyOf"] if "$ref" in choice)
    quant["anyOf"].append({"type": "array", "items": section, "minItems": 1})


def _sweep() -> dict[str, Any]:
    settings = {"type": "object", "minProperties": 1}
    return {
        "description": "Trains one run for each combination: KEY: [VALUE, …] for a grid, with dotted or nested keys, "
        "or a list of {KEY: VALUE, …}.",
        "anyOf": [
            {**settings, "additionalProperties": {"type": ["array", "object"], "minItems": 1, "minProperties": 1}},
            {"type": "array", "items": settings, "minItems": 1},
            {"type": "null"},  # how a preset turns the sweep off
        ],
    }


def _presets() -> dict[str, Any]:
    return {
        "description": "Other settings under a name, {NAME: {KEY: VALUE, …}} with dotted keys; `train RECIPE:NAME` "
        "takes them.",
        "type": "object",
        "additionalProperties": {"type": "object", "minProperties": 1},
    }
