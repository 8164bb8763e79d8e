import json
from collections import Counter

import pytest
from builders import some_cases
from hypothesis import given
from hypothesis import strategies as st

from pocketseg.data import Fold, Split, holdout, kfold
from pocketseg.data.split import PARTS
from pocketseg.errors import DataError
from pocketseg.text import counted

group_lists = st.lists(st.integers(0, 40).map(lambda n: f"g{n}"), min_size=30, max_size=120).filter(
    lambda groups: len(set(groups)) >= 15
)
seeds = st.integers(0, 1000)


def assert_sound(split: Split, cases) -> None:
    """Every case in exactly one part of every fold, and no group in two."""
    for fold in split.folds:
        names = [name for part in PARTS for name in fold.part(part)]
        assert sorted(names) == [case.name for case in cases]
        of_group = {}
        for part in PARTS:
            for name in fold.part(part):
                assert of_group.setdefault(split.groups[name], part) == part
    assert dict(split.groups) == {case.name: case.group for case in cases}


# --- holdout ----------------------------------------------------------------------------------------------


@given(group_lists, seeds, st.booleans())
def test_holdout_keeps_groups_together(groups, seed, contiguous):
    cases = some_cases(groups)
    split = holdout(cases, test=0.2, validation=0.2, seed=seed, contiguous=contiguous)
    assert len(split.folds) == 1
    assert_sound(split, cases)
    # No part misses its share by more than the largest group (and the rounding).
    largest = max(Counter(groups).values())
    for part, share in (("test", 0.2), ("validation", 0.2), ("train", 0.6)):
        assert abs(len(split.folds[0].part(part)) - share * len(cases)) <= 2 * largest + 1


@pytest.mark.parametrize(("test", "validation"), [(0.2, 0.15), (0.1, 0.1), (0.5, 0.25), (0.3, 0.02)])
@pytest.mark.parametrize("contiguous", [False, True])
def test_shares_of_single_cases_are_exact(test, validation, contiguous):
    cases = some_cases([f"g{n}" for n in range(200)])
    fold = holdout(cases, test=test, validation=validation, seed=3, contiguous=contiguous).folds[0]
    assert abs(len(fold.test) - 200 * test) <= 1 and abs(len(fold.validation) - 200 * validation) <= 1


def test_every_label_has_its_share():
    labels = ["benign"] * 100 + ["malignant"] * 40 + ["normal"] * 20
    cases = some_cases([f"g{n}" for n in range(160)], labels)
    fold = holdout(cases, test=0.2, validation=0.15, seed=0).folds[0]
    label_of = {case.name: case.label for case in cases}
    for part, share in (("test", 0.2), ("validation", 0.15)):
        counts = Counter(label_of[name] for name in fold.part(part))
        for label, total in Counter(labels).items():
            assert abs(counts[label] - share * total) <= 1, (part, label)


@pytest.mark.parametrize("seed", range(5))
def test_large_groups_are_dealt_first(seed):
    """Dealt last, a patient with a third of the cases would burst a part that is nearly full."""
    cases = some_cases([f"g{n}" for n in range(70)] + ["large"] * 30)
    fold = holdout(cases, test=0.2, validation=0.2, seed=seed).folds[0]
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (60, 20, 20)


def test_the_seed_decides():
    cases = some_cases([f"g{n}" for n in range(60)])
    splits = {seed: holdout(cases, test=0.2, validation=0.2, seed=seed) for seed in (0, 1, 2)}
    assert holdout(cases, test=0.2, validation=0.2, seed=1) == splits[1]
    assert len({split.folds for split in splits.values()}) == 3


def test_the_order_is_not_the_split():
    """Without contiguous, a split that took the first or last cases would be a slice."""
    cases = some_cases([f"g{n:02d}" for n in range(60)])
    test = holdout(cases, test=0.2, validation=0.2, seed=0).folds[0].test
    numbers = [int(name[-3:]) for name in test]
    assert max(numbers) - min(numbers) > 2 * len(numbers)


def test_contiguous_parts_are_slices():
    cases = some_cases([f"g{n}" for n in range(30)])
    fold = holdout(cases, test=0.2, validation=0.1, seed=9, contiguous=True).folds[0]
    order = [case.name for case in cases]
    assert [*fold.train, *fold.validation, *fold.test] == order
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (21, 3, 6)


def test_no_test_part_where_none_is_asked_for():
    fold = holdout(some_cases([f"g{n}" for n in range(20)]), test=0, validation=0.2, seed=0).folds[0]
    assert fold.test == () and len(fold.validation) == 4


# --- k folds ----------------------------------------------------------------------------------------------


@given(group_lists, seeds, st.integers(2, 5), st.booleans())
def test_every_case_is_tested_once(groups, seed, folds, contiguous):
    cases = some_cases(groups)
    split = kfold(cases, folds=folds, validation=0.2, seed=seed, contiguous=contiguous)
    assert len(split.folds) == folds
    assert_sound(split, cases)
    assert sorted(name for fold in split.folds for name in fold.test) == [case.name for case in cases]


@pytest.mark.parametrize("contiguous", [False, True])
@pytest.mark.parametrize("folds", [2, 3, 5])
def test_one_huge_group_leaves_no_part_empty(folds, contiguous):
    cases = some_cases(["huge"] * 60 + [f"g{n}" for n in range(14)])
    assert_sound(kfold(cases, folds=folds, validation=0.2, seed=0, contiguous=contiguous), cases)
    assert_sound(holdout(cases, test=0.1, validation=0.1, seed=0, contiguous=contiguous), cases)


def test_folds_are_of_one_size():
    split = kfold(some_cases([f"g{n}" for n in range(50)]), folds=5, validation=0.25, seed=0)
    assert [(len(fold.test), len(fold.validation), len(fold.train)) for fold in split.folds] == [(10, 10, 30)] * 5


def test_contiguous_folds_are_slices():
    cases = some_cases([f"g{n}" for n in range(30)])
    split = kfold(cases, folds=3, validation=0.2, seed=0, contiguous=True)
    assert [name for fold in split.folds for name in fold.test] == [case.name for case in cases]


# --- a fixed test beside the folds ------------------------------------------------------------------------


@given(group_lists, seeds, st.sampled_from([0.1, 0.2, 3, 10]), st.booleans())
def test_no_fold_sees_the_fixed_test(groups, seed, wanted, contiguous):
    cases = some_cases(groups)
    split = kfold(cases, folds=3, validation=0.2, seed=seed, contiguous=contiguous, fixed_test=wanted)
    assert_sound(split, cases)
    assert {fold.fixed_test for fold in split.folds} == {split.fixed_test} and split.fixed_test
    tested = [name for fold in split.folds for name in fold.test]
    assert sorted([*tested, *split.fixed_test]) == [case.name for case in cases]
    count = wanted if wanted >= 1 else wanted * len(cases)
    assert abs(len(split.fixed_test) - count) <= 2 * max(Counter(groups).values()) + 1


@pytest.mark.parametrize(("count", "wanted"), [(30, 10), (47, 10), (35, 1), (50, 0.2)])
@pytest.mark.parametrize("contiguous", [False, True])
def test_a_number_of_single_cases_is_exact(count, wanted, contiguous):
    cases = some_cases([f"g{n}" for n in range(count)])
    split = kfold(cases, folds=5, validation=0.2, seed=1, contiguous=contiguous, fixed_test=wanted)
    assert len(split.fixed_test) == (wanted if wanted >= 1 else wanted * count)
    if contiguous:  # as in a study whose test is the last fifth
        assert list(split.fixed_test) == [case.name for case in cases][-len(split.fixed_test) :]


def test_without_a_fixed_test_folds_and_file_are_as_before(tmp_path):
    cases = some_cases([f"g{n}" for n in range(30)])
    split = kfold(cases, folds=3, validation=0.2, seed=0)
    assert split == kfold(cases, folds=3, validation=0.2, seed=0, fixed_test=0)
    split.write(tmp_path / "s.json")
    assert "fixed_test" not in (tmp_path / "s.json").read_text()


def test_a_fixed_test_needs_cases():
    cases = some_cases([f"g{n}" for n in range(12)])
    with pytest.raises(DataError, match="12 cases are to be kept out of the folds, and the data has 12"):
        kfold(cases, folds=2, validation=0.2, seed=0, fixed_test=12)


def test_a_fixed_test_that_some_fold_learns_from_is_refused(tmp_path):
    folds = [
        {"train": ["a"], "validation": ["b"], "test": ["c"], "fixed_test": ["d"]},
        {"train": ["d"], "validation": ["a"], "test": ["b"], "fixed_test": ["c"]},
    ]
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"folds": folds}))
    (problem,) = problems_of(path)
    assert "the fixed test cases differ between the folds" in problem


# --- too few ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [["a"], ["a", "b"], ["a"] * 20, ["a"] * 10 + ["b"] * 10])
def test_too_few_groups_for_a_holdout(groups):
    with pytest.raises(DataError) as caught:
        holdout(some_cases(groups), test=0.2, validation=0.2, seed=0)
    text = str(caught.value)
    assert "part is empty" in text
    assert f"{counted(len(groups), 'case')} in {counted(len(set(groups)), 'group')}; that is too few" in text


def test_too_few_groups_for_folds():
    with pytest.raises(DataError, match="the test part is empty") as caught:
        kfold(some_cases(["a", "b", "c"]), folds=5, validation=0.2, seed=0)
    assert "take fewer folds" in str(caught.value)


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [holdout, kfold])
def test_round_trip(tmp_path, make):
    cases = some_cases([f"病-{n // 2}" for n in range(40)])
    options = {"test": 0.2} if make is holdout else {"folds": 4, "fixed_test": 4}
    split = make(cases, validation=0.2, seed=1, **options)
    split.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == split
    assert Split.read(tmp_path / "split.json", cases) == split
    assert "病-1" in (tmp_path / "split.json").read_text(encoding="utf-8")


def test_a_name_that_is_no_utf8_survives(tmp_path):
    split = Split((Fold(("a\udcff",), ("b",), ()),), {"a\udcff": "g"}, {})
    split.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == split
    (tmp_path / "split.json").read_bytes().decode("utf-8")


def test_a_file_made_by_hand_needs_folds_only(tmp_path):
    path = tmp_path / "s.json"
    path.write_text('{"folds": [{"train": ["a"], "validation": ["b"]}]}')
    assert Split.read(path).folds == (Fold(("a",), ("b",), ()),)


def problems_of(path, cases=None) -> list[str]:
    with pytest.raises(DataError) as caught:
        Split.read(path, cases)
    return [str(problem) for problem in caught.value.problems]


def test_all_faults_of_a_split_are_reported_together(tmp_path):
    cases = some_cases(["p", "p", "q", "r"])
    folds = [
        {"train": ["case-000", "case-000"], "validation": ["case-001", "stranger"], "test": ["case-002"]},
        {"train": ["case-000", "case-001"], "validation": [], "test": ["case-002", "case-003"]},
        {"train": ["case-003"], "validation": ["case-002"], "test": ["case-003"]},
    ]
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"folds": folds}))
    problems = [problem.removeprefix(f"{path}, ").split(" → ")[0] for problem in problems_of(path, cases)]
    assert problems == [
        "fold 0: the case 'case-000' appears 2 times",
        "fold 0: the case 'stranger' is not in the data",
        "fold 0: the group 'p' lies in train and validation",
        "fold 1: the validation part is empty",
        "fold 2: the case 'case-003' appears 2 times",
        "fold 2: the group 'r' lies in test and train",
    ]


def test_groups_of_the_file_count_where_there_are_no_cases(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"folds": [{"train": ["a"], "validation": ["b"]}], "groups": {"a": "p", "b": "p"}}))
    assert "the group 'p' lies in train and validation" in problems_of(path)[0]


@pytest.mark.whole
@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "3",
        "{}",
        '{"folds": 3}',
        '{"folds": [3]}',
        '{"folds": [{"train": "abc", "validation": ["b"]}]}',
        '{"folds": [{"train": [1], "validation": ["b"]}]}',
        '{"folds": [{"train": [["a"]], "validation": ["b"]}]}',
        '{"folds": [{"train": null, "validation": ["b"]}]}',
        '{"folds": [{"train": ["a"], "validation": ["b"]}], "groups": []}',
        '{"folds": [{"train": ["a"], "validation": ["b"]}], "rule": 5}',
        "[" * 100_000,
    ],
)
def test_what_is_no_split_is_reported(tmp_path, text):
    path = tmp_path / "s.json"
    path.write_text(text)
    (problem,) = problems_of(path)
    assert problem.startswith(f"{path}: is not a split file (") and '{"folds": [{"train": […]' in problem


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "s.json").write_bytes(b"\xff\xfe\x00")
    assert "is not a split file" in problems_of(tmp_path / "s.json")[0]


def test_no_folds_and_no_file(tmp_path):
    (tmp_path / "s.json").write_text('{"folds": []}')
    assert "has no folds" in problems_of(tmp_path / "s.json")[0]
    assert "does not exist" in problems_of(tmp_path / "gone.json")[0]
    assert "is not a split file" in problems_of(tmp_path)[0]


def test_an_unknown_part():
    with pytest.raises(DataError, match="choose one of train, validation, test"):
        Fold((), (), ()).part("tset")
