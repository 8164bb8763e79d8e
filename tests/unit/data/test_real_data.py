"""The published data sets as they are, with their odd sizes, palettes and file names."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pocketseg.data import Cases, Grouping, MaskCoding, holdout
from pocketseg.data.doctor.pictures import suspicions
from pocketseg.errors import DataError
from pocketseg.pipeline.drawn import paint_out

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


# --- calipers ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clean(real_data) -> list[np.ndarray]:
    """200 images in which next to nothing was measured: fetal heads, and breasts of the class normal."""
    heads = sorted((real_data / "hc18_gray256/training_set").glob("*_HC.png"))[::3][:100]
    breasts = sorted((real_data / "busi_gray256/Dataset_BUSI_with_GT/normal").glob("normal (*).png"))
    breasts = [path for path in breasts if "_mask" not in path.name][: 200 - len(heads)]
    images = [np.asarray(Image.open(path).convert("L")) for path in (*heads, *breasts)]
    assert len(images) == 200
    return images


def measured(image: np.ndarray, kind: str, size: int, random: np.random.Generator) -> np.ndarray:
    """An image in which one distance was measured: two crosses of a size in pixels, or a dotted line."""
    pixels = Image.fromarray(image).convert("RGB" if kind == "colored" else "L")
    pen, arm = ImageDraw.Draw(pixels), size // 2
    fill = (240, 220, 0) if kind == "colored" else int(random.integers(200, 256))
    for _ in range(2):
        y, x = (int(random.integers(30, side - 80)) for side in image.shape)
        slant = arm if kind == "x" else 0
        if kind == "dotted":
            pen.point([(x + (3 + size // 3) * step, y + step) for step in range(8)], fill=fill)
        else:
            pen.line((x - arm, y - slant, x + arm, y + slant), fill=fill)
            pen.line((x - slant, y + arm, x + slant, y - arm), fill=fill)
    return np.asarray(pixels)


def is_marked(image: np.ndarray) -> bool:
    return bool({"calipers", "marks"} & set(suspicions(image)))


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["plus", "x", "dotted", "colored"])
def test_calipers_drawn_into_real_images_are_found(clean, kind):
    """At every size of 5 to 15 pixels, in at least 80 % of the images."""
    random = np.random.default_rng(15)
    for size in (5, 7, 9, 11, 13, 15):
        images = clean[size % 8 :: 8]
        found = sum(is_marked(measured(image, kind, size, random)) for image in images)
        assert found >= 0.8 * len(images), (kind, size, found)


def test_clean_images_have_no_calipers(clean):
    assert sum(map(is_marked, clean)) < 0.05 * len(clean)


@pytest.mark.whole
@pytest.mark.parametrize("kind", ["plus", "x", "dotted", "colored"])
def test_calipers_are_painted_out_of_real_images(clean, kind):
    """Four of five images have none left, and where they were the gray values are nearly those of before."""
    random = np.random.default_rng(7)
    left, images, errors = 0, clean[::5], []
    for image in images:
        marked = measured(image, kind, 9, random)
        painted = paint_out(marked)
        left += is_marked(painted)
        gray = [each.max(axis=2) if each.ndim == 3 else each for each in (marked, painted)]
        drawn = gray[0] != image
        before, after = (np.abs(each.astype(int) - image)[drawn].mean() for each in gray)
        errors.append(after / before)
    assert left <= 0.2 * len(images)
    assert np.median(errors) < 0.2


def test_painting_out_hardly_touches_clean_images(clean):
    changed = [float((paint_out(image) != image).mean()) for image in clean[::4]]
    assert sum(share > 0 for share in changed) <= 0.05 * len(changed) and max(changed) < 0.02
