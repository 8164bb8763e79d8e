"""The shipped recipes: they build, and those of published projects say what the projects did, less their faults."""

import re

import pytest

from pocketseg.cli.recipes import listed
from pocketseg.experiments.plan import channels_of
from pocketseg.experiments.stage_checks import check_stage
from pocketseg.nets import parameter_count, skeleton
from pocketseg.recipes import dump_recipe, load_sweep, preset_names, shipped_names, shipped_text
from pocketseg.recipes.schema import HintsSection
from pocketseg.training.hints import choose_hints
from pocketseg.training.optim import rate_factor, should_stop

# The published parameter counts of each trial's stages, norms' statistics not among them.
PARAMETERS = {
    "vaze2020": [[287_681, 43_754]],
    "light-unet-table": [[17_267_393], [11_000_257], [7_944_661], [1_983_583]],
    "resnet18-unet-encoders": [[17_266_241], [14_321_937], None, None],
    "blu-net": [[31_030_593] + [3_933_633] * 4],
    "fixed-point-grid": [[4_837_249] * 9],
}
EVERY_FORM = [
    name
    for shipped in shipped_names()
    for name in (shipped, *(f"{shipped}:{preset}" for preset in preset_names(shipped)))
]
PIPELINES = [*PARAMETERS, "pocket", "tiny-40k", "tiny-16k"]
# What a fault of the source stood in the way of.
CORRECTED = {
    "vaze2020": {
        "normalize": {"kind": "train-mean-std", "clip": None},
        "stages.0.optimizer.l2_kernel": 5e-4,
        "stages.0.loss.boundary": 0,
        "stages.0.epochs": 120,
    },
    "light-unet-table": {
        "stages.0.loss.dice_smoothing": 1e-4,
        "augment.border": "reflect",
        "postprocess.keep": "largest",
        "postprocess.fill_holes": True,
    },
    "resnet18-unet-encoders": {"stages.0.best_by": "loss", "split.test": 0.2, "augment.copies": 1},
    "blu-net": {"split.folds": 5, "stages.4.quant.start": "data"},
    "fixed-point-grid": {"postprocess.threshold": 0.5, "split.contiguous": True, "data.mask.invert": True},
}


def value_at(values, key: str):
    for part in key.split("."):
        values = values[int(part)] if part.isdecimal() else values[part]
    return values


def first(name: str, *overrides: str):
    """The first recipe of a shipped one that may be a sweep."""
    return load_sweep(name, overrides, check_stage).variants[0].recipe


def rates(stage, scores=()) -> list[float]:
    """The learning rate of every epoch; beyond the known scores nothing improves."""
    seen = list(scores) + [-1e9] * stage.epochs
    return [
        stage.optimizer.lr
        * rate_factor(stage.schedule, epoch=epoch, progress=0.5, epochs=stage.epochs, scores=seen[:epoch])
        for epoch in range(stage.epochs)
    ]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_nets_of_published_projects_have_their_parameters(name):
    for variant, published in zip(load_sweep(name).variants, PARAMETERS[name], strict=True):
        recipe = variant.recipe
        nets = [skeleton(stage.net.arch, channels_of(recipe.data), 1, **stage.net.options) for stage in recipe.stages]
        assert published in (None, [parameter_count(net) for net in nets])


@pytest.mark.parametrize("name", EVERY_FORM)
def test_every_form_is_good_and_differs_from_the_recipe(name):
    whole = load_sweep(name, (), check_stage)
    for variant in whole.variants:
        classes = len(variant.recipe.data.classes)
        for stage in variant.recipe.stages:
            skeleton(stage.net.arch, channels_of(variant.recipe.data), classes + (classes > 1), **stage.net.options)
    shipped, _, preset = name.partition(":")
    texts = [[dump_recipe(v.recipe) for v in load_sweep(n, (), check_stage).variants] for n in (shipped, name)]
    assert not preset or texts[0] != texts[1]


@pytest.mark.parametrize("name", shipped_names())
def test_recipes_of_one_s_own_data_leave_the_channels_to_it_and_published_ones_keep_theirs(name):
    found = {variant.recipe.data.channels for variant in load_sweep(name).variants}
    published = {3} if name == "light-unet-table" else {1}
    assert found == ({"auto"} if name in ("thin-unet", "pocket") else published)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_has_a_quick_and_a_smoke_form(name):
    assert {"quick", "smoke"} <= set(preset_names(name))


@pytest.mark.parametrize("name", shipped_names())
def test_a_shipped_recipe_knows_no_files(name):
    recipe = first(name)
    assert name == "demo" or (recipe.data.group_csv, recipe.data.images, recipe.data.masks) == (None, None, None)


@pytest.mark.parametrize("name", CORRECTED)
def test_faults_of_the_source_are_corrected_and_named(name):
    values = first(name).model_dump(mode="json")
    assert {key: value_at(values, key) for key in CORRECTED[name]} == CORRECTED[name]
    assert "\n# Corrected: " in shipped_text(name)


@pytest.mark.parametrize("name", shipped_names())
def test_overrides_of_the_comments_are_good(name):
    """Every --set that a comment proposes, but for the names of someone's table, loads and changes something."""
    for line in shipped_text(name).splitlines():
        if not line.startswith("#") or "--set" not in line or "TABLE" in line:
            continue
        parts = [part.strip() for part in line.split("--set ")[1:]]
        overrides = [part.split('"')[1] if part.startswith('"') else re.split(r"[,);]", part)[0] for part in parts]
        assert load_sweep(name, overrides, check_stage) != load_sweep(name, (), check_stage), overrides


def test_the_list_of_recipes_is_in_columns(capsys):
    listed(type("Context", (), {"invoked_subcommand": None})())
    lines = capsys.readouterr().out.splitlines()
    named = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[0] for line in named] == shipped_names()
    begins = {line.index(first(line.split()[0]).description) for line in named}
    assert len(begins) == 1 and max(map(len, lines)) <= 144
    assert any(line.split() == ["pocket:PRESET", "with", "quick,", "smoke"] for line in lines)


# --- settings of the sources ------------------------------------------------------------------------------


def test_vaze2020():
    stage, student = first("vaze2020").stages
    assert student.hints.model_dump() | {"total": 10.0} == HintsSection().model_dump() | {"total": 10.0}
    assert rates(stage) == pytest.approx([0.1 * 0.1 ** ((1 + epoch % 40) // 15) for epoch in range(120)])
    optimizer = stage.optimizer
    assert (optimizer.kind, optimizer.momentum, optimizer.nesterov, stage.batch) == ("sgd", 0.9, True, 32)
    assert (stage.loss.batch_dice, stage.loss.dice_smoothing, stage.loss.bce) == (1, 0.01, 0)


@pytest.mark.parametrize(("trial", "decay"), [(0, 1e-4), (1, 1e-3), (2, 1e-4), (3, 1e-2)])
def test_light_and_lighter(trial, decay):
    (stage,) = load_sweep("light-unet-table").variants[trial].recipe.stages
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


def test_resnet18():
    (stage,) = first("resnet18-unet-encoders").stages
    optimizer = stage.optimizer
    assert (optimizer.kind, optimizer.momentum, optimizer.weight_decay) == ("rmsprop", 0.9, 1e-8)
    # Four epochs without a better one divide the rate by ten.
    assert rates(stage, scores=[-0.5])[:10] == pytest.approx([1e-3] * 5 + [1e-4] * 4 + [1e-5])
    normalize = first("resnet18-unet-encoders").normalize
    assert (normalize.kind, normalize.clip, stage.batch, stage.loss.bce) == ("z-score", 1, 5, 1)


def test_blu_net():
    """The constants of its pipeline: five stages, their hints, rates and what each is kept by."""
    recipe = first("blu-net")
    unet, encoder, decoder, student, binary = recipe.stages
    assert [stage.optimizer.lr for stage in recipe.stages] == [1e-4, 1e-3, 1e-3, 1e-3, 1e-3]
    assert [stage.best_by for stage in recipe.stages] == ["loss", "hint", "hint", "iou", "iou"]
    assert all((stage.epochs, stage.batch) == (400, 1) for stage in recipe.stages)
    assert rates(student) == pytest.approx([1e-3 * 0.95 ** max(0, epoch - 199) for epoch in range(400)])
    assert unet.optimizer.l2_kernel == 1e-7 and unet.loss.bce == student.loss.bce == binary.loss.bce == 1
    assert (encoder.loss, encoder.hints.part, encoder.hints.total) == (None, "encoder", 10)
    assert (decoder.loss, decoder.hints.part, decoder.hints.total) == (None, "decoder", 12)
    assert (decoder.distil.kind, decoder.distil.weight) == ("mse", 1)
    assert binary.quant.scheme == "residual w3a3" and recipe.augment.histogram == 3


def test_hints_of_the_pipelines():
    """Which layers are paired, and with which weights: the numbers of the fact sheets."""
    found = {}
    for name, at, size in (("vaze2020", 1, (1, 128, 256)), ("blu-net", 1, (1, 256, 256)), ("blu-net", 2, (1, 256, 256)),
                           ("pocket", 1, (1, 128, 128))):  # fmt: skip
        stages = first(name).stages
        nets = [skeleton(stage.net.arch, 1, 1, **stage.net.options) for stage in (stages[at], stages[0])]
        found[name, at] = choose_hints(stages[at].hints, *nets, size, size).each
    vaze = [hint.weight for hint in found["vaze2020", 1]]
    assert len(vaze) == 13 and sum(vaze) == pytest.approx(10)
    assert vaze[6] == pytest.approx(6.00, abs=5e-3) and vaze[5] == vaze[7] == pytest.approx(1.50, abs=5e-3)
    assert [len(found["blu-net", at]) for at in (1, 2)] == [10, 12]
    assert {hint.weight for at in (1, 2) for hint in found["blu-net", at]} == {1.0}
    assert len(found["pocket", 1]) == 11


def test_fixed_point_grid():
    stages = first("fixed-point-grid").stages
    assert rates(stages[0])[0] == pytest.approx(1e-3, rel=1e-3) and rates(stages[0])[-1] < 1e-6
    assert all((stage.loss.bce, stage.loss.batch_dice, stage.batch) == (0.5, 0.5, 5) for stage in stages)
    assert [stage.quant.scheme for stage in stages[1:]] == [
        "fixed Q8.8/Q8.8", "fixed Q0.8/Q8.0", "fixed Q0.4/Q6.0", "fixed Q0.2/Q6.0", "fixed Q0.2/Q4.0", "w2", "w2",
        "w1a1",
    ]  # fmt: skip
    assert [stage.quant.activation for stage in stages[1:]] == ["relu"] * 6 + ["ternary-tanh", "relu"]
    assert all(stage.quant.keep == ["encoder.0*", "last"] for stage in stages[1:])
