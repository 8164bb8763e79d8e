"""The page's own reader of TIFF beside Pillow's: the same numbers, and what it does not read by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from helpers.javascript import assert_read_alike, decoding, in_node

RANDOM = np.random.default_rng(6)
DECODE = decoding("tiff.js", "decodeTiff")
SMOOTH = (np.add.outer(np.arange(150) ** 2, 3 * np.arange(170)) // 7).astype(np.uint16)
GRAY, COLOR = (
    (SMOOTH // 16).astype(np.uint8),
    np.stack([SMOOTH % 200, SMOOTH // 9 % 256, SMOOTH // 50], -1).astype(np.uint8),
)
NOISE = RANDOM.integers(0, 65536, (41, 37), np.uint16)


def pictures(folder: Path) -> list[Path]:
    made = []
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        for name, pixels in (("gray", GRAY), ("sixteen", SMOOTH), ("noise", NOISE), ("color", COLOR)):
            made.append(folder / f"{compression}-{name}.tif")
            Image.fromarray(pixels).save(made[-1], compression=compression)
            if compression in ("tiff_lzw", "tiff_adobe_deflate"):
                made.append(folder / f"{compression}-{name}-differences.tif")
                Image.fromarray(pixels).save(made[-1], compression=compression, tiffinfo={317: 2})
    made.append(folder / "floats.tif")
    Image.fromarray(RANDOM.normal(size=(31, 23)).astype(np.float32)).save(made[-1])
    for name, pixels, options in (
        ("tiles", SMOOTH, {"tile": (32, 48)}),
        ("big-endian", SMOOTH, {"byteorder": ">"}),
        ("big-endian-tiles", SMOOTH, {"byteorder": ">", "tile": (64, 16), "compression": "zlib", "predictor": 2}),
        ("strips", COLOR, {"photometric": "rgb", "rowsperstrip": 7}),
    ):
        made.append(folder / f"{name}.tif")
        tifffile.imwrite(made[-1], pixels, **options)
    return made


def test_numbers_are_those_of_pillow(tmp_path):
    assert_read_alike(DECODE, pictures(tmp_path))


@pytest.mark.row("C02", "C19", "C21")
def test_what_is_not_read_is_named(tmp_path):
    def written(name: str, pixels: np.ndarray, **options) -> Path:
        tifffile.imwrite(tmp_path / name, pixels, **options)
        return tmp_path / name

    whole = written("whole.tif", SMOOTH).read_bytes()
    Image.fromarray(SMOOTH).save(tmp_path / "lzw.tif", compression="tiff_lzw")
    lzw = (tmp_path / "lzw.tif").read_bytes()
    for name, content in (
        ("cut.tif", whole[: len(whole) // 2]),
        ("start.tif", whole[:40]),
        ("lzw-cut.tif", lzw[: len(lzw) // 2]),
    ):
        (tmp_path / name).write_bytes(content)
    for seed in range(20):
        altered = bytearray(lzw)
        altered[int(RANDOM.integers(8, 900))] ^= 1 << seed % 8
        (tmp_path / f"altered-{seed}.tif").write_bytes(bytes(altered))
    bad = {
        "cut.tif": "damaged",
        "start.tif": "damaged",
        "lzw-cut.tif": "damaged",
        written("pages.tif", np.stack([GRAY, GRAY, GRAY, GRAY]), photometric="minisblack").name: "pages",
        written("white.tif", GRAY, photometric="miniswhite").name: "photometric 0",
        written("signed.tif", SMOOTH.astype(np.int16)).name: "sample format 2",
        written("planes.tif", np.moveaxis(COLOR, -1, 0), photometric="rgb", planarconfig="separate").name: "planes",
        written("color16.tif", np.stack([SMOOTH] * 3, -1), photometric="rgb").name: "16 bits",
    }
    altered = [tmp_path / f"altered-{seed}.tif" for seed in range(20)]
    found = json.loads(in_node(DECODE, *(tmp_path / name for name in bad), *altered))
    said = {name: found[str(tmp_path / name)] for name in bad}
    assert all(isinstance(said[name], str) and words in said[name] for name, words in bad.items()), said
