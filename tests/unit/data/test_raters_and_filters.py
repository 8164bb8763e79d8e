"""Several raters, and which cases are used."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.volume_files import write_nifti
from pocketseg.data import Cases, Only, given
from pocketseg.data.raters import majority, staple
from pocketseg.errors import DataError


def raters(accuracies, seed: int = 0):
    """A reference and what raters of some sensitivity and specificity make of it."""
    rng = np.random.default_rng(seed)
    reference = np.zeros((60, 60), np.uint8)
    reference[15:45, 15:45] = 1
    masks = [np.where(rng.random(reference.shape) < right, reference, 1 - reference) for right in accuracies]
    return reference, np.stack(masks).astype(np.uint8)


def test_a_majority_is_more_than_half():
    masks = np.array([[[1, 1, 1, 2]], [[1, 1, 0, 2]], [[1, 0, 0, 1]], [[1, 0, 0, 0]]], np.uint8)
    assert majority(masks, 2).tolist() == [[1, 0, 0, 2]]


def test_staple_trusts_the_raters_who_agree():
    """Two good raters against three bad ones: the majority is wrong more often."""
    reference, masks = raters([0.98, 0.98, 0.6, 0.6, 0.6])
    assert (staple(masks, 1) != reference).mean() < 0.5 * (majority(masks, 1) != reference).mean()


def test_staple_against_the_binary_formulas():
    """The general form must agree with the two-class one of the paper, written out."""
    _, masks = raters([0.9, 0.8, 0.7], seed=3)
    said = masks.reshape(3, -1).astype(float)
    prior = said.mean()
    p, q = np.full(3, 0.99), np.full(3, 0.99)
    for _ in range(101):
        a = prior * np.prod(np.where(said == 1, p[:, None], 1 - p[:, None]), axis=0)
        b = (1 - prior) * np.prod(np.where(said == 0, q[:, None], 1 - q[:, None]), axis=0)
        w = a / (a + b)
        p, q = (said @ w) / w.sum(), ((1 - said) @ (1 - w)) / (1 - w).sum()
    np.testing.assert_array_equal(staple(masks, 1).ravel(), w > 0.5)


def test_staple_of_several_classes_and_of_nothing():
    rng = np.random.default_rng(1)
    reference = rng.integers(0, 4, (40, 40)).astype(np.uint8)
    masks = [
        np.where(rng.random(reference.shape) < 0.85, reference, rng.integers(0, 4, reference.shape)) for _ in range(5)
    ]
    assert (staple(np.stack(masks).astype(np.uint8), 3) == reference).mean() > 0.95
    assert not staple(np.zeros((3, 4, 4), np.uint8), 1).any()
    assert staple(np.ones((3, 4, 4), np.uint8), 1).all()


@pytest.fixture
def scgm(tmp_path):
    """Two sites, two subjects each, three raters; voxel (r, 0, 0) is drawn by raters 1..r+1."""
    for site in (1, 2):
        for subject in ("01", "02"):
            stem = f"site{site}-sc{subject}"
            write_nifti(tmp_path / f"{stem}-image.nii.gz", np.arange(48, dtype=np.int16).reshape(4, 4, 3))
            for rater in (1, 2, 3):
                mask = np.zeros((4, 4, 3), np.uint8)
                mask[rater - 1 : 3, 0, 0] = 1
                write_nifti(tmp_path / f"{stem}-mask-r{rater}.nii.gz", mask)
    return tmp_path


def test_raters_are_fused_or_apart(scgm):
    cases = Cases.open(scgm)
    assert cases.layout == "scgm" and len(cases) == 12 and cases[0].name == "site1-sc01#000"
    assert {case.group for case in cases} == {f"site{s}-sc0{n}" for s in (1, 2) for n in (1, 2)}
    assert cases.mask(cases[0])[-1, ::-1].tolist() == [0, 1, 1, 0]
    each = Cases.open(scgm, raters="each")
    assert len(each) == 36 and each[0].name == "site1-sc01#000@1"
    found = [each.mask(case).sum() for case in each if case.name.startswith("site1-sc01#000")]
    assert found == [3, 2, 1] and {case.group for case in each} == {case.group for case in cases}


@pytest.mark.parametrize(
    ("only", "count"),
    [
        (Only(subject=("sc01",)), 6),
        (Only(site=("site2",)), 6),
        (Only(subject=("sc0[12]",), site=("site1",)), 6),
        (Only(rater=("1",)), 12),
    ],
)
def test_filters(scgm, only, count):
    cases = Cases.open(scgm, only=only)
    assert len(cases) == count
    if only.rater:
        assert cases.mask(cases[0]).sum() == 3


def test_a_filter_that_keeps_nothing_tells_what_there_is(scgm):
    with pytest.raises(
        DataError, match=r"no case matches subject \['x'\] → there are subjects sc01, sc02; sites site1"
    ):
        Cases.open(scgm, only=Only(subject=("x",)))


def test_the_datas_own_parts_need_a_layout_that_has_them(scgm):
    with pytest.raises(DataError, match="no parts of its own"):
        given(Cases.open(scgm))
