"""DICOM structure sets: contours become the pixels that a slow painter finds, or an error that names the region."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from builders import noise

from helpers.structure_files import contour, headers, slowly_painted, structure_set, write_structures
from helpers.volume_files import IDENTITY, NAME, dicom_image, save_dicom, write_series
from pocketseg.data import Cases, MaskCoding
from pocketseg.data.volumes import open_volume
from pocketseg.errors import DataError

TURNS = [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [-1, 0, 0, 0, -1, 0], [0.6, 0.8, 0, -0.8, 0.6, 0]]


def series(folder, turn=TURNS[0], count=4):
    """A series of 12×14 pixels in a plane, and its headers by place."""
    normal = np.cross(turn[:3], turn[3:])
    for index in range(count):
        place = np.array([-10, -20, 5]) + 2.0 * index * normal
        made = dicom_image(noise(12, 14, dtype=np.int16, seed=index), series="x", number=index + 1, position=place)
        made.ImageOrientationPatient = turn
        save_dicom(made, folder / f"{index}.dcm")
    return folder, headers(folder)


def in_mm(image, corners):
    """Corners (column, row) in pixels, 0 the center of the first one, as points in millimeters."""
    turn, spacing = np.array(image.ImageOrientationPatient, float), image.PixelSpacing
    steps = np.stack([turn[:3] * float(spacing[1]), turn[3:] * float(spacing[0])])
    return np.array(image.ImagePositionPatient, float) + np.asarray(corners, float) @ steps


def star(seed, center=(6.3, 5.6), radius=4.0, count=11):
    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    length = radius * rng.uniform(0.4, 1.0, count)
    return np.stack([center[0] + length * np.cos(angles), center[1] + length * np.sin(angles)], 1)


def painted(folder, regions, images, *names, frame=None):
    """The class indices (slice, row, column) of a series with a structure set."""
    write_structures(folder / "masks/s.dcm", regions, frame or images[0].FrameOfReferenceUID)
    cases = Cases.open(folder, names=names, coding=MaskCoding(classes=len(names)))
    volume = cases[0].masks[0].volume
    return volume.voxels().transpose(2, 1, 0), cases


def refusal(folder, regions, images, *names, frame=None) -> str:
    with pytest.raises(DataError) as caught:
        painted(folder, regions, images, *(names or ("a",)), frame=frame)
    told = str(caught.value)
    assert "masks/s.dcm" in told and " → " in told and NAME not in told and IDENTITY not in told
    return told


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_pixels_inside_of_contours(tmp_path, turn, seed):
    _, images = series(tmp_path / "images/s", turn)
    outer = [in_mm(image, star(seed + at, radius=5.5)) for at, image in enumerate(images)]
    hole = in_mm(images[1], star(seed + 9, radius=2))
    other = in_mm(images[1], star(seed + 5, center=(11.2, 9.4), radius=2.5))
    drawn = [contour(points, image) for points, image in zip(outer, images, strict=True)]
    drawn += [contour(hole, images[1], "CLOSEDPLANAR_XOR"), contour(other)]
    found, _ = painted(tmp_path, {"a": drawn}, images, "organ")
    for at, image in enumerate(images):
        lines = [outer[at], *([hole, other] if at == 1 else [])]
        np.testing.assert_array_equal(found[at] > 0, slowly_painted(lines, image))
    assert all(each.any() for each in found)


def test_a_hole_of_one_line_that_goes_in_and_out_again(tmp_path):
    _, images = series(tmp_path / "images/s")
    ring = [
        (0.5, 0.5),
        (9.5, 0.5),
        (9.5, 8.5),
        (0.5, 8.5),
        (0.5, 0.5),
        (3.4, 3.4),
        (3.4, 6.6),
        (7.6, 6.6),
        (7.6, 3.4),
        (3.4, 3.4),
    ]
    found, _ = painted(tmp_path, {"a": [contour(in_mm(images[2], ring))]}, images, "a")
    expected = np.zeros((12, 14), bool)
    expected[1:9, 1:10] = True
    expected[4:7, 4:8] = False
    np.testing.assert_array_equal(found[2] > 0, expected)
    assert not found[[0, 1, 3]].any()


# Around 5×5 pixels, and around 2×2 of them.
SQUARE = [(0.5, 0.5), (5.5, 0.5), (5.5, 5.5), (0.5, 5.5)]
INNER = [(2.5, 2.5), (4.5, 2.5), (4.5, 4.5), (2.5, 4.5)]


def test_regions_are_classes_by_name(tmp_path):
    _, images = series(tmp_path / "images/s")
    square, inner = (contour(in_mm(images[1], corners), images[1]) for corners in (SQUARE, INNER))
    regions = {"GTV": [inner], "couch": [contour(in_mm(images[3], SQUARE))], "PTV": [square]}
    found, cases = painted(tmp_path, regions, images, "PTV", "GTV")
    assert [np.count_nonzero(found == value) for value in range(3)] == [4 * 168 - 25, 21, 4]
    messages = " ".join(finding.what for finding in cases.check().findings)
    assert "4 voxels of one class are covered" in messages and "couch (in 1 volume)" in messages
    found, _ = painted(tmp_path, regions, images, "GTV", "PTV")
    assert [np.count_nonzero(found == value) for value in (1, 2)] == [0, 25]
    told = refusal(tmp_path, regions, images, "tumor")
    assert all(name in told for name in regions) and "data.classes=[GTV,PTV,couch]" in told
    with pytest.raises(DataError, match="regions GTV, couch, PTV, and no values"):
        open_volume(tmp_path / "masks/s.dcm", open_volume(tmp_path / "images/s")).voxels()


def moved(corners, image, by):
    normal = np.cross(image.ImageOrientationPatient[:3], image.ImageOrientationPatient[3:])
    return in_mm(image, corners) + np.asarray(normal) * by


@pytest.mark.parametrize("by", [1.0, -2.0, 6.0, 0.3])
def test_contours_on_no_slice_are_named(tmp_path, by):
    _, images = series(tmp_path / "images/s")
    at = 0 if by < 0 else 3 if by > 5 else 1
    regions = {"a": [contour(moved(SQUARE, images[at], by)), contour(in_mm(images[2], SQUARE))]}
    told = refusal(tmp_path, regions, images)
    assert "'a' has 1 contour that lies on no slice" in told and f"{5 + 2 * at + by:.1f} mm" in told
    # Of a region that is no class nobody asks.
    regions["b"] = [contour(in_mm(images[2], INNER))]
    found, _ = painted(tmp_path, regions, images, "b")
    assert np.count_nonzero(found) == 4
    found, _ = painted(tmp_path, {"a": [contour(moved(SQUARE, images[1], 0.15))]}, images, "a")
    assert np.count_nonzero(found[1]) == 25


def test_contours_of_other_images(tmp_path):
    _, images = series(tmp_path / "images/s")
    drawn = [contour(in_mm(images[1], SQUARE), images[1])]
    assert "another frame of reference" in refusal(tmp_path, {"a": drawn}, images, frame="1.2.3")
    other = dicom_image(noise(12, 14, dtype=np.int16), series="y", number=1, position=(0, 0, 0))
    drawn = [contour(in_mm(images[1], SQUARE), other)]
    assert "1 contour on images that are not in" in refusal(tmp_path, {"a": drawn}, images)
    drawn = [contour(in_mm(images[1], SQUARE), images[2])]
    assert "another slice than that of the image that is named" in refusal(tmp_path, {"a": drawn}, images)


@pytest.mark.parametrize(
    ("kind", "corners", "told"),
    [
        ("OPEN_PLANAR", SQUARE, "which enclose nothing"),
        ("POINT", SQUARE[:1], "holds no closed contours"),
        ("CLOSED_PLANAR", SQUARE[:2], "holds no closed contours"),
        ("CLOSED_PLANAR", [(1, 1), (1e9, 1), (5, 5)], "far outside of any image"),
    ],
)
def test_what_encloses_nothing(tmp_path, kind, corners, told):
    _, images = series(tmp_path / "images/s")
    assert told in refusal(tmp_path, {"a": [contour(in_mm(images[1], corners), kind=kind)]}, images)


def test_marks_beside_regions_are_no_regions(tmp_path):
    _, images = series(tmp_path / "images/s")
    mark = contour(in_mm(images[1], SQUARE[:1]), kind="POINT")
    found, cases = painted(tmp_path, {"a": [contour(in_mm(images[1], SQUARE)), mark], "iso": [mark]}, images, "organ")
    assert np.count_nonzero(found) == 25 and cases[0].masks[0].volume.names == ("a",)


def test_a_structure_set_needs_its_images(tmp_path):
    _, images = series(tmp_path / "images/s")
    path = write_structures(tmp_path / "s.dcm", {"a": [contour(in_mm(images[1], SQUARE))]}, "1.2.3")
    with pytest.raises(DataError, match="whose images are not here"):
        open_volume(path)
    for header in images:
        del header.ImagePositionPatient
        save_dicom(header, tmp_path / f"flat/{header.InstanceNumber}.dcm")
    with pytest.raises(DataError, match="says not where its slices lie"):
        open_volume(path, open_volume(tmp_path / "flat"))


def test_a_structure_set_in_a_folder_of_its_own(tmp_path):
    _, images = series(tmp_path / "images/s")
    write_structures(
        tmp_path / "masks/s/1.dcm", {"a": [contour(in_mm(images[1], SQUARE))]}, images[0].FrameOfReferenceUID
    )
    cases = Cases.open(tmp_path)
    assert [int((cases.mask(case) > 0).sum()) for case in cases] == [0, 25, 0, 0]


def test_a_folder_a_patient_as_planning_exports_it(tmp_path):
    """Slices and structures side by side, or in folders of their own; of two series the one that is named."""
    for name in ("P1", "P2", "P3"):
        _, images = series(tmp_path / name / ("" if name == "P1" else "study/ct"))
        made = structure_set({"a": [contour(in_mm(images[2], SQUARE))]}, images[0].FrameOfReferenceUID)
        if name == "P3":
            scout = dicom_image(noise(12, 14, dtype=np.int16), series="scout", number=1, position=(0, 0, 0))
            save_dicom(scout, tmp_path / "P3/study/scout/1.dcm")
            named, study, frame = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
            named.SeriesInstanceUID = images[0].SeriesInstanceUID
            study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [named], [study]
            made.ReferencedFrameOfReferenceSequence = [frame]
        save_dicom(made, tmp_path / name / ("RS.dcm" if name == "P1" else "study/rs/1.dcm"))
    cases = Cases.open(tmp_path)
    assert cases.layout == "dicom-patients" and len(cases) == 12
    assert {case.group for case in cases} == {"P1", "P2", "P3"}
    for name in ("P1", "P2", "P3"):
        assert [int((cases.mask(case) > 0).sum()) for case in cases if case.group == name] == [0, 0, 25, 0]
    assert open_volume(tmp_path / "P1").grid.shape == (14, 12, 4)
    (tmp_path / "P2/study/rs/1.dcm").unlink()
    with pytest.raises(DataError, match=r"P2: holds 1 series and 0 structure sets or segmentations"):
        Cases.open(tmp_path)


@pytest.mark.parametrize("length", [0, 100, 350, 500, 700, 1000])
def test_a_damaged_slice_at_the_end_of_a_patients_series(tmp_path, length):
    """Found by mutations: the last slice could not be read, and the patient had one case less."""
    _, images = series(tmp_path / "P1")
    write_structures(tmp_path / "P1/rs.dcm", {"a": [contour(in_mm(images[1], SQUARE))]}, images[0].FrameOfReferenceUID)
    last = tmp_path / "P1/3.dcm"
    last.write_bytes(last.read_bytes()[:length])
    with pytest.raises(DataError) as caught:
        Cases.open(tmp_path).check()
    assert "3.dcm" in str(caught.value)


def test_frames_of_one_file_have_contours_too(tmp_path):
    folder = write_series(tmp_path / "one", [noise(12, 14, dtype=np.int16, seed=at) for at in range(3)])
    images = headers(folder)
    whole = pydicom.dcmread(next(iter(folder.iterdir())))
    from test_volumes import enhanced, group

    frames = np.stack([image.pixel_array for image in images])
    places = [
        group(PlanePositionSequence={"ImagePositionPatient": list(image.ImagePositionPatient)}) for image in images
    ]
    shared = group(
        PixelMeasuresSequence={"PixelSpacing": [0.5, 0.75], "SpacingBetweenSlices": 2},
        PlaneOrientationSequence={"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    )
    path = enhanced(tmp_path / "images/s.dcm", frames, places, shared, FrameOfReferenceUID=whole.FrameOfReferenceUID)
    header = pydicom.dcmread(path)
    drawn = [contour(in_mm(images[at], SQUARE), header) for at in (0, 2)]
    found, _ = painted(tmp_path, {"a": drawn}, images, "a", frame=whole.FrameOfReferenceUID)
    assert [np.count_nonzero(each) for each in found] == [25, 0, 25]


def test_damaged_structure_sets(tmp_path):
    _, images = series(tmp_path / "images/s")
    made = structure_set({"a": [contour(in_mm(images[1], SQUARE))]}, images[0].FrameOfReferenceUID)
    made.ROIContourSequence[0].ContourSequence[0].ContourData = ["1", "2", "3", "4"]
    save_dicom(made, tmp_path / "masks/s.dcm")
    with pytest.raises(DataError, match=r"masks/s\.dcm: has a damaged header"):
        Cases.open(tmp_path)
    made.ROIContourSequence[0].ReferencedROINumber = 7
    save_dicom(made, tmp_path / "masks/s.dcm")
    with pytest.raises(DataError, match=r"masks/s\.dcm: has a damaged header"):
        Cases.open(tmp_path)
