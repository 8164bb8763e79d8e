"""Which sets are offered on processors that are emulated: what CPUID says, and what the system lets programs use."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from models import digests

# What qemu 7.2 has no instructions for is not offered, whatever the model's name says.
OFFERED = {
    "core2duo": "scalar",
    "Nehalem": "sse41, scalar",
    "Haswell": "avx2, sse41, scalar",
    "Haswell,-fma": "sse41, scalar",
    "Haswell,-popcnt": "sse41, scalar",
    "Haswell,-xsave": "sse41, scalar",  # the system keeps no registers of 256 bits
}


@pytest.mark.slow("builds the library; the set of this processor is looked at in tests/unit")
@pytest.mark.skipif(sys.platform != "linux" or platform.machine() != "x86_64", reason="emulates x86-64 on itself")
def test_sets_of_emulated_processors(shipped, files, tool):
    emulator, replay = tool("qemu-x86_64"), str(shipped / "replay")
    plain = digests([replay], files[:2], "scalar")
    for processor, offered in OFFERED.items():
        command = [emulator, "-cpu", processor, replay]
        asked = subprocess.run(
            [*command, "40", "1", str(files[0])], capture_output=True, text=True,
            env={**os.environ, "POCKETSEG_ISA": "none"},
        )  # fmt: skip
        assert asked.stderr.rstrip().endswith(f"is not offered here; there is {offered}"), (processor, asked.stderr)
        assert digests(command, files[:2], offered.partition(",")[0]) == plain, processor
