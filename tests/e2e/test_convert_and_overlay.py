"""`data convert` and `overlay` as the command line offers them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import pocketseg
from helpers.commands import run_cli
from helpers.volume_files import write_nifti
from pocketseg.data import Cases
from pocketseg.data.layouts import LAYOUTS
from pocketseg.data.polygons import fill
from pocketseg.data.rois import read_rois
from pocketseg.errors import DataError, RecipeError
from pocketseg.flows.convert import Options, convert
from pocketseg.flows.overlay import overlay
from pocketseg.training.pixel_weights import border_weights


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def shapes(seed: int = 0):
    """A mask with a square, a ring, two pixels that touch at a corner, and noise."""
    mask = np.zeros((60, 70), np.uint8)
    mask[4:12, 5:20] = 255
    mask[20:40, 20:40] = 255
    mask[26:34, 26:34] = 0
    mask[50, 50] = mask[51, 51] = 255
    mask[45:58, 2:15] = np.random.default_rng(seed).integers(0, 2, (13, 13)) * 255
    return mask


def read(path):
    return np.asarray(Image.open(path))


def test_kaggle_nerve_to_npz(tmp_path):
    rng = np.random.default_rng(0)
    for subject, number, present in ((1, 1, True), (1, 2, False), (2, 1, True)):
        stem = f"{subject}_{number}"
        save(tmp_path / f"in/{stem}.tif", rng.integers(0, 256, (84, 116), np.uint8))
        mask = np.zeros((84, 116), np.uint8)
        mask[20:60, 30:80] = 255 * present
        save(tmp_path / f"in/{stem}_mask.tif", mask)
    out = tmp_path / "out.npz"
    done = run_cli("data", "convert", "kaggle-nerve", tmp_path / "in", out, "--drop-empty", "--size", "64", "128")
    assert done.returncode == 0, done.stderr
    assert "2 cases, 1 empty one left out" in done.stdout
    with np.load(out) as found:
        assert found["images"].shape == (2, 64, 128) and found["images"].dtype == np.uint8
        assert set(np.unique(found["masks"])) == {0, 1} and found["groups"].tolist() == ["1", "2"]
        assert found["masks"][0].mean() == pytest.approx(40 * 50 / (84 * 116), abs=0.01)
    Cases.open(out).check()


def test_a_volume_becomes_plain_folders(tmp_path):
    voxels = np.random.default_rng(0).normal(size=(9, 8, 4)).astype(np.float32)
    write_nifti(tmp_path / "in/images/a.nii.gz", voxels)
    write_nifti(tmp_path / "in/labels/a.nii.gz", (voxels > 1).astype(np.uint8))
    assert convert("auto", tmp_path / "in", tmp_path / "out").written == 4
    cases = Cases.open(tmp_path / "out")
    assert cases.layout == "folders" and sum(int(cases.mask(case).sum()) for case in cases) == (voxels > 1).sum()
    with pytest.raises(DataError, match="already exists"):
        convert("auto", tmp_path / "in", tmp_path / "out")


def test_regions_of_imagej_there_and_back(tmp_path):
    """Exact for squares, holes and pixels that touch at a corner."""
    save(tmp_path / "masks/a.png", shapes())
    assert convert("masks-to-rois", tmp_path / "masks", tmp_path / "rois").written == 1
    options = Options(images=tmp_path / "masks")
    convert("rois-to-masks", tmp_path / "rois", tmp_path / "back", options)
    np.testing.assert_array_equal(read(tmp_path / "back/a.png"), shapes())
    again = convert("masks-to-rois", tmp_path / "masks", tmp_path / "rois2").written
    assert again and (tmp_path / "rois/a.zip").read_bytes() == (tmp_path / "rois2/a.zip").read_bytes()
    content = (tmp_path / "rois/a.zip").read_bytes()
    (tmp_path / "rois/a.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="is not a readable ImageJ ROI file"):
        convert("rois-to-masks", tmp_path / "rois", tmp_path / "torn", options)


def test_an_oval_has_the_area_of_an_ellipse(tmp_path):
    import struct

    header = bytearray(64)
    header[:18] = struct.pack(">4shBBhhhhH", b"Iout", 228, 2, 0, 10, 5, 50, 65, 0)
    (tmp_path / "a.roi").write_bytes(bytes(header))
    found = fill(read_rois(tmp_path / "a.roi")[0], (60, 80))
    assert found.sum() == pytest.approx(np.pi * 20 * 30, rel=0.01)
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 49, 5, 64)


def test_outlines_there_and_back(tmp_path):
    mask = np.zeros((60, 70), np.uint8)
    mask[4:12, 5:20] = mask[20:40, 20:50] = 255
    mask[50:52, 50:52] = 255
    save(tmp_path / "masks/a.png", mask)
    convert("masks-to-outlines", tmp_path / "masks", tmp_path / "lines", Options(min_pixels=6))
    assert 0 < (read(tmp_path / "lines/a.png") > 0).sum() < 200
    convert("outlines-to-masks", tmp_path / "lines", tmp_path / "back")
    mask[50:52, 50:52] = 0
    np.testing.assert_array_equal(read(tmp_path / "back/a.png"), mask)


@pytest.mark.parametrize(("dtype", "top"), [(np.uint8, 255), (np.uint16, 65535)])
def test_probabilities_become_masks(tmp_path, dtype, top):
    shares = np.linspace(0, 1, 64).reshape(8, 8)
    save(tmp_path / "maps/a.png", np.rint(shares * top).astype(dtype))
    convert("probabilities-to-masks", tmp_path / "maps", tmp_path / "out", Options(threshold=0.7))
    np.testing.assert_array_equal(read(tmp_path / "out/a.png") > 0, shares >= 0.7)


def test_integers_that_nothing_scales_are_no_probabilities(tmp_path):
    """As shares of 2³¹ they would all be empty masks."""
    save(tmp_path / "a_probability.tif", np.full((8, 8), 255, np.int32))
    with pytest.raises(DataError, match=r"holds int32 .* no probabilities"):
        convert("probabilities-to-masks", tmp_path, tmp_path / "out")


def test_a_picture_of_one_bit_stays_one(tmp_path):
    bits = np.zeros((32, 32), bool)
    bits[::4, ::4] = True
    save(tmp_path / "data/images/a.png", bits)
    save(tmp_path / "data/masks/a.png", np.eye(32, dtype=np.uint8) * 255)
    convert("auto", tmp_path / "data", tmp_path / "out.npz", Options(size=(16, 16)))
    assert np.load(tmp_path / "out.npz")["images"].mean() <= bits.mean()


def test_only_maps_of_probabilities_become_masks_and_a_failure_leaves_nothing(tmp_path):
    shares = np.linspace(0, 1, 64).reshape(8, 8)
    save(tmp_path / "maps/a_probability.png", np.rint(shares * 65535).astype(np.uint16))
    save(tmp_path / "maps/a_probability_cyst.png", np.rint(shares.T * 65535).astype(np.uint16))
    save(tmp_path / "maps/a.png", np.zeros((8, 8), np.uint8))
    save(tmp_path / "maps/a_overlay.png", np.zeros((8, 8, 3), np.uint8))
    assert convert("probabilities-to-masks", tmp_path / "maps", tmp_path / "out").written == 2
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "a_cyst.png"}
    np.testing.assert_array_equal(read(tmp_path / "out/a.png") > 0, shares >= 0.5)
    save(tmp_path / "mixed/a.png", np.rint(shares * 255).astype(np.uint8))
    save(tmp_path / "mixed/b.png", np.zeros((8, 8, 3), np.uint8) + np.arange(3, dtype=np.uint8))
    with pytest.raises(DataError, match="colored"):
        convert("probabilities-to-masks", tmp_path / "mixed", tmp_path / "no")
    assert {path.name for path in tmp_path.iterdir()} == {"maps", "out", "mixed"}


def test_what_an_error_advises_can_be_set(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / f"in/images/{name}.png", np.random.default_rng(0).integers(0, 255, (9, 10), np.uint8))
        save(tmp_path / f"in/masks/{name}.png", np.arange(90, dtype=np.uint8).reshape(9, 10) * 2)
    refused = run_cli("data", "convert", "auto", tmp_path / "in", tmp_path / "out")
    assert refused.returncode == 2 and "--set data.mask.threshold=128" in refused.stderr
    assert not (tmp_path / "out").exists()
    done = run_cli("data", "convert", "auto", tmp_path / "in", tmp_path / "out", "--set", "data.mask.threshold=128")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read(tmp_path / "out/masks/a.png") > 0, np.arange(90).reshape(9, 10) >= 64)
    vain = run_cli("data", "convert", "masks-to-rois", tmp_path / "in", tmp_path / "no", "--set", "data.size=[8,8]")
    assert vain.returncode == 2 and "leave it out" in vain.stderr


def test_every_layout_is_listed():
    done = run_cli("data", "layouts")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == sorted(LAYOUTS)
    assert "ID.tif + ID_mask.tif + ID_weights.npy" in done.stdout


def test_an_unknown_conversion_names_the_near_ones(tmp_path):
    done = run_cli("data", "convert", "kagle-nerve", tmp_path, tmp_path / "out")
    assert done.returncode == 2 and "did you mean kaggle-nerve" in done.stderr


# --- overlay ----------------------------------------------------------------------------------------------


def test_overlay_of_two_models(tmp_path):
    reference, one = np.zeros((40, 50), np.uint8), np.zeros((40, 50), np.uint8)
    reference[10:20, 10:30], one[10:20, 20:40] = 255, 1
    for name, pixels in (
        ("image", np.full((40, 50), 7, np.uint8)),
        ("reference", reference),
        ("one", one),
        ("two", reference),
    ):
        save(tmp_path / f"{name}.png", pixels)
    done = run_cli(
        "overlay", tmp_path / "image.png", "--reference", tmp_path / "reference.png",
        "--prediction", tmp_path / "one.png",
        "--prediction", tmp_path / "two.png", "--out", tmp_path / "o.png", "--alpha", "1",
        "--color", "#FF0000,#0000FF,#FFA500",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    picture = read(tmp_path / "o.png")
    assert picture.shape == (400 + 16, 2 * 500 + 8, 3)
    at = {column: picture[16 + 150, 10 * column + 5].tolist() for column in (5, 15, 25, 35)}
    assert at == {5: [0, 0, 0], 15: [255, 0, 0], 25: [255, 165, 0], 35: [0, 0, 255]}
    second = picture[16:, 508:]
    assert second[150, 155].tolist() == [255, 165, 0] and not (second == [0, 0, 255]).all(axis=2).any()


def test_overlay_shows_the_fullest_slice_of_a_volume(tmp_path):
    mask = np.zeros((9, 8, 5), np.uint8)
    mask[2:5, 2:5, 3] = mask[2, 2, 1] = 1
    write_nifti(tmp_path / "i.nii.gz", np.random.default_rng(0).normal(size=mask.shape))
    write_nifti(tmp_path / "m.nii.gz", mask)
    drawn = overlay(tmp_path / "i.nii.gz", tmp_path / "o.png", predictions=[tmp_path / "m.nii.gz"])
    assert drawn.slice == 3
    with pytest.raises(DataError, match="slices 0 to 4"):
        overlay(tmp_path / "i.nii.gz", tmp_path / "o.png", reference=tmp_path / "m.nii.gz", slice_=5)
    with pytest.raises(DataError, match="has no mask to draw"):
        overlay(tmp_path / "i.nii.gz", tmp_path / "o.png")
    with pytest.raises(DataError, match="needed are three colors"):
        overlay(tmp_path / "i.nii.gz", tmp_path / "o.png", reference=tmp_path / "m.nii.gz", colors=["red"])


@pytest.mark.parametrize("volume", [False, True])
def test_overlay_reads_the_reference_as_the_data_is_read(tmp_path, volume, caplog):
    """Where black is foreground, a mask that misses nearly all of it does not seem good."""
    inside = np.zeros((40, 50), bool)
    inside[5:15, 5:25] = True
    found = np.zeros_like(inside)
    found[14:16, 5:9] = True
    stored, expected = np.where(inside, 0, 255).astype(np.uint8), 2 * 4 / (200 + 8)

    def put(name, pixels):
        if volume:
            return write_nifti(tmp_path / f"{name}.nii.gz", pixels.T[..., None])
        save(tmp_path / f"{name}.png", pixels)
        return tmp_path / f"{name}.png"

    image, reference = put("image", np.arange(2000, dtype=np.uint8).reshape(40, 50)), put("reference", stored)
    mask, out = put("mask", found.astype(np.uint8)), tmp_path / "o.png"
    drawn = overlay(image, out, reference=reference, predictions=[mask], overrides=["data.mask.invert=true"])
    assert drawn.dice == pytest.approx((expected,))
    # A run's rules are those of its recipe, whether it is named by its folder or by a model in it.
    (tmp_path / "run/fold-0").mkdir(parents=True)
    (tmp_path / "run/recipe.yaml").write_text(
        "stages: [{name: f, net: {arch: unet}, loss: {dice: 1}, epochs: 1}]\ndata: {mask: {invert: true}}\n"
    )
    (tmp_path / "run/manifest.json").write_text("{}")
    for run in (tmp_path / "run", tmp_path / "run/fold-0/model.pseg"):
        assert overlay(image, out, reference=reference, predictions=[mask], run=run).dice == drawn.dice
    assert not caplog.records
    assert overlay(image, out, reference=reference, predictions=[mask]).dice != drawn.dice
    assert "most of it is foreground" in caplog.text and "data.mask.invert=true" in caplog.text
    with pytest.raises(DataError, match="lies in none"):
        overlay(image, out, reference=reference, predictions=[mask], run=tmp_path / "elsewhere")


def test_overlay_takes_values_thresholds_and_colors(tmp_path):
    inside = np.zeros((20, 30), np.uint8)
    inside[5:15, 5:15] = 1
    save(tmp_path / "image.png", inside * 7)
    save(tmp_path / "mask.png", inside)
    save(tmp_path / "gray.png", inside * 150 + 60)
    save(tmp_path / "colored.png", np.where(inside[..., None], [0, 255, 0], [255, 0, 0]).astype(np.uint8))
    for name, rule in (("gray", "threshold=128"), ("colored", "colors=['#00ff00']")):
        drawn = overlay(
            tmp_path / "image.png", tmp_path / "o.png", reference=tmp_path / f"{name}.png",
            predictions=[tmp_path / "mask.png"], overrides=[f"data.mask.{rule}"],
        )  # fmt: skip
        assert drawn.dice == (1.0,)


def test_masks_are_converted_by_the_rules_that_are_given(tmp_path):
    inside = np.zeros((20, 30), np.uint8)
    inside[5:15, 5:15] = 255
    save(tmp_path / "in/a.png", 255 - inside)
    for rules, expected in (([], 255 - inside), (["data.mask.invert=true"], inside)):
        convert("masks-to-rois", tmp_path / "in", tmp_path / f"out{len(rules)}", overrides=rules)
        lines = read_rois(tmp_path / f"out{len(rules)}/a.zip")
        filled = np.any([fill(line, expected.shape) for line in lines], axis=0)
        assert filled[10, 10] == (expected[10, 10] > 0)
    with pytest.raises(RecipeError, match="has no effect on rois-to-masks"):
        convert("rois-to-masks", tmp_path / "in", tmp_path / "no", overrides=["data.mask.invert=true"])


def test_weights_of_pixels_are_written_and_read_back(tmp_path):
    """What the loss makes of a mask by itself and what lies in the file are the same numbers."""
    source = pocketseg.phantom(tmp_path / "cells", cases=4, size=48, kind="microscopy")
    done = convert("auto", source, tmp_path / "weighted", Options(pixel_weights=True))
    cases = Cases.open(tmp_path / "weighted", "auto")
    assert cases.layout == "dic" and done.written == len(list(cases)) == 4
    original = {case.name: case.group for case in Cases.open(source, "auto")}
    assert any(cases.weights(case).std() > 0 for case in cases)
    for case in cases:
        weights, mask = cases.weights(case), cases.mask(case)
        assert np.array_equal(weights, border_weights(mask))
        assert case.group == original[case.name]
    for what, out in (("auto", "w.npz"), ("masks-to-outlines", "w")):
        with pytest.raises(DataError, match="lie beside the images and masks of a folder"):
            convert(what, source, tmp_path / out, Options(pixel_weights=True))
