"""What the end-to-end tests share."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

# A net and a budget that learn something in seconds: enough to tell a wired-up training from a broken one.
SMALL = (
    "data.size=[32, 32]",
    "stages.0.net.width=8",
    "stages.0.net.blocks=3",
    "stages.0.epochs=4",
    "stages.0.precision=f32",
    "split.validation=0.2",
)
# Of `trained_run`, a net that learned for a few steps: its probabilities crowd around a half, and less around 0.6.
TRAINED = (*SMALL, "postprocess.threshold=0.6")


def run_cli(*arguments: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None):
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pocketseg.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=300,
    )


def overrides(*values: str) -> list[str]:
    """--set options of the small training, and more."""
    return [part for value in (*SMALL, *values) for part in ("--set", value)]


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
