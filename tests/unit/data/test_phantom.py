import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter

from helpers import videos
from pocketseg.data.cases import Cases
from pocketseg.data.phantom import KINDS, PhantomCase, phantom_case, write_phantom
from pocketseg.data.phantom.ct import HEIGHT_MM, ct, ct_case, lay_grid, reconstruction_noise
from pocketseg.data.phantom.microscopy import blurred, camera, draw_slide, field_case, illumination, microscopy
from pocketseg.data.phantom.patient import draw_anatomy, has_lesion
from pocketseg.data.phantom.probe import Medium, acoustic_grid
from pocketseg.data.phantom.shapes import Points, draw_blob, draw_ripples, stream
from pocketseg.data.phantom.sound import (
    FREQUENCY_MHZ,
    TGC_LOSS,
    WHITE_DB,
    complex_normal,
    gain_by_depth,
    grid_spacing_mm,
    log_compress,
    loss_on_the_way,
    point_spread,
)
from pocketseg.data.phantom.ultrasound import views
from pocketseg.data.volumes import open_volume
from pocketseg.errors import DataError, EnvironmentProblem
from pocketseg.pipeline.components import label_components


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [phantom_case(0, patient, view) for patient, view in islice(views(0), 80)]


@pytest.fixture(scope="module")
def positives(cases):
    """Images as floats (n, h, w) and masks as booleans (n, h, w) of the cases with a lesion."""
    chosen = [case for case in cases if case.mask.any()]
    images = np.stack([case.image for case in chosen]).astype(np.float32)
    return images, np.stack([case.mask for case in chosen]).astype(bool)


@pytest.fixture(scope="module")
def grid() -> Points:
    return acoustic_grid(128)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


# --- the folder -------------------------------------------------------------------------------------------


def test_two_writes_are_equal_bytes(tmp_path):
    first, second = (tree(write_phantom(tmp_path / name, cases=5, size=48)) for name in "ab")
    assert first == second and len(first) == 12


def test_a_case_does_not_depend_on_the_number_of_cases(tmp_path):
    few, many = (tree(write_phantom(tmp_path / str(n), cases=n, size=48)) for n in (3, 9))
    pictures = [name for name in few if name.endswith(".png")]
    assert len(pictures) == 6
    assert all(few[name] == many[name] for name in pictures)


def test_layout(tmp_path):
    out = write_phantom(tmp_path / "new" / "set", cases=20, size=40)
    images, masks = (sorted((out / folder).iterdir()) for folder in ("images", "masks"))
    assert sorted(f.name for f in out.iterdir()) == ["README.md", "images", "masks", "patients.csv"]
    assert len(images) == 20 and [f.name for f in images] == [f.name for f in masks]
    for path in images + masks:
        with Image.open(path) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (40, 40))
    assert {int(v) for f in masks for v in np.unique(np.asarray(Image.open(f)))} == {0, 255}


def test_files_hold_the_cases(tmp_path):
    out = write_phantom(tmp_path / "set", cases=1, size=40, seed=3)
    case = phantom_case(3, 1, 1, 40)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "images" / f"{case.name}.png")), case.image)
    np.testing.assert_array_equal(np.asarray(Image.open(out / "masks" / f"{case.name}.png")), case.mask * 255)


def test_patients_csv_names_every_case_once(tmp_path):
    out = write_phantom(tmp_path / "set", cases=30, size=32)
    header, *rows = (out / "patients.csv").read_text().splitlines()
    names, patients = zip(*(row.split(",") for row in rows), strict=True)
    assert header == "case,patient"
    assert sorted(names) == sorted(f.stem for f in (out / "images").iterdir())
    assert all(name.startswith(f"{patient}_view-") for name, patient in zip(names, patients, strict=True))
    assert max(patients.count(p) for p in patients) in (2, 3, 4)


def test_readme_says_what_it_is(tmp_path):
    text = (write_phantom(tmp_path / "set", cases=2, size=64, seed=5) / "README.md").read_text()
    assert "2 pictures" in text and "seed 5, 64 x 64 pixels of 0.625 mm" in text and "not for medical use" in text


def test_progress_counts_up(tmp_path):
    seen = []
    write_phantom(tmp_path / "set", cases=3, size=32, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_empty_folder_is_filled(tmp_path):
    assert (write_phantom(tmp_path, cases=1, size=32) / "patients.csv").exists()


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(DataError) as caught:
        write_phantom(tmp_path, cases=1, size=32)
    assert str(caught.value) == f"{tmp_path}: exists and is not an empty folder → name a new folder or empty this one"
    assert tree(tmp_path) == {"precious.txt": b"mine"}


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "set").write_text("")
    with pytest.raises(DataError, match="not an empty folder"):
        write_phantom(tmp_path / "set", cases=1, size=32)


def test_bad_numbers_are_reported_in_one_pass(tmp_path):
    with pytest.raises(DataError) as caught:
        write_phantom(tmp_path / "set", cases=0, size=31, seed=-1)
    assert str(caught.value).splitlines() == [
        "cases: 0 pictures cannot be made → ask for 1 or more",
        "size: 31 pixels are too few to show a lesion → use 32 or more",
        "seed: -1 is negative → use 0 or more",
    ]
    assert not (tmp_path / "set").exists()


def test_an_unknown_kind_is_refused_with_the_near_ones(tmp_path):
    with pytest.raises(DataError, match="kind 'microscope': is not a kind of phantom → did you mean microscopy"):
        write_phantom(tmp_path / "set", kind="microscope")
    assert not (tmp_path / "set").exists()


def test_ultrasound_is_the_default_and_says_nothing_new(tmp_path):
    plain, named = (write_phantom(tmp_path / n, cases=2, size=32, **kind) for n, kind in (("a", {}), ("b", ULTRASOUND)))
    assert tree(plain) == tree(named)


ULTRASOUND = {"kind": "ultrasound"}


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["microscopy", "ct"])
def test_sets_of_every_kind_are_equal_bytes_and_do_not_depend_on_their_number(tmp_path, kind):
    few, again, many = (
        tree(write_phantom(tmp_path / str(at), kind=kind, cases=n, size=32)) for at, n in enumerate((2, 2, 3))
    )
    files = [name for name in few if name.startswith(("images", "masks"))]
    assert few == again and len(files) == 4 and all(few[name] == many[name] for name in files)
    other = tree(write_phantom(tmp_path / "other", kind=kind, cases=2, size=32, seed=1))
    assert all(few[name] != other[name] for name in files)


@pytest.mark.whole
@pytest.mark.parametrize("kind", KINDS)
def test_readme_of_every_kind(tmp_path, kind):
    if kind == "cine":
        videos.needed()
    text = (write_phantom(tmp_path / "set", kind=kind, cases=1, size=40, seed=5) / "README.md").read_text()
    assert f"1 {KINDS[kind].pictures}" in text and "seed 5" in text and "not for medical use" in text


def test_slides_csv_names_every_field_once(tmp_path):
    out = write_phantom(tmp_path / "set", kind="microscopy", cases=12, size=32)
    header, *rows = (out / "slides.csv").read_text().splitlines()
    names, slides = zip(*(row.split(",") for row in rows), strict=True)
    assert header == "case,slide"
    assert sorted(names) == sorted(f.stem for f in (out / "images").iterdir())
    assert all(name.startswith(f"{slide}_field-") for name, slide in zip(names, slides, strict=True))
    assert 2 <= max(slides.count(slide) for slide in slides) <= 6


def test_volumes_are_read_as_they_were_made(tmp_path):
    out = write_phantom(tmp_path / "set", kind="ct", cases=1, size=96, seed=3)
    case = ct_case(3, 1, 96)
    image, mask = (open_volume(out / folder / f"{case.name}.nii.gz") for folder in ("images", "masks"))
    np.testing.assert_array_equal(image.voxels(), case.image)
    np.testing.assert_array_equal(mask.voxels(), case.mask)
    assert image.grid.spacing_mm == pytest.approx(case.spacing_mm)
    slices = Cases.open(out, classes=("organ", "lesion"))
    assert len(slices) == case.image.shape[2]
    assert slices.mask(next(iter(slices))).shape == (96, 96)


def test_ct_without_nibabel_says_what_to_install_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'pocketseg\[medical\]'"):
        write_phantom(tmp_path / "set", kind="ct", cases=1)
    assert not (tmp_path / "set").exists()


# --- the cases --------------------------------------------------------------------------------------------


def test_types_and_names():
    case = phantom_case(0, 12, 2, 50)
    assert (case.name, case.group) == ("patient-012_view-2", "patient-012")
    assert case.image.shape == case.mask.shape == (50, 50)
    assert case.image.dtype == case.mask.dtype == np.uint8
    assert set(np.unique(case.mask)) == {0, 1}


@pytest.mark.parametrize("other", [(1, 12, 2), (0, 13, 2), (0, 12, 1)], ids=["seed", "patient", "view"])
def test_another_key_is_another_picture(other):
    one, two = phantom_case(0, 12, 2, 64).image, phantom_case(*other, 64).image
    assert np.mean(one != two) > 0.9


def test_seeds_give_other_lesions():
    masks = [phantom_case(seed, patient, 1, 64).mask for seed in (0, 1) for patient in (1, 2, 3)]
    assert len({mask.tobytes() for mask in masks if mask.any()}) == sum(mask.any() for mask in masks) >= 4


def test_patients_have_one_to_four_views():
    numbers = np.array(list(islice(views(0), 1000)))
    counts = np.bincount(numbers[:, 0])[1:-1]  # the last patient may be cut short
    assert set(counts) == {1, 2, 3, 4}
    assert np.all(np.bincount(counts)[1:] / len(counts) > 0.15)


def test_views_share_the_lesion_and_not_the_speckle(cases):
    def overlap(a, b):
        return 2 * np.sum(a.mask & b.mask) / (a.mask.sum() + b.mask.sum())

    pairs = [(a, b) for a, b in pairwise(cases) if a.group == b.group and a.mask.any()]
    speckle = [np.corrcoef(*(fine_detail(c.image).ravel() for c in pair))[0, 1] for pair in pairs]
    assert len(pairs) > 20
    assert 0.6 < np.mean([overlap(*pair) for pair in pairs]) < 0.95
    assert np.abs(np.mean(speckle)) < 0.1


def fine_detail(image):
    return image - gaussian_filter(image.astype(np.float32), 2)


def test_one_patient_in_seven_has_no_lesion():
    for seed in range(5):
        empty = [not has_lesion(seed, patient) for patient in range(70)]
        assert [sum(empty[i : i + 7]) for i in range(0, 70, 7)] == [1] * 10
        assert empty[:7] * 10 != empty


def test_share_of_empty_masks(cases):
    patients = {case.group for case in cases}
    empty = {case.group for case in cases if not case.mask.any()}
    assert 0.1 <= len(empty) / len(patients) <= 0.2
    assert all(not case.mask.any() for case in cases if case.group in empty)


def test_lesions_cover_2_to_20_percent(positives):
    area = positives[1].mean(axis=(1, 2))
    assert 0.018 < area.min() < 0.03
    assert 0.14 < area.max() < 0.205


def test_look_alikes_are_there_and_unlabelled():
    anatomies = [draw_anatomy(0, patient) for patient in range(70)]
    shadows = [sum(stain.loss > 1 for stain in a.stains) for a in anatomies]
    lobules = [sum(stain.loss < 1 for stain in a.stains) for a in anatomies]
    assert 0.5 < np.mean([n > 0 for n in shadows]) < 0.9 and min(lobules) >= 1
    assert 0.3 < np.mean([a.duct_mm is not None for a in anatomies]) < 0.6
    clean = next(p for p, a in enumerate(anatomies) if a.lesion is None and shadows[p])
    assert not phantom_case(0, clean, 1, 64).mask.any()


def test_all_kinds_of_lesions_occur():
    lesions = [a.lesion for a in (draw_anatomy(0, p) for p in range(200)) if a.lesion]
    contrast = np.array([lesion.contrast_db for lesion in lesions])
    share = [np.mean(contrast < -22), np.mean((contrast >= -22) & (contrast < 0)), np.mean(contrast > 0)]
    np.testing.assert_allclose(share, [0.2, 0.72, 0.08], atol=0.08)


def test_gray_values_use_the_range_without_clipping_it_away(cases):
    images = np.stack([case.image for case in cases])
    assert 70 < images.mean() < 130
    assert np.mean(images == 0) < 0.08 and np.mean(images == 255) < 0.01
    assert np.percentile(images, 99) - np.percentile(images, 5) > 120


# --- the physics ------------------------------------------------------------------------------------------


def test_fully_developed_speckle_is_rayleigh(grid):
    pulse = point_spread(grid)
    echo = np.stack([pulse.spread(complex_normal(stream(s), grid.z.shape)) for s in range(10)])
    envelope = np.abs(echo)
    assert envelope.mean() / envelope.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), abs=0.04)  # 1.91
    assert np.mean(envelope**2) == pytest.approx(1, abs=0.03)  # the filter keeps the power


def test_speckle_is_finest_at_the_focus_and_wider_than_deep(grid):
    pulse = point_spread(grid)
    echo = np.stack([pulse.spread(complex_normal(stream(s), grid.z.shape)) for s in range(10)])
    depth = grid.z[:, 0]
    shallow, focus, deep = (neighbors_alike(echo[:, np.abs(depth - z) < 2]) for z in (2, 18, 38))
    assert shallow > focus + 0.05 and deep > focus + 0.05


def neighbors_alike(echo) -> float:
    """Correlation of laterally adjacent echoes."""
    return float(np.mean((echo[..., 1:] * echo[..., :-1].conj()).real) / np.mean(np.abs(echo) ** 2))


@pytest.mark.parametrize(("loss", "sign"), [(2.0, -1), (0.1, 1)], ids=["shadow", "enhancement"])
def test_what_lies_behind_a_lesion(grid, loss, sign):
    """Two ways through 8 mm: 2 f * 0.8 cm * (loss - 0.7) decibels, more or less than beside it."""
    body = np.full_like(grid.z, 0.7)
    body[(np.abs(grid.z - 16) < 4) & (np.abs(grid.x) < 6)] = loss
    medium = Medium(np.zeros_like(body), body, np.zeros_like(body))
    lost_db = loss_on_the_way(medium, point_spread(grid), grid)
    before, behind = (int(np.argmin(np.abs(grid.z[:, 0] - z))) for z in (10, 24))
    middle, beside = (int(np.argmin(np.abs(grid.x[0] - x))) for x in (0, 15))
    expected = 2 * FREQUENCY_MHZ * 0.8 * (0.7 - loss)
    assert lost_db[before, beside] - lost_db[before, middle] == pytest.approx(0, abs=0.01)
    assert lost_db[behind, beside] - lost_db[behind, middle] == pytest.approx(expected, rel=0.05)
    assert np.sign(expected) == sign


def test_gain_undoes_the_average_loss_up_to_the_sliders(grid):
    body = np.full_like(grid.z, TGC_LOSS)
    medium = Medium(np.zeros_like(body), body, np.zeros_like(body))
    lost_db = loss_on_the_way(medium, point_spread(grid), grid)
    errors = [gain_by_depth(stream(s), grid) - lost_db for s in range(20)]
    assert lost_db.max() > 40
    assert 0.5 < np.std(errors) < 3 and np.abs(errors).max() < 8


def test_a_mirror_shines_only_when_met_squarely(grid):
    flat = np.zeros_like(grid.z)
    level, steep = (Medium(flat, flat, flat).polish(d, 1.0).mirror.max() for d in (grid.z - 20, grid.x))
    assert level == pytest.approx(1, abs=0.2) and steep < 1e-3


def test_compression_spans_the_dynamic_range():
    levels_db = np.array([WHITE_DB + 10, WHITE_DB, WHITE_DB - 25, WHITE_DB - 60])
    np.testing.assert_allclose(log_compress(10 ** (levels_db / 20), 50), [1, 1, 0.5, 0], atol=1e-6)


def test_outlines_have_the_area_they_ask_for():
    rng = stream(0)
    fine = Points(*np.meshgrid(*[np.linspace(-20, 20, 800, dtype=np.float32)] * 2))
    for _ in range(5):
        blob = draw_blob(rng, 0.0, 0.0, 6.0, aspect=(0.7, 2.0), rough=(0.1, 0.2), orders=9)
        assert np.mean(blob.edge(fine) < 0) * 1600 == pytest.approx(np.pi * 36, rel=0.02)


def test_ripples_have_unit_variance_and_their_length(grid):
    at = [draw_ripples(stream(s), x=2.0, z=4.0)(grid) for s in range(20)]
    assert np.std(at) == pytest.approx(1, abs=0.1)
    change_z, change_x = (np.std(np.diff(at, axis=axis)) for axis in (1, 2))
    spacing_z, spacing_x = grid_spacing_mm(grid)
    assert spacing_x / change_x == pytest.approx(2.0, rel=0.15)
    assert spacing_z / change_z == pytest.approx(4.0, rel=0.15)


# --- the difficulty ---------------------------------------------------------------------------------------


def mean_dice(prediction, target) -> float:
    both = np.sum(prediction & target, axis=(1, 2))
    return float(np.mean(2 * both / (prediction.sum(axis=(1, 2)) + target.sum(axis=(1, 2)))))


def best_threshold_dice(images, masks) -> float:
    """The best one gray value, darker or brighter, chosen with the answers in hand."""
    sides = [(images <= cut, images > cut) for cut in range(2, 254, 6)]
    return max(mean_dice(side, masks) for pair in sides for side in pair)


def test_the_evaluate_of_thresholds_finds_an_easy_lesion(positives):
    _, masks = positives
    assert best_threshold_dice(np.where(masks, 50, 120), masks) == 1
    assert best_threshold_dice(np.where(masks, 120, 50), masks) == 1


@pytest.mark.parametrize("blur", [0, 1, 2, 4])
def test_no_threshold_finds_the_lesions(positives, blur):
    images, masks = positives
    if blur:
        images = gaussian_filter(images, (0, blur, blur))
    assert 0.1 < best_threshold_dice(images, masks) < 0.5


def test_no_constant_finds_the_lesions(positives):
    _, masks = positives
    assert mean_dice(np.ones_like(masks), masks) < 0.3


def test_lesions_can_be_seen_where_the_masks_say(positives):
    """The contrast to a ring outside; a mirrored mask, of the same shape elsewhere, has it seldom."""
    images, masks = positives
    assert np.mean(contrast(images, masks) > 20) > 0.95
    for axis in (1, 2):
        assert np.mean(contrast(images, np.flip(masks, axis)) > 20) < 0.6


def contrast(images, masks):
    rings = [binary_dilation(m, iterations=6) & ~binary_dilation(m) for m in masks]
    return np.array([abs(i[m].mean() - i[r].mean()) for i, m, r in zip(images, masks, rings, strict=True)])


# --- microscopy -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fields() -> list[PhantomCase]:
    return list(islice(microscopy(0, 192), 16))


def test_fields_have_several_sizes_and_those_of_a_slide_one(fields):
    sizes = {case.group: case.image.shape for case in fields}
    assert len(set(sizes.values())) > 1
    assert all(
        case.image.shape == case.mask.shape == sizes[case.group] and min(case.image.shape) >= 192 for case in fields
    )
    assert field_case(0, 1, 1).image.shape in {(384, 512), (384, 384), (480, 640)}


def test_nuclei_touch_and_are_objects_all_the_same(fields):
    """A gap of two pixels in the mask: with it closed there are fewer objects, without it as many as outlines."""
    apart = sum(label_components(case.mask)[1] for case in fields)
    closed = sum(label_components(binary_dilation(case.mask, np.ones((3, 3))).astype(np.uint8))[1] for case in fields)
    assert apart > 150 and closed < 0.75 * apart


def test_nuclei_are_brighter_than_what_is_around_them(fields):
    brighter = []
    for case in fields:
        labels, count = label_components(case.mask)
        for label in range(1, count + 1):
            nucleus = labels == label
            around = binary_dilation(nucleus, iterations=4) & (case.mask == 0)
            if nucleus.sum() > 60:
                brighter.append(case.image[nucleus].mean() > case.image[around].mean())
    assert np.mean(brighter) > 0.97


@pytest.mark.parametrize("blur", [0, 1, 2])
def test_no_threshold_finds_the_nuclei(fields, blur):
    """The light is uneven and slides differ, so no gray value divides nuclei from background."""
    images = [gaussian_filter(case.image.astype(np.float32), blur) for case in fields]
    scores = [
        [dice(image > cut, case.mask) for image, case in zip(images, fields, strict=True)] for cut in range(4, 200, 4)
    ]
    assert 0.4 < max(np.mean(scores, axis=1)) < 0.75


def dice(prediction, target) -> float:
    return float(2 * np.sum(prediction & (target > 0)) / (prediction.sum() + (target > 0).sum()))


def test_light_falls_off_from_the_lamp():
    slide = draw_slide(0, 1, 96)
    light = illumination(slide)
    assert light.max() == pytest.approx(1, abs=0.01) and 0.15 <= light.min() < 0.7


def test_photons_come_by_chance():
    """Variance equals mean for photons, and two electrons of reading come on top."""
    gray = camera(stream(0), np.full((300, 300), 0.5, np.float32), photons=100) * (1.2 * 100 / 255)
    assert gray.mean() == pytest.approx(50, rel=0.01)
    assert gray.var() == pytest.approx(50 + 4, rel=0.05)


def test_blur_keeps_the_light_and_has_its_width():
    point = np.zeros((65, 64), np.float32)
    point[32, 32] = 1
    spread = blurred(point, 3.0)
    offsets = np.arange(65) - 32
    assert spread.sum() == pytest.approx(1, abs=1e-3)
    assert np.sqrt(np.sum(spread.sum(axis=1) * offsets**2)) == pytest.approx(3.0, rel=0.01)


# --- CT ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def volumes() -> list[PhantomCase]:
    return list(islice(ct(0, 64), 8))


def test_voxels_are_anisotropic_hounsfield_units(volumes):
    for case in volumes:
        assert case.image.dtype == np.int16 and case.mask.dtype == np.uint8 and case.image.shape == case.mask.shape
        x, y, z = case.spacing_mm
        assert x == y and z in (5, 6, 8) and case.image.shape[2] == round(HEIGHT_MM / z)
        assert case.image[:3, :3].mean() == pytest.approx(-1000, abs=10)
    assert len({case.spacing_mm for case in volumes}) == len(volumes)


def test_one_volume_in_four_has_no_lesion_and_all_have_an_organ(volumes):
    empty = [not has_lesion(0, patient, 4) for patient in range(40)]
    assert [sum(empty[i : i + 4]) for i in range(0, 40, 4)] == [1] * 10
    assert [not (case.mask == 2).any() for case in volumes] == empty[1:9]
    organ_ml = [np.sum(case.mask > 0) * np.prod(case.spacing_mm) / 1000 for case in volumes]
    assert all(600 < each < 3000 for each in organ_ml)


def test_lesions_lie_in_the_organ_and_are_darker(volumes):
    for case in volumes:
        lesion = case.mask == 2
        if lesion.any():
            shell = binary_dilation(lesion) & ~lesion
            assert np.mean(case.mask[shell] == 1) > 0.5
            assert -85 < case.image[lesion].mean() - case.image[case.mask == 1].mean() < -20


@pytest.mark.parametrize(("index", "most"), [(1, 0.8), (2, 0.2)], ids=["organ", "lesion"])
def test_no_range_of_hounsfield_units_finds_them(volumes, index, most):
    """Neighbors have the values of the organ, and of its lesions: the best range, chosen with the answers in hand."""
    for blur in (0, 1):
        images = [gaussian_filter(case.image.astype(np.float32), blur) for case in volumes]
        scores = [
            np.mean([dice((low < image) & (image < low + width), case.mask == index) for image, case in chosen])
            for chosen in [[(i, c) for i, c in zip(images, volumes, strict=True) if (c.mask == index).any()]]
            for low in range(-40, 140, 12)
            for width in (30, 60, 100, 160)
        ]
        assert 0.02 < max(scores) < most


def test_noise_has_no_low_frequencies():
    """As of filtered back projection, whose power rises with the frequency and then falls."""
    noise = reconstruction_noise(stream(0), (64, 64, 40))
    power = np.mean(np.abs(np.fft.fft2(noise, axes=(0, 1))) ** 2, axis=2)[0]
    assert noise.std() == pytest.approx(1, abs=1e-3)
    assert power[1:3].mean() < 0.3 * power[9:14].mean() and power[32] < 0.3 * power[9:14].mean()


def test_balls_have_their_volume():
    at = lay_grid(64, (1.0, 1.0, 2.0))
    inside = at.ellipsoid((3.0, -2.0, 4.0), (20.0, 15.0, 25.0)) < 0
    assert inside.sum() * 2 == pytest.approx(4 / 3 * np.pi * 20 * 15 * 25, rel=0.02)
