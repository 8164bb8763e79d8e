"""`phantom`: a synthetic data set to try everything on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pocketseg.data.phantom import write_phantom


def phantom(
    out: str | Path,
    *,
    kind: str = "ultrasound",
    cases: int | None = None,
    size: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write synthetic images with masks: ultrasound, microscopy of cell nuclei, CT volumes, or clips of ultrasound.

    Args:
        out: new or empty folder.
        kind: `ultrasound`, `microscopy`, `ct` or `cine`; CT needs the extra `medical`, clips (cine) need `video`.
        cases: number of images; 200, 60, 24 volumes, or 1 clip unless given.
        size: height and width in pixels, of microscopy the shortest side; 128, 384, 128 or 256 unless given.
        seed: of everything in them.
        progress: called with (done, of).
    """
    return write_phantom(Path(out), kind=kind, cases=cases, size=size, seed=seed, progress=progress)
