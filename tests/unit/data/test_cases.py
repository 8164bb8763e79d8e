import os
import shutil

import numpy as np
import pytest
from builders import blob, make_folders_dataset, make_suffix_dataset, noise, write_image

from pocketseg.data import BoundedCache, Cases, Grouping, MaskCoding, readers
from pocketseg.data.case import ChannelSource, FileSource
from pocketseg.errors import DataError


def told(cases: Cases) -> list[str]:
    with pytest.raises(DataError) as caught:
        cases.check()
    return [str(problem) for problem in caught.value.problems]


# --- the check --------------------------------------------------------------------------------------------


def test_a_sound_set(tmp_path):
    make_folders_dataset(tmp_path, ["a", "b", "c"])
    write_image(tmp_path / "masks/b.png", np.zeros((6, 7), np.uint8))
    seen = []
    checked = Cases.open(tmp_path).check(progress=lambda done, total: seen.append((done, total)))
    assert checked.files == 6 and checked.empty == {"b"} and checked.channels == {1}
    assert len(checked.digest) == 64
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_every_fault_of_every_file_is_reported(tmp_path):
    make_folders_dataset(tmp_path, ["a", "b", "c", "d", "e", "f"])
    (tmp_path / "images/a.png").write_bytes(b"")
    (tmp_path / "masks/a.png").write_bytes(b"<html>")
    write_image(tmp_path / "masks/b.png", blob(7, 6))
    write_image(tmp_path / "masks/c.png", blob(5, 5))
    write_image(tmp_path / "masks/e.png", noise())
    (tmp_path / "masks/f.png").unlink()
    os.mkfifo(tmp_path / "masks/f.png")
    problems = told(Cases.open(tmp_path))
    places = [problem.split(": ")[0].removeprefix(f"{tmp_path}/") for problem in problems]
    assert places == ["images/a.png", "masks/a.png", "masks/b.png", "masks/c.png", "masks/e.png", "masks/f.png"]
    assert "is 7×6, but" in problems[2] and "is 6×7 (rows×columns) → transposed?" in problems[2]
    assert "is 5×5, but" in problems[3] and "export the mask at the image's size" in problems[3]
    assert "gray levels" in problems[4]


def test_every_faulty_mask_of_a_case_is_reported(tmp_path):
    make_suffix_dataset(tmp_path, ["a"])
    write_image(tmp_path / "a_mask_1.png", noise())
    write_image(tmp_path / "a_mask_2.png", noise())
    assert len(told(Cases.open(tmp_path))) == 2


def test_masks_of_one_case_must_have_one_size(tmp_path):
    make_suffix_dataset(tmp_path, ["a"])
    write_image(tmp_path / "a_mask_1.png", blob(5, 5))
    (problem,) = told(Cases.open(tmp_path))
    assert "a_mask_1.png: is 5×5, but" in problem and "a_mask.png is 6×7" in problem


def test_swapped_folders_are_found(tmp_path):
    make_folders_dataset(tmp_path, ["a"], images="masks", masks="images")
    assert "check that image and mask are not swapped" in told(Cases.open(tmp_path))[0]


def test_a_file_that_vanishes_is_named(tmp_path):
    cases = Cases.open(make_folders_dataset(tmp_path, ["a"]))
    (tmp_path / "images/a.png").unlink()
    assert told(cases) == [f"{tmp_path / 'images/a.png'}: the file does not exist → check the path"]


# --- masks ------------------------------------------------------------------------------------------------


def two_masks(tmp_path, invert: bool):
    make_suffix_dataset(tmp_path, ["a"])
    other = np.zeros((6, 7), np.uint8)
    other[5, 6] = 255
    write_image(tmp_path / "a_mask_1.png", other)
    cases = Cases.open(tmp_path, coding=MaskCoding(invert=invert))
    return cases.mask(cases[0]), (blob() > 0) | (other > 0)


def test_masks_are_united(tmp_path):
    mask, stored = two_masks(tmp_path, invert=False)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, stored)


def test_inverted_masks_are_united_after_they_are_inverted(tmp_path):
    """Each file marks the background of one lesion: both lesions are foreground."""
    make_suffix_dataset(tmp_path, ["a"])
    first, second = np.zeros((2, 8, 8), bool)
    first[1:3, 1:3] = second[5:7, 5:7] = True
    write_image(tmp_path / "a.png", np.zeros((8, 8), np.uint8))
    write_image(tmp_path / "a_mask.png", (~first).astype(np.uint8) * 255)
    write_image(tmp_path / "a_mask_1.png", (~second).astype(np.uint8) * 255)
    cases = Cases.open(tmp_path, coding=MaskCoding(invert=True))
    np.testing.assert_array_equal(cases.mask(cases[0]), first | second)


def test_the_highest_class_wins(tmp_path):
    make_suffix_dataset(tmp_path, ["a"])
    write_image(tmp_path / "a_mask.png", np.array([[0, 1, 2], [0, 1, 2]], np.uint8))
    write_image(tmp_path / "a_mask_1.png", np.array([[2, 2, 1], [0, 0, 0]], np.uint8))
    cases = Cases.open(tmp_path, coding=MaskCoding(classes=2))
    assert cases.mask(cases[0]).tolist() == [[2, 2, 2], [0, 1, 2]]


def test_a_threshold_opens_jpeg_masks(tmp_path):
    make_suffix_dataset(tmp_path, ["a"])
    (tmp_path / "a_mask.png").unlink()
    write_image(tmp_path / "a_mask.jpg", blob(), quality=100)
    assert "JPEG" in told(Cases.open(tmp_path))[0]
    cases = Cases.open(tmp_path, coding=MaskCoding(threshold=128))
    np.testing.assert_array_equal(cases.mask(cases[0]), blob() > 0)


# --- notes ------------------------------------------------------------------------------------------------


def notes(tmp_path, **options) -> str:
    return "\n".join(Cases.open(tmp_path, **options).check().notes)


def test_a_quiet_set_has_no_notes(tmp_path):
    make_folders_dataset(tmp_path, ["p1_a", "p1_b"])
    assert notes(tmp_path, grouping=Grouping(regex=r"p\d")) == ""
    assert "every case is its own group" in notes(tmp_path)


def test_many_empty_masks_are_noted(tmp_path):
    make_folders_dataset(tmp_path, ["a", "b", "c"])
    for stem in "ab":
        write_image(tmp_path / f"masks/{stem}.png", np.zeros((6, 7), np.uint8))
    assert "2 of 3 masks are empty" in notes(tmp_path)


def test_inverted_masks_are_noted(tmp_path):
    make_folders_dataset(tmp_path, ["a"])
    inverted = np.full((6, 7), 255, np.uint8)
    inverted[0, 0] = 0
    write_image(tmp_path / "masks/a.png", inverted)
    assert "data.mask.invert=true" in notes(tmp_path)
    assert "data.mask.invert=true" not in notes(tmp_path, coding=MaskCoding(invert=True))


def test_mixed_channels_and_floats_are_noted(tmp_path):
    make_folders_dataset(tmp_path, ["b"])
    write_image(tmp_path / "images/a.tif", noise(dtype=np.float32))
    write_image(tmp_path / "masks/a.png", blob())
    write_image(tmp_path / "images/b.png", noise(channels=3))
    text = notes(tmp_path)
    assert "images with 1 and 3 channels are mixed" in text and "own minimum and maximum" in text


# --- the digest -------------------------------------------------------------------------------------------


def digest(folder) -> str:
    return Cases.open(folder).check().digest


def test_the_digest_is_of_names_and_contents(tmp_path):
    first = digest(make_folders_dataset(tmp_path / "one", ["a", "b"]))
    assert digest(tmp_path / "one") == first
    for path in (tmp_path / "one").rglob("*.png"):
        os.utime(path, (1, 1))
    assert digest(tmp_path / "one") == first
    moved = shutil.move(tmp_path / "one", tmp_path / "two words")
    assert digest(moved) == first
    (moved / "notes.txt").write_text("not a part of it")
    assert digest(moved) == first

    mask = (moved / "masks/a.png").read_bytes()
    changed = blob()
    changed[5, 0] = 255
    write_image(moved / "masks/a.png", changed)
    other = digest(moved)
    assert other != first
    (moved / "masks/a.png").write_bytes(mask)
    assert digest(moved) == first
    for folder in ("images", "masks"):
        (moved / folder / "a.png").rename(moved / folder / "c.png")
    assert digest(moved) not in (first, other)


def test_swapped_contents_change_the_digest(tmp_path):
    first = digest(make_folders_dataset(tmp_path, ["a", "b"]))
    a, b = tmp_path / "images/a.png", tmp_path / "images/b.png"
    contents = a.read_bytes(), b.read_bytes()
    a.write_bytes(contents[1])
    b.write_bytes(contents[0])
    assert digest(tmp_path) != first


def test_the_digest_of_an_npz(tmp_path):
    found = []
    for value in (1, 1, 2):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        np.savez(folder / "a.npz", images=np.full((1, 2, 2), value, np.uint8), masks=np.ones((1, 2, 2), np.uint8))
        found.append(digest(folder / "a.npz"))
    assert found[0] == found[1] != found[2]


# --- the cache --------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The names of the files decoded so far."""
    names = []
    plain = readers.decode

    def counted(content, path, pages=False):
        names.append(path.name)
        return plain(content, path, pages)

    monkeypatch.setattr(readers, "decode", counted)
    return names


def test_nothing_is_decoded_on_opening_and_everything_once(tmp_path, reads):
    cases = Cases.open(make_suffix_dataset(tmp_path, ["a", "b"]))
    assert reads == []
    cases.check()
    cases.check()
    for case in cases:
        cases.image(case), cases.mask(case)
    assert sorted(reads) == ["a.png", "a_mask.png", "b.png", "b_mask.png"]


def test_without_a_cache_files_are_decoded_again(tmp_path, reads):
    cases = Cases.open(make_suffix_dataset(tmp_path, ["a"]))
    cases.cache = BoundedCache(0)
    cases.image(cases[0]), cases.image(cases[0])
    assert reads == ["a.png", "a.png"]


def arrays(size: int):
    return lambda: (np.zeros(size, np.uint8),)


def test_the_cache_is_bounded_and_drops_the_least_recently_used():
    cache = BoundedCache(100)
    made = []

    def get(key: str, size: int) -> None:
        cache.get(key, lambda: made.append(key) or arrays(size)())

    get("a", 40), get("b", 40), get("a", 40)
    assert made == ["a", "b"]
    get("c", 40)  # b goes, a was used after it
    get("a", 40), get("c", 40)
    assert made == ["a", "b", "c"]
    get("b", 40)
    assert made == ["a", "b", "c", "b"]
    assert cache._bytes == sum(a.nbytes for held in cache._held.values() for a in held) <= 100


def test_an_array_above_the_limit_pushes_nothing_out():
    cache = BoundedCache(100)
    kept = cache.get("a", arrays(60))
    assert cache.get("big", arrays(101))[0].nbytes == 101
    assert cache.get("a", arrays(60)) is kept
    assert cache._bytes == 60


def test_a_failure_is_not_kept():
    cache = BoundedCache(100)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: 1 / 0)
    assert cache.get("a", arrays(3))[0].nbytes == 3


# --- a sequence -------------------------------------------------------------------------------------------


def test_cases_are_a_sequence(tmp_path):
    cases = Cases.open(make_folders_dataset(tmp_path, ["a", "b", "c"]))
    assert len(cases) == 3 and cases[1].name == "b" and [case.name for case in cases[1:]] == ["b", "c"]
    assert [case.name for case in cases.named(["c", "a"])] == ["c", "a"]


def test_unknown_names_are_reported_together(tmp_path):
    cases = Cases.open(make_folders_dataset(tmp_path, ["a"]))
    with pytest.raises(DataError) as caught:
        cases.named(["x", "a", "y"])
    assert [problem.what for problem in caught.value.problems] == ["has no case named 'x'", "has no case named 'y'"]


# --- classes by folder ------------------------------------------------------------------------------------


def classes_in_folders(root, *, normal=False) -> Cases:
    for label in ("benign", "malignant", "normal"):
        make_suffix_dataset(root / label, [f"{label} (1)"])
    if not normal:
        write_image(root / "normal/normal (1)_mask.png", np.zeros((6, 7), np.uint8))
    return Cases.open(root, class_folders=("benign", "malignant"))


def test_a_folder_says_of_which_class_a_mask_is(tmp_path):
    cases = classes_in_folders(tmp_path)
    values = {case.label: np.unique(cases.mask(case)).tolist() for case in cases}
    assert values == {"benign": [0, 1], "malignant": [0, 2], "normal": [0]}
    assert cases.check().empty == {"normal (1)"}


def test_a_mask_in_a_folder_of_no_class_must_be_empty(tmp_path):
    (problem,) = told(classes_in_folders(tmp_path, normal=True))
    assert "normal (1)_mask.png: shows something, but lies in the folder 'normal'" in problem
    assert "data.classes" in problem


def test_a_mask_in_no_class_folder_is_reported(tmp_path):
    make_suffix_dataset(tmp_path, ["a"])
    (problem,) = told(Cases.open(tmp_path, class_folders=("benign", "malignant")))
    assert "lies in no class folder" in problem


def test_channels_of_two_types_are_refused(tmp_path):
    """Stacked, 8 bits would count as 16: nearly black."""
    write_image(tmp_path / "a.png", np.full((6, 7), 200, np.uint8))
    write_image(tmp_path / "b.png", np.full((6, 7), 60_000, np.uint16))
    source = ChannelSource((FileSource(tmp_path / "a.png"), FileSource(tmp_path / "b.png")))
    with pytest.raises(DataError, match=r"b\.png: holds uint16, the first channel uint8"):
        source.image()


@pytest.mark.parametrize(
    ("kinds", "wanted", "colored"),
    [
        (["gray", "gray"], 1, 0),
        (["gray", "equal"], 1, 0),
        (["equal", "equal"], 1, 0),
        (["colored", "colored"], 3, 2),
        (["gray", "colored"], 3, 1),
    ],
)
@pytest.mark.parametrize("channels", [None, 1, 3])
def test_channels_that_fit_and_what_is_said_of_others(tmp_path, kinds, wanted, colored, channels):
    made = {"gray": noise(), "equal": np.dstack([noise()] * 3), "colored": noise(channels=3)}
    for number, kind in enumerate(kinds):
        write_image(tmp_path / f"images/{number}.png", made[kind])
        write_image(tmp_path / f"masks/{number}.png", blob())
    checked = Cases.open(tmp_path, channels=channels).check()
    assert (checked.fitting_channels, checked.colored) == (wanted, colored)
    told = {finding.code: finding.what for finding in checked.findings if "color" in finding.code}
    expected = {}
    if channels == 1 and colored:
        expected["color-as-gray"] = f"{colored} of 2 images are colored and are read as gray"
    if channels == 3 and not colored:
        expected["gray-as-color"] = "2 of 2 images are gray, and the net takes 3 channels"
    if channels != 1 and colored == 1:
        expected["mixed-colors"] = "1 of 2 images are gray, the others colored"
    assert told == expected


def test_contrasts_fit_channels_of_their_number(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 8, 8, 5), np.uint8), masks=np.zeros((3, 8, 8), np.uint8))
    assert Cases.open(tmp_path / "a.npz").check().fitting_channels == 5
