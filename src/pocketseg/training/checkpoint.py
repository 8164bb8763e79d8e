"""Checkpoints: tensors and JSON state in one safetensors file, with a digest, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from pocketseg import memory
from pocketseg.cards import json_object, newer
from pocketseg.errors import ModelFileError
from pocketseg.files import open_regular, rename_file, write_atomically

VERSION = 1
# safetensors writes its metadata in no fixed order; a single key keeps equal contents equal bytes.
KEY = "pocketseg"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint; a reader finds the file of before until the new one is complete and synced."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    envelope = {"version": VERSION, "state": state, "digest": _digest(whole, state)}
    content = safetensors.torch.save(whole, {KEY: json.dumps(envelope, sort_keys=True)})
    write_atomically(path, content)


def rotate_checkpoint(path: Path) -> None:
    """Keep the present file as the one before: what is left to resume from if the next write is killed."""
    if path.exists():
        rename_file(path, previous(path))


def previous(path: Path) -> Path:
    """Where the checkpoint before this one is kept."""
    return path.with_name(f"previous.{path.name}")


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and state of a checkpoint whose digest is right.

    Raises:
        ModelFileError: missing, truncated, altered, of another kind, or made by a newer version.
    """
    try:
        open_regular(path).close()  # safetensors would wait for a pipe
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        envelope = json_object(metadata[KEY])
        too_new, state, digest = newer(envelope["version"], VERSION), envelope["state"], envelope["digest"]
        altered = not too_new and digest != _digest(tensors, state)
    except FileNotFoundError:
        raise ModelFileError(str(path), "does not exist", "check the path") from None
    except KeyError:
        raise ModelFileError(str(path), "was not written by pocketseg", "give a checkpoint of a run") from None
    except Exception as error:  # safetensors raises its own error types for damaged files
        otherwise = ModelFileError(
            str(path), f"is damaged or not a safetensors file ({error})", "use another checkpoint"
        )
        raise memory.explained(error, otherwise) from None
    if too_new:
        what = f"is of version {envelope['version']}, newer than {VERSION}"
        raise ModelFileError(str(path), what, "upgrade pocketseg")
    if altered or not isinstance(state, dict):
        raise ModelFileError(str(path), "was altered: its digest is wrong", "use another checkpoint")
    return tensors, state


def _digest(tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors in order of name, and the state."""
    whole = hashlib.sha256(json.dumps(state, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's buffers as named tensors; everything else of it comes from the recipe."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": value
        for index, buffers in state.items()
        for name, value in buffers.items()
        if isinstance(value, Tensor)
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the buffers of `pack_optimizer` back, in their own memory and in their parameters' layout."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, buffers in optimizer.state.items():
        for name, value in buffers.items():
            # In another layout it is slower, and may meet a kernel that rounds differently.
            like = parameter if value.shape == parameter.shape else value
            buffers[name] = torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)
