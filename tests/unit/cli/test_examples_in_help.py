"""Examples in the help and in documentation can be pasted into any shell."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
FILES = sorted([*ROOT.glob("src/pocketseg/cli/*.py"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
# Bash, zsh and dash read these as their own where they are not quoted.
SPECIAL = re.compile(r"[()\[\]{}*?^|&;<>$`]")


def examples() -> list[str]:
    found = []
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        text = text if file.suffix == ".py" else "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
        lines = re.findall(r"^ *(pocketseg [a-z].*)$", text, re.MULTILINE)
        found += [f"{file.name}: {line}" for line in lines]
    return found


def bare(line: str) -> str:
    """What a shell sees without its comment and what is quoted."""
    return re.sub(r"""'[^']*'|"[^"$`]*"|\\.|\s#.*|\s[>|] \S.*""", "", line)


def test_nothing_is_read_by_the_shell():
    assert len(examples()) > 100
    assert not [line for line in examples() if SPECIAL.search(bare(line))]


def test_what_is_not_quoted_is_found():
    assert SPECIAL.search(bare("pocketseg fit scans --set data.group_regex=^([^_]+)_"))
    assert SPECIAL.search(bare("pocketseg train thin-unet --set data.size=[64,64]"))
    assert not SPECIAL.search(bare("pocketseg train thin-unet --set 'data.size=[64,64]' # (a comment)"))
