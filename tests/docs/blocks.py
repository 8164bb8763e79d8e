"""The blocks of code in README and docs, and the commands in them."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^(?:<!-- not run: (.*?) -->\n)?( *)```(\w+)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: path from the root of the repository.
        line: where it begins, from 1.
        language: sh, python, yaml, c.
        text: without the indentation of the fence.
        not_run: why it cannot run, in a comment above it; empty for those that run.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str

    @property
    def commands(self) -> list[str]:
        """The commands without comments; a backslash at the end of a line continues it."""
        lines = (shlex.split(line, comments=True) for line in self.text.replace("\\\n", " ").splitlines())
        return [shlex.join(words).replace("'>'", ">") for words in lines if words]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """README and every page of docs that is written by hand and may have commands."""
    written = [
        path for path in sorted((ROOT / "docs").rglob("*.md")) if path.parent.name not in ("reference", "decisions")
    ]
    return ["README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in written)]


def blocks(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found[3],
            re.sub(f"(?m)^{found[2]}", "", found[4]),
            found[1] or "",
        )
        for found in BLOCK.finditer(text)
    ]


def pocketseg_commands() -> Iterator[tuple[Block, list[str]]]:
    """The words of every command of pocketseg behind its name, those that do not run too."""
    for page in pages():
        for block in blocks(page):
            for command in block.commands if block.language == "sh" else ():
                words = shlex.split(command)
                if words[0] == "pocketseg":
                    yield block, words[1 : words.index(">") if ">" in words else None]


def load_script(name: str):
    """A file of `scripts` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
