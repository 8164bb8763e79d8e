"""How the library is linked: what an exploit would need is not there."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builds import ROOT

from pocketseg.engine.library import library_file

pytestmark = [
    pytest.mark.row("S33"),
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have other flags and other names for them"),
]


SHIPPED = pytest.param("shipped", marks=pytest.mark.slow("builds the library once more"))


@pytest.fixture(scope="module", params=["installed", SHIPPED])
def library(request) -> Path:
    if request.param == "installed":
        return library_file()
    return request.getfixturevalue("shipped") / "libpocketseg.so"


@pytest.fixture
def read(tool, library):
    def told(*options: str) -> str:
        return subprocess.run(
            [tool("readelf"), "-W", *options, library], capture_output=True, text=True, check=True
        ).stdout

    return told


def test_relocations_are_read_only_and_done_at_load(read):
    assert "GNU_RELRO" in read("-l")
    assert "BIND_NOW" in read("-d") and re.search(r"FLAGS_1.* NOW", read("-d"))
    assert "TEXTREL" not in read("-d")


def test_no_memory_is_both_written_and_run(read):
    stack = re.search(r"GNU_STACK.*", read("-l"))
    assert stack and "RWE" not in stack[0]
    assert not re.search(r"LOAD.*RWE", read("-l"))


def test_the_stack_is_guarded_and_functions_know_their_bounds(read):
    symbols = read("--dyn-syms")
    assert "__stack_chk_fail" in symbols
    assert re.search(r"__\w+_chk\b", symbols.replace("__stack_chk_fail", ""))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="kernels of other machines are others")
def test_the_library_is_small(library):
    assert library.stat().st_size <= 560 * 1024


def test_nothing_but_the_interface_is_seen(read):
    rows = [line.split() for line in read("--dyn-syms").splitlines()]
    seen = {row[7] for row in rows if len(row) > 7 and row[4] in ("GLOBAL", "WEAK") and row[6] != "UND"}
    header = (ROOT / "native/include/pocketseg.h").read_text()
    assert seen == set(re.findall(r"PSEG_API [\w \*]*?(pseg_\w+)\(", header))


def test_it_needs_nothing_but_the_c_library(read):
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", read("-d")))
    assert needed <= {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def test_no_flag_gives_rounding_away():
    """Comments apart: -ffast-math, what is part of it, and -Ofast."""
    text = re.sub(r"#.*", "", (ROOT / "native/CMakeLists.txt").read_text() + (ROOT / "CMakeLists.txt").read_text())
    assert not re.search(r"fast-math|-Ofast|unsafe-math|associative-math|reciprocal-math|finite-math", text)
    assert "-ffp-contract=off" in text
