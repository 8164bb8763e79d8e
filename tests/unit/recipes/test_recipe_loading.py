import copy
import math
from pathlib import Path

import pytest

from pocketseg.errors import Problem, RecipeError
from pocketseg.experiments.stage_checks import check_stage
from pocketseg.recipes import (
    Recipe,
    dump_recipe,
    load_data_recipe,
    load_recipe,
    load_sweep,
    parse_yaml,
    shipped_names,
    shipped_text,
)
from pocketseg.recipes.other_words import WORDS

NET = {"arch": "thin_unet"}
SMALLEST = {"stages": [{"name": "float", "net": NET}]}


def refusal(source, overrides=(), **options) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(source, overrides, **options)
    return [str(problem) for problem in caught.value.problems]


def with_value(key: str, value) -> dict:
    """The smallest recipe with one dotted key set."""
    values = copy.deepcopy(SMALLEST)
    target = values
    *parents, last = key.split(".")
    for part in parents:
        target = target[int(part)] if part.isdecimal() else target.setdefault(part, {})
    target[last] = value
    return values


# --- sound recipes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_recipes_load_and_dump_to_equals(name, tmp_path):
    recipe = load_sweep(name).variants[0].recipe
    assert recipe.description and recipe.stages
    path = tmp_path / "dumped.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert load_recipe(recipe.model_dump(mode="json")) == recipe
    assert dump_recipe(load_recipe(path)) == dump_recipe(recipe)


def test_thin_unet_is_shipped_and_read():
    recipe = load_recipe("thin-unet")
    (stage,) = recipe.stages
    assert "thin-unet" in shipped_names()
    assert stage.net.arch == "thin_unet" and stage.net.options["width"] == 32 and stage.net.options["blocks"] == 5
    assert stage.optimizer.lr == 0.002 and stage.schedule.kind == "cosine" and stage.schedule.warmup == 0.05
    assert recipe.postprocess.threshold == "auto"


def test_a_dump_has_every_key():
    values = parse_yaml(dump_recipe(load_recipe(SMALLEST)), "dump")
    assert set(values) == set(Recipe.model_fields) - {"card"}, "an empty card decides nothing"
    assert {"size", "mask", "group_csv"} <= set(values["data"]) and values["augment"]["flip"] == []
    assert values["stages"][0]["epochs"] == 60


def test_a_card_is_dumped_where_something_stands_in_it():
    recipe = load_recipe(SMALLEST, ["card.intended_use=research", "card.folders=[benign]"])
    assert load_recipe(parse_yaml(dump_recipe(recipe), "dump")) == recipe
    assert parse_yaml(dump_recipe(recipe), "dump")["card"]["folders"] == ["benign"]
    with pytest.raises(RecipeError, match="intended_use"):
        load_recipe(SMALLEST, ["card.intended_us=research"])


@pytest.mark.parametrize("text", ["1e-3", "1E5", "yes", "null", "5", "1.5", "~", "# no", "'q'", "ä 病 x", "50%"])
def test_texts_that_look_like_something_else_survive_a_dump(text):
    recipe = load_recipe(with_value("description", text) | {"data": {"classes": [text]}})
    again = load_recipe(parse_yaml(dump_recipe(recipe), "dump"))
    assert again == recipe and again.data.classes == [text]


def test_a_value_used_twice_is_dumped_twice():
    widths = [1, 2, 3]
    stages = [{"name": name, "net": NET | {"widths": widths}} for name in "ab"]
    text = dump_recipe(load_recipe({"stages": stages}))
    assert "&" not in text and "*" not in text
    assert load_recipe(parse_yaml(text, "dump")).stages[1].net.options == {"widths": widths}


def test_the_source_is_left_alone():
    values = copy.deepcopy(SMALLEST)
    load_recipe(values, ["seed=5", "stages.0.epochs=3"])
    assert values == SMALLEST


def test_recipes_are_frozen():
    recipe = load_recipe(SMALLEST)
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3


@pytest.mark.parametrize("written", ["1e-3", "1.0e-3", "0.001", ".1e-2", '"1e-3"', "1E-3"])
def test_numbers_are_read_as_people_mean_them(written, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(f"stages: [{{name: a, net: {{arch: x}}, optimizer: {{lr: {written}}}}}]")
    assert load_recipe(path).stages[0].optimizer.lr == 0.001


# --- where recipes come from ------------------------------------------------------------------------------


def test_a_name_that_is_not_shipped():
    assert refusal("thin-unit") == ["recipe 'thin-unit': is neither shipped nor a file → did you mean thin-unet?"]
    with pytest.raises(RecipeError):
        shipped_text("../shipped/thin-unet")


def test_a_file_that_is_missing(tmp_path):
    path = tmp_path / "gone.yaml"
    assert refusal(path) == [f"{path}: the recipe file does not exist → check the path"]


def test_a_run_folder_of_the_same_name_is_not_in_the_way(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("thin-unet").mkdir()
    assert load_recipe("thin-unet") == load_recipe({"name": "thin-unet", **shipped_file()})


def shipped_file() -> dict:
    return parse_yaml(shipped_text("thin-unet"), "x")


def test_a_file_without_suffix(tmp_path):
    (tmp_path / "thin-unet").write_text(shipped_text("thin-unet"))
    assert load_recipe(tmp_path / "thin-unet") == load_recipe("thin-unet")


def test_a_recipe_is_called_as_it_says_or_as_its_file_is(tmp_path):
    for name in ("small.yaml", "v1.2"):
        (tmp_path / name).write_text(shipped_text("pocket"))
    (tmp_path / "named.yaml").write_text("name: ours\n" + shipped_text("pocket"))
    files = ("small.yaml", "small.yaml:smoke", "v1.2", "named.yaml", "named.yaml:smoke")
    found = [load_recipe(f"{tmp_path}/{file}").name for file in files]
    assert found == ["small", "small:smoke", "v1.2", "ours", "ours"]
    assert load_recipe("pocket:quick").name == "pocket:quick"
    assert load_recipe("pocket", ["name=mine"]).name == "mine"
    assert load_recipe(shipped_file()).name == ""


@pytest.mark.row("P06")
@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x89PNG\r\n"])
def test_what_is_no_text(tmp_path, content):
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    assert refusal(path)[0].startswith(f"{path}: cannot be read (")


@pytest.mark.row("P06")
@pytest.mark.parametrize("text", ["", "5", "- a\n- b", "just words"])
def test_what_is_no_mapping(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    assert refusal(path)[0].startswith(f"{path}: is not a mapping of keys to values → ")


# --- YAML -------------------------------------------------------------------------------------------------


def yaml_refusal(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_yaml(text, "r.yaml")
    return str(caught.value)


@pytest.mark.row("P06")
def test_duplicate_keys():
    assert yaml_refusal("a: 1\nb:\n  c: 2\n  c: 3\n").startswith("r.yaml, line 4, column 3: the key 'c' appears twice")


@pytest.mark.row("P06")
def test_tabs():
    text = yaml_refusal("a:\n\tb: 1\n")
    assert text.startswith("r.yaml, line 2, column 1: ") and text.endswith("→ indent with spaces, not tabs")


@pytest.mark.row("P06")
@pytest.mark.parametrize("name", ["model.pseg", "summary.json", "cases-test.csv", "Float.ONNX"])
def test_a_stage_is_not_called_as_a_file_beside_it(name):
    """Its folder would stand where the scores or the packed model are to be written, when all is trained."""
    with pytest.raises(RecipeError, match="is that of a file which lies beside the folder of the stage"):
        load_recipe(SMALLEST, [f"stages.0.name={name}"])
    load_recipe(SMALLEST, ["stages.0.name=w4.a8"])


def test_aliases_are_refused_before_they_grow():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
    assert yaml_refusal(bomb).startswith("r.yaml, line 2, column 10: aliases (*name) are not allowed")
    assert "aliases" in yaml_refusal("a: &x {b: 1}\nc: {<<: *x}\n")


@pytest.mark.row("P06", "S02")
@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [touch sang]",
        "a: !!python/object:os.stat_result {}",
        "a: !!python/name:os.system",
        "!!python/object/new:os.system [touch sang]",
        "a: !include /etc/passwd",
    ],
)
def test_nothing_is_executed(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "could not determine a constructor for the tag" in yaml_refusal(text)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.whole
@pytest.mark.row("P06")
@pytest.mark.parametrize(
    "text",
    [
        "a: [1",
        "a: 'x",
        "a: b: c",
        "a: 1\n---\nb: 2",
        "a: !!int x",
        "a: !!int ''",
        "a: !!bool maybe",
        "a: !!float ''",
        "a: !!timestamp x",
        "a: !!map [1]",
        "a: !!binary 'abc'",
        "[1, 2]: 3",
        "{a: 1}: 3",
        "2024-01-01: 3",
        "\x00",
        "[" * 20_000,
        "9" * 5_000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_yaml_is_reported(text):
    assert yaml_refusal(text).startswith("r.yaml")


@pytest.mark.row("P06")
def test_a_file_too_large_to_be_a_recipe():
    assert "1,000,001 characters" in yaml_refusal(" " * 1_000_001)


# --- unknown keys, types, values --------------------------------------------------------------------------


@pytest.mark.whole
@pytest.mark.row("P06")
@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("dta", "data"),
        ("data.sise", "size"),
        ("data.mask.inverted", "invert"),
        ("split.flods", "folds"),
        ("normalize.knd", "kind"),
        ("augment.flips", "flip"),
        ("augment.affine.degree", "degrees"),
        ("augment.elastic.alfa", "alpha"),
        ("stages.0.epoch", "epochs"),
        ("stages.0.loss.dise", "dice"),
        ("stages.0.optimizer.learning_speed", None),
        ("stages.0.optimizer.weight_deacy", "weight_decay"),
        ("stages.0.schedule.warmpu", "warmup"),
        ("stages.0.early_stop.patiense", "patience"),
        ("stages.0.init.stge", "stage"),
        ("postprocess.treshold", "threshold"),
        ("evaluate.part", "parts"),
    ],
)
def test_unknown_keys_list_the_near_ones(key, near):
    values = with_value(key, 1)
    if ".schedule." in key:
        values["stages"][0]["schedule"]["kind"] = "cosine"
    (problem,) = [p for p in refusal(values) if "is not a key" in p]
    assert problem.startswith(f"{key}: is not a key of a recipe → ")
    if near:
        assert f"did you mean {near}" in problem
    else:
        assert "known: " in problem and " lr, " in problem


def test_a_key_of_another_schedule_is_not_proposed():
    values = with_value("stages.0.schedule", {"kind": "step", "warmup": 0.1})
    assert refusal(values) == ["stages.0.schedule.warmup: is not a key of a recipe → known: every, factor, kind"]


@pytest.mark.parametrize("kind", ["constant", "constant-then-decay"])
def test_a_key_named_like_a_schedule_is_reported_by_its_path(kind):
    values = with_value("stages.0.schedule", {"kind": kind, "constant": 2})
    assert refusal(values)[0].startswith("stages.0.schedule.constant: ")


BAD_VALUES = [
    ("stages.0.optimizer.lr", 0),
    ("stages.0.optimizer.lr", -1e-3),
    ("stages.0.optimizer.lr", 1e9),
    ("stages.0.optimizer.lr", "fast"),
    ("stages.0.optimizer.lr", math.nan),
    ("stages.0.optimizer.lr", math.inf),
    ("stages.0.optimizer.lr", None),
    ("stages.0.batch", 0),
    ("stages.0.batch", -4),
    ("stages.0.batch", 2.5),
    ("stages.0.epochs", -1),
    ("stages.0.epochs", "many"),
    ("stages.0.name", "../x"),
    ("stages.0.name", "a/b"),
    ("stages.0.name", ""),
    ("stages.0.net", "thin_unet"),
    ("stages.0.best_by", "hd95"),
    ("stages.0.schedule", {"kind": "cosin"}),
    ("stages.0.schedule", {"warmup": 0.1}),
    ("stages.0.schedule", {"kind": "cosine", "warmup": 1}),
    ("stages.0.loss", {}),
    ("stages.0.loss", {"dice": 0}),
    ("stages.0.loss", {"dice": -1}),
    ("data.classes", 0),
    ("data.classes", []),
    ("data.classes", [""]),
    ("data.classes", ["a", "a"]),
    ("data.classes", [f"c{n}" for n in range(256)]),
    ("data.classes", [f"c{n}" for n in range(70_000)]),
    ("data.channels", 0),
    ("data.channels", 70_000),
    ("data.size", [0, 128]),
    ("data.size", [128]),
    ("data.size", True),
    ("data.size", [128, 100_000]),
    ("data.fit", "stretch"),
    ("data.range", [1, 1]),
    ("data.range", [0, math.nan]),
    ("data.mask", {"values": [1, 2]}),
    ("split.test", 1),
    ("split.test", 1.5),
    ("split.test", -0.1),
    ("split.test", math.nan),
    ("split.validation", 0),
    ("split.validation", 1),
    ("split.validation", 1.5),
    ("split.validation", math.nan),
    ("split.validation", 0.8),
    ("split.folds", 1),
    ("split.kind", "random"),
    ("augment.gamma", math.nan),
    ("augment.zoom", [0, 1]),
    ("postprocess.threshold", 0),
    ("postprocess.threshold", 1),
    ("postprocess.threshold", "automatic"),
    ("postprocess.min_pixels", -1),
    ("evaluate.parts", ["tset"]),
    ("seed", -1),
    ("seed", 2**63),
    ("stages", []),
    ("stages", {}),
    ("stages", None),
]


@pytest.mark.whole
@pytest.mark.row("P09")
@pytest.mark.parametrize(("key", "value"), BAD_VALUES, ids=lambda x: repr(x)[:30])
def test_impossible_values_are_reported_by_their_key(key, value):
    problems = refusal(with_value(key, value))
    section = key.split(".")[0]
    # Where two keys contradict each other, the section that holds both is named.
    assert all(problem.startswith((f"{key}:", f"{key}.", f"{section}:")) for problem in problems), problems
    assert not any("'str'" in problem or "constrained" in problem or "literal" in problem for problem in problems)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("split.test", 0),
        ("data.classes", [f"c{n}" for n in range(255)]),
        ("stages.0.optimizer.lr", 100),
        ("postprocess.threshold", 0.999),
        ("seed", 2**63 - 1),
        ("data.size", [8, 4096]),
    ],
    ids=lambda x: repr(x)[:30],
)
def test_the_last_possible_values(key, value):
    values = with_value(key, value)
    if key == "data.classes":
        values["stages"][0]["loss"] = {"ce": 1, "dice": 1}
    load_recipe(values)


def test_a_missing_stage_or_net_is_reported():
    assert refusal({}) == ["stages: is missing → add it"]
    assert refusal({"stages": [{}]}) == ["stages.0.name: is missing → add it", "stages.0.net: is missing → add it"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"classes": ["a", "b"]}}, "stage 'float': bce is for one class; use ce with 2"),
        ({"stages": [{"name": "a", "net": NET, "loss": {"ce": 1}}]}, "ce is for several classes; use bce"),
        (
            {"stages": [{"name": "a", "net": NET, "loss": {"bce": 1, "class_weights": [1]}}]},
            "class_weights needs 2 numbers, background first",
        ),
        ({"augment": {"rotate90": True}, "data": {"size": [64, 96]}}, "augment.rotate90 needs a square data.size"),
        ({"data": {"group_csv": "a", "group_regex": "b"}}, "give one of group_csv, group_regex and group_folder"),
        ({"data": {"group_regex": "b", "group_folder": True}}, "give one of group_csv, group_regex and group_folder"),
        ({"data": {"group_column": "patient"}}, "group_column is a column of group_csv, which is not given"),
        ({"data": {"classes": ["a", "b"], "mask": {"values": [5, 5]}}}, "mask.values: a value appears twice"),
        ({"data": {"classes": ["a", "b"], "mask": {"invert": True}}}, "invert and threshold make sense for one class"),
        ({"data": {"classes": ["a", "b"], "mask": {"threshold": 9}}}, "invert and threshold make sense for one class"),
    ],
)
def test_keys_that_contradict_each_other(change, message):
    (problem,) = refusal(SMALLEST | change)
    assert message in problem


def test_several_faults_are_reported_at_once():
    values = with_value("stages.0.optimizer.lr", -1) | {"dta": 1, "split": {"test": 2}, "seed": "x"}
    values["stages"].append({"name": "b", "net": NET, "epochs": -1})
    keys = {problem.split(": ")[0] for problem in refusal(values, ["stages.7.epochs=1", "nonsense"])}
    assert keys == {
        "stages.0.optimizer.lr",
        "dta",
        "split.test",
        "seed",
        "stages.1.epochs",
        "--set stages.7.epochs=1",
        "--set nonsense",
    }


# --- stages -----------------------------------------------------------------------------------------------


def stages(*pairs) -> dict:
    return {
        "stages": [{"name": name, "net": NET} | ({"init": {"stage": init}} if init else {}) for name, init in pairs]
    }


def test_stages_start_from_earlier_ones():
    recipe = load_recipe(stages(("a", None), ("b", "a"), ("c", "a")))
    assert [stage.init and stage.init.stage for stage in recipe.stages] == [None, "a", "a"]


@pytest.mark.parametrize("pairs", [[("a", "b"), ("b", None)], [("a", "a")], [("a", None), ("b", "x")]])
def test_a_stage_cannot_start_from_a_later_one(pairs):
    (problem,) = refusal(stages(*pairs))
    assert problem.startswith("stages: stage ") and "which is not an earlier stage" in problem


def test_two_stages_of_one_name():
    assert "two stages are named 'a'" in refusal(stages(("a", None), ("a", None)))[0]


# --- overrides --------------------------------------------------------------------------------------------


def test_overrides():
    recipe = load_recipe(
        "thin-unet",
        [
            "seed=7",
            "stages.0.epochs=5",
            "stages.0.optimizer.lr=1e-4",
            "stages.0.net.width=8",
            "data.size=[64, 96]",
            "data.classes=[a]",
            "augment.flip=[]",
            "augment.affine=null",
            "augment.zoom=[0.9, 1.1]",
            "stages.0.early_stop.patience=3",
            "data.group_regex=^(p=[0-9]+)_",
        ],
    )
    stage = recipe.stages[0]
    assert (recipe.seed, stage.epochs, stage.optimizer.lr, stage.net.options["width"]) == (7, 5, 1e-4, 8)
    assert recipe.data.size == (64, 96) and recipe.data.classes == ["a"] and recipe.augment.flip == []
    assert recipe.augment.affine is None and recipe.augment.zoom == (0.9, 1.1)
    assert stage.early_stop.patience == 3 and recipe.data.group_regex == "^(p=[0-9]+)_"


def test_the_last_override_wins_and_parts_of_lists_can_be_set():
    assert load_recipe(SMALLEST, ["seed=1", "seed=2"]).seed == 2
    assert load_recipe(SMALLEST, ["data.size=[64, 64]", "data.size.1=32"]).data.size == (64, 32)


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("stages", "--set stages: is not KEY=VALUE → for example --set stages.0.epochs=5"),
        ("=5", "--set =5: is not KEY=VALUE"),
        ("", "--set : is not KEY=VALUE"),
        ("stages.1.epochs=5", "--set stages.1.epochs=5: there is no stages.1.epochs to set"),
        ("stages.-1.epochs=5", "--set stages.-1.epochs=5: there is no stages.-1.epochs to set"),
        ("stages.epochs=5", "--set stages.epochs=5: there is no stages.epochs to set"),
        ("stages.0.name.x=5", "--set stages.0.name.x=5: there is no"),
        ("seed=[1", "--set seed=[1, line 1"),
        ("seed=!!python/name:os.system", "--set seed=!!python/name:os.system, line 1"),
        ("sed=5", "sed: is not a key of a recipe → did you mean seed?"),
        ("epochs=5", "epochs: is not a key of a recipe → did you mean stages.0.epochs?"),
        ("learning_rate=1", "learning_rate: is not a key of a recipe → did you mean stages.0.optimizer.lr?"),
        (
            "data.spacing_mm=1",
            "data.spacing_mm: is not a list (given: 1) → write it in brackets: data.spacing_mm: [A, B]",
        ),
        ("data.size=large", "data.size: is not a list (given: 'large') → write it in brackets: data.size: [A, B], or"),
        ("stages.0.epoch=5", "stages.0.epoch: is not a key of a recipe → did you mean epochs?"),
        ("stages.0.epochs=-5", "stages.0.epochs: input should be greater than or equal to 0 (given: -5)"),
    ],
)
def test_overrides_that_make_no_sense(override, start):
    (problem,) = refusal(SMALLEST, [override])
    assert problem.startswith(start)


# --- nets -------------------------------------------------------------------------------------------------


def test_nets_check_their_own_options():
    seen = []

    def check(stage, key):
        seen.append((stage["net"], key))
        return [Problem(f"{key}.net.width", "is odd")] if stage["net"].get("width") else []

    load_recipe(stages(("a", None), ("b", None)), check_stage=check)
    assert seen == [(NET, "stages.0"), (NET, "stages.1")]
    problems = refusal(SMALLEST | {"seed": -1}, ["stages.0.net.width=3"], check_stage=check)
    assert "stages.0.net.width: is odd" in problems and any(p.startswith("seed:") for p in problems)


@pytest.mark.parametrize("values", [{"stages": 3}, {"stages": [3]}, {"stages": [{"net": 3}]}])
def test_the_check_of_stages_stands_what_is_none(values):
    assert refusal(values, check_stage=check_stage)


# --- steps of a quantization --------------------------------------------------------------------------------


def test_a_list_of_schemes_is_a_chain_of_stages():
    low = {"name": "low", "net": NET, "init": {"stage": "float"}, "epochs": 7, "batch": 4}
    steps = [{"scheme": "w4"}, {"scheme": "w4a8"}, {"scheme": "w4a4"}]
    recipe = load_recipe({"stages": [{"name": "float", "net": NET}, {**low, "quant": steps}]}, check_stage=check_stage)
    found = [(s.name, s.init.stage if s.init else None, s.epochs, s.batch) for s in recipe.stages]
    assert found == [
        ("float", None, 60, 16),
        ("low.1", "float", 2, 4),
        ("low.2", "low.1", 2, 4),
        ("low", "low.2", 3, 4),
    ]
    assert [s.quant.scheme for s in recipe.stages[1:]] == ["w4", "w4a8", "w4a4"]
    assert load_recipe(parse_yaml(dump_recipe(recipe), "")) == recipe


def test_faults_in_a_list_of_schemes_are_reported():
    low = {"name": "low", "net": NET, "quant": [{"scheme": "w4"}, {"scheme": "w44"}, {"sceme": "w4"}]}
    problems = refusal({"stages": [low]}, check_stage=check_stage)
    assert any(p.startswith("stages.1.quant.scheme: 'w44'") for p in problems)
    assert any(p.startswith("stages.2.quant.sceme: is not a key") for p in problems)
    assert any("stages.0.quant" in p for p in refusal({"stages": [{"name": "low", "net": NET, "quant": []}]}))


@pytest.mark.whole
@pytest.mark.row("P07")
@pytest.mark.parametrize(
    "override",
    [
        "stages.0.optimizer.lr=true",
        "stages.0.epochs=true",
        "stages.0.batch=yes",
        "stages.0.net.width=true",
        "stages.0.schedule.warmup=true",
        "stages.0.quant={scheme: w8a8, calibrate: true}",
        "stages.0.quant=[{scheme: w4}, {scheme: w4a4}]\0stages.0.epochs=true",
        "stages.0.loss.bce=true",
        "seed=true",
        "data.size=[true, 64]",
        "data.range=[false, true]",
        "data.mask.values=[true]",
        "postprocess.threshold=true",
        "augment.affine.scale=[true, 2]",
        "stages.0.optimizer.lr=0",
        "stages.0.optimizer.lr=-1",
        "stages.0.optimizer.lr=1e9",
        "stages.0.optimizer.lr=.nan",
        "stages.0.optimizer.lr=.inf",
        "stages.0.epochs=1.5",
    ],
)
def test_what_is_no_number_for_its_key(override):
    from pocketseg.experiments.stage_checks import check_stage

    with pytest.raises(RecipeError):
        load_recipe("thin-unet", override.split("\0"), check_stage)


@pytest.mark.row("P07")
@pytest.mark.parametrize("text", ["1e-3", "'1e-3'", "0.001", "1.0e-3"])
def test_a_rate_is_a_number_however_it_is_written(text):
    assert load_recipe("thin-unet", [f"stages.0.optimizer.lr={text}"]).stages[0].optimizer.lr == 1e-3


def test_data_sections_load_without_a_stage():
    found = load_data_recipe({"data": {"size": [64, 32]}}, ["split.kind=kfold", "evaluate.metrics=[dice]"])
    assert (found.data.size, found.split.kind, found.evaluate.metrics) == ((64, 32), "kfold", ["dice"])
    assert load_data_recipe("thin-unet").data == load_recipe("thin-unet").data


def test_stages_are_not_looked_at_for_the_data():
    assert (
        load_data_recipe({"stages": [{"name": 3}]}, ["stages.0.epochs=many"]).data
        == Recipe.model_fields["data"].default
    )


@pytest.mark.parametrize("override", ["dta.size=[1,1]", "data.sise=[1,1]", "data.size"])
def test_a_wrong_key_is_reported_for_the_data_too(override):
    with pytest.raises(RecipeError, match=r"is not a key of a recipe → did you mean|KEY=VALUE"):
        load_data_recipe("thin-unet", [override])


def test_keys_of_other_tools_are_taken_and_said(caplog):
    """Those of nnU-Net, MONAI, Lightning and Ultralytics."""
    caplog.set_level("INFO", "pocketseg")
    values = {
        "random_seed": 3,
        "data": {"fit": "pad", "patch_size": [64, 64], "pixdim": [0.5, 0.5], "class_names": ["cell"]},
        "split": {"kind": "kfold", "n_splits": 3},
        "stages": [
            {
                "name": "a",
                "net": {"architecture": "thin_unet", "width": 8},
                "optimizer": {"name": "sgd", "learning_rate": 0.1},
                "max_epochs": 7,
                "batch_size": 4,
            }
        ],
    }
    sets = ["stages.a.batch_size=2", "stages.*.lr_scheduler={name: step, every: 3}", "data.imgsz=[32, 32]"]
    recipe = load_recipe(values, sets)
    stage = recipe.stages[0]
    assert (recipe.seed, recipe.data.size, recipe.data.spacing_mm) == (3, (32, 32), (0.5, 0.5))
    assert recipe.data.classes == ["cell"]
    assert (recipe.split.folds, stage.epochs, stage.batch, stage.net.arch) == (3, 7, 2, "thin_unet")
    assert (stage.optimizer.kind, stage.optimizer.lr, stage.schedule.kind) == ("sgd", 0.1, "step")
    assert "stages.0.max_epochs is called stages.0.epochs here" in caplog.text


def test_a_key_under_two_names_is_refused():
    values = {"stages": [{"name": "a", "net": {"arch": "thin_unet"}, "batch": 2, "batch_size": 4}]}
    with pytest.raises(RecipeError, match="batch_size"):
        load_recipe(values)


def test_every_word_of_another_tool_is_for_a_key_of_ours():
    for section, words in WORDS.items():
        for ours in words.values():
            values = {"stages": [{"name": "a", "net": {"arch": "thin_unet"}}]}
            path = [part if part != "*" else "0" for part in section]
            with pytest.raises(RecipeError) as caught:
                load_recipe(values, [".".join([*path, f"{ours}=[[nonsense]]"])])
            assert "is not a key" not in str(caught.value), (section, ours)


def test_overrides_count_the_stages_that_a_preset_leaves():
    (variant,) = load_sweep("vaze2020:alone", ["stages.0.epochs=2"]).variants
    assert [(stage.name, stage.epochs) for stage in variant.recipe.stages] == [("student", 2)]
    (whole,) = load_sweep("vaze2020", ["stages.0.epochs=2"]).variants
    assert [stage.epochs == 2 for stage in whole.recipe.stages] == [True, False]


def test_one_number_is_a_square():
    assert load_recipe(SMALLEST, ["data.size=64"]).data.size == (64, 64)
    with pytest.raises(RecipeError, match=r"data\.size.*8"):
        load_recipe(SMALLEST, ["data.size=4"])
