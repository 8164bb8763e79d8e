"""Errors at equal specificity, against counting by hand and in loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from pocketseg.metrics import missed_difference, presence


def by_counting(scores, positive, specificity):
    """The same in words: every threshold is tried, the lowest that leaves enough clean is taken."""
    others = [score for score, there in zip(scores, positive, strict=True) if not there]
    ours = [score for score, there in zip(scores, positive, strict=True) if there]
    for threshold in sorted(others):
        if sum(score <= threshold for score in others) >= specificity * len(others) - 1e-9:
            break
    pairs = [(a > b) + (a == b) / 2 for a in ours for b in others]
    return sum(pairs) / len(pairs), threshold, sum(score <= threshold for score in ours)


cases = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40).filter(
    lambda drawn: len({there for _, there in drawn}) == 2
)


@given(cases, st.sampled_from([0.5, 0.7, 0.8, 0.9, 0.95, 1.0]))
def test_it_is_what_counting_finds(drawn, specificity):
    scores, positive = [score / 6 for score, _ in drawn], [there for _, there in drawn]
    found = presence(scores, positive, specificity=specificity)
    auc, threshold, missed = by_counting(scores, positive, specificity)
    assert (found.auc, found.threshold, found.missed) == (pytest.approx(auc), threshold, missed)
    clean = found.negative - found.false_alarms
    assert clean >= specificity * found.negative - 1e-9
    assert found.positive + found.negative == len(drawn)


@given(cases)
def test_a_score_that_rises_with_it_tells_the_same(drawn):
    scores, positive = np.array([score for score, _ in drawn], float), [there for _, there in drawn]
    one, other = (presence(values, positive) for values in (scores, np.exp(scores / 3) - 7))
    assert (one.auc, one.missed, one.false_alarms) == (other.auc, other.missed, other.false_alarms)


def test_ten_cases_without_an_object_leave_one_alarm_at_nine_tenths():
    found = presence([*np.arange(10), 9.5], [False] * 10 + [True])
    assert (found.threshold, found.false_alarms, found.missed) == (8.0, 1, 0)
    assert presence([*np.arange(10), 8.0], [False] * 10 + [True]).missed == 1, "what lies on it is not above it"


@pytest.mark.parametrize("positive", [[True, True], [False, False]])
def test_one_kind_of_case_tells_nothing(positive):
    assert presence([0.1, 0.2], positive) is None
    assert missed_difference([[0.1, 0.2]], [[0.1, 0.2]], positive, ["a", "b"]).cases == 0


def test_a_missing_score_tells_nothing():
    assert presence([0.1, math.nan], [True, False]) is None
    assert math.isnan(missed_difference([[0.1, math.nan]], [[0.1, 0.2]], [True, False], ["a", "b"]).mean)


def drawn_by_loops(first, second, positive, groups, draws, seed):
    """Every draw written out: cases of the drawn groups, thresholds of these, means over the drawn seeds."""
    rng, names = np.random.default_rng(seed), sorted(set(groups))
    found = []
    for start in range(0, draws, 200):
        count = min(200, draws - start)
        of_groups, of_first, of_second = (
            rng.multinomial(size, np.full(size, 1 / size), count) for size in (len(names), len(first), len(second))
        )
        for at in range(count):
            inside = [case for case, group in enumerate(groups) for _ in range(of_groups[at][names.index(group)])]
            there = [positive[case] for case in inside]
            if len(set(there)) < 2:
                continue
            means = []
            for rows, seeds in ((first, of_first[at]), (second, of_second[at])):
                shares = [by_counting([row[case] for case in inside], there, 0.9)[2] / sum(there) for row in rows]
                means.append(np.dot(shares, seeds) / len(rows))
            found.append(means[1] - means[0])
    return np.quantile(found, [0.025, 0.975])


def test_the_interval_is_that_of_loops():
    rng = np.random.default_rng(3)
    positive, groups = [number % 3 > 0 for number in range(36)], [f"g{number // 2}" for number in range(36)]
    first = [rng.normal(positive, 0.7) for _ in range(2)]
    second = [rng.normal(positive, 0.5) for _ in range(3)]
    found = missed_difference(first, second, positive, groups, draws=250, seed=5)
    assert (found.low, found.high) == pytest.approx(tuple(drawn_by_loops(first, second, positive, groups, 250, 5)))
    shares = [np.mean([by_counting(row, positive, 0.9)[2] for row in rows]) / 24 for rows in (first, second)]
    assert found.mean == pytest.approx(shares[1] - shares[0])
    assert (found.cases, found.groups) == (24, 18) and math.isnan(found.p_value)


def test_it_covers_what_is_true_of_many_cases():
    """Two models of known curves, which miss Φ(1.28 − d) at 90 %: intervals hold the difference nine of ten times."""
    rng, positive = np.random.default_rng(4), np.arange(160) < 100
    truth = norm.cdf(norm.ppf(0.9) - 1.5) - norm.cdf(norm.ppf(0.9) - 1.0)
    hits = 0
    for trial in range(60):
        common = rng.normal(size=160)  # cases that are hard for one are hard for the other
        first, second = (0.8 * common + 0.6 * rng.normal(size=160) + distance * positive for distance in (1.0, 1.5))
        found = missed_difference([first], [second], positive, [str(at) for at in range(160)], draws=300, seed=trial)
        hits += found.low <= truth <= found.high
    assert hits > 0.85 * 60


def test_the_same_model_does_not_differ():
    scores, positive = [list(np.linspace(0, 1, 30))], [number % 2 == 0 for number in range(30)]
    found = missed_difference(scores, scores, positive, [str(at) for at in range(30)])
    assert (found.mean, found.low, found.high) == (0, 0, 0)
