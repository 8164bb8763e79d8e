"""Tables as CSV: quoted, no formulas, and back."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketseg.tables import cell, csv_rows, csv_text, from_cell

SIGNS = st.text(st.sampled_from("'=+-@\t\r\n,\"1.eEa"), max_size=6)


def is_number(text: str) -> bool:
    try:
        return text.strip("'") == text.strip() and bool(float(text) or True) and text[-1:] != "_"
    except ValueError:
        return False


@given(SIGNS)
def test_a_cell_is_no_formula_and_comes_back(text):
    assert is_number(cell(text)) or not cell(text).startswith(("=", "+", "-", "@", "\t", "\r"))
    assert from_cell(cell(text)) == text


@given(st.lists(st.lists(SIGNS, min_size=2, max_size=2), max_size=4))
def test_rows_come_back(rows):
    assert csv_rows(csv_text(rows)) == rows


@pytest.mark.parametrize("text", ["=1+1", "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "-", "+", "'=1"])
def test_formulas_are_texts_to_a_spreadsheet(text):
    (found,) = next(csv.reader(io.StringIO(csv_text([[text]]), newline="")))
    assert found == f"'{text}"


@pytest.mark.parametrize("text", ["-2", "+1.5", "-1e-3", "-.5", "7", "a-b", "'quoted'", "1-2"])
def test_numbers_and_plain_texts_stay(text):
    assert cell(text) == text


def test_numbers_keep_all_their_digits():
    assert csv_text([(0.1 + 0.2, -1, None, True)]) == "0.30000000000000004,-1,,True\n"
