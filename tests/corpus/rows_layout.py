"""A: layout and pairing."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from corpus import Try, reads, row
from helpers.pictures import good, picture, reference, save

MANY = 100_000


@row("A01")
def no_such_folder(folder: Path) -> Iterator[Try]:
    yield Try(folder / "absent", "error", "layout", ("does not exist", str(folder / "absent")))


@row("A02")
def empty_folder(folder: Path) -> Iterator[Try]:
    (folder / "empty").mkdir()
    yield Try(folder / "empty", "error", "layout", ("images/NAME",))


@row("A03")
def image_without_mask(folder: Path) -> Iterator[Try]:
    (good(folder, 20) / "masks/c7.png").unlink()
    yield Try(folder, "error", "layout", ("images/c7.png", "has no mask"))


@row("A04")
def mask_without_image(folder: Path) -> Iterator[Try]:
    (good(folder) / "images/c3.png").unlink()
    yield Try(folder, "error", "layout", ("masks/c3.png", "has no image"))


@row("A05")
def stems_that_begin_alike(folder: Path) -> Iterator[Try]:
    good(folder)
    for number in (1, 10, 11):
        save(folder / f"images/{number}.png", picture(100 + number))
        save(folder / f"masks/{number}.png", reference(100 + number))
    yield Try(folder, "works", check=reads("1", picture(101), reference(101) > 0))
    yield Try(folder, "works", check=reads("10", picture(110), reference(110) > 0))


@row("A06")
def stems_with_dots(folder: Path) -> Iterator[Try]:
    good(folder)
    for end in ("7", "8"):
        save(folder / f"images/1.2.840.113619.{end}.png", picture(100 + int(end)))
        save(folder / f"masks/1.2.840.113619.{end}.png", reference(100 + int(end)))
    yield Try(folder, "works", check=reads("1.2.840.113619.8", picture(108), reference(108) > 0))


@row("A07")
def suffixes_of_masks(folder: Path) -> Iterator[Try]:
    for suffix in ("_mask", "_seg", "-label"):
        for number in range(8):
            save(folder / suffix / f"c{number}.png", picture(number))
            save(folder / suffix / f"c{number}{suffix}.png", reference(number))
        yield Try(folder / suffix, "works", check=reads("c2", picture(2), reference(2) > 0))
    save(folder / "_mask/c3_seg.png", reference(4))
    yield Try(folder / "_mask", "error", "layout", ("c3_mask, c3_seg", "data.mask.suffix=_mask"))


@row("A08")
def one_stem_two_suffixes(folder: Path) -> Iterator[Try]:
    save(good(folder) / "images/c1.tif", picture(77))
    yield Try(folder, "error", "layout", ("c1.png", "c1.tif"))


@row("A09")
def names_differ_in_capitals(folder: Path) -> Iterator[Try]:
    good(folder)
    save(folder / "images/C1.png", picture(77))
    save(folder / "masks/C1.png", reference(77))
    yield Try(folder, "warning", "case-names", ("C1", "c1"))


@row("A10")
def litter_of_file_browsers(folder: Path) -> Iterator[Try]:
    good(folder)
    for name in ("Thumbs.db", ".DS_Store", "._c1.png", "desktop.ini"):
        (folder / "images" / name).write_bytes(b"litter")
    yield Try(folder, "warning", "ignored", ("4 ", ".DS_Store"))
    for name in ("c1.czi", "c2.czi", "c3.foo"):
        (folder / "images" / name).write_bytes(b"another format")
    yield Try(folder, "warning", "unread-format", ("left out: 2 .czi files, 1 .foo file", "OME-TIFF"))
    save(folder / "more/x.png", picture(50))
    yield Try(folder, "warning", "left-out", ("left out: 1 .png file",))


@row("A11")
def empty_folder_inside(folder: Path) -> Iterator[Try]:
    (good(folder) / "images/new").mkdir()
    yield Try(folder, "works")


@row("A12")
def link_to_elsewhere(folder: Path) -> Iterator[Try]:
    save(folder / "elsewhere/x.png", picture(50))
    data = good(folder / "data")
    save(data / "masks/x.png", reference(50))
    (data / "images/x.png").symlink_to(folder / "elsewhere/x.png")
    yield Try(data, "error", "link", ("images/x.png", "data.follow_links=true"))
    yield Try(data, "works", arguments=("--set", "data.follow_links=true"))


@row("A13")
def link_to_itself(folder: Path) -> Iterator[Try]:
    data = good(folder / "data")
    save(data / "masks/x.png", reference(50))
    (data / "images/x.png").symlink_to(data / "images/x.png")
    yield Try(data, "error", "", ("images/x.png",))
    (folder / "circle").symlink_to(folder / "circle")
    yield Try(folder / "circle", "error", "layout", ("circle",))
    deep = good(folder / "deep")
    (deep / "images/again").symlink_to(deep, target_is_directory=True)
    yield Try(deep, "works")


@row("A14")
def pipe_instead_of_a_file(folder: Path) -> Iterator[Try]:
    save(good(folder) / "masks/x.png", reference(50))
    os.mkfifo(folder / "images/x.png")
    yield Try(folder, "error", "image", ("images/x.png", "a pipe or a device"))


@row("A15")
def file_that_may_not_be_read(folder: Path) -> Iterator[Try]:
    good(folder)
    (folder / "images/c2.png").chmod(0)
    yield Try(folder, "error", "image", ("images/c2.png", "permission"), nobody=True)


@row("A16")
def file_that_vanishes(folder: Path) -> Iterator[Try]:
    def check(data: Path) -> None:
        from pocketseg.data import Cases
        from pocketseg.errors import DataError

        cases = Cases.open(data)
        (data / "images/c2.png").unlink()
        try:
            cases.check()
        except DataError as error:
            assert "images/c2.png: the file does not exist" in str(error)
        else:
            raise AssertionError("nothing was reported")

    yield Try(good(folder), "works", check=check)


@row("A17")
def very_many_files(folder: Path) -> Iterator[Try]:
    """The listing of 100,000 files; what it costs is held against the limits by the test."""

    def check(data: Path) -> None:
        from pocketseg.data import Cases

        assert len(Cases.open(data)) == MANY // 2

    for part, pixels in (("images", picture(1, (8, 8))), ("masks", reference(1, (8, 8)))):
        for number in range(MANY // 2):
            if number % 20_000 == 0:
                first = save(folder / f"{part}/c{number}.png", pixels)
            else:
                os.link(first, folder / f"{part}/c{number}.png")
    yield Try(folder / "absent", "error", check=lambda _: check(folder))


@row("A18")
def names_in_all_scripts(folder: Path) -> Iterator[Try]:
    good(folder)
    for number, name in enumerate(("超声", "υπέρηχος", "🫀", "فحص", "é")):
        save(folder / f"images/{name}.png", picture(60 + number))
        save(folder / f"masks/{name}.png", reference(60 + number))
    yield Try(folder, "works", check=reads("超声", picture(60), reference(60) > 0))
    twice = unicodedata.normalize("NFD", "é")
    save(folder / f"images/{twice}.png", picture(70))
    save(folder / f"masks/{twice}.png", reference(70))
    yield Try(folder, "error", "same-name", ("Unicode",))


@row("A19")
def names_with_odd_signs(folder: Path) -> Iterator[Try]:
    good(folder)
    for number, name in enumerate(("a b", "a'b\"c", "a\nERROR forged", "-rf", "100%s")):
        save(folder / f"images/{name}.png", picture(60 + number))
        save(folder / f"masks/{name}.png", reference(60 + number))
    yield Try(folder, "works", check=reads("a b", picture(60), reference(60) > 0))
    (folder / "images/a\nERROR forged.png").write_bytes(b"")
    yield Try(folder, "error", "image", ("forged.png", "empty"))


@row("A20")
def paths_too_long(folder: Path) -> Iterator[Try]:
    yield Try(folder / ("x" * 300), "error", "layout", ("too long",))
    yield Try(folder / "/".join(["deep" * 20] * 60), "error", "layout", ("too long",))


@row("A21")
def names_that_are_no_text(folder: Path) -> Iterator[Try]:
    good(folder)
    for part, pixels in (("images", picture(60)), ("masks", reference(60))):
        save(folder / part / "x.png", pixels).rename(folder / part / os.fsdecode(b"caf\xe9.png"))
    yield Try(folder, "works", check=reads("caf\udce9", picture(60), reference(60) > 0))
    (folder / "images" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    yield Try(folder, "error", "image", ("empty",))


def named_after(folder: Path, images: str, masks: str, count: int = 8, first: int = 0) -> Path:
    """A set whose masks are called after their images; `{}` is the stem."""
    for number in range(count):
        save(folder / images.format(f"k{number}"), picture(first + number))
        save(folder / masks.format(f"k{number}"), reference(first + number))
    return folder


@row("A22")
def masks_called_after_images(folder: Path) -> Iterator[Try]:
    """Any one text before or after the stem, in one folder or two, is found; and given."""
    for number, masks in enumerate(("{}_segmentation.png", "mask_{}.png", "{}-GT.bmp", "{}.truth.gif")):
        one, two = folder / f"one{number}", folder / f"two{number}"
        yield Try(named_after(one, "{}.png", masks), "works", check=reads("k3", picture(3), reference(3) > 0))
        yield Try(named_after(two, "img/{}.tif", f"gt/{masks}"), "works", check=reads("k3", None, reference(3) > 0))
    words = named_after(folder / "words", "image_{}.png", "label_{}.png")
    yield Try(words, "works", check=reads("image_k3", picture(3), reference(3) > 0))
    number = named_after(folder / "number", "images/{}.png", "masks/{}_2.png", 400)
    yield Try(number, "error", "layout", ("400 of 400 images have no mask", "k0.png", "data.mask.suffix=_2"))
    yield Try(number, "works", arguments=("--set", "data.mask.suffix=_2"))
    shifted = folder / "shifted"
    for name in range(1, 9):
        save(shifted / f"images/{name}.png", picture(name))
        save(shifted / f"masks/1{name}.png", reference(name))
    yield Try(shifted, "error", "layout", ("have no mask",))


@row("A23")
def masks_of_raters_and_of_several_kinds(folder: Path) -> Iterator[Try]:
    raters = folder / "raters"
    for kind in ("_1stHO", "_2ndHO"):
        named_after(raters, "Image_{}.png", f"Image_{{}}{kind}.png")
    yield Try(raters, "works", check=reads("Image_k2", picture(2), reference(2) > 0))
    yield Try(raters, "works", check=reads("Image_k2@2ndHO", picture(2), reference(2) > 0, raters="each"))
    for kind in ("_lesion", "_organ"):
        named_after(folder / "kinds", "images/{}.png", f"masks/{{}}{kind}.png")
    kinds = folder / "kinds"
    yield Try(kinds, "error", "layout", ("{stem}_lesion, {stem}_organ", "data.mask.suffix=_lesion"))
    yield Try(kinds, "works", arguments=("--set", "data.mask.suffix=_lesion"))
    fields = good(folder / "fields")
    for number in range(8):
        save(fields / f"1st_manual/c{number}.png", reference(number))
    yield Try(fields, "error", "layout", ("several folders of masks", "1st_manual", "data.masks="))


@row("A24")
def tables_of_paths(folder: Path) -> Iterator[Try]:
    named_after(folder, "a/{}.png", "b/{}-x.png")
    lines = [f"a/k{number}.png,b/k{number}-x.png,P{number // 2}" for number in range(8)]
    (folder / "cases.csv").write_text("\n".join(["image,mask,patient", *lines]))
    yield Try(folder / "cases.csv", "works", check=reads("k5", picture(5), reference(5) > 0))
    yield Try(folder, "works", check=reads("k5", picture(5), reference(5) > 0))
    (folder / "bad.csv").write_text(
        "\n".join(["image,mask", "a/k0.png,b/k0-x.png", "a/zz.png,b/k1-x.png", "a/k2.png,"])
    )
    yield Try(folder / "bad.csv", "error", "layout", ("line 3 (a/zz.png)", "does not exist"))
    yield Try(folder / "bad.csv", "error", "layout", ("line 4", "names no mask"))
    far = folder / "far/cases.csv"
    far.parent.mkdir()
    far.write_text("\n".join(["image;mask", *(f"../a/k{n}.png;{folder}/b/k{n}-x.png" for n in range(8))]))
    yield Try(far, "error", "link", ("out of the folder", "data.follow_links=true"))
    yield Try(far, "works", arguments=("--set", "data.follow_links=true"))


@row("A25")
def what_fits_nothing_is_described(folder: Path) -> Iterator[Try]:
    """What was seen by folder, formats that are not read too, and the command that comes closest."""
    named_after(folder / "pair", "photos of cases/{}.png", "drawn/{}.png")
    told = ("photos of cases: 8 .png files", "drawn: 8 .png files", "data.images=photos of cases", "8 of 8 names pair")
    yield Try(folder / "pair", "error", "layout", told)
    yield Try(
        folder / "pair", "works",
        arguments=("--set", "data.images=photos of cases", "--set", "data.masks=drawn"),
    )  # fmt: skip
    strange = folder / "strange"
    named_after(strange, "images/{}.png", "masks/{}.png")
    for path in list((strange / "masks").iterdir()):
        path.rename(path.with_suffix(".xyz"))
    yield Try(strange, "error", "layout", ("images: 8 .png files", "masks: 8 .xyz files (not read)"))
    save(strange / "masks/k0.png", reference(0))
    yield Try(strange, "error", "layout", ("7 of 8 images have no mask", "8 .xyz files, which cannot be read"))


@row("A26")
def a_folder_a_patient(folder: Path) -> Iterator[Try]:
    for number in range(6):
        named_after(folder / f"inner/P{number}", "imgs/{}.png", "ground_truth/{}.png", 2, 2 * number)
        named_after(folder / f"plain/patient {number}", "image.png", "mask.png", 1, number)
        named_after(folder / f"suffix/{number:03d}", "{}.png", "{}_seg.png", 2, 2 * number)
    yield Try(folder / "inner", "warning", "patient-folders", ("6 folders", "patients"))
    yield Try(folder / "inner", "works", check=reads("P3/k1", picture(7), reference(7) > 0))
    yield Try(folder / "plain", "works", check=reads("patient 2/image", picture(2), reference(2) > 0))
    yield Try(folder / "suffix", "works", check=reads("002/k1", picture(5), reference(5) > 0))
