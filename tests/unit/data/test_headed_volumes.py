"""NRRD and MetaImage: the same anatomy as NIfTI, and refusals before memory is taken."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib
from itertools import permutations, product

import numpy as np
import pytest

from helpers.headed_files import meta_head, nrrd_head, segments, write_meta, write_nrrd
from helpers.volume_files import write_nifti
from pocketseg.data import Cases, MaskCoding
from pocketseg.data.volumes import difference, open_volume, slices_of, write_metaimage
from pocketseg.data.volumes import write_nrrd as write_back
from pocketseg.errors import DataError
from pocketseg.pipeline.reading import Reading

SHAPE = (5, 6, 4)
VOXELS = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) - 40
AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2.0, 5], [0, 0, 0, 1]])
RAW = Reading(raw=True)
ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


def turned(order, signs):
    affine = np.eye(4)
    affine[:3, :3] = (np.diag(signs) @ np.diag([0.5, 0.75, 2.0]))[list(order)]
    affine[:3, 3] = 3, -4, 5.5
    return affine


def write(path, voxels, affine=None, **options):
    return (write_nrrd if path.suffix in (".nrrd", ".nhdr") else write_meta)(path, voxels, affine, **options)


def refusal(path, *more) -> str:
    with pytest.raises(DataError) as caught:
        slices_of(open_volume(path, *more), RAW)[0].mask(gray=False)
    assert str(path.parent) in str(caught.value) and " → " in str(caught.value)
    return str(caught.value)


# --- the same as NIfTI ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS, ids=str)
def test_every_orientation_is_that_of_nifti_and_goes_back(tmp_path, ending, order, signs):
    affine = turned(order, signs)
    found = open_volume(write(tmp_path / f"a.{ending}", VOXELS, affine))
    same = open_volume(write_nifti(tmp_path / "a.nii", VOXELS, affine))
    assert difference(same.grid, found.grid) is None and found.grid.flips == same.grid.flips
    np.testing.assert_allclose(found.grid.affine, affine, atol=1e-12)
    for axis in ("axial", "coronal", "sagittal"):
        reading = Reading(axis=axis)
        pairs = zip(slices_of(found, reading), slices_of(same, reading), strict=True)
        assert all((one.image() == other.image()).all() for one, other in pairs)
    labels = (VOXELS % 3).astype(np.uint8)
    made = (write_back if ending == "nrrd" else write_metaimage)(tmp_path / f"b.{ending}", labels, found.grid)
    again = open_volume(made)
    assert difference(found.grid, again.grid) is None
    np.testing.assert_array_equal(again.voxels(), labels)


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "left-anterior-superior"])
def test_every_space_of_a_patient_is_the_same_place(tmp_path, space):
    found = open_volume(write_nrrd(tmp_path / "a.nrrd", VOXELS, AFFINE, space=space))
    np.testing.assert_allclose(found.grid.affine, AFFINE)


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "text"])
@pytest.mark.parametrize("kind", ["u1", "<i2", ">i2", ">f4", "<f8", "<i4"])
def test_encodings_and_types_of_nrrd(tmp_path, encoding, kind):
    voxels = (VOXELS + 40).astype(kind)
    found = open_volume(write_nrrd(tmp_path / "a.nrrd", voxels, AFFINE, encoding=encoding)).voxels()
    assert found.dtype.isnative and found.dtype.itemsize <= 4
    np.testing.assert_array_equal(found, voxels)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "<i2", ">i2", ">f4", "<f8"])
def test_encodings_and_types_of_metaimage(tmp_path, packed, kind):
    voxels = (VOXELS + 40).astype(kind)
    found = open_volume(write_meta(tmp_path / "a.mha", voxels, AFFINE, packed=packed)).voxels()
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, voxels)


def detached(folder, name="a.raw", content=None, **fields):
    content = VOXELS.tobytes(order="F") if content is None else content
    (folder / "a.raw").write_bytes(content)
    (folder / "a.nhdr").write_text(nrrd_head(VOXELS, AFFINE, encoding="raw", data_file=name, **fields))
    (folder / "a.mhd").write_text(
        meta_head(VOXELS, AFFINE, file=name, **{k: v for k, v in fields.items() if k == "HeaderSize"})
    )
    return folder / "a.nhdr", folder / "a.mhd"


def test_voxels_in_a_file_beside_their_header(tmp_path):
    for path in detached(tmp_path):
        volume = open_volume(path)
        np.testing.assert_array_equal(volume.voxels(), VOXELS)
        assert volume.files == (path, tmp_path / "a.raw")
    content = VOXELS.tobytes(order="F")
    (tmp_path / "b.zraw").write_bytes(zlib.compress(content))
    (tmp_path / "b.mhd").write_text(meta_head(VOXELS, AFFINE, file="b.zraw", CompressedData="True"))
    (tmp_path / "b.raw.gz").write_bytes(gzip.compress(b"head" + content))
    (tmp_path / "b.nhdr").write_text(nrrd_head(VOXELS, AFFINE, byte_skip="4", data_file="b.raw.gz"))
    for name in ("b.mhd", "b.nhdr"):
        np.testing.assert_array_equal(open_volume(tmp_path / name).voxels(), VOXELS)


def test_what_stands_before_the_voxels_is_skipped(tmp_path):
    content = b"one line\nand another\n" + VOXELS.tobytes(order="F")
    for path in detached(tmp_path, content=content, byte_skip="-1", HeaderSize="-1"):
        np.testing.assert_array_equal(open_volume(path).voxels(), VOXELS)
    path, _ = detached(tmp_path, content=content, line_skip="2")
    np.testing.assert_array_equal(open_volume(path).voxels(), VOXELS)
    _, path = detached(tmp_path, content=content, HeaderSize="21")
    np.testing.assert_array_equal(open_volume(path).voxels(), VOXELS)


@pytest.mark.parametrize(
    "name", ["../a.raw", "/etc/passwd", "C:\\a.raw", "..\\a.raw", "sub/../../a.raw", "\\\\host\\a"]
)
def test_a_header_leads_nowhere_outside_of_its_folder(tmp_path, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes(order="F"))
    for path in detached(tmp_path / "in", name):
        assert "not a file in its folder" in refusal(path)


@pytest.mark.parametrize(("unit", "size"), [("mm", 1), ("um", 1e-3), ("m", 1e3), ("cm", 10)])
def test_units_become_millimeters(tmp_path, unit, size):
    units = " ".join([f'"{unit}"'] * 3)
    found = open_volume(write_nrrd(tmp_path / "a.nrrd", VOXELS, AFFINE, space_units=units)).grid
    np.testing.assert_allclose(found.affine[:3], AFFINE[:3] * size)
    np.testing.assert_allclose(found.spacing_mm, np.array([0.5, 0.75, 2]) * size)
    plain = write_nrrd(tmp_path / "b.nrrd", VOXELS, spacings="0.5 0.75 2", units=units)
    np.testing.assert_allclose(open_volume(plain).grid.spacing_mm, np.array([0.5, 0.75, 2]) * size)


def test_without_a_place_slices_are_the_stored_ones(tmp_path):
    pixels = VOXELS[:, :, 0]
    for path in (
        write_nrrd(tmp_path / "a.nrrd", pixels, spacings="0.5 0.75"),
        write_nrrd(tmp_path / "b.nrrd", pixels, space_dimension="2", space_directions="(0.5,0) (0,0.75)"),
        write_meta(tmp_path / "a.mha", pixels, ElementSpacing="0.5 0.75"),
        write_nrrd(tmp_path / "c.nrrd", VOXELS[:, :, :1], spacings="0.5 0.75 nan"),
    ):
        volume = open_volume(path)
        assert volume.grid.affine is None and volume.grid.plane_spacing(2) == (0.75, 0.5)
        np.testing.assert_array_equal(slices_of(volume, RAW)[0].image(), pixels.T)
    assert open_volume(write_nrrd(tmp_path / "d.nrrd", pixels)).grid.spacing_mm is None


@pytest.mark.parametrize("count", [2, 3])
def test_lists_are_channels_and_colors_are_colors(tmp_path, count):
    several = np.stack([VOXELS * at for at in range(1, count + 1)])
    directions = nrrd_head(VOXELS, AFFINE).split("space directions: ")[1].split("\n")[0]
    fields = {"space": "left-posterior-superior", "space origin": "(-10,-20,5)", "dimension": "4"}
    options = {"space_directions": f"none {directions}", "kinds": "list domain domain domain"}
    path = write_nrrd(tmp_path / "a.nrrd", several, **fields, **options)
    volume = open_volume(path)
    assert volume.contrasts == count and volume.grid.shape == SHAPE
    np.testing.assert_array_equal(volume.voxels(), np.moveaxis(several, 0, -1))
    np.testing.assert_allclose(volume.grid.affine, AFFINE)
    path = write_meta(tmp_path / "a.mha", several, ElementNumberOfChannels=str(count), NDims="3", DimSize="5 6 4")
    np.testing.assert_array_equal(open_volume(path).voxels(), np.moveaxis(several, 0, -1))
    color = (several % 250).astype(np.uint8)
    kinds = {2: "2-vector", 3: "RGB-color"}[count]
    path = write_nrrd(tmp_path / "c.nrrd", color, **fields, **(options | {"kinds": f"{kinds} domain domain domain"}))
    assert open_volume(path).contrasts == (0 if count == 3 else 2)
    assert slices_of(open_volume(path), RAW)[0].image().shape == (6, 5, count)
    options["kinds"] = "vector domain domain domain"  # as ITK writes colors
    assert open_volume(write_nrrd(tmp_path / "v.nrrd", color, **fields, **options)).colors == (
        count if count > 2 else 0
    )
    options["kinds"] = "time domain domain domain"
    assert "kind 'time'" in refusal(write_nrrd(tmp_path / "t.nrrd", several, **fields, **options))


def test_a_fourth_dimension_of_metaimage(tmp_path):
    several = np.stack([VOXELS, VOXELS * 2], -1)
    volume = open_volume(write_meta(tmp_path / "a.mha", several, ElementSpacing="1 1 3 1"))
    assert volume.contrasts == 2
    np.testing.assert_array_equal(volume.voxels(), several)
    long = np.stack([VOXELS] * 17, -1)
    assert "series of 17" in refusal(write_meta(tmp_path / "b.mha", long))


def test_they_need_no_package_for_medical_images(tmp_path, monkeypatch):
    for name in ("nibabel", "pydicom", "highdicom"):
        monkeypatch.setitem(sys.modules, name, None)
    for path in (write_nrrd(tmp_path / "a.nrrd", VOXELS, AFFINE), write_meta(tmp_path / "a.mha", VOXELS, AFFINE)):
        np.testing.assert_array_equal(open_volume(path).voxels(), VOXELS)


# --- segments ---------------------------------------------------------------------------------------------

LIVER, TUMOR = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
LIVER[1:4, 1:5, 1:3], TUMOR[2:5, 2:4, 2:4] = 1, 1


def read(root, *names):
    cases = Cases.open(root, names=names, coding=MaskCoding(classes=len(names)))
    # The stored voxels run to the left and to the back, so that a slice is seen as it is stored.
    return cases, np.stack([cases.mask(case).T for case in cases], -1)


def data(folder, voxels, found, name="v.seg.nrrd", affine=AFFINE, **fields):
    write_nrrd(folder / "images/v.nrrd", VOXELS, AFFINE)
    write_nrrd(folder / f"masks/{name}", voxels, affine, texts=segments(*found), **fields)
    return folder


def as_list(*layers):
    """Layers, and the fields that say so."""
    directions = nrrd_head(VOXELS, AFFINE).split("space directions: ")[1].split("\n")[0]
    fields = {"space": "left-posterior-superior", "space_origin": "(-10,-20,5)", "kinds": "list domain domain domain"}
    return np.stack(layers), fields | {"space_directions": f"none {directions}"}


def test_segments_are_classes_by_name_whatever_their_labels(tmp_path):
    labels = np.where(TUMOR > 0, 4, LIVER * 7).astype(np.uint8)
    root = data(tmp_path, labels, [("tumor", 4, 0), ("liver", 7, 0)])
    _, whole = read(root, "liver", "tumor")
    np.testing.assert_array_equal(whole, np.where(TUMOR > 0, 2, LIVER))
    _, whole = read(root, "tumor", "liver")
    np.testing.assert_array_equal(whole, np.where(TUMOR > 0, 1, LIVER * 2))
    # Of segments of which each is named, others are background; and stored labels can be named instead.
    _, whole = read(root, "liver")
    np.testing.assert_array_equal(whole, LIVER * (TUMOR == 0))
    cases = Cases.open(root, names=("a", "b"), coding=MaskCoding(classes=2, values=(7, 4)))
    assert set(np.unique([cases.mask(case) for case in cases])) == {0, 1, 2}
    np.testing.assert_array_equal(cases.mask(cases[2]), np.where(TUMOR > 0, 2, LIVER)[:, :, 2].T)


def test_segments_in_layers_may_overlap(tmp_path):
    voxels, fields = as_list(LIVER, TUMOR)
    root = data(tmp_path, voxels, [("liver", 1, 0), ("tumor", 1, 1)], affine=None, **fields)
    cases, whole = read(root, "liver", "tumor")
    np.testing.assert_array_equal(whole, np.where(TUMOR > 0, 2, LIVER))
    shared = np.count_nonzero(LIVER & TUMOR)
    assert shared and f"{shared} voxels of one class are covered" in str([each.what for each in cases.check().findings])
    _, whole = read(root, "tumor", "liver")
    np.testing.assert_array_equal(whole, np.where(LIVER > 0, 2, TUMOR))


def test_segments_that_are_no_classes_are_named(tmp_path):
    root = data(tmp_path, LIVER + TUMOR * (LIVER == 0) * 2, [("liver", 1, 0), ("Tumor\\nII", 2, 0)])
    with pytest.raises(DataError, match=r"Tumor.nII \(in 1 image\).*data\.classes=\[") as caught:
        Cases.open(root)
    assert "liver" in str(caught.value) and "v.seg.nrrd" in str(caught.value)
    with pytest.raises(DataError, match="did you mean liver"):
        Cases.open(root, names=("livr", "x"), coding=MaskCoding(classes=2))


def test_a_single_segment_is_the_single_class(tmp_path):
    _, whole = read(data(tmp_path, LIVER * 3, [("Segment_1", 3, 0)]), "foreground")
    np.testing.assert_array_equal(whole, LIVER)


def test_a_segmentation_of_a_part_of_its_image(tmp_path):
    """3D Slicer may save the extent of the segments alone."""
    part = LIVER[1:4, 1:5, 1:3]
    moved = AFFINE.copy()
    moved[:3, 3] = (AFFINE @ [1, 1, 1, 1])[:3]
    root = data(tmp_path / "a", part, [("liver", 1, 0)], affine=moved)
    _, whole = read(root, "liver")
    np.testing.assert_array_equal(whole, LIVER)
    # The same part stored in another order; one that reaches out; one that lies between voxels.
    other = moved @ np.array([[-1, 0, 0, 2], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    _, whole = read(data(tmp_path / "b", part[::-1], [("liver", 1, 0)], affine=other), "liver")
    np.testing.assert_array_equal(whole, LIVER)
    moved[:3, 3] = (AFFINE @ [4, 1, 1, 1])[:3]
    cases, problems = Cases.found(data(tmp_path / "c", part, [("liver", 1, 0)], affine=moved))
    assert not problems
    with pytest.raises(DataError, match="reaches out of its image"):
        cases.mask(cases[1])
    moved[:3, 3] = (AFFINE @ [1.4, 1, 1, 1])[:3]
    with pytest.raises(DataError, match=r"is 3×4×2 voxels, its image 5×6×4"):
        Cases.open(data(tmp_path / "d", part, [("liver", 1, 0)], affine=moved))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ([("liver", 1, 0)], "holds the labels 2"),
        ([("liver", 1, 0), ("tumor", 1, 0)], "gives the segments liver, tumor one label"),
        ([("liver", 1, 0), ("tumor", 2, 1)], "has no layer for its segments tumor"),
        ([("liver", "x", 0)], "Segment0_LabelValue"),
    ],
)
def test_segments_that_do_not_fit_their_labels(tmp_path, found, told):
    path = write_nrrd(tmp_path / "v.seg.nrrd", LIVER + TUMOR, AFFINE, texts=segments(*found))
    assert told in refusal(path)


def test_what_is_written_has_its_classes_as_segments(tmp_path):
    image = open_volume(write_nrrd(tmp_path / "images/v.nrrd", VOXELS, AFFINE))
    labels = np.where(TUMOR > 0, 2, LIVER).astype(np.uint8)
    names = ["liver", "über\\tumor\nII"]
    write_back(tmp_path / "masks/v.seg.nrrd", labels, image.grid, names)
    _, whole = read(tmp_path, *names)
    np.testing.assert_array_equal(whole, labels)
    _, whole = read(tmp_path, *names[::-1])
    np.testing.assert_array_equal(whole, np.array([0, 2, 1])[labels])
    assert "is a segmentation, not an image" in refusal_of_image(tmp_path / "masks/v.seg.nrrd")


def refusal_of_image(path) -> str:
    with pytest.raises(DataError) as caught:
        slices_of(open_volume(path), RAW)[0].image()
    return str(caught.value)


def test_slicer_saves_both_in_one_folder(tmp_path):
    write_nrrd(tmp_path / "v.nrrd", VOXELS, AFFINE)
    write_nrrd(tmp_path / "v.seg.nrrd", LIVER, AFFINE, texts=segments(("liver", 1, 0)))
    cases, whole = read(tmp_path, "liver")
    assert cases.layout == "suffix" and cases[0].name == "v#000"
    np.testing.assert_array_equal(whole, LIVER)


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "text"])
def test_an_nrrd_cut_anywhere_is_refused(tmp_path, encoding):
    path = write_nrrd(tmp_path / "a.nrrd", VOXELS, AFFINE, encoding=encoding)
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 3, 25).astype(int):
        path.write_bytes(content[:length])
        refusal(path)
    if encoding != "bzip2":  # of which Python leaves out what follows the stream
        path.write_bytes(content + b" 1 2 3")
        refusal(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_metaimage_cut_anywhere_is_refused(tmp_path, packed):
    path = write_meta(tmp_path / "a.mha", VOXELS, AFFINE, packed=packed)
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 3, 25).astype(int):
        path.write_bytes(content[:length])
        refusal(path)
    path.write_bytes(content + b"more")
    refusal(path)


NRRD_FAULTS = {
    "sizes too large": ({"sizes": "500 600 400"}, "more than the file can hold"),
    "sizes too small": ({"sizes": "5 6 3"}, "more"),
    "sizes negative": ({"sizes": "5 -6 4"}, "more than the file can hold"),
    "sizes of zero": ({"sizes": "5 0 4"}, "more than the file can hold"),
    "sizes missing": ({"sizes": ""}, "no field 'sizes'"),
    "sizes two": ({"sizes": "5 24"}, "not 3 whole numbers"),
    "dimensions": ({"dimension": "99"}, "declares 99 dimensions"),
    "type": ({"type": "block"}, "type 'block'"),
    "encoding": ({"encoding": "hex"}, "encoding 'hex'"),
    "endian": ({"endian": ""}, "no field 'endian'"),
    "endian word": ({"endian": "middle"}, "byte order 'middle'"),
    "space": ({"space": "left-posterior-superior-time"}, "lies in the space"),
    "directions": ({"space_directions": "(1,0,0) (0,1,0)"}, "2 for 3 axes"),
    "directions short": ({"space_directions": "(1,0) (0,1) (1,1)"}, "another length than 3"),
    "directions flat": ({"space_directions": "(1,0,0) (2,0,0) (0,0,1)"}, "singular or not finite"),
    "directions nan": ({"space_directions": "(1,0,0) (0,nan,0) (0,0,1)"}, "singular or not finite"),
    "directions zero": ({"space_directions": "(1,0,0) (0,0,0) (0,0,1)"}, "singular or not finite"),
    "directions none": ({"space_directions": "none none none"}, "of which 0 lie in space"),
    "origin": ({"space_origin": "(0,0)"}, "an origin of 2 numbers"),
    "units": ({"space_units": '"mm" "mm" "furlong"'}, "unit 'furlong'"),
    "list": ({"data_file": "LIST"}, "several files"),
    "pattern": ({"data_file": "a%03d.raw 1 4 1"}, "several files"),
    "gone": ({"data_file": "gone.raw"}, "does not exist"),
    "itself": ({"data_file": "a.nrrd"}, ""),
    "skip": ({"byte_skip": "-5"}, ""),
    "long skip": ({"byte_skip": "99999999"}, ""),
    "lines": ({"line_skip": "99"}, "no 99 lines"),
}


@pytest.mark.whole
@pytest.mark.parametrize("kind", NRRD_FAULTS)
def test_headers_of_nrrd_that_make_no_sense(tmp_path, kind):
    fields, told = NRRD_FAULTS[kind]
    assert told in refusal(write_nrrd(tmp_path / "a.nrrd", VOXELS, AFFINE, **fields))


META_FAULTS = {
    "sizes too large": ({"DimSize": "500 600 400"}, "more than the file can hold"),
    "sizes too small": ({"DimSize": "5 6 3"}, "but holds"),
    "sizes negative": ({"DimSize": "5 -6 4"}, "more than the file can hold"),
    "sizes none": ({"DimSize": ""}, "no DimSize"),
    "dimensions": ({"NDims": "2"}, "declares 2 dimensions of 3 sizes"),
    "channels": ({"ElementNumberOfChannels": "0"}, "series"),
    "type": ({"ElementType": "MET_STRING"}, "type MET_STRING"),
    "scale": ({"ElementToIntensityFunctionSlope": "2"}, "programs read differently"),
    "turn": ({"TransformMatrix": "1 0 0 1 0 0 0 0 1"}, "singular"),
    "turn short": ({"TransformMatrix": "1 0 0"}, "not 9 numbers"),
    "size": ({"ElementSpacing": "0 1 1"}, "declares voxels of"),
    "size negative": ({"ElementSpacing": "1 1 -1"}, "declares voxels of"),
    "head": ({"HeaderSize": "7"}, "HeaderSize"),
    "compressed": ({"CompressedData": "True"}, "damaged or cut off"),
}


@pytest.mark.whole
@pytest.mark.parametrize("kind", META_FAULTS)
def test_headers_of_metaimage_that_make_no_sense(tmp_path, kind):
    fields, told = META_FAULTS[kind]
    path = tmp_path / "a.mha"
    content = VOXELS.tobytes(order="F")
    path.write_bytes(meta_head(VOXELS, AFFINE, **fields).encode() + content)
    assert told in refusal(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
@pytest.mark.parametrize(
    "content", [b"", b"<html>", b"\0" * 100, b"NRRD0009\n\n", b"a = b\n" * 900_000, b"NRRD0004\n" * 9]
)
def test_what_is_no_such_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name)


@pytest.mark.parametrize("ending", ["nrrd", "mha"])
def test_a_bomb_is_refused_before_memory_is_taken(tmp_path, ending):
    zeros = np.zeros((1, 1, 1), np.uint8)
    path = tmp_path / f"a.{ending}"
    sides = "2048 2048 1000"
    packed = gzip.compress(bytes(2**20)) * 4000 if ending == "nrrd" else zlib.compress(bytes(2**22)) + bytes(2**22)
    head = (
        nrrd_head(zeros, sizes=sides) + "\n"
        if ending == "nrrd"
        else meta_head(zeros, DimSize=sides, CompressedData="True")
    )
    path.write_bytes(head.encode() + packed)
    tracemalloc.start()
    told = refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "limit" in told and peak < 20e6
    # One that says little and holds much ends where what it says ends.
    small = head.replace(sides, "8 8 8")
    path.write_bytes(small.encode() + packed)
    tracemalloc.start()
    refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
