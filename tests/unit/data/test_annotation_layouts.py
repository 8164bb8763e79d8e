"""LabelMe, CVAT, YOLO, VIA and run lengths in tables."""

import json

import numpy as np
import pytest
from builders import write_image

from pocketseg.data import Cases, MaskCoding
from pocketseg.data.annotations.rle import text_of_pairs
from pocketseg.errors import DataError

SHAPE = (30, 40)
POLYGON = [[5, 4], [15, 4], [15, 14], [5, 14]]  # x, y


def area(top, left, bottom, right):
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


def disk(row, column, radius):
    rows, columns = np.indices(SHAPE) + 0.5
    return (rows - row) ** 2 + (columns - column) ** 2 < radius**2


def picture(path, shape=SHAPE):
    return write_image(path, np.random.default_rng(len(path.stem)).integers(0, 255, shape).astype(np.uint8))


def opened(root, layout, *names, **options):
    """Masks by the names of their cases; the layout must be found by itself."""
    names = names or ("lesion",)
    cases = Cases.open(root, names=names, coding=MaskCoding(classes=len(names)), **options)
    assert cases.layout == layout
    return {case.name: cases.mask(case) for case in cases}


def refusal(root, **options):
    with pytest.raises(DataError) as caught:
        Cases.open(root, **options).check()
    return "\n".join(str(problem) for problem in caught.value.problems)


def told(root, **options):
    found = Cases.open(root, **options).check().findings
    return " ".join(each.what for each in found if each.code == "annotation")


def equal_but_for_the_rim(found, wanted):
    """Polygons of circles lie inside of them, but for no pixel far from the line."""
    apart = found.astype(bool) != wanted
    assert found.any() and apart.sum() <= 2


# --- LabelMe ------------------------------------------------------------------------------------------------


def labelme(folder, name, *shapes, **changes):
    picture(folder / f"{name}.png")
    content = {
        "version": "5.4.1", "flags": {}, "imagePath": f"{name}.png", "imageData": None,
        "imageHeight": SHAPE[0], "imageWidth": SHAPE[1],
        "shapes": [{"label": label, "points": points, "shape_type": kind} for label, kind, points in shapes],
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(content | changes))
    return folder


def test_labelme(tmp_path):
    labelme(tmp_path, "a", ("lesion", "polygon", POLYGON))
    labelme(tmp_path, "b", ("lesion", "rectangle", [[20, 10], [8, 2]]))
    labelme(tmp_path, "c", ("lesion", "circle", [[20, 15], [23, 19]]))
    labelme(tmp_path, "d", ("lesion", "linestrip", [[1, 1], [2, 2], [3, 3]]))
    found = opened(tmp_path, "labelme")
    np.testing.assert_array_equal(found["a"], area(4, 5, 14, 15))
    np.testing.assert_array_equal(found["b"], area(2, 8, 10, 20))
    equal_but_for_the_rim(found["c"], disk(15, 20, 5))
    assert not found["d"].any() and "1 points, lines" in told(tmp_path)


def test_labelme_of_another_machine_and_images_elsewhere(tmp_path):
    labelme(tmp_path / "json", "a", ("lesion", "polygon", POLYGON), imagePath="..\\images\\a.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "json/a.png").rename(tmp_path / "images/a.png")
    assert opened(tmp_path, "labelme")["a"].sum() == 100


def test_an_image_without_a_labelme_file_is_no_empty_one(tmp_path):
    labelme(tmp_path, "a", ("lesion", "polygon", POLYGON))
    picture(tmp_path / "b.png")
    assert "b.png: 1 image has no JSON file" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("shape", "changes", "words"),
    [
        (("lesion", "mask", [[1, 1], [2, 2]]), {}, "kind mask"),
        (("lesion", "circle", [[1, 1], [2, 2], [3, 3]]), {}, "circle with 3 points"),
        (("lesion", "polygon", [[1, float("nan")]]), {}, "NaN is not a number"),
        (("lesion", "polygon", POLYGON), {"imagePath": 3}, "does not name an image"),
        (("lesion", "polygon", POLYGON), {"imageHeight": 31}, "image of 31×40"),
        (("lesion", "polygon", POLYGON), {"shapes": [3]}, "not a readable"),
        (("lesion", "polygon", POLYGON), {"imagePath": "other.png"}, "not there: other.png"),
    ],
)
def test_labelme_that_makes_no_sense(tmp_path, shape, changes, words):
    assert words in refusal(labelme(tmp_path, "a", shape, **changes))


# --- CVAT ---------------------------------------------------------------------------------------------------


def cvat(root, *shapes, before="", size=SHAPE):
    picture(root / "images/a.png")
    body = "".join(shapes)
    image = f'<image id="0" name="sub/a.png" width="{size[1]}" height="{size[0]}">{body}</image>'
    inner = f"<annotations><version>1.1</version><meta>x</meta>{image}</annotations>"
    (root / "annotations.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>{before}{inner}')
    return root


def shape(kind, label="lesion", **attributes):
    return f'<{kind} label="{label}" {" ".join(f"""{key}="{value}" """ for key, value in attributes.items())}></{kind}>'


def test_cvat(tmp_path):
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in POLYGON)
    assert opened(cvat(tmp_path, shape("polygon", points=points)), "cvat")["a"].sum() == 100
    found = opened(cvat(tmp_path, shape("box", xtl="3.0", ytl="2.0", xbr="9.0", ybr="5.0")), "cvat")["a"]
    np.testing.assert_array_equal(found, area(2, 3, 5, 9))
    mask = shape("mask", rle="1, 2, 3", left="10", top="20", width="3", height="2")  # .##/... by rows
    found = opened(cvat(tmp_path, mask), "cvat")["a"]
    np.testing.assert_array_equal(found, area(20, 11, 21, 13))
    found = opened(cvat(tmp_path, shape("ellipse", cx="20", cy="15", rx="8", ry="8")), "cvat")["a"]
    equal_but_for_the_rim(found, disk(15, 20, 8))
    assert "1 points, lines" in told(cvat(tmp_path, shape("polyline", points="1,1;2,2")))


def test_cvat_turns_boxes_and_ellipses_clockwise(tmp_path):
    box = {"xtl": "10", "ytl": "10", "xbr": "20", "ybr": "14"}
    found = opened(cvat(tmp_path, shape("box", **box, rotation="90")), "cvat")["a"]
    np.testing.assert_array_equal(found, area(7, 13, 17, 17))
    slanted = opened(cvat(tmp_path, shape("ellipse", cx="20", cy="15", rx="10", ry="2", rotation="30")), "cvat")["a"]
    assert slanted[15 + 3, 20 + 5] and not slanted[15 - 3, 20 + 5]  # to the right and down


def test_cvat_paints_in_z_order(tmp_path):
    over = shape("box", "b", xtl="0", ytl="0", xbr="4", ybr="4", z_order="2")
    under = shape("box", "a", xtl="2", ytl="0", xbr="8", ybr="4", z_order="1")
    found = opened(cvat(tmp_path, over, under), "cvat", "a", "b")["a"]
    assert (found[0, :8] == [2, 2, 2, 2, 1, 1, 1, 1]).all()


def test_cvat_masks_that_reach_out_of_the_image_are_cut(tmp_path):
    root = cvat(tmp_path, shape("mask", rle="0,12", left="-2", top="28", width="4", height="3"))
    np.testing.assert_array_equal(opened(root, "cvat")["a"], area(28, 0, 30, 2))
    assert "1 shapes reach out" in told(root)


@pytest.mark.row("S05", "S07")
@pytest.mark.parametrize(
    "before",
    [
        '<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;&x;">]>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1/x.dtd">',
    ],
)
def test_xml_with_a_document_type_is_refused(tmp_path, before):
    assert "document type" in refusal(cvat(tmp_path, before=before))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<a>" * 100 + "</a>" * 100, "nested too deeply"),
        ("<a>", "mismatched tag"),
        (shape("polygon", points="1,2;nan,3;4,5"), "not a number"),
        (shape("polygon", points="1,2;x"), "not a readable"),
        (shape("mask", rle="1", left="0", top="0", width="99999999", height="99999999"), "run lengths of 99999999"),
        (shape("mask", rle="1,2", left="0", top="0", width="1", height="1"), "3 pixels for 1×1|longer"),
        (shape("mask", rle="1", left="0.5", top="0", width="1", height="1"), "not a whole number"),
        (shape("cuboid"), "1 cuboid"),
        ("<track></track>", "1 track"),
        ('<polygon points="1,2"/>', "label"),
    ],
)
def test_cvat_that_makes_no_sense(tmp_path, body, words):
    import re

    assert re.search(words, refusal(cvat(tmp_path, body)))


def test_very_many_elements(tmp_path, monkeypatch):
    monkeypatch.setattr("pocketseg.data.annotations.reading.MAX_ELEMENTS", 20)
    assert "more than 20 elements" in refusal(cvat(tmp_path, "<a/>" * 30))


# --- YOLO ---------------------------------------------------------------------------------------------------


def yolo(root, lines, name="a", names="names: [liver, tumor]", part=""):
    picture(root / "images" / part / f"{name}.png")
    (root / "labels" / part).mkdir(parents=True, exist_ok=True)
    if lines is not None:
        (root / "labels" / part / f"{name}.txt").write_text("\n".join(lines))
    if names:
        (root / "data.yaml").write_text(names)
    return root


def line(number, points=POLYGON):
    return f"{number} " + " ".join(f"{x / SHAPE[1]:.6f} {y / SHAPE[0]:.6f}" for x, y in points)


@pytest.mark.parametrize(
    "names", ["names: [liver, tumor]", "names:\n  0: liver\n  1: tumor\nnc: 2", "names:\n- liver\n- tumor"]
)
def test_yolo(tmp_path, names):
    yolo(tmp_path, [line(1)], names=names)
    yolo(tmp_path, [line(0), ""], "b", names)
    yolo(tmp_path, None, "c", names)
    found = opened(tmp_path, "yolo", "tumor", "liver")
    np.testing.assert_array_equal(found["a"], area(4, 5, 14, 15) * 1)
    np.testing.assert_array_equal(found["b"], area(4, 5, 14, 15) * 2)
    assert not found["c"].any()


def test_yolo_without_names_and_with_parts(tmp_path):
    for number, part in enumerate(("train", "val", "test")):
        yolo(tmp_path, [line(0)], f"i{number}", names="", part=part)
    cases = Cases.open(tmp_path)
    assert [case.part for case in cases] == ["train", "validation", "test"]
    assert all(cases.mask(case).sum() == 100 for case in cases)


def test_yolo_as_roboflow_writes_it(tmp_path):
    for part in ("train", "valid"):
        yolo(tmp_path / part, [line(0)], names="")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nnames: [cyst]")
    cases = Cases.open(tmp_path)
    assert [case.name for case in cases] == ["train/images/a", "valid/images/a"] and cases.layout == "yolo"


@pytest.mark.parametrize(
    ("lines", "names", "words"),
    [
        (["0 0.5 0.5 0.1 0.1"], "", "line 1 is a box"),
        ([line(0), "7 " + line(0)[2:]], "names: [a]", "line 2 is of the class 7"),
        ([line(0), "0 10 10 200 10 20 20"], "", "not shares"),
        ([line(0), "0 0.1 0.2 nan 0.1 0.1 0.1"], "", "not a number"),
        ([line(0), "x 0.1 0.2 0.1 0.1 0.1 0.1"], "", "not a readable"),
        ([line(0)], "names: &a [*a]", "aliases"),
        ([line(0)], "names: [", "not a readable"),
        ([line(0)], "nc: 2", "not a readable"),
        ([line(0)], "[" * 30_000, "not a readable"),
    ],
)
def test_yolo_that_makes_no_sense(tmp_path, lines, names, words):
    assert words in refusal(yolo(tmp_path, lines, names=names))


def test_a_yolo_text_without_an_image(tmp_path):
    yolo(tmp_path, [line(0)])
    (tmp_path / "labels/b.txt").write_text(line(0))
    assert "b.txt: has no image" in refusal(tmp_path)


# --- VIA ----------------------------------------------------------------------------------------------------

REGIONS = {
    "polygon": {"name": "polygon", "all_points_x": [x for x, _ in POLYGON], "all_points_y": [y for _, y in POLYGON]},
    "rect": {"name": "rect", "x": 3, "y": 2, "width": 6, "height": 3},
    "circle": {"name": "circle", "cx": 20, "cy": 15, "r": 8},
    "ellipse": {"name": "ellipse", "cx": 20, "cy": 15, "rx": 8, "ry": 8},
    "point": {"name": "point", "cx": 20, "cy": 15},
}


def via_json(root, *regions, attributes=None, old=False, project=False):
    picture(root / "a.png")
    drawn = [{"shape_attributes": region, "region_attributes": attributes or {}} for region in regions]
    held = {str(number): each for number, each in enumerate(drawn)} if old else drawn
    content = {"a.png123": {"filename": "a.png", "size": 123, "regions": held, "file_attributes": {}}}
    (root / "via.json").write_text(
        json.dumps({"_via_settings": {}, "_via_img_metadata": content} if project else content)
    )
    return root


@pytest.mark.parametrize("way", [{}, {"old": True}, {"project": True}])
def test_via_json(tmp_path, way):
    def drawn(kind):
        return opened(via_json(tmp_path, REGIONS[kind], **way), "via")["a"]

    np.testing.assert_array_equal(drawn("polygon"), area(4, 5, 14, 15))
    np.testing.assert_array_equal(drawn("rect"), area(2, 3, 5, 9))
    equal_but_for_the_rim(drawn("circle"), disk(15, 20, 8))
    equal_but_for_the_rim(drawn("ellipse"), disk(15, 20, 8))
    assert not drawn("point").any()


def test_via_csv(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    quoted = [json.dumps(value).replace('"', '""') for value in (REGIONS["polygon"], {"type": "cyst"})]
    (tmp_path / "via.csv").write_text(
        "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
        f'a.png,1,"{{}}",1,0,"{quoted[0]}","{quoted[1]}"\n'
        'b.png,1,"{}",0,0,"{}","{}"\n'
    )
    found = opened(tmp_path, "via")
    np.testing.assert_array_equal(found["a"], area(4, 5, 14, 15))
    assert not found["b"].any()


@pytest.mark.parametrize(
    "attributes", [{"kind": "cyst"}, {"label": "cyst", "size": "3"}, {"kind": {"cyst": True, "solid": False}}]
)
def test_the_class_of_a_via_region(tmp_path, attributes):
    cases = Cases.open(via_json(tmp_path, REGIONS["rect"], attributes=attributes))
    assert cases[0].masks[0].drawing.shapes[0].category == "cyst"


@pytest.mark.parametrize(
    ("region", "attributes", "words"),
    [
        (REGIONS["rect"], {"a": "1", "b": "2"}, "attributes a, b"),
        (REGIONS["rect"], {"a": {"x": True, "y": True}}, "2 values of a"),
        ({"name": "spiral"}, {}, "kind spiral"),
        ({"name": "rect", "x": "no"}, {}, "not numbers"),
        ({"name": "circle", "cx": 1, "cy": 1, "r": 1e300}, {}, "far outside"),
        ({"name": "polygon", "all_points_x": [1], "all_points_y": [1, 2]}, {}, "not a readable"),
    ],
)
def test_via_that_makes_no_sense(tmp_path, region, attributes, words):
    assert words in refusal(via_json(tmp_path, region, attributes=attributes))


# --- tables of run lengths ----------------------------------------------------------------------------------


def table(root, *lines, header="ImageId,EncodedPixels"):
    for name in ("a", "b"):
        picture(root / f"images/{name}.png")
    (root / "train.csv").write_text("\n".join([header, *lines]) + "\n")
    return root


TWO = area(4, 5, 14, 15), area(20, 20, 25, 30)


@pytest.mark.parametrize("header", ["ImageId,EncodedPixels", "image_id,rle", "id,rle", "img,pixels", "id,segmentation"])
@pytest.mark.parametrize("empty", ["", "-1", "nan"])
def test_rle_csv(tmp_path, header, empty):
    lines = [f"a.png,{text_of_pairs(TWO[0])}", f"b,{empty}", f"a.png,{text_of_pairs(TWO[1])}"]
    found = opened(table(tmp_path, *lines, header=header), "rle-csv")
    np.testing.assert_array_equal(found["a"], TWO[0] | TWO[1])
    assert not found["b"].any()


def test_rle_csv_of_classes(tmp_path):
    lines = [f"a.png,{number},{text_of_pairs(mask)}" for number, mask in zip((2, 1), TWO, strict=True)]
    found = opened(table(tmp_path, *lines, "b.png,1,", header="ImageId,ClassId,EncodedPixels"), "rle-csv", "1", "2")
    np.testing.assert_array_equal(found["a"], TWO[0] * 2 + TWO[1])


def test_rle_csv_along_the_rows_is_noticed_and_can_be_named(tmp_path):
    runs = text_of_pairs(TWO[0].T)  # numbered along the rows
    root = table(tmp_path, f"a.png,{runs}", "b.png,")
    assert "go along the rows" in refusal(root) and "data.layout=rle-csv-rows" in refusal(root)
    cases = Cases.open(root, "rle-csv-rows")
    np.testing.assert_array_equal(cases.mask(cases[0]), TWO[0])
    other = table(tmp_path, f"a.png,{text_of_pairs(TWO[0])}", "b.png,")
    assert "data.layout=rle-csv;" in refusal(other, layout="rle-csv-rows")


def test_the_order_of_pixels_is_told(tmp_path, caplog):
    Cases.open(table(tmp_path, f"a.png,{text_of_pairs(TWO[0])}"))
    assert "numbered down the columns" in caplog.text


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["a.png,1 2 3"], "row 2: an odd number"),
        (["a.png,1 2,3"], "row 2 has 3 cells"),
        (["a.png,1199 3"], "but the image has 1,200"),
        (["a.png,0 3"], "below 1"),
        (['a.png,"1 2'], "not a readable"),
        (["c.png,1 2", "d.png,1 2"], "2 of its images are not there: c.png, d.png"),
    ],
)
def test_tables_that_make_no_sense(tmp_path, lines, words):
    assert words in refusal(table(tmp_path, *lines))


def test_a_table_of_paths_holds_no_run_lengths(tmp_path):
    told = refusal(table(tmp_path, "a.png,masks/a.png", header="image,mask"))
    assert "line 2 (a.png): the image does not exist" in told and "line 2 (masks/a.png): the mask does not" in told


def test_a_sample_of_a_submission_beside_the_table(tmp_path):
    root = table(tmp_path, f"a.png,{text_of_pairs(TWO[0])}")
    (root / "sample_submission.csv").write_text("ImageId,EncodedPixels\nt1.png,1 1\nt2.png,1 1\n")
    assert "2 of its images are not there: t1.png, t2.png" in refusal(root) and "as --data" in refusal(root)
    assert opened(root / "train.csv", "rle-csv")["a"].sum() == 100
