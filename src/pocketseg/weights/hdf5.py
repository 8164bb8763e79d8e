"""Keras' layers out of an HDF5 file. A program of its own: HDF5 is a large C library, in which an altered file can
loop, crash or fill the memory, and only a process can be given a limit of time and memory.

It writes a line of JSON to standard output, then the numbers as little-endian f32.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

# Keras writes its weights as they are; a file whose weights are larger than itself wants to fill the memory.
MAX_TIMES_LARGER = 4
# The processor's seconds for the library and for a byte; on a busy machine they may take ten times as long.
SECONDS, SECONDS_A_BYTE, BUSY = 5.0, 2e-8, 10.0
# Address space for the interpreter with its libraries; what is read comes on top.
LIBRARIES_BYTES = 768 * 2**20


@dataclass(frozen=True)
class KerasLayer:
    """A layer with weights.

    Args:
        name: as the file has it.
        weights: by the last part of their names: kernel, bias, gamma, …
        epsilon: of a norm, where the file tells.
    """

    name: str
    weights: dict[str, Array]
    epsilon: float | None = None


class RefusedError(Exception):
    """What is wrong with a file, in words."""


def read_apart(path: Path) -> list[KerasLayer]:
    """The layers of a file, read by a process that this one watches.

    Raises:
        RefusedError: truncated, no Keras weights, or reading it takes more time or memory than its size allows.
        MemoryError: there is less memory than that.
    """
    patience = BUSY * seconds_for(path.stat().st_size)
    # Nothing but the library itself: no plug-ins that the file asks for, no lock on it, one thread.
    settings = {"HDF5_PLUGIN_PRELOAD": "::", "HDF5_USE_FILE_LOCKING": "FALSE", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(Path(__file__).absolute()), str(path.absolute())],
            check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience,
            env={**os.environ, **settings},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise RefusedError("takes too long to be read; it is damaged") from None
    if done.returncode:
        raise RefusedError(f"cannot be read: the HDF5 library failed on it (exit code {done.returncode})")
    line, _, numbers = done.stdout.partition(b"\n")
    reply = json.loads(line)
    if reply.get("memory"):
        raise MemoryError
    if "refused" in reply:
        raise RefusedError(reply["refused"])
    return list(_received(reply["layers"], np.frombuffer(numbers, "<f4")))


def seconds_for(size: int) -> float:
    """The processor's time that reading a file of some bytes may take."""
    return SECONDS + SECONDS_A_BYTE * size


def _received(layers: list[dict[str, Any]], numbers: Array) -> Iterator[KerasLayer]:
    at = 0
    for layer in layers:
        weights: dict[str, Array] = {}
        for role, shape in layer["weights"]:
            count = int(np.prod(shape, dtype=np.int64))
            weights[role] = numbers[at : at + count].reshape(shape).astype(np.float32)
            at += count
        yield KerasLayer(layer["name"], weights, layer["epsilon"])


def read_here(path: Path) -> list[KerasLayer]:
    """The layers of a file, read by this process.

    Raises:
        RefusedError: truncated, or no Keras weights.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = _inside(file, "model_weights") if "model_weights" in file else file
            if not _texts(root, "layer_names"):
                raise RefusedError("has no list of layers")
            return list(_layers(root, _epsilons(file.attrs.get("model_config")), path.stat().st_size))
    except (RefusedError, MemoryError):
        raise
    except Exception as error:  # h5py gives what the library says as errors of many kinds
        raise RefusedError(f"is damaged or not a Keras file ({error})") from None


def _layers(root: Any, epsilons: dict[str, float], size: int) -> Iterator[KerasLayer]:
    left = MAX_TIMES_LARGER * size
    for layer in _texts(root, "layer_names"):
        group = _inside(root, layer)
        # The layers of a model within the model lie in one group; the rest of a weight's name tells them apart.
        inner: dict[str, dict[str, Array]] = {}
        for weight in _texts(group, "weight_names"):
            above, _, last = weight.rpartition("/")
            data = _dataset(group, weight)
            # A chunk is unpacked whole, however few numbers of it there are.
            left -= data.dtype.itemsize * max(data.size, int(np.prod(data.chunks or (0,), dtype=object)))
            if left < 0:
                raise RefusedError(f"promises more than {MAX_TIMES_LARGER} times its bytes")
            weights = inner.setdefault(above, {})
            role = last.split(":")[0]
            if role in weights:
                raise RefusedError(f"has two weights {role!r} in the layer {layer!r}")
            weights[role] = np.asarray(data[()], np.float32)
        for above, weights in inner.items():
            name = layer if len(inner) == 1 else above
            yield KerasLayer(name, weights, epsilons.get(name.rpartition("/")[2]))


def _texts(group: Any, attribute: str) -> list[str]:
    """A list of names. Keras cuts one that is longer than 64 kB into NAME0, NAME1, …"""
    if attribute in group.attrs:
        parts = [group.attrs[attribute]]
    else:
        parts = [group.attrs[f"{attribute}{i}"] for i in range(len(group.attrs)) if f"{attribute}{i}" in group.attrs]
    return [name.decode() if isinstance(name, bytes) else str(name) for part in parts for name in part]


def _inside(group: Any, name: str) -> Any:
    """What has a name in a group; never what lies in another file or elsewhere in this, to which HDF5 could point."""
    import h5py

    found = group
    for part in name.split("/"):
        if not isinstance(found, h5py.Group):
            raise RefusedError(f"has no {name!r}")
        link = found.get(part, getlink=True) if part in found.keys() else None  # noqa: SIM118 - not a mapping
        if not isinstance(link, h5py.HardLink):
            raise RefusedError(f"points elsewhere for {name!r}" if link is not None else f"has no {name!r}")
        found = found[part]
    return found


def _dataset(group: Any, name: str) -> Any:
    import h5py

    found = _inside(group, name)
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual or found.dtype.kind != "f":
        raise RefusedError(f"has no plain numbers in {name!r}")
    return found


def _epsilons(config: Any) -> dict[str, float]:
    """The norms' epsilons by layer name, from the description that a whole model has."""
    if config is None:
        return {}
    found: dict[str, float] = {}
    waiting = [json.loads(config)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            if isinstance(value.get("name"), str) and isinstance(value.get("epsilon"), float):
                found[value["name"]] = value["epsilon"]
    return found


def main(path: Path) -> None:
    """The child: read within limits, and write what was found."""
    size = path.stat().st_size
    enough = limit_this_process(size)
    reply: dict[str, Any]
    layers: list[KerasLayer] = []
    try:
        layers = read_here(path)
        reply = {
            "layers": [
                {
                    "name": layer.name,
                    "epsilon": layer.epsilon,
                    "weights": [[role, values.shape] for role, values in layer.weights.items()],
                }
                for layer in layers
            ]
        }
    except RefusedError as error:
        reply = {"refused": str(error)}
    except MemoryError:
        reply = {"refused": "wants more memory than a file of its size may"} if enough else {"memory": True}
    out = sys.stdout.buffer
    out.write(json.dumps(reply).encode() + b"\n")
    for layer in layers:
        for values in layer.weights.values():
            out.write(np.ascontiguousarray(values, "<f4").tobytes())


def limit_this_process(size: int) -> bool:
    """Hold this process to what reading a file of some bytes may take; False where it had less memory before."""
    try:
        import resource
    except ImportError:  # Windows, where only the clock of the parent holds
        return True
    want = LIBRARIES_BYTES + 4 * MAX_TIMES_LARGER * size
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    enough = most == resource.RLIM_INFINITY or most >= want
    resource.setrlimit(resource.RLIMIT_AS, (want if enough else most, most))
    seconds = int(seconds_for(size)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    return enough


if __name__ == "__main__":
    main(Path(sys.argv[1]))
