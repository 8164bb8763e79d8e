"""The page's own reader of PNG beside Pillow's: the same numbers, for every kind of file, and refusals in words."""

from __future__ import annotations

import json
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.javascript import assert_read_alike, decoding, in_node
from pocketseg.data.readers import read_image
from pocketseg.flows.web import SOURCES

RANDOM = np.random.default_rng(2)
DECODE = decoding("png.js", "decodePng")


def saved(file: Path, pixels: np.ndarray, mode: str | None = None, **options) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(file, **options)
    return file


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def written(width: int, height: int, bits: int, kind: int, lines: bytes, interlaced: int = 0, *more: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    parts = [chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def interlaced(pixels: np.ndarray) -> bytes:
    """A file in seven passes (Adam7)."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    lines = b"".join(
        b"\0" + row.tobytes()
        for left, top, across, down in passes
        for row in pixels[top::down, left::across]
        if row.size
    )
    return written(pixels.shape[1], pixels.shape[0], 8, 2, lines, 1)


def pictures(folder: Path) -> list[Path]:
    gray = RANDOM.integers(0, 256, (13, 21), np.uint8)
    color = RANDOM.integers(0, 256, (13, 21, 4), np.uint8)
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    files = [
        saved(folder / "gray.png", gray),
        saved(folder / "smooth.png", smooth, optimize=True),
        saved(folder / "smooth-color.png", np.stack([smooth, smooth[::-1], smooth + 9], -1)),
        saved(folder / "sixteen.png", RANDOM.integers(0, 65536, (13, 21), np.uint16)),
        saved(folder / "rgb.png", color[:, :, :3]),
        saved(folder / "rgba.png", color),
        saved(folder / "la.png", color, "LA"),
        saved(folder / "palette.png", color[:, :, :3], "P"),
        saved(folder / "gray-palette.png", gray, "P"),
    ]
    for bits in (2, 4):
        packed = b"".join(b"\0" + RANDOM.integers(0, 256, -(-21 * bits // 8), np.uint8).tobytes() for _ in range(13))
        files.append(folder / f"gray{bits}.png")
        files[-1].write_bytes(written(21, 13, bits, 0, packed))
    files.append(folder / "interlaced.png")
    files[-1].write_bytes(interlaced(color[:, :, :3]))
    for side in (1, 3):
        files.append(saved(folder / f"narrow{side}.png", gray[:, :side].copy()))
    return files


def test_pixels_are_those_of_pillow(tmp_path):
    assert_read_alike(DECODE, pictures(tmp_path))


def test_black_and_white_are_the_ends(tmp_path):
    file = saved(tmp_path / "one.png", RANDOM.random((13, 21)) < 0.5)
    found = json.loads(in_node(DECODE, file))[str(file)]
    assert np.array_equal(np.reshape(found["data"], (13, 21)), read_image(file) * 255)


@pytest.mark.row("C02", "C06", "C18", "C25")
def test_bad_files_are_refused_in_words(tmp_path):
    whole = BytesIO()
    Image.fromarray(RANDOM.integers(0, 256, (50, 60), np.uint8)).save(whole, "PNG")
    content = whole.getvalue()
    bad = {
        "cut.png": (content[: len(content) // 2], "damaged or cut off"),
        "altered.png": (content[:60] + bytes([content[60] ^ 4]) + content[61:], "damaged"),
        "short.png": (written(60, 50, 8, 0, b"\0" * 100), "damaged"),
        "huge.png": (written(60_000, 60_000, 8, 0, b"\0" * 100), "limit"),
        "bomb.png": (written(11_000, 11_000, 8, 0, b"\0" * 100), "damaged"),
        "color16.png": (written(2, 1, 16, 2, b"\0" * 13), "16-bit color"),
        "filter.png": (written(2, 1, 8, 0, b"\x09\1\1"), "damaged"),
        "frames.png": (written(2, 1, 8, 0, b"\0\1\1", 0, chunk(b"acTL", b"\0\0\0\2\0\0\0\0")), "frames"),
        "no-pixels.png": (content[:33], "damaged"),
        "kind.png": (written(2, 1, 8, 5, b"\0\1\1"), "damaged"),
        "bits.png": (written(2, 1, 3, 0, b"\0\1\1"), "damaged"),
    }
    for name, (bytes_, _) in bad.items():
        (tmp_path / name).write_bytes(bytes_)
    found = json.loads(in_node(DECODE, *(tmp_path / name for name in bad)))
    told = {name: found[str(tmp_path / name)] for name in bad}
    assert all(isinstance(told[name], str) and words in told[name] for name, (_, words) in bad.items()), told


def test_what_is_written_is_read_by_pillow(tmp_path):
    mask = RANDOM.integers(0, 4, (17, 29), np.uint8)
    (tmp_path / "raw").write_bytes(mask.tobytes())
    script = f'const {{ encodePng }} = await import("{(SOURCES / "png.js").as_uri()}");' + (
        "await writeFile(given[1], await encodePng(new Uint8Array(await readFile(given[0])), 29, 17));"
    )
    in_node(script, tmp_path / "raw", tmp_path / "mask.png")
    assert np.array_equal(read_image(tmp_path / "mask.png"), mask)
