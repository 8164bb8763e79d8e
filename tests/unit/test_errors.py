import pytest

from pocketseg import errors
from pocketseg.errors import DataError, Interrupted, PocketsegError, Problem, RecipeError, near


def test_a_problem_has_three_parts():
    assert str(Problem("a.png", "is empty", "remove it")) == "a.png: is empty → remove it"
    assert str(Problem("a.png", "is empty")) == "a.png: is empty"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nERROR all lost.png", "a\\nERROR all lost.png"),
        ("a\r.png", "a\\r.png"),
        ("a\x1b[2J.png", "a\\x1b[2J.png"),
        ("a\u2028b", "a\\u2028b"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff.png", "\\udcff.png"),
        ("βλάβη 病变 😀 \"q\" 'q' %s {x} -n.png", "βλάβη 病变 😀 \"q\" 'q' %s {x} -n.png"),
    ],
    ids=["newline", "return", "escape", "line-separator", "right-to-left", "no-utf8", "harmless"],
)
def test_a_name_cannot_forge_a_line_or_steer_a_terminal(name, shown):
    text = str(DataError(name, "is empty"))
    assert text == f"{shown}: is empty"
    assert len(text.splitlines()) == 1
    text.encode("utf-8")


def test_problems_are_reported_together():
    error = RecipeError.of([Problem("a", "x"), Problem("b", "y", "z")])
    assert type(error) is RecipeError
    assert str(error).splitlines() == ["a: x", "b: y → z"]
    assert error.args == (str(error),)


@pytest.mark.parametrize(("count", "hidden"), [(50, 0), (51, 1), (120, 70)])
def test_long_lists_are_cut_in_the_text_and_whole_in_the_error(count, hidden):
    error = DataError.of([Problem("a", f"bad {'x' * n}") for n in range(count)])
    lines = str(error).splitlines()
    assert len(error.problems) == count
    assert lines[:50] == [f"a: bad {'x' * n}" for n in range(50)]
    assert lines[50:] == ([f"… and {hidden} more"] if hidden else [])


def test_too_many_problems_of_one_kind_become_a_line():
    problems = [Problem(f"{n}.png", "is empty") for n in range(49)]
    few = [*problems[:3], Problem("a.png", "is truncated")]
    assert str(DataError.of(few)).splitlines() == [str(problem) for problem in few]
    many = DataError.of([*problems, Problem("a.png", "is truncated"), Problem("b.png", "is empty", "remove it")])
    assert str(many).splitlines() == [
        "0.png, 1.png, 2.png and 46 more: is empty",
        "a.png: is truncated",
        "b.png: is empty → remove it",
    ]
    assert len(many.problems) == 51


def test_problems_that_differ_in_numbers_and_paths_are_of_one_kind():
    problems = [Problem(f"m/{n}.png", f"is {n}×9, but i/{n}.png is 9×{n}", f"see 'a{n}'") for n in range(5)]
    (line,) = str(DataError.of(problems)).splitlines()
    assert line.startswith(
        "m/0.png, m/1.png, m/2.png and 2 more: is 0×9, but i/0.png is 9×0 (the first; 5 of the kind)"
    )
    assert len(str(DataError.of(problems[:3])).splitlines()) == 3
    assert Problem.at(["a", "b"], "x").places == ("a", "b") and Problem("a", "x").places == ("a",)


def test_exit_codes():
    codes = {"DataError": 2, "RecipeError": 2, "ModelFileError": 2, "RunError": 2, "TrainingError": 2}
    codes |= {"EnvironmentProblem": 3, "PocketsegError": 4}
    assert {name: getattr(errors, name).exit_code for name in codes} == codes
    assert all(issubclass(getattr(errors, name), PocketsegError) for name in codes)


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143)])
def test_interruptions_exit_as_shells_expect(number, code):
    assert Interrupted(number, "run", "stopped").exit_code == code


def test_near_prefers_close_names_and_else_lists_all():
    assert near("bath", ["epochs", "batch", "init"]) == "did you mean batch?"
    assert near("x", ["b", "a"]) == "known: a, b"


def test_a_missing_package_says_how_to_get_it():
    error = errors.missing_package("torch", "train", ImportError("no torch"))
    assert str(error) == "torch: cannot be imported (no torch) → install it with: pip install 'pocketseg[train]'"
    assert error.exit_code == 3
