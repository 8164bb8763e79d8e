"""Every set of kernels, under sanitizers, and those for ARM in an emulator: the bytes of the plain kernels."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from builds import ROOT, built
from models import digests

SETS = ("avx512", "avxvnni", "avx2", "sse41", "dotprod", "neon")


@pytest.mark.row("N02")
def test_sets_under_sanitizers(sanitized, files):
    plain = digests([str(sanitized / "replay")], files, "scalar")
    assert plain is not None and len(set(plain)) == len(files)
    found = {isa: digests([str(sanitized / "replay")], files, isa, 3) for isa in SETS}
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


@pytest.mark.slow("builds the library once more, with emulated tiles")
@pytest.mark.row("N02")
def test_avx_vnni_in_instructions_of_avx_512(emulated, shipped, files, tool):
    """The set `avxvnni` as it is compiled, but for the form of its dot products, which AVX-512 has in another one."""
    found = digests([str(emulated / "replay")], files, "avxvnni")
    if found is None:
        pytest.skip("this machine has no AVX-512, whose dot products stand for those of AVX-VNNI")
    assert found == digests([str(shipped / "replay")], files, "scalar")
    assert found == digests([str(emulated / "replay")], files, "avxvnni", 3)
    # What ships has that of AVX-VNNI, and nothing of AVX-512, whose instructions begin with 62.
    compiled = str(shipped / "CMakeFiles/pocketseg_avxvnni.dir/src/fast/codes.cpp.o")
    code = subprocess.run([tool("objdump"), "-d", compiled], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"\tc4 .*\t(?:\{vex\} )?vpdpbusd", code) and not re.findall(r":\t62 ", code)


@pytest.mark.slow("builds the library once more, for ARM")
@pytest.mark.row("N02")
def test_arm_in_an_emulator(shipped, files, tmp_path):
    emulator = shutil.which("qemu-aarch64")
    if emulator is None or shutil.which("aarch64-linux-gnu-g++") is None:
        pytest.skip("missing tool: qemu-user and g++-aarch64-linux-gnu (scripts/system-packages installs them)")
    folder = built(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/native/toolchains/aarch64.cmake")
    plain = digests([str(shipped / "replay")], files, "scalar")
    assert plain is not None

    def on(processor: str, isa: str, files: list[Path] = files) -> list[str] | None:
        arm = [emulator, "-L", "/usr/aarch64-linux-gnu", "-cpu", processor, str(folder / "replay")]
        return digests(arm, files, isa)

    assert on("max", "dotprod") == plain
    assert on("cortex-a72", "dotprod") is None
    assert on("cortex-a72", "neon") == plain
    assert on("max", "scalar", files[:2]) == plain[:2]


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
