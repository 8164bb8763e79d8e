"""The nets that native programs are given, and what a program makes of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

MODELS = [
    ("thin_unet", "w2a8"), ("thin_unet_w32_n4_separable", "residual w2a2"), ("mk_unet", "w1a1"), ("mk_unet", "w4"),
    ("fixed_point_unet", "power-of-two Q1.8/Q4.4"), ("thin_unet", "fixed Q8.8/Q8.8", "f16"),
    ("mk_unet", "residual w2a2", "f32", "scalar/convolution_codes"),
    ("mk_unet", "w8a8", "f16", "avx2/convolution_codes"),
]  # fmt: skip
NETS = [*MODELS, ("thin_unet_w32_n4_separable", "w8a8"), ("thin_unet", "w1a1"), ("mk_unet", "residual w3a3")]
SIDE = 40


def digests(command: list[str], files: list[Path], isa: str, threads: int = 1) -> list[str] | None:
    """The logits of every net as digests; None where the machine lacks the set."""
    done = subprocess.run(
        [*command, str(SIDE), str(threads), *map(str, files)], capture_output=True, text=True,
        env={**os.environ, "POCKETSEG_ISA": isa},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split()[1:] for line in done.stdout.splitlines()]
    if all(status == "5" for status, *_ in rows):
        return None
    assert all(status == "0" for status, *_ in rows), rows
    return [digest for _, digest in rows]
