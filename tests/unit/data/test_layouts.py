import os
import pickle

import numpy as np
import pytest
from builders import blob, make_folders_dataset, make_suffix_dataset, noise, write_image, write_pair

from pocketseg.data import Cases
from pocketseg.data.layouts import LAYOUTS, natural_key
from pocketseg.errors import DataError


def names(cases: Cases) -> list[str]:
    return [case.name for case in cases]


def refusal(*args, **options) -> list[str]:
    """The problems of a data set that cannot be opened, without the parts that name the temporary folder."""
    with pytest.raises(DataError) as caught:
        Cases.open(*args, **options)
    return [str(problem) for problem in caught.value.problems]


def assert_sound(cases: Cases, layout: str, expected: list[str]) -> None:
    assert cases.layout == layout and names(cases) == expected
    for case in cases:
        assert cases.image(case).shape == (6, 7)
        np.testing.assert_array_equal(cases.mask(case), blob() > 0)


def assert_images_differ(cases: Cases) -> None:
    """Pairs are right: the builders give every image a noise of its own."""
    for number, case in enumerate(cases):
        np.testing.assert_array_equal(cases.image(case), noise(seed=number))


# --- each layout ------------------------------------------------------------------------------------------


def test_folders(tmp_path):
    cases = Cases.open(make_folders_dataset(tmp_path, ["a", "b"]))
    assert_sound(cases, "folders", ["a", "b"])
    assert_images_differ(cases)
    assert cases[0].image.path == tmp_path / "images/a.png" and cases[0].masks[0].path == tmp_path / "masks/a.png"


@pytest.mark.parametrize("absolute", [False, True])
def test_folders_of_other_names(tmp_path, absolute):
    make_folders_dataset(tmp_path, ["a", "b"], "Ultra sound", "reference/2024")
    prefix = f"{tmp_path}/" if absolute else ""
    cases = Cases.open(
        tmp_path if not absolute else tmp_path / "reference",
        images=f"{prefix}Ultra sound",
        masks=f"{prefix}reference/2024",
    )
    assert_sound(cases, "folders", ["a", "b"])
    assert_images_differ(cases)


def test_image_and_mask_may_have_other_suffixes(tmp_path):
    write_image(tmp_path / "images/a.JPG", noise(), format="JPEG")
    write_image(tmp_path / "masks/a.png", blob())
    assert names(Cases.open(tmp_path)) == ["a"]


def test_suffix(tmp_path):
    cases = Cases.open(make_suffix_dataset(tmp_path, ["a", "b"]))
    assert_sound(cases, "suffix", ["a", "b"])
    assert_images_differ(cases)
    assert cases[0].label is None


def test_several_masks_of_an_image_are_united(tmp_path):
    make_suffix_dataset(tmp_path, ["a", "a_mask_less"][:1])
    second, third = np.zeros((2, 6, 7), np.uint8)
    second[5, 6], third[0, 0] = 255, 1
    write_image(tmp_path / "a_mask_1.png", second)
    write_image(tmp_path / "a_mask_10.png", third)
    cases = Cases.open(tmp_path)
    assert names(cases) == ["a"] and len(cases[0].masks) == 3
    np.testing.assert_array_equal(cases.mask(cases[0]), (blob() > 0) | (second > 0) | (third > 0))


@pytest.mark.parametrize("outer", ["", "Dataset_BUSI_with_GT"])
def test_busi(tmp_path, outer):
    root = tmp_path / outer
    make_suffix_dataset(root / "benign", ["benign (1)", "benign (2)", "benign (10)"])
    make_suffix_dataset(root / "malignant", ["malignant (1)"])
    cases = Cases.open(tmp_path)
    assert_sound(cases, "busi", ["benign (1)", "benign (2)", "benign (10)", "malignant (1)"])
    assert [case.label for case in cases] == ["benign"] * 3 + ["malignant"]


def test_a_stem_in_two_classes_is_told_apart_by_the_class(tmp_path):
    for label in ("benign", "malignant"):
        make_suffix_dataset(tmp_path / label, ["1", "2"])
    assert names(Cases.open(tmp_path)) == ["benign/1", "benign/2", "malignant/1", "malignant/2"]


def test_isbi(tmp_path):
    make_folders_dataset(tmp_path / "train", ["0", "1", "10", "2"], "image", "label")
    write_image(tmp_path / "test/0.png", noise())
    assert_sound(Cases.open(tmp_path), "isbi-em", ["0", "1", "2", "10"])


def test_nested_unet(tmp_path):
    make_folders_dataset(tmp_path, ["a", "b"], masks="masks/0")
    assert_sound(Cases.open(tmp_path), "nested-unet", ["a", "b"])


def test_nested_unet_with_more_classes_is_refused(tmp_path):
    make_folders_dataset(tmp_path, ["a"], masks="masks/0")
    write_image(tmp_path / "masks/1/a.png", blob())
    (problem,) = refusal(tmp_path)
    assert "one folder a class (0, 1)" in problem


@pytest.mark.parametrize("members", [("images", "masks"), ("arr_0", "arr_1")])
@pytest.mark.parametrize("channel", [False, True])
def test_npz(tmp_path, members, channel):
    images, masks = np.stack([noise(seed=n) for n in range(12)]), np.stack([blob()] * 12)
    if channel:
        images, masks = images[..., None], masks[..., None]
    path = tmp_path / "set.npz"
    np.savez(path, **dict(zip(members, (images, masks), strict=True)))
    cases = Cases.open(path)
    assert_sound(cases, "npz", [f"{n:02d}" for n in range(12)])
    assert_images_differ(cases)


@pytest.mark.parametrize("single", [True, False])
def test_arrays_that_are_written_again_are_read_again(tmp_path, single):
    """In one process, as in a notebook."""
    for level in (10, 200):
        arrays = {"images": np.full((3, 8, 8), level, np.uint8), "masks": np.stack([blob(8, 8)] * 3)}
        if single:
            np.savez(tmp_path / "set.npz", **arrays)
        else:
            for name, array in arrays.items():
                np.save(tmp_path / f"{name}.npy", array)
        cases = Cases.open(tmp_path / "set.npz" if single else tmp_path)
        assert cases.image(cases[1]).max() == level


def test_an_array_that_shrinks_while_it_is_used(tmp_path):
    def save(count: int) -> None:
        np.savez(tmp_path / "set.npz", images=np.zeros((count, 8, 8)), masks=np.zeros((count, 8, 8)))

    save(3)
    cases = Cases.open(tmp_path / "set.npz")
    save(2)
    with pytest.raises(DataError, match="is not there any more"):
        cases.image(cases[2])


def test_two_npy_files(tmp_path):
    np.save(tmp_path / "images.npy", np.stack([noise(seed=n) for n in range(3)]))
    np.save(tmp_path / "masks.npy", np.stack([blob()] * 3))
    cases = Cases.open(tmp_path)
    assert_sound(cases, "npz", ["0", "1", "2"])
    assert_images_differ(cases)
    (tmp_path / "images.npy").rename(tmp_path / "X.npy")
    assert_images_differ(Cases.open(tmp_path, images="X.npy", masks="masks.npy"))


def test_a_float_array_with_a_hole_is_reported(tmp_path):
    images = np.zeros((2, 6, 7))
    images[1, 2, 3] = np.nan
    np.savez(tmp_path / "set.npz", images=images, masks=np.stack([blob()] * 2))
    cases = Cases.open(tmp_path / "set.npz")
    with pytest.raises(DataError) as caught:
        cases.check()
    assert str(caught.value).startswith(f"{tmp_path / 'set.npz'}[images, 1]: pixels are NaN")


# --- detection --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_data_set_is_found_two_folders_down(tmp_path, depth):
    root = tmp_path.joinpath(*["x", "y"][:depth])
    make_folders_dataset(root, ["a"])
    assert names(Cases.open(tmp_path)) == ["a"]


def test_a_data_set_three_folders_down_is_not_looked_for(tmp_path):
    make_folders_dataset(tmp_path / "x/y/z", ["a"])
    assert "no images with masks were found" in refusal(tmp_path)[0]


def test_two_data_sets_are_ambiguous(tmp_path):
    for name in ("one", "two"):
        make_folders_dataset(tmp_path / name, ["a"])
    (problem,) = refusal(tmp_path)
    assert "holds several data sets" in problem and "one" in problem and "two" in problem


def test_a_layout_can_be_named(tmp_path):
    make_folders_dataset(tmp_path, ["a"])
    make_suffix_dataset(tmp_path, ["b"])
    assert names(Cases.open(tmp_path)) == ["a"]
    assert names(Cases.open(tmp_path, layout="suffix")) == ["b"]


@pytest.mark.parametrize("options", [{}, {"images": "images", "masks": "masks"}])
def test_an_unknown_layout_lists_the_near_ones(tmp_path, options):
    make_folders_dataset(tmp_path, ["a"])
    (problem,) = refusal(tmp_path, layout="foldres", **options)
    assert problem == "data.layout=foldres: is not a layout → did you mean folders?"


def test_where_nothing_is_found_the_usual_layouts_are_reported(tmp_path):
    (problem,) = refusal(tmp_path)
    for text in ("images/NAME.png + masks/NAME.png", "NAME_mask.png", "data.images=", "pocketseg data layouts"):
        assert text in problem


def test_a_folder_that_does_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (problem,) = refusal("gone")
    assert problem == f"gone: does not exist (looked at {tmp_path / 'gone'}) → check the path of the data set"


@pytest.mark.parametrize("layout", ["auto", *sorted(set(LAYOUTS) - {"npz"})])
def test_a_file_is_no_folder(tmp_path, layout):
    path = write_image(tmp_path / "a.png", noise())
    assert len(refusal(path, layout=layout)) >= 1


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_an_empty_folder_has_no_cases_in_any_layout(tmp_path, layout):
    assert len(refusal(tmp_path, layout=layout)) >= 1


@pytest.mark.parametrize("given", [{"images": "images"}, {"masks": "masks"}])
def test_one_of_two_folders_is_too_few(tmp_path, given):
    make_folders_dataset(tmp_path, ["a"])
    assert "only one of the two is given" in refusal(tmp_path, **given)[0]


def test_folders_that_do_not_exist_are_reported_together(tmp_path):
    problems = refusal(tmp_path, images="x", masks="y")
    assert [
        f"{tmp_path / name}: the folder does not exist" in problem for name, problem in zip("xy", problems, strict=True)
    ]


# --- names ------------------------------------------------------------------------------------------------


def test_natural_order(tmp_path):
    stems = ["10", "2", "1", "b", "a11", "a2"]
    assert names(Cases.open(make_folders_dataset(tmp_path, stems))) == ["1", "2", "10", "a2", "a11", "b"]
    assert sorted(["x1y10", "x1y9", "x01y9", "²", "1"], key=natural_key)[0] == "1"


def test_litter_is_ignored(tmp_path):
    make_folders_dataset(tmp_path, ["a"])
    for folder in ("images", "masks"):
        for name in ("Thumbs.db", ".DS_Store", "._a.png", "desktop.ini", ".hidden.png", "notes.txt"):
            (tmp_path / folder / name).write_bytes(b"x")
        (tmp_path / folder / "sub").mkdir()
        (tmp_path / folder / "folder.png").mkdir()
    assert names(Cases.open(tmp_path)) == ["a"]


ODD = ["1.2.840.113619", "with space", "it's", 'say "a"', "-rf", "%s{x}", "病变", "ß σ", "😀", "a\nb", "é", "e\u0301x"]


@pytest.mark.parametrize("make", [make_folders_dataset, make_suffix_dataset])
def test_odd_names(tmp_path, make):
    cases = Cases.open(make(tmp_path, ODD))
    assert sorted(names(cases)) == sorted(ODD)
    assert cases.check().files == 2 * len(ODD)


def test_a_name_that_is_no_utf8(tmp_path):
    name = os.fsdecode(b"\xff\xfe")
    cases = Cases.open(make_folders_dataset(tmp_path, [name]))
    assert names(cases) == [name]
    assert cases.check().files == 2


def test_stems_pair_exactly(tmp_path):
    """1 is not 11, and 1.5 is not 1."""
    cases = Cases.open(make_folders_dataset(tmp_path, ["1", "10", "11", "1.5"]))
    for case in cases:
        assert case.image.path.name == case.masks[0].path.name == f"{case.name}.png"


# --- faults -----------------------------------------------------------------------------------------------


def test_all_faults_of_two_folders_are_reported_at_once(tmp_path):
    make_folders_dataset(tmp_path, ["good"])
    write_image(tmp_path / "images/alone.png", noise())
    write_image(tmp_path / "masks/m2.png", blob())
    write_image(tmp_path / "masks/m10.png", blob())
    write_image(tmp_path / "images/good.tif", noise())
    problems = refusal(tmp_path)
    assert len(problems) == 3
    assert "the same stem twice: good.png and good.tif → keep one of them" in problems[0]
    assert problems[1].startswith(f"{tmp_path / 'images/alone.png'}: has no mask in {tmp_path / 'masks'}; ")
    # In natural order, whatever the hash seed.
    files = f"{tmp_path / 'masks/m2.png'}, {tmp_path / 'masks/m10.png'}"
    assert problems[2].startswith(f"{files}: 2 of 3 masks have no image in {tmp_path / 'images'} → ")


@pytest.mark.parametrize("count", [1, 2, 400])
def test_one_problem_sums_up_all_files(tmp_path, count):
    """And names what would pair them."""
    for number in range(count):
        write_pair(tmp_path / f"images/s{number}.png", tmp_path / f"masks/s{number}_2.png")
    with pytest.raises(DataError) as caught:
        Cases.open(tmp_path)
    first, second = caught.value.problems
    assert len(first.files) == len(second.files) == count
    assert f"all {count} masks are the image's stem as {{stem}}_2" in first.what
    assert "--set data.mask.suffix=_2 pairs them" in first.fix
    assert len(str(caught.value)) < 1200
    assert len(Cases.open(tmp_path, naming=["_2"])) == count


def test_all_faults_of_a_suffix_folder_are_reported_at_once(tmp_path):
    make_suffix_dataset(tmp_path, ["good"])
    write_image(tmp_path / "alone.png", noise())
    write_image(tmp_path / "lost_mask_1.png", blob())
    write_image(tmp_path / "lost_mask_2.png", blob())
    write_image(tmp_path / "good_mask_mask.png", blob())
    write_image(tmp_path / "good_mask.tif", blob())
    problems = refusal(tmp_path)
    assert [problem.split(": ")[0].removeprefix(f"{tmp_path}/") for problem in problems] == [
        "good_mask.png",
        "alone.png",
        f"good_mask_mask.png, {tmp_path}/lost_mask_1.png, {tmp_path}/lost_mask_2.png",
    ]
    assert "add alone_mask.png" in problems[1] and "3 of 4 masks have no image" in problems[2]


def test_faults_of_all_class_folders_are_reported(tmp_path):
    for label in ("a", "b"):
        make_suffix_dataset(tmp_path / label, [f"{label}1"])
        write_image(tmp_path / label / "alone.png", noise())
    assert len(refusal(tmp_path)) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads folders of any mode")
def test_a_folder_of_mode_0(tmp_path):
    make_folders_dataset(tmp_path, ["a"])
    (tmp_path / "masks").chmod(0)
    try:
        assert "permission denied" in refusal(tmp_path)[0]
    finally:
        (tmp_path / "masks").chmod(0o755)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.row("S02")
def test_pickles_are_never_opened(tmp_path):
    bird = tmp_path / "it-sang"
    objects = np.empty((1, 2, 2), object)
    objects[:] = Canary(bird)
    np.savez(tmp_path / "a.npz", images=objects, masks=np.zeros((1, 2, 2), np.uint8))
    np.save(tmp_path / "images.npy", objects)
    np.save(tmp_path / "masks.npy", objects)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Canary(bird)))
    for path in (tmp_path / "a.npz", tmp_path / "b.npz", tmp_path):
        assert "is not a readable NumPy file" in refusal(path)[0]
    assert not bird.exists()


def test_a_torn_npz(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", images=np.stack([noise()] * 4), masks=np.stack([blob()] * 4))
    whole = (tmp_path / "a.npz").read_bytes()
    for number, share in enumerate((0, 0.1, 0.5, 0.9)):
        path = tmp_path / f"cut{number}.npz"
        path.write_bytes(whole[: int(share * len(whole))])
        assert refusal(path)[0].startswith(f"{path}: is not a readable NumPy file")
    flipped = bytearray(whole)
    flipped[len(whole) // 4] ^= 0xFF
    (tmp_path / "flip.npz").write_bytes(flipped)
    assert "is not a readable NumPy file" in refusal(tmp_path / "flip.npz")[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3), "y": np.zeros(3)}, "holds the arrays x, y → name them `images` and `masks`"),
        ({"images": np.zeros((2, 4, 4)), "masks": np.zeros((3, 4, 4))}, "2 images and 3 masks"),
        ({"images": np.zeros((4, 4)), "masks": np.zeros((4, 4))}, "has the shape (4, 4)"),
        ({"images": np.zeros((2, 0, 4)), "masks": np.zeros((2, 0, 4))}, "has the shape (2, 0, 4)"),
        ({"images": np.zeros((2, 4, 4), "U3"), "masks": np.zeros((2, 4, 4))}, "holds <U3"),
        ({"images": np.zeros((2, 4, 4), complex), "masks": np.zeros((2, 4, 4))}, "holds complex128"),
        ({"images": np.zeros((0, 4, 4)), "masks": np.zeros((0, 4, 4))}, "holds no images"),
    ],
)
def test_arrays_that_make_no_sense(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    assert message in refusal(tmp_path / "a.npz")[0]


def test_missing_npy_files_are_reported_together(tmp_path):
    problems = refusal(tmp_path, layout="npz")
    assert len(problems) == 2 and all("the file does not exist" in problem for problem in problems)


@pytest.mark.parametrize(
    ("names", "proposed"),
    [
        ({"a": "a{}", "b": "b{}q"}, None),
        ({"first": "{}", "second": "{}"}, ("first", "second")),
        ({"pics": "x{}", "hand labels": "y{}z{}"}, ("pics", "hand labels")),
    ],
    ids=["by chance", "names pair", "called so"],
)
def test_only_what_may_be_images_and_masks_is_proposed(tmp_path, names, proposed):
    """Two folders of the same number of files say nothing."""
    for folder, stem in {**names, "more things": "{}-{}-p"}.items():
        for number in range(5 if folder == "more things" else 6):
            write_image(tmp_path / folder / f"{stem.format(number, 7 * number)}.png", noise())
    [told] = refusal(tmp_path)
    assert ("closest are two folders" in told) is (proposed is not None)
    if proposed is not None:
        assert f"--set 'data.images={proposed[0]}' --set 'data.masks={proposed[1]}'" in told


@pytest.mark.parametrize("name", ["cases.csv", "cases.CSV"])
def test_a_table_with_other_headers_says_which_it_has_and_needs(tmp_path, name):
    (tmp_path / name).write_text("picture;truth;pat\na.png;b.png;1\n")
    [told] = refusal(tmp_path / name)
    assert "has the columns picture, truth, pat; a table of paths has image and mask" in told and "image_id" in told
    [told] = refusal(tmp_path)
    if name.endswith("csv"):
        assert "cases.csv has the columns picture, truth, pat, a table of paths has image and mask" in told


def test_other_files_are_no_data_set(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    assert "is a file of no data set that is known" in refusal(tmp_path / "a.txt")[0]
