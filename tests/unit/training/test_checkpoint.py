import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from pocketseg.errors import EnvironmentProblem, ModelFileError
from pocketseg.nets import build
from pocketseg.recipes.schema import OptimizerSection
from pocketseg.training.checkpoint import (
    KEY,
    pack_optimizer,
    previous,
    read_checkpoint,
    rotate_checkpoint,
    unpack_optimizer,
    write_checkpoint,
)
from pocketseg.training.optim import make_optimizer

STATE = {"kind": "test", "loss": 0.1 + 0.2, "worst": -float("inf"), "rows": [{"a": 1}, {"b": None}], "Umläut": "ü→"}


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(3, 5, generator=generator)
    return {
        "f32": normal,
        "f64": normal.double() / 3,
        "f16": normal.half(),
        "bf16": normal.bfloat16(),
        "i8": torch.arange(-3, 4, dtype=torch.int8),
        "i16": torch.arange(-3, 4, dtype=torch.int16),
        "i32": torch.arange(-3, 4, dtype=torch.int32),
        "i64": torch.tensor([2**62, -1]),
        "u8": torch.arange(250, 256, dtype=torch.uint8),
        "bool": normal > 0,
        "scalar": torch.tensor(3.5),
        "scalar bool": torch.tensor(True),
        "none": torch.zeros(0, 3),
        "special": torch.tensor([float("nan"), float("inf"), -0.0]),
        "a.b/c ü": torch.ones(2),
    }


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    def raw(tensor):
        return tensor.dtype, tensor.shape, tensor.contiguous().reshape(-1).view(torch.uint8).tolist()

    return {name: raw(t) for name, t in a.items()} == {name: raw(t) for name, t in b.items()}


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "run" / "last.safetensors"
    write_checkpoint(path, tensors(), STATE)
    return path


def envelope(path: Path) -> dict:
    with safetensors.safe_open(str(path), framework="pt") as opened:
        return json.loads(opened.metadata()[KEY])


def rewrite(path: Path, **changes) -> None:
    """Replace fields of the envelope, and leave the digest as it is."""
    held = safetensors.torch.load_file(path)
    safetensors.torch.save_file(held, path, {KEY: json.dumps(envelope(path) | changes)})


# --- round trip -------------------------------------------------------------------------------------------


def test_round_trip(file):
    found, state = read_checkpoint(file)
    assert same(found, tensors())
    assert state == STATE


def test_equal_content_is_equal_bytes(file, tmp_path):
    backwards = dict(reversed(tensors().items()))
    state = dict(reversed(STATE.items()))
    write_checkpoint(tmp_path / "other", backwards, state)
    assert (tmp_path / "other").read_bytes() == file.read_bytes()
    write_checkpoint(tmp_path / "other", backwards, state | {"loss": 0.3})
    assert (tmp_path / "other").read_bytes() != file.read_bytes()


def test_what_was_read_is_written_back_as_the_same_bytes(file, tmp_path):
    write_checkpoint(tmp_path / "again", *read_checkpoint(file))
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_memory_layout_and_gradients_do_not_count(tmp_path):
    whole = torch.randn(2, 3, 4, 5, requires_grad=True)
    write_checkpoint(tmp_path / "a", {"x": whole}, {})
    write_checkpoint(tmp_path / "b", {"x": whole.detach().contiguous(memory_format=torch.channels_last)}, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_was_read_does_not_change_with_the_file(tmp_path):
    path = tmp_path / "a"
    write_checkpoint(path, {"x": torch.zeros(4)}, {})
    found, _ = read_checkpoint(path)
    write_checkpoint(path, {"x": torch.ones(4)}, {})
    assert found["x"].tolist() == [0, 0, 0, 0]
    assert read_checkpoint(path)[0]["x"].tolist() == [1, 1, 1, 1]


# --- what is refused --------------------------------------------------------------------------------------


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as error:
        read_checkpoint(path)
    (problem,) = error.value.problems
    assert problem.where == str(path) and problem.fix
    return problem.what


def harmless_or_refused(path: Path, good) -> bool:
    """True where it was refused."""
    try:
        found, state = read_checkpoint(path)
    except ModelFileError:
        return True
    assert same(found, good[0]) and state == good[1]
    return False


@pytest.mark.row("F11")
def test_single_bits_that_flip(file):
    good, content = read_checkpoint(file), file.read_bytes()
    rng = np.random.default_rng(1)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    # The header is most of so small a file: half of the flips go to the tensors.
    places = [*rng.integers(0, header, 150), *rng.integers(header, len(content), 150)]
    refused = 0
    for place in places:
        torn = bytearray(content)
        torn[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(torn)
        refused += harmless_or_refused(file, good)
    assert refused > 290


@pytest.mark.row("F11")
def test_files_that_are_cut(file):
    good, content = read_checkpoint(file), file.read_bytes()
    rng = np.random.default_rng(2)
    for length in [0, 1, 7, 8, 9, len(content) - 1, *rng.integers(0, len(content), 50).tolist()]:
        file.write_bytes(content[:length])
        assert harmless_or_refused(file, good)
    file.write_bytes(content + b"\0")
    assert harmless_or_refused(file, good)


@pytest.mark.row("F11")
@pytest.mark.parametrize(
    "change",
    [
        {"state": STATE | {"loss": 0.3}},
        {"state": STATE | {"more": 1}},
        {"digest": "0" * 64},
        {"digest": None},
    ],
)
def test_an_altered_envelope(file, change):
    rewrite(file, **change)
    assert refusal(file) == "was altered: its digest is wrong"


@pytest.mark.row("F11")
@pytest.mark.parametrize("change", ["value", "name", "dtype", "shape", "missing", "added"])
def test_altered_tensors(file, change):
    held = tensors()
    if change == "value":
        held["bf16"][0, 0] += 1
    elif change == "name":
        held["f33"] = held.pop("f32")
    elif change == "dtype":
        held["f32"] = held["f32"].view(torch.int32)
    elif change == "shape":
        held["f32"] = held["f32"].reshape(5, 3)
    elif change == "missing":
        del held["none"]
    else:
        held["new"] = torch.zeros(0)
    metadata = {KEY: json.dumps(envelope(file))}
    safetensors.torch.save_file(held, file, metadata)
    assert refusal(file) == "was altered: its digest is wrong"


@pytest.mark.row("P12")
def test_a_newer_version(file):
    rewrite(file, version=2)
    assert refusal(file) == "is of version 2, newer than 1"


@pytest.mark.parametrize("version", ["1", None, [1], 1.5, {}])
def test_a_version_that_is_no_number(file, version):
    rewrite(file, version=version)
    assert "is of version" in refusal(file)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {KEY: "{}"}, {KEY: '{"version": 1, "state": {}}'}])
def test_foreign_safetensors(tmp_path, metadata):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(2)}, path, metadata)
    assert refusal(path) == "was not written by pocketseg"


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "{", '"x"'])
def test_damaged_envelopes(tmp_path, text):
    path = tmp_path / "damaged.safetensors"
    safetensors.torch.save_file({"x": torch.zeros(2)}, path, {KEY: text})
    assert "damaged or not a safetensors file" in refusal(path)


class Canary:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.row("S02")
@pytest.mark.parametrize("writer", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_is_refused_and_not_executed(tmp_path, writer):
    path, canary = tmp_path / "model.safetensors", tmp_path / "canary"
    with path.open("wb") as out:
        writer(Canary(canary), out)
    assert "damaged or not a safetensors file" in refusal(path)
    assert not canary.exists()


def test_a_missing_file(tmp_path):
    assert refusal(tmp_path / "none.safetensors") == "does not exist"


def test_a_folder(tmp_path):
    assert "damaged or not a safetensors file" in refusal(tmp_path)


# --- writing ----------------------------------------------------------------------------------------------


@pytest.mark.row("F02")
def test_rotation_keeps_the_one_before(file):
    first = file.read_bytes()
    rotate_checkpoint(file)
    assert not file.exists() and previous(file).read_bytes() == first
    write_checkpoint(file, {"x": torch.ones(1)}, {})
    second = file.read_bytes()
    rotate_checkpoint(file)
    assert previous(file).read_bytes() == second
    # Nothing is there to rotate: what was kept stays.
    rotate_checkpoint(file)
    assert previous(file).read_bytes() == second
    assert previous(file).name == "previous.last.safetensors"


@pytest.mark.row("F02")
def test_nothing_else_is_left_in_the_folder(file):
    rotate_checkpoint(file)
    write_checkpoint(file, tensors(), STATE)
    assert sorted(p.name for p in file.parent.iterdir()) == ["last.safetensors", "previous.last.safetensors"]


@pytest.mark.row("F02", "F08")
@pytest.mark.parametrize("step", ["write", "rename"])
def test_a_full_disk_leaves_the_old_file(file, monkeypatch, step):
    before = file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "write" else (Path, "replace")), full)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        write_checkpoint(file, {"x": torch.zeros(3)}, {})
    assert file.read_bytes() == before and [p.name for p in file.parent.iterdir()] == [file.name]


@pytest.mark.row("F09")
def test_a_rotation_that_fails_is_a_problem_of_the_environment(file, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(EnvironmentProblem, match="Permission denied"):
        rotate_checkpoint(file)
    assert file.exists()


# --- optimizers -------------------------------------------------------------------------------------------

OPTIMIZERS = {
    "adamw": {"kind": "adamw", "weight_decay": 0.01},
    "adam": {"kind": "adam"},
    "sgd with momentum": {"kind": "sgd", "momentum": 0.9, "nesterov": True},
    "sgd without": {"kind": "sgd", "momentum": 0.0},
    "rmsprop": {"kind": "rmsprop", "momentum": 0.5},
    "rmsprop without": {"kind": "rmsprop", "momentum": 0.0},
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}


def fresh(options, layout):
    net = build("thin_unet", 1, 1, width=5, blocks=2, seed=2).to(memory_format=layout)
    return net, make_optimizer(net, OptimizerSection(lr=1e-3, **options))


def train(net: nn.Module, optimizer, steps, layout) -> None:
    for step in steps:
        x = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(step)).to(memory_format=layout)
        net(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_training_goes_on_to_the_last_bit(tmp_path, name, layout):
    options, path = OPTIMIZERS[name], tmp_path / "half.safetensors"
    net, optimizer = fresh(options, layout)
    train(net, optimizer, range(6), layout)

    half, half_optimizer = fresh(options, layout)
    train(half, half_optimizer, range(3), layout)
    weights = {f"net.{key}": value for key, value in half.state_dict().items()}
    write_checkpoint(path, weights | pack_optimizer(half_optimizer), {})

    found, _ = read_checkpoint(path)
    resumed, resumed_optimizer = fresh(options, layout)
    resumed.load_state_dict({k.removeprefix("net."): v for k, v in found.items() if k.startswith("net.")})
    unpack_optimizer(resumed_optimizer, found)
    assert same(pack_optimizer(resumed_optimizer), pack_optimizer(half_optimizer))
    train(resumed, resumed_optimizer, range(3, 6), layout)
    assert same(resumed.state_dict(), net.state_dict())
    assert same(pack_optimizer(resumed_optimizer), pack_optimizer(optimizer))

    # The optimizer's state matters: without it the weights differ. (SGD without momentum has none.)
    lost, lost_optimizer = fresh(options, layout)
    lost.load_state_dict(half.state_dict())
    train(lost, lost_optimizer, range(3, 6), layout)
    assert same(lost.state_dict(), net.state_dict()) == (name == "sgd without")


@pytest.mark.parametrize("name", ["adamw", "sgd with momentum", "rmsprop"])
def test_buffers_come_back_in_the_layout_of_their_parameters(tmp_path, name):
    net, optimizer = fresh(OPTIMIZERS[name], torch.channels_last)
    train(net, optimizer, range(1), torch.channels_last)
    write_checkpoint(tmp_path / "a", pack_optimizer(optimizer), {})
    found, _ = read_checkpoint(tmp_path / "a")
    _, resumed_optimizer = fresh(OPTIMIZERS[name], torch.channels_last)
    unpack_optimizer(resumed_optimizer, found)
    strides = {
        (buffer.stride() == parameter.stride())
        for parameter, buffers in resumed_optimizer.state.items()
        for buffer in buffers.values()
        if buffer.shape == parameter.shape
    }
    assert strides == {True}


def test_an_optimizer_without_steps_has_nothing_to_pack():
    _, optimizer = fresh(OPTIMIZERS["adamw"], torch.contiguous_format)
    assert pack_optimizer(optimizer) == {}
    unpack_optimizer(optimizer, {"net.x": torch.ones(1)})
    assert not optimizer.state
