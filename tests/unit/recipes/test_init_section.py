"""Where a stage starts from, as a recipe says it."""

from __future__ import annotations

import pytest

from pocketseg.errors import RecipeError
from pocketseg.recipes import dump_recipe, load_recipe
from pocketseg.recipes.loading import parse_yaml

NET = {"arch": "thin_unet"}


def recipe(init: dict | None) -> dict:
    return {"stages": [{"name": "a", "net": NET}, {"name": "b", "net": NET, "init": init}]}


@pytest.mark.parametrize(
    "init",
    [
        {"stage": "a"},
        {"stage": "a", "match": "name"},
        {"run": "runs/old"},
        {"run": "runs/old", "stage": "no stage of this recipe", "allow_leak": True},
        {"weights": "imagenet"},
        {"weights": "file.pth", "match": "name"},
        None,
    ],
)
def test_each_source(init):
    loaded = load_recipe(recipe(init))
    assert load_recipe(parse_yaml(dump_recipe(loaded), "")) == loaded
    found = loaded.stages[1].init
    assert found is None if init is None else found is not None and {k: getattr(found, k) for k in init} == init


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ({}, "give stage, run or weights, or write init: null"),
        ({"match": "name"}, "give stage, run or weights"),
        ({"weights": "x", "stage": "a"}, "weights stands alone"),
        ({"weights": "x", "run": "y"}, "weights stands alone"),
        ({"weights": ""}, "cannot be empty"),
        ({"stage": "a", "allow_leak": True}, "allow_leak is for run"),
        ({"stage": "b"}, "which is not an earlier stage"),
        ({"stage": "x", "match": "name"}, "which is not an earlier stage"),
        ({"stage": "a", "match": "shape"}, "strict"),
        ({"run": 7}, "string"),
    ],
)
def test_wrong_combinations(init, words):
    with pytest.raises(RecipeError, match=words) as caught:
        load_recipe(recipe(init))
    assert str(caught.value).startswith("stages")


def test_a_first_stage_starts_from_another_run_and_not_from_a_stage():
    stages = [{"name": "a", "net": NET, "init": {"run": "runs/old", "stage": "z"}}]
    assert load_recipe({"stages": stages}).stages[0].init.run == "runs/old"
    assert load_recipe({"stages": stages}, ["stages.0.init=null"]).stages[0].init is None
