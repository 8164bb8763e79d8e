"""Volumes: geometry that round trips exactly, and refusals that name the file."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from builders import noise, write_image
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from helpers.volume_files import (
    IDENTITY,
    NAME,
    ball,
    dicom_image,
    read_nifti,
    save_dicom,
    write_nifti,
    write_pages,
    write_series,
)
from pocketseg.data import Cases, MaskCoding
from pocketseg.data.case import array_names, open_array
from pocketseg.data.volumes import (
    difference,
    is_volume,
    open_volume,
    series_in,
    slices_of,
    write_segmentation,
    write_stack,
)
from pocketseg.data.volumes import write_nifti as write_like
from pocketseg.data.volumes.grid import plane
from pocketseg.errors import DataError
from pocketseg.pipeline.reading import Reading

AXES = ("sagittal", "coronal", "axial")
# All ways to lay three axes along three directions, forwards or backwards.
ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
SHAPE, SIZES = (5, 6, 7), (1.5, 0.75, 3.0)
RAW = Reading(raw=True)


def refusal(path, *more) -> str:
    with pytest.raises(DataError) as caught:
        slices_of(open_volume(path, *more), RAW)[0].image()
    assert str(path) in str(caught.value)
    return str(caught.value)


def anatomy():
    """A volume in RAS order whose every voxel is another value, and its affine."""
    affine = np.diag([*SIZES, 1.0])
    affine[:3, 3] = -10, 20, 30
    return np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), affine


def stored(order, signs):
    """The same anatomy stored in another order, with the affine that says so."""
    voxels, affine = anatomy()
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for axis, (canonical, sign) in enumerate(zip(order, signs, strict=True)):
        turn[canonical, axis] = sign
        turn[canonical, 3] = 0 if sign > 0 else SHAPE[canonical] - 1
    turned = voxels.transpose(order)[tuple(slice(None, None, sign) for sign in signs)]
    return np.ascontiguousarray(turned), affine @ turn


# --- orientations -----------------------------------------------------------------------------------------


@pytest.mark.row("N20")
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS, ids=str)
def test_every_orientation_goes_there_and_back(tmp_path, order, signs):
    """The slices are the same whatever the order they are stored in, and the way back is exact."""
    voxels, affine = stored(order, signs)
    volume = open_volume(write_nifti(tmp_path / "a.nii", voxels, affine))
    canonical, _ = anatomy()
    for axis, name in enumerate(AXES):
        slices = slices_of(volume, Reading(axis=name, raw=True))
        for index, each in enumerate(slices):
            expected = canonical.take(index, axis).T[::-1, ::-1]
            np.testing.assert_array_equal(each.image(), expected)
        planes = [each.image() for each in slices]
        made = write_like(tmp_path / f"{name}.nii.gz", volume.grid.rebuild(planes, axis), volume)
        np.testing.assert_array_equal(read_nifti(made), voxels)
        np.testing.assert_allclose(nibabel.load(made).affine, affine, rtol=0, atol=1e-6)


def test_slices_are_shown_as_radiologists_see_them(tmp_path):
    """Axial: front on top, the patient's left on the right; coronal and sagittal: head on top."""
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[-1, 2, 3], voxels[2, -1, 3], voxels[2, 2, -1] = 1, 2, 3  # right, front, head
    volume = open_volume(write_nifti(tmp_path / "a.nii", voxels, np.eye(4)))
    slices = {name: slices_of(volume, Reading(axis=name, raw=True)) for name in AXES}
    axial, coronal, sagittal = slices["axial"][3].image(), slices["coronal"][2].image(), slices["sagittal"][2].image()
    assert axial.shape == (6, 5) and axial[3, 0] == 1 and axial[0, 2] == 2
    assert coronal.shape == (7, 5) and coronal[3, 0] == 1 and coronal[0, 2] == 3
    assert sagittal.shape == (7, 6) and sagittal[3, 0] == 2 and sagittal[0, 3] == 3


@pytest.mark.parametrize(
    ("sizes", "axis", "spacing"),
    [((1, 1, 1), 2, (1, 1)), ((3, 1, 2), 0, (2, 1)), ((1, 3, 2), 1, (2, 1)), ((0.5, 0.7, 3), 2, (0.7, 0.5))],
)
def test_slices_have_the_finest_pixels(tmp_path, sizes, axis, spacing):
    volume = open_volume(write_nifti(tmp_path / "a.nii", np.zeros(SHAPE, np.uint8), np.diag([*sizes, 1.0])))
    assert volume.grid.axis("auto") == axis
    assert volume.grid.plane_spacing(axis) == pytest.approx(spacing)


def test_a_single_slice_is_that_slice(tmp_path):
    volume = open_volume(write_nifti(tmp_path / "a.nii", np.zeros((4, 5, 1), np.uint8), np.diag([3.0, 3.0, 1.0, 1.0])))
    assert [each.image().shape for each in slices_of(volume, RAW)] == [(5, 4)]


def test_an_oblique_volume_is_cut_along_its_own_axes(tmp_path):
    voxels, affine = anatomy()
    angle = np.radians(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume = open_volume(write_nifti(tmp_path / "a.nii", voxels, turn @ affine))
    assert volume.grid.order == (0, 1, 2) and volume.grid.flips == (False, False, False)
    made = write_like(tmp_path / "b.nii", voxels, volume)
    np.testing.assert_allclose(nibabel.load(made).affine, turn @ affine, atol=1e-5)


# --- NIfTI ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64", ">i2", ">f4"])
def test_number_types(tmp_path, dtype):
    voxels = np.arange(60).reshape(3, 4, 5).astype(dtype)
    image = nibabel.Nifti1Image(voxels, np.eye(4))
    if dtype.startswith(">"):
        image = nibabel.Nifti1Image(voxels, np.eye(4), nibabel.Nifti1Header(endianness=">"))
    nibabel.save(image, tmp_path / "a.nii.gz")
    found = open_volume(tmp_path / "a.nii.gz").voxels()
    assert found.dtype.isnative and found.dtype.itemsize <= 4
    np.testing.assert_array_equal(found, voxels)


def test_slope_and_intercept_are_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2, -5)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(open_volume(tmp_path / "a.nii").voxels(), 2 * np.arange(24).reshape(2, 3, 4) - 5)


@pytest.mark.row("S26")
def test_a_mask_keeps_the_header_but_no_free_text(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.float32), np.diag([1, 2, 3, 1.0]))
    image.header["descrip"], image.header["db_name"] = b"Secret Person", b"Person"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Secret Person"))
    image.set_qform(image.affine, code=1)
    nibabel.save(image, tmp_path / "a.nii")
    made = write_like(tmp_path / "b.nii", np.ones((3, 4, 5), np.uint8), open_volume(tmp_path / "a.nii"))
    header = nibabel.load(made).header
    assert b"Person" not in made.read_bytes() and header.get_data_dtype() == np.uint8
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 2) and header.get_zooms() == (1, 2, 3)


def header_changed(path, **fields):
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    image.set_qform(np.eye(4), code=1)
    content = bytearray(image.to_bytes())
    header = np.frombuffer(content, nibabel.Nifti1Header().structarr.dtype, 1).copy()
    for key, value in fields.items():
        header[key] = value
    content[:348] = header.tobytes()
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"dim": [3, 1000, 1000, 1000, 1, 1, 1, 1]}, "declares 1000×1000×1000 voxels"),
        ({"pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "declares voxels of 0, 1, 1"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "affine is singular or not finite"),
        ({"srow_x": [0, 0, 0, 0]}, "affine is singular or not finite"),
        ({"srow_x": [1, 0, 0, 9]}, "place the voxels differently, by up to 9.0 voxels"),
        ({"datatype": 128, "bitpix": 24}, "type"),
        ({"xyzt_units": 5}, "states the unit 5 in xyzt_units"),
    ],
)
def test_headers_that_make_no_sense(tmp_path, fields, told):
    assert told in refusal(header_changed(tmp_path / "a.nii", **fields))


def test_without_a_place_slices_are_the_stored_ones(tmp_path):
    path = header_changed(tmp_path / "a.nii", sform_code=0, qform_code=0, pixdim=[1, 2, 3, 4, 1, 1, 1, 1])
    volume = open_volume(path)
    assert volume.grid.affine is None and volume.grid.plane_spacing(2) == (3, 2)
    made = write_like(tmp_path / "b.nii", np.ones((4, 5, 6), np.uint8), volume)
    header = nibabel.load(made).header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (0, 0) and header.get_zooms() == (2, 3, 4)


def test_four_dimensions(tmp_path):
    path = write_nifti(tmp_path / "a.nii", np.zeros((3, 4, 5, 1), np.uint8))
    assert open_volume(path).grid.shape == (3, 4, 5)
    mask = write_like(tmp_path / "m.nii", np.ones((3, 4, 5), np.uint8), open_volume(path))
    assert nibabel.load(mask).shape == (3, 4, 5, 1)
    assert "series of 17 volumes" in refusal(write_nifti(tmp_path / "b.nii", np.zeros((3, 4, 5, 17), np.uint8)))
    assert "series of 1×3 volumes" in refusal(write_nifti(tmp_path / "c.nii", np.zeros((3, 4, 5, 1, 3), np.uint8)))


@pytest.mark.parametrize("count", [2, 3])
def test_a_fourth_dimension_is_channels_each_on_its_own_scale(tmp_path, count):
    """3 contrasts are no colors: each runs over its own range, as if it were a file of its own."""
    whole = np.stack([np.random.default_rng(at).normal(at, 10.0**at, SHAPE) for at in range(count)], -1)
    whole = whole.astype(np.float32)
    volume = open_volume(write_nifti(tmp_path / "a.nii", whole, np.diag([*SIZES, 1.0])))
    source = slices_of(volume, Reading(axis="axial"))[2]
    assert volume.grid.shape == SHAPE and source.contrasts and source.image().shape == (SHAPE[1], SHAPE[0], count)
    for at in range(count):
        alone = open_volume(write_nifti(tmp_path / f"{at}.nii", whole[..., at], np.diag([*SIZES, 1.0])))
        np.testing.assert_array_equal(source.image()[..., at], slices_of(alone, Reading(axis="axial"))[2].image())
    mask = write_like(tmp_path / "m.nii", np.ones(SHAPE, np.uint8), volume)
    assert nibabel.load(mask).shape == SHAPE and f"has {count} channels" in refusal_of_mask(tmp_path / "a.nii")


def refusal_of_mask(path) -> str:
    with pytest.raises(DataError) as caught:
        slices_of(open_volume(path), RAW)[0].mask(gray=False)
    return str(caught.value)


@pytest.mark.parametrize(("unit", "size_mm"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
@pytest.mark.parametrize("placed", [True, False])
def test_units_of_the_header_become_millimeters(tmp_path, unit, size_mm, placed):
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8), np.diag([*SIZES, 1.0]))
    image.header.set_xyzt_units(unit, "sec")
    if not placed:
        image.set_sform(None, code=0)
        image.set_qform(None, code=0)
    nibabel.save(image, tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.grid.spacing_mm, np.array(SIZES) * size_mm)
    if placed:
        np.testing.assert_allclose(np.diag(volume.grid.affine)[:3], np.array(SIZES) * size_mm)
    # What is written lies beside the image in its own unit.
    made = nibabel.load(write_like(tmp_path / "b.nii", np.ones(SHAPE, np.uint8), volume))
    assert made.header.get_zooms() == SIZES and made.header.get_xyzt_units() == (unit, "sec")


@pytest.mark.parametrize(
    ("dtype", "values"),
    [(np.int16, [0, 1, 2, 3, 4]), (np.uint8, [0, 1, 11, 14])],
)
def test_labels_under_a_scale_are_whole_numbers_again(tmp_path, dtype, values):
    """The whole range of a type over the labels' range, as converters store floats: 14 / 255 a step makes 10.98."""
    reference = np.random.default_rng(0).choice(values, SHAPE)
    info = np.iinfo(dtype)
    slope = max(values) / (int(info.max) - int(info.min))
    image = nibabel.Nifti1Image(np.rint(reference / slope + info.min).astype(dtype), np.eye(4))
    image.header.set_slope_inter(slope, -slope * info.min)
    nibabel.save(image, tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    assert (volume.voxels() != reference).any()
    found = np.stack([each.mask(gray=False) for each in slices_of(volume, Reading(axis="axial"))], 2)
    np.testing.assert_array_equal(found[::-1, ::-1].swapaxes(0, 1)[::-1, ::-1], reference[::-1, ::-1])


@pytest.mark.parametrize("values", [[0, 0.5, 1], [0, 0.004, 1], [0, 1 / 255, 2 / 255]])
def test_what_is_no_label_is_not_rounded(tmp_path, values):
    reference = np.random.default_rng(0).choice(values, SHAPE).astype(np.float32)
    mask = slices_of(open_volume(write_nifti(tmp_path / "a.nii", reference)), Reading(axis="axial"))[0].mask(gray=False)
    with pytest.raises(DataError, match=r"not whole numbers.*scl_slope"):
        MaskCoding(classes=2).decode(mask, "m")


@pytest.mark.row("M02")
@pytest.mark.parametrize("at", [-1, -6, -40, 600])
def test_the_check_sum_of_compressed_voxels_is_held(tmp_path, at):
    """Found by mutations: voxels were read up to the last one, and never what gzip says of them behind it."""
    path = write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 900, (20, 16, 8)).astype(np.int16))
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged or cut off"):
        open_volume(path).voxels()


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_volume_cut_anywhere_is_refused(tmp_path, name):
    content = write_nifti(tmp_path / name, np.random.default_rng(0).normal(size=(8, 8, 8))).read_bytes()
    for length in np.linspace(0, len(content) - 20, 12).astype(int):
        (tmp_path / name).write_bytes(content[:length])
        refusal(tmp_path / name)


def test_what_is_no_gzip(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"<html>" * 100)
    assert "is not a readable gzip file" in refusal(tmp_path / "a.nii.gz")
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(b"\0" * 10_000_000))
    assert "is no" in refusal(tmp_path / "b.nii.gz")


def test_voxels_that_are_no_numbers_are_counted(tmp_path):
    voxels = np.zeros((3, 4, 5), np.float32)
    voxels[1, 1, :2] = np.nan
    assert "2 voxels are NaN or infinite" in refusal(write_nifti(tmp_path / "a.nii", voxels))


# --- intensities ------------------------------------------------------------------------------------------


def test_a_volume_is_scaled_as_a_whole(tmp_path):
    """Slices of one volume share a scale, and a few bright voxels do not set it."""
    voxels = np.tile(np.linspace(0, 1000, 50, dtype=np.float32), (50, 50, 1))
    voxels[0, 0, 0] = 1e6
    slices = slices_of(open_volume(write_nifti(tmp_path / "a.nii", voxels)), Reading(axis="axial"))
    means = [each.image().mean() / 65535 for each in slices]
    assert means[1] < 0.05 and means[-1] > 0.99 and np.all(np.diff(means[1:]) >= 0)
    assert slices[0].image().max() == 65535


def test_nearly_empty_volumes_keep_what_there_is(tmp_path):
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[1, 1, 1] = 7
    image = slices_of(open_volume(write_nifti(tmp_path / "a.nii", voxels)), Reading(axis="axial"))[1].image()
    assert sorted(np.unique(image)) == [0, 65535]


def test_a_window_is_center_and_width(tmp_path):
    voxels = np.array([-100, 0, 50, 100, 200], np.int16).reshape(5, 1, 1)
    reading = Reading(axis="axial", window=(50, 100))
    image = slices_of(open_volume(write_nifti(tmp_path / "a.nii", voxels)), reading)[0].image()
    assert image.ravel()[::-1].tolist() == [0, 0, 32768, 65535, 65535]
    with pytest.raises(DataError, match="proposes no window"):
        slices_of(open_volume(tmp_path / "a.nii"), Reading(window="stored"))[0].image()


# --- DICOM ------------------------------------------------------------------------------------------------


def ct(count: int = 4):
    return [noise(6, 8, dtype=np.int16, seed=index) for index in range(count)]


def test_a_series_is_ordered_by_place(tmp_path):
    slices = ct()
    volume = open_volume(write_series(tmp_path / "s", slices))
    np.testing.assert_array_equal(volume.voxels(), np.stack(slices).transpose(2, 1, 0))
    assert volume.grid.spacing_mm == (0.75, 0.5, 2.0) and volume.grid.plane_spacing(2) == (0.5, 0.75)
    expected = np.array([[-0.75, 0, 0, 10], [0, -0.5, 0, 20], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    np.testing.assert_allclose(volume.grid.affine, expected)
    images = [each.image() for each in slices_of(volume, RAW)]
    np.testing.assert_array_equal(images, slices)


@pytest.mark.parametrize("turn", [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1], [-1, 0, 0, 0, -1, 0]])
def test_any_acquired_plane_becomes_a_segmentation_on_its_grid(tmp_path, turn):
    normal = np.cross(turn[:3], turn[3:])
    for index, pixels in enumerate(ct(5)):
        made = dicom_image(pixels, series="x", number=index + 1, position=3.0 * index * normal)
        made.ImageOrientationPatient = turn
        save_dicom(made, tmp_path / f"s/{index}.dcm")
    volume = open_volume(tmp_path / "s")
    labels = np.random.default_rng(0).integers(0, 3, volume.grid.shape, np.uint8)
    axis = volume.grid.axis("auto")
    assert volume.grid.plane_spacing(axis) in [(0.5, 0.75), (0.75, 0.5)]
    planes = [plane(volume.grid.canonical(labels), axis, index) for index in range(volume.grid.canonical_shape[axis])]
    rebuilt = volume.grid.rebuild(planes, axis)
    np.testing.assert_array_equal(rebuilt, labels)
    path = write_segmentation(tmp_path / "seg.dcm", labels, volume, ["a", "b"])
    np.testing.assert_array_equal(open_volume(path, volume).voxels(), labels)
    nifti = write_like(tmp_path / "a.nii.gz", labels, volume)
    assert difference(volume.grid, open_volume(nifti).grid) is None


def test_a_segmentation_refers_to_its_images_and_to_no_person(tmp_path):
    volume = open_volume(write_series(tmp_path / "s", ct()))
    labels = np.zeros(volume.grid.shape, np.uint8)
    path = write_segmentation(tmp_path / "empty.dcm", labels, volume, ["a"])
    assert not open_volume(path, volume).voxels().any()
    labels[2:4, 1:3, 1] = 1
    path = write_segmentation(tmp_path / "seg.dcm", labels, volume, ["lesion"])
    found = pydicom.dcmread(path)
    source = pydicom.dcmread(volume.files[1])
    assert found.StudyInstanceUID == source.StudyInstanceUID and found.Modality == "SEG"
    assert found.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert found.SegmentSequence[0].SegmentLabel == "lesion"
    assert NAME.encode() not in path.read_bytes() and IDENTITY.encode() not in path.read_bytes()
    kept = write_segmentation(tmp_path / "kept.dcm", labels, volume, ["lesion"], keep_identity=True)
    assert pydicom.dcmread(kept).PatientID == IDENTITY
    with pytest.raises(DataError, match="whose images are not here"):
        open_volume(path)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda s: s[1].__setattr__("SeriesInstanceUID", "1.2.3"), "holds 2 series"),
        (lambda s: s[1].__setattr__("ImagePositionPatient", [-10, -20, 5]), "slices 1 and 2 lie at the same place"),
        (lambda s: s.pop(2), "slices 2 and 3 are 4 mm apart, most others 2 mm"),
        (lambda s: s[1].__setattr__("PhotometricInterpretation", "MONOCHROME1"), "differ in PhotometricInterpretation"),
        (lambda s: s[1].__delattr__("ImagePositionPatient"), "only some of its slices have a position"),
        (lambda s: s[1].__setattr__("ImageOrientationPatient", [0, 1, 0, -1, 0, 0]), "turned against one another"),
        (lambda s: s[1].__setattr__("PixelSpacing", [0.5, 0.8]), "differ in their pixel size"),
        (lambda s: s[1].__setattr__("PixelSpacing", [0.6, 0.75]), "differ in their pixel size"),
    ],
)
def test_series_that_are_none(tmp_path, fault, told):
    series = [dicom_image(p, series="x", number=i, position=(-10, -20, 5 + 2 * i)) for i, p in enumerate(ct(6))]
    fault(series)
    for index, made in enumerate(series):
        save_dicom(made, tmp_path / f"s/{index}.dcm")
    assert told in refusal(tmp_path / "s")


def single(path, pixels, **changes):
    return save_dicom(dicom_image(pixels, series="x", number=1, position=(0, 0, 0), **changes), path)


def test_rescale_and_white_is_zero(tmp_path):
    pixels = np.array([[0, 10], [20, 4095]], np.uint16)
    path = single(tmp_path / "a.dcm", pixels, BitsStored=12, HighBit=11, RescaleSlope=2, RescaleIntercept=-1000)
    assert slices_of(open_volume(path), RAW)[0].image().tolist() == [[-1000, -980], [-960, 7190]]
    path = single(tmp_path / "b.dcm", pixels, BitsStored=12, HighBit=11, PhotometricInterpretation="MONOCHROME1")
    assert slices_of(open_volume(path), RAW)[0].image().tolist() == [[4095, 4085], [4075, 0]]
    path = single(tmp_path / "c.dcm", pixels, RescaleSlope=-10, BitsStored=12, HighBit=11)
    assert slices_of(open_volume(path), RAW)[0].image()[0].tolist() == [0, -100]


def test_white_is_zero_of_a_table(tmp_path):
    """What counts is what stands in the table: mirrored within the bits of its indices, it would wrap around."""
    pixels = np.array([[0, 1, 4095]], np.uint16)
    made = dicom_image(pixels, series="x", number=1, position=(0, 0, 0), BitsStored=12, HighBit=11)
    made.PhotometricInterpretation = "MONOCHROME1"
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "US"
    table.add_new("LUTData", "OW", (np.arange(4096, dtype="<u2") * 16).tobytes())
    made.ModalityLUTSequence = [table]
    path = save_dicom(made, tmp_path / "a.dcm")
    assert slices_of(open_volume(path), RAW)[0].image().tolist() == [[65535, 65519, 15]]


def test_pages_of_two_types_are_refused(tmp_path):
    """As one array, 8 bits would count as 16: nearly black."""
    first, second = (Image.fromarray(np.full((4, 5), 200, kind)) for kind in (np.uint8, np.uint16))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    with pytest.raises(DataError, match="differ in size, channels or type"):
        open_volume(tmp_path / "a.tif").voxels()


def test_the_window_of_the_file(tmp_path):
    pixels = np.array([[0, 100, 150, 200, 4000]], np.int16)
    path = single(tmp_path / "a.dcm", pixels, WindowCenter=[150, 7], WindowWidth=[100, 3])
    image = slices_of(open_volume(path), Reading(window="stored"))[0].image()
    assert image.tolist() == [[0, 0, 32768, 65535, 65535]]


def test_a_palette_becomes_its_colors(tmp_path):
    table = np.arange(256, dtype=np.uint16) * 257
    names = ("Red", "Green", "Blue")
    changes = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in names}
    changes |= {f"{name}PaletteColorLookupTableData": (table // (n + 1)).tobytes() for n, name in enumerate(names)}
    pixels = np.array([[0, 128, 255]], np.uint8)
    changes |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PhotometricInterpretation": "PALETTE COLOR"}
    image = slices_of(open_volume(single(tmp_path / "a.dcm", pixels, **changes)), Reading())[0].image()
    assert image.shape == (1, 3, 3) and image[0, 1].tolist() == [128, 64, 42]


def test_frames_of_one_file_are_slices(tmp_path):
    frames = np.stack([noise(4, 5, seed=index) for index in range(3)])
    bits = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    path = single(tmp_path / "a.dcm", frames[0], NumberOfFrames=3, PixelData=frames.tobytes(), **bits)
    volume = open_volume(path)
    assert [each.image().tolist() for each in slices_of(volume, Reading())] == frames.tolist()
    assert volume.grid.axis("auto") == 2 and volume.grid.plane_spacing(2) == (0.5, 0.75)


def group(**sequences):
    """A functional group: name of a sequence -> the fields of its one item."""
    made = Dataset()
    for name, fields in sequences.items():
        item = Dataset()
        for key, value in fields.items():
            setattr(item, key, value)
        setattr(made, name, Sequence([item]))
    return made


def enhanced(path, frames, per_frame, shared=None, **changes):
    """Several frames (n, h, w) in one file, with a functional group for each and one for all."""
    path = single(path, frames[0], NumberOfFrames=len(frames), PixelData=frames.tobytes(), **changes)
    made = pydicom.dcmread(path)
    for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept"):
        if key not in changes:
            delattr(made, key)
    made.SharedFunctionalGroupsSequence = Sequence([shared or Dataset()])
    made.PerFrameFunctionalGroupsSequence = Sequence(per_frame)
    return save_dicom(made, path)


MEASURES = {"PixelSpacing": [0.5, 0.75], "SpacingBetweenSlices": 3}
TURN = {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}


def in_place(at, **more):
    return group(PlanePositionSequence={"ImagePositionPatient": [-3.0 * at, 0, 0]}, **more)


@pytest.mark.parametrize("lines", [[(2, -1000)] * 3, [(1, -1024), (0.5, 0), (4, 7)]], ids=["shared", "per frame"])
@pytest.mark.parametrize("sequence", ["PixelValueTransformationSequence", "RealWorldValueMappingSequence"])
def test_functional_groups_scale_and_place_frames(tmp_path, lines, sequence):
    frames = np.stack(ct(3)).astype(np.uint16)
    keys = ("RescaleSlope", "RescaleIntercept") if "Pixel" in sequence else RWV
    made = [{sequence: dict(zip(keys, line, strict=True))} for line in lines]
    same = lines[0] == lines[1]
    shared = group(PixelMeasuresSequence=MEASURES, PlaneOrientationSequence=TURN, **(made[0] if same else {}))
    groups = [in_place(at, **({} if same else made[at])) for at in range(3)]
    volume = open_volume(enhanced(tmp_path / "a.dcm", frames, groups, shared))
    expected = [
        frame.astype(float) * slope + intercept for frame, (slope, intercept) in zip(frames, lines, strict=True)
    ]
    # The frames are cut across the patient's left-right axis: the normal runs to the right of the patient.
    np.testing.assert_array_equal(volume.voxels(), np.stack(expected).transpose(2, 1, 0))
    assert volume.grid.spacing_mm == (0.75, 0.5, 3.0) and volume.grid.axis("sagittal") == 0
    np.testing.assert_allclose(np.abs(volume.grid.affine[:3, 2]), [3, 0, 0])


RWV = ("RealWorldValueSlope", "RealWorldValueIntercept")


def test_a_slope_of_the_frame_goes_before_one_of_the_file(tmp_path):
    frames = np.stack(ct(2)).astype(np.uint16)
    lines = [{"RescaleSlope": 2, "RescaleIntercept": 0}, {"RescaleSlope": 3, "RescaleIntercept": 1}]
    groups = [in_place(at, PixelValueTransformationSequence=lines[at]) for at in range(2)]
    shared = group(PixelMeasuresSequence=MEASURES, PlaneOrientationSequence=TURN)
    path = enhanced(tmp_path / "a.dcm", frames, groups, shared, RescaleSlope=1, RescaleIntercept=-1024)
    np.testing.assert_array_equal(
        open_volume(path).voxels().T, [frames[0].astype(int) * 2, frames[1].astype(int) * 3 + 1]
    )


def test_one_of_slope_and_intercept_is_enough(tmp_path):
    pixels = ct()[0]
    made = dicom_image(pixels, series="x", number=1, position=(0, 0, 0), RescaleSlope=3)
    del made.RescaleIntercept
    np.testing.assert_array_equal(
        open_volume(save_dicom(made, tmp_path / "a.dcm")).voxels()[..., 0].T, pixels.astype(int) * 3
    )
    assert "rescales its values by 0" in refusal(single(tmp_path / "b.dcm", pixels, RescaleSlope=0))


def test_real_world_values_beside_a_slope_are_another_unit(tmp_path):
    pixels = ct()[0]
    item = group(RealWorldValueMappingSequence=dict(zip(RWV, (0.001, 5), strict=True))).RealWorldValueMappingSequence
    path = single(tmp_path / "a.dcm", pixels, RescaleSlope=2, RealWorldValueMappingSequence=item)
    np.testing.assert_array_equal(open_volume(path).voxels()[..., 0].T, pixels.astype(int) * 2)
    made = dicom_image(
        pixels, series="x", number=1, position=(0, 0, 0), RealWorldValueMappingSequence=Sequence([item[0], item[0]])
    )
    del made.RescaleSlope, made.RescaleIntercept
    np.testing.assert_allclose(open_volume(save_dicom(made, tmp_path / "b.dcm")).voxels()[..., 0].T, pixels * 0.001 + 5)
    made.RealWorldValueMappingSequence = Sequence([item[0], Dataset()])
    assert "by a table, or in several ways" in refusal(save_dicom(made, tmp_path / "c.dcm"))


def region(delta_x=0.05, delta_y=0.02, units=3, kind=1):
    made = Dataset()
    made.RegionSpatialFormat, made.RegionDataType, made.RegionFlags = kind, 1, 0
    made.RegionLocationMinX0 = made.RegionLocationMinY0 = 0
    made.RegionLocationMaxX1 = made.RegionLocationMaxY1 = 5
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = units
    made.PhysicalDeltaX, made.PhysicalDeltaY = delta_x, delta_y
    return made


@pytest.mark.parametrize(
    ("regions", "size"),
    [
        ([region()], (0.2, 0.5)),
        ([region(), region(-0.05)], (0.2, 0.5)),
        ([region(), region(1, 1, kind=5)], (0.2, 0.5)),
        ([region(), region(0.07)], None),
        ([region(), region(kind=2)], None),
        ([region(units=4)], None),
        ([region(0)], None),
        ([], None),
    ],
    ids=["one", "negative", "drawn", "two sizes", "m-mode", "seconds", "zero", "none"],
)
def test_regions_of_ultrasound_give_the_pixel_size(tmp_path, regions, size):
    made = dicom_image(ct()[0], series="x", number=1, position=(0, 0, 0))
    del made.PixelSpacing, made.ImagePositionPatient
    made.SequenceOfUltrasoundRegions = Sequence(regions)
    found = open_volume(save_dicom(made, tmp_path / "a.dcm")).grid.plane_spacing(2)
    assert found == (None if size is None else pytest.approx(size))


@pytest.mark.parametrize(
    ("stated", "size"), [([0.2, 0.5], (0.2, 0.5)), ([0.2001, 0.5], (0.2001, 0.5)), ([0.3, 0.3], None)]
)
def test_regions_of_ultrasound_that_contradict_the_pixel_spacing(tmp_path, stated, size):
    made = dicom_image(ct()[0], series="x", number=1, position=(0, 0, 0))
    del made.ImagePositionPatient
    made.PixelSpacing = stated
    made.SequenceOfUltrasoundRegions = Sequence([region()])
    found = open_volume(save_dicom(made, tmp_path / "a.dcm")).grid.plane_spacing(2)
    assert found == (None if size is None else pytest.approx(size))


def test_a_window_is_taken_where_it_is_one_for_all(tmp_path):
    frames, window = np.stack(ct(2)).astype(np.uint16), {"WindowCenter": 40, "WindowWidth": 400}
    shared = group(PixelMeasuresSequence=MEASURES, PlaneOrientationSequence=TURN, FrameVOILUTSequence=window)
    assert open_volume(enhanced(tmp_path / "a.dcm", frames, [in_place(0), in_place(1)], shared)).window == (40, 400)
    groups = [in_place(0), in_place(1, FrameVOILUTSequence={"WindowCenter": 50, "WindowWidth": 400})]
    assert open_volume(enhanced(tmp_path / "b.dcm", frames, groups, shared)).window is None
    curved = single(tmp_path / "c.dcm", ct()[0], WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID")
    assert open_volume(curved).window is None
    with pytest.raises(DataError, match="not one straight line"):
        slices_of(open_volume(curved), Reading(window="stored"))[0].image()


@pytest.mark.parametrize(
    ("syntax", "package"),
    [
        ("1.2.840.10008.1.2.4.70", "pylibjpeg-libjpeg"),
        ("1.2.840.10008.1.2.4.201", "pylibjpeg-openjpeg"),
        ("1.2.840.10008.1.2.4.102", "no package"),
    ],
)
def test_a_syntax_without_a_decoder_names_one(tmp_path, syntax, package):
    made = dicom_image(ct()[0], series="x", number=1, position=(0, 0, 0))
    made.file_meta.TransferSyntaxUID = syntax
    made.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8" + bytes(40)])
    made["PixelData"].is_undefined_length = True
    told = refusal(save_dicom(made, tmp_path / "a.dcm"))
    assert package in told and "no installed decoder reads" in told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"Rows": 0}, "declares 0×8×1 pixels"),
        ({"Rows": 65535, "Columns": 65535}, "declares 65535×65535"),
        ({"PixelData": b"\0" * 10}, "damaged or cut off"),
        ({"PixelData": None}, ""),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4"}, "segmentation"),
    ],
)
def test_dicom_that_cannot_be_read(tmp_path, change, told):
    assert told in refusal(single(tmp_path / "a.dcm", ct()[0], **change))


def test_no_value_of_a_file_is_cited(tmp_path, capfd):
    path = single(tmp_path / "a.dcm", ct()[0], PixelData=b"\0" * 10)
    content = path.read_bytes()
    for length in np.linspace(140, len(content) - 11, 15).astype(int):
        path.write_bytes(content[:length])
        told = refusal(path)
        assert NAME not in told and IDENTITY not in told
    assert capfd.readouterr() == ("", "")


def test_a_deflated_bomb_is_refused(tmp_path, monkeypatch):
    from pocketseg import memory

    made = dicom_image(np.zeros((2000, 2000), np.int16), series="x", number=1, position=(0, 0, 0))
    made.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    path = save_dicom(made, tmp_path / "a.dcm")
    assert open_volume(path).voxels().shape == (2000, 2000, 1)
    monkeypatch.setattr(memory, "max_decoded", lambda _: 2_000_000)
    assert "unpacks to more than 1,000,000 bytes" in refusal(path)


def frames_in_disorder(path, **changes):
    """An enhanced file of six frames stored in another order than they lie."""
    shared = group(PixelMeasuresSequence=MEASURES, PlaneOrientationSequence=TURN)
    fields = {"SOPClassUID": ENHANCED, "StudyDate": "", "StudyTime": "", "AccessionNumber": "", "StudyID": ""}
    fields |= {"ReferringPhysicianName": "", "PatientBirthDate": "", "PatientSex": "", "Manufacturer": "x"}
    places = [in_place(at) for at in (3, 0, 5, 1, 4, 2)]
    return enhanced(path, np.stack(ct(6)).astype(np.uint16), places, shared, **(fields | changes))


ENHANCED = "1.2.840.10008.5.1.4.1.1.2.1"


def test_frames_are_segmented_in_their_own_order(tmp_path):
    """The file states no thickness of slices, which a segmentation must."""
    volume = open_volume(frames_in_disorder(tmp_path / "a.dcm"))
    assert volume.frames == (1, 3, 5, 0, 4, 2)
    labels = np.random.default_rng(0).integers(0, 3, volume.grid.shape, np.uint8)
    path = write_segmentation(tmp_path / "seg.dcm", labels, volume, ["a", "b"])
    np.testing.assert_array_equal(open_volume(path, volume).voxels(), labels)
    swapped = open_volume(path, volume).valued({"b": 1, "a": 2}).voxels()
    np.testing.assert_array_equal(swapped, np.array([0, 2, 1])[labels])


def test_a_folder_with_one_file_of_frames(tmp_path):
    frames_in_disorder(tmp_path / "s/a.dcm")
    assert open_volume(tmp_path / "s").grid.shape == (8, 6, 6)
    frames_in_disorder(tmp_path / "s/b.dcm")
    assert "some have several frames" in refusal(tmp_path / "s")
    # Each is a volume of its own for whoever looks for series.
    assert series_in(sorted((tmp_path / "s").iterdir())).keys() == {str(tmp_path / f"s/{name}.dcm") for name in "ab"}


def test_moments_in_one_file_are_not_slices(tmp_path):
    shared = group(PixelMeasuresSequence=MEASURES, PlaneOrientationSequence=TURN)
    path = enhanced(
        tmp_path / "a.dcm", np.stack(ct(4)).astype(np.uint16), [in_place(at % 2) for at in range(4)], shared
    )
    assert "split the file by its moments" in refusal(path)


def test_segments_are_classes_by_name(tmp_path):
    """Whatever their numbers, and where they overlap."""
    volume = open_volume(write_series(tmp_path / "images/s", ct()))
    labels = np.zeros(volume.grid.shape, np.uint8)
    labels[1:4, 1:4, 1], labels[2:6, 2:5, 2] = 1, 2
    (tmp_path / "masks").mkdir()
    write_segmentation(tmp_path / "masks/s.dcm", labels, volume, ["tumor", "liver"])

    def read(*names, **more):
        cases = Cases.open(tmp_path, names=names, coding=MaskCoding(classes=len(names), **more))
        return np.stack([cases.mask(case).T for case in cases], -1)

    np.testing.assert_array_equal(read("tumor", "liver"), labels)
    np.testing.assert_array_equal(read("liver", "tumor"), np.array([0, 2, 1])[labels])
    np.testing.assert_array_equal(read("liver"), labels == 2)
    np.testing.assert_array_equal(read("one", "two", values=(1, 2)), labels)
    with pytest.raises(DataError, match=r"liver \(in 1 image\), tumor"):
        read("one", "two", "three")


def test_a_file_without_a_suffix_is_known_by_its_mark(tmp_path):
    path = single(tmp_path / "IM0001", ct()[0])
    assert is_volume(path) and not is_volume(write_image(tmp_path / "b.png", noise()))
    (tmp_path / "README").write_text("no image")
    assert not is_volume(tmp_path / "README")


# --- TIFF -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pages_are_slices(tmp_path, dtype):
    pages = np.stack([noise(4, 5, dtype=dtype, seed=index) for index in range(3)])
    volume = open_volume(write_pages(tmp_path / "a.tif", pages))
    slices = slices_of(volume, Reading())
    np.testing.assert_array_equal([each.image() for each in slices], pages)
    made = write_stack(tmp_path / "b.tif", volume.grid.rebuild([each.image() for each in slices], 2))
    np.testing.assert_array_equal(open_volume(made).voxels(), volume.voxels())


def test_a_torn_stack(tmp_path):
    content = write_pages(tmp_path / "a.tif", np.stack([noise(40, 50, seed=index) for index in range(3)])).read_bytes()
    torn = tmp_path / "b.tif"
    torn.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"b\.tif"):
        open_volume(torn).voxels()


# --- grids ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: a, None),
        (lambda a: a @ np.diag([1.01, 1, 1, 1]), "has voxels of"),
        (lambda a: a + np.array([[0, 0, 0, 0.5]] + [[0] * 4] * 3), "begins at"),
        (lambda a: a @ np.array([[1, 0.01, 0, 0], [-0.01, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "turned against"),
    ],
)
def test_differences_of_grids_are_reported(tmp_path, change, told):
    voxels, affine = anatomy()
    image = open_volume(write_nifti(tmp_path / "a.nii", voxels, affine))
    other = open_volume(write_nifti(tmp_path / "b.nii", *[voxels, change(affine)]))
    found = difference(image.grid, other.grid)
    assert (found is None) if told is None else (found is not None and told in found)


def test_a_mask_may_be_stored_in_another_order(tmp_path):
    image = open_volume(write_nifti(tmp_path / "a.nii", *anatomy()))
    turned = open_volume(write_nifti(tmp_path / "b.nii", *stored((2, 0, 1), (-1, 1, -1))))
    assert difference(image.grid, turned.grid) is None
    assert ball(SHAPE).any()


def with_header(path: Path, **fields: object) -> Path:
    """A small NIfTI file with fields of its header as they are given."""
    write_nifti(path, np.arange(60, dtype=np.int16).reshape(3, 4, 5))
    content = bytearray(path.read_bytes())
    header = np.frombuffer(bytes(content[:348]), nibabel.nifti1.header_dtype).copy()
    for key, value in fields.items():
        header[0][key] = value
    path.write_bytes(header.tobytes() + bytes(content[348:]))
    return path


@pytest.mark.row("D13", "D15")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"vox_offset": 1e30}, "more than the file can hold"),
        ({"vox_offset": np.nan}, "more than the file can hold"),
        ({"vox_offset": -400}, ""),
        ({"scl_slope": 1, "scl_inter": np.inf}, "not finite"),
        ({"dim": [0, 3, 4, 5, 1, 1, 1, 1]}, "declares 0 dimensions"),
        ({"dim": [-5, 3, 4, 5, 1, 1, 1, 1]}, ""),
        ({"dim": [3, 30_000, 30_000, 30_000, 1, 1, 1, 1]}, "more than the file can hold"),
    ],
)
def test_headers_that_lie(tmp_path, fields, words):
    assert words in refusal(with_header(tmp_path / "a.nii", **fields))


def test_scaled_voxels_are_those_of_nibabel(tmp_path):
    for number, (slope, inter) in enumerate(((2, 0), (-0.1, 3), (1, 0), (0, 5), (1e-3, 1e6), (3e37, 0))):
        path = with_header(tmp_path / f"{number}.nii", scl_slope=slope, scl_inter=inter)
        wanted = read_nifti(path)
        found = open_volume(path).voxels()
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(found, wanted.astype(np.float32) if wanted.dtype.kind == "f" else wanted)
        assert found.dtype == (np.float32 if slope not in (0, 1) else np.int16)


@pytest.mark.parametrize("shape", [(6, 1, 1), (1, 6, 1), (1, 1, 6), (1, 1, 1), (2, 1, 3)])
def test_scaled_voxels_of_any_shape(tmp_path, shape):
    write_nifti(tmp_path / "a.nii", np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([2, 1], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "b.nii").write_bytes(content)
    found = open_volume(tmp_path / "b.nii").voxels()
    np.testing.assert_array_equal(found, 2 * np.arange(np.prod(shape)).reshape(shape) + 1)


def test_extensions_are_passed_over(tmp_path):
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    plain = write_nifti(tmp_path / "plain.nii.gz", np.asanyarray(image.dataobj))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"long " * 1000))
    nibabel.save(image, tmp_path / "long.nii.gz")
    volume = open_volume(tmp_path / "long.nii.gz")
    np.testing.assert_array_equal(volume.voxels(), open_volume(plain).voxels())
    write_like(tmp_path / "mask.nii", np.ones((3, 4, 5), np.uint8), volume)
    assert (tmp_path / "mask.nii").stat().st_size == 352 + 60


@pytest.mark.row("S07")
@pytest.mark.whole
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_taken_without_a_copy_of_its_volume(axis):
    """However the volume is turned; what is changed in the slice does not change the volume."""
    stored = np.arange(60 * 50 * 40, dtype=np.float64).reshape(40, 50, 60)
    turned = stored.swapaxes(0, 2)[::-1, :, ::-1]
    tracemalloc.start()
    try:
        found = plane(turned, axis, 7)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * found.nbytes + 2**14 < stored.nbytes / 4
    assert np.array_equal(found, turned.take(7, axis)[::-1, ::-1].T)
    before = stored.sum()
    found += 1
    assert stored.sum() == before


def test_slices_of_large_volumes_are_scaled_one_by_one(tmp_path):
    """A volume lies in the memory once, in its own type."""
    path = write_nifti(tmp_path / "a.nii", np.zeros((256, 256, 160), np.uint8))
    slices = slices_of(open_volume(path), Reading())
    tracemalloc.start()
    assert slices[0].image().dtype == np.uint16
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 2**20  # a million samples of the range; the volume scaled would be 60 more


@pytest.mark.row("A14")
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.dcm", "a.tif", "a.npy", "a.npz"])
def test_pipes_and_devices_are_no_data(tmp_path, name):
    os.mkfifo(tmp_path / name)
    (tmp_path / f"zero-{name}").symlink_to("/dev/zero")
    read = {"a.npy": lambda path: open_array(path, None), "a.npz": array_names}.get(name, open_volume)
    for path in (tmp_path / name, tmp_path / f"zero-{name}"):
        with pytest.raises(DataError, match="pipe or a device"):
            read(path)
