"""Starting weights from anywhere: reading the file, and putting its tensors into a net."""

from __future__ import annotations

from pathlib import Path

import safetensors
from torch import Tensor

from pocketseg import memory
from pocketseg.errors import ModelFileError
from pocketseg.files import open_regular
from pocketseg.weights.download import fetch
from pocketseg.weights.hdf5 import KerasLayer
from pocketseg.weights.keras import put_keras, read_keras
from pocketseg.weights.mobilenet import mobilenet_of_keras, mobilenet_of_tflite
from pocketseg.weights.order import ends_of, take_in_order
from pocketseg.weights.packaged import packaged
from pocketseg.weights.pth import read_pth
from pocketseg.weights.take import Taken, take
from pocketseg.weights.tflite import MAGIC, read_tflite

__all__ = [
    "KerasLayer", "Taken", "ends_of", "fetch", "mobilenet_of_keras", "mobilenet_of_tflite", "packaged", "put_keras",
    "read_in_order", "read_keras", "read_pth", "read_tflite", "read_weights", "take", "take_in_order",
]  # fmt: skip

# In front of every name: of the net in a training state of ours, and of a net that was wrapped to train in parallel.
OUR_STATE, WRAPPED = "net.", "module."


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a net by name: from a model or training state of ours, another safetensors file, or a `.pth`.

    What the file is, is found by its content.

    Raises:
        ModelFileError: missing, truncated, or of another kind.
    """
    try:
        with open_regular(path) as file:
            start = file.read(9)
    except FileNotFoundError:
        raise ModelFileError(str(path), "does not exist", "check the path") from None
    except OSError as error:
        raise ModelFileError(str(path), f"cannot be read ({error.strerror or error})", "check the path") from None
    if start.startswith(b"\x89HDF"):
        raise ModelFileError(str(path), "is an HDF5 file", "name a Keras file .h5 or .hdf5")
    if start[4:8] == MAGIC:
        raise ModelFileError(str(path), "is a TensorFlow Lite file", "name it .tflite")
    tensors = _read_safetensors(path) if start[8:] == b"{" else read_pth(path)
    if tensors and all(name.startswith(WRAPPED) for name in tensors):
        return {name.removeprefix(WRAPPED): value for name, value in tensors.items()}
    return tensors


def read_in_order(path: Path) -> dict[str, Tensor]:
    """The same in the order in which the net was built, which a file of PyTorch keeps.

    Raises:
        ModelFileError: as above, or a safetensors file, which sorts its tensors.
    """
    tensors = read_weights(path)
    with open_regular(path) as file:
        if file.read(9)[8:] == b"{":
            what = "is a safetensors file, which does not keep the order of layers"
            raise ModelFileError(str(path), what, "save it with torch.save, or match by name")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            ours = "pocketseg" in (file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except Exception as error:  # safetensors raises its own error types for damaged files
        otherwise = ModelFileError(str(path), f"is damaged or not a safetensors file ({error})", "use another copy")
        raise memory.explained(error, otherwise) from None
    state = {name.removeprefix(OUR_STATE): value for name, value in tensors.items() if name.startswith(OUR_STATE)}
    return state if ours and state else tensors
