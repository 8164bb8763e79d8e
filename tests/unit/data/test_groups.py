import pytest
from builders import make_folders_dataset, make_suffix_dataset

from pocketseg.data import Cases, Grouping
from pocketseg.data.groups import tied
from pocketseg.errors import DataError


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
