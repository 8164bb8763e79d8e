"""What a caller may give as an image or a pixel size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pocketseg.errors import DataError
from pocketseg.pipeline.given import as_image, as_spacing

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5)).astype(np.uint8)


class Foreign:
    def __array__(self, dtype=None, copy=None):
        return PIXELS


class Broken:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("no memory of it")


@pytest.mark.whole
@pytest.mark.row("API")
@pytest.mark.parametrize(
    "given",
    [
        PIXELS,
        np.asfortranarray(PIXELS),
        PIXELS[::-1, ::-1][::-1, ::-1],
        PIXELS.astype(">u2"),
        PIXELS.astype(np.int64),
        PIXELS.astype(np.float16),
        PIXELS.astype(np.longdouble),
        PIXELS.tolist(),
        tuple(map(tuple, PIXELS.tolist())),
        Image.fromarray(PIXELS),
        torch.from_numpy(PIXELS.copy()),
        torch.from_numpy(PIXELS.astype(np.float32)).requires_grad_(),
        Foreign(),
        np.ma.array(PIXELS),
        np.ma.array(PIXELS, mask=np.zeros(PIXELS.shape, bool)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_whatever_plainly_is_an_image_is_taken(given):
    found = as_image(given)
    assert type(found) is np.ndarray and found.dtype.isnative and found.dtype != np.longdouble
    np.testing.assert_array_equal(found, PIXELS)


@pytest.mark.row("API")
def test_a_memory_map_and_what_cannot_be_written_are_taken(tmp_path):
    mapped = np.memmap(tmp_path / "m", "uint8", "w+", shape=PIXELS.shape)
    mapped[:] = PIXELS
    locked = PIXELS.copy()
    locked.flags.writeable = False
    for given in (mapped, locked):
        np.testing.assert_array_equal(as_image(given), PIXELS)


def with_orientation() -> Image.Image:
    picture = Image.fromarray(PIXELS)
    picture.getexif()[274] = 6
    return picture


@pytest.mark.whole
@pytest.mark.row("API")
@pytest.mark.parametrize(
    ("given", "warn"),
    [
        (None, "is None"),
        ("scans/a.png", "is a path"),
        (Path("scans/a.png"), "is a path"),
        (3, "shape"),
        (np.uint8(3), "shape"),
        (PIXELS[0], "shape"),
        (PIXELS[None, None], "shape"),
        (PIXELS[:0], "empty"),
        (PIXELS[:, :, None][:, :, :0], "empty"),
        ([], "shape"),
        ([[1, 2], [3]], "not an array"),
        (PIXELS.astype(complex), "complex128"),
        (PIXELS.astype(object), "object"),
        (PIXELS.astype(str), "<U3"),
        (PIXELS.astype("datetime64[s]"), "datetime64"),
        (np.zeros((4, 4), [("a", "u1")]), "'a'"),
        (np.ma.masked_greater(PIXELS, 100), "masked"),
        (Image.fromarray(PIXELS).convert("P"), "mode P"),
        (Image.fromarray(PIXELS).convert("RGBA"), "mode RGBA"),
        (with_orientation(), "EXIF"),
        (torch.zeros(4, 4, dtype=torch.bfloat16), "not an array"),
        (Broken(), "no memory of it"),
        ({"a": 1}, "object"),
    ],
    ids=lambda given: type(given).__name__ if not isinstance(given, str) else given,
)
def test_what_is_none_is_refused_in_three_parts(given, warn):
    with pytest.raises(DataError) as caught:
        as_image(given)
    (problem,) = caught.value.problems
    assert problem.where == "image" and warn in problem.what and problem.fix


@pytest.mark.row("API")
@pytest.mark.parametrize("given", [(1, 2), [1.0, 2.0], np.array([1, 2]), (np.float32(1), 2)], ids=str)
def test_pixel_sizes(given):
    assert as_spacing(given) == (1.0, 2.0)
    assert as_spacing(None) is None


@pytest.mark.row("API")
@pytest.mark.parametrize(
    "given", [(0, 0), (1,), (1, 2, 3), "x", "12", ("1", "2"), (np.nan, 1), (np.inf, 1), (-1, 1), (True, 1), 3], ids=str
)
def test_what_is_no_pixel_size_is_refused(given):
    with pytest.raises(DataError, match="spacing_mm") as caught:
        as_spacing(given)
    assert "(row, column) in mm" in caught.value.problems[0].fix


def test_a_list_of_masked_rows_is_refused():
    rows = [np.ma.masked_greater(np.arange(5, dtype=np.uint8), 2) for _ in range(4)]
    with pytest.raises(DataError, match="has masked pixels"):
        as_image(rows)
