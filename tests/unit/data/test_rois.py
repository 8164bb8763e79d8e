"""ImageJ's regions: filled rightly, and refused where they are damaged."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pocketseg.data import polygons
from pocketseg.data.polygons import fill, fill_all
from pocketseg.data.rois import HEADER_BYTES, LINE, MOVE, read_rois, roi_bytes
from pocketseg.errors import DataError


def plainly(lines, shape):
    """Even and odd, pixel by pixel and edge by edge."""
    inside = np.zeros(shape, bool)
    for row, column in np.ndindex(*shape):
        y, x = row + 0.5, column + 0.5
        for corners in lines:
            closed = [*corners.tolist(), corners[0].tolist()]
            for (y0, x0), (y1, x1) in pairwise(closed):
                if min(y0, y1) <= y - 1e-12 < max(y0, y1) - 1e-12 or min(y0, y1) <= y < max(y0, y1):
                    inside[row, column] ^= x > x0 + (y - y0) / (y1 - y0) * (x1 - x0)
    return inside


def test_fill_is_even_and_odd():
    rng = np.random.default_rng(0)
    for number in range(60):
        shape = tuple(rng.integers(1, 14, 2))
        lines = [rng.uniform(-6, 20, (rng.integers(1, 9), 2)) for _ in range(rng.integers(1, 4))]
        np.testing.assert_array_equal(fill(lines, shape), plainly(lines, shape), err_msg=str(number))


def test_several_regions_are_united():
    square = np.array([[0, 0], [0, 2], [2, 2], [2, 0]], float)
    assert fill_all([[square], [square + 1]], (4, 4)).sum() == 7
    assert not fill_all([], (4, 4)).any()


def shape_region(*numbers: float) -> bytes:
    head = bytearray(roi_bytes([[(0, 0), (0, 9), (9, 9)], [(2, 2), (2, 3), (3, 3)]])[:HEADER_BYTES])
    head[36:40] = struct.pack(">i", len(numbers))
    return bytes(head) + struct.pack(f">{len(numbers)}f", *numbers)


@pytest.mark.row("S05")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (shape_region(LINE, 1, 2), "without a beginning"),
        (shape_region(MOVE, np.inf, 2, LINE, 1, 2), "not finite"),
        (shape_region(MOVE, np.nan, 2, LINE, 1, 2), "not finite"),
        (shape_region(np.nan, 1, 2), "curves"),
        (shape_region(2, 1, 2, 3, 4), "curves"),
        (roi_bytes([[(1, 1), (1, 9), (9, 9)]])[:-3], "not a readable"),
        (b"Iout", "not an ImageJ ROI"),
        (b"", "not an ImageJ ROI"),
    ],
)
def test_damaged_regions(tmp_path, content, words):
    (tmp_path / "a.roi").write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        read_rois(tmp_path / "a.roi")
    assert "a.roi" in str(caught.value)


def test_an_outline_that_crosses_too_many_rows(monkeypatch):
    monkeypatch.setattr(polygons, "MAX_CROSSINGS", 10)
    with pytest.raises(ValueError, match="crosses too many rows"):
        fill([np.array([[0.0, 0], [0, 9], [9, 9], [9, 0]])], (9, 9))


def test_far_corners_cost_nothing():
    far = np.array([[-1e30, -1e30], [-1e30, 1e30], [1e30, 1e30], [1e30, -1e30]])
    assert fill([far], (5, 6)).all()


@pytest.mark.row("A14")
def test_a_pipe_is_no_region(tmp_path):
    import os

    for name in ("a.roi", "a.zip"):
        os.mkfifo(Path(tmp_path / name))
        with pytest.raises(DataError, match="pipe or a device"):
            read_rois(tmp_path / name)
