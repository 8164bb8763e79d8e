"""Limits of presence: chosen at a specificity, on enough patients, and what a mask makes of them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from pocketseg.errors import ModelFileError
from pocketseg.evaluation import CaseScore, choose_presence, choose_rules, evidence_in, evidence_of
from pocketseg.evaluation.limits import Evidence
from pocketseg.pipeline import Pipeline, Postprocess, evidence
from pocketseg.predictors.ensemble import _common_rules


def known(positives, negatives, name="lesion"):
    return [Evidence(f"p{at}", name, value, True) for at, value in enumerate(positives)] + [
        Evidence(f"n{at}", name, value, False) for at, value in enumerate(negatives)
    ]


def test_the_limit_leaves_the_wanted_share_empty():
    found = choose_presence(known(np.linspace(0.3, 1, 50), np.linspace(0, 0.49, 50)), ["lesion"], 0.9)
    (limit,), errors = found.limits, found.found["lesion"]
    assert (errors.negative - errors.false_alarms) / 50 == 0.9 and limit == pytest.approx(0.44)
    assert errors.missed == sum(np.linspace(0.3, 1, 50) <= limit) > 0 and not found.left


@pytest.mark.parametrize(("positives", "negatives", "why"), [
    (39, 60, "39 groups with lesion, 40 are needed"), (84, 18, "18 groups without lesion, 40 are needed"),
    (40, 0, "0 groups without lesion, 40 are needed"),
    (1, 1, "1 group with lesion and 1 group without lesion, 40 are needed"),
])  # fmt: skip
def test_few_patients_choose_nothing(positives, negatives, why):
    found = choose_presence(known([0.9] * positives, [0.1] * negatives), ["lesion"], 0.9)
    assert (found.limits, dict(found.left), dict(found.found)) == ((0.0,), {"lesion": why}, {})


def test_images_of_one_patient_count_once():
    many = [replace(each, group=each.group[:1]) for each in known([0.9] * 80, [0.1] * 80)]
    assert choose_presence(many, ["lesion"], 0.9).left == {
        "lesion": "1 group with lesion and 1 group without lesion, 40 are needed"
    }


def test_each_class_has_its_own():
    both = known([0.9] * 40, [0.2] * 40, "a") + known([0.5] * 40, [0.1] * 39, "b")
    found = choose_presence(both, ["a", "b"], 0.95)
    assert found.limits == (0.2, 0.0) and list(found.left) == ["b"]


def test_tables_without_evidence_are_said_to_be_that():
    found = choose_presence(known([0.9] * 40, [*[0.2] * 40, math.nan]), ["lesion"], 0.9)
    assert found.limits == (0.0,) and "evaluate a model" in found.left["lesion"]


def test_rows_of_other_cases_are_left_out():
    rows = [
        CaseScore(name, "theirs", "", "lesion", "scored", 1, 1, 1, 1, pixels, 5, evidence=0.7)
        for name, pixels in (("a", 5), ("b", 0), ("c", 5))
    ]
    assert evidence_in(rows, {"a": "g1", "b": "g2"}) == [
        Evidence("g1", "lesion", 0.7, True), Evidence("g2", "lesion", 0.7, False)
    ]  # fmt: skip


def maps():
    """A map that is sure, one that is less so, and one that sees nothing."""
    sure, faint = np.full((50, 40, 1), 0.05, np.float32), np.full((50, 40, 1), 0.05, np.float32)
    sure[5:15, 5:15], faint[20:30, 5:9] = 0.95, 0.6
    return sure, faint, np.full((50, 40, 1), 0.05, np.float32)


def test_a_mask_is_empty_where_the_evidence_is_not_above_the_limit():
    sure, faint, nothing = maps()
    limit = evidence(faint[:, :, 0])
    for rules in (Postprocess(), Postprocess(min_pixels=3, fill_holes=True, keep="largest")):
        held = replace(rules, presence=(limit,))
        assert (held(sure) == rules(sure)).all() and held(sure).any()
        assert rules(faint).any() and not held(faint).any() and not held(nothing).any()
        assert replace(rules, presence=(float(np.nextafter(limit, 0)),))(faint).any()


def test_of_several_classes_only_that_one_is_left_out():
    both = np.concatenate([maps()[0], maps()[1]], axis=2)
    assert set(np.unique(Postprocess()(both))) == {0, 1, 2}
    assert set(np.unique(Postprocess(presence=(0.0, 0.9))(both))) == {0, 1}
    assert set(np.unique(Postprocess(presence=(0.96, 0.1))(both))) == {0, 2}


def test_classes_that_overlap_are_left_out_one_by_one():
    both = np.concatenate([maps()[0], maps()[1]], axis=2)
    plain = Postprocess()(both, multilabel=True)
    held = Postprocess(presence=(0.0, 0.9))(both, multilabel=True)
    assert plain.any(axis=(1, 2)).all() and (held[0] == plain[0]).all() and not held[1].any()
    known = evidence_of([("a", both, np.stack([plain[0], plain[1] * 0]))], ["one", "two"])
    assert [each.positive for each in known] == [True, False]


def test_other_rules_are_chosen_on_what_presence_leaves():
    """Faint alarms are gone by it already, so that nothing is left for the peak to do."""
    sure, faint, _ = maps()
    lesion = (sure[:, :, 0] > 0.5).astype(np.uint8)
    cases = [(f"a{at}", sure, lesion) for at in range(40)] + [(f"b{at}", faint, lesion * 0) for at in range(40)]
    assert choose_rules(Postprocess(), ("min_peak",), cases, ["lesion"]).rules.min_peak > 0
    limits = choose_presence(evidence_of(cases, ["lesion"]), ["lesion"], 0.9).limits
    found = choose_rules(Postprocess(presence=limits), ("min_peak",), cases, ["lesion"])
    assert found.rules == Postprocess(presence=limits) and found.dice == found.mildest_dice == 1


def test_a_file_holds_it_only_where_it_is_set():
    plain = Pipeline(size=(32, 32), classes=("a", "b"))
    assert "presence" not in plain.to_json()
    held = replace(plain, postprocess=Postprocess(presence=(0.25, 0.5)))
    assert Pipeline.from_dict(held.to_dict(), "m") == held
    assert held.to_dict()["postprocess"] == plain.to_dict()["postprocess"] | {"presence": (0.25, 0.5)}


@pytest.mark.parametrize("limits", [[0.5], [0.5] * 3, [0.5, 1.5], [0.5, "high"], [0.5, float("nan")], 0.5])
def test_limits_of_a_file_are_checked(limits):
    content = Pipeline(size=(32, 32), classes=("a", "b")).to_dict()
    content["postprocess"]["presence"] = limits
    with pytest.raises(ModelFileError, match=r"its pipeline is not valid"):
        Pipeline.from_dict(content, "m")


def test_an_ensemble_takes_the_mean():
    assert _common_rules([Postprocess(presence=(0.2, 0.4)), Postprocess()], 2).presence == (0.1, 0.2)
    assert _common_rules([Postprocess(), Postprocess()], 2) == Postprocess()
