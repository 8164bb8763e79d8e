"""Test-time mirroring, against flips by hand, through tiles, files and commands."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import NetPredictor
from pocketseg.runs.backends import mirrored

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 26), np.uint8)
WEIGHTS = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)


def net(planes):
    """A convolution that knows left from right and up from down."""
    padded = np.pad(planes, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = planes.shape[2:]
    return sum(
        WEIGHTS[row, column] * padded[:, :, row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    )


FLIPS = {
    ("horizontal",): [(1,)],
    ("vertical",): [(0,)],
    ("horizontal", "vertical"): [(0,), (1,), (0, 1)],
}


@pytest.mark.parametrize("tta", FLIPS)
def test_the_mean_over_mirror_images(tta):
    """Where the grid is the image's own, mirroring the grid is mirroring the image."""
    plain = Pipeline((20, 26))
    views = [plain.predict(IMAGE, net)]
    views += [np.flip(plain.predict(np.flip(IMAGE, axes), net), axes) for axes in FLIPS[tta]]
    assert not np.allclose(views[0], views[1])
    found = replace(plain, tta=tta).predict(IMAGE, net)
    np.testing.assert_allclose(found, np.mean(views, axis=0), atol=1e-6)
    assert replace(plain, tta=tta).runs == len(views)


def test_what_is_padded_stays_behind_the_image():
    """The net sees each mirror image at the same place, with its surroundings at the same sides."""
    seen = []

    def note(planes):
        seen.append(planes.copy())
        return planes

    Pipeline((20, 26), multiple=8, tta=("horizontal",)).predict(IMAGE, note)
    first, second = (planes[0, 0] for planes in seen)
    assert first.shape == (24, 32)
    np.testing.assert_array_equal(first[:20, :26], second[:20, :26][:, ::-1])
    np.testing.assert_array_equal(second[:20, 26:], np.repeat(second[:20, 25:26], 6, axis=1))


def test_tiles_and_batches():
    tiled = Pipeline((8, 8), fit="tile", tta=("horizontal",))
    plain = replace(tiled, tta=())
    assert np.abs(tiled.predict(IMAGE, net) - plain.predict(IMAGE, net)).max() > 0.01
    pipeline = Pipeline((16, 16), tta=("horizontal", "vertical"))
    images = [IMAGE, IMAGE[::-1].copy()]
    places = [pipeline.placement(image.shape) for image in images]
    batch = pipeline.predict_batch([pipeline.prepare(image) for image in images], places, net)
    for image, found in zip(images, batch, strict=True):
        np.testing.assert_array_equal(found, pipeline.predict(image, net))


def test_files_carry_it_and_files_of_before_do_not():
    plain, both = Pipeline((8, 8)), Pipeline((8, 8), tta=("horizontal", "vertical"))
    assert "tta" not in plain.to_dict()
    assert Pipeline.from_dict(both.to_dict(), "f") == both
    for wrong in (["diagonal"], ["horizontal", "horizontal"], "horizontal"):
        with pytest.raises(ModelFileError, match="its pipeline is not valid"):
            Pipeline.from_dict(plain.to_dict() | {"tta": wrong}, "f")


def test_predictors_take_other_directions():
    predictor = NetPredictor(Pipeline((20, 26), tta=("horizontal",)), net)
    assert mirrored(predictor, None) is predictor
    assert mirrored(predictor, []).pipeline.tta == ()
    assert mirrored(predictor, ["vertical"]).pipeline.tta == ("vertical",)
    for wrong, told in ((["up"], "'up' is not a direction"), (["vertical"] * 2, "appears twice")):
        with pytest.raises(RecipeError, match=f"--tta.*{told}"):
            mirrored(predictor, wrong)
