"""What a recipe may say of classes that overlap, and what contradicts it."""

from __future__ import annotations

import pytest

from pocketseg.errors import RecipeError
from pocketseg.recipes import load_recipe
from pocketseg.runs.opening import cases_options

SET = ("data.multilabel=true", "data.classes=[organ,tumor]")


def loaded(*changes):
    return load_recipe("thin-unet", [*SET, *changes])


def test_the_default_loss_fits():
    recipe = loaded(
        "data.mask.layers=[[1,2],[2]]", "postprocess.threshold=[0.4,0.6]", "stages.*.loss={bce: 1, dice: 1}"
    )
    coding = cases_options(recipe.data)["coding"]
    assert coding.multilabel and coding.layers == ((1, 2), (2,)) and coding.classes == 2
    assert not cases_options(load_recipe("thin-unet", []).data)["coding"].multilabel


@pytest.mark.parametrize(("changes", "told"), [
    (["data.classes=[organ]"], "one class overlaps with none"),
    (["data.multilabel=false", "data.mask.layers=[[1],[2]]", "stages.*.loss={ce: 1}"], "classes that may overlap"),
    (["data.multilabel=false", "data.mask.suffix=_{class}", "stages.*.loss={ce: 1}"], "classes that may overlap"),
    (["data.mask.layers=[[1]]"], "each of the 2 classes"),
    (["data.mask.layers=[[0,1],[2]]"], "0 is background"),
    (["data.mask.layers=[[1,1],[2]]"], "a class has each value once"),
    (["data.mask.layers=[[1],[2]]", "data.mask.suffix=_{class}"], "give one of them"),
    (["data.mask.suffix=['_r1_{class}','_r2_{class}']"], "a list names raters"),
    (["data.mask.values=[1,2]"], "mask.values"),
    (["data.mask.invert=true"], "mask.invert"),
    (["data.mask.colors=['#ff0000','#00ff00']"], "mask.colors"),
    (["data.mask.by_folder=true"], "mask.by_folder"),
    (["data.mask.layers=[[1],[2]]", "data.mask.threshold=1"], "mask.threshold"),
    (["stages.*.loss={ce: 1}"], "use bce with data.multilabel"),
    (["stages.*.loss={bce: 1, class_weights: [1, 1, 1]}"], "class_weights"),
    (["stages.*.loss={bce: 1, pixel_weights: borders}"], "borders"),
    (["stages.0.teacher={run: other}", "stages.0.distil={}"], "learn from masks alone"),
    (["postprocess.threshold=[0.5]"], "one number for each class"),
    (["data.multilabel=false", "postprocess.threshold=[0.5,0.5]", "stages.*.loss={ce: 1}"], "needs data.multilabel"),
])  # fmt: skip
def test_contradictions_are_told(changes, told):
    with pytest.raises(RecipeError, match=told):
        loaded(*changes)
