"""Names that become paths, and names that are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketseg.names import check_name, name_fault, printable

OUTWARD = [
    "../x",
    "/etc/x",
    "..\\x",
    "C:\\x",
    "C:x",
    "a/../../x",
    "a/b",
    "..",
    ".",
    ".hidden",
    "nul\0",
    "\x1b[31m",
    "a\nb",
]
OUTWARD += ["", "  ", " a", "a ", "a.", "x" * 65, "病" * 67, "\u202egnp.exe", "\udcff", "a\u2028b"]


@pytest.mark.whole
@pytest.mark.row("S04")
@pytest.mark.parametrize("name", OUTWARD)
def test_what_could_lead_elsewhere_is_no_name(name):
    assert name_fault(name)
    with pytest.raises(ValueError, match="it becomes part of file names"):
        check_name(name)


@pytest.mark.parametrize("name", ["lesion", "left ventricle", "größe", "病変", "a.b", "tumor (core)", "x" * 64, "50%"])
def test_what_people_call_things_is_one(name):
    assert check_name(name) == name


@given(st.text())
def test_what_is_shown_steers_nothing(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown == text or not text.isprintable()


def test_line_breaks_stay_where_they_are_ours():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\\x1b"
