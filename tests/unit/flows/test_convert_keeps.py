"""What `data convert` cannot keep, it says or refuses before it writes."""

from __future__ import annotations

import csv
import logging

import numpy as np
import pytest
from PIL import Image

from helpers.volume_files import write_nifti
from pocketseg.data import Cases
from pocketseg.data.groups import Grouping
from pocketseg.errors import DataError
from pocketseg.flows.convert import Options, convert


def save(path, seed=0, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24)).astype(dtype)).save(path)


def pairs(root, *names, dtype=np.uint8):
    for seed, name in enumerate(names):
        save(root / f"images/{name}.png", seed, dtype)
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(20, 24, dtype=np.uint8) * 255).save(root / f"masks/{name}.png")


def grouped(root, groups):
    pairs(root, *groups)
    with (root / "g.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([("case", "patient"), *groups.items()])
    return ["data.group_csv=g.csv", "data.group_column=patient"]


ODD = {'a,b"c': "=HYPERLINK(1)", "-2": "@x", "-a": "+b", "new\nline": "p", "bad\udcff": "p", "ü": "two words"}


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_names_and_groups_come_back(tmp_path, kind):
    options = grouped(tmp_path / "in", ODD)
    out = tmp_path / ("out.npz" if kind == "npz" else "out")
    assert convert("auto", tmp_path / "in", out, overrides=options).written == len(ODD)
    by = None if kind == "npz" else Grouping(csv="groups.csv", column="group")
    back = Cases.open(out, grouping=by)
    assert {case.name: case.group for case in back} == ODD
    first = {case.name: case for case in Cases.open(tmp_path / "in")}
    for case in back:
        original = Cases.open(tmp_path / "in").image(first[case.name])
        np.testing.assert_array_equal(back.image(case), original)


def test_a_table_of_groups_is_no_formula(tmp_path):
    options = grouped(tmp_path / "in", ODD)
    convert("auto", tmp_path / "in", tmp_path / "out", overrides=options)
    with (tmp_path / "out/groups.csv").open(newline="", errors="surrogateescape") as file:
        cells = [text for row in csv.reader(file) for text in row]
    assert len(cells) == 2 * (len(ODD) + 1) and not [text for text in cells if text != "-2" and text[0] in "=-+@"]


def test_two_cases_never_become_one_file(tmp_path):
    _arrays(tmp_path / "in.npz", ["a/b_c", "a_b/c"])
    with pytest.raises(DataError, match="'a/b_c' and 'a_b/c' would be written to one file"):
        convert("auto", tmp_path / "in.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert convert("auto", tmp_path / "in.npz", tmp_path / "out.npz").written == 2


def _arrays(path, names, **more):
    count = len(names)
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 8)).astype(np.uint8)
    np.savez(path, images=images, masks=(images > 99).astype(np.uint8), names=np.array(names), **more)
    return path


def test_two_files_of_masks_never_become_one(tmp_path):
    save(tmp_path / "in/a.png")
    save(tmp_path / "in/a.tif", 1)
    with pytest.raises(DataError, match=r"a\.tif: would be written over what .*a\.png became"):
        convert("masks-to-rois", tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.row("S04")
@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "nul\0x", "x" * 300])
def test_a_name_in_an_array_leads_nowhere(tmp_path, name):
    with pytest.raises(DataError, match="is not a name of a file"):
        Cases.open(_arrays(tmp_path / "in.npz", ["good", name]))


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"groups": np.array(["a"])}, r"holds groups of the type <U1 and shape \(1,\)"),
        ({"groups": np.array([1.5, 2.5])}, "holds groups of the type float64"),
        ({"spacing_mm": np.ones(2)}, "holds spacing_mm of the type float64"),
        ({"spacing_mm": np.array([[1.0, 0.0], [1, 1]])}, "has no pixel size above 0"),
    ],
)
def test_facts_that_do_not_fit_are_reported(tmp_path, more, what):
    with pytest.raises(DataError, match=what):
        Cases.open(_arrays(tmp_path / "in.npz", ["a", "b"], **more))


def test_numbers_may_name_patients(tmp_path):
    cases = Cases.open(_arrays(tmp_path / "in.npz", ["a", "b"], groups=np.array([7, 7])))
    assert [case.group for case in cases] == ["7", "7"]


def test_pixel_sizes_are_kept_or_told(tmp_path, caplog):
    voxels = np.random.default_rng(0).normal(size=(9, 8, 4)).astype(np.float32)
    write_nifti(tmp_path / "in/images/a.nii.gz", voxels)
    write_nifti(tmp_path / "in/labels/a.nii.gz", (voxels > 1).astype(np.uint8))
    sizes = {case.spacing_mm for case in Cases.open(tmp_path / "in")}
    with caplog.at_level(logging.WARNING, "pocketseg"):
        convert("auto", tmp_path / "in", tmp_path / "out.npz")
        assert not caplog.records
        convert("auto", tmp_path / "in", tmp_path / "out")
    assert "pixel sizes" in caplog.text
    assert {case.spacing_mm for case in Cases.open(tmp_path / "out.npz")} == sizes != {None}


@pytest.mark.parametrize(
    ("shape", "dtype"), [((20, 24), np.int16), ((20, 24), np.int32), ((20, 24, 3), np.uint16), ((20, 24, 2), np.uint8)]
)
def test_what_a_png_cannot_hold_is_refused(tmp_path, shape, dtype):
    images = np.zeros((2, *shape), dtype)
    images[0, 0] = np.iinfo(dtype).max
    images[1, 1] = np.iinfo(dtype).min + 1
    np.savez(tmp_path / "in.npz", images=images, masks=np.ones((2, 20, 24), np.uint8))
    with pytest.raises(DataError, match="which no PNG that can be read again holds"):
        convert("auto", tmp_path / "in.npz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_images_of_two_types_do_not_become_one_array(tmp_path):
    pairs(tmp_path / "in", "a")
    pairs(tmp_path / "in", "b", dtype=np.uint16)
    with pytest.raises(DataError, match=r"2 sizes or types \(20×24 uint16, 20×24 uint8\)"):
        convert("auto", tmp_path / "in", tmp_path / "out.npz")
    assert convert("auto", tmp_path / "in", tmp_path / "out", Options()).written == 2


@pytest.mark.parametrize("what", ["masks-to-rois", "masks-to-outlines"])
def test_classes_and_folders_that_are_lost_are_reported(what, tmp_path, caplog):
    for name, classes in (("masks/one", 1), ("two/two", 2), ("two/below/b", 1)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        mask = np.zeros((20, 24), np.uint8)
        mask[2:8, 2:8], mask[2:8, 8:12] = 1, classes
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    with caplog.at_level(logging.WARNING):
        convert(what, tmp_path / "masks", tmp_path / "plain")
        assert not caplog.records
        assert convert(what, tmp_path / "two", tmp_path / "lost").written == 1
    assert "folders in it are not looked into: below" in caplog.text
    assert "two.png: holds 2 values beside 0, which all become one foreground" in caplog.text


@pytest.mark.parametrize("out", ["out", "out.npz"])
def test_what_is_dropped_as_empty_is_the_mask_that_is_written(tmp_path, out):
    """An object of one pixel is gone where the mask becomes smaller."""
    pairs(tmp_path / "in", "dot", "large")
    dot = np.zeros((20, 24), np.uint8)
    dot[3, 3] = 255
    Image.fromarray(dot).save(tmp_path / "in/masks/dot.png")
    Image.fromarray(np.full((20, 24), 255, np.uint8)).save(tmp_path / "in/masks/large.png")
    done = convert("auto", tmp_path / "in", tmp_path / out, Options(size=(5, 6), drop_empty=True))
    assert (done.written, done.left_out) == (1, 1)
    back = Cases.open(tmp_path / out)
    assert [back.mask(case).any() for case in back] == [True]
    kept = convert("auto", tmp_path / "in", tmp_path / f"all-{out}", Options(size=(5, 6)))
    assert kept.written == 2
