import copy

import pytest

from pocketseg.errors import RecipeError
from pocketseg.experiments.stage_checks import check_stage
from pocketseg.recipes import dump_recipe, load_recipe, load_sweep, parse_yaml

BASE = {"stages": [{"name": "float", "net": {"arch": "thin_unet"}}]}


def swept(asked, **more):
    return load_sweep(copy.deepcopy(BASE) | {"sweep": asked} | more, check_stage=check_stage)


def refusal(asked, overrides=()) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_sweep(copy.deepcopy(BASE) | {"sweep": asked}, overrides, check_stage)
    return [str(problem) for problem in caught.value.problems]


def test_a_grid_is_every_combination_the_last_key_fastest():
    found = swept({"stages.0.net.width": [8, 16], "seed": [0, 1, 2]})
    assert [one.name for one in found.variants] == [
        f"width={width},seed={seed}" for width in (8, 16) for seed in range(3)
    ]
    assert [(one.recipe.stages[0].net.options["width"], one.recipe.seed) for one in found.variants] == [
        (width, seed) for width in (8, 16) for seed in range(3)
    ]
    assert found.variants[5].values == {"stages.0.net.width": 16, "seed": 2}
    assert found.keys == ("stages.0.net.width", "seed")


def test_each_recipe_is_an_ordinary_one():
    one = swept({"seed": [4, 5]}).variants[1].recipe
    assert one == load_recipe(BASE | {"seed": 5})
    assert "sweep" not in parse_yaml(dump_recipe(one), "dump")


def test_a_list_is_taken_as_it_is():
    found = swept([{"seed": 1, "data.size": [64, 64]}, {"seed": 2}])
    assert [one.name for one in found.variants] == ["seed=1,size=64-64", "seed=2"]
    assert [one.recipe.data.size for one in found.variants] == [(64, 64), (128, 128)]


def test_stages_may_be_called_by_name_and_keys_nested():
    dotted = swept({"stages.float.net.width": [8, 16]})
    assert [one.recipe for one in swept({"stages": {0: {"net": {"width": [8, 16]}}}}).variants] == [
        one.recipe for one in dotted.variants
    ]


def test_overrides_make_a_sweep():
    found = load_sweep(BASE, ["sweep.stages.0.net.width=[8, 16]", "sweep.seed=[0, 1]"])
    assert len(found.variants) == 4 and found.columns == {"stages.0.net.width": "width", "seed": "seed"}


def test_without_sweep_the_recipe_is_the_only_one():
    found = load_sweep(BASE, ["seed=3"])
    assert [(one.name, one.values, one.recipe.seed) for one in found.variants] == [("", {}, 3)] and found.keys == ()


def test_variants_share_nothing_with_one_another():
    found = swept([{"stages.0.net": {"arch": "unet"}, "stages.0.net.width": width} for width in (8, 16)])
    assert [one.recipe.stages[0].net.options for one in found.variants] == [{"width": 8}, {"width": 16}]


def test_the_text_makes_the_same_sweep_again():
    found = swept({"seed": [1, 2], "stages.0.optimizer.lr": [1e-3]})
    assert load_sweep(parse_yaml(found.text, "text")) == found


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["../a", "/etc/x y", ".."], ["description=a", "description=etc-x-y", "description=-"]),
        (["A", "a", "B"], ["description=A", "description=a~2", "description=B"]),
        (["b", "B"], ["description=b", "description=B~2"]),
        (["ä", "ö", ""], ["description=-", "description=-~2", "description=-~3"]),
        (["x" * 300, "x" * 299], ["description=" + "x" * 88, "description=" + "x" * 88 + "~2"]),
    ],
)  # fmt: skip
def test_names_are_safe_and_differ(values, names):
    assert [one.name for one in swept({"description": values}).variants] == names


def test_keys_with_the_same_end_are_distinguished():
    stages = [{"name": name, "net": {"arch": "thin_unet"}} for name in "ab"]
    found = swept({"stages.0.net.width": [8], "stages.1.net.width": [16]}, stages=stages)
    assert found.variants[0].name == "0.net.width=8,1.net.width=16"


# --- what is refused ----------------------------------------------------------------------------------------------


def test_all_faults_of_all_trials_are_reported_with_the_trial():
    found = refusal({"stages.0.net.width": [8, -1, 0], "seed": [0, -5]})
    assert any("width=8,seed=-5" in text and "seed" in text for text in found)
    assert any(text.startswith("width=-1,seed=0") and "net.width" in text for text in found)
    assert any(text.startswith("width=0,seed=0") for text in found)


def test_what_all_trials_share_is_reported_once():
    found = refusal({"seed": [0, 1, 2]}, ["stages.0.epoch=3"])
    assert found == ["stages.0.epoch: is not a key of a recipe → did you mean epochs?"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "varies nothing"),
        ([], "neither a grid nor a list"),
        (3, "neither a grid nor a list"),
        ([{}], "neither a grid nor a list"),
        ({"seed": 3}, "sweep.seed: is 3, which is not a list"),
        ({"seed": []}, "is not a list of values"),
        ({"stages": {}}, "stages: varies nothing"),
        ({"seed": [1, 2, 1]}, "has seed=1 twice"),
        ([{"seed": 1}, {"seed": 1}], "has seed=1 twice"),
        ({"seed": list(range(101)), "split.seed": list(range(100))}, "makes 10,100 trainings"),
        ({"stages.7.net.width": [8]}, "there is no stages.7.net.width to set"),
        ({"stages.student.net.width": [8]}, "there is no stages.student.net.width"),
        ({"widht": [8, 16]}, "is not a key of a recipe"),
    ],
)
def test_sweeps_that_make_no_sense(asked, words):
    assert words in "\n".join(refusal(asked))


def test_setting_what_is_varied_is_refused():
    assert refusal({"seed": [0, 1]}, ["seed=5"]) == [
        "--set seed=5: is varied by the sweep → remove one of the two"
    ]  # fmt: skip


def test_a_single_recipe_is_asked_for():
    with pytest.raises(RecipeError, match="pocketseg train"):
        load_recipe(BASE | {"sweep": {"seed": [1]}})
