"""Shapes, budgets and rounds: what is left out by computation, and what goes on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from pocketseg.errors import RecipeError
from pocketseg.metrics import PairedDifference, paired_difference
from pocketseg.search import halving
from pocketseg.search.budget import milliseconds, number_of_bytes, seconds
from pocketseg.search.gate import Verdict, advice, best_of, margin_of
from pocketseg.search.halving import Side, better_half, fitted, lasting, ranked, schedule, work
from pocketseg.search.page import front
from pocketseg.search.shapes import Budget, Cost, Shape, chosen, ladder

FILE = Path("model.pseg")


@pytest.fixture
def costs() -> dict[Shape, Cost]:
    """A byte for each weight of a plain net, an eighth of it for a separable one, and fewer for fewer bits."""
    bits = {"int8": 1.0, "int4": 0.5, "ternary": 0.25}
    return {
        shape: Cost(int(20 * shape.blocks * shape.width**2 * bits[shape.bits] / (1 + 7 * (shape.conv == "separable"))),
                    1000 * shape.width, shape.width / 10, 80 * shape.width**2)
        for shape in ladder((128, 128))
    }  # fmt: skip


def test_the_ladder_has_every_kind_and_no_shape_twice():
    shapes = ladder((128, 128))
    assert len(shapes) == len(set(shapes)) == 40
    assert {(shape.conv, shape.bits) for shape in shapes} == {
        ("plain", "int8"), ("plain", "int4"), ("plain", "ternary"), ("separable", "int8"),
    }  # fmt: skip
    assert all(Shape.named(shape.name) == shape for shape in shapes)


@pytest.mark.parametrize("side", [8, 16, 32, 48, 64, 96, 128, 256])
def test_a_small_input_gets_fewer_levels(side):
    assert all(side / 2**shape.blocks >= 3 for shape in ladder((side, 2 * side)))


def test_the_widest_of_each_kind_are_trained_and_smaller_ones_too(costs):
    for count in (1, 2, 4, 8):
        taken = chosen(costs, count)
        assert len(taken) == len(set(taken)) == count
    kinds = {(shape.conv, shape.bits) for shape in chosen(costs, 8)}
    assert len(kinds) == 4
    sizes = [costs[shape].size_bytes for shape in chosen(costs, 8)]
    assert max(sizes) == max(cost.size_bytes for cost in costs.values()) and min(sizes) < max(sizes) / 6


def test_fewer_shapes_than_candidates_are_all_trained(costs):
    few = dict(list(costs.items())[:3])
    assert set(chosen(few, 8)) == set(few)


def test_a_budget_says_by_what_something_is_above_it():
    budget = Budget(40_000, 5.0, 2_000_000)
    assert budget.excess(40_000, 2_000_000, 5.0) == ""
    assert budget.excess(41_000, 3_000_000, 6.0) == (
        "40.0 KiB, above 39.1 KiB; 2.9 MiB of memory, above 1.9 MiB; 6.0 ms, above 5.0 ms"
    )


@pytest.mark.parametrize("text", ["", "KB", "-5KB", "0", "5 furlongs", "1e400", "nan", "inf"])
def test_what_is_no_quantity_is_refused(text):
    for read in (number_of_bytes, milliseconds, seconds):
        with pytest.raises(RecipeError, match="is not a quantity above 0"):
            read(text, "--size")


@pytest.mark.parametrize(
    ("read", "text", "example"),
    [(number_of_bytes, "40", "40KB"), (milliseconds, "5", "5ms"), (seconds, " 10 ", "30min")],
)
def test_a_text_without_a_unit_is_refused_and_a_number_is_not(read, text, example):
    with pytest.raises(RecipeError, match=f"has no unit.*for example {example}; units: "):
        read(text, "--option")
    assert read(float(text), "--option") == float(text)


def test_each_round_has_half_of_the_candidates_and_twice_the_steps():
    found = schedule(8, 8000)
    assert found.rounds == ((8, 500), (4, 1000), (2, 2000))
    assert {count * steps for count, steps in found.rounds} == {4000}


def test_the_steps_fill_the_time(monkeypatch):
    monkeypatch.setattr(halving, "RUN_S", 0.0)
    for time in (600, 1800, 36_000):
        found = fitted(time, 0.05, 1, 2, 40)
        steps, _ = work(found, 1, 2)
        assert 0.98 * time <= steps * 0.05 <= 1.02 * time


def test_little_time_trains_one_shape_and_says_so_by_its_rounds():
    assert fitted(5, 1.0, 3, 2, 40) == schedule(1, halving.LEAST_STEPS)


@pytest.mark.parametrize("epoch", [10, 100, 300, 1000, 3000])
def test_whole_epochs_keep_to_the_time(monkeypatch, epoch):
    """What is trained, in whole epochs and at least one of each stage, takes at most a third more than was planned."""
    monkeypatch.setattr(halving, "RUN_S", 0.0)
    found = fitted(1800, 0.1, 1, 2, 40, epoch)

    def seconds_of(steps: int, schemes: int) -> float:
        epochs = max(1, round(steps / epoch))
        quantized = max(1, round(epochs * halving.QUANT_SHARE))
        return 0.1 * epoch * (epochs + schemes * quantized * halving.QUANT_COST)

    took = sum(count * seconds_of(steps, 1) for count, steps in found.rounds) + seconds_of(found.full_steps, 2)
    assert took <= 1.35 * 1800


def test_more_folds_take_fewer_steps():
    assert fitted(1800, 0.05, 3, 2, 40).full_steps < fitted(1800, 0.05, 1, 2, 40).full_steps


def test_a_smaller_file_wins_where_little_is_lost():
    sizes = {"large": 64_000, "small": 16_000}
    assert ranked({"large": 0.804, "small": 0.800}, sizes)[0] == "small"
    assert ranked({"large": 0.806, "small": 0.800}, sizes)[0] == "large"


def test_the_order_does_not_depend_on_that_of_the_candidates():
    scores = {"c": 0.8, "a": 0.8, "b": 0.8, "d": math.nan}
    sizes = dict.fromkeys(scores, 100)
    assert ranked(scores, sizes) == ranked(dict(reversed(scores.items())), sizes) == ["a", "b", "c", "d"]


def test_what_failed_never_goes_on():
    scores = {"a": math.nan, "b": 0.1, "c": math.nan}
    assert better_half(scores, dict.fromkeys(scores, 1), 2) == ["b"]


def test_the_gate_takes_the_smallest_accepted_file_and_floats_only_where_none_is():
    plain = Verdict("float", FILE, size_bytes=100)
    eight, four = Verdict("int8", FILE, size_bytes=30), Verdict("int4", FILE, size_bytes=15)
    lost = Verdict("ternary", FILE, size_bytes=8, refused="not shown to lose less")
    assert best_of([plain, eight, four, lost]) == four
    assert best_of([plain, lost]) == plain
    assert best_of([Verdict("float", FILE, refused="97.7 KiB, above 39.1 KiB"), lost]) is None


def test_the_front_has_what_nothing_beats():
    assert front([(3, 0.5), (1, 0.2), (2, 0.6), (1, 0.3)]) == [(1, 0.3), (2, 0.6)]


def difference(*changes: float) -> PairedDifference:
    groups = [f"g{number}" for number in range(len(changes))]
    return paired_difference([0.8] * len(changes), [0.8 + change for change in changes], groups)


def test_the_margin_that_is_named_accepts_and_a_smaller_one_does_not():
    found = difference(-0.03, 0.01, 0.0, -0.01, 0.02)
    margin = margin_of(found)
    assert found.non_inferior(margin / 100) and not found.non_inferior((margin - 0.1) / 100)
    assert margin_of(difference(0.01)) == math.inf, "one group shows nothing"


def test_the_options_that_are_named_hold_what_was_measured():
    budget, cost = Budget(40_000, 5.0, 2_000_000), (41_001, 3_000_001, 5.2)
    assert budget.needed(*cost) == ["--size 42KB", "--memory 3001KB", "--latency 6ms"]
    assert Budget(42_000, 6.0, 3_001_000).excess(*cost) == "" == budget.excess(40_000, 0, 5.0)
    assert budget.needed(40_000, 0, 5.0) == []


def test_where_no_option_accepts_a_file_more_training_is_advised():
    slow = Verdict("int8", FILE, refused="1.30 times as slow as the float file")
    assert advice([slow]).startswith("give more --time in a new --out")
    large = Verdict("float", FILE, refused="97.7 KiB, above 39.1 KiB", needs=("--size 101KB",))
    assert advice([large, slow]) == "--size 101KB in a new --out accepts the float file"


def test_a_schedule_lasts_as_long_as_its_whole_epochs(monkeypatch):
    monkeypatch.setattr(halving, "RUN_S", 0.0)
    assert lasting(schedule(1, 40), 1.0, 1, 1, (8, 8)) == 8 * (5 + 2)
    assert lasting(schedule(1, 40), 1.0, 1, 1, (100, 100)) == 100 * (1 + 2), "an epoch of each stage at least"
    assert lasting(schedule(2, 40), 1.0, 3, 1, (10, 10)) == 2 * 3 * 10 * (1 + 2) + 10 * (4 + 2)


def test_trainings_side_by_side_carry_more_steps_unless_each_is_as_much_slower():
    alone, free, shared = (fitted(1800, 0.1, 1, 2, 40, 10, side) for side in (Side(), Side(2), Side(2, 2.0)))
    assert free.full_steps > alone.full_steps == pytest.approx(shared.full_steps, rel=0.1)
    for side, plan in ((Side(), alone), (Side(2), free), (Side(2, 2.0), shared)):
        assert lasting(plan, 0.1, 1, 2, (10, 10), side) == pytest.approx(1800, rel=0.05)
    assert Side(3).waves(4) == 2 and Side(8).waves(4) == 1
