"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def _allowed(files: list[Path]) -> list[Path]:
    if files:
        from pocketseg.runs.backends import allow_user_code

        allow_user_code(files)
    return files


def _fold(given: str | int) -> int | str:
    text = str(given)  # a default comes as it is
    if text != "all" and not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is neither the number of a fold nor all")
    return text if text == "all" else int(text)


# The number of a fold, or the word for all of them.
FoldOrAll = Annotated[
    Any,
    typer.Option(
        parser=_fold, metavar="INTEGER|all", help="Fold of a run folder; all: the mean of all folds (an ensemble)."
    ),
]


def _directions(given: str) -> list[str]:
    return [] if given == "none" else given.split(",")


Tta = Annotated[
    Any,
    typer.Option(
        parser=_directions,
        metavar="none|horizontal|vertical|horizontal,vertical",
        help="Mean over mirror images (test-time augmentation); each direction doubles the time. Default: the model's.",
    ),
]

Device = Annotated[
    str,
    typer.Option(help="cpu, cuda, cuda:N, mps, or auto: a GPU where there is one. A GPU needs torch, or an ONNX file."),
]

AllowCode = Annotated[
    list[Path],
    typer.Option(
        "--allow-code",
        callback=_allowed,
        metavar="FILE.py",
        help="Execute this Python file, whose functions are nets FILE:NAME; may be repeated. Nothing else is executed.",
    ),
]
