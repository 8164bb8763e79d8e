"""Small files and folders for the tests of this room."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pocketseg.data import Case
from pocketseg.data.case import FileSource


def noise(height: int = 6, width: int = 7, channels: int | None = None, *, dtype: Any = np.uint8, seed: int = 0) -> Any:
    """Random pixels over the whole range of their type."""
    shape = (height, width) if channels is None else (height, width, channels)
    rng = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        return rng.normal(0, 1000, shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def blob(height: int = 6, width: int = 7, value: int = 255) -> Any:
    """A mask with one rectangle of 2x3 pixels, off the center."""
    mask = np.zeros((height, width), np.uint8)
    mask[1:3, 2:5] = value
    return mask


def write_image(path: Path, pixels: Any, **options: Any) -> Path:
    """Write pixels in the format of the suffix; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
    picture.save(path, **options)
    return path


def write_pair(image: Path, *masks: Path, seed: int = 0) -> None:
    write_image(image, noise(seed=seed))
    for mask in masks:
        write_image(mask, blob())


def make_folders_dataset(root: Path, stems: list[str], images: str = "images", masks: str = "masks") -> Path:
    for number, stem in enumerate(stems):
        write_pair(root / images / f"{stem}.png", root / masks / f"{stem}.png", seed=number)
    return root


def make_suffix_dataset(root: Path, stems: list[str]) -> Path:
    for number, stem in enumerate(stems):
        write_pair(root / f"{stem}.png", root / f"{stem}_mask.png", seed=number)
    return root


def png(width: int, height: int, depth: int, color_type: int, rows: bytes, *, crc_error: bool = False) -> bytes:
    """A PNG made by hand, for the kinds that Pillow does not write; `rows` has a filter byte before each row."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(kind + content) ^ (0xFF if crc_error and kind == b"IHDR" else 0)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(pixels: Any, *, photometric: int = 1) -> bytes:
    """An uncompressed little-endian TIFF made by hand, of any integer type and number of channels."""
    values = np.ascontiguousarray(pixels)
    height, width = values.shape[:2]
    channels = 1 if values.ndim == 2 else values.shape[2]
    bits = [values.dtype.itemsize * 8] * channels
    tags = [
        (256, 4, [width]),
        (257, 4, [height]),
        (258, 3, bits),
        (259, 3, [1]),
        (262, 3, [photometric]),
        (273, 4, [0]),  # the offset of the pixels, filled in below
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [values.nbytes]),
    ]
    extra_at = 8 + 2 + 12 * len(tags) + 4
    extra = b"".join(struct.pack("<H", bit) for bit in bits) if channels > 2 else b""
    entries = b""
    for tag, kind, numbers in tags:
        if tag == 273:
            numbers = [extra_at + len(extra)]
        packed = b"".join(struct.pack("<H" if kind == 3 else "<I", number) for number in numbers)
        if len(packed) > 4:
            packed = struct.pack("<I", extra_at)
        entries += struct.pack("<HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4 + extra + values.tobytes()


def some_cases(groups: list[str], labels: list[str] | None = None) -> list[Case]:
    """Cases without files, one for each group given."""
    names = [f"case-{number:03d}" for number in range(len(groups))]
    return [
        Case(name, FileSource(Path(f"{name}.png")), (), label=labels[number] if labels else None, group=groups[number])
        for number, name in enumerate(names)
    ]
