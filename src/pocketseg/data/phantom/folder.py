"""A folder of synthetic cases, with masks and notes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from pocketseg.data.phantom import cine, ct, microscopy, ultrasound
from pocketseg.data.phantom.case import Kind, PhantomCase
from pocketseg.data.video import require_video, writing
from pocketseg.data.volumes.nifti import write_new_nifti
from pocketseg.data.volumes.stack import writing_stack
from pocketseg.errors import DataError, Problem, near
from pocketseg.files import whole_folder, write_atomically
from pocketseg.packages import require
from pocketseg.png import write_png
from pocketseg.tables import csv_text

MIN_SIZE = 32


def write_phantom(
    out: Path,
    *,
    kind: str = "ultrasound",
    cases: int | None = None,
    size: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `cases` images with masks, groups and a README below `out`, which must be new or empty.

    Args:
        out: the folder to fill.
        kind: ultrasound, microscopy, ct or cine.
        cases: number of images, volumes or clips; the first ones do not depend on it. None: the kind's own.
        size: height and width in pixels; of microscopy the shortest side. None: the kind's own.
        seed: another seed, other patients.
        progress: called as `progress(done, cases)` after each case.

    Raises:
        DataError: `out` is in use, the kind is unknown, or a number makes no sense; all problems at once.
        EnvironmentProblem: it cannot be written, and nothing is left of it; or what CT or clips need is not installed.
    """
    made = KINDS.get(kind, KINDS["ultrasound"])
    cases = made.cases if cases is None else cases
    size = made.size if size is None else size
    refuse_bad_input(out, kind, cases=cases, size=size, seed=seed)
    if made.write is write_volume:
        require("medical", "nibabel")
    if made.write is write_clip:
        require_video()
    with whole_folder(out) as part:
        rows = []
        for done, case in enumerate(islice(made.draw(seed, size), cases), start=1):
            made.write(part, case)
            rows.append((case.name, case.group))
            if progress is not None:
                progress(done, cases)
        write_notes(part, made, rows, size, seed)
    return out


def refuse_bad_input(out: Path, kind: str, *, cases: int, size: int, seed: int) -> None:
    problems = []
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        problems.append(Problem(str(out), "exists and is not an empty folder", "name a new folder or empty this one"))
    if kind not in KINDS:
        problems.append(Problem(f"kind {kind!r}", "is not a kind of phantom", near(kind, KINDS)))
    made = KINDS.get(kind, KINDS["ultrasound"])
    if cases < 1:
        problems.append(Problem("cases", f"{cases} {made.pictures} cannot be made", "ask for 1 or more"))
    if size < MIN_SIZE:
        problems.append(Problem("size", f"{size} pixels are too few to show {made.shows}", f"use {MIN_SIZE} or more"))
    if seed < 0:
        problems.append(Problem("seed", f"{seed} is negative", "use 0 or more"))
    if problems:
        raise DataError.of(problems)


def write_picture(out: Path, case: PhantomCase) -> None:
    write_png(out / "images" / f"{case.name}.png", case.image)
    write_png(out / "masks" / f"{case.name}.png", case.mask * np.uint8(255))


def write_volume(out: Path, case: PhantomCase) -> None:
    for folder, voxels in (("images", case.image), ("masks", case.mask)):
        write_new_nifti(out / folder / f"{case.name}.nii.gz", voxels, case.spacing_mm or (1.0, 1.0, 1.0))


def write_clip(out: Path, case: PhantomCase) -> None:
    image, mask = out / "images" / f"{case.name}.mp4", out / "masks" / f"{case.name}.tif"
    with writing(image, cine.RATE) as add, writing_stack(mask) as add_mask:
        for number in range(case.image.shape[2]):
            add(np.repeat(case.image[..., number, None].astype(np.uint8), 3, axis=2), number / cine.RATE)
            add_mask(case.mask[..., number] * np.uint8(255))


def write_notes(out: Path, made: Kind, rows: list[tuple[str, str]], size: int, seed: int) -> None:
    if made.group is not None:
        write_atomically(out / f"{made.group}s.csv", csv_text([("case", made.group), *rows]))
    groups = len({group for _, group in rows})
    write_atomically(out / "README.md", made.readme(cases=len(rows), groups=groups, seed=seed, size=size))


KINDS = {
    "ultrasound": Kind(
        cases=200,
        size=128,
        pictures="pictures",
        shows="a lesion",
        draw=ultrasound.ultrasound,
        write=write_picture,
        group="patient",
        readme=ultrasound.readme,
    ),
    "microscopy": Kind(
        cases=60,
        size=384,
        pictures="pictures",
        shows="a nucleus",
        draw=microscopy.microscopy,
        write=write_picture,
        group="slide",
        readme=microscopy.README.format,
    ),
    "ct": Kind(
        cases=24,
        size=128,
        pictures="volumes",
        shows="a lesion",
        draw=ct.ct,
        write=write_volume,
        group=None,
        readme=ct.README.format,
    ),
    "cine": Kind(
        cases=1,
        size=256,
        pictures="clips",
        shows="a lesion",
        draw=cine.cine,
        write=write_clip,
        group=None,
        readme=cine.README.format,
    ),
}
