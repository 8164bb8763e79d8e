"""Metrics by name, with units, penalties, tables and comparisons."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pocketseg.data import Cases
from pocketseg.errors import DataError, RecipeError
from pocketseg.evaluation import (
    METRICS,
    CaseScore,
    MetricConfig,
    Prediction,
    by_group,
    by_size,
    class_means,
    compare_scores,
    free_response_table,
    object_table,
    read_scores,
    read_summaries,
    score_cases,
    summarize,
    write_scores,
    write_summaries,
)
from pocketseg.evaluation.measures import DEFAULT, OTHER_NAMES, known
from pocketseg.metrics import (
    calibration,
    circumference_error,
    compat,
    detect,
    diagonal,
    overlap,
    rand_of_masks,
    surface_distances,
)
from pocketseg.recipes.schema import EvaluateSection

# reference and prediction of four cases: partly right, missed, false alarm, rightly empty
REFERENCE = np.zeros((4, 8, 10), np.uint8)
REFERENCE[0, 1:3, 1:5] = REFERENCE[0, 6, 7:9] = REFERENCE[1, 1, 1] = 1
PREDICTION = np.zeros((4, 8, 10), np.uint8)
PREDICTION[0, 1:4, 2:5] = PREDICTION[2, 3, 3:5] = 1
PROBABILITY = np.where(PREDICTION > 0, 0.8, 0.1).astype(np.float32)[..., None]
EVERYTHING = MetricConfig(tuple(known()), tolerance=1.0, lesion_iou=0.2)
SPACING = (0.5, 0.25)
DISTANCES = ("hd", "hd95", "asd", "assd", "circumference_error")


def stored(found):
    """What files keep of rows or summaries, as text: nan is then equal to nan."""
    return [repr({name: value for name, value in vars(each).items() if name != "objects"}) for each in found]


@pytest.fixture
def cases(tmp_path):
    for index in range(4):
        for folder, pixels in (("images", REFERENCE[index] * 0), ("masks", REFERENCE[index] * 255)):
            path = tmp_path / folder / f"case{index}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(path)
    return Cases.open(tmp_path)


def respond(case, image):
    index = int(case.name[-1])
    return Prediction(PREDICTION[index], PROBABILITY[index])


def evaluated(cases, *, spacing=None, config=EVERYTHING, prediction=respond):
    return score_cases(
        cases, [replace(case, spacing_mm=spacing) for case in cases], prediction, ["lesion"], config=config
    )


def wanted(index: int, spacing) -> dict[str, float]:
    """Every metric of a case from the pure functions, before penalties."""
    p, r = PREDICTION[index] > 0, REFERENCE[index] > 0
    counts, surfaces, lesions = overlap(p, r), surface_distances(p, r, spacing), detect(p, r, min_iou=0.2)
    cells, membranes = rand_of_masks(p, r), rand_of_masks(p, r, membranes=True)
    sure = calibration(PROBABILITY[index, :, :, 0], r)
    shares = ("dice", "iou", "precision", "recall", "specificity", "accuracy", "volume_similarity")
    return (
        {name: getattr(counts, name) for name in shares}
        | {name: getattr(surfaces, name) for name in DISTANCES[:4]}
        | {"circumference_error": circumference_error(p, r, spacing)}
        | {"surface_dice": surfaces.surface_dice(1.0), "boundary_f1": surfaces.boundary_f1(1.0)}
        | {f"lesion_{name}": getattr(lesions, name) for name in ("recall", "precision", "f1")}
        | {"lesion_false_positives": lesions.false_positive, "rand": cells.index, "vrand": cells.f_score}
        | {"membrane_rand": membranes.index, "membrane_vrand": membranes.f_score}
        | {"calibration_error": sure.expected_error, "brier": sure.brier}
        | {f"compat.{name}": function(p, r) for name, function in compat.FUNCTIONS.items()}
    )


@pytest.mark.parametrize("spacing", [None, SPACING])
def test_every_name_is_the_metric_it_says(cases, spacing):
    rows = evaluated(cases, spacing=spacing)
    for index, row in enumerate(rows):
        expected = wanted(index, spacing)
        assert row.values.keys() == expected.keys() == set(known())
        if row.outcome == "miss":
            expected |= dict.fromkeys(DISTANCES, diagonal((8, 10), spacing))
        elif row.outcome != "scored":
            expected |= dict.fromkeys(DISTANCES, math.nan)
        assert row.values == pytest.approx(expected, nan_ok=True), row.outcome
    found = wanted(0, spacing)
    assert len({round(value, 6) for name, value in found.items() if name in METRICS}) > 14, (
        "names that cannot be distinguished"
    )


def test_units_follow_the_spacing(cases):
    pixels, millimeters = evaluated(cases), evaluated(cases, spacing=(0.5, 0.5))
    assert {row.unit for row in pixels} == {"px"} and {row.unit for row in millimeters} == {"mm"}
    assert millimeters[0].more["hd95"] == pytest.approx(pixels[0].more["hd95"] / 2)
    assert millimeters[1].more["hd95"] == pytest.approx(math.hypot(8, 10) / 2)
    assert millimeters[0].pixel_area == 0.25
    (summary,) = summarize(millimeters, "test")
    assert summary.metrics["hd95"].unit == "mm" and summary.metrics["dice"].unit == ""
    assert (summary.false_alarm_area, summary.area_unit) == (2 * 0.25, "mm²")


def test_a_miss_costs_the_diagonal_and_a_false_alarm_has_no_distance(cases):
    (summary,) = summarize(evaluated(cases), "test")
    distance = surface_distances(PREDICTION[0] > 0, REFERENCE[0] > 0).hd95
    assert summary.metrics["hd95"].count == 2
    assert summary.metrics["hd95"].mean == pytest.approx((distance + math.hypot(8, 10)) / 2)
    assert summary.metrics["hd95"].mean_found == pytest.approx(distance)
    assert summary.metrics["specificity"].count == 4  # it has a value where nothing is to be found
    assert summary.metrics["dice"].mean == summary.dice
    assert (summary.false_alarm_area, summary.area_unit) == (2, "px")


def test_millimeters_and_pixels_are_not_averaged(cases):
    part = [replace(case, spacing_mm=SPACING if index else None) for index, case in enumerate(cases)]
    (summary,) = summarize(score_cases(cases, part, respond, ["lesion"]), "test")
    assert math.isnan(summary.metrics["hd95"].mean) and summary.metrics["hd95"].unit == "mm and px"
    assert not math.isnan(summary.metrics["dice"].mean)
    assert math.isnan(summary.false_alarm_area)


def test_files_read_back_equal(cases, tmp_path):
    rows = evaluated(cases, spacing=SPACING)
    write_scores(rows, tmp_path / "cases.csv")
    assert stored(read_scores(tmp_path / "cases.csv")) == stored(rows)
    summaries = summarize(rows, "test")
    write_summaries(summaries, tmp_path / "summary.json")
    assert "NaN" not in (tmp_path / "summary.json").read_text()
    assert stored(read_summaries(tmp_path / "summary.json")) == stored(summaries)


def test_files_of_version_0_1_are_read(tmp_path):
    (tmp_path / "cases.csv").write_text(
        "case,group,label,class_name,outcome,dice,iou,precision,recall,reference_pixels,predicted_pixels\n"
        "a,g,,lesion,scored,0.5,0.25,1.0,,4,2\n"
    )
    (row,) = read_scores(tmp_path / "cases.csv")
    assert (row.unit, row.more, row.dice, row.predicted_pixels) == ("px", {}, 0.5, 2)
    (tmp_path / "summary.json").write_text(
        '[{"part": "test", "class_name": "lesion", "cases": 1, "groups": 1, "positive": 1, "misses": 0, "negative": 0,'
        '"false_alarms": 0, "dice": 0.5, "dice_low": 0.5, "dice_high": 0.5, "dice_median": 0.5, "iou": 0.25,'
        '"precision": 1.0, "recall": null, "dice_all": 0.5, "dice_all_low": 0.5, "dice_all_high": 0.5}]'
    )
    (summary,) = read_summaries(tmp_path / "summary.json")
    assert summary.metrics == {} and summary.dice == 0.5 and math.isnan(summary.recall)


def test_the_mean_of_the_classes(cases):
    rows = evaluated(cases, config=MetricConfig(("dice", "hd95")))
    two = rows + [replace(row, class_name="cyst", dice=row.dice / 2) for row in rows]
    found = {row["metric"]: row for row in class_means(summarize(two, "test"))}
    dice = summarize(rows, "test")[0].dice
    assert (found["dice"]["mean"], found["dice"]["classes"]) == (pytest.approx(0.75 * dice), 2)
    assert found["hd95"]["unit"] == "px"
    assert class_means(summarize(rows, "test")) == []


def test_unknown_metrics_are_reported_together():
    with pytest.raises(RecipeError) as caught:
        MetricConfig(("dice", "hd59", "compat.medpy_hd96"))
    assert "did you mean hd95" in str(caught.value) and "compat.medpy_hd95" in str(caught.value)


def test_recipe_and_evaluation_have_one_default():
    section = EvaluateSection()
    assert tuple(section.metrics) == DEFAULT
    assert MetricConfig() == MetricConfig(tuple(section.metrics), section.tolerance, section.lesion_iou)


def test_masks_without_probabilities_are_asked_for_none():
    assert MetricConfig(("dice", "brier", "hd95", "calibration_error")).needs_probability == [
        "brier",
        "calibration_error",
    ]


ROW = CaseScore("", "", "", "lesion", "scored", 0.5, 0.25, 1.0, 0.5, 4, 2)


def sized(name: str, pixels: int, dice: float, group: str = "g", outcome: str = "scored"):
    return replace(
        ROW, case=name, group=group, reference_pixels=pixels, dice=dice, outcome=outcome, more={"hd95": 10 * dice}
    )


def test_by_size_are_thirds_of_the_positive_cases():
    rows = [sized(f"c{n}", n, n / 10) for n in (9, 1, 8, 2, 7, 3)]
    rows += [sized("empty", 0, math.nan, outcome="true negative")]
    small, medium, large = by_size(rows)
    assert [row["size"] for row in (small, medium, large)] == ["small", "medium", "large"]
    assert [(row["smallest"], row["largest"], row["cases"]) for row in (small, medium, large)] == [
        (1, 2, 2), (3, 7, 2), (8, 9, 2),
    ]  # fmt: skip
    assert large["dice"] == pytest.approx(0.85) and large["hd95"] == pytest.approx(8.5)
    assert small["area_unit"] == "px"


def test_by_size_in_square_millimeters_where_known():
    rows = [replace(sized(f"c{n}", n, 0.5), unit="mm", pixel_area=0.25) for n in (4, 8, 12)]
    assert [(row["smallest"], row["area_unit"]) for row in by_size(rows)] == [(1, "mm²"), (2, "mm²"), (3, "mm²")]


def test_equal_sizes_are_one_stratum():
    rows = by_size([sized(f"c{n}", 5, 0.5) for n in range(4)])
    assert [(row["size"], row["cases"]) for row in rows] == [("small", 4)]


def test_by_group():
    rows = [sized("a", 4, 0.2, "p1"), sized("b", 4, 0.4, "p2"), sized("c", 4, 0.0, "p1", "miss")]
    first, second = by_group(rows)
    assert (first["group"], first["cases"], first["misses"], first["dice"]) == ("p1", 2, 1, pytest.approx(0.1))
    assert (second["group"], second["cases"], second["dice"]) == ("p2", 1, 0.4)


def test_objects_and_their_curve(cases):
    rows = evaluated(cases, config=MetricConfig(("lesion_f1",), lesion_iou=0.2))
    table = object_table(rows)
    assert [(row["case"], row["object"], row["outcome"], row["pixels"]) for row in table] == [
        ("case0", "reference", "found", 8), ("case0", "reference", "missed", 2), ("case0", "predicted", "right", 9),
        ("case1", "reference", "missed", 1), ("case2", "predicted", "false positive", 2),
    ]  # fmt: skip
    assert table[2]["confidence"] == pytest.approx(0.8)
    (point,) = free_response_table(rows)
    assert (point["false_positives_per_image"], point["sensitivity"]) == (0.25, pytest.approx(1 / 3))
    assert object_table(evaluated(cases, config=MetricConfig())) == []


def test_comparison_of_two_models(cases):
    first = evaluated(cases, config=MetricConfig(("dice", "hd95")))
    second = evaluated(
        cases,
        config=MetricConfig(("dice", "hd95")),
        prediction=lambda case, _: Prediction(REFERENCE[int(case.name[-1])]),
    )
    found = {each.metric: each for each in compare_scores(first, second, "a.csv")}
    assert found["dice"].difference.cases == 2
    assert found["dice"].difference.mean == pytest.approx((1 - first[0].dice + 1) / 2)
    assert found["hd95"].difference.mean == pytest.approx(-(first[0].more["hd95"] + math.hypot(8, 10)) / 2)
    assert (found["hd95"].unit, found["dice"].unit) == ("px", "")


def test_what_cannot_be_compared_is_refused(cases):
    rows = evaluated(cases, config=MetricConfig())
    with pytest.raises(DataError, match="case3"):
        compare_scores(rows[:3], rows, "a.csv")
    other = [replace(rows[0], reference_pixels=99), *rows[1:]]
    with pytest.raises(DataError, match="another reference"):
        compare_scores(other, rows, "a.csv")


def test_names_of_other_tools_are_those_of_ours():
    wanted = MetricConfig(("sensitivity", "dsc", "nsd", "recall"))
    assert wanted.metrics == ("recall", "dice", "surface_dice")
    assert set(OTHER_NAMES.values()) <= set(METRICS) and not set(OTHER_NAMES) & set(METRICS)
