"""`.pth` files: both containers as torch writes them, and everything that is refused."""

from __future__ import annotations

import argparse
import io
import os
import pickle
import random
import struct
import sys
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.foreign_nets import DoubleConvUNet
from pocketseg.errors import ModelFileError
from pocketseg.weights import pth, read_pth

CONTAINERS = {"zip": True, "legacy": False}


@pytest.fixture(params=CONTAINERS)
def save(request, tmp_path):
    """Writes with torch in one of its containers."""

    def write(value) -> Path:
        path = tmp_path / "weights.pth"
        torch.save(value, path, _use_new_zipfile_serialization=CONTAINERS[request.param])
        return path

    return write


def equal(found: dict[str, torch.Tensor], wanted) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert torch.equal(found[name], value.detach()), name
        assert found[name].is_contiguous() and not found[name].requires_grad


def refusal(path: Path) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_pth(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# --- what torch writes ------------------------------------------------------------------------------------------


def test_a_net(save):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 1, 1))
    net[1].running_mean.copy_(torch.randn(3))
    equal(read_pth(save(net.state_dict())), net.state_dict())


@pytest.mark.whole
@pytest.mark.parametrize("dtype", pth.STORAGES.values())
def test_every_type(save, dtype):
    values = {"values": torch.tensor([0, 1, 0, 1, 1, 0, 1]).to(dtype), "single": torch.tensor(1).to(dtype)}
    equal(read_pth(save(values)), values)


def test_extreme_values_come_back_to_the_bit(save):
    values = {
        "f64": torch.tensor([1e-300, -torch.pi, float("inf")], dtype=torch.float64),
        "i64": torch.tensor([-(2**63), 2**63 - 1]),
        "i8": torch.tensor([-128, 127], dtype=torch.int8),
        "bf16": torch.tensor([-3.140625, 2.0**100], dtype=torch.bfloat16),
    }
    equal(read_pth(save(values)), values)


def test_views_parameters_and_shared_storages(save):
    base = torch.arange(24.0)
    values = {
        "transposed": base[:6].reshape(2, 3).t(),
        "end": base[20:],
        "every second": base[1::2],
        "same as end": base[20:],
        "parameter": nn.Parameter(torch.tensor([-1.5, 2.5])),
        "empty": torch.empty(0, 3),
    }
    found = read_pth(save(values))
    equal(found, values)
    found["end"].zero_()
    assert found["same as end"].tolist() == [20, 21, 22, 23]


@pytest.mark.parametrize("key", ["state_dict", "model", "weights of mine"])
def test_a_state_dict_beside_other_entries(save, key):
    wanted = OrderedDict(a=torch.tensor([1.0, -2.0]), b=torch.tensor([[3]]))
    outer = {"epoch": 3, "loss": 0.25, "arch": "unet", "done": True, "note": None, "history": [1, 2], key: wanted}
    equal(read_pth(save(outer)), wanted)


def test_an_optimizer_beside_the_net_is_no_second_net(save):
    net = nn.Linear(2, 3)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    equal(read_pth(save({"model": net.state_dict(), "optimizer": optimizer.state_dict()})), net.state_dict())


def test_two_state_dicts_are_one_too_many(save):
    wanted = {"a": torch.ones(2)}
    assert "holds 2 state dicts ('net', 'ema')" in refusal(save({"net": wanted, "ema": wanted}))


@pytest.mark.parametrize("value", [{}, [torch.ones(2)], torch.ones(2), {"a": 1}, 7, {"a": {"b": {"c": torch.ones(1)}}}])
def test_no_state_dict(save, value):
    assert "holds no state dict" in refusal(save(value))


def test_names_must_be_text(save):
    assert "name is not text" in refusal(save({1: torch.ones(2)}))


@pytest.mark.parametrize("value", [{"a": torch.ones(2), "path": Path("x")}, {"a": torch.ones(2), "b": range(3)}])
def test_calls_of_anything_else_are_refused_by_name(save, value):
    assert "which is not a tensor; nothing was executed" in refusal(save(value))


def whole_net() -> nn.Module:
    net = DoubleConvUNet(2, 1)
    net.device, net.shape, net.names = torch.device("cpu"), torch.Size([2, 3]), {"a", "b"}
    net.register_buffer("scale", torch.tensor([0.5]))
    net.register_parameter("none", None)
    return net


def test_a_whole_module_is_read_as_its_state(save):
    net = whole_net()
    equal(read_pth(save(net)), net.state_dict())
    equal(read_pth(save({"epoch": 3, "model": net})), net.state_dict())
    equal(read_pth(save(nn.DataParallel(net))), nn.DataParallel(net).state_dict())


def test_the_class_of_a_module_is_not_imported(save, monkeypatch):
    path = save(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)))
    monkeypatch.setitem(sys.modules, "torch.nn.modules.conv", None)  # any import of it would fail
    assert next(iter(read_pth(path))) == "0.weight"


def test_what_training_scripts_put_beside_and_among_the_tensors(save):
    tensors = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
    equal(read_pth(save({**tensors, "mask_values": [0, 255]})), tensors)
    beside = {
        "args": argparse.Namespace(lr=0.1, sizes=[1, 2]), "best": np.float64(0.5), "device": torch.device("cpu"),
        "logs": defaultdict(list, {"loss": [0.5]}), "loss": torch.tensor(0.25),
    }  # fmt: skip
    equal(read_pth(save({**beside, "net": {**tensors, "mask_values": [0, 1]}})), tensors)


@pytest.mark.parametrize("knot", ["ring", "doubling"])
def test_modules_tied_into_knots_end(save, knot):
    net = nn.Module()
    if knot == "ring":
        net._modules["inner"] = net
    for _ in range(64 if knot == "doubling" else 0):
        outer = nn.Module()
        outer._modules["a"] = outer._modules["b"] = net
        net = outer
    assert "modules, or one within itself" in refusal(save(net))


def test_python_2_lists_the_pairs_of_an_ordered_dict(tmp_path):
    """As files of 2017 have it; a list of lists, and byte strings."""
    inner = torch_zip(tmp_path, {"a": torch.tensor([5.0])})
    body = data_pickle(inner)
    old = b"\x80\x02" + b"ccollections\nOrderedDict\n(](](U\x01a" + tensor_opcodes(body) + b"eetR."
    assert read_pth(with_pickle(inner, tmp_path / "old.pth", old))["a"].tolist() == [5.0]


def test_big_endian_files(tmp_path):
    path = torch_zip(tmp_path, {"a": torch.tensor([1.5, -2.0]), "b": torch.tensor([7], dtype=torch.int64)})
    turned = tmp_path / "big.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(turned, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("byteorder"):
                data = b"big"
            elif name.endswith("data/0"):
                data = struct.pack(">2f", *struct.unpack("<2f", data))
            elif name.endswith("data/1"):
                data = data[::-1]
            new.writestr(name, data)
    found = read_pth(turned)
    assert found["a"].tolist() == [1.5, -2.0] and found["b"].tolist() == [7]


# --- hostile pickles --------------------------------------------------------------------------------------------


def torch_zip(folder: Path, value) -> Path:
    path = folder / "inner.pth"
    torch.save(value, path)
    return path


def data_pickle(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read("inner/data.pkl")


def tensor_opcodes(body: bytes) -> bytes:
    """The instructions that rebuild the only tensor of {"a": tensor}."""
    start = body.index(b"ctorch._utils\n")
    return body[start : body.rindex(b"R") + 1]


def with_pickle(path: Path, out: Path, body: bytes) -> Path:
    """The same zip with another pickle."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            new.writestr(name, body if name.endswith("data.pkl") else old.read(name))
    return out


def hostile(tmp_path: Path, body: bytes, container: str) -> Path:
    out = tmp_path / "hostile.pth"
    if container == "zip":
        return with_pickle(torch_zip(tmp_path, {"a": torch.ones(2)}), out, body)
    head = io.BytesIO()
    for value in (pth.LEGACY_MAGIC, pth.LEGACY_PROTOCOL, {"little_endian": True}):
        pickle.dump(value, head, protocol=2)
    out.write_bytes(head.getvalue() + body + pickle.dumps([], protocol=2))
    return out


class Runs:
    """Calls something when it is loaded."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.whole
@pytest.mark.row("S02")
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("name", "function"), [("system", os.system), ("eval", eval), ("exec", exec), ("getattr", getattr)]
)
def test_calls_are_refused_by_name(tmp_path, container, protocol, name, function):
    trace = tmp_path / "executed"
    argument = f"open({str(trace)!r}, 'w')" if name != "system" else f"touch {trace}"
    body = pickle.dumps({"a": Runs(function, argument)}, protocol=protocol)
    text = refusal(hostile(tmp_path, body, container))
    assert f".{name}, which is not a tensor; nothing was executed" in text or (protocol == 0 and "nothing was" in text)
    assert not trace.exists()


@pytest.mark.whole
@pytest.mark.row("S02")
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x02ctorch\nload\n(U\x01atR.",
        b"\x80\x02(U\x02lsios\nsystem\n.",  # INST
        b"\x80\x02(cos\nsystem\nU\x02lso.",  # OBJ
        b"\x80\x02cos\nsystem\n)\x81.",  # NEWOBJ
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x02tR.",
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n(K\x01K\x02K\x03tR.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02K\x07)R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nU\x01aR.",
        b"\x80\x02}U\x01aNb.",  # BUILD of no dict
        b"\x80\x02}}K\x01s.",
        b"\x80\x02U\x07storageQ.",
        b"\x80\x02.",
        b"\x80\x02tttt.",
        b"\x80\x02h\x05.",
        b"\x80\x02]q\x00h\x00a.",  # a list within itself
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" * 10 + b"\x85" * 200_000 + b".",
    ],
)
def test_other_programs_are_refused(tmp_path, container, body):
    refusal(hostile(tmp_path, body, container))


def test_endless_programs_end(tmp_path, monkeypatch):
    monkeypatch.setattr(pth, "MAX_INSTRUCTIONS", 1000)
    assert "more than 1,000 instructions" in refusal(hostile(tmp_path, b"\x80\x02" + b"N" * 2000 + b".", "zip"))


def view(numel: int, offset: int, shape: tuple, stride: tuple, kind: str = "FloatStorage") -> bytes:
    """{"a": a view of a storage of 2 floats}, with any numbers at all."""

    def whole(value) -> bytes:
        if isinstance(value, tuple):
            return b"(" + b"".join(map(whole, value)) + b"t"
        return f"I{value}\n".encode()

    storage = b"(U\x07storagectorch\n" + kind.encode() + b"\nU\x010U\x03cpu" + whole(numel) + b"tQ"
    arguments = storage + whole(offset) + whole(shape) + whole(stride) + b"I00\n}"
    return b"\x80\x02}U\x01actorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tRs."


def test_the_views_of_these_tests_are_right(tmp_path):
    assert read_pth(hostile(tmp_path, view(2, 0, (2,), (1,)), "zip"))["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((2, 0, (3,), (1,)), "ends at number 3 of a storage of 2"),
        ((2, 1, (2,), (1,)), "ends at number 3"),
        ((2, 0, (2,), (2,)), "ends at number 3"),
        ((2, -1, (2,), (1,)), "negative"),
        ((2, 0, (-2,), (1,)), "negative"),
        ((2, 1, (2,), (-1,)), "negative"),
        ((2, 0, (2,), (1, 1)), "strides"),
        ((2, 0, (1,) * 40, (1,) * 40), "has shape"),
        ((2, 0, (10**9, 10**9), (0, 0)), "repeats a storage of 2 numbers"),
        ((2, 3, (0,), (1,)), "ends at number 3"),
        ((2, 0, (2**70,), (1,)), "ends at number"),
        ((10**15, 0, (2,), (1,)), "bytes for storage '0'"),
        ((-2, 0, (2,), (1,)), "without a size"),
        ((2, 0, (2,), (1,), "DoubleStorage"), "bytes for storage '0'"),
    ],
)
def test_views_outside_of_their_storage(tmp_path, numbers, words):
    assert words in refusal(hostile(tmp_path, view(*numbers), "zip"))


def test_a_small_file_cannot_fill_the_memory(save, monkeypatch):
    base = torch.ones(10_000)
    shared = {str(i): base for i in range(50)}
    assert "has tensors of 2,000,000 bytes in a file of" in refusal(save(shared))
    monkeypatch.setattr(pth, "MAX_TIMES_SHARED", 100)
    assert len(read_pth(save(shared))) == 50


def test_compressed_and_doubled_entries(tmp_path):
    path = torch_zip(tmp_path, {"a": torch.zeros(1000)})
    packed, twice = tmp_path / "packed.pth", tmp_path / "twice.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "is compressed" in refusal(packed)
    twice.write_bytes(path.read_bytes())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(twice, "a") as new:
        new.writestr("inner/data/0", b"\1" * 4000)
    assert "two entries of one name" in refusal(twice)


# --- damaged files -------------------------------------------------------------------------------------------------


def small() -> dict[str, torch.Tensor]:
    return {
        "a.weight": torch.arange(6.0).reshape(2, 3).t(),
        "a.bias": nn.Parameter(torch.ones(2)),
        "n": torch.tensor(3),
    }


def only_good_or_refused(path: Path) -> bool:
    """Whether it was read; anything but a good result or our error fails the test."""
    try:
        found = read_pth(path)
    except ModelFileError:
        return False
    assert all(isinstance(name, str) and tensor.is_contiguous() for name, tensor in found.items())
    return True


def test_truncated_files(save):
    path = save(small())
    content = path.read_bytes()
    assert only_good_or_refused(path)
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        assert not only_good_or_refused(path), length


def test_flipped_bytes(save):
    path = save(small())
    content = path.read_bytes()
    rng = random.Random(20)
    refused = 0
    for _ in range(1500):
        torn = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            torn[rng.randrange(len(torn))] = rng.randrange(256)
        path.write_bytes(torn)
        refused += not only_good_or_refused(path)
    assert refused > 300


def test_flipped_bytes_of_the_program(tmp_path):
    """Behind the zip's check sum, where most flips of the test above end."""
    inner = torch_zip(tmp_path, small())
    body = data_pickle(inner)
    rng = random.Random(21)
    refused = 0
    for _ in range(800):
        torn = bytearray(body)
        for _ in range(rng.randint(1, 3)):
            torn[rng.randrange(len(torn))] = rng.randrange(256)
        refused += not only_good_or_refused(with_pickle(inner, tmp_path / "torn.pth", bytes(torn)))
    assert 200 < refused < 800


def test_missing_and_other_files(tmp_path):
    assert "does not exist" in refusal(tmp_path / "no.pth")
    for content in (b"", b"\x80", b"PK\x03\x04", b"hello", b"\x89HDF\r\n", pickle.dumps({"a": 1})):
        path = tmp_path / "other.pth"
        path.write_bytes(content)
        refusal(path)
    refusal(tmp_path)
