"""`predict --table`: what images show, in numbers; and overlays that can be seen."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

import pocketseg
from helpers.bright import Bright
from pocketseg.data.volumes import open_volume
from pocketseg.errors import DataError
from pocketseg.flows import predict as module
from pocketseg.predictors.segmentation import Segmentation
from pocketseg.reporting.overlay import contour_pixels, overlay


@pytest.fixture
def bright(monkeypatch):
    monkeypatch.setattr(module, "load_predictor", lambda *args, **options: Bright())


def rows(folder):
    with (folder / "measurements.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


SPOTS = np.zeros((20, 30), np.uint8)
SPOTS[2:5, 3:7] = 200
SPOTS[10, 10] = 255
SPOTS[15, 15] = 100


def test_pictures(bright, tmp_path):
    Image.fromarray(SPOTS).save(tmp_path / "a.png")
    Image.fromarray(SPOTS // 3).save(tmp_path / "b.png")
    done = pocketseg.predict("model", [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out", table=True)
    assert done.written[-1] == tmp_path / "out/measurements.csv" and done.images == 2
    first, second = rows(tmp_path / "out")
    assert first == {
        "image": str(tmp_path / "a.png"), "slice": "", "class": "spot", "area_px": "13", "area_mm2": "",
        "volume_mm3": "", "objects": "2", "largest_px": "12", "highest_probability": "1.0",
    }  # fmt: skip
    assert (second["area_px"], second["objects"], second["largest_px"]) == ("0", "0", "0")
    assert float(second["highest_probability"]) == pytest.approx(85 / 255)


def test_volumes_have_slices_and_a_whole(bright, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    voxels = np.zeros((30, 20, 3), np.uint8)
    voxels[3:7, 2:5, 1] = voxels[3:7, 2:4, 2] = 200
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([0.5, 0.5, 2, 1])), tmp_path / "v.nii.gz")
    assert open_volume(tmp_path / "v.nii.gz").grid.spacing_mm == pytest.approx((0.5, 0.5, 2))
    pocketseg.predict("model", [tmp_path / "v.nii.gz"], tmp_path / "out", table=True)
    *slices, whole = rows(tmp_path / "out")
    assert [(row["slice"], row["area_px"], row["area_mm2"]) for row in slices] == [
        ("0", "0", "0.0"), ("1", "12", "3.0"), ("2", "8", "2.0"),
    ]  # fmt: skip
    assert (whole["slice"], whole["area_px"], whole["volume_mm3"]) == ("all", "20", "10.0")


def test_without_it_there_is_no_table(bright, tmp_path):
    Image.fromarray(SPOTS).save(tmp_path / "a.png")
    done = pocketseg.predict("model", [tmp_path / "a.png"], tmp_path / "out")
    assert [path.name for path in done.written] == ["a.png"] and done.rows == []


def test_measures_of_each_class():
    mask = np.array([[1, 0, 2, 2], [0, 0, 0, 0], [1, 1, 0, 2]], np.uint8)
    probabilities = np.stack([mask == 1, mask == 2], axis=-1).astype(np.float32) * np.float32([0.75, 0.5])
    first, second = Segmentation(mask, probabilities, ("a", "b"), mask, (0.5, 2.0)).measures
    assert (first.class_name, first.area_px, first.area_mm2, first.objects, first.largest_px, first.peak) == (
        "a", 3, 3.0, 2, 2, 0.75,
    )  # fmt: skip
    assert (second.area_px, second.objects, second.peak) == (3, 2, 0.5)


def test_overlays_of_small_images_are_enlarged_and_tinted(bright, tmp_path):
    Image.fromarray(SPOTS).save(tmp_path / "a.png")
    pocketseg.predict("model", [tmp_path / "a.png"], tmp_path / "plain", with_overlay=True)
    pocketseg.predict("model", [tmp_path / "a.png"], tmp_path / "tinted", with_overlay=True, tint=0.5)
    plain, tinted = (np.asarray(Image.open(tmp_path / name / "a_overlay.png")) for name in ("plain", "tinted"))
    assert plain.shape == tinted.shape == (20 * 17, 30 * 17, 3)
    inside = (3 * 17 + 8, 5 * 17)
    assert len(set(plain[inside])) == 1 and len(set(tinted[inside])) == 3
    with pytest.raises(DataError, match="--tint 2: is not from 0 to 1"):
        pocketseg.predict("model", [tmp_path / "a.png"], tmp_path / "out", tint=2)
    with pytest.raises(DataError, match="none is asked for → add --overlay"):
        pocketseg.predict("model", [tmp_path / "a.png"], tmp_path / "out", tint=0.5)


def test_contours_grow_with_the_image():
    mask = np.zeros((1200, 40), np.uint8)
    mask[100:200, 5:35] = 1
    edge = contour_pixels(mask, 3)
    assert edge.sum() == 100 * 30 - 94 * 24 and not (edge & (mask == 0)).any()
    drawn = (overlay(mask, mask) != overlay(mask, mask * 0)).any(axis=-1)
    np.testing.assert_array_equal(drawn, edge)
    touching = np.repeat(np.array([[1, 2]], np.uint8), 6, axis=1).repeat(9, axis=0)
    assert contour_pixels(touching, 2)[4].tolist() == [True] * 2 + [False] * 2 + [True] * 4 + [False] * 2 + [True] * 2
