"""Commands and programs in a Python that lacks what Windows lacks; `as_windows/sitecustomize.py` says what that is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

AS_WINDOWS = {
    "PYTHONPATH": str(Path(__file__).with_name("as_windows")),
    "PYTHONIOENCODING": "cp1252",
    "PYTHONWARNDEFAULTENCODING": "1",
}


def run_as_windows(*arguments: str | Path, cwd: Path | None = None):
    """The command line in a process of its own, its output in a pipe."""
    command = [sys.executable, "-m", "pocketseg.cli.main", *map(str, arguments)]
    env = {**os.environ, **AS_WINDOWS}
    return subprocess.run(command, capture_output=True, encoding="cp1252", cwd=cwd, env=env, timeout=300)


def popen_as_windows(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """A program, given as text."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**os.environ, **AS_WINDOWS}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def said_as_windows(program: str, *arguments: str | Path) -> str:
    """What a program says; it must end well."""
    process = popen_as_windows(program, *arguments)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said
