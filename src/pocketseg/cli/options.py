"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _allowed(files: list[Path]) -> list[Path]:
    if files:
        from pocketseg.runs.backends import allow_user_code

        allow_user_code(files)
    return files


AllowCode = Annotated[
    list[Path],
    typer.Option(
        "--allow-code",
        callback=_allowed,
        metavar="FILE.py",
        help="Execute this Python file, whose functions are nets FILE:NAME; may be repeated. Nothing else is executed.",
    ),
]
