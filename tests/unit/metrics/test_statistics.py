import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pocketseg.metrics import (
    bootstrap_interval,
    describe,
    paired_difference,
    seed_spread,
    seeds_difference,
    two_way_interval,
)


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


def test_bca_is_that_of_scipy_where_every_case_is_alone():
    values = np.random.default_rng(10).beta(2, 0.2, 30)
    wanted = stats.bootstrap((values,), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(0))
    found = bootstrap_interval(values, each(values), draws=20_000)
    assert found == pytest.approx(tuple(wanted.confidence_interval), abs=0.03 * width(found))
    plain = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0))
    shift = abs(plain.confidence_interval.low - wanted.confidence_interval.low)
    assert shift > 0.06 * width(found), "the percentile interval would pass too"


def test_bca_shifts_towards_the_long_tail():
    """Dice is skewed to low values; the plain percentile interval reaches not far enough down."""
    values = np.r_[np.full(50, 0.9), np.full(5, 0.0)]
    low, high = bootstrap_interval(values, each(values))
    assert values.mean() - low > 1.2 * (high - values.mean())


def test_description():
    found = describe([0.1, 0.2, math.nan, 0.4, 0.9], ["a", "a", "b", "c", "d"])
    assert (found.count, found.mean, found.median) == (4, pytest.approx(0.4), pytest.approx(0.3))
    assert (found.lower_quartile, found.upper_quartile) == (pytest.approx(0.175), pytest.approx(0.525))
    assert (found.low, found.high) == bootstrap_interval([0.1, 0.2, 0.4, 0.9], ["a", "a", "c", "d"])
    nothing = describe([math.nan], ["a"])
    assert nothing.count == 0 and math.isnan(nothing.mean) and math.isnan(nothing.upper_quartile)


def test_paired_difference_of_single_cases():
    rng = np.random.default_rng(11)
    first = rng.random(30)
    second = first + rng.normal(0.05, 0.05, 30)
    found = paired_difference(first, second, each(first))
    assert found.mean == pytest.approx((second - first).mean())
    assert (found.low, found.high) == bootstrap_interval(second - first, each(first))
    assert found.p_value == pytest.approx(stats.wilcoxon(second - first).pvalue)
    ranks = stats.rankdata(abs(second - first))
    assert found.effect == pytest.approx((ranks[second > first].sum() - ranks[second < first].sum()) / ranks.sum())
    assert (found.cases, found.groups) == (30, 30)
    back = paired_difference(second, first, each(first))
    assert (back.mean, back.effect, back.p_value) == pytest.approx((-found.mean, -found.effect, found.p_value))


def test_the_test_counts_patients_and_not_images():
    """Four patients with fifty images each are four: no test can be sure of them."""
    rng = np.random.default_rng(12)
    patients = [f"p{n // 50}" for n in range(200)]
    first = rng.random(200)
    found = paired_difference(first, first + 0.1 + rng.normal(0, 0.01, 200), patients)
    assert (found.cases, found.groups) == (200, 4)
    assert found.p_value == 0.125 and found.effect == 1


def test_a_case_without_a_value_of_either_is_left_out():
    found = paired_difference([0.5, math.nan, 0.2, 0.9], [0.6, 0.5, math.nan, 0.9], ["a", "b", "c", "d"])
    assert (found.cases, found.groups, found.mean) == (2, 2, pytest.approx(0.05))


def test_no_difference_is_no_effect():
    found = paired_difference([0.5, 0.6], [0.5, 0.6], ["a", "b"])
    assert (found.mean, found.low, found.high, found.p_value, found.effect) == (0, 0, 0, 1, 0)
    nothing = paired_difference([math.nan], [0.5], ["a"])
    assert nothing.cases == 0 and math.isnan(nothing.p_value)


def test_a_difference_that_is_none_is_found_as_often_as_the_level_says():
    rng = np.random.default_rng(13)
    found = [paired_difference(rng.normal(size=25), rng.normal(size=25), each(range(25)), seed=n) for n in range(150)]
    assert 0.90 < np.mean([each.low <= 0 <= each.high for each in found]) < 0.99
    assert np.mean([each.p_value < 0.05 for each in found]) < 0.12


def test_spread_over_seeds():
    found = seed_spread([0.70, 0.74, 0.75])
    assert (found.seeds, found.lowest, found.highest) == (3, 0.70, 0.75)
    assert found.mean == pytest.approx(0.73)
    assert found.standard_deviation == pytest.approx(math.sqrt((0.03**2 + 0.01**2 + 0.02**2) / 2))
    assert math.isnan(seed_spread([0.5]).standard_deviation)
    with pytest.raises(ValueError, match="at least one"):
        seed_spread([])


def test_the_permutation_test_is_every_swap_counted():
    rng = np.random.default_rng(0)
    groups = [str(number // 2) for number in range(14)]
    first, second = rng.random(14), rng.random(14) + 0.1
    found = paired_difference(first, second, groups)
    sums = [(second - first)[2 * at : 2 * at + 2].sum() for at in range(7)]
    totals = [abs(np.dot(signs, sums)) for signs in itertools.product((1, -1), repeat=7)]
    assert found.permutation_p == sum(total >= abs(sum(sums)) - 1e-12 for total in totals) / 128


def test_the_permutation_test_of_many_groups_is_near_that_of_scipy():
    rng = np.random.default_rng(3)
    first = rng.random(60)
    second = first + rng.normal(0.02, 0.08, 60)
    found = paired_difference(first, second, [str(at) for at in range(60)])
    theirs = stats.permutation_test(
        (second - first,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    )
    assert found.permutation_p == pytest.approx(theirs.pvalue, abs=0.02)
    same = paired_difference(first, first, [str(at) for at in range(60)])
    assert same.permutation_p == 1.0


def test_a_margin_asks_another_question_than_a_difference():
    groups = [str(at) for at in range(200)]
    first = np.random.default_rng(1).random(200)
    tiny = paired_difference(first, first - 0.01 + np.random.default_rng(2).normal(0, 0.005, 200), groups)
    assert tiny.permutation_p < 0.01 and tiny.non_inferior(0.015) and not tiny.non_inferior(0.005)
    few = paired_difference(first[:8], first[:8] + np.random.default_rng(4).normal(0, 0.2, 8), groups[:8])
    assert few.permutation_p > 0.05 and not few.non_inferior(0.015)
    alone = paired_difference(first[:8], first[:8], ["a"] * 8)
    assert alone.low == alone.high == 0 and not alone.non_inferior(0.015)


def test_the_two_way_interval_knows_both_how_cases_and_how_seeds_differ():
    rng = np.random.default_rng(5)
    groups = [str(number // 3) for number in range(90)]
    cases = rng.random(90)
    alike = [cases] * 5
    low, high = two_way_interval(alike, groups)
    one_way = bootstrap_interval(cases, groups)
    assert (low, high) == pytest.approx(one_way, abs=0.02)
    apart = [np.full(90, 0.5) + shift for shift in (-0.1, -0.05, 0, 0.05, 0.1)]
    low, high = two_way_interval(apart, groups)
    assert 0.43 < low < 0.46 and 0.54 < high < 0.57
    assert all(map(math.isnan, two_way_interval([[math.nan]], ["a"])))


def test_the_two_way_interval_leaves_out_what_is_missing():
    values = [[0.5, math.nan, 0.7], [math.nan, 0.6, 0.6]]
    low, high = two_way_interval(values, ["a", "b", "c"])
    assert 0.5 <= low < high <= 0.7


def test_a_difference_of_single_seeds_is_that_of_pairs():
    rng = np.random.default_rng(20)
    first, second = rng.random(30), rng.random(30)
    assert seeds_difference([first], [second], each(first)) == paired_difference(first, second, each(first))


def test_a_difference_of_seeds_draws_groups_and_both_models_seeds():
    """The same with every draw written out; a case that one seed lacks is left out."""
    rng = np.random.default_rng(21)
    groups = [f"g{number // 2}" for number in range(14)]
    first, second = rng.random((2, 14)), rng.random((3, 14))
    second[1, 4] = math.nan
    found = seeds_difference(first, second, groups, draws=200, seed=7)
    kept = [number for number in range(14) if number != 4]
    again = np.random.default_rng(7)
    drawn = [again.multinomial(size, np.full(size, 1 / size), 200) for size in (7, 2, 3)]
    means = []
    for of_groups, of_first, of_second in zip(*drawn, strict=True):
        cases = [at for at in kept for _ in range(of_groups[at // 2])]
        one, other = (
            sum(times * rows[seed, cases].mean() for seed, times in enumerate(seeds)) / len(rows)
            for rows, seeds in ((first, of_first), (second, of_second))
        )
        means.append(other - one)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))
    assert found.mean == pytest.approx((second.mean(0) - first.mean(0))[kept].mean())
    assert (
        found.cases == 13
        and found.permutation_p == paired_difference(first.mean(0), second.mean(0), groups).permutation_p
    )


def test_seeds_that_lie_apart_widen_the_difference():
    """Cases alone would say that the second is better; seeds say that one more training may be worse."""
    rng = np.random.default_rng(22)
    cases = rng.random(60)
    first = [cases + shift for shift in (-0.1, 0, 0.1)]
    second = [cases + 0.03 + shift + rng.normal(0, 0.01, 60) for shift in (-0.1, 0, 0.1)]
    found = seeds_difference(first, second, each(cases))
    alone = paired_difference(np.mean(first, 0), np.mean(second, 0), each(cases))
    assert alone.low > 0 and found.low < 0 < found.high
    assert alone.non_inferior(0.015) and not found.non_inferior(0.015)


def test_it_covers_the_difference_of_all_trainings_and_patients():
    """Effects of groups, seeds and both together; intervals of groups alone hold the truth far less often."""
    rng = np.random.default_rng(23)
    hits = {"both": 0, "groups": 0}
    for trial in range(80):
        first, second = (
            rng.normal(0, 0.1, (6, 1)) + rng.normal(0, 0.2, (6, 40)) + rng.normal(0, 0.1, 40) for _ in range(2)
        )
        found = seeds_difference(first, second, each(range(40)), draws=300, seed=trial)
        hits["both"] += found.low <= 0 <= found.high
        alone = paired_difference(first.mean(0), second.mean(0), each(range(40)), seed=trial)
        hits["groups"] += alone.low <= 0 <= alone.high
    assert hits["both"] > 0.86 * 80 > 0.8 * 80 > hits["groups"]
