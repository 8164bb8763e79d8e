"""The bytes of a integer net, and of one in f32, are those of the source, whoever compiles it and however."""

from __future__ import annotations

import sys

import pytest
from builds import built
from models import digests

SETS = ["scalar", "sse41", "avx2", "avx512", "neon", "dotprod"]


@pytest.mark.slow("compiles the library six times")
@pytest.mark.row("N03")
@pytest.mark.skipif(sys.platform != "linux", reason="gcc and clang side by side")
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("level", ["-O0", "-O2", "-O3"])
def test_compilers_and_levels(tool, shipped, tmp_path, files, compiler, level):
    folder = built(tmp_path, f"-DCMAKE_CXX_COMPILER={tool(compiler)}", f"-DPOCKETSEG_LEVEL={level}")
    for isa in SETS:
        wanted = digests([str(shipped / "replay")], files, isa, 2)
        assert digests([str(folder / "replay")], files, isa, 2) == wanted
