"""Run lengths: against values worked out by hand, and back."""

import numpy as np
import pytest

from pocketseg.data.annotations import rle

# By hand, with the rule of maskApi.c: five bits a sign, from "0" on, the lowest first; from the fourth run on the
# difference to the one before the last; 16 in the last sign is minus, 32 says that another follows.
KNOWN = {
    "": [],
    "0": [0],
    "52203": [5, 2, 2, 2, 5],  # 5, 2, 2, 2-2=0, 5-2=3
    "P1": [32],  # 32 = 0 + 1·32: 0|32 is P, then 1
    "o?": [511],  # 31 + 15·32: 31|32 is 63, "o"; 15 is "?", and has no bit 16
    "444M1": [4, 4, 4, 1, 5],  # 1-4 = -3 = 29 of 32, whose bit 16 says minus: 29+48 is M; 5-4 = 1
    "P8": [256],  # 256 = 8·32, and 8 has no bit 16
    "Ph0": [768],  # 768 = 24·32; 24 has the bit 16, so a 0 must follow
}


@pytest.mark.parametrize(("text", "counts"), KNOWN.items())
def test_strings_of_coco(text, counts):
    assert rle.counts_from_text(text).tolist() == counts
    assert rle.text_of_counts(counts) == text


def test_strings_are_as_a_plain_reading_of_the_rule_says():
    def plainly(text):
        counts, at = [], 0
        while at < len(text):
            number = place = 0
            more = True
            while more:
                sign = ord(text[at]) - 48
                number |= (sign & 31) << 5 * place
                more, at, place = bool(sign & 32), at + 1, place + 1
                if not more and sign & 16:
                    number |= -1 << 5 * place
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
        return counts

    rng = np.random.default_rng(0)
    for size in (1, 2, 3, 4, 50, 1000):
        counts = rng.integers(0, 10 ** rng.integers(1, 8), size).tolist()
        text = rle.text_of_counts(counts)
        assert plainly(text) == counts == rle.counts_from_text(text).tolist()


@pytest.mark.parametrize("text", ["P", "/", "p", "é", "PPPPPPPP0", "o" * 100])
def test_what_is_no_string_of_coco(text):
    with pytest.raises(ValueError, match="run"):
        rle.counts_from_text(text)


def test_counts_go_down_the_columns():
    mask = rle.mask_of_counts(np.array([1, 3, 2]), (2, 3))
    assert mask.astype(int).tolist() == [[0, 1, 0], [1, 1, 0]]
    assert rle.counts_of_mask(mask) == [1, 3, 2]
    by_rows = rle.mask_of_counts(np.array([1, 3, 2]), (2, 3), by_rows=True)
    assert by_rows.astype(int).tolist() == [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("counts", "words"), [([1, 3], "4 pixels"), ([7, -1], "negative"), ([2**40, 2**40], "longer"), ([], "0 pixels")]
)
def test_counts_that_do_not_fit(counts, words):
    with pytest.raises(ValueError, match=words):
        rle.mask_of_counts(np.array(counts, np.int64), (2, 3))


@pytest.mark.parametrize("values", [["a"], [1.5], [float("nan")], [10**400], [[1, 2]], 3, {}, [None]])
def test_counts_that_are_no_numbers(values):
    with pytest.raises(ValueError, match="run lengths"):
        rle.counts_from_list(values)


def test_pairs_of_kaggle():
    """The example of its competitions: `1 3 10 5` is the pixels 1, 2, 3, 10, …, 14, numbered down the columns."""
    mask = rle.mask_of_pairs(rle.pairs_from_text("1 3 10 5"), (4, 4))
    assert [index + 1 for index, inside in enumerate(mask.T.ravel()) if inside] == [1, 2, 3, 10, 11, 12, 13, 14]
    assert rle.text_of_pairs(mask) == "1 3 10 5"
    across = rle.mask_of_pairs(rle.pairs_from_text("1 3 10 5"), (4, 4), by_rows=True)
    np.testing.assert_array_equal(across, mask.T)


@pytest.mark.parametrize(
    ("text", "words"),
    [("1", "odd"), ("0 1", "below 1"), ("3 -1", "negative"), ("a b", "whole"), ("1.5 2", "whole"),
     ("1 " + "9" * 30, "whole"), ("16 2", "but the image has 16"), ("1 17", "but the image has 16"),
     ("9223372036854775807 9223372036854775807", "but the image has 16")],
)  # fmt: skip
def test_pairs_that_make_no_sense(text, words):
    with pytest.raises(ValueError, match=words):
        rle.mask_of_pairs(rle.pairs_from_text(text), (4, 4))


def test_masks_of_all_kinds_and_back():
    rng = np.random.default_rng(1)
    masks = [np.zeros((3, 4), bool), np.ones((3, 4), bool), *(rng.random((20, 5, 7)) < 0.5)]
    for mask in masks:
        counts = rle.counts_of_mask(mask)
        assert sum(counts) == mask.size
        np.testing.assert_array_equal(rle.mask_of_counts(np.array(counts), mask.shape), mask)
        np.testing.assert_array_equal(rle.mask_of_pairs(rle.pairs_from_text(rle.text_of_pairs(mask)), mask.shape), mask)


def test_rows_and_columns_are_told_apart_where_the_image_is_not_square():
    """A disk on 40 × 60 pixels, numbered along the rows and down the columns."""
    row, column = np.indices((40, 60))
    disk = (row - 20) ** 2 + (column - 25) ** 2 < 90
    down, across = (rle.pairs_from_text(rle.text_of_pairs(each)) for each in (disk, disk.T))
    assert not rle.goes_by_rows(down, (40, 60)) and rle.goes_by_rows(across, (40, 60))
    assert not rle.goes_by_rows(across, (40, 40))
