"""Calipers are painted out before a net sees an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pocketseg.errors import DataError
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.pipeline.drawn import has_calipers, paint_out

PIPELINE = Pipeline((64, 96), normalization=Normalization("unit-range"))


def slope(height=64, width=96) -> np.ndarray:
    """A plane of gray, of which every pixel is the mean of its neighbors."""
    rows, columns = np.mgrid[:height, :width]
    return (20 + rows // 2 + columns // 2).astype(np.uint8)


def crossed(image, *places, arm=4, fill=250):
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    for y, x in places:
        pen.line((x - arm, y, x + arm, y), fill=fill)
        pen.line((x, y - arm, x, y + arm), fill=fill)
    return np.asarray(picture)


PLACES = (20, 30), (44, 70)


def test_a_cross_is_filled_from_its_rim_and_the_rest_stays():
    image = crossed(slope(), *PLACES)
    painted = paint_out(image)
    assert has_calipers(image) and not has_calipers(painted)
    assert np.abs(painted.astype(int) - slope()).max() <= 3
    far = np.ones(image.shape, bool)
    for y, x in PLACES:
        far[y - 7 : y + 8, x - 7 : x + 8] = False
    assert np.array_equal(painted[far], image[far])


def test_a_dotted_line_and_colored_marks():
    image = slope()
    image[10, 10:80:6] = 250
    assert has_calipers(image) and np.abs(paint_out(image).astype(int) - slope()).max() <= 3
    color = np.stack([slope()] * 3, axis=-1)
    marked = crossed(color, *PLACES, fill=(240, 220, 0))
    assert np.abs(paint_out(marked).astype(int) - color).max() <= 3


def test_large_images_are_looked_at_in_a_smaller_size():
    image = crossed(slope(200, 300), (100, 150)).repeat(4, axis=0).repeat(4, axis=1)
    assert has_calipers(image) and not has_calipers(paint_out(image))


def test_a_clean_image_stays():
    image = slope()
    assert paint_out(image) is image
    assert paint_out(np.full((9, 9), 255, np.uint8)).min() == 255


def test_the_net_sees_the_painted_image_and_the_file_says_so():
    image, off = crossed(slope(), *PLACES), PIPELINE
    on = replace(off, paint_out_calipers=True)
    assert np.array_equal(on.prepare(image), off.prepare(paint_out(image)))
    assert not np.array_equal(on.prepare(image), off.prepare(image))
    assert Pipeline.from_dict(on.to_dict(), "f") == on and "paint_out_calipers" not in off.to_dict()


@pytest.mark.whole
@pytest.mark.parametrize("image", [slope().astype(np.uint16), slope() / 255, np.stack([slope()] * 2, axis=-1)])
def test_what_is_no_picture_of_eight_bits_is_refused(image):
    with pytest.raises(DataError, match="painted out of pictures of 8 bits alone"):
        replace(PIPELINE, paint_out_calipers=True, channels=image.ndim - 1).prepare(image)
