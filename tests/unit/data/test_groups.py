import re

import numpy as np
import pytest
from builders import make_folders_dataset, make_suffix_dataset, noise, write_image, write_pair

from helpers.headed_files import meta_head
from helpers.volume_files import write_nifti, write_series
from pocketseg.data import Cases, Grouping
from pocketseg.data.groups import tied
from pocketseg.data.volumes import open_volume
from pocketseg.errors import DataError
from pocketseg.recipes.schema import SplitSection
from pocketseg.runs.opening import make_split


def groups(root, **rule) -> dict[str, str]:
    return {case.name: case.group for case in Cases.open(root, grouping=Grouping(**rule))}


def refusal(root, **rule) -> list[str]:
    with pytest.raises(DataError) as caught:
        groups(root, **rule)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture
def root(tmp_path):
    return make_folders_dataset(tmp_path, ["p1_left", "p1_right", "p10_left"])


def table(root, text: str, name: str = "t.csv", encoding: str = "utf-8") -> dict[str, str]:
    (root / name).write_bytes(text.encode(encoding))
    return {"csv": name, "column": "patient"}


def test_without_a_rule_every_case_is_its_own_group(root):
    assert groups(root) == {"p1_left": "p1_left", "p1_right": "p1_right", "p10_left": "p10_left"}
    assert not Cases.open(root).grouped and Cases.open(root, grouping=Grouping(regex=".")).grouped


@pytest.mark.parametrize(("regex", "first"), [(r"(p\d+)_", "p1"), (r"p\d+", "p1"), (r"^p(\d+)_(.*)$", "1")])
def test_by_regex(root, regex, first):
    found = groups(root, regex=regex)
    assert found["p1_left"] == found["p1_right"] == first != found["p10_left"]


def test_names_that_do_not_match_are_reported_together(root):
    problems = refusal(root, regex="left")
    assert problems == ["p1_right: does not match data.group_regex 'left' → correct the expression"]
    assert len(refusal(root, regex="x")) == 3


def test_a_parenthesis_that_takes_no_part_is_no_match(root):
    assert [problem.split(":")[0] for problem in refusal(root, regex="(1)_|p10")] == ["p10_left"]


@pytest.mark.parametrize("regex", ["(", "*", "[a", "(?P<x"])
def test_what_is_no_expression_is_reported(root, regex):
    (problem,) = refusal(root, regex=regex)
    assert problem.startswith(f"data.group_regex {regex!r}: is not a regular expression (")


def test_ties_join_whole_groups(tmp_path):
    names = ["a1", "a2", "b1", "b2", "c1", "d1"]
    cases = Cases.open(make_folders_dataset(tmp_path, names), grouping=Grouping(regex="^."))
    found = tied(cases, [["b2", "a2"], ["c1", "b1"]])
    assert [(case.name, case.group) for case in found] == list(zip(names, "aaaaad", strict=True))
    assert tied(cases, []) == list(cases)


def test_by_folder(tmp_path):
    for patient in ("ann", "bob"):
        make_suffix_dataset(tmp_path / patient, ["1", "2"])
    assert groups(tmp_path, folder=True) == {"ann/1": "ann", "ann/2": "ann", "bob/1": "bob", "bob/2": "bob"}


@pytest.mark.parametrize("key", ["p1_left", "p1_left.png"], ids=["stem", "file name"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_by_table(root, key, encoding):
    rule = table(
        root, f"case,age,patient\n{key},33,Ann\np1_right,33,Ann\n\np10_left,40,Bob\nunused,1,Cy\n", "t.csv", encoding
    )
    assert groups(root, **rule) == {"p1_left": "Ann", "p1_right": "Ann", "p10_left": "Bob"}


def test_by_table_with_names_that_have_a_class(tmp_path):
    """By the case's whole name first, then by the stem of the file."""
    for label in ("a", "b"):
        make_suffix_dataset(tmp_path / label, ["1"])
    assert groups(tmp_path, **table(tmp_path, "case,patient\na/1,x\nb/1,y\n")) == {"a/1": "x", "b/1": "y"}
    assert groups(tmp_path, **table(tmp_path, "case,patient\n1,z\n")) == {"a/1": "z", "b/1": "z"}


def test_a_table_elsewhere(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    rule = table(other, "case,patient\np1_left,a\np1_right,a\np10_left,b\n")
    assert groups(root, csv=str(other / "t.csv"), column=rule["column"])["p1_left"] == "a"


def test_missing_rows_are_reported_together(root):
    problems = refusal(root, **table(root, "case,patient\np1_left,Ann\np1_right\n"))
    assert [problem.split("case ")[1].split(" ")[0] for problem in problems] == ["'p1_right'", "'p10_left'"]
    assert "first column is 'case'" in problems[0]


def test_a_case_in_two_groups_is_reported(root):
    rule = table(root, "case,patient\np1_left,a\np1_right,a\np10_left,b\np1_left,b\np1_left,a\n")
    assert refusal(root, **rule) == [
        f"{root / 't.csv'}: puts 'p1_left' into two groups, 'a' and 'b' → keep one row a case"
    ]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("patent", "has no column 'patent' → did you mean patient?"),
        (None, "data.group_column is not set → known: case, patient"),
    ],
)
def test_a_wrong_column_lists_the_near_ones(root, column, message):
    table(root, "case,patient\nx,y\n")
    assert refusal(root, csv="t.csv", column=column) == [f"{root / 't.csv'}: {message}"]


@pytest.mark.parametrize(("text", "message"), [("", "has no rows"), ("case,patient\n", "has no rows")])
def test_an_empty_table(root, text, message):
    assert message in refusal(root, **table(root, text))[0]


def test_what_is_no_table_is_reported(root):
    assert "relative to the data folder" in refusal(root, csv="gone.csv", column="patient")[0]
    (root / "b.csv").mkdir()
    assert "cannot be read as CSV" in refusal(root, csv="b.csv", column="patient")[0]


# --- groups that come with the data ---------------------------------------------------------------------


def told(cases) -> dict[str, str]:
    return {finding.code: finding.what for finding in cases.said}


def test_a_table_of_groups_beside_the_data_is_used_and_said(tmp_path):
    make_folders_dataset(tmp_path, ["a", "b", "c"])
    (tmp_path / "groups.csv").write_text("case,group\na,p\nb,p\nc,q\n")
    cases = Cases.open(tmp_path)
    assert [case.group for case in cases] == ["p", "p", "q"] and cases.grouped
    assert told(cases)["groups-table"] == "says the groups: 2 for 3 cases"
    # What the user says goes before it.
    cases = Cases.open(tmp_path, grouping=Grouping(regex=".+"))
    assert [case.group for case in cases] == ["a", "b", "c"] and "groups-table" not in told(cases)


def test_a_table_beside_data_that_lie_one_folder_down(tmp_path):
    """Found by mutations: the data were found in their folder, and the table beside them was not."""
    make_folders_dataset(tmp_path / "unpacked", ["a", "b", "c"])
    (tmp_path / "unpacked/groups.csv").write_text("case,group\na,p\nb,p\nc,q\n")
    cases = Cases.open(tmp_path)
    assert [case.group for case in cases] == ["p", "p", "q"] and "groups-table" in told(cases)
    # One in the folder that was given goes before it.
    (tmp_path / "groups.csv").write_text("case,group\na,p\nb,q\nc,q\n")
    assert [case.group for case in Cases.open(tmp_path)] == ["p", "q", "q"]


@pytest.mark.parametrize("sign", [";", "\t"])
def test_a_table_as_spreadsheets_of_other_countries_write_it(tmp_path, sign):
    """Found by mutations: with a semicolon between its cells it was left aside."""
    make_folders_dataset(tmp_path, ["a", "b", "c"])
    (tmp_path / "groups.csv").write_text(
        "\ufeffcase,group\na,p, 1\nb,p, 1\nc,q\n".replace(",", sign).replace(f"{sign} ", ", ")
    )
    assert [case.group for case in Cases.open(tmp_path)] == ["p, 1", "p, 1", "q"]


@pytest.mark.parametrize(
    ("table", "why"),
    [("case,group\na,p\n", "no row for the case 'b'"), ("case,clinic\na,p\nb,p\n", "no column 'group'")],
)
def test_a_table_that_does_not_fit_is_reported(tmp_path, table, why):
    make_folders_dataset(tmp_path, ["a", "b"])
    (tmp_path / "groups.csv").write_text(table)
    cases = Cases.open(tmp_path)
    assert not cases.grouped and why in told(cases)["groups-table"] and "is not used" in told(cases)["groups-table"]


def test_a_table_does_not_tear_a_volume_apart(tmp_path):
    for name in ("a", "b"):
        write_nifti(tmp_path / f"images/{name}.nii", np.random.default_rng(0).normal(size=(4, 5, 3)))
        write_nifti(tmp_path / f"masks/{name}.nii", np.ones((4, 5, 3), np.uint8))
    rows = [f"{name}#{at:03d},{name}{at}" for name in "ab" for at in range(3)]
    (tmp_path / "groups.csv").write_text("\n".join(["case,group", *rows]))
    assert [case.group for case in Cases.open(tmp_path)] == ["a0"] * 3 + ["b0"] * 3


def series_of(folder, patients):
    for number, patient in enumerate(patients):
        slices = np.full((2, 6, 8), number, np.int16)
        grid = open_volume(
            write_series(folder / f"images/s{number}", slices, series=str(number), PatientID=patient)
        ).grid
        write_nifti(folder / f"masks/s{number}.nii", np.ones(grid.shape, np.uint8), grid.affine)


def test_one_patient_for_all_is_reported_with_a_way_out(tmp_path):
    series_of(tmp_path, ["ANONYMOUS"] * 8)
    cases = Cases.open(tmp_path)
    assert "all 8 volumes have the same PatientID" in told(cases)["one-patient"]
    assert "ANONYMOUS" not in str(cases.said)
    with pytest.raises(DataError, match="same PatientID") as caught:
        make_split(SplitSection(), cases, [])
    rule = re.search(r"data.group_regex=([^']+)'", str(caught.value))[1]
    cases = Cases.open(tmp_path, grouping=Grouping(regex=rule))
    assert len({case.group for case in cases}) == 8 and "one-patient" not in told(cases)
    assert make_split(SplitSection(), cases, []).folds[0].test


def test_several_patients_are_not_told(tmp_path):
    series_of(tmp_path, ["one", "one", "two"])
    cases = Cases.open(tmp_path)
    assert "one-patient" not in told(cases) and {case.group for case in cases} == {"s0", "s2"}


@pytest.mark.parametrize(("count", "grouped"), [(3, False), (5, True)])
@pytest.mark.parametrize("masks", ["masks", "labels"])
def test_folders_inside_of_both_are_patients_or_few_classes(tmp_path, count, grouped, masks):
    for folder in range(count):
        for name in ("x", "y"):
            write_pair(tmp_path / f"images/P{folder}/{name}.png", tmp_path / f"{masks}/P{folder}/{name}.png")
    cases = Cases.open(tmp_path)
    assert [case.name for case in cases][:2] == ["P0/x", "P0/y"] and len(cases) == 2 * count
    assert cases.grouped == grouped == ("patient-folders" in told(cases))
    if grouped:
        assert {case.group for case in cases} == {f"P{at}" for at in range(count)}
    else:
        assert {case.label for case in cases} == {f"P{at}" for at in range(count)}
    (tmp_path / "images/P9").mkdir()
    write_image(tmp_path / "images/P9/z.png", noise())
    with pytest.raises(DataError, match="P9: is a folder that images and"):
        Cases.open(tmp_path)


# --- what is left out -----------------------------------------------------------------------------------


def test_formats_that_are_not_read_are_counted(tmp_path):
    make_folders_dataset(tmp_path, ["a", "b"])
    for name in ("c.czi", "d.czi", "e.foo", "notes.txt", ".hidden.czi", "Thumbs.db"):
        (tmp_path / "images" / name).write_bytes(b"x")
    cases = Cases.open(tmp_path)
    assert told(cases)["unread-format"] == "formats that are not read are left out: 2 .czi files, 1 .foo file"
    assert "left-out" not in told(cases) and "unread-format" in {finding.code for finding in cases.check().findings}


def test_images_without_an_ending_are_seen(tmp_path):
    """Found by mutations: one mask of two lost its ending, and was missing without a word."""
    make_folders_dataset(tmp_path, ["a", "b"])
    (tmp_path / "masks/c").write_bytes((tmp_path / "masks/b.png").read_bytes())
    (tmp_path / "masks/LICENSE").write_text("no image")
    found = next(each for each in Cases.open(tmp_path).said if each.code == "unread-format")
    assert found.what.endswith("are left out: 1 image file without an ending")
    assert "give files without an ending theirs" in found.fix


def test_images_that_belong_to_no_case_are_counted(tmp_path):
    make_folders_dataset(tmp_path, ["a", "b"])
    for number in range(3):
        write_image(tmp_path / f"unlabelled/{number}.png", noise())
    assert told(Cases.open(tmp_path))["left-out"] == "images of no case are left out: 3 .png files"
    # Of folders that are named, others are not asked for.
    assert "left-out" not in told(Cases.open(tmp_path, images="images", masks="masks"))


@pytest.mark.parametrize(("name", "said"), [("a.czi", "1 .czi file"), ("a.foo", "1 .foo file")])
def test_where_nothing_is_found_the_formats_are_named(tmp_path, name, said):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match="were found in a known layout; it holds") as caught:
        Cases.open(tmp_path)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "told"), [("data.h5", "numpy.savez"), ("slide.svs", "QuPath"), ("scan.mgz", "mri_convert")]
)
def test_a_file_of_a_format_that_is_not_read_has_a_way_out(tmp_path, name, told):
    """Given itself, or in a folder."""
    (tmp_path / name).write_bytes(b"x")
    for given, said in ((tmp_path / name, "which is not read"), (tmp_path, "in a known layout; it holds 1")):
        with pytest.raises(DataError, match=said) as caught:
            Cases.open(given)
        assert told in str(caught.value)


def test_a_folder_that_is_one_array_counts_once(tmp_path):
    make_folders_dataset(tmp_path, ["a", "b"])
    for chunk in ("0.0", "0.1", "zarr.json"):
        (tmp_path / "more.zarr/c").mkdir(parents=True, exist_ok=True)
        (tmp_path / "more.zarr/c" / chunk).write_bytes(b"x")
    cases = Cases.open(tmp_path)
    assert told(cases)["unread-format"] == "formats that are not read are left out: 1 .zarr file"
    assert "numpy.savez" in next(finding.fix for finding in cases.said if finding.code == "unread-format")


def test_voxels_of_a_header_are_no_strangers(tmp_path):
    """Whether a case is made of the header or not."""
    make_folders_dataset(tmp_path, ["a", "b"])
    voxels = noise(4, 5)[:, :, None]
    for place in ("images", "more"):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "v.raw").write_bytes(voxels.tobytes(order="F"))
        (tmp_path / place / "v.mhd").write_text(meta_head(voxels, file="v.raw"))
    write_image(tmp_path / "masks/v.png", noise(5, 4) // 128)
    cases = Cases.open(tmp_path)
    assert (
        "unread-format" not in told(cases) and told(cases)["left-out"] == "images of no case are left out: 1 .mhd file"
    )
