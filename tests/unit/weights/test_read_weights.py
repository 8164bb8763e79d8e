"""Files are known by their content."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

from pocketseg.errors import ModelFileError
from pocketseg.training.checkpoint import write_checkpoint
from pocketseg.weights import read_weights

TENSORS = {"head.weight": torch.tensor([[1.0, -2.0]]), "head.bias": torch.tensor([3.0])}


def same(found) -> bool:
    return list(found) == list(TENSORS) and all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.of-any-name"


def sorted_same(found) -> bool:
    return same({name: found[name] for name in TENSORS}) and len(found) == len(TENSORS)


def test_a_model_of_ours(path):
    write_checkpoint(path, TENSORS, {"kind": "model"})
    assert sorted_same(read_weights(path))


def test_a_training_state_of_ours_without_its_optimizer(path):
    state = {f"net.{name}": value for name, value in TENSORS.items()} | {"optimizer.0.step": torch.tensor(7.0)}
    write_checkpoint(path, state, {"kind": "training"})
    assert sorted_same(read_weights(path))


def test_safetensors_of_others_keep_their_names(path):
    safetensors.torch.save_file({f"net.{name}": value for name, value in TENSORS.items()}, path)
    assert set(read_weights(path)) == {"net.head.weight", "net.head.bias"}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("container", [True, False])
def test_pth_whether_wrapped_or_not(path, prefix, container):
    wrapped = {f"{prefix}{name}": value for name, value in TENSORS.items()}
    torch.save(wrapped, path, _use_new_zipfile_serialization=container)
    assert same(read_weights(path))


def test_torn_safetensors(path):
    safetensors.torch.save_file(TENSORS, path)
    content = path.read_bytes()
    for length in range(9, len(content), 5):
        path.write_bytes(content[:length])
        with pytest.raises(ModelFileError, match=r"truncated|damaged"):
            read_weights(path)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "no PyTorch file"), (b"\x89HDF\r\n\x1a\n", ".h5"), (b"hello, world", "no PyTorch")]
)
def test_other_files(path, content, words):
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=words):
        read_weights(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ModelFileError, match="does not exist"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_weights(tmp_path)
