"""What is written of classes that may overlap: a file each or layers of one, and all of it is read back."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

import pocketseg
from helpers.commands import read_csv
from helpers.headed_files import write_meta, write_nrrd
from helpers.pictures import save
from helpers.volume_files import write_nifti, write_pages, write_series
from pocketseg.data import Cases, MaskCoding
from pocketseg.data.readers import read_mask
from pocketseg.data.volumes import open_volume
from pocketseg.errors import DataError, ModelFileError, RecipeError
from pocketseg.flows import convert as convert_flow
from pocketseg.flows import predict as flow
from pocketseg.flows.augment import augment
from pocketseg.flows.evaluate import evaluate
from pocketseg.flows.overlay import overlay as overlay_flow
from pocketseg.flows.preview import preview
from pocketseg.layers import covered
from pocketseg.pipeline import Pipeline, Postprocess, Reading
from pocketseg.predictors import NetPredictor
from pocketseg.predictors.ensemble import Ensemble
from pocketseg.reporting import Panel
from pocketseg.reporting.overlay import class_color, contour_pixels, enlarge_mask, overlay, rgb
from pocketseg.reporting.page import describe, picture

NAMES = ("organ", "tumor")
SHAPE = (16, 16, 3)
AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0.75, 0, 20], [0, 0, -2.0, 5], [0, 0, 0, 1]])
KEYS = ["data.classes=[organ,tumor]", "data.multilabel=true"]
PIPELINE = Pipeline(SHAPE[:2], classes=NAMES, multilabel=True, reading=Reading(window=(50, 100)))


def forward(batch):
    """The organ is above a quarter, the tumor above three quarters: one inside of the other."""
    return np.concatenate([100 * (batch - 0.25), 100 * (batch - 0.75)], 1).astype(np.float32)


@pytest.fixture(autouse=True)
def by_a_rule(monkeypatch):
    def load(*_, warn=None, **__):
        return replace(NetPredictor(PIPELINE, forward), warn=warn)

    monkeypatch.setattr(flow, "load_predictor", load)


def voxels():
    i, j, k = np.indices(SHAPE)
    far = np.hypot(i - 7, j - 8) + k
    return np.select([far < 4, far < 7], [100, 50], 0).astype(np.int16)


VOXELS = voxels()
PLANES = np.stack([VOXELS > 25, VOXELS > 75]).astype(np.uint8)


def write_data(root, kind):
    images = root / "images"
    if kind == "nifti":
        write_nifti(images / "v.nii.gz", VOXELS, AFFINE)
        write_nifti(root / "masks/v.nii.gz", np.moveaxis(PLANES, 0, -1), AFFINE)
    elif kind in ("nrrd", "mha"):
        (write_nrrd if kind == "nrrd" else write_meta)(images / f"v.{kind}", VOXELS, AFFINE)
        write_nifti(root / "masks/v.nii.gz", np.moveaxis(PLANES, 0, -1), AFFINE)
    elif kind == "tiff":
        write_pages(images / "v.tif", VOXELS.transpose(2, 1, 0).astype(np.uint8))
    else:
        write_series(images / "v", VOXELS.transpose(2, 1, 0))


WRITTEN = {
    "nifti": ["v.nii.gz"],
    "nrrd": ["v_organ.seg.nrrd", "v_tumor.seg.nrrd"],
    "mha": ["v_organ.mha", "v_tumor.mha"],
    "dicom": ["v.dcm"],
    "tiff": ["v_organ.tif", "v_tumor.tif"],
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_volumes_come_back_with_all_classes(tmp_path, kind):
    write_data(tmp_path, kind)
    done = flow.predict("model", [tmp_path / "images"], tmp_path / "out", table=True, with_overlay=True)
    masks = [path.name for path in done.written if "overlay" not in str(path) and path.suffix != ".csv"]
    assert sorted(masks) == WRITTEN[kind]
    if kind == "nifti":
        found = nibabel.load(tmp_path / "out/v.nii.gz")
        assert found.shape == (*SHAPE, 2)
        np.testing.assert_array_equal(found.affine, AFFINE)
        np.testing.assert_array_equal(np.moveaxis(np.asarray(found.dataobj), -1, 0), PLANES)
    elif kind == "dicom":
        segments = open_volume(tmp_path / "out/v.dcm", open_volume(tmp_path / "images/v"))
        np.testing.assert_array_equal(list(segments.inside(NAMES)), PLANES)
    elif kind != "tiff":
        for name, plane in zip(WRITTEN[kind], PLANES, strict=True):
            np.testing.assert_array_equal(open_volume(tmp_path / "out" / name).voxels(), plane)
    rows = [row for row in read_csv(tmp_path / "out/measurements.csv") if row["slice"] == "all"]
    assert [int(row["area_px"]) for row in rows] == PLANES.sum(axis=(1, 2, 3)).tolist()


@pytest.mark.parametrize("kind", ["nifti", "nrrd", "mha"])
def test_evaluate_reads_volumes_back(tmp_path, kind):
    write_data(tmp_path, kind)
    flow.predict("model", [tmp_path / "images"], tmp_path / "out")
    found = evaluate(tmp_path / "out", tmp_path, overrides=KEYS, out=tmp_path / "found")
    assert [(each.class_name, each.cases) for each in found.summaries] == [("organ", 3), ("tumor", 3)]
    assert [each.dice for each in found.summaries] == [1.0, 1.0]


def test_evaluate_reads_segments_back(tmp_path):
    write_data(tmp_path, "dicom")
    flow.predict("model", [tmp_path / "images"], tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "masks")
    flow.predict("model", [tmp_path / "images"], tmp_path / "out")
    found = evaluate(tmp_path / "out", tmp_path, overrides=KEYS, out=tmp_path / "found")
    assert [each.dice for each in found.summaries] == [1.0, 1.0]
    assert found.rows[0].reference_pixels == PLANES[0, :, :, 0].sum()


def pictures(root, count=3):
    """Images of two sizes with the planes that the rule finds."""
    wanted = {}
    for at in range(count):
        rows, columns = np.indices((16, 16))
        far = np.hypot(rows - 7, columns - 6 - at)
        image = np.select([far < 3, far < 6], [255, 128], 0).astype(np.uint8)
        save(root / f"images/p{at}.png", image)
        wanted[f"p{at}"] = np.stack([image > 64, image > 191]).astype(np.uint8)
        for name, plane in zip(NAMES, wanted[f"p{at}"], strict=True):
            save(root / f"masks/{name}/p{at}.png", plane * 255)
    return wanted


FOLDERS = [*KEYS, "data.images=images", "data.masks='masks/{class}'"]


def test_pictures_have_a_file_a_class(tmp_path):
    wanted = pictures(tmp_path)
    done = flow.predict("model", [tmp_path / "images"], tmp_path / "out", probabilities=True, with_overlay=True)
    assert done.images == 3 and len(done.written) == 15
    for stem, planes in wanted.items():
        for name, plane in zip(NAMES, planes, strict=True):
            np.testing.assert_array_equal(read_mask(tmp_path / f"out/{stem}_{name}.png"), plane * 255)
    found = evaluate(tmp_path / "out", tmp_path, overrides=FOLDERS, out=tmp_path / "found")
    assert [each.dice for each in found.summaries] == [1.0, 1.0]
    (tmp_path / "out/p1_tumor.png").unlink()
    with pytest.raises(DataError, match=r"p1.*p1_tumor"):
        evaluate(tmp_path / "out", tmp_path, overrides=FOLDERS, out=tmp_path / "found")


def test_names_of_classes_do_not_meet_names_of_images(tmp_path):
    pictures(tmp_path, 1)
    save(tmp_path / "images/p0_tumor.png", np.zeros((16, 16), np.uint8))
    with pytest.raises(DataError, match="would be written over"):
        flow.predict("model", [tmp_path / "images"], tmp_path / "out")


def test_references_beside_images_are_not_written_over(tmp_path):
    save(tmp_path / "p.bmp", np.zeros((16, 16), np.uint8))
    reference = save(tmp_path / "p_tumor.png", np.full((16, 16), 255, np.uint8))
    with pytest.raises(DataError, match=r"p_tumor\.png: is there already and was not written by predict"):
        flow.predict("model", [tmp_path / "p.bmp"], tmp_path)
    assert read_mask(reference).all()


def test_a_segmentation_has_the_objects_of_each_plane(tmp_path):
    image = np.zeros((16, 20), np.uint8)
    image[2:12, 2:12] = 128
    image[5:8, 5:8] = 255
    image[12:14, 15:19] = 255
    segmentation = NetPredictor(replace(PIPELINE, size=(16, 20)), forward).segment(image, (0.5, 0.5))
    assert segmentation.mask.shape == (2, 16, 20)
    shown = [(each.class_name, each.area_px, each.bbox) for each in segmentation.objects]
    assert shown == [
        ("organ", 100, (2, 2, 12, 12)), ("organ", 8, (12, 15, 14, 19)),
        ("tumor", 9, (5, 5, 8, 8)), ("tumor", 8, (12, 15, 14, 19)),
    ]  # fmt: skip
    for each in segmentation.objects:
        plane = segmentation.labels[NAMES.index(each.class_name)]
        assert (plane == each.label).sum() == each.area_px and each.area_mm2 == each.area_px / 4
    assert [(each.class_name, each.area_px, each.objects) for each in segmentation.measures] == [
        ("organ", 108, 2), ("tumor", 17, 2),
    ]  # fmt: skip
    first = segmentation.save(tmp_path / "m.png", overlay=tmp_path / "o.png")
    assert first == tmp_path / "m_organ.png" and not (tmp_path / "m.png").exists()
    np.testing.assert_array_equal(read_mask(tmp_path / "m_tumor.png"), segmentation.mask[1] * 255)
    assert "2 × organ, 2 × tumor" in repr(segmentation) and "16×20" in repr(segmentation)
    assert pocketseg.show(image, segmentation.mask).size == (500, 400)


def test_contours_of_every_plane_are_drawn():
    planes = PLANES[:, :, :, 0]
    drawn = overlay(VOXELS[:, :, 0], planes)
    for at, plane in enumerate(planes):
        edge = contour_pixels(plane)
        later = np.zeros_like(edge) if at else contour_pixels(planes[1])
        assert (drawn[edge & ~later] == rgb(class_color(at + 1))).all()
    tinted = overlay(np.zeros((16, 16)), planes, alpha=1.0)
    inside = planes[1].astype(bool) & ~contour_pixels(planes[0]) & ~contour_pixels(planes[1])
    assert inside.any() and (tinted[inside] == rgb(class_color(2))).all()
    dashed = overlay(np.zeros((16, 16)), planes * 0, planes)
    assert {tuple(map(int, color)) for color in dashed.reshape(-1, 3)} >= {rgb(class_color(1)), rgb(class_color(2))}
    np.testing.assert_array_equal(enlarge_mask(planes)[1], planes[1].repeat(32, 0).repeat(32, 1))


def test_pages_show_every_plane():
    planes = PLANES[:, :, :, 0]
    panel = Panel("v", "one", VOXELS[:, :, 0], planes, planes)
    assert [each.role for each in picture(panel, 2).outlines] == ["reference"] * 2 + ["prediction"] * 2
    share = 100 * covered(planes).mean()
    assert f"prediction covers {share:.1f} % of the picture, reference {share:.1f} %" in describe(panel)


def test_an_ensemble_has_the_mean_thresholds_of_each_class():
    members = [
        NetPredictor(replace(PIPELINE, postprocess=rules), forward)
        for rules in (Postprocess(thresholds=(0.2, 0.6)), Postprocess(threshold=0.4))
    ]
    both = Ensemble.of(members, ["a", "b"])
    assert both.pipeline.postprocess.thresholds == pytest.approx((0.3, 0.5))
    assert both.mask(VOXELS[:, :, 0].astype(np.uint8)).shape == (2, 16, 16)
    exclusive = NetPredictor(replace(PIPELINE, multilabel=False), forward)
    with pytest.raises(ModelFileError, match="multilabel"):
        Ensemble.of([members[0], exclusive], ["a", "b"])


@pytest.mark.parametrize("out", ["folder", "a.npz", "a.json", "a.csv"])
def test_conversions_keep_what_overlaps(tmp_path, out):
    wanted = pictures(tmp_path / "data")
    convert_flow.convert("auto", tmp_path / "data", tmp_path / out, overrides=FOLDERS)
    coding = MaskCoding(classes=2, multilabel=True)
    options = {"images": "images", "masks": "masks/{class}"} if out == "folder" else {}
    root = tmp_path / out
    if out in ("a.json", "a.csv"):
        root = tmp_path / "data" / out
        (tmp_path / out).rename(root)
        if out == "a.csv":
            (tmp_path / "data/masks").rename(tmp_path / "masks")
            root = tmp_path / "data"
    cases = Cases.open(root, coding=coding, names=NAMES, **options)
    assert len(cases) == len(wanted)
    for case in cases:
        np.testing.assert_array_equal(cases.mask(case), wanted[case.name])


def test_augmented_copies_are_read_back(tmp_path):
    wanted = pictures(tmp_path / "data")
    changes = [*FOLDERS, "augment={flip: [horizontal, vertical]}"]
    augment(tmp_path / "data", "thin-unet", tmp_path / "out", copies=2, overrides=changes)
    coding = MaskCoding(classes=2, multilabel=True)
    cases = Cases.open(tmp_path / "out", coding=coding, names=NAMES, images="images", masks="masks/{class}")
    assert len(cases) == 9
    for case in cases:
        image = cases.image(case)
        np.testing.assert_array_equal(cases.mask(case), np.stack([image > 64, image > 191]))
    np.testing.assert_array_equal(cases.mask(cases.named(["p0"])[0]), wanted["p0"])


def test_preview_and_doctor_see_planes(tmp_path):
    pictures(tmp_path / "data")
    found = preview(tmp_path / "data", tmp_path / "page.html", overrides=FOLDERS)
    assert found.shown == 3 and not found.problems
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 organ in 3 cases, 2 tumor in 3 cases" in page and "may overlap" in page
    assert pocketseg.doctor(tmp_path / "data", overrides=FOLDERS).healthy


def test_overlay_refuses_what_overlaps(tmp_path):
    pictures(tmp_path)
    files = tmp_path / "images/p0.png", tmp_path / "out.png"
    with pytest.raises(DataError, match=r"exclude each other.*the file of one class"):
        overlay_flow(*files, reference=tmp_path / "masks/organ/p0.png", overrides=KEYS)
    done = overlay_flow(
        *files, reference=tmp_path / "masks/organ/p0.png", predictions=[tmp_path / "masks/tumor/p0.png"]
    )
    assert 0 < done.dice[0] < 1


def test_a_model_and_data_of_two_kinds_are_not_compared(tmp_path, monkeypatch):
    pictures(tmp_path)
    (tmp_path / "m.pseg").touch()
    monkeypatch.setitem(evaluate.__globals__, "load_predictor", lambda *_, **__: NetPredictor(PIPELINE, forward))
    with pytest.raises(RecipeError, match=r"classes of the model may overlap.*data\.multilabel=true"):
        evaluate(tmp_path / "m.pseg", tmp_path, overrides=["data.multilabel=false", *FOLDERS[2:3]], out=tmp_path / "o")


def test_json_is_what_other_programs_read(tmp_path):
    pictures(tmp_path / "data")
    convert_flow.convert("auto", tmp_path / "data", tmp_path / "a.json", overrides=FOLDERS)
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in content["categories"]] == list(NAMES)
    assert sum(each["area"] for each in content["annotations"] if each["category_id"] == 2) == 3 * 25
