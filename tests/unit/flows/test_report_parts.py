"""The parts of a report that need no run: ids for names, common cases, limits, a recipe without paths."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from pocketseg.data.split import Fold, Split
from pocketseg.errors import DataError, RunError
from pocketseg.evaluation import CaseScore
from pocketseg.flows.report import card, tables, write
from pocketseg.flows.report.evaluated import EvaluatedModel, on_common_cases
from pocketseg.flows.report.measurements import Speed, ranked
from pocketseg.flows.report.names import Pseudonyms
from pocketseg.flows.report.recipe_text import recipe_text
from pocketseg.recipes import load_recipe
from pocketseg.reporting import Interval
from pocketseg.runs.folder import RunFolder

STAGE = {"name": "float", "net": {"arch": "thin_unet"}, "loss": {"bce": 1}, "epochs": 3}
MANIFEST = {"data": {"sha256": "d" * 64, "cases": 40, "layout": "folders"}, "stages": {}}


def row(case: str, dice: float, *, group: str = "", outcome: str = "scored", **more) -> CaseScore:
    values = {"class_name": "lesion", "label": "", "reference_pixels": 100, "predicted_pixels": 90} | more
    return CaseScore(
        case=case, group=group or case, outcome=outcome, dice=dice, iou=dice, precision=dice, recall=dice, **values
    )


def evaluated(tmp_path: Path, rows: list[CaseScore], name: str = "a", part: str = "test", **recipe) -> EvaluatedModel:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    cases = [f"n{number}" for number in range(40)]
    fold = Fold(tuple(cases[:20]), tuple(cases[20:30]), tuple(cases[30:]))
    Split((fold,), {case: case for case in cases}, {"kind": "holdout"}).write(folder / "split.json")
    made = load_recipe({"stages": [STAGE], **recipe})
    return EvaluatedModel(
        name, RunFolder(folder), made, MANIFEST, made.stages[0], None, part, rows, {one.case: 0 for one in rows}
    )


def said(models: list[EvaluatedModel]) -> str:
    return "\n".join(card.limits(models, {}, ()).lines)


def test_ids_stay_and_tell_nothing(tmp_path):
    names = [f"Jane Doe {number:03}" for number in range(200)]
    first = Pseudonyms(tmp_path / "key.csv")
    first.add("case", names)
    first.add("group", ["Jane"])
    first.save()
    ids = [first.case(name) for name in names]
    assert sorted(ids) == [f"case-{number:03}" for number in range(1, 201)]
    assert ids != sorted(ids), "the order of the ids is not that of the names"
    again = Pseudonyms(tmp_path / "key.csv")
    again.add("case", [*names, "Someone new"])
    assert [again.case(name) for name in names] == ids and again.case("Someone new") == "case-201"
    assert again.group("Jane") == "group-01"
    other = Pseudonyms(tmp_path / "other.csv")
    other.add("case", names)
    assert [other.case(name) for name in names] != ids, "another run draws again"


def test_ids_of_names_that_are_no_text(tmp_path):
    first = Pseudonyms(tmp_path / "key.csv")
    first.add("case", ["a\udc80", 'b"c,\nd'])
    first.save()
    assert Pseudonyms(tmp_path / "key.csv").ids == first.ids


def test_a_key_that_is_none_is_reported(tmp_path):
    (tmp_path / "key.csv").write_text("a,b\n1,2\n")
    with pytest.raises(RunError, match="not a table of ids"):
        Pseudonyms(tmp_path / "key.csv")


def test_only_cases_that_all_models_have_are_compared(tmp_path):
    one = evaluated(tmp_path, [row("x", 0.5), row("y", 0.7), row("z", 0.9)], "one")
    two = evaluated(tmp_path, [row("y", 0.8), row("z", 0.8), row("w", 0.1)], "two")
    (first, second), stated = on_common_cases([one, two])
    assert first.cases == second.cases == ["y", "z"] and set(first.fold_of) == {"y", "z"}
    assert "3 of one, 3 of two" in stated[0] and "the 2 cases" in stated[0] and len(stated) == 1
    assert on_common_cases([one, one])[1] == []


def test_all_models_are_compared_in_the_groups_of_the_first(tmp_path):
    one = evaluated(tmp_path, [row("x", 0.5, group="p"), row("y", 0.7, group="p")], "one")
    two = evaluated(tmp_path, [row("x", 0.5), row("y", 0.7)], "two")
    kept, stated = on_common_cases([one, two])
    assert [each.group for model in kept for each in model.rows] == ["p"] * 4
    assert stated == ["The runs put the cases into other groups; those of one are used for all."]


def test_nothing_in_common_is_refused(tmp_path):
    one = evaluated(tmp_path, [row("x", 0.5)], "one")
    with pytest.raises(DataError, match="no case in common"):
        on_common_cases([one, evaluated(tmp_path, [row("w", 0.1)], "two")])
    with pytest.raises(DataError, match="validation part"):
        on_common_cases([one, evaluated(tmp_path, [row("x", 0.5)], "two", part="validation")])


def test_another_reference_is_refused(tmp_path):
    one = evaluated(tmp_path, [row("x", 0.5)], "one")
    two = evaluated(tmp_path, [row("x", 0.5, reference_pixels=99)], "two")
    for model in (one, two):
        best = model.best(0)
        best.parent.mkdir(parents=True)
        best.write_bytes(b"weights")
    speed = Speed(1.0, 1.0, 1.0, 1)
    with pytest.raises(DataError, match="another reference"):
        tables.measure([one, two], one, {"one": speed, "two": speed})


def test_the_table_of_models_holds_differences_to_the_baseline(tmp_path):
    rows = [row(f"c{number}", 0.5 + number / 100) for number in range(12)]
    better = [replace(each, dice=each.dice + 0.1) for each in rows]
    models = [evaluated(tmp_path, rows, "one"), evaluated(tmp_path, better, "two")]
    for model in models:
        model.best(0).parent.mkdir(parents=True)
        model.best(0).write_bytes(bytes(2048))
    speed = Speed(5.0, 4.0, 6.0, 3)
    found = tables.measure(models, models[0], {"one": speed, "two": speed})
    table = tables.model_table(found, "one", "PyTorch")
    names = [column.name for column in table.columns]
    cells = [dict(zip(names, line, strict=True)) for line in table.rows]
    assert cells[0]["difference to one"] is None
    assert cells[1]["difference to one"] == pytest.approx(0.1)
    between = cells[1]["95 % interval of it"]
    assert isinstance(between, Interval) and between.low == pytest.approx(0.1) == pytest.approx(between.high)
    assert (cells[1]["KiB"], cells[1]["ms"], cells[1]["file"]) == (2.0, 5.0, "weights")
    assert tables.difference_table(found, "one") is not None and len(tables.trade_offs(found, "PyTorch")) == 2
    alone = tables.model_table(found[:1], "one", "PyTorch")
    assert not any("difference" in column.name for column in alone.columns)


def test_worst_cases_come_first_and_agreed_nothing_is_no_case():
    rows = [
        row("half", 0.5), row("miss", 0.0, outcome="miss"), row("empty", math.nan, outcome="true negative"),
        row("alarm", 0.0, outcome="false alarm"), row("alarm", math.nan, outcome="true negative"), row("good", 0.9),
    ]  # fmt: skip
    assert ranked(rows) == ["miss", "alarm", "half", "good"]


def test_limits_come_from_the_results(tmp_path):
    few = said([evaluated(tmp_path, [row(f"c{number}", 0.9) for number in range(5)])])
    for words in ("Few cases were evaluated (5 of 5 groups)", "lesion occurs in 5 evaluated", "false alarms on images",
                  "own group", "in pixels", "Trained once, with seed 0"):  # fmt: skip
        assert words in few, words
    assert "Few cases were evaluated (29 of 29 groups)" in said(
        [evaluated(tmp_path, [row(f"c{n}", 0.9) for n in range(29)])]
    )
    many = [row(f"c{number}", 0.9, group=f"g{number // 2}", unit="mm") for number in range(60)]
    many += [row("n", math.nan, outcome="true negative", unit="mm")]
    enough = said([evaluated(tmp_path, many)])
    for words in ("Few cases", "occurs in", "false alarms", "in pixels", "misses"):
        assert words not in enough, words
    assert "no external test" in enough


def test_limits_tell_misses_alarms_sizes_and_one_large_group(tmp_path):
    rows = [row(f"s{n}", 0.2, group="big", reference_pixels=10 + n) for n in range(10)]
    rows += [row(f"l{n}", 0.9, reference_pixels=1000 + n) for n in range(20)]
    rows += [
        row("m", 0.0, outcome="miss", reference_pixels=2000),
        row("f", 0.0, outcome="false alarm", reference_pixels=0),
    ]
    text = said([evaluated(tmp_path, rows)])
    for words in ("Misses 1 of 31", "a false alarm in 1 of 1", "Dice differs by size: 0.2", "One group holds 31%"):
        assert words in text, (words, text)


def test_limits_name_the_model_and_say_what_all_share_once(tmp_path):
    rows = [row(f"c{number}", 0.9) for number in range(5)]
    text = said(
        [evaluated(tmp_path, rows, "one"), evaluated(tmp_path, [*rows[:4], row("c4", 0.0, outcome="miss")], "two")]
    )
    assert "Each model: trained once" in text and "two: misses 1 of 5" in text
    assert text.count("trained once") == 1


def test_what_the_author_says_stands_in_the_card(tmp_path):
    own = {"intended_use": "thyroid research", "limits": ["One probe only."], "contact": "a@b.example"}
    model = evaluated(tmp_path, [row("c", 0.5)], card=own)
    assert said([model]).startswith("One probe only.")
    assert dict(card.use(model.recipe).entries)["Intended use"] == "thyroid research"
    assert "not stated" in dict(card.use(load_recipe({"stages": [STAGE]})).entries)["Intended use"]


def test_what_the_doctor_found_is_reported_without_names(tmp_path):
    model = evaluated(tmp_path, [row("c", 0.5)])
    assert "recorded no findings" in write.data_check(model).items[0].lines[0]
    found = [{"code": "duplicate", "level": "warning", "why": "it weighs twice", "files": 2}]
    told = replace(model, manifest=MANIFEST | {"doctor": found})
    assert write.data_check(told).items[0].lines == ["warning: duplicate (2 files): it weighs twice"]
    clean = replace(model, manifest=MANIFEST | {"doctor": []})
    assert write.data_check(clean).items[0].lines == ["Nothing was found."]


def test_a_recipe_is_shown_without_paths_and_patterns_of_names():
    secret = "SECRET"
    recipe = load_recipe({
        "data": {"images": f"{secret}/a", "masks": f"{secret}/b", "group_csv": f"{secret}.csv", "group_column": secret,
                 "only": {"subject": [secret]}},
        "stages": [
            {**STAGE, "init": {"run": f"/home/{secret}"}},
            {**STAGE, "name": "b", "init": {"weights": f"C:\\{secret}.pth"}, "teacher": {"run": secret,
             "unlabelled": secret}, "distil": {}},
            {**STAGE, "name": "c", "net": {"arch": "thin_unet", "width": 8}, "teacher": {"maps": secret}, "distil": {}},
        ],
        "card": {"contact": secret},
    })  # fmt: skip
    text = recipe_text(recipe)
    assert secret not in text and text.count("(left out)") >= 8
    assert "arch: thin_unet" in text and "width: 8" in text
    imagenet = load_recipe({"stages": [{**STAGE, "init": {"weights": "imagenet"}}]})
    assert "weights: imagenet" in recipe_text(imagenet)
