"""Ellipses around masks, against the numbers they were drawn with and a perimeter that is integrated."""

from __future__ import annotations

import csv
import math

import numpy as np
import pytest

from pocketseg.data import Cases
from pocketseg.metrics import Ellipse, circumference_error, fit_ellipse


def drawn(shape, center, axes, angle, spacing=(1.0, 1.0)):
    """A filled ellipse; center and axes in the unit of the spacing."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    y, x = row * spacing[0] - center[0], column * spacing[1] - center[1]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    return (along / axes[0]) ** 2 + (across / axes[1]) ** 2 <= 1


@pytest.mark.parametrize("axes", [(30, 30), (30, 20), (50, 21)])
def test_circumference_is_the_integral(axes):
    turn = np.linspace(0, 2 * math.pi, 20_001)
    x, y = axes[0] * np.cos(turn), axes[1] * np.sin(turn)
    integral = np.hypot(np.diff(x), np.diff(y)).sum()
    assert Ellipse((0, 0), axes, 0).circumference == pytest.approx(integral, rel=1e-4)


def test_random_ellipses_are_found_again():
    rng = np.random.default_rng(0)
    relative = []
    for _ in range(60):
        long = rng.uniform(25, 60)
        short = long * rng.uniform(0.5, 0.95)
        angle, center = rng.uniform(-1.5, 1.5), tuple(rng.uniform(70, 130, 2))
        found = fit_ellipse(drawn((200, 200), center, (long, short), angle))
        assert found.center == pytest.approx(center, abs=0.3)
        assert found.axes == pytest.approx((long, short), abs=0.4)
        assert abs(math.sin(found.angle - angle)) < 0.1
        relative.append(found.circumference / Ellipse(center, (long, short), angle).circumference - 1)
    assert abs(np.mean(relative)) < 5e-4 and np.abs(relative).max() < 0.005


def test_pixels_of_two_sizes():
    spacing = (0.2, 0.1)
    mask = drawn((200, 400), (20, 20), (15, 10), 0.4, spacing)
    found = fit_ellipse(mask, spacing)
    assert found.axes == pytest.approx((15, 10), rel=0.01)
    assert found.center == pytest.approx((20, 20), abs=0.1)


def test_cut_by_the_rim_of_the_image():
    """The rim is not an outline: a third of the head lies outside, and its size is found all the same."""
    mask = drawn((200, 200), (100, 170), (60, 45), 0)
    assert mask[:, -1].any()
    assert fit_ellipse(mask).circumference == pytest.approx(Ellipse((0, 0), (60, 45), 0).circumference, rel=0.01)


def test_only_the_largest_component_filled():
    whole = drawn((200, 200), (100, 100), (60, 45), 0.3)
    mask = whole & ~drawn((200, 200), (100, 100), (10, 8), 0)
    mask[:5, :5] = True
    assert fit_ellipse(mask) == fit_ellipse(whole)


@pytest.mark.parametrize("pixels", [[], [(5, 5)], [(5, column) for column in range(20)]])
def test_what_has_no_size_in_two_directions(pixels):
    mask = np.zeros((20, 20), bool)
    for pixel in pixels:
        mask[pixel] = True
    found = fit_ellipse(mask)
    assert found is None or min(found.axes) < 1


def test_error_of_two_masks():
    reference, prediction = (drawn((200, 200), (100, 100), (each, each), 0) for each in (50, 55))
    assert circumference_error(prediction, reference, (0.5, 0.5)) == pytest.approx(math.pi * 5, rel=0.02)
    assert math.isnan(circumference_error(np.zeros_like(reference), reference))
    with pytest.raises(ValueError, match="shape"):
        circumference_error(prediction[1:], reference)


@pytest.mark.real_data
def test_heads_have_the_circumference_that_was_measured(real_data):
    folder = real_data / "hc18"
    with (folder / "training_set_pixel_size_and_HC.csv").open() as lines:
        measured = {row["filename"]: float(row["head circumference (mm)"]) for row in csv.DictReader(lines)}
    cases = Cases.open(folder)
    wider = []
    for case in cases:
        circumference = fit_ellipse(cases.mask(case) > 0, case.spacing_mm).circumference
        wider.append((circumference - measured[f"{case.name}.png"]) / (2 * math.pi * case.spacing_mm[0]))
    # The outlines were drawn with a line of three pixels, all of it in the mask: one and a half beyond its middle.
    assert len(wider) == 18 and min(wider) > 1 and max(wider) < 2
