"""Files of annotations, read within bounds: JSON, XML without a document type, tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from xml.parsers import expat

from pocketseg import memory
from pocketseg.data.readers import unreadable
from pocketseg.errors import DataError, PocketsegError
from pocketseg.files import open_regular, read_file
from pocketseg.tables import from_cell

MAX_BYTES = 128 * 2**20
# Numbers, texts, lists and objects; a point of a polygon is two. Each takes some thirty bytes.
MAX_VALUES = 20_000_000
MAX_DEPTH = 32
# Elements of an XML file, a few hundred bytes each.
MAX_ELEMENTS = 2_000_000
# What is looked at to tell what kind of file it is.
HEAD = 2**20
DAMAGED = "restore it from a copy, or export the annotations again"

Start = Callable[[str, dict[str, str]], None]


@contextmanager
def faults_of(path: Path, kind: str) -> Iterator[None]:
    """Whatever is wrong with the content of a file, with its name."""
    try:
        yield
    except PocketsegError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError, MemoryError) as error:
        fault = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        what = f"is not a readable file of annotations ({kind}: {fault})"
        raise memory.explained(error, DataError(str(path), what, DAMAGED)) from error


def head_of(path: Path) -> bytes:
    """The first part of a file, to tell its kind; of one that cannot be read nothing."""
    try:
        with open_regular(path) as file:
            return file.read(HEAD)
    except OSError:
        return b""


def holds(path: Path, *words: bytes) -> bool:
    """Whether a file of at most `MAX_BYTES` holds all of some words; a longer one, whether its first part does."""
    head = head_of(path)
    if len(head) < HEAD:
        return all(word in head for word in words)
    try:
        content = read_file(path, MAX_BYTES)
    except OSError:
        content = head
    return all(word in content for word in words)


def read_content(path: Path) -> bytes:
    """All bytes.

    Raises:
        DataError: the file is missing, too long, or cannot be read.
    """
    try:
        return read_file(path, MAX_BYTES)
    except (OSError, ValueError, MemoryError) as error:
        raise unreadable(path, error) from None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is none, is too large, or holds NaN or infinity.
    """
    content = read_content(path)
    if sum(content.count(sign) for sign in (b",", b"[", b"{")) > MAX_VALUES:
        what = f"holds more than {MAX_VALUES:,} values"
        raise DataError(str(path), what, "export the annotations in several files, or as masks")
    with faults_of(path, "JSON"):
        return json.loads(content.decode("utf-8-sig"), parse_constant=_no_number)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def read_xml(path: Path, start: Start) -> None:
    """Every element of an XML file in turn: its name and attributes.

    A document type is refused: entities, which can grow without bound or name other files, are declared in one.

    Raises:
        DataError: it is none, is too large, or too deep.
    """
    parse_xml(read_content(path), path, start)


def parse_xml(content: bytes, path: Path, start: Start) -> None:
    """As `read_xml`, of bytes that are in the memory; `path` is what errors call them."""
    depth = elements = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth, elements = depth + 1, elements + 1
        if depth > MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if elements > MAX_ELEMENTS:
            raise ValueError(f"it has more than {MAX_ELEMENTS:,} elements")
        start(name, attributes)

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: object) -> NoReturn:
        raise ValueError("it has a document type, which may hide anything")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    with faults_of(path, "XML"):
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            raise ValueError(str(error)) from None


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The first line of a CSV file, and the others by its names.

    Raises:
        DataError: it is none, or has lines of another length.
    """
    content = read_content(path)
    with faults_of(path, "CSV"):
        text = content.decode("utf-8-sig")
        if text.count(",") + text.count("\n") > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values")
        previous = csv.field_size_limit(MAX_BYTES)  # run lengths are long
        try:
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
        except csv.Error as error:
            raise ValueError(str(error)) from None
        finally:
            csv.field_size_limit(previous)
        if not rows:
            return [], []
        names = [name.strip() for name in rows[0]]
        for number, row in enumerate(rows[1:], start=2):
            if len(row) != len(names):
                raise ValueError(f"row {number} has {len(row)} cells, the first {len(names)}")
        return names, [dict(zip(names, map(from_cell, row), strict=True)) for row in rows[1:]]


def number_of(text: str) -> float:
    """A number that is finite.

    Raises:
        ValueError: it is none.
    """
    value = float(text)
    if not abs(value) < float("inf"):
        raise ValueError(f"{text} is not a number")
    return value


def whole_number(value: Any) -> int:
    """A whole number, given as one, as a float, or as text.

    Raises:
        ValueError, TypeError: it is none.
    """
    found = number_of(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int | float) or found != found // 1 or abs(found) > 2**31:
        raise ValueError(f"{str(value)[:40]} is not a whole number")
    return int(found)


def image_name(value: Any) -> str:
    """How a file calls an image.

    Raises:
        ValueError: it is no text, or empty.
    """
    if not isinstance(value, str) or not value:
        raise ValueError(f"{str(value)[:40]} does not name an image")
    return value


def size_of_image(height: Any, width: Any) -> tuple[int, int] | None:
    """Rows and columns that a file tells; None where it leaves them out.

    Raises:
        ValueError: they are no size.
    """
    if height in (None, "") or width in (None, ""):
        return None
    size = whole_number(height), whole_number(width)
    if min(size) < 1:
        raise ValueError(f"an image of {height}×{width} pixels")
    return size
