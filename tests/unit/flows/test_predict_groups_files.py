"""Files that belong together become one mask: channels of one image, slices of one series."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from helpers.volume_files import ball, read_nifti, write_nifti, write_series
from pocketseg.data.volumes import open_volume
from pocketseg.errors import DataError
from pocketseg.flows import predict as flow
from pocketseg.flows.evaluate import evaluate
from pocketseg.pipeline import Pipeline, Reading
from pocketseg.predictors import NetPredictor

SIZE = (16, 16)
TWO = Pipeline(SIZE, channels=2, reading=Reading(raw=True, channel_files=("_0000", "_0001")))
ONE = Pipeline(SIZE, reading=Reading(window=(0, 100)))


@pytest.fixture
def use(monkeypatch):
    """Predict by a rule: foreground where the first channel is above the last, or above a half."""

    def chosen(pipeline: Pipeline) -> None:
        def forward(batch):
            other = batch[:, 1:] if pipeline.channels > 1 else 0.5
            return (100 * (batch[:, :1] - other) - 1).astype(np.float32)

        def load(*_, warn=None, **__):
            return replace(NetPredictor(pipeline, forward), warn=warn)

        monkeypatch.setattr(flow, "load_predictor", load)

    return chosen


def test_channel_files_are_one_image(tmp_path, use):
    use(TWO)
    bright = {}
    for seed, name in enumerate(["A", "B"]):
        inside = bright[name] = ball((*SIZE, 3), radius=4 + seed)
        write_nifti(tmp_path / f"in/{name}_0000.nii.gz", inside.astype(np.uint8) * 255)
        write_nifti(tmp_path / f"in/{name}_0001.nii.gz", np.full(inside.shape, 100, np.uint8))
    done = flow.predict("model", [tmp_path / "in"], tmp_path / "out")
    assert sorted(path.name for path in done.written) == ["A.nii.gz", "B.nii.gz"] and not done.problems
    for name, inside in bright.items():
        np.testing.assert_array_equal(read_nifti(tmp_path / f"out/{name}.nii.gz"), inside)
    # One of the files names the image, and a pattern that finds some of them too.
    for given in ("B_0001.nii.gz", "B_*.nii.gz"):
        done = flow.predict("model", [tmp_path / "in" / given], tmp_path / given[:4].strip("*"))
        assert [path.name for path in done.written] == ["B.nii.gz"]


def test_channels_of_pictures(tmp_path, use):
    use(TWO)
    (tmp_path / "in").mkdir()
    reference = np.indices(SIZE).sum(0) > 20
    Image.fromarray(reference.astype(np.uint8) * 255).save(tmp_path / "in/x_0000.png")
    Image.fromarray(np.full(SIZE, 100, np.uint8)).save(tmp_path / "in/x_0001.png")
    flow.predict("model", [tmp_path / "in"], tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out/x.png")) > 0, reference)


def test_a_missing_channel_and_a_file_that_is_none(tmp_path, use):
    use(TWO)
    for name in ("A_0000", "B_0000", "B_0001", "plain"):
        write_nifti(tmp_path / f"in/{name}.nii.gz", np.zeros((*SIZE, 2), np.uint8))
    with pytest.raises(DataError) as caught:
        flow.predict("model", [tmp_path / "in"], tmp_path / "out")
    told = str(caught.value)
    assert "A_0001.nii.gz: is missing" in told and "plain.nii.gz: is not one of the files NAME_0000, NAME_0001" in told
    assert not (tmp_path / "out").exists()


def test_contrasts_are_never_mixed_to_gray(tmp_path, use):
    use(ONE)
    write_nifti(tmp_path / "a.nii.gz", np.zeros((*SIZE, 2, 3), np.uint8))
    done = flow.predict("model", [tmp_path / "a.nii.gz"], tmp_path / "out")
    assert not done.written and "3 contrasts" in str(done.error())


def test_series_in_one_folder_are_distinguished(tmp_path, use):
    use(ONE)
    masks = {}
    for number, name in enumerate(["one", "two"]):
        inside = ball((*SIZE, 3 + number), radius=3 + number)
        slices = (inside * 90).astype(np.int16).transpose(2, 1, 0)
        folder = write_series(tmp_path / name, slices, series=name)
        (tmp_path / "in").mkdir(exist_ok=True)
        for path in sorted(folder.iterdir()):
            path.rename(tmp_path / "in" / f"{name}-{path.name}")
        masks[min(path.stem for path in (tmp_path / "in").glob(f"{name}-*"))] = inside
    done = flow.predict("model", [tmp_path / "in"], tmp_path / "out")
    assert sorted(path.stem for path in done.written) == sorted(masks) and not done.problems
    for name, inside in masks.items():
        series = open_volume(tmp_path / "in", files=sorted((tmp_path / "in").glob(f"{name[:3]}-*")))
        np.testing.assert_array_equal(open_volume(tmp_path / f"out/{name}.dcm", series).voxels() > 0, inside)


def test_the_layout_of_channels_travels_with_the_model():
    assert Pipeline.from_dict(TWO.to_dict(), "model").reading.channel_files == ("_0000", "_0001")
    assert "channel_files" not in ONE.to_json()
    for wrong in (("_0000",), ("/../x", "_0001")):
        fields = TWO.to_dict()
        fields["reading"]["channel_files"] = wrong
        with pytest.raises(Exception, match="its pipeline is not valid"):
            Pipeline.from_dict(fields, "model")


def test_formats_that_are_not_read_are_reported_once(tmp_path, use, caplog):
    use(ONE)
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "in/a.png")
    for name in ("b.svs", "c.svs", "d.foo", "notes.txt"):
        (tmp_path / "in" / name).write_bytes(b"x")
    done = flow.predict("model", [tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in done.written] == ["a.png"]
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith(
        f"{tmp_path / 'in'}: formats that are not read are left out: 2 .svs files, 1 .foo file (.svs: "
    )
    assert "QuPath" in told and "convert them to PNG, TIFF or NIfTI" in told


@pytest.mark.parametrize("colored", [0, 2, 3])
def test_colored_images_into_a_gray_model_are_reported_once_with_their_number(tmp_path, use, caplog, colored):
    use(ONE)
    (tmp_path / "in").mkdir()
    for number in range(3):
        gray = np.random.default_rng(number).integers(0, 255, SIZE, np.uint8)
        image = np.dstack([gray, gray // 2, gray]) if number < colored else np.dstack([gray] * 3)
        Image.fromarray(image).save(tmp_path / f"in/{number}.png")
    flow.predict("model", [tmp_path / "in"], tmp_path / "out")
    told = [record.getMessage() for record in caplog.records]
    start = f"{colored} of 3 images differ in color from those of training; of the first, it is colored"
    assert [text.startswith(start) for text in told] == [True] * (colored > 0)


def test_masks_of_channel_files_are_evaluated_by_the_name_of_their_image(tmp_path):
    mask = ball((*SIZE, 3)).astype(np.uint8)
    for name in "AB":
        for channel in range(2):
            write_nifti(tmp_path / f"data/imagesTr/{name}_000{channel}.nii.gz", mask * 100 + channel)
        write_nifti(tmp_path / f"data/labelsTr/{name}.nii.gz", mask)
        write_nifti(tmp_path / f"found/{name}.nii.gz", mask if name == "A" else np.zeros_like(mask))
    rows = evaluate(tmp_path / "found", tmp_path / "data", out=tmp_path / "out").rows
    positive = [row for row in rows if row.reference_pixels]
    assert {row.case[0]: row.dice for row in positive} == {"A": 1.0, "B": 0.0}


@pytest.mark.parametrize("name", ["cases.csv", "labels.json", "notes.txt", "data.npz"])
def test_what_is_no_image_is_refused_before_anything_is_loaded(tmp_path, name):
    (tmp_path / name).write_text("image,mask\n")
    with pytest.raises(DataError, match=f"{name}: is not an image → give the images themselves"):
        flow.predict("no model", [tmp_path / name], tmp_path / "out")


def test_evaluations_with_other_options_have_folders_of_their_own(tmp_path):
    for number in range(3):
        mask = np.zeros(SIZE, np.uint8)
        mask[2:4, 2 : 4 + number] = 255
        for folder in ("data/images", "data/masks", "found"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(tmp_path / folder / f"{number}.png")
    first = evaluate(tmp_path / "found", tmp_path / "data")
    other = evaluate(tmp_path / "found", tmp_path / "data", overrides=["data.mask.invert=true"])
    again = evaluate(tmp_path / "found", tmp_path / "data")
    third = evaluate(tmp_path / "found", tmp_path / "data", against=other.out, overrides=["data.mask.invert=true"])
    names = [each.out.name for each in (first, other, again, third)]
    assert names == ["found.evaluation", "found.evaluation-2", "found.evaluation", "found.evaluation-3"]
    assert json.loads((other.out / "options.json").read_text())["overrides"] == ["data.mask.invert=true"]
    assert {row.dice for row in first.rows} == {1.0} and {row.dice for row in other.rows} != {1.0}
    (first.out / "options.json").unlink()
    assert evaluate(tmp_path / "found", tmp_path / "data").out.name == "found.evaluation-4"
