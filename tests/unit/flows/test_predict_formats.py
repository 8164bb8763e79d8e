"""Volumes come back in their own format: NRRD as segments of 3D Slicer, MetaImage as MetaImage."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from helpers.headed_files import meta_head, segments, write_meta, write_nrrd
from helpers.structure_files import contour, headers, write_structures
from helpers.volume_files import ball, read_nifti, write_series
from pocketseg.data.volumes import difference, open_volume
from pocketseg.errors import DataError
from pocketseg.flows import predict as flow
from pocketseg.flows.evaluate import evaluate
from pocketseg.flows.overlay import overlay
from pocketseg.pipeline import Pipeline, Reading
from pocketseg.predictors import NetPredictor

SHAPE = (16, 16, 3)
AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0.75, 0, 20], [0, 0, -2.0, 5], [0, 0, 0, 1]])
INSIDE = ball(SHAPE, radius=5)
VOXELS = (INSIDE * 100).astype(np.int16)


@pytest.fixture(autouse=True)
def by_a_rule(monkeypatch):
    """Foreground where an image is above a half."""

    def load(*_, warn=None, **__):
        pipeline = Pipeline(SHAPE[:2], classes=("left lobe",), reading=Reading(window=(50, 100)))
        return replace(NetPredictor(pipeline, lambda batch: (100 * (batch - 0.5)).astype(np.float32)), warn=warn)

    monkeypatch.setattr(flow, "load_predictor", load)


def names(done):
    return sorted(path.name for path in done.written)


def assert_mask(path, image):
    found = open_volume(path)
    assert difference(open_volume(image).grid, found.grid) is None
    np.testing.assert_array_equal(found.voxels(), INSIDE)


@pytest.mark.parametrize("name", ["v.nrrd", "v.nhdr", "v.mha", "v.mhd"])
def test_a_single_file(tmp_path, name):
    path = tmp_path / "in" / name
    if name.endswith("mhd"):
        path.parent.mkdir()
        path.write_text(meta_head(VOXELS, AFFINE, file="v.raw"))
        (tmp_path / "in/v.raw").write_bytes(VOXELS.tobytes(order="F"))
    else:
        (write_meta if name.endswith("mha") else write_nrrd)(path, VOXELS, AFFINE)
    mask = "v.mha" if ".m" in name else "v.seg.nrrd"
    done = flow.predict("model", [path], tmp_path / "out", probabilities=True, with_overlay=True)
    kind = mask.rpartition(".")[2]
    assert names(done) == sorted([mask, f"v_probability.{kind}", "000.png", "001.png", "002.png"])
    assert_mask(tmp_path / "out" / mask, path)
    probability = open_volume(tmp_path / f"out/v_probability.{kind}").voxels()
    assert probability.dtype == np.float32
    np.testing.assert_array_equal(probability > 0.5, INSIDE)
    if kind == "nrrd":
        assert open_volume(tmp_path / "out" / mask).names == ("left lobe",)


@pytest.mark.parametrize(("to", "name"), [("nrrd", "v.seg.nrrd"), ("mha", "v.mha"), ("nifti", "v.nii.gz")])
@pytest.mark.parametrize("given", ["v.nrrd", "v.mha"])
def test_any_format_may_be_asked_for(tmp_path, to, name, given):
    path = (write_meta if given.endswith("mha") else write_nrrd)(tmp_path / given, VOXELS, AFFINE)
    done = flow.predict("model", [path], tmp_path / "out", to=to)
    assert names(done) == [name]
    assert_mask(tmp_path / "out" / name, path)
    if to == "nifti":
        np.testing.assert_array_equal(read_nifti(tmp_path / "out/v.nii.gz"), INSIDE)


def folder(root):
    """A folder as 3D Slicer and ITK leave it: an image with its segmentation, and a header with its voxels."""
    write_nrrd(root / "a.nrrd", VOXELS, AFFINE)
    write_nrrd(root / "a.seg.nrrd", INSIDE.astype(np.uint8), AFFINE, texts=segments(("left lobe", 1, 0)))
    (root / "b.mhd").write_text(meta_head(VOXELS, AFFINE, file="b.raw"))
    (root / "b.raw").write_bytes(VOXELS.tobytes(order="F"))
    return root


def test_a_folder_with_segmentations_and_voxels_beside_headers(tmp_path, caplog):
    done = flow.predict("model", [folder(tmp_path / "in")], tmp_path / "out")
    assert names(done) == ["a.seg.nrrd", "b.mha"] and done.images == 2 and not done.problems
    assert not caplog.records
    (tmp_path / "in/c.czi").write_bytes(b"ZISRAWFILE")
    (tmp_path / "in/c.raw").write_bytes(b"x")
    flow.predict("model", [tmp_path / "in"], tmp_path / "out")
    told = caplog.records[0].getMessage()
    assert "1 .czi file, 1 .raw file" in told and "OME-TIFF" in told


def test_a_reference_beside_its_image_is_not_overwritten(tmp_path):
    root = folder(tmp_path)
    before = (root / "a.seg.nrrd").read_bytes()
    for given in (root, root / "a.nrrd"):
        with pytest.raises(DataError, match=r"a\.seg\.nrrd: is there already and was not written by predict →"):
            flow.predict("model", [given], root)
    write_meta(root / "c/d.mha", VOXELS, AFFINE)
    with pytest.raises(DataError, match="overwritten by its own mask"):
        flow.predict("model", [root / "c/d.mha"], root / "c")
    assert (root / "a.seg.nrrd").read_bytes() == before


def test_a_segmentation_is_no_image(tmp_path):
    done = flow.predict("model", [folder(tmp_path) / "a.seg.nrrd"], tmp_path / "out")
    assert not done.written and "is a segmentation, not an image" in done.problems[0].what


def test_segmentations_of_others_are_measured_by_their_names(tmp_path):
    """Whatever labels their segments have."""
    other = np.zeros(SHAPE, np.uint8)
    other[:, :2] = 1
    reference = np.where(other > 0, 2, INSIDE).astype(np.uint8)
    write_nrrd(tmp_path / "data/images/a.nrrd", VOXELS, AFFINE)
    known = segments(("lobe", 1, 0), ("edge", 2, 0))
    write_nrrd(tmp_path / "data/masks/a.seg.nrrd", reference, AFFINE, texts=known)
    turned = np.array([0, 9, 4], np.uint8)[reference]
    given = write_nrrd(tmp_path / "found/a.seg.nrrd", turned, AFFINE, texts=segments(("edge", 4, 0), ("lobe", 9, 0)))
    settings = ["data.classes=[lobe, edge]"]
    found = evaluate(tmp_path / "found", tmp_path / "data", out=tmp_path / "out", overrides=settings)
    assert [summary.dice for summary in found.summaries] == [1.0, 1.0]
    write_nrrd(given, turned, AFFINE, texts=segments(("rim", 4, 0), ("lobe", 9, 0)))
    with pytest.raises(DataError, match=r"rim \(in 1 image\)"):
        evaluate(tmp_path / "found", tmp_path / "data", out=tmp_path / "out2", overrides=settings)


@pytest.mark.parametrize("settings", [[], ["data.classes=[lobe, edge]"]], ids=["no classes", "classes"])
def test_an_overlay_compares_regions_by_their_names(tmp_path, settings):
    labels = np.where(np.indices(SHAPE)[1] < 4, 2, INSIDE).astype(np.uint8)
    image = write_nrrd(tmp_path / "v.nrrd", VOXELS, AFFINE)
    one = write_nrrd(tmp_path / "a.seg.nrrd", labels, AFFINE, texts=segments(("lobe", 1, 0), ("edge", 2, 0)))
    turned = np.array([0, 9, 4], np.uint8)[labels]
    same = write_nrrd(tmp_path / "b.seg.nrrd", turned, AFFINE, texts=segments(("edge", 4, 0), ("lobe", 9, 0)))
    other = write_nrrd(tmp_path / "c.seg.nrrd", turned, AFFINE, texts=segments(("lobe", 4, 0), ("edge", 9, 0)))
    shown = {}
    for prediction in (one, same, other):
        out = tmp_path / f"{prediction.stem}.png"
        overlay(image, out, reference=one, predictions=[prediction], overrides=settings)
        shown[prediction] = np.asarray(Image.open(out))[40:]  # below the title
    np.testing.assert_array_equal(shown[one], shown[same])
    assert (shown[one] != shown[other]).any()


def test_what_was_drawn_on_a_series_is_no_image_of_it(tmp_path):
    slices = VOXELS.transpose(2, 1, 0)
    folder = write_series(tmp_path / "in/P1", slices)
    image = open_volume(folder)
    square = contour(np.array([[-9.0, -19, 5], [-5, -19, 5], [-5, -15, 5]]))
    write_structures(folder / "rs.dcm", {"a": [square]}, headers(folder)[0].FrameOfReferenceUID)
    for given in (tmp_path / "in", folder):
        done = flow.predict("model", [given], tmp_path / "out" / given.name)
        assert names(done) == ["P1.dcm"] and not done.problems
        found = open_volume(tmp_path / "out" / given.name / "P1.dcm", image)
        np.testing.assert_array_equal(found.voxels(), INSIDE)
