import numpy as np
import pytest
from PIL import Image

from pocketseg.reporting import SweepPoint, save_sweep
from pocketseg.reporting.sweep import _lines, _places


def drawn(tmp_path, points, parameters) -> np.ndarray:
    save_sweep(points, parameters, tmp_path / "sweep.png")
    with Image.open(tmp_path / "sweep.png") as image:
        return np.asarray(image.convert("RGB")).astype(int)


def has(picture, color: str) -> bool:
    wanted = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    return bool((np.abs(picture - wanted).sum(axis=2) < 12).any())


def points(*scores: float, width=(8, 16, 32)):
    return [SweepPoint({"width": value, "seed": 0}, [score]) for value, score in zip(width, scores, strict=True)]


def test_a_second_parameter_has_a_line_of_its_own(tmp_path):
    both = [SweepPoint({"width": w, "scheme": s}, [0.5 + w / 100]) for w in (8, 16) for s in ("float", "w8a8")]
    assert has(drawn(tmp_path, both, ["width", "scheme"]), "#D55E00")
    one = drawn(tmp_path, both[::2], ["width"])
    assert has(one, "#0072B2") and not has(one, "#D55E00")


def test_scores_move_the_picture_and_equal_ones_do_not(tmp_path):
    first = drawn(tmp_path, points(0.5, 0.6, 0.7), ["width"])
    assert (first == drawn(tmp_path, points(0.5, 0.6, 0.7), ["width"])).all()
    other = drawn(tmp_path, points(0.5, 0.7, 0.6), ["width"])
    assert first.shape != other.shape or (first != other).any()


def test_seeds_and_folds_of_a_value_are_one_point():
    runs = [SweepPoint({"width": 8, "seed": seed}, [0.1 * seed, 0.5, float("nan")]) for seed in range(3)]
    assert _lines(runs, "width", []) == {"": {"8": (8, [0.0, 0.5, 0.1, 0.5, 0.2, 0.5])}}


def test_numbers_are_the_axis_whatever_their_place(tmp_path):
    runs = [SweepPoint({"scheme": s, "width": w}, [0.5]) for s in ("a", "b") for w in (1, 2)]
    assert has(drawn(tmp_path, runs, ["scheme", "width"]), "#D55E00")


@pytest.mark.parametrize(
    ("values", "places", "logarithmic"),
    [
        ([8, 16, 32], {"8": 8.0, "16": 16.0, "32": 32.0}, True),
        ([1, 2, 3], {"1": 1.0, "2": 2.0, "3": 3.0}, False),
        ([0, 1, 100], {"0": 0.0, "1": 1.0, "100": 100.0}, False),
        (["unet", True], {"'unet'": 0.0, "True": 1.0}, False),
    ],
)
def test_places_on_the_axis(values, places, logarithmic):
    assert _places(values) == (places, logarithmic)


def test_without_scores_there_is_a_picture(tmp_path):
    assert drawn(tmp_path, [SweepPoint({"lr": 0.1}, []), SweepPoint({"lr": 0.2}, [float("nan")])], ["lr"]).size


def test_values_that_are_lists_and_odd_text(tmp_path):
    runs = [SweepPoint({"net": value}, [0.5]) for value in ([8, 16], {"arch": "unet"}, "病_x\n", "")]
    assert drawn(tmp_path, runs, ["net"]).size
