"""Rules chosen on validation: the sums over components agree with really applying the rules."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from pocketseg.evaluation import choose_rules
from pocketseg.evaluation.choose import FEWEST_GROUPS, MAY_COST, _behind, _Candidate, _Entries, _measure
from pocketseg.metrics import overlap
from pocketseg.pipeline import Postprocess


def noisy_case(rng, lesion: bool):
    """Smooth probabilities with a lesion that peaks high, and smears that do not."""
    reference = np.zeros((40, 40), np.uint8)
    field = ndimage.gaussian_filter(rng.normal(size=(40, 40)), 2)
    probability = 0.35 + 0.3 * field / np.abs(field).max()
    if lesion:
        reference[10:22, 12:26] = 1
        probability += 0.6 * ndimage.gaussian_filter(reference.astype(float), 1.5)
    return np.clip(probability, 0.01, 0.99).astype(np.float32)[:, :, None], reference


@pytest.fixture
def cases():
    rng = np.random.default_rng(5)
    return [noisy_case(rng, lesion) for lesion in (True, True, False, True, False, False)]


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize(("threshold", "peak", "size", "keep"), [
    (0.5, 0.0, 0, "all"), (0.4, 0.6, 0, "all"), (0.4, 0.0, 20, "all"), (0.3, 0.7, 9, "largest"),
])  # fmt: skip
def test_measured_dice_is_that_of_the_mask(cases, threshold, peak, size, keep, fill):
    rules = Postprocess(threshold=threshold, min_peak=peak, min_pixels=size, keep=keep, fill_holes=fill)
    for probability, reference in cases:
        (measured,) = _measure(probability, reference, rules)
        expected = overlap(rules(probability) == 1, reference == 1).dice
        assert measured.scores([rules])[0] == pytest.approx(1.0 if np.isnan(expected) else expected)


ALL = ("threshold", "min_peak", "min_pixels")


def many(*cases, times: int = FEWEST_GROUPS):
    """Each case again and again, every time of another group."""
    return [(f"group{index}-{turn}", *case) for turn in range(times) for index, case in enumerate(cases)]


def chosen(rules, auto, cases, classes=("lesion",)):
    return choose_rules(rules, auto, cases, classes).rules


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_found_objects_are_those_that_the_mask_touches(cases, threshold):
    rng = np.random.default_rng(3)
    for probability, _ in cases:
        reference = (rng.random((40, 40)) > 0.97).astype(np.uint8)
        for rules in (Postprocess(threshold=threshold), Postprocess(threshold=threshold, min_pixels=12, min_peak=0.6)):
            (measured,) = _measure(probability, reference, rules)
            objects, count = ndimage.label(reference, np.ones((3, 3)))
            touched = {int(each) for each in objects[rules(probability) == 1]} - {0}
            assert measured.scores([rules])[1] == len(touched) < count


def test_false_alarms_are_removed_and_lesions_kept(cases):
    plain = Postprocess(threshold=0.3)
    choice = choose_rules(plain, ALL, many(*cases, times=14), ["lesion"])
    masks = [choice.rules(probability) for probability, _ in cases]
    assert [mask.any() for mask in masks] == [bool(reference.any()) for _, reference in cases]
    before = np.mean([overlap(plain(p) == 1, t == 1).dice for p, t in cases])
    assert choice.dice > before + 0.2


def test_what_is_fixed_stays(cases):
    found = chosen(Postprocess(threshold=0.45, keep="largest"), ("min_pixels",), many(*cases))
    assert (found.threshold, found.keep, found.min_peak) == (0.45, "largest", 0.0)


def square_of(value: float, *, lesion: bool):
    reference = np.zeros((20, 20), np.uint8)
    reference[5:15, 5:15] = 1
    return np.where(reference, value, 0.001).astype(np.float32)[:, :, None], reference * np.uint8(lesion)


def test_nothing_to_gain_keeps_the_mildest():
    choice = choose_rules(Postprocess(), ALL, many(square_of(0.999, lesion=True)), ["lesion"])
    assert choice.rules == Postprocess() and choice.dice == choice.mildest_dice == 1.0 and choice.left == {}


# --- how many cases it takes --------------------------------------------------------------------------------------


def lesions_and_alarms(lesions: int, alarms: int):
    """Clear lesions, and false alarms that a peak tells apart."""
    return [(f"a{n}", *square_of(0.99, lesion=True)) for n in range(lesions)] + [
        (f"b{n}", *square_of(0.7, lesion=False)) for n in range(alarms)
    ]


@pytest.mark.parametrize(("lesions", "alarms", "auto", "left"), [
    (84, 18, ALL, dict.fromkeys(("min_peak", "min_pixels"), "18 validation groups without lesion, 40 are needed")),
    (84, 1, ("min_peak",), {"min_peak": "1 validation group without lesion, 40 are needed"}),
    (39, 60, ALL, dict.fromkeys(ALL, "39 validation groups with lesion, 40 are needed")),
])  # fmt: skip
def test_rules_stay_where_the_groups_are_too_few(lesions, alarms, auto, left):
    choice = choose_rules(Postprocess(), auto, lesions_and_alarms(lesions, alarms), ["lesion"])
    assert dict(choice.left) == left
    assert (choice.rules.min_peak, choice.rules.min_pixels) == (0, 0)


def test_enough_groups_carry_the_choice():
    choice = choose_rules(Postprocess(), ("min_peak", "min_pixels"), lesions_and_alarms(40, 40), ["lesion"])
    assert choice.rules.min_peak == 0.8 and choice.left == {} and (choice.dice, choice.mildest_dice) == (1.0, 0.5)


def test_images_of_one_patient_are_one_group():
    cases = [("one patient", *case) for _, *case in lesions_and_alarms(60, 60)]
    choice = choose_rules(Postprocess(), ("min_peak",), cases, ["lesion"])
    assert choice.left == {"min_peak": "1 validation group with lesion, 40 are needed"}


def test_where_no_case_is_empty_there_is_nothing_to_count_there():
    """Specks beside what is there are removed by their size."""
    probability, reference = square_of(0.9, lesion=True)
    probability = probability.copy()
    probability[::6, 17:19] = 0.8
    choice = choose_rules(Postprocess(), ("min_pixels",), many((probability, reference)), ["lesion"])
    assert choice.rules.min_pixels > 2 and choice.left == {} and choice.dice > choice.mildest_dice


# --- the mildest that cannot be told from the best ----------------------------------------------------------------


def slow_standard_error(groups, differences):
    """Of a mean over cases, groups drawn whole."""
    names = sorted(set(groups))
    mean = np.mean(differences)
    sums = [sum(d - mean for g, d in zip(groups, differences, strict=True) if g == name) for name in names]
    return np.sqrt(len(names) / (len(names) - 1) * sum(each**2 for each in sums)) / len(differences)


def test_the_distance_to_the_best_by_hand():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 9, 60)
    first, other = rng.random(60), rng.random(60) * 0.9
    entries = _Entries(groups, np.zeros(60, int), np.ones(60, bool))
    best, worse = (_Candidate(Postprocess(), dice, np.ones(60, int), (0, 0)) for dice in (first, other))
    gap = first.mean() - other.mean()
    assert _behind(worse, best, entries) == pytest.approx(gap / slow_standard_error(groups, first - other))
    assert _behind(best, worse, entries) == 0 == _behind(best, best, entries)


def test_a_gain_within_one_standard_error_is_none():
    """One false alarm of many less: the peak would remove it, and it says nothing of the next forty."""
    clear = [(f"a{n}", *square_of(0.999, lesion=True)) for n in range(60)]
    calm = [(f"b{n}", np.full((20, 20, 1), 0.001, np.float32), np.zeros((20, 20), np.uint8)) for n in range(60)]
    alarm = ("c", *square_of(0.7, lesion=False))
    choice = choose_rules(Postprocess(), ("min_peak",), [*clear, *calm, alarm], ["lesion"])
    assert choice.rules == Postprocess() and choice.dice < 1
    assert choice.left == {"min_peak": "0.8 is better by less than one standard error"}
    alarms = [(f"c{n}", *square_of(0.7, lesion=False)) for n in range(10)]
    assert chosen(Postprocess(), ("min_peak",), [*clear, *calm, *alarms]).min_peak == 0.8


# --- what no rule may cost ----------------------------------------------------------------------------------------


def test_a_rule_does_not_cost_objects_for_nothing():
    """A peak that removes as many faint lesions as false alarms is not taken, nor one that removes twice as many."""
    clear, faint = square_of(0.999, lesion=True), square_of(0.85, lesion=True)
    alarm = square_of(0.86, lesion=False)
    for cases in (many(clear, clear, faint, alarm), many(clear, clear, faint, alarm, alarm)):
        assert chosen(Postprocess(), ("min_peak",), cases)(faint[0]).any()


def test_many_empty_cases_do_not_erase_what_is_found():
    """A net that has learned little: its false alarms in empty slices look like its findings."""
    lesions = [square_of(value, lesion=True) for value in (0.75, 0.8)]
    alarms = [square_of(0.78, lesion=False) for _ in range(4)]
    choice = choose_rules(Postprocess(), ALL, many(*alarms, *lesions, times=20), ["lesion"])
    assert all(choice.rules(probability).any() for probability, _ in lesions)
    assert choice.dice == pytest.approx(2 / 6)
    # What tells them apart is still used.
    fainter = [square_of(0.65, lesion=False) for _ in range(4)]
    choice = choose_rules(Postprocess(), ("min_peak",), many(*fainter, *lesions, times=20), ["lesion"])
    assert choice.dice == 1 and choice.rules.min_peak == 0.7


def organ_and_lesion(*, lesion: bool):
    """An organ with crumbs beside it, and in one image of five a lesion of nine pixels beside."""
    reference = np.zeros((40, 40), np.uint8)
    reference[5:25, 5:25] = 1
    probability = np.full((40, 40, 2), 0.01, np.float32)
    probability[5:25, 5:25, 0] = 0.95
    probability[30, ::4, 0] = 0.9
    if lesion:
        reference[34:37, 30:33] = 2
        probability[34:37, 30:33, 1] = 0.9
    return probability, reference


def test_a_rare_small_class_is_not_hidden():
    """A size that removes the crumbs of the organ would remove every lesion: the mean over both classes gains."""
    cases = [(f"g{n}", *organ_and_lesion(lesion=n % 5 == 0)) for n in range(5 * FEWEST_GROUPS)]
    choice = choose_rules(Postprocess(), ("min_pixels",), cases, ["organ", "lesion"])
    assert 2 <= choice.rules.min_pixels <= 9
    assert all((choice.rules(p) == 2).any() == (t == 2).any() for _, p, t in cases)
    assert choice.dice > choice.mildest_dice
    # With fewer lesions than it takes, nothing is chosen at all: the rules are the same for all classes.
    choice = choose_rules(Postprocess(), ("min_pixels",), cases[: 4 * FEWEST_GROUPS], ["organ", "lesion"])
    assert choice.rules == Postprocess()
    assert choice.left == {"min_pixels": "32 validation groups with lesion, 40 are needed"}


def test_the_second_class_is_measured_by_its_own_reference():
    probability, reference = organ_and_lesion(lesion=True)
    organ, lesion = _measure(probability, reference, Postprocess())
    assert (organ.reference, lesion.reference) == (400, 9)
    assert organ.scores([Postprocess(min_pixels=2)]) == lesion.scores([Postprocess(min_pixels=2)]) == ([1], [1])


def test_where_nothing_is_found_the_threshold_may_fall():
    low = square_of(0.35, lesion=True)
    calm = (np.full((20, 20, 1), 0.001, np.float32), np.zeros((20, 20), np.uint8))
    choice = choose_rules(Postprocess(), ALL, many(low, calm), ["lesion"])
    assert choice.rules == Postprocess(threshold=0.3) and choice.dice == 1


@pytest.mark.parametrize("lesion", [False, True])
def test_where_nothing_is_found_the_rules_stay_mild(lesion):
    alarms = [square_of(0.78, lesion=False) for _ in range(3)]
    missed = (np.full((20, 20, 1), 0.001, np.float32), np.eye(20, dtype=np.uint8) * np.uint8(lesion))
    choice = choose_rules(Postprocess(), ("min_peak", "min_pixels"), many(*alarms, missed), ["lesion"])
    why = "nothing is found under any rule" if lesion else "0 validation groups with lesion, 40 are needed"
    assert choice.rules == Postprocess() and set(choice.left.values()) == {why}


def test_what_a_rule_may_cost_is_little():
    assert 0 < MAY_COST < 0.1
