"""Rows of the corpus of bad and odd inputs: what each is made of, and what must come of it.

A row is a function that makes files in a folder and yields tries: a data set, and what the doctor must say about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from helpers.pictures import good, picture, reference, save

Outcome = Literal["works", "warning", "error", "works or error"]


@dataclass(frozen=True)
class Try:
    """One data set and its outcome.

    Attributes:
        data: what is given to the doctor.
        outcome: works (no error), warning (no error, and a warning or note of this code), error (of this code).
        code: of the finding; empty where any will do, or where the error is reported before the doctor begins.
        told: texts that must stand in that finding.
        arguments: further ones of the command line.
        check: looks at what is read; raises where that is wrong.
        nobody: run without the rights of the superuser.
    """

    data: Path
    outcome: Outcome
    code: str = ""
    told: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    check: Callable[[Path], None] | None = None
    nobody: bool = False


Row = Callable[[Path], Iterator[Try]]
ROWS: dict[str, Row] = {}


def row(name: str) -> Callable[[Row], Row]:
    def keep(make: Row) -> Row:
        assert name not in ROWS
        ROWS[name] = make
        return make

    return keep


def setting(*values: str) -> tuple[str, ...]:
    return tuple(part for value in values for part in ("--set", value))


def with_image(folder: Path, name: str, content: bytes | Any, shape: tuple[int, int] = (32, 40)) -> Path:
    """A good set, and one image more."""
    good(folder)
    path = folder / "images" / name
    path.write_bytes(content) if isinstance(content, bytes) else save(path, content)
    save(folder / f"masks/{Path(name).stem}.png", reference(99, shape))
    return folder


def with_mask(folder: Path, content: bytes | Any, name: str = "odd.png", **options: Any) -> Path:
    """A good set, and one mask more."""
    good(folder)
    save(folder / "images/odd.png", picture(99))
    path = folder / "masks" / name
    path.write_bytes(content) if isinstance(content, bytes) else save(path, content, **options)
    return folder


def reads(name: str, image: Any = None, mask: Any = None, **options: Any) -> Callable[[Path], None]:
    """Whether a case is decoded to just this image and this mask of class indices."""

    def check(data: Path) -> None:
        from pocketseg.data import Cases

        cases = Cases.open(data, **options)
        case = cases.named([name])[0]
        if image is not None:
            np.testing.assert_array_equal(cases.image(case), image)
        if mask is not None:
            np.testing.assert_array_equal(cases.mask(case), mask)

    return check
