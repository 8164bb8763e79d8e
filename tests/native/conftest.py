"""The library and its tools, built once with sanitizers and once as they are shipped; with emulated tiles too."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest
from builds import built
from models import NETS

from helpers.packed_models import packed


@pytest.fixture(scope="session")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("sanitized"), "-DPOCKETSEG_SANITIZE=address,undefined")


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels for AMX and AVX-VNNI on any machine that has AVX-512, with sanitizers.

    On one that has AMX no tiles are emulated.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("matrix tiles are used on Linux on x86-64")
    options = ["-DPOCKETSEG_SANITIZE=address,undefined", "-DPOCKETSEG_EVEX=ON"]
    if " amx_int8" not in Path("/proc/cpuinfo").read_text():
        options.append("-DPOCKETSEG_EMULATE_AMX=ON")
    return built(tmp_path_factory.mktemp("emulated"), *options)


@pytest.fixture(scope="session")
def racing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("racing"), "-DPOCKETSEG_SANITIZE=thread")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("shipped"))


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("nets")
    made = []
    for index, net in enumerate(NETS):
        made.append(folder / f"{index}.pseg")
        made[-1].write_bytes(packed(*net))
    return made
