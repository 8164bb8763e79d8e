"""Contours: the right pixels in the right colors, on the raster and as paths."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

from pocketseg.reporting import enlarge, overlay
from pocketseg.reporting.outlines import svg_path, trace
from pocketseg.reporting.overlay import PALETTE, REFERENCE_COLOR, contour_pixels, rgb, stretch

GRAY = np.add.outer(np.arange(20), np.arange(30)).astype(np.float32)


def square(top: int, left: int, side: int, value: int = 1) -> np.ndarray:
    mask = np.zeros(GRAY.shape, np.uint8)
    mask[top : top + side, left : left + side] = value
    return mask


def ring(top: int, left: int, side: int) -> np.ndarray:
    """The outermost pixels of a square, written down without the code under test."""
    return (square(top, left, side) > 0) & ~(square(top + 1, left + 1, side - 2) > 0)


def pixels_of(picture: np.ndarray, color: str) -> np.ndarray:
    return (picture == rgb(color)).all(axis=-1)


def test_contour_is_the_rim_of_the_region_and_nothing_else_changes() -> None:
    picture = overlay(GRAY, square(4, 6, 8))
    assert picture.shape == (20, 30, 3) and picture.dtype == np.uint8
    assert (pixels_of(picture, PALETTE[0]) == ring(4, 6, 8)).all()
    plain = np.stack([stretch(GRAY)] * 3, axis=-1)
    assert (picture[~ring(4, 6, 8)] == plain[~ring(4, 6, 8)]).all()


def test_region_at_the_border_is_closed_there() -> None:
    assert (contour_pixels(square(0, 0, 5)) == ring(0, 0, 5)).all()


def test_reference_and_prediction_have_their_own_colors() -> None:
    picture = overlay(GRAY, square(2, 2, 6), square(10, 15, 7))
    assert (pixels_of(picture, PALETTE[0]) == ring(2, 2, 6)).all()
    assert (pixels_of(picture, REFERENCE_COLOR) == ring(10, 15, 7)).all()


def test_where_both_run_along_the_same_pixels_both_are_seen() -> None:
    picture = overlay(GRAY, square(3, 3, 12), square(3, 3, 12))
    mask, reference = pixels_of(picture, PALETTE[0]), pixels_of(picture, REFERENCE_COLOR)
    assert ((mask | reference) == ring(3, 3, 12)).all()
    assert min(mask.sum(), reference.sum()) > 0.3 * ring(3, 3, 12).sum()


def test_every_class_has_its_color_and_the_reference_is_dashed() -> None:
    mask = square(1, 1, 6) + square(10, 10, 8, 2)
    reference = square(1, 20, 9, 2)
    picture = overlay(GRAY, mask, reference)
    assert (pixels_of(picture, PALETTE[0]) == ring(1, 1, 6)).all()
    second = pixels_of(picture, PALETTE[1])
    assert second[ring(10, 10, 8)].all()
    assert 0.3 < second[ring(1, 20, 9)].mean() < 0.7


def test_number_of_classes_can_be_reported() -> None:
    """A case that shows one class of three must look like its neighbors."""
    reference = square(1, 20, 9)
    alone = overlay(GRAY, square(1, 1, 6), reference)
    among = overlay(GRAY, square(1, 1, 6), reference, classes=3)
    assert pixels_of(alone, REFERENCE_COLOR).any() and not pixels_of(among, REFERENCE_COLOR).any()


def test_touching_classes_are_distinguished() -> None:
    mask = np.ones((6, 6), np.uint8)
    mask[:, 3:] = 2
    edge = contour_pixels(mask)
    assert edge[2, 2] and edge[2, 3] and not edge[2, 1]


def test_tint_fills_the_region_only() -> None:
    black = np.zeros(GRAY.shape)
    picture = overlay(black, square(4, 6, 8), alpha=0.5)
    assert picture[8, 10].tolist() == [round(value / 2) for value in rgb(PALETTE[0])]
    assert not picture[0, 0].any()


def test_input_is_left_alone() -> None:
    image = np.full((20, 30, 3), 7, np.uint8)
    image[0, 0] = 255
    before = image.copy()
    overlay(image, square(4, 6, 8), alpha=1.0)
    assert (image == before).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint16, np.float32, np.float64])
def test_every_dtype_is_stretched(dtype: type) -> None:
    image = np.zeros((2, 3), dtype)
    image[1, 2] = 1
    assert stretch(image).tolist() == [[0, 0, 0], [0, 0, 255]]


def test_stretch_survives_what_is_not_a_number() -> None:
    image = np.array([[np.nan, np.inf, -np.inf], [2.0, 3.0, 4.0]])
    assert stretch(image).tolist() == [[0, 255, 0], [0, 128, 255]]
    assert not stretch(np.full((2, 2), np.nan)).any()
    assert not stretch(np.full((2, 2), 9)).any()


@pytest.mark.parametrize(("channels", "shape"), [(1, (4, 5)), (2, (4, 5)), (3, (4, 5, 3)), (4, (4, 5, 3))])
def test_channels(channels: int, shape: tuple[int, ...]) -> None:
    assert stretch(np.zeros((4, 5, channels))).shape == shape


def test_masks_on_another_grid_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the reference is \(3, 3\), its image \(20, 30\)"):
        overlay(GRAY, square(1, 1, 3), np.zeros((3, 3), np.uint8))


def test_enlarge_repeats_pixels_and_leaves_large_images() -> None:
    small = np.arange(6).reshape(2, 3)
    assert enlarge(small, 6).tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert enlarge(small, 2) is not None and (enlarge(small, 2) == small).all()


def filled(lines: list[list[tuple[int, int]]], shape: tuple[int, int]) -> np.ndarray:
    """Even-odd filling from the vertical edges alone: an independent way back to the mask."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for corners in lines:
        for (row, column), (next_row, next_column) in zip(corners, corners[1:] + corners[:1], strict=True):
            assert (row == next_row) != (column == next_column), "an edge is upright or level, never of length 0"
            if column == next_column:
                crossings[min(row, next_row) : max(row, next_row), column] += 1
    assert crossings.max(initial=0) <= 1
    return crossings.cumsum(axis=1)[:, :-1] % 2 == 1


@pytest.mark.parametrize("seed", range(20))
def test_outlines_fill_to_the_mask(seed: int) -> None:
    mask = np.random.default_rng(seed).random((9, 13)) < 0.1 + 0.04 * seed
    lines = trace(mask)
    assert (filled(lines, mask.shape) == mask).all()
    for corners in lines:
        for (a, b), (c, d), (e, f) in zip(corners, corners[1:] + corners[:1], corners[2:] + corners[:2], strict=True):
            assert (a == c) != (c == e) or (b == d) != (d == f), "a corner turns"


def test_outline_of_nothing_is_nothing() -> None:
    assert trace(np.zeros((3, 3))) == [] and svg_path(np.zeros((3, 3))) == ""


def test_diagonal_pixels_are_two_lines_and_a_hole_is_one() -> None:
    assert len(trace(np.eye(2))) == 2
    holed = np.ones((3, 3))
    holed[1, 1] = 0
    assert len(trace(holed)) == 2


def test_svg_path_walks_the_corners() -> None:
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    assert svg_path(mask) == "M0 0h2v1h-1v1h-1z"
    assert re.fullmatch(r"(M\d+ \d+([hv]-?\d+)+z)+", svg_path(np.random.default_rng(0).random((30, 30)) < 0.5))


def test_drawing_on_pixels_needs_no_plotting_package() -> None:
    asked = "[name for name in ('matplotlib', 'jinja2', 'torch', 'scipy') if name in sys.modules]"
    code = f"import sys, pocketseg.reporting; print({asked})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
