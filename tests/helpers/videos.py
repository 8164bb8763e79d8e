"""Videos for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pocketseg.data.video import writing


def needed() -> None:
    """Skip a test, or a module, where the extra `video` is not installed."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        pytest.skip(f"missing tool: {error.name} (scripts/install installs it)", allow_module_level=True)


def spots(count: int, shape: tuple[int, int] = (48, 64), width: int = 12) -> list[Any]:
    """Frames uint8 (h, w): a bright square that goes to the right, two pixels a frame."""
    frames = [np.full(shape, 30, np.uint8) for _ in range(count)]
    for number, frame in enumerate(frames):
        left = 4 + 2 * (number % 16)
        frame[12 : 12 + width, left : left + width] = 220
    return frames


def write_video(path: Path, frames: Sequence[Any], rate: float = 25.0, times: Sequence[float] = ()) -> Path:
    """A video of frames (h, w) or (h, w, 3), at even times unless others are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing(path, rate) as add:
        for number, frame in enumerate(frames):
            pixels = frame if frame.ndim == 3 else np.repeat(frame[..., None], 3, axis=2)
            add(pixels, times[number] if times else number / rate)
    return path


def turned(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Make an MP4 file say that it is to be shown turned: a, b, c, d of its track's matrix."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4
    at += 4 + 20 + 8 + 8  # version 0: flags, times and numbers; reserved; layer, group, volume
    a, b, c, d = (each.to_bytes(4, "big", signed=True) for each in (each << 16 for each in matrix))
    content[at : at + 36] = a + b + bytes(4) + c + d + bytes(12) + (1 << 30).to_bytes(4, "big")
    path.write_bytes(content)
    return path
