"""Masks of classes that may overlap: every form in which they are stored gives the same planes."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from helpers.headed_files import segments, write_nrrd
from helpers.pictures import picture, save
from helpers.structure_files import contour, headers, write_structures
from helpers.volume_files import write_nifti, write_pages, write_series
from pocketseg.data import Cases, MaskCoding
from pocketseg.data.annotations.writing import NamedMask, coco, rle_rows
from pocketseg.data.raters import fuse
from pocketseg.data.volumes import open_volume, write_segmentation
from pocketseg.errors import DataError
from pocketseg.layers import covered, grid_of, layer, present
from pocketseg.reporting.outlines import trace
from pocketseg.tables import csv_text

NAMES = ("organ", "tumor")
CODING = MaskCoding(classes=2, multilabel=True)
SHAPE = (24, 20)
STEMS = [f"c{number}" for number in range(4)]


def planes_of(seed, shape=SHAPE):
    """An organ, and a tumor that lies half inside of it; the last case has no tumor."""
    planes = np.zeros((2, *shape), np.uint8)
    planes[0, 4 : 14 + seed, 3:15] = 1
    if seed < 3:
        planes[1, 8:20, 6 + seed : 12] = 1
    return planes


PLANES = {stem: planes_of(seed) for seed, stem in enumerate(STEMS)}


def opened(root, coding=CODING, **options):
    cases = Cases.open(root, coding=coding, names=NAMES, **options)
    cases.check()
    return cases


def assert_planes(cases, wanted=PLANES):
    assert [case.name for case in cases] == list(wanted)
    for case in cases:
        found = cases.mask(case)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, wanted[case.name])


def images(root):
    for seed, stem in enumerate(STEMS):
        save(root / f"images/{stem}.png", picture(seed, SHAPE))
    return root


def test_a_folder_for_each_class(tmp_path):
    images(tmp_path)
    for stem, planes in PLANES.items():
        for name, plane in zip(NAMES, planes, strict=True):
            save(tmp_path / f"masks/{name}/{stem}.png", plane * 255)
    cases = opened(tmp_path, images="images", masks="masks/{class}")
    assert_planes(cases)
    assert [path.name for path in cases.files()].count("c0.png") == 3
    (tmp_path / "masks/tumor/c2.png").unlink()
    with pytest.raises(DataError, match=r"c2.*tumor"):
        opened(tmp_path, images="images", masks="masks/{class}")


def test_a_file_for_each_class_in_one_folder(tmp_path):
    for seed, (stem, planes) in enumerate(PLANES.items()):
        save(tmp_path / f"{stem}.png", picture(seed, SHAPE))
        for name, plane in zip(NAMES, planes, strict=True):
            save(tmp_path / f"{stem}_{name}.png", plane)
    assert_planes(opened(tmp_path, naming=["_{class}"]))
    (tmp_path / "c1_organ.png").unlink()
    with pytest.raises(DataError, match="c1"):
        opened(tmp_path, naming=["_{class}"])


def test_stored_values_that_stand_for_several_classes(tmp_path):
    images(tmp_path)
    values = {(0, 0): 0, (1, 0): 2, (1, 1): 4, (0, 1): 7}
    for stem, planes in PLANES.items():
        stored = np.zeros(SHAPE, np.uint8)
        for (organ, tumor), value in values.items():
            stored[(planes[0] == organ) & (planes[1] == tumor)] = value
        save(tmp_path / f"masks/{stem}.png", stored)
    assert_planes(opened(tmp_path, replace(CODING, layers=((2, 4), (4, 7)))))
    with pytest.raises(DataError, match=r"holds the values 7.*data\.mask\.layers"):
        opened(tmp_path, replace(CODING, layers=((2, 4), (4,))))


def test_channels_of_an_array_and_pages_of_a_tiff(tmp_path):
    masks = np.stack([np.moveaxis(planes, 0, -1) for planes in PLANES.values()])
    pixels = np.stack([picture(seed, SHAPE) for seed in range(4)])
    np.savez(tmp_path / "a.npz", images=pixels, masks=masks * 255, names=STEMS)
    assert_planes(opened(tmp_path / "a.npz"))
    images(tmp_path / "tiff")
    for stem, planes in PLANES.items():
        write_pages(tmp_path / f"tiff/masks/{stem}.tif", planes * 255)
    assert_planes(opened(tmp_path / "tiff"))


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_planes_is_refused(tmp_path, count):
    images(tmp_path)
    for stem in STEMS:
        write_pages(tmp_path / f"masks/{stem}.tif", np.zeros((count, *SHAPE), np.uint8))
    with pytest.raises(DataError, match=rf"holds {count} planes? for 2 classes that may overlap"):
        opened(tmp_path)


def test_planes_without_multilabel_are_refused(tmp_path):
    masks = np.stack([np.moveaxis(planes, 0, -1) for planes in PLANES.values()])
    np.savez(tmp_path / "a.npz", images=np.stack([picture(seed, SHAPE) for seed in range(4)]), masks=masks)
    with pytest.raises(DataError, match="the mask has 2 channels"):
        opened(tmp_path / "a.npz", MaskCoding(classes=2))


def test_annotations_that_overlap(tmp_path):
    images(tmp_path / "coco")
    named = [NamedMask(f"images/{stem}.png", planes) for stem, planes in PLANES.items()]
    (tmp_path / "coco/a.json").write_text(json.dumps(coco(named, NAMES, trace)))
    assert_planes(opened(tmp_path / "coco/a.json"))
    images(tmp_path / "rle")
    named = [NamedMask(stem, planes) for stem, planes in PLANES.items()]
    (tmp_path / "rle/masks.csv").write_text(csv_text(rle_rows(named, NAMES)))
    assert_planes(opened(tmp_path / "rle"))


VOLUME = (20, 24, 3)


def volume_planes():
    """(2, i, j, k), and the slices (2, h, w) that a file without directions has."""
    return np.stack([planes_of(seed).swapaxes(1, 2) for seed in (0, 1, 3)], axis=-1)


def test_the_fourth_dimension_of_nifti(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 100, VOLUME).astype(np.int16)
    planes = volume_planes()
    write_nifti(tmp_path / "images/v.nii.gz", voxels)
    write_nifti(tmp_path / "masks/v.nii.gz", np.moveaxis(planes, 0, -1))
    write_nifti(tmp_path / "apart/images/v.nii.gz", voxels)
    for name, plane in zip(NAMES, planes, strict=True):
        write_nifti(tmp_path / f"apart/masks/{name}/v.nii.gz", plane)
    whole, apart = opened(tmp_path), opened(tmp_path / "apart", images="images", masks="masks/{class}")
    grid = open_volume(tmp_path / "images/v.nii.gz").grid
    for at in range(2):
        slices = [whole.mask(case)[at] for case in whole]
        np.testing.assert_array_equal(grid.rebuild(slices, 2), planes[at])
        np.testing.assert_array_equal([apart.mask(case)[at] for case in apart], slices)


def test_segments_and_regions_that_overlap(tmp_path):
    slices = np.random.default_rng(0).integers(0, 100, VOLUME[::-1]).astype(np.int16)
    write_series(tmp_path / "seg/images/s", slices)
    volume, planes = open_volume(tmp_path / "seg/images/s"), volume_planes()
    (tmp_path / "seg/masks").mkdir()
    write_segmentation(tmp_path / "seg/masks/s.dcm", np.moveaxis(planes, 0, -1), volume, NAMES)
    found = opened(tmp_path / "seg")
    for at in range(2):
        np.testing.assert_array_equal(volume.grid.rebuild([found.mask(case)[at] for case in found], 2), planes[at])
    exclusive = opened(tmp_path / "seg", MaskCoding(classes=2))
    assert any(finding.code == "annotation" for finding in exclusive.check().findings)  # what is covered is told


def test_layers_of_3d_slicer(tmp_path):
    affine, planes = np.diag([-1.0, -1, 1, 1]), volume_planes()
    write_nrrd(
        tmp_path / "images/v.nrrd", np.zeros(VOLUME, np.int16) + np.arange(20, dtype=np.int16)[:, None, None], affine
    )
    named = segments(("organ", 1, 0), ("tumor", 1, 1))
    directions = "none (1,0,0) (0,1,0) (0,0,1)"
    write_nrrd(
        tmp_path / "masks/v.seg.nrrd", planes, affine, texts=named, kinds="list domain domain domain",
        space_directions=directions,
    )  # fmt: skip
    found, grid = opened(tmp_path), open_volume(tmp_path / "images/v.nrrd").grid
    for at in range(2):
        np.testing.assert_array_equal(grid.rebuild([found.mask(case)[at] for case in found], 2), planes[at])


def test_regions_of_radiotherapy(tmp_path):
    write_series(tmp_path / "images/s", np.zeros((3, 24, 20), np.int16) + np.arange(20, dtype=np.int16))
    images = headers(tmp_path / "images/s")
    x, y, z = images[1].ImagePositionPatient
    frame = images[0].FrameOfReferenceUID

    def box(left, top, right, bottom):  # pixels of 0.75 mm by 0.5 mm
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return contour([(x + 0.75 * (c - 0.5), y + 0.5 * (r - 0.5), z) for c, r in corners])

    regions = {"tumor": [box(6, 8, 12, 20)], "organ": [box(3, 4, 15, 14)]}
    (tmp_path / "masks").mkdir()
    write_structures(tmp_path / "masks/s.dcm", regions, frame)
    found = opened(tmp_path)
    np.testing.assert_array_equal(sum(found.mask(case) for case in found), planes_of(0))


def test_raters_are_fused_class_by_class(tmp_path):
    rng = np.random.default_rng(0)
    masks = (rng.random((3, 2, 9, 8)) < 0.5).astype(np.uint8)
    for fusion in ("majority", "staple"):
        slowly = [fuse(np.stack([mask[at] for mask in masks]), 1, fusion) for at in range(2)]
        np.testing.assert_array_equal(fuse(masks, 2, fusion), slowly)
    np.testing.assert_array_equal(fuse(masks, 2, "majority"), masks.sum(0) > 1)
    for number, planes in enumerate(masks, start=1):
        write_pages(tmp_path / f"masks/c_r{number}.tif", planes)
    save(tmp_path / "images/c.png", picture(0, (9, 8)))
    cases = opened(tmp_path, naming=["_r1", "_r2", "_r3"])
    np.testing.assert_array_equal(cases.mask(cases[0]), masks.sum(0) > 1)


def test_several_masks_of_a_class_are_united(tmp_path):
    save(tmp_path / "c.png", picture(0, SHAPE))
    planes = planes_of(0)
    save(tmp_path / "c_organ.png", planes[0])
    rows = np.arange(SHAPE[0])[:, None] < 12
    save(tmp_path / "c_tumor_1.png", planes[1] * rows)
    save(tmp_path / "c_tumor_2.png", planes[1] * ~rows)
    assert_planes(opened(tmp_path, naming=["_{class}"]), {"c": planes})


def test_a_mask_of_another_size_is_told(tmp_path):
    images(tmp_path)
    for stem, planes in PLANES.items():
        write_pages(tmp_path / f"masks/{stem}.tif", planes[:, :-1])
    with pytest.raises(DataError, match=r"is 23×20, but .* is 24×20"):
        opened(tmp_path)


def test_a_color_picture_is_no_planes(tmp_path):
    images(tmp_path)
    for stem, planes in PLANES.items():
        (tmp_path / "masks").mkdir(exist_ok=True)
        colors = np.stack([*planes, np.zeros(SHAPE, np.uint8)], axis=-1) * 255
        Image.fromarray(colors).save(tmp_path / f"masks/{stem}.png")
    with pytest.raises(DataError):
        opened(tmp_path)


def test_layers_of_both_kinds_are_what_slow_loops_find():
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 4, (7, 5)).astype(np.uint8)
    planes = (rng.random((3, 7, 5)) < 0.4).astype(np.uint8)
    for row in range(7):
        for column in range(5):
            for index in (1, 2, 3):
                assert layer(indices, index)[row, column] == (indices[row, column] == index)
                assert layer(planes, index)[row, column] == bool(planes[index - 1, row, column])
            assert covered(indices)[row, column] == bool(indices[row, column])
            assert covered(planes)[row, column] == any(plane[row, column] for plane in planes)
    assert present(indices) == present(planes) == (1, 2, 3) and present(planes * 0) == present(indices * 0) == ()
    assert grid_of(indices) == grid_of(planes) == (7, 5)
