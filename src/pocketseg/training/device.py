"""Which device trains, in which precision, and what that guarantees."""

from __future__ import annotations

import os
import platform
from typing import Any, Literal

import torch
from accelerate import Accelerator

from pocketseg.errors import EnvironmentProblem
from pocketseg.predictors.device import parts_of

Precision = Literal["f32", "bf16"]


def open_accelerator(device: str) -> Accelerator:
    """Accelerate on `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; under torchrun it joins the process group.

    Precision stays with `autocast` below, because stages of one run may differ in it.

    Raises:
        EnvironmentProblem: the device is not there.
    """
    kind, _ = _there(device)
    if ":" in device:
        os.environ["ACCELERATE_TORCH_DEVICE"] = device
    return Accelerator(cpu=kind == "cpu")


def torch_device(device: str) -> torch.device:
    """The device of `auto`, `cpu`, `cuda`, `cuda:N` or `mps` that runs a trained net; `auto` is a GPU where one is.

    Raises:
        EnvironmentProblem: the device is not there.
    """
    kind, _ = _there(device)
    if kind != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _there(device: str) -> tuple[str, int]:
    """Kind and index of a device, or `auto`, which this machine has."""
    kind, index = parts_of(device)
    if kind == "cuda" and (not torch.cuda.is_available() or index >= torch.cuda.device_count()):
        have = f"{torch.cuda.device_count()} CUDA devices" if torch.cuda.is_available() else "no CUDA"
        raise EnvironmentProblem(f"--device {device}", f"this machine has {have}", "use --device auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise EnvironmentProblem("--device mps", "this machine has no MPS", "use --device auto")
    return kind, index


def wait_for(device: torch.device) -> None:
    """Return when all that was given to a GPU is done; a CPU has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def choose_precision(wanted: Literal["auto", "f32", "bf16"], device: torch.device) -> tuple[Precision, str]:
    """The precision to train in, and why, for the log.

    On CPUs `auto` takes bf16 where the instructions are in hardware (AMX or AVX-512 BF16): measured at least
    three times as fast as plain f32 training (`benchmarks/train_speed.py`).
    """
    if wanted != "auto":
        return wanted, "as the recipe says"
    if device.type == "cuda":
        has_it = torch.cuda.is_bf16_supported()
        return ("bf16", "the GPU has it") if has_it else ("f32", "the GPU has no bf16")
    if device.type == "cpu":
        amx, avx = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
        if amx or avx:
            return "bf16", f"the CPU has {'bf16 matrix units (AMX)' if amx else 'AVX-512 BF16 instructions'}"
        return "f32", "the CPU has no bf16 instructions"
    return "f32", "the default of this device"


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which the net runs."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def hardware(device: torch.device) -> dict[str, Any]:
    """What the manifest says of the machine."""
    is_gpu = device.type == "cuda"
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if is_gpu else platform.processor() or "cpu",
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
