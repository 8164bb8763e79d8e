import numpy as np
import pytest

from pocketseg.pipeline import Postprocess
from pocketseg.pipeline.postprocess import component_sizes_and_peaks, threshold_or_argmax


def probabilities(text: str) -> np.ndarray:
    """One class, one digit a pixel, in tenths."""
    return np.array([[int(digit) / 10 for digit in row] for row in text.split()], np.float32)[:, :, None]


def shown(mask: np.ndarray) -> list[str]:
    return ["".join(map(str, row)) for row in mask]


@pytest.mark.parametrize("threshold", [0.5, 0.3, 0.7, 0.1])
def test_the_threshold_belongs_to_the_foreground(threshold):
    """0.3 and 0.7 are not binary fractions: compared in float64, the pixel at the threshold would fall out."""
    exactly = np.float32(threshold)
    values = np.array([[[np.nextafter(exactly, np.float32(0))], [exactly], [1.0]]], np.float32)
    for given in (threshold, np.float64(threshold)):
        mask = Postprocess(threshold=given)(values)
        assert mask.dtype == np.uint8
        assert mask.tolist() == [[0, 1, 1]]


TWO_OBJECTS = "99000 99000 00006 00006 00006"  # 4 pixels with peak 0.9, 3 pixels with peak 0.6


@pytest.mark.parametrize(
    ("rules", "big", "small"),
    [
        ({}, True, True),
        ({"min_pixels": 3}, True, True),
        ({"min_pixels": 4}, True, False),
        ({"min_pixels": 5}, False, False),
        ({"min_peak": 0.6}, True, True),
        ({"min_peak": 0.61}, True, False),
        ({"min_peak": 0.95}, False, False),
        ({"keep": "largest"}, True, False),
        ({"keep": "largest", "min_pixels": 5}, False, False),
    ],
)
def test_component_rules(rules, big, small):
    mask = Postprocess(**rules)(probabilities(TWO_OBJECTS))
    assert (mask[:2, :2].all(), mask[2:, 4].all()) == (big, small)
    assert mask.sum() == 4 * big + 3 * small


def test_the_largest_is_chosen_among_those_that_stay():
    mask = Postprocess(min_peak=0.8, keep="largest")(probabilities("666000 000009"))
    assert shown(mask) == ["000000", "000001"]


def test_the_first_of_equals_is_kept():
    mask = Postprocess(keep="largest")(probabilities("0099 9900 0000 0099"))
    assert shown(mask) == ["0011", "1100", "0000", "0000"]
    mask = Postprocess(keep="largest")(probabilities("00900 00000 90009"))
    assert shown(mask) == ["00100", "00000", "00000"]


def test_corners_touch():
    assert Postprocess(min_pixels=2)(probabilities("90 09")).sum() == 2


def test_holes_are_filled_before_they_are_counted():
    ring = probabilities("999 909 999")
    assert Postprocess()(ring).sum() == 8
    assert Postprocess(fill_holes=True)(ring).sum() == 9
    assert Postprocess(fill_holes=True, min_pixels=9)(ring).sum() == 9
    assert Postprocess(min_pixels=9)(ring).sum() == 0


def test_nothing_stays_nothing():
    for rules in ({}, {"fill_holes": True, "min_pixels": 3, "min_peak": 0.9, "keep": "largest"}):
        assert Postprocess(**rules)(np.zeros((3, 4, 1), np.float32)).sum() == 0


# --- several classes --------------------------------------------------------------------------------------


def of_classes(text: str, classes: int) -> np.ndarray:
    """Probability 0.9 for the class named by each digit."""
    index = np.array([[int(digit) for digit in row] for row in text.split()])
    return (np.eye(classes + 1, dtype=np.float32)[index] * 0.9)[:, :, 1:]


def test_the_most_probable_class_wins():
    values = np.array([[[0.5, 0.3], [0.3, 0.5], [0.3, 0.3], [0.45, 0.45], [0.5, 0.0]]], np.float32)
    # background 0.2, 0.2, 0.4, 0.1, 0.5: the last two are ties.
    assert threshold_or_argmax(values, 0.9).tolist() == [[1, 2, 0, 1, 0]]


def test_rules_hold_for_each_class_by_itself():
    text = "11022 11020 00000 00001"
    assert shown(Postprocess()(of_classes(text, 2))) == text.split()
    assert shown(Postprocess(min_pixels=2)(of_classes(text, 2))) == ["11022", "11020", "00000", "00000"]
    assert shown(Postprocess(min_pixels=4)(of_classes(text, 2))) == ["11000", "11000", "00000", "00000"]
    assert shown(Postprocess(keep="largest")(of_classes(text, 2))) == ["11022", "11020", "00000", "00000"]


@pytest.mark.parametrize(("ring", "core"), [(1, 2), (2, 1)])
def test_filling_a_ring_leaves_the_class_inside(ring, core):
    text = f"{ring * 11111} {ring}000{ring} {ring}0{core}0{ring} {ring}000{ring} {ring * 11111}"
    filled = text.replace("0", str(ring))
    assert shown(Postprocess(fill_holes=True)(of_classes(text, 2))) == filled.split()


def test_the_peak_is_that_of_the_own_class():
    values = np.zeros((1, 3, 2), np.float32)
    values[0, 0] = 0.7, 0.2
    values[0, 2] = 0.05, 0.9
    assert Postprocess(min_peak=0.8)(values).tolist() == [[0, 0, 2]]


def test_sizes_and_peaks():
    labels = np.array([[1, 1, 0], [0, 0, 2]], np.int32)
    probability = np.array([[0.6, 0.7, 0.99], [0.98, 0.0, 0.5]], np.float32)
    sizes, peaks = component_sizes_and_peaks(labels, 2, probability)
    assert sizes.tolist() == [2, 1]
    np.testing.assert_allclose(peaks, [0.7, 0.5])
