"""The JSON Schema says what the loader says, key by key."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from pocketseg.cli.verbs import app
from pocketseg.errors import RecipeError
from pocketseg.recipes import (
    load_sweep,
    parse_yaml,
    preset_names,
    preset_text,
    recipe_schema,
    shipped_names,
    shipped_text,
)

VALIDATOR = jsonschema.Draft202012Validator(recipe_schema())
STAGE = {"name": "float", "net": {"arch": "thin_unet", "width": 8}}


def faults(recipe: Any) -> list[str]:
    return [".".join(map(str, fault.absolute_path)) for fault in VALIDATOR.iter_errors(recipe)]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(recipe_schema())


@pytest.mark.parametrize("name", shipped_names())
def test_every_shipped_recipe_and_form_is_valid(name: str) -> None:
    assert faults(parse_yaml(shipped_text(name), name)) == []
    for preset in preset_names(name):
        assert faults(parse_yaml(preset_text(f"{name}:{preset}"), preset)) == []


@pytest.mark.whole
@pytest.mark.parametrize(
    "change",
    [
        {"sead": 1},
        {"seed": -1},
        {"data": {"size": [4, 4]}},
        {"data": {"size": [64]}},
        {"data": {"fit": "squeeze"}},
        {"postprocess": {"threshold": "best"}},
        {"stages": []},
        {"stages": [{"name": "float"}]},
        {"stages": [{**STAGE, "epoch": 5}]},
        {"stages": [{**STAGE, "schedule": {"kind": "cosine", "every": 3}}]},
        {"stages": [{**STAGE, "schedule": {"floor": 0.1}}]},
        {"stages": [{**STAGE, "quant": []}]},
        {"sweep": {"seed": 1}},
        {"sweep": {"seed": []}},
        {"sweep": [{}]},
        {"presets": ["quick"]},
    ],
)
def test_what_the_loader_refuses_is_refused(change: dict[str, Any]) -> None:
    recipe = {"stages": [STAGE], **change}
    assert faults(recipe)
    if "presets" not in change and change != {"stages": [{**STAGE, "quant": []}]}:
        with pytest.raises(RecipeError):
            load_sweep(recipe)


@pytest.mark.parametrize(
    "change",
    [
        {"sweep": {"seed": [0, 1], "stages.0.net.width": [8, 16]}},
        {"sweep": {"stages": {"float": {"batch": [4, 8]}}}},
        {"sweep": [{"seed": 1}, {"seed": 2, "stages.0.batch": 4}]},
        {"presets": {"quick": {"stages.0.epochs": 2}}},
        {"stages": [{**STAGE, "quant": [{"scheme": "w4"}, {"scheme": "w4a8"}]}]},
        {"stages": [{**STAGE, "schedule": {"kind": "plateau"}, "loss": {"bce": 1, "dice": 0.5}}]},
        {"data": {"window": [40, 400]}},
        {"data": {"window": "stored"}},
        {"postprocess": {"threshold": "auto"}},
    ],
)
def test_what_the_loader_takes_is_taken(change: dict[str, Any]) -> None:
    recipe = {"stages": [STAGE], **change}
    assert faults(recipe) == []
    load_sweep(recipe)


def test_every_key_says_what_it_does() -> None:
    schema = recipe_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, field in section["properties"].items():
            assert field["description"].endswith("."), key


def test_the_verb_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    app(["recipes", "schema"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == recipe_schema()
