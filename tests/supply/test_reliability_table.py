"""docs/reliability.md: every row of the matrix has a test or a reason, and the page is the one that the tests make."""

from __future__ import annotations

import pytest

from helpers.reliability_rows import COMMAND, HELD, PAGE, page, subjects, untested


@pytest.fixture(scope="module")
def tests(request) -> dict[str, list[str]]:
    found = request.config.stash[HELD]
    if found is None:
        pytest.skip(f"only a part of the tests was collected; {COMMAND} looks at all")
    return found


def test_marks_name_rows_that_are_there(tests):
    assert not set(tests) - set(subjects())


def test_every_row_has_a_test_or_a_reason(tests):
    assert not set(untested()) - set(subjects())
    assert sorted(set(subjects()) - set(tests) - set(untested())) == [], "neither a test nor a reason"
    assert sorted(set(tests) & set(untested())) == [], "a test, and a reason why there is none: remove the reason"


def test_the_page_is_the_one_that_the_tests_make(tests):
    assert PAGE.read_text(encoding="utf-8") == page(tests), f"docs/reliability.md is old: run {COMMAND} and commit it"
