"""A folder of synthetic cases, with masks and notes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np

from pocketseg.data.phantom.case import phantom_case
from pocketseg.data.phantom.shapes import VIEW_MM, VIEWS, stream
from pocketseg.errors import DataError, Problem
from pocketseg.files import whole_folder, write_atomically
from pocketseg.png import write_png
from pocketseg.tables import csv_text

MIN_SIZE = 32
MAX_VIEWS = 4

README = """# Synthetic ultrasound

{cases} pictures of {patients} invented patients with lesion masks, made by `pocketseg phantom`
(seed {seed}, {size} x {size} pixels of {pixel_mm:.4g} mm). No person was imaged; not for medical use.

- `images/NAME.png`: 8-bit gray
- `masks/NAME.png`: 255 in the lesion, 0 elsewhere; all 0 where the patient has none
- `patients.csv`: `case,patient`; views of one patient belong on one side of a split
"""


def write_phantom(
    out: Path,
    *,
    cases: int = 200,
    size: int = 128,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `cases` pictures with masks, patients and a README below `out`, which must be new or empty.

    Args:
        out: the folder to fill.
        cases: number of pictures; the first ones do not depend on it.
        size: height and width in pixels.
        seed: another seed, other patients.
        progress: called as `progress(done, cases)` after each picture.

    Raises:
        DataError: `out` is in use, or a number makes no sense; all problems at once.
        EnvironmentProblem: it cannot be written; nothing is left of it.
    """
    refuse_bad_input(out, cases=cases, size=size, seed=seed)
    with whole_folder(out) as part:
        rows = []
        for done, (patient, view) in enumerate(islice(views(seed), cases), start=1):
            case = phantom_case(seed, patient, view, size)
            write_png(part / "images" / f"{case.name}.png", case.image)
            write_png(part / "masks" / f"{case.name}.png", case.mask * np.uint8(255))
            rows.append((case.name, case.patient))
            if progress is not None:
                progress(done, cases)
        write_notes(part, rows, size, seed)
    return out


def refuse_bad_input(out: Path, *, cases: int, size: int, seed: int) -> None:
    problems = []
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        problems.append(Problem(str(out), "exists and is not an empty folder", "name a new folder or empty this one"))
    if cases < 1:
        problems.append(Problem("cases", f"{cases} pictures cannot be made", "ask for 1 or more"))
    if size < MIN_SIZE:
        problems.append(Problem("size", f"{size} pixels are too few to show a lesion", f"use {MIN_SIZE} or more"))
    if seed < 0:
        problems.append(Problem("seed", f"{seed} is negative", "use 0 or more"))
    if problems:
        raise DataError.of(problems)


def views(seed: int) -> Iterator[tuple[int, int]]:
    """(patient, view) from the first patient on, without end."""
    for patient in count(1):
        last = int(stream(seed, VIEWS, patient).integers(1, MAX_VIEWS, endpoint=True))
        yield from ((patient, view) for view in range(1, last + 1))


def write_notes(out: Path, rows: list[tuple[str, str]], size: int, seed: int) -> None:
    write_atomically(out / "patients.csv", csv_text([("case", "patient"), *rows]))
    patients = len({patient for _, patient in rows})
    text = README.format(cases=len(rows), patients=patients, seed=seed, size=size, pixel_mm=VIEW_MM / size)
    write_atomically(out / "README.md", text)
