"""Names that may be shown: cases, groups and folders are called by numbers, and the key to them stays behind."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Iterable
from pathlib import Path

from pocketseg.errors import RunError
from pocketseg.files import write_atomically
from pocketseg.tables import csv_rows, csv_text

FILE = "case-ids.csv"
KINDS = ("case", "group", "folder")
MIN_DIGITS = {"case": 3, "group": 2, "folder": 1}


class Pseudonyms:
    """Ids for names, drawn by chance and kept in a table, so that a later report calls everything the same."""

    def __init__(self, path: Path) -> None:
        """Read the table at a path, where there is one.

        Raises:
            RunError: it is not such a table.
        """
        self.path = path
        self.ids: dict[tuple[str, str], str] = {}
        if not path.exists():
            return
        try:
            _, *rows = csv_rows(path.read_bytes().decode("utf-8", "surrogateescape"))
            self.ids = {(kind, name): number for kind, number, name in rows}
        except (OSError, ValueError, csv.Error) as error:
            raise RunError(
                str(path), f"is not a table of ids ({error})", "restore it, or remove it for new ids"
            ) from error

    def add(self, kind: str, names: Iterable[str]) -> None:
        """Give an id to every name that has none. The order is drawn, so an id tells nothing about its name."""
        new = sorted({name for name in names if (kind, name) not in self.ids})
        secrets.SystemRandom().shuffle(new)
        used = [each for (of, _), each in self.ids.items() if of == kind]
        first = 1 + max((int(each.rpartition("-")[2]) for each in used), default=0)
        digits = max(MIN_DIGITS[kind], len(str(first + len(new) - 1)))
        self.ids |= {(kind, name): f"{kind}-{first + number:0{digits}}" for number, name in enumerate(new)}

    def save(self) -> None:
        """Write the table; it is not to be given away with the report."""
        rows = sorted((kind, each, name) for (kind, name), each in self.ids.items())
        content = csv_text([("kind", "id", "name"), *rows]).encode("utf-8", "surrogateescape")
        if not self.path.exists() or self.path.read_bytes() != content:
            write_atomically(self.path, content)

    def case(self, name: str) -> str:
        return self.ids["case", name]

    def group(self, name: str) -> str:
        return self.ids["group", name]

    def folder(self, name: str, shown: Iterable[str] = ()) -> str:
        """A class folder by its id, unless it is among those that may be shown."""
        return name if name in shown else self.ids["folder", name]
