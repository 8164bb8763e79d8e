"""Annotations in files of their own become masks: COCO and what all formats share."""

import json

import numpy as np
import pytest
from builders import write_image

from pocketseg.data import Cases, MaskCoding
from pocketseg.data.annotations import rle
from pocketseg.data.doctor.checkup import checkup
from pocketseg.errors import DataError

SHAPE = (6, 8)
SQUARE = [1, 1, 4, 1, 4, 4, 1, 4]  # x, y: columns 1 to 3, rows 1 to 3
RIGHT = [3, 2, 7, 2, 7, 5, 3, 5]


def area(top, left, bottom, right, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def coco(root, notes, categories=("lesion",), images=("a", "b"), file="annotations/instances.json"):
    """A data set of COCO; a note is (image number, category number, segmentation)."""
    for number, name in enumerate(images):
        write_image(root / f"images/{name}.png", np.random.default_rng(number).integers(0, 255, SHAPE).astype(np.uint8))
    content = {
        "images": [
            {"id": number, "file_name": f"{name}.png", "height": SHAPE[0], "width": SHAPE[1]}
            for number, name in enumerate(images)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, start=1)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": 0}
            for number, (image, category, segmentation) in enumerate(notes)
        ],
    }
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return root


def masks(root, *classes, **options):
    names = tuple(classes) or ("lesion",)
    cases = Cases.open(root, names=names, coding=MaskCoding(classes=len(names)), **options)
    return {case.name: cases.mask(case) for case in cases}


def refusal(root, *classes, **options):
    with pytest.raises(DataError) as caught:
        masks(root, *classes, **options)
    return "\n".join(str(problem) for problem in caught.value.problems)


def test_polygons_and_images_without_any(tmp_path):
    cases = Cases.open(coco(tmp_path, [(0, 1, [SQUARE])]))
    assert cases.layout == "coco" and [case.name for case in cases] == ["a", "b"]
    np.testing.assert_array_equal(cases.mask(cases[0]), area(1, 1, 4, 4))
    assert not cases.mask(cases[1]).any()
    assert cases.image(cases[0]).shape == SHAPE and len(cases.files()) == 3


def test_the_file_itself_can_be_given(tmp_path):
    coco(tmp_path, [(0, 1, [SQUARE])])
    assert list(masks(tmp_path / "annotations/instances.json")) == ["a", "b"]


def test_links_out_of_the_data_set_are_refused(tmp_path):
    root = coco(tmp_path / "data", [(0, 1, [SQUARE])])
    elsewhere = write_image(tmp_path / "secret.png", np.zeros(SHAPE, np.uint8))
    (root / "images/a.png").unlink()
    (root / "images/a.png").symlink_to(elsewhere)
    for given in (root, root / "annotations/instances.json"):
        assert "a.png: is a link to a place outside" in refusal(given)


def test_parts_of_a_shape_are_united(tmp_path):
    found = masks(coco(tmp_path, [(0, 1, [SQUARE, RIGHT])]))["a"]
    np.testing.assert_array_equal(found, area(1, 1, 4, 4) | area(2, 3, 5, 7))


@pytest.mark.parametrize("crowd", [0, 1])
@pytest.mark.parametrize("written", [list, rle.text_of_counts])
def test_run_lengths(tmp_path, written, crowd):
    wanted = area(0, 0, 3, 2) | area(4, 5, 6, 8)
    note = {"size": list(SHAPE), "counts": written(rle.counts_of_mask(wanted))}
    root = coco(tmp_path, [(0, 1, note)])
    path = root / "annotations/instances.json"
    path.write_text(path.read_text().replace('"iscrowd": 0', f'"iscrowd": {crowd}'))
    np.testing.assert_array_equal(masks(root)["a"], wanted)


def test_categories_find_their_classes_by_name(tmp_path):
    root = coco(tmp_path, [(0, 1, [SQUARE]), (1, 2, [RIGHT])], ["tumor", "liver"])
    found = masks(root, "liver", "tumor")
    np.testing.assert_array_equal(found["a"], area(1, 1, 4, 4) * 2)
    np.testing.assert_array_equal(found["b"], area(2, 3, 5, 7) * 1)


def test_one_category_is_the_one_class_whatever_it_is_called(tmp_path):
    assert masks(coco(tmp_path, [(0, 1, [SQUARE])], ["mitosis", "never drawn"]))["a"].sum() == 9


def test_several_categories_and_one_class(tmp_path):
    root = coco(tmp_path, [(0, 1, [SQUARE]), (1, 2, [RIGHT])], ["tumor", "liver"])
    told = refusal(root)
    assert "liver (in 1 image), tumor (in 1 image)" in told and "data.classes=[liver,tumor]" in told
    united = Cases.open(root, names=("lesion",), coding=MaskCoding(threshold=1))
    assert [int(united.mask(case).sum()) for case in united] == [9, 12]


def test_the_hint_can_be_given_as_it_is(tmp_path):
    from pocketseg.recipes import load_data_recipe
    from pocketseg.runs.opening import open_cases

    root = coco(tmp_path, [(0, 1, [SQUARE]), (1, 2, [RIGHT])], ["7", "left lung"])
    hint = refusal(root).partition("--set '")[2].partition("'")[0]
    assert hint == 'data.classes=["7",left lung]'
    cases = open_cases(root, load_data_recipe("thin-unet", [hint]).data)
    assert [int(cases.mask(case).max()) for case in cases] == [1, 2]


def test_some_of_the_categories_can_be_named_and_the_others_are_told(tmp_path):
    root = coco(tmp_path, [(0, 1, [SQUARE]), (0, 2, [RIGHT])], ["tumor", "liver"])
    cases = Cases.open(root, names=("tumor",))
    assert cases.mask(cases[0]).sum() == 9
    (found,) = [each for each in cases.check().findings if each.code == "annotation"]
    assert "background: liver (in 1 image)" in found.what


def test_a_class_that_no_category_has(tmp_path):
    told = refusal(coco(tmp_path, [(0, 1, [SQUARE]), (0, 2, [RIGHT])], ["tumor", "liver"]), "tumour", "liver")
    assert "tumour: did you mean tumor?" in told


def test_without_names_as_many_categories_are_the_classes(tmp_path):
    root = coco(tmp_path, [(0, 1, [SQUARE]), (1, 2, [RIGHT])], ["tumor", "liver"])
    cases = Cases.open(root, coding=MaskCoding(classes=2))
    assert [int(cases.mask(case).max()) for case in cases] == [2, 1]


def test_the_later_shape_covers_the_earlier_and_that_is_told(tmp_path):
    root = coco(tmp_path, [(0, 1, [SQUARE]), (0, 2, [RIGHT])], ["tumor", "liver"])
    cases = Cases.open(root, names=("tumor", "liver"), coding=MaskCoding(classes=2))
    np.testing.assert_array_equal(cases.mask(cases[0]), np.where(area(2, 3, 5, 7), 2, area(1, 1, 4, 4)))
    (found,) = [each for each in checkup(cases).findings if each.code == "annotation"]
    assert "2 pixels" in found.what and "1 of 2 images" in found.what


def test_what_reaches_out_of_the_image_is_cut_and_told(tmp_path):
    cases = Cases.open(coco(tmp_path, [(0, 1, [[-5, 2, 20, 2, 20, 4, -5, 4], [1, 1, 2, 2]])]))
    np.testing.assert_array_equal(cases.mask(cases[0]), area(2, 0, 4, 8))
    told = " ".join(each.what for each in cases.check().findings if each.code == "annotation")
    assert "1 shapes reach out" in told and "1 points, lines" in told


def test_an_image_of_another_size(tmp_path):
    root = coco(tmp_path, [(0, 1, [SQUARE])])
    write_image(root / "images/a.png", np.zeros((9, 7), np.uint8))
    with pytest.raises(DataError, match=r"6×8 \(rows×columns\), but the image has 9×7") as caught:
        Cases.open(root).check()
    assert "instances.json (a.png)" in str(caught.value)


def test_missing_images_are_one_problem(tmp_path):
    root = coco(tmp_path, [(0, 1, [SQUARE])], images=[f"i{number}" for number in range(40)])
    for number in range(1, 40):
        (root / f"images/i{number}.png").unlink()
    told = refusal(root)
    assert "39 of its images are not there: i1.png, i2.png, i3.png and 36 more" in told and told.count("→") == 1


def test_faults_of_a_kind_are_one_problem(tmp_path):
    notes = [(0, 7, [SQUARE]), (0, 8, [SQUARE]), (5, 1, [SQUARE]), (0, 1, []), (1, 1, [SQUARE])]
    told = refusal(coco(tmp_path, notes)).splitlines()
    assert len(told) == 3
    assert "2 annotations: each has a category that the file does not name (category_id 7, 8)" in "".join(told)
    assert "1 annotations: each is of no image" in "".join(told) and "has a box and no segmentation (id 3)" in "".join(
        told
    )


def test_parts_of_the_split(tmp_path):
    for part, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        coco(tmp_path / part, [(0, 1, [SQUARE])], images=[name], file="_annotations.coco.json")
        (tmp_path / part / f"images/{name}.png").rename(tmp_path / part / f"{name}.png")
    cases = Cases.open(tmp_path)
    assert [case.part for case in cases] == ["train", "validation", "test"]


def test_an_image_in_two_files(tmp_path):
    coco(tmp_path, [(0, 1, [SQUARE])])
    coco(tmp_path, [(0, 1, [SQUARE])], file="annotations/again.json")
    assert "2 images are annotated twice: a.png, b.png" in refusal(tmp_path)


def test_equal_names_in_folders(tmp_path):
    root = coco(tmp_path, [(0, 1, [SQUARE]), (1, 1, [RIGHT])], images=["p1/1", "p2/1"])
    found = masks(root)
    assert {name: int(mask.sum()) for name, mask in found.items()} == {"images/p1/1": 9, "images/p2/1": 12}
    doubtful = coco(tmp_path / "other", [(0, 1, [SQUARE])], images=["p1/1", "p2/1"])
    path = doubtful / "annotations/instances.json"
    path.write_text(path.read_text().replace("p1/1.png", "1.png"))
    assert "1 of its images are there several times: 1.png" in refusal(doubtful)


@pytest.mark.row("S05")
def test_images_outside_of_the_data_set_are_never_read(tmp_path):
    write_image(tmp_path / "secret.png", np.zeros(SHAPE, np.uint8))
    root = coco(tmp_path / "data", [(0, 1, [SQUARE])])
    path = root / "annotations/instances.json"
    path.write_text(
        path.read_text().replace('"a.png"', f'"{tmp_path}/secret.png"').replace('"b.png"', '"../secret.png"')
    )
    assert "2 of its images are not there" in refusal(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"annotations": None}, "not a readable"),
        ({"images": [{"id": 1}]}, "not a readable"),
        ({"images": [{"id": None, "file_name": "a.png"}]}, "is not an id"),
        ({"images": [{"id": 0, "file_name": "a.png"}, {"id": 0, "file_name": "b.png"}]}, "same id"),
        ({"images": [{"id": 0, "file_name": "a.png", "height": "x", "width": 3}]}, "not a readable"),
        ({"images": [{"id": 0, "file_name": "a.png", "height": -1, "width": 3}]}, "-1×3"),
        ({"categories": [{"id": 1}]}, "not a readable"),
    ],
)
def test_files_that_are_no_coco(tmp_path, change, words):
    path = coco(tmp_path, [(0, 1, [SQUARE])]) / "annotations/instances.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert words in refusal(tmp_path)


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 2, 3]], "pairs of x and y"),
        ([[1, 2, 3, "x"]], "not numbers"),
        ([[1, 2, 3, 1e400]], "not a readable"),
        ([[1, 2, 3, 10**400]], "not numbers"),
        ([[1, 2, 3, 1e9]], "far outside"),
        ([[[[1, 2]]]], "pairs of x and y"),
        ("abc", "neither polygons"),
        ({"size": [6, 9], "counts": [54]}, "on an image of"),
        ({"size": [6], "counts": [54]}, "not a readable"),
        ({"size": [6, 8], "counts": ["a"]}, "not numbers"),
        ({"counts": [1]}, "not a readable"),
    ],
)
def test_segmentations_that_make_no_sense(tmp_path, segmentation, words):
    assert words in refusal(coco(tmp_path, [(0, 1, segmentation)]))


@pytest.mark.parametrize(
    ("counts", "words"), [([40, 9], "49 pixels for 6×8"), ("\u00ff", "run"), ([49, -1], "negative")]
)
def test_run_lengths_that_cannot_be_painted(tmp_path, counts, words):
    root = coco(tmp_path, [(0, 1, {"size": [6, 8], "counts": counts}), (1, 1, [SQUARE])])
    with pytest.raises(DataError, match=rf"instances.json \(a.png\): .*cannot be painted.*{words}"):
        Cases.open(root).check()


@pytest.mark.row("S05", "S07")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [], "categories": [], "annotations": ' + "[" * 100_000, "nested too deeply"),
        ('{"images": [], "categories": [], "annotations": [NaN]}', "NaN is not a number"),
        ('{"images": [], "categories": [], "annotations": [', "not a readable"),
        ('{"images": [], "categories": [], "annotations": [' + "1" * 5000 + "]}", "not a readable"),
    ],
)
def test_hostile_json(tmp_path, text, words):
    (tmp_path / "a.json").write_text(text)
    assert words in refusal(tmp_path)


def test_a_file_of_very_many_values_is_not_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr("pocketseg.data.annotations.reading.MAX_VALUES", 20)
    assert "more than 20 values" in refusal(coco(tmp_path, [(0, 1, [SQUARE])]))


def test_a_file_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr("pocketseg.data.annotations.reading.MAX_BYTES", 100)
    assert "more than 100" in refusal(coco(tmp_path, [(0, 1, [SQUARE])]))
