"""`phantom`: a synthetic data set to try everything on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pocketseg.data.phantom import write_phantom


def phantom(
    out: str | Path,
    *,
    cases: int = 200,
    size: int = 128,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write synthetic B-mode images with masks and patients.

    Args:
        out: new or empty folder.
        cases: number of images.
        size: height and width in pixels.
        seed: of everything in them.
        progress: called with (done, of).
    """
    return write_phantom(Path(out), cases=cases, size=size, seed=seed, progress=progress)
