"""Kernels for matrix tiles (AMX), their instructions emulated, under sanitizers: the bytes of the plain kernels.

The machine code is the one that is shipped: what a processor does not know ends in a signal, and that is caught.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pocketseg.packing.compile import file_of, program_of
from pocketseg.quant import Binary, Fixed, Int, ResidualBinary, integer_net
from pocketseg.quant.layers import QuantConv2d

pytestmark = pytest.mark.slow("builds the library once more, with emulated tiles")
WEIGHTS, CODES = Int(8, axis=0), Int(8, affine=True)


def conv(inside: int, outside: int, kernel=1, *, weights=WEIGHTS, inputs=CODES, **options) -> QuantConv2d:
    return QuantConv2d(nn.Conv2d(inside, outside, kernel, **options), weights, inputs)


class Two(nn.Module):
    """What two layers read on grids of their own, and an addition in f32."""

    def __init__(self, inner: nn.Module, channels: int, other=CODES) -> None:
        super().__init__()
        self.inner = inner
        self.a, self.b = conv(channels, channels, inputs=Int(4, affine=True)), conv(channels, channels, inputs=other)

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(x)
        return self.a(x) + self.b(x) + x


class Sum(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) + torch.sigmoid(self.inner(x))


def ended(*layers: nn.Module, channels: int) -> nn.Module:
    """The layers, and one that reads their result as codes."""
    return nn.Sequential(*layers, conv(channels, 2))


# name: (channels of the image, net). Sums of at least 128 products and 16 outputs are done by tiles.
LAYERS: dict[str, tuple[int, nn.Module]] = {
    "1x1, two steps": (128, ended(conv(128, 32), nn.ReLU(), channels=32)),
    "1x1, an overlapping step, an odd vector": (132, ended(conv(132, 48), nn.ReLU(), channels=48)),
    "1x1, channels that fill no quad, nor outputs a vector": (131, ended(conv(131, 37), nn.ReLU(), channels=37)),
    "1x1, few outputs": (256, ended(conv(256, 16), nn.ReLU(), channels=16)),
    "3x3": (16, ended(conv(16, 32, 3, padding=1), nn.ReLU(), channels=32)),
    "3x3, wide": (3, ended(conv(3, 256), nn.ReLU(), conv(256, 256, 3, padding=1), nn.ReLU(), channels=256)),
    "3x3, a norm behind ReLU": (33, ended(conv(33, 40, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(40), channels=40)),
    "3x3, no ReLU": (33, ended(conv(33, 40, 3, padding=1), nn.BatchNorm2d(40), channels=40)),
    "3x3, a bound": (33, ended(conv(33, 40, 3, padding=1), nn.ReLU6(), channels=40)),
    "3x3, spread": (31, ended(conv(31, 32, 3, padding=3, dilation=3), nn.ReLU(), channels=32)),
    "3x3, spread and wide": (70, ended(conv(70, 32, 3, padding=2, dilation=2), nn.ReLU(), channels=32)),
    "3x3, stride 2": (
        24, ended(conv(24, 33, 3, padding=1, stride=2), nn.ReLU(), nn.Upsample(scale_factor=2), channels=33)
    ),
    "1x1, stride 2": (128, ended(conv(128, 32, stride=2), nn.ReLU(), nn.Upsample(scale_factor=2), channels=32)),
    "5x3, uneven": (9, ended(conv(9, 20, (5, 3), padding=(2, 1)), nn.ReLU(), channels=20)),
    "two grids and f32": (40, Two(nn.Sequential(conv(40, 24, 3, padding=1), nn.ReLU()), 24)),
    "f32 and signs": (40, Two(conv(40, 72, 3, padding=1), 72, ResidualBinary(2))),
    "steps that are no plain ending": (40, Sum(conv(40, 19, 3, padding=1))),
    "signed codes": (40, ended(conv(40, 24, 3, padding=1, inputs=Fixed(2, 4)), nn.ReLU(), channels=24)),
    "signed codes, written": (40, nn.Sequential(conv(40, 136), conv(136, 24, inputs=Fixed(2, 4)))),
    "bits, spread": (40, ended(conv(40, 24, 3, padding=1, inputs=Binary()), nn.ReLU(), channels=24)),
    "planes of inputs": (40, ended(conv(40, 24, 3, padding=1, inputs=ResidualBinary(3)), nn.ReLU(), channels=24)),
    "planes of weights": (40, ended(conv(40, 50, 3, padding=1, weights=ResidualBinary(2)), nn.ReLU(), channels=50)),
    "planes of both": (
        40, ended(conv(40, 50, 3, padding=1, weights=ResidualBinary(2), inputs=Fixed(2, 4)), channels=50)
    ),
}  # fmt: skip
SIDES = [20, 17, 6]


def packed_layers(channels: int, core: nn.Module) -> bytes:
    """Calibrated by one image of the numbers that `replay` draws, packed."""
    torch.manual_seed(5)
    for part in core.modules():
        if isinstance(part, nn.Conv2d):
            part.reset_parameters()
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, -1, 1)
            nn.init.uniform_(part.bias, -1, 1)
    with torch.no_grad():
        core.train()(torch.rand(2, channels, 12, 12) * 4 - 2)
    program = program_of(integer_net(core.eval()), channels)
    if any(isinstance(part, nn.Upsample) for part in core.modules()):
        program = dataclasses.replace(program, multiple=2)
    return file_of(program, {})


def replayed(folder: Path, file: Path, side: int, isa: str, threads: int = 1) -> tuple[list[str], int | None]:
    """Status and digest of the logits, and the products of tiles; None where they are real, and nobody counts."""
    done = subprocess.run(
        [folder / "replay", str(side), str(threads), str(file)], capture_output=True, text=True,
        env={**os.environ, "POCKETSEG_ISA": isa},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    counted = re.search(r"emulated AMX: (\d+) products", done.stderr)
    return done.stdout.split()[1:], int(counted[1]) if counted else None


@pytest.fixture(scope="session", autouse=True)
def machine(emulated, tmp_path_factory):
    """What is emulated are tiles alone: their sums end in vectors of AVX-512."""
    file = tmp_path_factory.mktemp("none") / "none.pseg"
    file.write_bytes(b"none")
    if replayed(emulated, file, 8, "amx")[0][0] == "5":
        pytest.skip("this machine has no AVX-512")


# 40 rows of 40 pixels are 120 tiles of 16, by vectors of 16 outputs, by steps of at most 64 products.
@pytest.mark.parametrize(
    ("channels", "layer", "products"),
    [
        (128, conv(128, 32), 120 * 2 * 2),
        (132, conv(132, 48), 120 * 3 * 3),
        (16, conv(16, 32, 3, padding=1), 120 * 2 * 3),  # three taps are one run of 48 bytes
        (16, conv(16, 32, 3, padding=2, dilation=2), 120 * 2 * 9),
        (127, conv(127, 32), 0),
        (128, conv(128, 15), 0),
        (256, conv(256, 64, 3, padding=1, groups=2), 0),
        (256, conv(256, 64, 3, padding=1, weights=Binary(scale="mean", axis=0), inputs=Binary()), 0),
    ],
)
def test_what_tiles_do(emulated, shipped, tmp_path, channels, layer, products):
    """No product more than sums need, and none where AVX-512 is thought to be better."""
    file = tmp_path / "layer.pseg"
    file.write_bytes(packed_layers(channels, nn.Sequential(layer)))
    for threads in (1, 3):
        found, done = replayed(emulated, file, 40, "amx", threads)
        assert found == replayed(shipped, file, 40, "scalar")[0]
        assert done in (products, None)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(emulated, shipped, tmp_path, name):
    file = tmp_path / "layer.pseg"
    file.write_bytes(packed_layers(*LAYERS[name]))
    for side in SIDES:
        plain = replayed(shipped, file, side, "scalar")[0]
        assert plain[0] == "0"
        for threads in (1, 3):
            found, products = replayed(emulated, file, side, "amx", threads)
            assert found == plain, (side, threads)
            assert products != 0
