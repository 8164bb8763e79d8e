"""Fits: what the net sees of an image, and the exact way back."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketseg.errors import DataError
from pocketseg.pipeline import Normalization, Pipeline, Reading
from pocketseg.pipeline.geometry import place

FITS = ("resize", "letterbox", "pad", "crop", "tile")


def identity(x: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return (np.log(x) - np.log1p(-x)).clip(-200, 200).astype(np.float32)


def pipeline(fit: str, size=(32, 24), **changes) -> Pipeline:
    return Pipeline(size=size, fit=fit, intensity_range=(0, 1), **changes)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.05, 0.95, shape).astype(np.float32)


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from(FITS))
def test_every_fit_comes_back_to_the_grid_of_the_image(height, width, fit):
    if fit == "pad" and (height > 32 or width > 24):
        return
    found = pipeline(fit, multiple=8).predict(noise(height, width), identity)
    assert found.shape == (height, width, 1) and np.isfinite(found).all()


@pytest.mark.parametrize("shape", [(32, 24), (31, 23), (7, 24), (1, 1)])
def test_padding_gives_back_every_pixel(shape):
    image = noise(*shape)
    np.testing.assert_allclose(pipeline("pad").predict(image, identity)[:, :, 0], image, atol=1e-6)


@pytest.mark.parametrize("shape", [(33, 25), (60, 10), (50, 51)])
def test_a_crop_gives_back_its_middle_and_nothing_around(shape):
    image = noise(*shape)
    found = pipeline("crop").predict(image, identity)[:, :, 0]
    top, left = max(0, (shape[0] - 32) // 2), max(0, (shape[1] - 24) // 2)
    inside = np.zeros(shape, bool)
    inside[top : top + 32, left : left + 24] = True
    np.testing.assert_allclose(found[inside], image[inside], atol=1e-6)
    assert not found[~inside].any()


def test_a_letterbox_keeps_the_shape_of_things():
    mask = np.zeros((60, 20), np.uint8)
    mask[10:30, 5:15] = 1
    fitted = pipeline("letterbox", size=(32, 32)).fit_mask(mask)
    rows, columns = np.nonzero(fitted)
    assert np.ptp(rows) + 1 == pytest.approx(20 * 32 / 60, abs=1.1)
    assert np.ptp(columns) + 1 == pytest.approx(10 * 32 / 60, abs=1.1)
    assert columns.mean() == pytest.approx(15.5, abs=0.6)


@pytest.mark.parametrize("fit", FITS)
def test_image_and_mask_are_placed_alike(fit):
    mask = np.zeros((30, 22), np.uint8)
    mask[4:20, 6:12] = 1
    pipe = pipeline(fit, normalization=Normalization("unit-range"))
    image, fitted = pipe.prepare(mask.astype(np.float32)), pipe.fit_mask(mask)
    np.testing.assert_array_equal(image[0] > 0.5, fitted == 1)


def test_surroundings_are_zero_after_normalization():
    pipe = pipeline("pad", normalization=Normalization("train-mean-std", mean=(0.5,), std=(0.1,)))
    prepared = pipe.prepare(np.full((10, 10), 0.7, np.float32))
    assert sorted(np.unique(prepared.round(4))) == [0, 2] and (prepared > 1).sum() == 100


def test_an_image_that_cannot_be_padded_is_reported():
    with pytest.raises(DataError, match=r"image: the image is 40×10 pixels, more than the 32×24 it is padded to → "):
        pipeline("pad").prepare(noise(40, 10))


# --- pixel size -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fit", ["pad", "crop", "tile"])
def test_things_of_one_size_in_millimeters_have_one_size_for_the_net(fit):
    pipe = pipeline(fit, size=(64, 64), spacing_mm=(0.5, 0.5))
    extents = []
    for spacing in ((0.5, 0.5), (1.0, 0.25), (0.25, 1.0)):
        mask = np.zeros((round(20 / spacing[0]), round(20 / spacing[1])), np.uint8)
        mask[round(4 / spacing[0]) : round(12 / spacing[0]), round(4 / spacing[1]) : round(10 / spacing[1])] = 1
        fitted = pipe.fit_mask(mask, spacing)
        rows, columns = np.nonzero(fitted)
        extents.append((np.ptp(rows) + 1, np.ptp(columns) + 1))
        assert pipe.predict(mask.astype(np.float32) * 0.8 + 0.1, identity, spacing).shape == (*mask.shape, 1)
    assert extents == [(16, 12)] * 3


def test_a_pixel_size_that_is_not_known_is_reported():
    with pytest.raises(DataError, match=r"its pixel size is not known, but the model works at 0.5 × 1 mm"):
        pipeline("crop", spacing_mm=(0.5, 1.0)).prepare(noise(9, 9))


def test_fit_and_reading_travel_with_the_model():
    pipe = pipeline("crop", spacing_mm=(0.5, 0.25), reading=Reading("coronal", (40, 400)))
    assert Pipeline.from_dict(json.loads(pipe.to_json()), "a.onnx") == pipe


def test_an_odd_pixel_goes_to_the_end():
    found = place((5, 4), (8, 8), "pad")
    assert (found.top, found.left) == (1, 2)
