"""Scores and summaries: the rule for empty masks, and files that read back equal."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from pocketseg.data import Cases, Grouping
from pocketseg.errors import DataError
from pocketseg.evaluation import (
    Prediction,
    read_scores,
    read_summaries,
    score_cases,
    summarize,
    write_scores,
    write_summaries,
)

# reference and prediction of four cases: half right, missed, false alarm, rightly empty
REFERENCE = np.zeros((4, 6, 6), np.uint8)
REFERENCE[0, :2, :] = REFERENCE[1, 1, 1] = 1
PREDICTION = np.zeros((4, 6, 6), np.uint8)
PREDICTION[0, :1, :] = PREDICTION[2, 3, 3] = 1


def stored(found):
    """What files keep of rows or summaries, as text: nan is then equal to nan."""
    return [repr({name: value for name, value in vars(each).items() if name != "objects"}) for each in found]


@pytest.fixture
def cases(tmp_path):
    for index in range(4):
        for folder, pixels in (("images", REFERENCE[index] * 0), ("masks", REFERENCE[index] * 255)):
            path = tmp_path / folder / f"p{index // 2}_{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    return Cases.open(tmp_path, grouping=Grouping(regex=r"p\d"))


def predicted(case, image):
    return Prediction(PREDICTION[int(case.name[-1])])


def test_each_case_has_its_outcome(cases):
    rows = score_cases(cases, list(cases), predicted, ["lesion"])
    assert [row.outcome for row in rows] == ["scored", "miss", "false alarm", "true negative"]
    assert [row.group for row in rows] == ["p0", "p0", "p1", "p1"]
    assert rows[0].dice == pytest.approx(2 * 6 / (6 + 12))
    assert rows[1].dice == rows[2].dice == 0
    assert math.isnan(rows[3].dice)
    assert (rows[0].reference_pixels, rows[0].predicted_pixels) == (12, 6)


def test_summary_counts_misses_and_false_alarms_apart(cases):
    (summary,) = summarize(score_cases(cases, list(cases), predicted, ["lesion"]), "test")
    assert (summary.cases, summary.groups, summary.positive, summary.negative) == (4, 2, 2, 2)
    assert (summary.misses, summary.false_alarms) == (1, 1)
    assert summary.dice == pytest.approx((2 / 3 + 0) / 2)
    assert summary.dice_all == pytest.approx((2 / 3 + 0 + 0 + 1) / 4)
    assert summary.precision == pytest.approx((1 + 0) / 2)
    assert summary.recall == pytest.approx((0.5 + 0) / 2)
    assert summary.dice_low <= summary.dice <= summary.dice_high


def test_files_read_back_equal(cases, tmp_path):
    rows = score_cases(cases, list(cases), predicted, ["lesion"])
    write_scores(rows, tmp_path / "cases.csv")
    assert stored(read_scores(tmp_path / "cases.csv")) == stored(rows)
    summaries = summarize(rows[2:], "test")
    write_summaries(summaries, tmp_path / "summary.json")
    assert "NaN" not in (tmp_path / "summary.json").read_text()
    assert stored(read_summaries(tmp_path / "summary.json")) == stored(summaries)


def test_all_cases_that_cannot_be_evaluated_are_reported(cases):
    with pytest.raises(DataError) as caught:
        score_cases(cases, list(cases), lambda case, image: Prediction(np.zeros((5, 6), np.uint8)), ["lesion"])
    assert len(caught.value.problems) == 4
    assert "5×6" in str(caught.value)
