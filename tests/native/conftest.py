"""The library and its tools, built once with sanitizers and once as they are shipped."""

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


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("sanitized"), "-DPOCKETSEG_SANITIZE=ON")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("shipped"))
