"""The shipped recipes: they build, and those of published projects say what the projects did, less their faults."""

import pytest

from pocketseg.cli.recipes import listed
from pocketseg.flows.stages import check_stage
from pocketseg.nets import build, parameter_count
from pocketseg.recipes import load_recipe, shipped_names, shipped_text
from pocketseg.training.optim import rate_factor, should_stop

# The published parameter counts, norms' statistics not among them.
PARAMETERS = {
    "vaze2020-teacher": 287_681,
    "light-unet": 11_000_257,
    "lighter-unet": 7_944_661,
    "resnet18-unet": 14_321_937,
    "fixed-point-em-float": 4_837_249,
}
# What a fault of the source stood in the way of.
MENDED = {
    "vaze2020-teacher": {
        "normalize": {"kind": "train-mean-std", "clip": None},
        "stages.0.optimizer.l2_kernel": 5e-4,
        "stages.0.loss.boundary": 0,
        "stages.0.epochs": 120,
    },
    "light-unet": {
        "stages.0.loss.dice_smoothing": 1e-4,
        "augment.border": "reflect",
        "postprocess.keep": "largest",
        "postprocess.fill_holes": True,
    },
    "lighter-unet": {
        "stages.0.loss.dice_smoothing": 1e-4,
        "augment.border": "reflect",
        "postprocess.keep": "largest",
        "postprocess.fill_holes": True,
    },
    "resnet18-unet": {"stages.0.best_by": "loss", "split.test": 0.2, "augment.copies": 1},
    "fixed-point-em-float": {"postprocess.threshold": 0.5, "split.contiguous": True, "data.mask.invert": True},
}


def value_at(values, key: str):
    for part in key.split("."):
        values = values[int(part)] if part.isdecimal() else values[part]
    return values


def stage_of(name: str, *overrides: str):
    (stage,) = load_recipe(name, overrides).stages
    return stage


def rates(stage, scores=()) -> list[float]:
    """The learning rate of every epoch; beyond the known scores nothing improves."""
    seen = list(scores) + [-1e9] * stage.epochs
    return [
        stage.optimizer.lr
        * rate_factor(stage.schedule, epoch=epoch, progress=0.5, epochs=stage.epochs, scores=seen[:epoch])
        for epoch in range(stage.epochs)
    ]


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_recipe_builds_its_nets(name):
    recipe = load_recipe(name, check_stage=check_stage)
    classes = len(recipe.data.classes)
    for stage in recipe.stages:
        net = build(stage.net.arch, recipe.data.channels, classes + (classes > 1), **stage.net.options)
        if name in PARAMETERS:
            assert parameter_count(net) == PARAMETERS[name]


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_recipe_knows_no_files(name):
    recipe = load_recipe(name)
    assert name == "demo" or (recipe.data.group_csv, recipe.data.images, recipe.data.masks) == (None, None, None)


@pytest.mark.parametrize("name", MENDED)
def test_faults_of_the_source_are_mended_and_named(name):
    values = load_recipe(name).model_dump(mode="json")
    assert {key: value_at(values, key) for key in MENDED[name]} == MENDED[name]
    assert "\n# Mended: " in shipped_text(name)


@pytest.mark.parametrize("name", shipped_names())
def test_overrides_of_the_comments_are_good(name):
    """Every --set that a comment proposes, but for the names of someone's table, loads and changes something."""
    for line in shipped_text(name).splitlines():
        if not line.startswith("#") or "--set" not in line or "TABLE" in line:
            continue
        parts = [part.strip() for part in line.split("--set ")[1:]]
        overrides = [part.split('"')[1] if part.startswith('"') else part.split(",")[0] for part in parts]
        assert load_recipe(name, overrides, check_stage) != load_recipe(name), overrides


def test_the_list_of_recipes_is_in_columns(capsys):
    listed(type("Context", (), {"invoked_subcommand": None})())
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == shipped_names()
    begins = {line.index(load_recipe(line.split()[0]).description) for line in lines}
    assert len(begins) == 1 and max(map(len, lines)) <= 120


# --- settings of the sources ------------------------------------------------------------------------------


def test_vaze2020():
    stage = stage_of("vaze2020-teacher")
    assert rates(stage) == pytest.approx([0.1 * 0.1 ** ((1 + epoch % 40) // 15) for epoch in range(120)])
    optimizer = stage.optimizer
    assert (optimizer.kind, optimizer.momentum, optimizer.nesterov, stage.batch) == ("sgd", 0.9, True, 32)
    assert (stage.loss.batch_dice, stage.loss.dice_smoothing, stage.loss.bce) == (1, 0.01, 0)


@pytest.mark.parametrize(("name", "decay"), [("light-unet", 1e-3), ("lighter-unet", 1e-4)])
def test_light_and_lighter(name, decay):
    stage = stage_of(name)
    optimizer = stage.optimizer
    assert (optimizer.kind, optimizer.lr, optimizer.weight_decay, optimizer.decay) == ("adam", 1e-4, decay, "all")
    assert (stage.batch, stage.epochs, stage.best_by) == (8, 200, "loss")
    # Six epochs without a better one halve the rate.
    found = rates(stage, scores=[-0.9, -0.8])
    assert found[:8] == [1e-4] * 8 and found[8:14] == [5e-5] * 6 and found[14] == 2.5e-5
    scores = [-0.9, -0.8] + [-0.8] * 100
    assert [should_stop(scores[:done], stage.early_stop) for done in (17, 49, 50)] == [False, False, True]
    late = [-1.0 / (1 + epoch) for epoch in range(60)] + [-1.0] * 20
    assert [should_stop(late[:done], stage.early_stop) for done in (74, 75)] == [False, True]


def test_lighter_at_one():
    overrides = ["stages.0.net.group_channels=1", "stages.0.optimizer.weight_decay=1e-2"]
    net = stage_of("lighter-unet", *overrides).net
    assert parameter_count(build(net.arch, 3, 1, **net.options)) == 1_983_583


def test_resnet18():
    stage = stage_of("resnet18-unet")
    optimizer = stage.optimizer
    assert (optimizer.kind, optimizer.momentum, optimizer.weight_decay) == ("rmsprop", 0.9, 1e-8)
    # Four epochs without a better one divide the rate by ten.
    assert rates(stage, scores=[-0.5])[:10] == pytest.approx([1e-3] * 5 + [1e-4] * 4 + [1e-5])
    normalize = load_recipe("resnet18-unet").normalize
    assert (normalize.kind, normalize.clip, stage.batch, stage.loss.bce) == ("z-score", 1, 5, 1)


def test_fixed_point_em():
    stage = stage_of("fixed-point-em-float")
    assert rates(stage) == pytest.approx([1e-3 * 0.1 ** (epoch // 40) for epoch in range(200)])
    assert (stage.loss.bce, stage.loss.batch_dice, stage.loss.dice_smoothing) == (0.5, 0.5, 1e-4)
    assert (stage.optimizer.kind, stage.batch, stage.best_by) == ("adam", 5, "dice")
