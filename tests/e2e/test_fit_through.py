"""`fit` from a folder to a file: budgets, the gate, what no choice may see, kills."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

import pocketseg
from helpers.commands import read_csv, run_cli
from pocketseg.data import Split
from pocketseg.errors import RecipeError, RunError
from pocketseg.recipes import load_recipe
from pocketseg.search import gate
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
