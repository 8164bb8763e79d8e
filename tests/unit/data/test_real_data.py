"""The published data sets as they are, with their odd sizes, palettes and file names."""

from collections import Counter

import numpy as np
import pytest

from pocketseg.data import Cases, Grouping, MaskCoding, holdout
from pocketseg.errors import DataError

pytestmark = pytest.mark.real_data


def test_busi_gray256(real_data):
    grouping = Grouping(csv="near_duplicate_clusters.csv", column="cluster")
    cases = Cases.open(real_data / "busi_gray256", grouping=grouping)
    assert cases.layout == "busi" and len(cases) == 670 and cases.grouped
    assert set(Counter(case.label for case in cases)) == {"benign", "malignant", "normal"}
    assert sum(len(case.masks) > 1 for case in cases) >= 16
    groups = Counter(case.group for case in cases)
    assert len(groups) < 670 and max(groups.values()) > 1

    checked = cases.check()
    assert checked.channels == {1} and checked.files == sum(1 + len(case.masks) for case in cases)
    normal = {case.name for case in cases if case.label == "normal"}
    assert checked.empty == normal and len(normal) > 50
    assert all(cases.image(case).shape == (256, 256) for case in cases[:20])

    fold = holdout(list(cases), test=0.2, validation=0.15, seed=0).folds[0]
    group_of = {case.name: case.group for case in cases}
    parts = [{group_of[name] for name in part} for part in (fold.train, fold.validation, fold.test)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert abs(len(fold.test) - 134) <= 6 and abs(len(fold.validation) - 100) <= 6


def test_busi_as_published(real_data):
    cases = Cases.open(real_data / "busi")
    assert cases.layout == "busi" and len(cases) == 38
    assert any(len(case.masks) > 1 for case in cases)
    assert cases.check().channels == {3}
    shapes = {cases.image(case).shape for case in cases}
    assert len(shapes) > 30
    assert all(cases.mask(case).max() == 1 for case in cases if case.label != "normal")


def test_isbi_membranes_are_stored_inverted(real_data):
    root = real_data / "isbi2012_membrane"
    plain, inverted = (Cases.open(root, coding=MaskCoding(invert=invert)) for invert in (False, True))
    assert inverted.layout == "isbi-em" and [case.name for case in inverted] == [str(n) for n in range(30)]
    inverted.check()
    membrane = np.mean([inverted.mask(case).mean() for case in inverted])
    assert 0.1 < membrane < 0.35
    for case in inverted[:3]:
        np.testing.assert_array_equal(inverted.mask(case), 1 - plain.mask(case))
    # Membranes are dark.
    image, mask = inverted.image(inverted[0]), inverted.mask(inverted[0]) > 0
    assert image[mask].mean() < image[~mask].mean() - 20


def test_dsb_masks_have_gray_levels(real_data):
    root = real_data / "dsb2018_96"
    with pytest.raises(DataError) as caught:
        Cases.open(root).check()
    assert len(caught.value.problems) > 100
    assert "--set data.mask.threshold=128 cuts them" in str(caught.value.problems[0])

    cases = Cases.open(root, coding=MaskCoding(threshold=128))
    assert cases.layout == "nested-unet" and len(cases) == 670
    checked = cases.check()
    assert checked.channels == {3}
    assert 0.05 < np.mean([cases.mask(case).mean() for case in cases]) < 0.3


def test_hc18_gray256(real_data):
    cases = Cases.open(real_data / "hc18_gray256", grouping=Grouping(regex=r"^\d+"))
    assert len(cases) == 431 and len({case.group for case in cases}) == 353
    cases.check()
    cover = [cases.mask(case).mean() for case in cases]
    assert min(cover) > 0.02 and 0.15 < np.mean(cover) < 0.5
