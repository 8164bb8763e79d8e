"""Names of devices, and what this machine has of them."""

from __future__ import annotations

import re

from pocketseg.errors import EnvironmentProblem, ModelFileError

DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
# Of ONNX Runtime, best first.
PROVIDERS = {"cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}
CPU = "CPUExecutionProvider"


def parts_of(device: str) -> tuple[str, int]:
    """Kind and index of `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        EnvironmentProblem: it is none of them.

    Example:
        >>> parts_of("cuda:1"), parts_of("cpu")
        (('cuda', 1), ('cpu', 0))
    """
    if not DEVICE.fullmatch(device):
        raise EnvironmentProblem(f"--device {device}", "is not a device", "use auto, cpu, cuda, cuda:N or mps")
    kind, _, index = device.partition(":")
    return kind, int(index or 0)


def on_cpu_alone(device: str, file: str, what: str) -> None:
    """Refuse a GPU for what has no code for one; `auto` takes what there is.

    Raises:
        ModelFileError: a GPU is asked for.
    """
    kind, _ = parts_of(device)
    if kind not in ("auto", "cpu"):
        fix = "leave out --device, or give the run with --backend torch"
        raise ModelFileError(file, f"is run by {what}, on the CPU alone, and --device {device} is asked for", fix)


def provider(device: str) -> str:
    """The provider of ONNX Runtime for a device.

    Raises:
        EnvironmentProblem: this build of ONNX Runtime has none for it.
    """
    import onnxruntime

    kind, _ = parts_of(device)
    there = onnxruntime.get_available_providers()
    if kind == "auto":
        return next((each for each in PROVIDERS.values() if each in there), CPU)
    wanted = PROVIDERS.get(kind, CPU)
    if wanted not in there:
        what = f"needs the provider {wanted}, and ONNX Runtime has {', '.join(there)} here"
        fix = "install a build of ONNX Runtime with it (onnxruntime-gpu), or take --backend torch or --device cpu"
        raise EnvironmentProblem(f"--device {device}", what, fix)
    return wanted
