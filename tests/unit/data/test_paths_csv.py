"""A table of paths: columns, separators, rows that are wrong, and what leads out of its folder."""

from __future__ import annotations

import numpy as np
import pytest
from builders import blob, noise, write_image, write_pair

from pocketseg.data import Cases
from pocketseg.errors import DataError

STEMS = ("a", "b", "c")


def table(root, text, name="cases.csv"):
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return root / name


def pairs(root, stems=STEMS):
    """Images and masks whose names tell nothing of each other."""
    for number, stem in enumerate(stems):
        write_pair(root / "in" / f"{stem}.png", root / "out" / f"{7 * number}.png", seed=number)
    return root


def rows(sign=","):
    return [sign.join((f"in/{stem}.png", f"out/{7 * number}.png")) for number, stem in enumerate(STEMS)]


def problem(data, **options):
    with pytest.raises(DataError) as caught:
        Cases.open(data, **options)
    return [str(each) for each in caught.value.problems]


@pytest.mark.whole
@pytest.mark.parametrize(
    ("header", "sign"),
    [("image,mask", ","), ("Image Path;Mask Path", ";"), ("img\tlabel", "\t"), ("filename,segmentation", ",")],
)
def test_two_columns(tmp_path, header, sign):
    path = table(pairs(tmp_path), "\n".join([header, *rows(sign), ""]))
    for data in (path, tmp_path):
        cases = Cases.open(data)
        assert cases.layout == "paths-csv" and [case.name for case in cases] == ["a", "b", "c"]
        for number, case in enumerate(cases):
            np.testing.assert_array_equal(cases.image(case), noise(seed=number))
            np.testing.assert_array_equal(cases.mask(case), blob() > 0)


def test_groups_parts_and_names(tmp_path):
    lines = [f"{row},P{number // 2},{part},case {number}" for number, (row, part) in enumerate(
        zip(rows(), ("train", "Val", "test"), strict=True))]  # fmt: skip
    cases = Cases.open(table(pairs(tmp_path), "\n".join(["image,mask,patient,split,name", *lines])))
    assert [(case.name, case.group, case.part) for case in cases] == [
        ("case 0", "P0", "train"), ("case 1", "P0", "validation"), ("case 2", "P1", "test")
    ]  # fmt: skip
    assert cases.grouped


@pytest.mark.row("M03")
def test_a_line_without_a_part_among_others_is_reported(tmp_path):
    """Found by mutations: one such line, and the parts of all others were left aside without a word."""
    parts = [",train", ",val", ","]
    lines = ["image,mask,split", *(row + part for row, part in zip(rows(), parts, strict=True))]
    (told,) = problem(table(pairs(tmp_path), "\n".join(lines)))
    assert "line 4 (c.png): has no part, others have" in told and "write train, val or test" in told
    # Where no line has one, there is no split.
    lines = ["image,mask,split", *(f"{row}," for row in rows())]
    assert [case.part for case in Cases.open(table(tmp_path, "\n".join(lines)))] == [None] * 3


def test_absolute_paths_and_those_that_lead_out(tmp_path):
    pairs(tmp_path / "data")
    inside = [",".join(f"{tmp_path}/data/{cell}" for cell in row.split(",")) for row in rows()]
    assert len(Cases.open(table(tmp_path / "data", "\n".join(["image,mask", *inside])))) == 3
    for cells in (inside, [row.replace("in/", "../data/in/").replace("out/", "../data/out/") for row in rows()]):
        path = table(tmp_path / "elsewhere", "\n".join(["image,mask", *cells]))
        told = problem(path)
        assert any("out of the folder" in each and "follow_links=true" in each for each in told) and len(told) == 1
        assert len(Cases.open(path, follow_links=True)) == 3


def test_channels_and_raters(tmp_path):
    for name in ("t1", "t2", "r1", "r2"):
        for stem in STEMS:
            write_image(tmp_path / name / f"{stem}.png", noise(seed=len(name)) if name[0] == "t" else blob())
    lines = [f"t1/{stem}.png,t2/{stem}.png,r1/{stem}.png,r2/{stem}.png" for stem in STEMS]
    path = table(tmp_path, "\n".join(["image_1,image_2,mask_r1,mask_r2", *lines]))
    cases = Cases.open(path)
    assert cases.image(cases[0]).shape == (6, 7, 2) and cases[0].raters == ("mask_r1", "mask_r2")
    assert [case.name for case in Cases.open(path, raters="each")][:2] == ["a@mask_r1", "a@mask_r2"]


def test_bad_rows_are_summed_with_their_lines(tmp_path):
    pairs(tmp_path)
    bad = [f"in/x{number}.png,out/0.png" for number in range(400)]
    path = table(tmp_path, "\n".join(["image,mask,split", *(f"{row},train" for row in rows()), *bad, "in/a.png,,train",
                                      "in/b.png,out/0.png,later", "in/a.png,out/7.png,test"]))  # fmt: skip
    told = problem(path)
    assert len(told) == 4
    assert (
        "line 5 (in/x0.png), line 6 (in/x1.png), line 7 (in/x2.png) and 397 more: the image does not exist" in told[0]
    )
    assert "line 405: names no mask" in told[1]
    assert "line 406 (later): is not a part of a split" in told[2]
    assert "line 407 (a.png): the same image or name as a line before" in told[3]


@pytest.mark.parametrize("name", ["../up", "a/../../b", "/abs"])
def test_a_name_never_leads_out(tmp_path, name):
    text = f"image,mask,name\n{rows()[0]},{name}\n{rows()[1]},fine"
    assert "is not a name of a file" in problem(table(pairs(tmp_path), text))[0]


@pytest.mark.parametrize("text", ["image,mask\n", "image,mask\n\n", "picture,truth\na,b", "", "image\nin/a.png"])
def test_a_table_without_what_is_needed(tmp_path, text):
    assert problem(table(pairs(tmp_path), text), layout="paths-csv")


def test_other_tables_are_none(tmp_path):
    """Run lengths, classes in a column called label, a table of groups, and two tables of paths."""
    pairs(tmp_path)
    with pytest.raises(DataError, match="1 of its images are not there"):  # as the layout of run lengths says it
        Cases.open(table(tmp_path / "rle", "image,mask\ngone.png,1 3 9 2"))
    (tmp_path / "rle/cases.csv").unlink()
    for name, text in {"x.csv": "image,label\nin/a.png,benign", "groups.csv": "case,group\na,1\nb,1"}.items():
        table(tmp_path, text, name)
    with pytest.raises(DataError, match="no images with masks"):
        Cases.open(tmp_path)
    table(tmp_path, "\n".join(["image,mask", *rows()]))
    assert len(Cases.open(tmp_path)) == 3
    table(tmp_path, "\n".join(["image,mask", *rows()]), "more.csv")
    assert "holds 2 tables of paths (cases.csv, more.csv)" in problem(tmp_path, layout="paths-csv")[0]


def test_the_same_stem_in_two_folders(tmp_path):
    for place in ("x", "y"):
        write_pair(tmp_path / place / "1.png", tmp_path / place / "m.png")
    path = table(tmp_path, "image,mask\nx/1.png,x/m.png\ny/1.png,y/m.png")
    assert [case.name for case in Cases.open(path)] == ["x/1", "y/1"]


def test_a_repaired_copy_has_a_table_of_its_own(tmp_path):
    """A mask that becomes another file is named so; paths from outside lie in the copy."""
    from pocketseg.flows.doctor import doctor

    for number in range(6):
        write_image(tmp_path / f"far/{number}.png", noise(32, 40, seed=number))
        write_image(tmp_path / f"data/m/x{number}.tif", blob(32, 40, 1))
    text = "\n".join(["image,mask,patient", *(f"../far/{n}.png,m/x{n}.tif,P{n}" for n in range(6))])
    path = table(tmp_path / "data", text)
    done = doctor(path, fix=tmp_path / "copy", overrides=["data.follow_links=true"])
    assert done.repaired is not None and done.repaired.cases == 6
    copy = Cases.open(tmp_path / "copy")
    assert copy.layout == "paths-csv" and [case.group for case in copy] == [f"P{n}" for n in range(6)]
    for number, case in enumerate(copy):
        np.testing.assert_array_equal(copy.image(case), noise(32, 40, seed=number))
        np.testing.assert_array_equal(copy.mask(case), blob(32, 40) > 0)
    assert not any(problem.code == "link" for problem in done.found.findings)
