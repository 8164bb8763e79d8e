"""A small net as C on an emulated Cortex-M7: the engine's logits and mask, to the bit, in little memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import pocketseg
from helpers.nets import picture
from pocketseg.engine.codec import file_of
from pocketseg.nets import build
from pocketseg.packing.compile import program_of
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.intensity import Normalization
from pocketseg.quant import Scheme, calibrate, integer_net, quantize_net

BOARD = Path(__file__).with_name("cortex_m")
PROCESSOR = ["-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard", "-O2", "-ffp-contract=off"]
GOAL = 160 * 1024
DEBIAN = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"


def small_net() -> bytes:
    """An int8 net of width 8 and 3 blocks for images of 96×96, a few steps old."""
    net = build("thin_unet_w32_n4_separable", 1, 1, seed=3, width=8, blocks=3)
    for quantized in (False, True):
        if quantized:
            quantize_net(net.core, Scheme("w8a8"))
            calibrate(net.core, [picture(2, 1, 32, 32, seed=seed) for seed in range(2)])
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        for seed in range(2):
            images = picture(2, 1, 32, 32, seed=seed)
            net.train()(images).sub(images).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    learned = Normalization("train-mean-std", mean=(0.5,), std=(0.25,))
    pipeline = Pipeline(size=(96, 96), multiple=8, normalization=learned)
    return file_of(program_of(integer_net(net.core), 1), {"pipeline": pipeline.to_dict(), "precision": "w8a8"})


@pytest.mark.slow("trains a net for some steps and runs it in an emulator")
def test_a_small_net_runs_on_a_cortex_m7(tmp_path):
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not here; what it belongs to takes 0.9 GB, so it is run by hand: {DEBIAN}")
    (tmp_path / "small.pseg").write_bytes(small_net())
    made = pocketseg.export(tmp_path / "small.pseg", "c")
    assert made.needs is not None
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-DSMALL_CHECK"]
    gcc = ["arm-none-eabi-gcc", *PROCESSOR]
    run = {"check": True, "cwd": tmp_path, "capture_output": True, "text": True}
    subprocess.run([*gcc, *strict, "-c", "small.c"], **run)
    link = [
        "--specs=rdimon.specs",
        "-nostartfiles",
        "-Wl,--gc-sections",
        "-T",
        str(BOARD / "memory.ld"),
        "-DSMALL_CHECK",
        "-I.",
    ]
    sources = [str(BOARD / "main.c"), str(BOARD / "start.c"), "small.o"]
    subprocess.run([*gcc, *link, *sources, "-o", "small.elf"], **run)
    machine = ["qemu-system-arm", "-M", "mps2-an500", "-nographic", "-semihosting", "-icount", "shift=0"]
    said = subprocess.run([*machine, "-kernel", "small.elf"], timeout=120, **run).stdout
    failed, found, stack, instructions = map(int, said.split())
    ram = made.needs.ram_bytes + 2 * 96 * 96 + stack
    print(f"{ram} bytes of RAM with image, mask and stack ({stack}); {instructions / 1e6:.0f} million instructions")
    assert failed == 0 and 0 < found < 96 * 96
    assert ram <= GOAL
