"""Masks become COCO files and tables of run lengths, and come back as they were."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from pocketseg.data import Cases, MaskCoding
from pocketseg.errors import DataError
from pocketseg.flows.convert import Options, convert
from pocketseg.flows.evaluate import evaluate

SHAPE = (14, 19)
NAMES = ["a", "b", "c"]


def drawn(seed, classes=1):
    """Objects with holes, parts that touch at a corner, and single pixels."""
    rng = np.random.default_rng(seed)
    mask = (rng.random(SHAPE) < 0.4) * rng.integers(1, classes + 1, SHAPE)
    mask[2:7, 2:7] = 1
    mask[4, 4] = 0
    return mask.astype(np.uint8)


def data(root, classes=1, empty="c"):
    masks = {name: drawn(seed, classes) * (name != empty) for seed, name in enumerate(NAMES)}
    for seed, (name, mask) in enumerate(masks.items()):
        for part, pixels in (("images", np.random.default_rng(seed).integers(0, 255, SHAPE)), ("masks", mask)):
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(root / part / f"{name}.png")
    return masks


def back(root, layout, names, masks):
    """What is written lies beside the images alone, and is read by itself."""
    cases = Cases.open(root, names=names, coding=MaskCoding(classes=len(names)))
    assert cases.layout == layout
    for case in cases:
        np.testing.assert_array_equal(cases.mask(case), masks[case.name], err_msg=case.name)
    assert len(cases) == len(masks)


@pytest.mark.parametrize(("file", "layout"), [("out.json", "coco"), ("out.csv", "rle-csv")])
@pytest.mark.parametrize("classes", [["lesion"], ["liver", "tumor"]])
def test_every_pixel_comes_back(tmp_path, file, layout, classes):
    masks = data(tmp_path / "in", len(classes))
    chosen = [f"data.classes=[{','.join(classes)}]"]
    assert convert("auto", tmp_path / "in", tmp_path / file, overrides=chosen).written == 3
    for mask in (tmp_path / "in/masks").iterdir():
        mask.unlink()
    (tmp_path / file).rename(tmp_path / "in" / file)
    back(tmp_path / "in", layout, classes, masks)


def test_a_coco_file_is_as_others_expect_it(tmp_path):
    masks = data(tmp_path / "in")
    convert("auto", tmp_path / "in", tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert [each["file_name"] for each in content["images"]] == [f"images/{name}.png" for name in NAMES]
    assert content["categories"] == [{"id": 1, "name": "lesion"}]
    assert {each["image_id"] for each in content["annotations"]} == {1, 2}
    of_a = [each for each in content["annotations"] if each["image_id"] == 1]
    assert sum(each["area"] for each in of_a) == masks["a"].sum()
    for each in of_a:
        left, top, width, height = each["bbox"]
        assert 0 < each["area"] <= width * height and left + width <= SHAPE[1] and top + height <= SHAPE[0]
    assert {type(each["segmentation"]) for each in of_a} == {list, dict}  # one has a hole


def test_the_table_of_kaggle(tmp_path):
    masks = data(tmp_path / "in")
    convert("auto", tmp_path / "in", tmp_path / "out.csv")
    rows = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert rows[0] == ["image_id", "rle"] and [row[0] for row in rows[1:]] == NAMES and rows[3][1] == ""
    numbers = [int(word) for word in rows[1][1].split()]
    pixels = {start + more for start, length in zip(numbers[::2], numbers[1::2], strict=True) for more in range(length)}
    assert pixels == {1 + column * SHAPE[0] + row for row, column in np.argwhere(masks["a"]).tolist()}


def test_without_the_empty_ones(tmp_path):
    data(tmp_path / "in")
    done = convert("auto", tmp_path / "in", tmp_path / "out.json", Options(drop_empty=True))
    assert (done.written, done.left_out) == (2, 1)


def test_a_folder_of_masks_becomes_a_table_and_is_evaluated(tmp_path):
    data(tmp_path / "in")
    convert("masks-to-rle", tmp_path / "in/masks", tmp_path / "table.csv")
    found = evaluate(tmp_path / "table.csv", tmp_path / "in", out=tmp_path / "scores")
    assert len(found.rows) == 3 and all(row.dice == 1 or row.case == "c" for row in found.rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image_id,rle\na,1 2\n", "has no row for the case 'b'"),
        ("image_id,class,rle\na,x,1 2\nb,y,1 2\nc,x,\n", "none of lesion: x, y"),
        ("image_id,rle\na,1 999\nb,\nc,\n", "cannot be painted"),
        ("image_id,rle,height,width\na,,3,4\nb,,3,4\nc,,3,4\n", "masks of 3×4"),
        ("image_id,dice\na,1\n", "needed are image_id and rle"),
    ],
)
def test_tables_that_cannot_be_evaluated(tmp_path, text, words):
    data(tmp_path / "in")
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        evaluate(tmp_path / "table.csv", tmp_path / "in", out=tmp_path / "scores")


def test_what_a_file_of_annotations_cannot_hold(tmp_path):
    data(tmp_path / "in")
    with pytest.raises(DataError, match="images stay as they are"):
        convert("auto", tmp_path / "in", tmp_path / "out.json", Options(size=(8, 8)))
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 8, 8), np.uint8), masks=np.ones((2, 8, 8), np.uint8))
    with pytest.raises(DataError, match="2 images are not files of their own"):
        convert("auto", tmp_path / "set.npz", tmp_path / "out.json")
    with pytest.raises(DataError, match=r"is not a \.csv file"):
        convert("masks-to-rle", tmp_path / "in/masks", tmp_path / "folder")


def test_what_became_of_shapes_is_told(tmp_path, caplog):
    masks = data(tmp_path / "in")
    convert("auto", tmp_path / "in", tmp_path / "in/out.json")
    content = json.loads((tmp_path / "in/out.json").read_text())
    content["annotations"][0]["segmentation"] = [[-9, -9, 5, -9, 5, 5, -9, 5]]
    (tmp_path / "in/out.json").write_text(json.dumps(content))
    convert("coco", tmp_path / "in", tmp_path / "plain")
    assert "1 shapes reach out of their image" in caplog.text
    assert len(masks) == len(list((tmp_path / "plain/masks").iterdir()))
