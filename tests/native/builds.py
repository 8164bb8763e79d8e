"""The native library, built by hand."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def built(folder: Path, *options: str) -> Path:
    if shutil.which("cmake") is None:
        pytest.skip("missing tool: cmake (scripts/system-packages installs it)")
    run = {"check": True, "capture_output": True, "text": True}
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-DPOCKETSEG_TOOLS=ON", *options]
    subprocess.run(configure, **run)
    subprocess.run(["cmake", "--build", str(folder), "--parallel", "2"], **run)
    return folder / "native"
