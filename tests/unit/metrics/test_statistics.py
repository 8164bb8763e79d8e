import math

import numpy as np
import pytest

from pocketseg.metrics import bootstrap_interval


def each(values) -> list[str]:
    return [f"g{n}" for n in range(len(values))]


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


def test_the_interval_holds_the_mean_and_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).normal(0.8, 0.1, 200)
    low, high = bootstrap_interval(values, each(values))
    assert low < values.mean() < high
    assert width((low, high)) == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.1)


def test_it_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = {0.5: 0, 0.95: 0}
    for trial in range(200):
        values = rng.beta(8, 2, 40)
        for level in hits:
            low, high = bootstrap_interval(values, each(values), level=level, draws=400, seed=trial)
            hits[level] += low <= 0.8 <= high
    assert 0.88 < hits[0.95] / 200 < 0.99
    assert 0.40 < hits[0.5] / 200 < 0.60


def test_it_covers_where_patients_have_several_cases():
    """Drawing cases instead of patients would cover in about 60 of 100 trials here."""
    rng = np.random.default_rng(2)
    hits = {"patients": 0, "cases": 0}
    groups = [f"p{n // 6}" for n in range(180)]
    for trial in range(100):
        values = np.repeat(rng.normal(0, 1, 30), 6) + rng.normal(0, 0.2, 180)
        for kind, names in (("patients", groups), ("cases", each(values))):
            low, high = bootstrap_interval(values, names, draws=300, seed=trial)
            hits[kind] += low <= 0 <= high
    assert hits["patients"] > 85 and hits["cases"] < 75


def test_groups_widen_it():
    values = np.repeat(np.random.default_rng(3).random(20), 5)
    alone, grouped = (bootstrap_interval(values, names) for names in (each(values), [f"g{n // 5}" for n in range(100)]))
    assert width(grouped) == pytest.approx(np.sqrt(5) * width(alone), rel=0.15)


def test_groups_of_other_sizes_weigh_by_their_cases():
    """The mean is over cases: a group of 9 ones and a group of one zero, each drawn twice or once."""
    low, high = bootstrap_interval([1] * 9 + [0], ["a"] * 9 + ["b"], draws=500)
    assert (low, high) == (0, 1)
    middle = bootstrap_interval([1] * 9 + [0], ["a"] * 9 + ["b"], level=0.001, draws=500)
    assert middle == pytest.approx((0.9, 0.9))


def test_the_order_of_cases_does_not_matter():
    values, groups = np.random.default_rng(4).random(30), [f"g{n % 7}" for n in range(30)]
    order = np.random.default_rng(5).permutation(30)
    again = bootstrap_interval(values[order], [groups[n] for n in order])
    assert again == pytest.approx(bootstrap_interval(values, groups), abs=1e-12)


def test_it_is_decided_by_the_seed():
    values = np.random.default_rng(6).random(30)
    assert bootstrap_interval(values, each(values), seed=1) == bootstrap_interval(values, each(values), seed=1)
    assert bootstrap_interval(values, each(values), seed=1) != bootstrap_interval(values, each(values), seed=2)


def test_a_higher_level_is_wider():
    values = np.random.default_rng(7).random(30)
    widths = [width(bootstrap_interval(values, each(values), level=level)) for level in (0.5, 0.9, 0.99)]
    assert widths == sorted(widths) and widths[0] < 0.6 * widths[2]


def test_nan_is_left_out():
    values = np.random.default_rng(8).random(20)
    holes, groups = [*values, math.nan, math.nan], [*each(values), "g0", "x"]
    assert bootstrap_interval(holes, groups) == bootstrap_interval(values, each(values))


@pytest.mark.parametrize("values", [[], [math.nan], [math.nan, math.nan]])
def test_nothing_left_is_nan(values):
    assert all(math.isnan(bound) for bound in bootstrap_interval(values, each(values)))


def test_one_value_has_no_width():
    assert bootstrap_interval([0.7], ["a"]) == (0.7, 0.7)
