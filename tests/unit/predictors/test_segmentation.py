"""`segment`: one result of a path, bytes, an array or a picture."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pocketseg
from pocketseg.data.readers import read_image
from pocketseg.errors import DataError, ModelFileError
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import NetPredictor, Segmentation

SIZE = 16


def bright(batch: np.ndarray) -> np.ndarray:
    """A net of two classes: below 0.3 background, up to 0.7 the first class, above the second."""
    value = batch[:, 0]
    return 20 * np.stack([0.3 - value, 0.2 - abs(value - 0.5), value - 0.7], axis=1).astype(np.float32)


@pytest.fixture
def predictor() -> NetPredictor:
    return NetPredictor(Pipeline((SIZE, SIZE), classes=("cell", "nucleus")), bright, "bright")


@pytest.fixture
def picture() -> np.ndarray:
    """A cell of 3×4, another of 2×2, a nucleus of one pixel."""
    pixels = np.zeros((SIZE, SIZE), np.uint8)
    pixels[1:4, 2:6] = 128
    pixels[10:12, 1:3] = 128
    pixels[8, 12] = 255
    return pixels


@pytest.fixture
def file(picture, tmp_path) -> Path:
    Image.fromarray(picture).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_objects_have_sizes(predictor, picture):
    found = predictor.segment(picture, spacing_mm=(0.5, 0.2))
    first, second, nucleus = found.objects
    assert [each.class_name for each in found.objects] == ["cell", "cell", "nucleus"]
    assert (first.area_px, second.area_px, nucleus.area_px) == (12, 4, 1)
    assert first.area_mm2 == pytest.approx(1.2) and first.diameter_mm == pytest.approx(2 * np.sqrt(1.2 / np.pi))
    assert first.diameter_px == pytest.approx(2 * np.sqrt(12 / np.pi))
    assert first.bbox == (1, 2, 4, 6) and first.centroid == (2, 3.5)
    for each in found.objects:
        inside = found.labels == each.label
        assert int(inside.sum()) == each.area_px
        plane = found.probabilities[:, :, found.classes.index(each.class_name)]
        assert each.peak == plane[inside].max()
    assert repr(found) == "<Segmentation: 16×16, 2 × cell, 1 × nucleus>"


def test_without_a_pixel_size_there_are_no_millimeters(predictor, picture):
    assert {(each.area_mm2, each.diameter_mm) for each in predictor.segment(picture).objects} == {(None, None)}


def test_everything_that_is_an_image_gives_the_same(predictor, picture, file):
    wanted = predictor.segment(picture)
    assert np.array_equal(wanted.mask, predictor.mask(picture))
    assert np.array_equal(wanted.probabilities, predictor.predict(picture))
    for given in (file, str(file), file.read_bytes(), bytearray(file.read_bytes()), Image.open(file), picture.tolist()):
        found = predictor.segment(given if not isinstance(given, list) else np.array(given, np.uint8))
        assert np.array_equal(found.mask, wanted.mask) and np.array_equal(found.probabilities, wanted.probabilities)


def test_nothing_found(predictor):
    found = predictor.segment(np.zeros((SIZE, SIZE), np.uint8))
    assert found.objects == () and not found.labels.any()
    assert repr(found) == "<Segmentation: 16×16, nothing found>" and "<table>" not in found._repr_html_()


def test_a_volume_of_one_slice_brings_its_pixel_size(predictor, picture, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([0.25, 0.5, 3.0, 1.0])
    for depth in (1, 2):
        nibabel.save(
            nibabel.Nifti1Image(np.repeat(picture[:, :, None], depth, 2), affine), tmp_path / f"{depth}.nii.gz"
        )
    found = predictor.segment(tmp_path / "1.nii.gz")
    assert sorted(found.spacing_mm) == [0.25, 0.5]
    assert found.objects[0].area_mm2 == pytest.approx(12 * 0.125)
    assert predictor.segment(tmp_path / "1.nii.gz", (1, 1)).spacing_mm == (1, 1)
    with pytest.raises(DataError, match=r"volume of 2 slices.*pocketseg\.predict"):
        predictor.segment(tmp_path / "2.nii.gz")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("gone.png", "does not exist"),
        (Path("gone.nii.gz"), "does not exist"),
        (Path(__file__).parent, "is a folder, and one image .* `pocketseg predict`"),
        (b"", "empty"),
        (b"no image", "not an image"),
        (None, "is None"),
        (3.5, "has the shape"),
        (np.zeros((4, 4, 2, 2)), "has the shape"),
        (np.full((4, 4), np.nan), "nan|NaN"),
        (object(), "holds object"),
    ],
)
def test_what_is_no_image_is_our_error(predictor, given, words):
    with pytest.raises(DataError, match=words):
        predictor.segment(given)


@pytest.mark.parametrize("spacing", [0, (1,), (1, -1), "mm", (np.nan, 1)])
def test_a_pixel_size_is_two_numbers(predictor, picture, spacing):
    with pytest.raises(DataError, match="spacing_mm"):
        predictor.segment(picture, spacing)


def test_files(predictor, picture, tmp_path):
    found = predictor.segment(picture)
    assert found.save(tmp_path / "mask.png", overlay=tmp_path / "drawn.png") == tmp_path / "mask.png"
    assert np.array_equal(read_image(tmp_path / "mask.png"), found.mask)
    assert np.array_equal(read_image(tmp_path / "drawn.png"), found.overlay())
    one = replace(found, mask=(found.mask > 0).astype(np.uint8), classes=("cell",))
    one.save(tmp_path / "one.png")
    assert np.unique(read_image(tmp_path / "one.png")).tolist() == [0, 255]
    with pytest.raises(DataError, match=r"ends in \.png"):
        found.save(tmp_path / "mask.jpg")


def test_what_a_notebook_shows(predictor, picture):
    found = replace(predictor.segment(picture), classes=("<cell>", "nucleus"))
    shown = found._repr_html_()
    assert "data:image/png;base64," in shown and "&lt;cell&gt;" in shown and "<cell>" not in shown
    assert "12 px" in shown and shown.count("<tr>") == 4
    assert len(repr(predictor)) < 200 and "cell, nucleus" in repr(predictor)
    assert "<th>classes</th><td>cell, nucleus</td>" in predictor._repr_html_()


def test_many_objects_are_not_all_shown(predictor):
    dots = np.zeros((SIZE, SIZE), np.uint8)
    dots[::3, ::3] = 255
    found = predictor.segment(dots)
    assert len(found.objects) == 36 and "and 16 more" in found._repr_html_()


def test_show(picture, file):
    drawn = pocketseg.show(file, (picture > 0) * 255)
    assert isinstance(drawn, Image.Image) and drawn.size[0] == drawn.size[1] >= 256
    assert pocketseg.show(picture).tobytes() != drawn.tobytes()
    with pytest.raises(DataError, match="is 3×3, its image 16×16"):
        pocketseg.show(picture, np.zeros((3, 3), np.uint8))
    with pytest.raises(DataError, match="not class indices"):
        pocketseg.show(picture, picture / 500)


def test_results_are_of_the_package():
    assert pocketseg.Segmentation is Segmentation and "show" in dir(pocketseg)


def test_bytes_that_are_no_model():
    with pytest.raises(ModelFileError, match="the given bytes: is not a packed model"):
        pocketseg.load(io.BytesIO(b"something else").getvalue())
