"""Files of the fixed-point study: every key, every mode, what is dead, what is wrong; and the study's experiments."""

import logging

import pytest
import yaml

from pocketseg.errors import RecipeError
from pocketseg.experiments.stage_checks import check_stage
from pocketseg.flows.convert_config import convert_config, listed
from pocketseg.nets import build
from pocketseg.quant import Scheme, quantize_net
from pocketseg.recipes import load_recipe, parse_yaml
from pocketseg.recipes.importers.fixed_point import (
    DEAD,
    EXPERIMENTS,
    INT_BITS,
    KEYS,
    MAX_BITS,
    experiment,
    from_fixed_point,
    is_fixed_point,
)

# The keys of the example in the source's README, which has no `activation`.
README = {
    "dataset": "emdataset",
    "lr": 0.001,
    "num_epochs": 200,
    "model_type": "unet",
    "init_type": "glorot",
    "quantization": "FIXED",
    "activation_f_width": 4,
    "activation_i_width": 4,
    "weight_f_width": 4,
    "weight_i_width": 4,
    "gpu_core_num": 1,
    "trained_model": "/models/em_a4_4_w4_4.pkl",
    "experiment_name": "em_a4_4_w4_4",
    "log_output_dir": "/results",
    "operation_mode": "normal",
}
SMALLEST = {"dataset": "nih", "lr": 0.002, "num_epochs": 7, "quantization": "Normal", "operation_mode": "normal"}


def converted(**changes):
    return from_fixed_point({"UNET": {**SMALLEST, **changes}})


def stage_of(**changes):
    (stage,) = load_recipe(converted(**changes).values, check_stage=check_stage).stages
    return stage


def faults(values) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        from_fixed_point(values)
    return [str(problem) for problem in caught.value.problems]


def notes_of(key: str, **changes) -> list[str]:
    return [note for note in converted(**changes).notes if note.startswith(key)]


# --- sound files ------------------------------------------------------------------------------------------


def test_the_example_of_the_readme():
    found = from_fixed_point({"UNET": README})
    recipe = load_recipe(found.values, check_stage=check_stage)
    (stage,) = recipe.stages
    assert stage.quant.scheme == "fixed Q4.4/Q4.4" and stage.quant.keep == ["encoder.0*", "last"]
    assert (stage.epochs, stage.optimizer.kind, stage.optimizer.lr, stage.batch) == (200, "adam", 1e-3, 5)
    assert stage.init is None and stage.net.options == {}
    assert found.name == "em_a4_4_w4_4" and found.folder == "/results" and found.mode == "normal"
    told = [note.split(" ")[0] for note in found.notes]
    assert sorted(told) == ["activation", "gpu_core_num", "init_type", "model_type", "quantization", "trained_model"]
    assert any("activation is missing" in note and "relu is used" in note for note in found.notes)


def test_membranes_have_the_settings_of_the_shipped_recipe():
    """All but the schedule, which the shipped grid takes from the study's README."""
    ours = load_recipe("fixed-point-grid").model_dump()
    theirs = load_recipe(from_fixed_point(experiment("em/full")).values).model_dump()
    alike = ("data", "split", "normalize", "augment", "postprocess", "evaluate", "seed")
    assert {key: theirs[key] for key in alike} == {key: ours[key] for key in alike}
    (mine, *_), (published,) = ours["stages"], theirs["stages"]
    assert {**published, "name": "", "schedule": None} == {**mine, "name": "", "schedule": None}


@pytest.mark.parametrize(
    ("label", "title", "loss", "schedule", "batch", "size"),
    [
        ("gm", "gray-matter", {"batch_dice": 1}, "cosine", 16, (200, 200)),
        ("GMchallenge", "gray-matter", {"batch_dice": 1}, "cosine", 16, (200, 200)),
        ("em_challenge", "membrane", {"bce": 0.5, "batch_dice": 0.5}, "multi-step", 5, (200, 200)),
        ("NIH", "pancreas", {"batch_dice": 1}, "cosine", 16, (112, 176)),
    ],
)
def test_the_data_set_decides(label, title, loss, schedule, batch, size):
    recipe = load_recipe(converted(dataset=label).values)
    (stage,) = recipe.stages
    parts = {"bce", "ce", "dice", "batch_dice"}
    assert {key: value for key, value in stage.loss.model_dump(include=parts).items() if value} == loss
    assert stage.loss.dice_smoothing == 1e-4 and stage.optimizer.kind == "adam"
    assert (recipe.data.classes, stage.schedule.kind, stage.batch, recipe.data.size) == ([title], schedule, batch, size)
    assert recipe.postprocess.threshold == 0.5


def test_the_experiments_name_beats_a_label_that_was_copied():
    found = converted(dataset="gmchallenge", experiment_name="em_a6_0_w0_2")
    assert found.values["data"]["classes"] == ["membrane"]
    assert [note for note in found.notes if "experiment_name says em" in note]
    assert converted(dataset="gm", experiment_name="empty").values["data"]["classes"] == ["gray-matter"]


WIDTHS = {"activation_i_width": 6, "activation_f_width": 0, "weight_i_width": 0, "weight_f_width": 4}


@pytest.mark.parametrize(
    ("quantization", "widths", "scheme"),
    [
        ("FIXED", WIDTHS, "fixed Q0.4/Q6.0"),
        ("Fixed", {key: str(value) for key, value in WIDTHS.items()}, "fixed Q0.4/Q6.0"),
        ("INT", {"activation_i_width": 8, "weight_i_width": 4}, "w4a8"),
        ("int", {"activation_i_width": 2, "weight_i_width": 2}, "wint2a2"),
        ("BNN", {}, "w1a1"),
        ("Ternary", {}, "w2"),
    ],
)
def test_schemes(quantization, widths, scheme):
    stage = stage_of(quantization=quantization, **widths)
    assert (stage.name, stage.quant.scheme, stage.quant.keep) == ("fixed-point", scheme, ["encoder.0*", "last"])


@pytest.mark.parametrize("quantization", ["Normal", "NORMAL", "XNOR", "none", None])
def test_what_is_not_quantized(quantization):
    stage = stage_of(quantization=quantization)
    assert stage.quant is None and stage.name == "float"
    told = notes_of("quantization", quantization=quantization)
    assert bool(told) == (str(quantization).lower() != "normal")


def test_a_misspelt_quantization_is_reported_with_the_name_near_to_it():
    (note,) = notes_of("quantization", quantization="FIXD")
    assert "leaves the net in f32" in note and "did you mean fixed?" in note


@pytest.mark.parametrize(
    ("activation", "told"),
    [
        ("relu", []),
        ("ReLU", []),
        ("tanh", ["activation is tanh, which means relu in the source"]),
        ("ternaryTanh", ["activation is ternarytanh, which we offer for quantized nets only; relu is used"]),
        ("ternarytan", ["activation is 'ternarytan', which means relu in the source; did you mean ternarytanh?"]),
        ("none", ["activation is missing"]),
    ],
)
def test_activations(activation, told):
    notes = notes_of("activation", activation=activation)
    assert len(notes) == len(told) and all(note.startswith(start) for note, start in zip(notes, told, strict=True))


def test_ternary_tanh_of_a_quantized_net():
    stage = stage_of(quantization="Ternary", activation="ternaryTanh")
    assert (stage.quant.scheme, stage.quant.activation) == ("w2", "ternary-tanh")
    (note,) = notes_of("activation", quantization="Ternary", activation="ternaryTanh")
    assert "in every block" in note
    assert stage_of(quantization="Ternary", activation="tanh").quant.activation == "relu"


@pytest.mark.parametrize("key", sorted(DEAD))
def test_dead_keys_are_reported_and_change_nothing(key):
    with_key = converted(**{key: "none"})
    assert with_key.values == converted().values
    assert [note for note in with_key.notes if note.startswith(key) and "left out" in note]


def test_widths_without_use_are_reported():
    (note,) = notes_of("weight_i_width", quantization="BNN", **WIDTHS)
    assert note.startswith("weight_i_width, weight_f_width, activation_i_width, activation_f_width have no effect")
    (note,) = notes_of(
        "weight_f_width", quantization="INT", **(WIDTHS | {"weight_i_width": 4}) | {"activation_f_width": 1}
    )
    assert note.startswith("weight_f_width, activation_f_width have no effect with quantization int")


def test_numbers_may_stand_in_quotes():
    stage = stage_of(lr="2.5e-3", num_epochs="40")
    assert (stage.optimizer.lr, stage.epochs) == (0.0025, 40)


def test_every_key_is_known():
    everything = {**README, "activation": "relu", "dropout": "enable"}
    assert set(everything) == set(KEYS)
    from_fixed_point({"UNET": everything})


# --- modes ------------------------------------------------------------------------------------------------


def test_retrain_starts_from_the_model():
    stage = stage_of(operation_mode="Retrain", trained_model="runs/float/best.safetensors")
    assert stage.init.weights == "runs/float/best.safetensors" and stage.init.match == "strict"
    assert not notes_of("trained_model", operation_mode="retrain", trained_model="best.safetensors")


def test_retrain_starts_from_a_file_of_theirs_by_the_order_of_layers(tmp_path):
    stage = stage_of(operation_mode="retrain", trained_model="/models/full_precision.pkl")
    assert (stage.init.weights, stage.init.match) == ("/models/full_precision.pkl", "order")
    assert stage_of(operation_mode="retrain", trained_model=str(tmp_path)).init.run == str(tmp_path)
    told = load_recipe(converted(operation_mode="retrain", trained_model="x.pkl").values, ["stages.0.init={run: r}"])
    assert told.stages[0].init.run == "r" and told.stages[0].init.weights is None


@pytest.mark.parametrize("weights", ["none", "", None])
def test_retrain_needs_a_model(weights):
    (fault,) = faults({"UNET": {**SMALLEST, "operation_mode": "retrain", "trained_model": weights}})
    assert fault.startswith("UNET.trained_model: is missing")


@pytest.mark.parametrize(
    ("mode", "weights", "command"),
    [
        ("NOrmal", "x.pkl", "pocketseg train recipe.yaml --data DATA --out /results/nih_1"),
        ("retrain", "best.safetensors", "pocketseg train recipe.yaml --data DATA --out /results/nih_1"),
        ("inference", "best.safetensors", "pocketseg evaluate best.safetensors DATA"),
        ("inference", "x.pkl", "pocketseg evaluate /results/nih_1 DATA"),
        ("visualize", "best.safetensors", "pocketseg inspect best.safetensors --weights nih_1.pdf"),
    ],
)
def test_modes_become_verbs(mode, weights, command, tmp_path):
    values = {**SMALLEST, "operation_mode": mode, "trained_model": weights}
    values |= {"experiment_name": "nih_1", "log_output_dir": "/results"}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"UNET": values}))
    assert convert_config(path).next == command


@pytest.mark.parametrize("mode", ["inference", "visualize"])
def test_other_modes_never_train(mode):
    with pytest.raises(RecipeError, match=f"operation_mode is {mode}, which trains nothing → use `pocketseg run`"):
        load_recipe({"UNET": {**SMALLEST, "operation_mode": mode}})


def test_a_file_is_a_recipe(tmp_path, caplog):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"UNET": README}))
    with caplog.at_level(logging.WARNING, "pocketseg"):
        recipe = load_recipe(path, ["stages.0.epochs=3"], check_stage)
    assert recipe.stages[0].epochs == 3 and recipe.stages[0].quant.scheme == "fixed Q4.4/Q4.4"
    assert f"{path}: activation is missing" in caplog.text


# --- faults -----------------------------------------------------------------------------------------------


def test_all_faults_in_one_pass():
    section = {
        **SMALLEST,
        "dataset": "neurons",
        "lr": "fast",
        "num_epochs": 0,
        "quantization": "FIXED",
        "weight_i_width": 9,
        "weight_f_width": 8,
        "activation_i_width": -1,
        "operation_mode": "retrian",
        "num_epoch": 3,
    }
    assert faults({"UNET": section, "VNET": {}}) == [
        "VNET: stands beside UNET, alone in its file → remove it",
        "UNET.num_epoch: is not a key of UNET → did you mean num_epochs?",
        "UNET.dataset: is 'neurons', which tells none of gm, em, nih by its start "
        "→ write gm (spinal cord), em (membranes) or nih (pancreas)",
        "UNET.operation_mode: is 'retrian', which is not a mode → did you mean retrain?",
        "UNET.weight_i_width and weight_f_width: are 9 and 8; together they must be 1 to 16 "
        "→ 0 and 4 or 6 and 0 are usual",
        "UNET.activation_i_width: is '-1', which is not a whole number from 0 → correct it",
        "UNET.activation_f_width: is missing → add it",
        "UNET.lr: is 'fast', which is not a number above 0 → for example 0.001",
        "UNET.num_epochs: is '0', which is not a whole number from 1 → correct it",
    ]


def test_an_empty_section_tells_everything_that_is_missing():
    told = faults({"UNET": {}})
    missing = ("dataset", "operation_mode", "quantization", "lr", "num_epochs")
    assert [fault.split(": ")[0] for fault in told] == [f"UNET.{key}" for key in missing]


@pytest.mark.parametrize("value", ["nan", "inf", "-1", True, [1]])
def test_rates_that_are_none(value):
    (fault,) = faults({"UNET": {**SMALLEST, "lr": value}})
    assert fault.startswith("UNET.lr: is")


@pytest.mark.parametrize("bits", [1, 9, 12])
def test_integers_that_are_not_offered(bits):
    (fault,) = faults({"UNET": {**SMALLEST, "quantization": "INT", "weight_i_width": bits, "activation_i_width": 8}})
    assert fault.startswith(f"UNET.weight_i_width: is {bits}; integers of 2 to 8, or 16 bits")


def test_widths_that_are_taken_are_those_of_our_schemes():
    for bits in INT_BITS:
        stage_of(quantization="INT", weight_i_width=bits, activation_i_width=bits)
    most = {"weight_i_width": 0, "weight_f_width": MAX_BITS, "activation_i_width": MAX_BITS, "activation_f_width": 0}
    stage_of(quantization="FIXED", **most)


@pytest.mark.parametrize("values", [{}, {"stages": []}, {"UNET": None}, {"UNET": "x"}, [], None])
def test_what_is_no_file_of_the_study(values):
    assert not is_fixed_point(values)


# --- the experiments --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_validates_and_builds(name, tmp_path):
    done = convert_config(name=name, out=tmp_path / "recipe.yaml")
    recipe = load_recipe(tmp_path / "recipe.yaml", check_stage=check_stage)
    assert recipe == load_recipe(experiment(name), ["name=recipe"], check_stage)
    assert done.text.startswith(f"# From experiment {name} ")
    (stage,) = recipe.stages
    core = build(stage.net.arch, recipe.data.channels, 1, width=4, **stage.net.options).core
    if stage.quant is not None:
        quantize_net(core, Scheme.of(stage.quant.model_dump()))


@pytest.mark.parametrize(
    ("name", "scheme", "rate", "epochs"),
    [
        ("gm/full", None, 1e-3, 200),
        ("gm/a2.0w0.2", "fixed Q0.2/Q2.0", 1e-4, 400),
        ("gm/a4.0w0.3", "fixed Q0.3/Q4.0", 1e-3, 200),
        ("gm/a6.0w0.4-dropout", "fixed Q0.4/Q6.0", 1e-4, 200),
        ("em/a4.0w0.2", "fixed Q0.2/Q4.0", 1e-3, 40),
        ("em/bnn", "w1a1", 1e-3, 200),
        ("nih/ternary", "w2", 2.5e-3, 200),
        ("nih/a8.8w8.8", "fixed Q8.8/Q8.8", 2.5e-3, 200),
    ],
)
def test_experiments_are_those_of_the_study(name, scheme, rate, epochs):
    (stage,) = load_recipe(experiment(name)).stages
    assert ((stage.quant.scheme if stage.quant else None), stage.optimizer.lr, stage.epochs) == (scheme, rate, epochs)


def test_the_list_has_all_of_them():
    assert [name for name, _ in listed()] == list(EXPERIMENTS) and len(EXPERIMENTS) == 27
    with pytest.raises(RecipeError, match=r"is not in the study → did you mean em/a6\.0w0\.4"):
        convert_config(name="em/a6.0w04")


def test_the_head_names_what_was_corrected(tmp_path):
    text = convert_config(name="em/a6.0w0.4").text
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert all(len(line) <= 120 for line in head)
    for words in ("second sigmoid", "last epoch was saved", "0.999", "after upsampling", "saturates", "tanh"):
        assert any(words in line for line in head), words
    assert parse_yaml(text, "text") == from_fixed_point(experiment("em/a6.0w0.4")).values
    assert "after upsampling" not in convert_config(name="em/ternary").text
