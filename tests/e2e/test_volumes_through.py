"""Volumes go through training, export, prediction and back to their own format and geometry."""

from __future__ import annotations

import shutil

import nibabel
import numpy as np
import pytest

import pocketseg
from helpers.commands import read_csv, run_cli
from helpers.volume_files import IDENTITY, NAME, ball, write_nifti, write_series
from pocketseg.data.volumes import open_volume

SMALL = (
    "stages.0.net.width=8",
    "stages.0.net.blocks=3",
    "stages.0.precision=f32",
    "data.size=[32, 32]",
    "split.validation=0.3",
    "split.test=0.3",
)


@pytest.mark.slow("trains on volumes of a real data set")
@pytest.mark.real_data
def test_hippocampus_with_three_labels(real_data, tmp_path):
    """From NIfTI to NIfTI: same grid, both structures found, the same scores from the masks as from the model."""
    source = real_data / "msd_hippocampus/data/TrainingSet"
    volumes = sorted((source / "images").glob("*.nii.gz"))[:4]
    for kind in ("images", "labels"):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for path in volumes:
            shutil.copy(source / kind / path.name, tmp_path / "data" / kind)
    run = tmp_path / "run"
    settings = [
        *SMALL, "data.classes=[anterior, posterior]", "stages.0.loss={ce: 1, dice: 1}", "stages.0.epochs=14",
        "stages.0.batch=8", "stages.0.net.width=16", "data.fit=crop", "data.size=[40, 40]", "data.drop_empty=train",
        "data.axis=coronal", "data.spacing_mm=[1.0, 1.0]", "postprocess.min_peak=0", "postprocess.threshold=0.5",
    ]  # fmt: skip
    pocketseg.train("thin-unet", tmp_path / "data", run, overrides=settings, device="cpu", report=False)
    log = (run / "log.txt").read_text(encoding="utf-8")
    assert "in 4 groups" in log
    model = pocketseg.export(run).file
    done = run_cli("predict", model, tmp_path / "data/images", "--out", tmp_path / "masks")
    assert done.returncode == 0, done.stderr
    hits = []
    for path in volumes:
        image, mask = nibabel.load(path), nibabel.load(tmp_path / "masks" / path.name)
        np.testing.assert_array_equal(mask.affine, image.affine)
        assert mask.shape == image.shape and mask.header.get_zooms() == image.header.get_zooms()
        found, reference = np.asarray(mask.dataobj), np.asarray(nibabel.load(source / "labels" / path.name).dataobj)
        assert set(np.unique(found)) <= {0, 1, 2}
        hits.append(2 * ((found > 0) & (reference > 0)).sum() / ((found > 0).sum() + (reference > 0).sum()))
    assert np.mean(hits) > 0.5, hits
    from_model = pocketseg.evaluate(run, tmp_path / "data", out=tmp_path / "a")
    from_masks = pocketseg.evaluate(
        tmp_path / "masks", tmp_path / "data", out=tmp_path / "b",
        overrides=["data.classes=[anterior, posterior]", "data.axis=coronal"],
    )  # fmt: skip
    for one, other in zip(from_model.summaries, from_masks.summaries, strict=True):
        assert one.dice == pytest.approx(other.dice, abs=0.01) and one.cases == other.cases


def bright_ball(seed: int):
    """A CT series (n, h, w) in Hounsfield units with a bright ball, and its mask (i, j, k)."""
    rng = np.random.default_rng(seed)
    mask = ball((30, 26, 8), rng.uniform((10, 9, 3), (20, 17, 5)), 6)
    voxels = np.where(mask, 60, -80) + rng.normal(0, 20, mask.shape)
    return voxels.transpose(2, 1, 0).round().astype(np.int16), mask


def test_a_dicom_series_there_and_back(tmp_path):
    """From DICOM to a DICOM segmentation on the same grid, and to NIfTI; the patient's name is nowhere."""
    masks = {}
    for seed in range(5):
        slices, masks[f"p{seed}"] = bright_ball(seed)
        folder = write_series(
            tmp_path / f"data/images/p{seed}", slices, series=str(seed), PatientID=f"{IDENTITY}{seed}"
        )
        label = masks[f"p{seed}"].astype(np.uint8)
        write_nifti(tmp_path / f"data/masks/p{seed}.nii.gz", label, open_volume(folder).grid.affine)
    run = tmp_path / "run"
    settings = [*SMALL, "data.window=[0, 400]", "data.fit=letterbox", "stages.0.epochs=25", "split.seed=1"]
    trained = pocketseg.train("thin-unet", tmp_path / "data", run, overrides=settings, device="cpu", report=False)
    assert {summary.groups for summary in trained.summaries[0] if summary.part == "test"} <= {1, 2}
    model = pocketseg.export(run).file
    seg = run_cli("predict", model, tmp_path / "data/images", "--out", tmp_path / "seg")
    nii = run_cli(
        "predict", model, tmp_path / "data/images/p0", "--out", tmp_path / "nii", "--to", "nifti", "--overlay"
    )
    assert seg.returncode == nii.returncode == 0, seg.stderr + nii.stderr
    hits = []
    for name, reference in masks.items():
        series = open_volume(tmp_path / "data/images" / name)
        found = open_volume(tmp_path / f"seg/{name}.dcm", series).voxels() > 0
        hits.append(2 * (found & reference).sum() / (found.sum() + reference.sum()))
    assert min(hits) > 0.6, hits
    as_nifti = nibabel.load(tmp_path / "nii/p0.nii.gz")
    series = open_volume(tmp_path / "data/images/p0")
    np.testing.assert_allclose(as_nifti.affine, series.grid.affine, atol=1e-6)
    expected = open_volume(tmp_path / "seg/p0.dcm", series).voxels()
    np.testing.assert_array_equal(np.asarray(as_nifti.dataobj), expected)
    assert len(list((tmp_path / "nii/p0_overlay").glob("*.png"))) == 8
    rows = read_csv(run / "fold-0/cases-test.csv")
    assert rows and all("#" in row["case"] for row in rows)
    for path in [*run.rglob("*"), *(tmp_path / "seg").rglob("*"), *(tmp_path / "nii").rglob("*")]:
        content = path.read_bytes() if path.is_file() else b""
        assert NAME.encode() not in content and IDENTITY.encode() not in content, path
    assert NAME not in seg.stderr + seg.stdout
