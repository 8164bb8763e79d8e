"""Every set of kernels, under sanitizers, and those for ARM in an emulator: the bytes of the plain kernels."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from builds import ROOT, built
from models import digests


@pytest.mark.row("N02")
def test_sets_under_sanitizers(sanitized, files):
    plain = digests([str(sanitized / "replay")], files, "scalar")
    assert plain is not None and len(set(plain)) == len(files)
    found = {isa: digests([str(sanitized / "replay")], files, isa, 3) for isa in ("avx512", "avx2", "neon")}
    assert [isa for isa, each in found.items() if each], "this machine has no fast set"
    assert all(each in (None, plain) for each in found.values()), found


@pytest.mark.slow("builds the library once more, with emulated tiles")
@pytest.mark.row("N02")
def test_tiles_in_an_emulation(emulated, shipped, files):
    """The set `amx` on whole nets, whose layers are too small for tiles: what it lacks is done by AVX-512."""
    found = digests([str(emulated / "replay")], files, "amx")
    if found is None:
        pytest.skip("this machine has no AVX-512, where sums of tiles end")
    assert found == digests([str(shipped / "replay")], files, "scalar")
    assert found == digests([str(emulated / "replay")], files, "amx", 3)


@pytest.mark.slow("builds the library once more, for ARM")
@pytest.mark.row("N02")
def test_arm_in_an_emulator(shipped, files, tmp_path):
    emulator = shutil.which("qemu-aarch64")
    if emulator is None or shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("missing tool: qemu-user and g++-aarch64-linux-gnu (scripts/system-packages installs them)")
    folder = built(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/native/toolchains/aarch64.cmake")
    arm = [emulator, "-L", "/usr/aarch64-linux-gnu", "-cpu", "max", str(folder / "replay")]
    plain = digests([str(shipped / "replay")], files, "scalar")
    assert plain is not None
    assert digests(arm, files, "neon") == plain
    assert digests(arm, files[:2], "scalar") == plain[:2]


@pytest.mark.slow("builds the library once more, for WebAssembly")
@pytest.mark.row("N02")
def test_webassembly_in_node(shipped, files, tmp_path, tool):
    for program in ("clang++-19", "wasm-ld-19"):
        tool(program)
    folder = built(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/native/toolchains/wasm32.cmake", "-DPOCKETSEG_THREADS=OFF")
    runner = Path(__file__).with_name("run_wasi.mjs")
    node = [tool("node"), "--no-warnings", str(runner), str(folder / "replay.wasm")]
    plain = digests([str(shipped / "replay")], files, "scalar")
    assert plain is not None
    assert digests(node, files, "wasm") == plain
    assert digests(node, files[:2], "scalar") == plain[:2]
    module = (folder / "pocketseg.wasm").read_bytes()
    assert len(module) <= 260 * 1024 and len(gzip.compress(module)) <= 95 * 1024
