"""Plans: data sets of every kind in numbers, what is decided for them, and that every choice has a reason."""

from __future__ import annotations

import pytest

from pocketseg.recipes import load_recipe
from pocketseg.recipes.loading import dump_recipe, parse_yaml
from pocketseg.search.plan import Plan, make_plan, plan_text
from pocketseg.search.shapes import Shape
from pocketseg.search.summary import DataSummary, ObjectSize

SHAPE = Shape(16, 4, "plain", "int8")
EPOCHS = {"float": 8, "int8": 2}


def summary(**changed: object) -> DataSummary:
    """A usual data set of gray pictures, 128×128, with one object in each mask."""
    usual = {
        "cases": 100, "groups": 100, "looked": 80, "shapes": ((128, 128),) * 80, "objects": (ObjectSize(40, 0.3),) * 80,
        "shares": (0.08,), "values": {"uint8": (0.0, 255.0)},
    }  # fmt: skip
    return DataSummary(**{**usual, **changed})  # type: ignore[arg-type]


def recipe_of(plan: Plan):
    return plan.recipe(SHAPE, EPOCHS)


def test_a_usual_set_gets_what_thin_nets_learn_well_with():
    recipe = recipe_of(make_plan(summary()))
    first, second = recipe.stages
    assert (recipe.data.size, recipe.data.fit, recipe.data.channels) == ((128, 128), "resize", 1)
    assert (first.batch, first.keep, first.average is not None, first.epochs) == (8, "last", True, 8)
    assert first.loss is not None and (first.loss.bce, first.loss.dice, first.loss.dice_smoothing) == (1, 1, 300)
    assert second.quant is not None and second.quant.scheme == "w8a8" and second.init is not None
    assert (second.init.stage, second.schedule.kind, second.schedule.floor) == ("float", "cosine", 0)


def test_every_choice_has_one_sentence_of_reason():
    plan = make_plan(summary(groups=5, cases=5, looked=4, colored=1, mask={"threshold": 1}))
    for choice in plan.choices:
        assert choice.reason.endswith(".") and len(choice.reason) > 10, choice
    assert all(choice.key in plan_text(plan) and choice.reason in plan_text(plan) for choice in plan.choices)


def test_the_plan_is_an_ordinary_recipe():
    recipe = recipe_of(make_plan(summary()))
    assert load_recipe(parse_yaml(dump_recipe(recipe), "plan")) == recipe


def test_five_images_carry_no_claim():
    plan = make_plan(summary(cases=5, groups=5, looked=4, shapes=((128, 128),) * 4))
    assert plan.notes[0] == ("5 images in 5 groups cannot carry a claim: take every figure here as a first impression")
    assert recipe_of(plan).augment.copies * 4 >= 64


def test_forty_classes():
    names = tuple(f"class-{number}" for number in range(1, 41))
    recipe = recipe_of(make_plan(summary(classes=names, shares=(0.1, *(0.001,) * 39))))
    stage = recipe.stages[0]
    assert len(recipe.data.classes) == 40 and stage.sampling == "balanced"
    assert stage.loss is not None and (stage.loss.bce, stage.loss.ce, stage.loss.batch_dice) == (0, 1, 1)


def test_small_objects_of_large_images_do_not_vanish():
    large = summary(shapes=((4096, 4096),) * 80, objects=(ObjectSize(8, 8 / 4096),) * 500)
    plan = make_plan(large)
    recipe = recipe_of(plan)
    assert (recipe.data.fit, recipe.data.size) == ("tile", (128, 128))
    assert recipe.stages[0].sampling.foreground == 0.33
    assert "8 pixels across in images of 4096×4096" in next(c.reason for c in plan.choices if c.key == "data.fit")


@pytest.mark.parametrize(("share", "side"), [(0.05, 128), (0.03, 192), (0.022, 256)])
def test_smaller_objects_get_a_larger_input(share, side):
    found = summary(shapes=((512, 512),) * 80, objects=(ObjectSize(512 * share, share),) * 80)
    assert recipe_of(make_plan(found)).data.size == (side, side)


def test_a_few_specks_do_not_decide():
    sizes = (ObjectSize(1, 0.002),) * 3 + (ObjectSize(200, 0.4),) * 97
    found = summary(shapes=((512, 512),) * 80, objects=sizes)
    assert recipe_of(make_plan(found)).data.size == (128, 128)


def test_gray_that_is_stored_as_color_is_read_as_gray():
    plan = make_plan(summary(channels=(3,), colored=0))
    assert plan.value("data.channels") == 1
    assert plan.choices[0].reason == "all images are gray, although they are stored as color."


def test_color_is_never_read_as_gray_without_a_word():
    assert make_plan(summary(channels=(3,), colored=80)).value("data.channels") == 3
    few = make_plan(summary(channels=(1, 3), colored=2))
    assert few.value("data.channels") == 1 and "2 of 80 images are in color, and they are read as gray" in (
        few.choices[0].reason
    )


def test_sixteen_bits_with_an_offset_are_brought_to_one_scale():
    plan = make_plan(summary(values={"uint16": (32768.0, 36863.0)}))
    assert recipe_of(plan).normalize.kind == "z-score"
    assert "uint16 from 32768 to 36863" in next(c.reason for c in plan.choices if c.key == "normalize.kind")


def test_three_spacings_are_brought_to_one():
    found = summary(
        spacings=((0.5, 0.5), (1.0, 1.0), (2.0, 2.0)),
        one_spacing={"spacing_mm": [1.0, 1.0], "fit": "pad", "size": [256, 256]},
    )
    data = recipe_of(make_plan(found)).data
    assert (data.spacing_mm, data.fit, data.size) == ((1.0, 1.0), "pad", (256, 256))


def test_ct_is_read_through_a_window():
    recipe = recipe_of(make_plan(summary(volumes=True, values={"int16": (-1024.0, 3071.0)})))
    assert (recipe.data.window, recipe.normalize.kind, recipe.augment.flip) == ((40, 400), "train-mean-std", [])


def test_mr_has_no_window():
    recipe = recipe_of(make_plan(summary(volumes=True, values={"int16": (0.0, 1800.0)})))
    assert (recipe.data.window, recipe.normalize.kind) == (None, "z-score")


def test_images_of_other_shapes_keep_them():
    shapes = ((100, 200), (200, 100), (150, 150))
    assert recipe_of(make_plan(summary(shapes=shapes, looked=3))).data.fit == "letterbox"
    wide = recipe_of(make_plan(summary(shapes=((300, 600),) * 80)))
    assert (wide.data.fit, wide.data.size) == ("resize", (64, 128))


def test_what_the_user_sets_is_not_decided():
    plan = make_plan(summary(), ["data.size", "stages.*.batch", "stages.*.optimizer.lr", "split"])
    keys = {choice.key for choice in plan.choices}
    assert not {"data.size", "stage.batch", "split.kind", "split.test"} & keys
    assert {"stage.optimizer", "data.fit"} <= keys
    changed = plan.recipe(SHAPE, EPOCHS, ["data.size=[64, 64]", "stages.*.batch=3", "stages.*.optimizer.lr=0.1"])
    assert changed.data.size == (64, 64) and {(s.batch, s.optimizer.lr) for s in changed.stages} == {(3, 0.1)}


def test_what_is_set_of_one_stage_leaves_the_others():
    one = "stages.0.loss={ce: 2, batch_dice: 1}"
    found = summary(classes=("a", "b"))
    first, second = make_plan(found, ["stages.0.loss"]).recipe(SHAPE, EPOCHS, [one]).stages
    assert first.loss.ce == 2 and second.loss == make_plan(found).recipe(SHAPE, EPOCHS).stages[1].loss


def test_parts_that_came_with_the_data_are_kept():
    assert recipe_of(make_plan(summary(parts=True))).split.kind == "given"


def test_near_duplicates_are_named():
    notes = make_plan(summary(near_duplicates=(12, 5))).notes
    assert notes[0].startswith("12 images are near-duplicates in 5 clusters: each cluster was made one group")
