"""C: how images are stored."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, PngImagePlugin

from corpus import Try, reads, row, setting, with_image, with_mask
from helpers.pictures import good, picture, reference, save

GRAY = picture(99)
COLOR = picture(99, (32, 40, 3))
TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.T,
    6: lambda pixels: pixels.T[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].T,
    8: lambda pixels: pixels.T[::-1],
}


def encoded(pixels: Any, form: str, **options: Any) -> bytes:
    content = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(content, format=form, **options)
    return content.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def zeros(size: int) -> bytes:
    """Deflated zeros, made piece by piece."""
    packer = zlib.compressobj(9)
    pieces = [packer.compress(bytes(2**20)) for _ in range(size // 2**20)]
    return b"".join([*pieces, packer.compress(bytes(size % 2**20)), packer.flush()])


def tiff(pixels: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    tifffile.imwrite(content, pixels, **options)
    return content.getvalue()


@row("C01")
def no_bytes(folder: Path) -> Iterator[Try]:
    yield Try(with_image(folder, "odd.png", b""), "error", "image", ("odd.png", "0 bytes"))


@row("C02")
def cut_off(folder: Path) -> Iterator[Try]:
    for form, name in (("PNG", "odd.png"), ("JPEG", "odd.jpg"), ("TIFF", "odd.tif")):
        whole = encoded(GRAY, form)
        data = with_image(folder / form, name, whole)
        for step in range(1, 11):
            # What ends a JPEG or PNG file holds no pixel.
            (data / "images" / name).write_bytes(whole[: (len(whole) - 20) * step // 11])
            yield Try(data, "error", "image", (name,))


@row("C03")
def wrong_suffix(folder: Path) -> Iterator[Try]:
    data = with_image(folder, "odd.jpg", encoded(GRAY, "PNG"))
    yield Try(data, "warning", "wrong-suffix", ("odd.jpg",), check=reads("odd", GRAY))


@row("C04")
def web_page(folder: Path) -> Iterator[Try]:
    yield Try(with_image(folder, "odd.png", b"<html>404</html>"), "error", "image", ("odd.png", "<html"))


@row("C05")
def pointer(folder: Path) -> Iterator[Try]:
    content = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
    yield Try(with_image(folder, "odd.png", content), "error", "image", ("odd.png", "git lfs pull"))


@row("C06")
def wrong_checksum(folder: Path) -> Iterator[Try]:
    content = bytearray(encoded(GRAY, "PNG"))
    content[content.index(b"IDAT") - 4 + 8 + 20] ^= 0xFF
    yield Try(with_image(folder, "odd.png", bytes(content)), "error", "image", ("odd.png",))


@row("C07")
def sixteen_bits(folder: Path) -> Iterator[Try]:
    deep = GRAY.astype(np.uint16) * 257
    for number in range(8):
        save(folder / f"images/c{number}.png", picture(number).astype(np.uint16) * 257)
        save(folder / f"masks/c{number}.png", reference(number))
    save(folder / "images/odd.png", deep)
    save(folder / "masks/odd.png", reference(99))
    yield Try(folder, "works", check=reads("odd", deep))


@row("C08")
def twelve_bits_in_sixteen(folder: Path) -> Iterator[Try]:
    for number in range(8):
        save(folder / f"images/c{number}.png", picture(number).astype(np.uint16) * 16 + 15)
        save(folder / f"masks/c{number}.png", reference(number))
    yield Try(folder, "warning", "few-bits", ("65535", "data.range=[0,4095]"))
    yield Try(folder, "works", arguments=setting("data.range=[0,4095]"))


@row("C09")
def eight_and_sixteen_bits(folder: Path) -> Iterator[Try]:
    data = with_image(folder, "odd.png", GRAY.astype(np.uint16) * 257)
    yield Try(data, "warning", "mixed-depth", ("8 uint8", "1 uint16", "odd.png", "data.range"))


@row("C10")
def negative_floats(folder: Path) -> Iterator[Try]:
    values = GRAY.astype(np.float32) - 100
    data = with_image(folder, "odd.tif", values)
    yield Try(data, "warning", "float-range", ("odd.tif", "data.range"), check=reads("odd", values))


@row("C11")
def not_finite(folder: Path) -> Iterator[Try]:
    for value in (np.nan, np.inf):
        values = GRAY.astype(np.float32)
        values[3, 4:6] = value
        data = with_image(folder / str(value), "odd.tif", values)
        yield Try(data, "error", "image", ("odd.tif", "2 pixels are NaN or infinite"))


@row("C12")
def printing_colors(folder: Path) -> Iterator[Try]:
    for name, picture_ in (("odd.jpg", Image.fromarray(COLOR).convert("CMYK")),):
        data = with_image(folder, name, encoded(picture_, "JPEG"))
        yield Try(data, "warning", "converted-color", ("odd.jpg",))


@row("C13")
def color_profile(folder: Path) -> Iterator[Try]:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = with_image(folder, "odd.png", encoded(GRAY, "PNG", icc_profile=profile))
    yield Try(data, "works", check=reads("odd", GRAY))
    content = encoded(GRAY, "PNG")
    data = with_image(
        folder / "gamma", "odd.png", content[:33] + chunk(b"gAMA", struct.pack(">I", 100_000)) + content[33:]
    )
    yield Try(data, "works", check=reads("odd", GRAY))


@row("C14")
def turned_by_the_camera(folder: Path) -> Iterator[Try]:
    for number, turn in TURNS.items():
        exif = Image.Exif()
        exif[274] = number
        shown = turn(GRAY)
        data = with_image(folder / str(number), "odd.png", encoded(GRAY, "PNG", exif=exif), shown.shape)
        yield Try(data, "works", check=reads("odd", shown))


@row("C15")
def mask_of_a_turned_image(folder: Path) -> Iterator[Try]:
    exif = Image.Exif()
    exif[274] = 6
    data = with_image(folder, "odd.png", encoded(GRAY, "PNG", exif=exif))
    yield Try(data, "error", "transposed", ("odd.png", "transposed?", "--fix"))
    # By 180° the mask fits either way: it is told which.
    exif[274] = 3
    data = with_image(folder / "half", "odd.png", encoded(GRAY, "PNG", exif=exif))
    yield Try(data, "warning", "turned", ("odd.png", "either way"), check=reads("odd", GRAY[::-1, ::-1]))
    # What the mask says of itself holds for it.
    mask = reference(99)
    save(data / "masks/odd.png", mask, exif=exif)
    yield Try(data, "works", check=reads("odd", GRAY[::-1, ::-1], mask[::-1, ::-1] > 0))


@row("C16")
def gray_and_color(folder: Path) -> Iterator[Try]:
    data = with_image(folder, "odd.png", COLOR)
    yield Try(data, "warning", "mixed-channels", ("8 with 1", "1 with 3", "odd.png", "data.channels"))


@row("C17")
def transparent(folder: Path) -> Iterator[Try]:
    layers = np.dstack([COLOR, picture(5)])
    data = with_image(folder, "odd.png", layers)
    yield Try(data, "warning", "alpha", ("odd.png",), check=reads("odd", COLOR))


@row("C18")
def animations(folder: Path) -> Iterator[Try]:
    frames = [Image.fromarray(picture(number)) for number in (1, 2)]
    for form in ("GIF", "PNG", "WEBP"):
        content = encoded(frames[0], form, save_all=True, append_images=frames[1:])
        yield Try(with_image(folder / form, "odd.png", content), "error", "image", ("odd.png",))


@row("C19")
def several_pages(folder: Path) -> Iterator[Try]:
    frames = [Image.fromarray(picture(number)) for number in (1, 2)]
    content = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    yield Try(with_image(folder, "odd.tif", content), "error", "", ("odd",))


@row("C20")
def tiles_and_big_tiff(folder: Path) -> Iterator[Try]:
    data = with_image(folder / "tiles", "odd.tif", tiff(GRAY, tile=(16, 16)))
    yield Try(data, "works", check=reads("odd", GRAY))
    yield Try(with_image(folder / "big", "odd.tif", tiff(GRAY, bigtiff=True)), "works", check=reads("odd", GRAY))
    content = io.BytesIO()
    with tifffile.TiffWriter(content) as file:
        file.write(GRAY, subifds=1)
        file.write(GRAY[::2, ::2], subfiletype=1)
    yield Try(with_image(folder / "pyramid", "odd.tif", content.getvalue()), "works", check=reads("odd", GRAY))


@row("C21")
def planes_and_compressions(folder: Path) -> Iterator[Try]:
    planes = with_image(
        folder / "planes", "odd.tif", tiff(COLOR.transpose(2, 0, 1), planarconfig="separate", photometric="rgb")
    )
    yield Try(planes, "works or error", told=("odd.tif",))
    for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        data = with_image(folder / kind, "odd.tif", encoded(GRAY, "TIFF", compression=kind))
        yield Try(data, "works", check=reads("odd", GRAY))
    for kind in ("jpeg", "zstd", "webp"):
        image = Image.fromarray(COLOR)
        try:
            content = encoded(image, "TIFF", compression=kind)
        except OSError:
            continue
        yield Try(with_image(folder / kind, "odd.tif", content), "works or error", told=("odd.tif",))


@row("C22")
def progressive(folder: Path) -> Iterator[Try]:
    content = encoded(GRAY, "JPEG", progressive=True, quality=95)
    expected = np.asarray(Image.open(io.BytesIO(encoded(GRAY, "JPEG", quality=95))))
    yield Try(with_image(folder, "odd.jpg", content), "works", check=reads("odd", expected))


@row("C23")
def tiny(folder: Path) -> Iterator[Try]:
    for shape in ((1, 1), (1, 9), (3, 5), (15, 17)):
        data = with_image(folder / "{}x{}".format(*shape), "odd.png", picture(99, shape), shape)
        yield Try(data, "works", check=reads("odd", picture(99, shape)))


@row("C24")
def strip(folder: Path) -> Iterator[Try]:
    pixels = picture(99, (1, 20_000))
    yield Try(with_image(folder, "odd.png", pixels, (1, 20_000)), "works", check=reads("odd", pixels))


@row("C25")
def too_many_pixels(folder: Path) -> Iterator[Try]:
    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zeros(20_000 * 20_001))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + pixels + chunk(b"IEND", b"")
    yield Try(with_image(folder, "odd.png", content), "error", "image", ("odd.png", "144,000,000"))


@row("C26")
def text_that_unpacks_to_much(folder: Path) -> Iterator[Try]:
    content = encoded(GRAY, "PNG")
    for kind, head in ((b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0")):
        text = chunk(kind, head + zeros(600 * 2**20))
        yield Try(with_image(folder / kind.decode(), "odd.png", content[:33] + text + content[33:]), "works or error")


@row("C27")
def one_value(folder: Path) -> Iterator[Try]:
    data = with_image(folder, "odd.png", np.full((32, 40), 7, np.uint8))
    yield Try(data, "warning", "constant", ("odd.png", "data.drop_empty=train"))


@row("C28")
def other_formats(folder: Path) -> Iterator[Try]:
    heads = {
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "svg": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        "pdf": b"%PDF-1.4\n%%EOF",
        "fits": b"SIMPLE  =                    T".ljust(2880),
        "psd": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x09\0\0\0\x09\0\x08\0\3",
    }
    for name, content in heads.items():
        fix = "export it as PNG" if name in ("eps", "pdf", "psd") else "PNG, JPEG, TIFF, BMP, GIF, WebP or JPEG 2000"
        yield Try(with_image(folder / name, "odd.png", content), "error", "image", ("odd.png", fix))


@row("C29")
def archive_behind_the_image(folder: Path) -> Iterator[Try]:
    content = encoded(GRAY, "PNG") + b"PK\x05\x06" + bytes(18)
    yield Try(with_image(folder, "odd.png", content), "works", check=reads("odd", GRAY))


@row("C30")
def twice(folder: Path) -> Iterator[Try]:
    data = good(folder)
    save(data / "images/again.png", PngImagePlugin.Image.fromarray(picture(3)), compress_level=1)
    save(data / "masks/again.png", reference(3))
    together = setting("data.group_regex=^(?:again|c3)|.*")
    merged = folder / "groups.csv"
    merged.write_text("case,group\nagain,x\nc3,x\n" + "".join(f"c{n},c{n}\n" for n in (0, 1, 2, 4, 5, 6, 7)))
    together = setting("data.group_csv=groups.csv", "data.group_column=group")
    yield Try(data, "warning", "duplicate", ("again.png", "c3.png"), arguments=together)


@row("C31")
def webp_and_jpeg_2000(folder: Path) -> Iterator[Try]:
    deep = GRAY.astype(np.uint16) * 200
    gray_webp = np.stack([GRAY] * 3, -1)
    kinds: tuple[tuple[str, str, Any, Any, dict[str, Any]], ...] = (
        ("WEBP", "odd.webp", COLOR, COLOR, {"lossless": True}),
        ("WEBP", "odd.webp", GRAY, gray_webp, {"lossless": True}),
        ("JPEG2000", "odd.jp2", GRAY, GRAY, {}),
        ("JPEG2000", "odd.jp2", COLOR, COLOR, {}),
        ("JPEG2000", "odd.j2k", deep, deep, {}),
    )
    for number, (form, name, pixels, seen, options) in enumerate(kinds):
        whole = encoded(pixels, form, **options)
        data = with_image(folder / str(number), name, whole)
        yield Try(data, "works", check=reads("odd", seen))
        for step in range(1, 6):
            (data / "images" / name).write_bytes(whole[: (len(whole) - 2) * step // 6])
            yield Try(data, "error", "image", (name,))
    lossy = with_mask(folder / "lossy", encoded(np.stack([reference(99)] * 3, -1), "WEBP", quality=50), "odd.webp")
    yield Try(lossy, "error", "mask", ("odd.webp", "lossy WebP", "data.mask.threshold=128"))


@row("C32")
def makers_formats(folder: Path) -> Iterator[Try]:
    """Named, with the way out; beside good images a note, alone an error."""
    for name, told in (("x.svs", "QuPath"), ("x.czi", "OME-TIFF"), ("x.heic", "iPhone"), ("x.h5", "numpy.savez")):
        data = good(folder / name)
        (data / "images" / name).write_bytes(b"x")
        yield Try(data, "warning", "unread-format", (name, told))
        alone = folder / f"alone {name}"
        alone.mkdir()
        (alone / name).write_bytes(b"x")
        yield Try(alone, "error", "", (Path(name).suffix, told))


@row("C33")
def axes_of_pages(folder: Path) -> Iterator[Try]:
    """Two channels of three slices are three images of two channels, and with moments beside slices nothing at all."""
    stack = np.stack([picture(number) for number in range(6)]).reshape(3, 2, 32, 40).astype(np.uint16) * 250
    for number in range(5):
        save_tiff(folder / f"images/v{number}.tif", np.roll(stack, number, axis=2), ome=True, metadata={"axes": "ZCYX"})
        save_tiff(folder / f"masks/v{number}.tif", np.stack([reference(number)] * 3), photometric="minisblack")
    shown = np.moveaxis(np.roll(stack, 1, axis=2)[2], 0, -1)
    yield Try(folder, "works", check=reads("v1#002", shown, reference(1) // 255))
    moments = stack.reshape(3, 2, 32, 40)
    save_tiff(folder / "images/v0.tif", moments, ome=True, metadata={"axes": "TZYX"})
    yield Try(folder, "error", "volume", ("images/v0.tif", "2 slices at 3 moments"))


def save_tiff(path: Path, pixels: Any, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiff(pixels, **options))
