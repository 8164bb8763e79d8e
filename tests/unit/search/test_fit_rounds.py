"""Rounds: what ended stays as it ended, and what goes on is the same however often a search is resumed."""

from __future__ import annotations

import math

import pytest

from pocketseg.errors import RunError, TrainingError
from pocketseg.experiments.run import TrainResult, Trial
from pocketseg.runs.folder import RunFolder
from pocketseg.search import rounds
from pocketseg.search.halving import Schedule
from pocketseg.search.plan import Plan
from pocketseg.search.rounds import Trainer, all_rounds
from pocketseg.search.shapes import Budget, Cost, Shape
from pocketseg.search.state import Search, SearchFolder

SHAPES = tuple(Shape(width, 3, "plain", "int8") for width in (8, 12, 16, 24))
DICE = dict(zip([shape.name for shape in SHAPES], (0.6, 0.7, 0.8, 0.9), strict=True))


class World:
    """Trainings that end at once, some of which fail, and how often each was asked for."""

    def __init__(self) -> None:
        self.failing = set[str]()
        self.asked = list[list[str]]()

    def train(self, sweep: list[str], _data: object, out: object, **_: object) -> TrainResult:
        self.asked.append(sweep)
        trials = [Trial(name, {}, out, "out of memory" if name in self.failing else "", {}) for name in sweep]  # type: ignore[arg-type]
        return TrainResult(out, {}, tuple(trials))  # type: ignore[arg-type]


@pytest.fixture
def world(monkeypatch):
    found = World()
    monkeypatch.setattr(rounds, "train_many", found.train)
    monkeypatch.setattr(rounds, "trial_recipe", lambda search, shape, steps: None)
    monkeypatch.setattr(rounds, "_sweep", lambda search, recipes: [shape.name for shape in recipes])
    monkeypatch.setattr(rounds, "dice_of", lambda run, folds: DICE[run.path.name])
    monkeypatch.setattr(RunFolder, "was_begun", lambda self: False)
    return found


@pytest.fixture
def search() -> Search:
    costs = {shape: Cost(1000, 1000, 1.0, 4000) for shape in SHAPES}
    return Search({}, Plan(()), Budget(), Schedule(((4, 100), (2, 200)), 400), costs, SHAPES, {}, (10, 10))


def names(shapes: list[Shape]) -> list[str]:
    return [shape.name for shape in shapes]


def test_the_shapes_of_the_last_round_come_back_the_best_first(world, search, tmp_path):
    found, shapes = all_rounds(SearchFolder(tmp_path), search, Trainer("data"))
    assert names(shapes) == ["plain-w24-n3-int8", "plain-w16-n3-int8"]
    assert [len(asked) for asked in world.asked] == [4, 2] and [each.number for each in found] == [1, 2]


def test_a_training_that_failed_in_an_ended_round_is_not_tried_again(world, search, tmp_path):
    """It might succeed then, and others would have gone on."""
    world.failing = {"plain-w24-n3-int8"}
    first, shapes = all_rounds(SearchFolder(tmp_path), search, Trainer("data"))
    assert names(shapes) == ["plain-w16-n3-int8", "plain-w12-n3-int8"]
    assert first[0].errors == {"plain-w24-n3-int8": "out of memory"}
    world.failing, world.asked = set(), []
    again, same = all_rounds(SearchFolder(tmp_path), search, Trainer("data"))
    assert same == shapes and not world.asked
    assert math.isnan(again[0].scores["plain-w24-n3-int8"]) and again[0].errors == first[0].errors
    assert [each.order for each in again] == [each.order for each in first]


def test_a_round_that_did_not_end_is_tried_again(world, search, tmp_path):
    world.failing = set(DICE)
    with pytest.raises(TrainingError, match="no training of the round succeeded"):
        all_rounds(SearchFolder(tmp_path), search, Trainer("data"))
    world.failing = set()
    assert names(all_rounds(SearchFolder(tmp_path), search, Trainer("data"))[1])[0] == "plain-w24-n3-int8"


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"number": 1, "steps": 2, "scores": 3, "errors": {}, "order": []}']
)
def test_a_damaged_outcome_is_said(world, search, tmp_path, content):
    SearchFolder(tmp_path).outcome(1).write_text(content)
    with pytest.raises(RunError, match="is damaged"):
        all_rounds(SearchFolder(tmp_path), search, Trainer("data"))
