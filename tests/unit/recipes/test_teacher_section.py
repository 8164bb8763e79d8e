"""What a stage may say of its teacher."""

import pytest
import yaml

from pocketseg.errors import RecipeError
from pocketseg.recipes import dump_recipe, load_recipe

NET = {"arch": "thin_unet"}


def recipe(**student):
    stages = [{"name": "big", "net": NET}, {"name": "small", "net": NET, "teacher": {"stage": "big"}} | student]
    return load_recipe({"stages": stages})


def test_all_of_it_comes_back_from_a_file():
    made = recipe(
        teacher={"run": "a", "stage": "b", "unlabelled": "c", "allow_leak": True},
        distil={"kind": "kl"},
        hints={"layers": [{"student": "encoder.*"}], "weights": [1, 2]},
        freeze=["deepest"],
        loss=None,
        best_by="hint",
    )
    assert load_recipe(yaml.safe_load(dump_recipe(made))) == made


def test_the_defaults_of_hints_are_those_of_vaze2020():
    hints = recipe(hints={}).stages[1].hints
    assert (hints.layers, hints.at, hints.kind, hints.weights) == ("blocks", "before-norm", "l1", "area")


@pytest.mark.parametrize(
    ("student", "words"),
    [
        ({"distil": {}, "teacher": None}, "distil and hints need a teacher"),
        ({}, "says nothing without distil or hints"),
        ({"distil": {}, "teacher": {"stage": "small"}}, "which is not an earlier stage (earlier: big)"),
        ({"distil": {}, "teacher": {}}, "does not say who teaches"),
        ({"distil": {}, "teacher": {"run": "a", "onnx": "b"}}, "more than one teacher"),
        ({"distil": {}, "teacher": {"stage": "big", "maps": "b"}}, "more than one teacher"),
        ({"distil": {}, "teacher": {"run": ""}}, "cannot be empty"),
        ({"distil": {}, "teacher": {"maps": "a", "outputs": "live"}}, "maps are not asked again"),
        ({"distil": {}, "teacher": {"stage": "big", "allow_leak": True}}, "allow_leak is for run, runs and unlabelled"),
        ({"hints": {}, "teacher": {"runs": ["a"]}}, "hints come from a single net of ours"),
        ({"hints": {}, "teacher": {"stage": "big", "outputs": "cached"}}, "hints need the teacher itself"),
        ({"distil": {}, "loss": None}, "are for a stage with hints"),
        ({"distil": {}, "best_by": "hint"}, "are for a stage with hints"),
        ({"hints": {}, "loss": None, "best_by": "loss"}, "best_by: loss is for a stage with a loss"),
        ({"hints": {"layers": [{"student": "head"}], "part": "encoder"}}, "list only those you want"),
        ({"hints": {"weights": [1], "total": 3}}, "a list is taken as it is"),
        ({"distil": {"weight": 0}}, "greater than 0"),
        ({"distil": {}, "epochs": 0, "quant": {"scheme": "w8a8"}, "init": {"stage": "big"}}, "in 0 epochs"),
    ],
)
def test_faults(student, words):
    with pytest.raises(RecipeError) as caught:
        recipe(**student)
    assert words in str(caught.value)
