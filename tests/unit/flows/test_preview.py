"""The page of a data set: which cases it shows, what it says was decided, and that it needs nothing else."""

from __future__ import annotations

import re

import numpy as np
import pytest

from helpers.pictures import good, picture, reference, save
from helpers.volume_files import write_nifti
from pocketseg.data import Cases
from pocketseg.errors import DataError
from pocketseg.flows.preview import preview, sample


def facts(page) -> dict[str, str]:
    text = page.read_text()
    return dict(re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd></div>", text))


def outlines(page) -> list[str]:
    return re.findall(r'<path class="mask" stroke="#\w+" fill="#\w+" d="(M[^"]+)"/>', page.read_text())


def test_a_page_says_what_was_decided(tmp_path):
    for number in range(10):
        save(tmp_path / f"data/imgs/k{number}.png", picture(number))
        save(tmp_path / f"data/gt/k{number}_seg.png", reference(number) if number else np.zeros((32, 40), np.uint8))
    save(tmp_path / "data/imgs/notes.xyz.png", picture(50)).rename(tmp_path / "data/imgs/notes.xyz")
    done = preview(tmp_path / "data", tmp_path / "page.html")
    assert (done.cases, done.shown, done.problems) == (10, 10, ())
    said = facts(done.page)
    assert said["Layout"].startswith("folders: ") and said["Masks are called"] == "{stem}_seg"
    assert said["Sizes"] == "32×40 (rows×columns), all" and said["Foreground is"] == "stored as 255"
    assert said["Classes"] == "1 lesion in 9 cases" and said["Channels"].startswith(
        "a net gets 1; files hold 1; no image is in color"
    )
    assert said["Groups"].startswith("10 for 10 cases (every case is its own)") and "none given" in said["Parts"]
    text = done.page.read_text()
    assert "1 .xyz file" in text and 'src="http' not in text and "<script" not in text
    assert len(outlines(done.page)) == 10, "a rectangle each, and one in the legend; none in the empty mask"


def test_masks_are_drawn_as_they_are_read(tmp_path):
    """Inverted by rule: the outline is that of the black object."""
    save(tmp_path / "images/a.png", picture(1, (4, 6)))
    mask = np.full((4, 6), 255, np.uint8)
    mask[1:3, 2:4] = 0
    save(tmp_path / "masks/a.png", mask)
    page = preview(tmp_path, tmp_path / "page.html", overrides=["data.mask.invert=true"]).page
    assert outlines(page)[-1] == "M2 1h2v2h-2z"
    assert facts(page)["Foreground is"] == "0; stored as 255 is background (data.mask.invert)"


def test_volumes_classes_and_raters(tmp_path):
    volume = np.random.default_rng(0).integers(0, 500, (6, 7, 5)).astype(np.int16)
    labels = np.zeros((6, 7, 5), np.uint8)
    labels[1:3, 2:4, 1:3], labels[4, 5, 2] = 1, 2
    for number in range(2):
        write_nifti(tmp_path / f"v/images/s{number}.nii.gz", volume)
        write_nifti(tmp_path / f"v/labels/s{number}.nii.gz", labels)
    done = preview(tmp_path / "v", tmp_path / "v.html", overrides=["data.classes=[one,two]"])
    assert done.cases == 10 and facts(done.page)["Classes"] == "1 one in 4 cases, 2 two in 2 cases"
    assert "2 .nii.gz files" in facts(done.page)["Images"] and "s0#002" in done.page.read_text()
    for kind in ("_1stHO", "_2ndHO"):
        for number in range(3):
            save(tmp_path / f"r/c{number}.png", picture(number))
            save(tmp_path / f"r/c{number}{kind}.png", reference(number))
    found = facts(preview(tmp_path / "r", tmp_path / "r.html").page)
    assert found["Raters"] == "1stHO, 2ndHO: what more than half drew"


def test_what_is_wrong_stands_beside_what_can_be_shown(tmp_path):
    data = good(tmp_path / "data")
    (data / "masks/c3.png").unlink()
    (data / "images/c4.png").write_bytes(b"damaged")
    done = preview(data, tmp_path / "page.html")
    assert done.shown == 6 + 1 and len(done.problems) == 2, "of the damaged image its mask"
    assert "has no mask in" in done.page.read_text() and "c4.png" in done.page.read_text()


@pytest.mark.parametrize("out", ["page.txt", "page"])
def test_a_page_is_an_html_file(tmp_path, out):
    with pytest.raises(DataError, match="is not a name of a page"):
        preview(good(tmp_path / "data"), tmp_path / out)
    assert not (tmp_path / out).exists()


def test_names_cannot_become_markup(tmp_path):
    save(tmp_path / "data/images/<i>&.png", picture(1))
    save(tmp_path / "data/masks/<i>&.png", reference(1))
    assert "<i>" not in preview(tmp_path / "data", tmp_path / "page.html").page.read_text()


@pytest.mark.whole
@pytest.mark.parametrize("count", [1, 6, 24, 100])
def test_the_sample_follows_its_rule(tmp_path, count):
    for number in range(40):
        mask = np.zeros((16, 16), np.uint8)
        mask.flat[: max(0, 3 * (number - 5))] = 1
        mask[-1, -1] = 2 if number == 20 else mask[-1, -1]
        save(tmp_path / f"images/c{number}.png", picture(number, (16, 16)))
        save(tmp_path / f"masks/c{number}.png", mask)
    from pocketseg.data import MaskCoding

    cases = Cases.open(tmp_path, coding=MaskCoding(classes=2))
    looked = [cases.look(case).statistics for case in cases]
    chosen = sample(looked, count)
    names = [each.name for some in chosen.values() for each in some]
    assert len(set(names)) == len(names) == min(count, 40)
    if count == 1:
        return
    share = count // 6
    assert all(not each.foreground for each in chosen["Empty masks"]) and len(chosen["Empty masks"]) == min(share, 6)
    assert [each.name for each in chosen["Smallest masks"]][:1] == ["c6"]
    assert [each.name for each in chosen["Largest masks"]][:1] == ["c39"]
    if count >= 6:
        assert "c20" in names, "the one case of the second class"
    assert chosen == sample(looked, count)


def overlays(root, count=6):
    """Images whose masks are the images with an outline drawn on them."""
    for number in range(count):
        save(root / f"images/k{number}.png", picture(number))
        drawn = np.dstack([picture(number)] * 3)
        drawn[5:20, 5] = 255, 0, 0
        save(root / f"masks/k{number}.png", drawn)
    return root


def test_masks_that_cannot_be_read_are_shown_as_they_are_stored(tmp_path):
    done = preview(overlays(tmp_path / "data"), tmp_path / "page.html")
    text = done.page.read_text()
    assert (done.cases, done.shown) == (6, 6) and "no mask can be read" in text and "<nan" not in text
    assert text.count("image, 32×40<") == text.count("mask, 32×40<") == 6
    assert "Cases with errors: image and mask as they are stored" in text and "those of a picture" in text


def test_some_masks_that_cannot_be_read_stand_before_those_that_can(tmp_path):
    for number in range(10):
        save(tmp_path / f"data/images/g{number}.png", picture(20 + number))
        save(tmp_path / f"data/masks/g{number}.png", reference(number))
    done = preview(overlays(tmp_path / "data", 8), tmp_path / "page.html")
    text = done.page.read_text()
    assert text.count("mask, 32×40<") == 6 and done.shown == 6 + 10
    assert text.index("Cases with errors") < text.index("Smallest masks")


def test_where_nothing_can_be_shown_there_is_no_page(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"a\.png"):
        preview(tmp_path, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_nothing_but_a_preview_is_replaced(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><title>mine</title>")
    with pytest.raises(DataError, match=r"page\.html: is there already and was not written by data preview →"):
        preview(good(tmp_path / "data"), page)
    assert "mine" in page.read_text()
    page.unlink()
    preview(good(tmp_path / "data"), page)
    assert preview(tmp_path / "data", page).page.read_text().startswith("<!doctype html>")
