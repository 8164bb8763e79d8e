"""`fit` from a folder to a file: budgets, the gate, what no choice may see, kills."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import pocketseg
from helpers.commands import read_csv, run_cli
from pocketseg.data import Split
from pocketseg.errors import ModelFileError, RecipeError, RunError
from pocketseg.experiments.initialization import weight_file
from pocketseg.experiments.plan import pipeline_of
from pocketseg.experiments.target import Target
from pocketseg.flows import fit as flow
from pocketseg.recipes import load_recipe
from pocketseg.search import accept, gate, shapes
from pocketseg.search.begin import Wishes, begin, winner_recipe
from pocketseg.search.shapes import Budget
from pocketseg.search.start import open_start
from pocketseg.search.state import Search, SearchFolder

KILLER = Path(__file__).with_name("fit_killer.py")


def fitted_in(data: Path, out: Path, *kills: int) -> list[int]:
    """Fit in processes that are killed; how many changes of files those made that came to the end."""
    done = subprocess.run(
        [sys.executable, str(KILLER), str(data), str(out), *map(str, kills)], capture_output=True, text=True,
        timeout=1800, env={"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [int(line) for line in done.stdout.split()]


@pytest.fixture(scope="module")
def fitted(phantom_data, tmp_path_factory) -> tuple[SearchFolder, int]:
    """A search that nothing disturbed, and how many changes of files it made."""
    out = tmp_path_factory.mktemp("fit") / "run"
    (changes,) = fitted_in(phantom_data, out)
    return SearchFolder(out), changes


def winner_of(folder: SearchFolder) -> tuple[bytes, bytes, object]:
    net = folder.winner.recipe().stages[0].net
    return folder.model.read_bytes(), folder.float_model.read_bytes(), net


def test_a_folder_becomes_a_file_within_the_budget(fitted, phantom_data):
    folder, _ = fitted
    assert 0 < folder.model.stat().st_size <= 12_000 < folder.float_model.stat().st_size
    found = pocketseg.load(folder.model).segment(next((phantom_data / "images").glob("*.png")))
    assert found.mask.shape == (48, 48)
    assert "cannot carry a claim" in folder.report.read_text("utf-8")


def test_bytes_that_were_counted_before_are_those_of_the_file(fitted):
    folder, _ = fitted
    search = Search.read(folder.state_file)
    shapes = {shape.name: cost for shape, cost in search.costs.items()}
    name = next(row["shape"] for row in read_csv(folder.table) if row["why it left"] == "won")
    won, file = shapes[name], folder.winner.fold(0) / f"{name.split('-')[-1]}.pseg"
    assert 0 <= won.float_bytes - folder.float_model.stat().st_size < 1500
    assert 0 <= won.size_bytes - file.stat().st_size < 700


def test_every_shape_says_why_it_left(fitted):
    folder, _ = fitted
    rows = read_csv(folder.table)
    assert len(rows) == 8 and all(row["why it left"] for row in rows)
    trained = [row for row in rows if row["round 1"]]
    assert len(trained) == 2
    assert sorted(row["why it left"] for row in trained) == ["not of the better half of round 1", "won"]
    for row in rows:
        assert ("above" in row["why it left"]) == (float(row["KiB"]) * 1024 > 12_000)


def test_no_choice_sees_a_test_case(fitted):
    folder, _ = fitted
    test = set(Split.read(folder.split_file).fold(0).test)
    assert test
    for file in folder.path.glob("round-*/**/*"):
        if file.suffix in (".json", ".csv"):
            text = file.read_text("utf-8")
            assert not [name for name in test if f'"{name}"' in text or f"{name}," in text], file
    assert not list(folder.path.glob("round-*/**/cases-test.csv"))


def test_the_plan_is_a_recipe_that_trains(fitted):
    folder, _ = fitted
    recipe = load_recipe(folder.plan_recipe)
    assert recipe.data.size == (32, 32) and recipe.stages[0].name == "float"


def test_another_margin_judges_again_without_a_training(fitted, phantom_data, monkeypatch):
    folder, _ = fitted
    monkeypatch.setattr(gate, "SLOWER", 1e9)
    log = folder.path / "winner" / "log.txt"
    before = log.read_bytes(), folder.model.read_bytes()
    asked = json.loads(folder.state_file.read_text("utf-8"))["asked"]
    options = {
        "size": asked["size"],
        "steps": asked["steps"],
        "overrides": asked["set"],
        "device": "cpu",
        "quiet": True,
    }
    with pytest.raises(RunError, match=r"no file was accepted.*float: .* above 11\.7 KiB.*not shown to lose less"):
        pocketseg.fit(phantom_data, folder.path, max_drop=1e-9, resume=True, **options)
    assert not folder.model.exists() and folder.report.exists()
    again = pocketseg.fit(phantom_data, folder.path, max_drop=50, resume=True, **options)
    assert log.read_bytes() == before[0] and again.model is not None and folder.model.read_bytes() == before[1]
    assert [each.bits for each in again.verdicts if not each.refused] and "cannot carry a claim" in again.said
    assert again.said in repr(again)[:400] or "…" in repr(again)
    assert "<table" in again._repr_html_()


@pytest.fixture
def copied(fitted, tmp_path, monkeypatch) -> tuple[SearchFolder, dict[str, object]]:
    """The search to go on with in this process, and the options that it was begun with."""
    shutil.copytree(fitted[0].path, tmp_path / "run", ignore=shutil.ignore_patterns("second"))
    monkeypatch.setattr(gate, "TURNS", 1)
    monkeypatch.setattr(flow, "write_run_report", lambda *_, **__: None)
    folder = SearchFolder(tmp_path / "run")
    asked = json.loads(folder.state_file.read_text("utf-8"))["asked"]
    kept = {"size": asked["size"], "steps": asked["steps"], "overrides": asked["set"]}
    return folder, {**kept, "device": "cpu", "quiet": True, "max_drop": 50.0}


def test_where_the_gate_refuses_the_first_shape_the_second_is_trained(copied, phantom_data, monkeypatch):
    folder, options = copied

    def slow_winner(files, *rest):
        found = compared(files, *rest)
        if "winner" not in str(found[0].file):
            return tuple(replace(each, refused="", needs=()) for each in found)
        return (found[0], *(replace(each, refused="2.00 times as slow as the float file") for each in found[1:]))

    compared = accept.compared
    monkeypatch.setattr(accept, "compared", slow_winner)
    found = pocketseg.fit(phantom_data, folder.path, resume=True, **options)
    second = folder.second.fold(0)
    assert folder.model.read_bytes() in [file.read_bytes() for file in second.glob("*.pseg")]
    assert folder.float_model.read_bytes() == (second / "float.pseg").read_bytes()
    assert found.model == folder.model and "2.00 times" not in found.said
    left = {row["why it left"]: row["shape"] for row in read_csv(folder.table)}
    assert left["won"] != left["was trained in full, and none of its files was accepted"]
    page = folder.report.read_text("utf-8")
    assert "2.00 times as slow" in page and "second/report.html" in page


def test_another_shape_is_not_trained_for_want_of_cases(copied, phantom_data, monkeypatch):
    folder, options = copied
    monkeypatch.setattr(gate, "SLOWER", 1e9)
    monkeypatch.setattr(gate.PairedDifference, "non_inferior", lambda *_: False)
    with pytest.raises(RunError, match="no file was accepted"):
        pocketseg.fit(phantom_data, folder.path, resume=True, **options)
    assert not folder.second.path.exists()


def test_weights_of_a_search_are_where_its_shape_starts(fitted, phantom_data, tmp_path, monkeypatch):
    """On the same data: what is held out was not learned from, and candidates are not compared on what was."""
    folder, _ = fitted
    monkeypatch.setattr(shapes, "WIDTHS", (8, 12))
    monkeypatch.setattr(shapes, "KINDS", (("plain", "int4"), ("plain", "ternary")))
    net = folder.winner.recipe().stages[0].net
    for given in (folder.path, folder.model, folder.winner.path, folder.winner.stage(0, "float").best):
        start = open_start(given)
        assert start.net == {"arch": net.arch, **net.options} and start.seen
    wishes = Wishes(Budget(), steps=100, overrides=("data.size=[32, 32]",), start=start)
    found = begin(phantom_data, SearchFolder(tmp_path / "new"), wishes)
    warm = [shape for shape in found.search.taken if shape.net == net.model_dump()]
    assert warm and f"their nets are that of --start-from, {start.said}" in found.text
    assert len(found.search_split.folds) == 1
    for shape in found.search.taken:
        init = winner_recipe(found.search, shape).stages[0].init
        assert (init is not None and init.weights == str(start.weights)) == (shape in warm)
    recipe = winner_recipe(found.search, warm[0])
    held = weight_file(Target(recipe.stages[0], start.net, pipeline_of(recipe)))
    assert held is not None and held.file == start.weights

    other = replace(start, net={**start.net, "width": 20})
    found = begin(phantom_data, SearchFolder(tmp_path / "new"), replace(wishes, start=other))
    assert "--start-from changes nothing: no shape that keeps to the budget is" in found.text
    seen = replace(start, seen=frozenset(found.split.fold(0).test[:1]))
    with pytest.raises(RunError, match="that are held out here for validation and test"):
        begin(phantom_data, SearchFolder(tmp_path / "new"), replace(wishes, start=seen))


def test_a_packed_file_alone_is_no_start(fitted, tmp_path):
    shutil.copy(fitted[0].model, tmp_path / "alone.pseg")
    with pytest.raises(ModelFileError, match="is packed: it has no weights to go on from"):
        open_start(tmp_path / "alone.pseg")
    with pytest.raises(RecipeError, match="--start-from nuclei: ships as a packed model alone"):
        open_start("nuclei")


ON_RAY = """
import sys
sys.path.insert(0, sys.argv[3])
import fit_killer as small
small.small()
small.flow.fit(sys.argv[1], sys.argv[2], overrides=(*small.OVERRIDES, "augment.copies=4"), size="12KB", steps=800,
               max_drop=50.0, device="cpu", cluster="local", jobs=2)
"""


@pytest.mark.slow("a cluster on this machine")
def test_on_ray_a_killed_worker_costs_no_more_than_its_trial(phantom_data, tmp_path):
    out = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", ON_RAY, str(phantom_data), str(out), str(KILLER.parent)], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        killed, until = None, time.monotonic() + 400
        while killed is None and process.poll() is None and time.monotonic() < until:
            for history in out.glob("round-1/trials/*/fold-0/float/history.csv"):
                killed = history.parents[2]
                lock = (killed / ".fold-0.lock").read_text("utf-8")
                os.kill(int(re.findall(r"process (\d+)", lock)[0]), signal.SIGKILL)
                break
            time.sleep(0.01)
        said = process.communicate(timeout=280)[0]
    assert process.returncode == 0 and killed is not None, said
    assert "resumed from" in (killed / "log.txt").read_text("utf-8")
    scores = json.loads(SearchFolder(out).outcome(1).read_text("utf-8"))
    assert len(scores["order"]) == 2 and not scores["errors"]


def test_a_search_that_goes_on_is_the_same_search(fitted, phantom_data):
    folder, _ = fitted
    with pytest.raises(RunError, match=r"begun with something else: size 12000 → 40000"):
        pocketseg.fit(phantom_data, folder.path, size="40KB", steps=36, resume=True, quiet=True)
    with pytest.raises(RunError, match="is not empty"):
        pocketseg.fit(phantom_data, folder.path, size="12KB", quiet=True)


@pytest.mark.parametrize("option", [("--size", "1KB"), ("--memory", "1KB"), ("--latency", "0.0001ms")])
def test_an_impossible_budget_names_the_smallest_possible(phantom_data, tmp_path, option, monkeypatch):
    from pocketseg.search import shapes

    monkeypatch.setattr(shapes, "WIDTHS", (8,))
    with pytest.raises(RecipeError, match=r"the smallest possible is .* KiB .*, the fastest .* ms here") as found:
        pocketseg.fit(
            phantom_data, tmp_path / "out", overrides=["data.size=[32, 32]"], quiet=True,
            **{option[0].removeprefix("--"): option[1]},
        )  # fmt: skip
    assert found.value.exit_code == 2 and found.value.problems[0].where == option[0]
    assert not list((tmp_path / "out").glob("round-*"))


def test_what_the_search_finds_out_cannot_be_set(phantom_data, tmp_path):
    done = run_cli("fit", phantom_data, "--plan", "--set", "stages.0.net.width=8")
    assert done.returncode == 2 and "is what fit finds out" in done.stderr


def test_three_kills_change_nothing(fitted, phantom_data, tmp_path):
    folder, changes = fitted
    kills = [round(changes * share) for share in (0.1, 0.3, 0.35)]
    fitted_in(phantom_data, tmp_path / "killed", *kills)
    assert winner_of(SearchFolder(tmp_path / "killed")) == winner_of(folder)


@pytest.mark.slow("twenty processes; three kills are in test_three_kills_change_nothing")
def test_twenty_kills_at_random_change_nothing(fitted, phantom_data, tmp_path):
    folder, changes = fitted
    seed = random.randrange(10**6)
    kills = [random.Random(seed + each).randint(1, changes // 4) for each in range(20)]
    print("seed", seed)
    fitted_in(phantom_data, tmp_path / "killed", *kills)
    assert winner_of(SearchFolder(tmp_path / "killed")) == winner_of(folder)
