"""What is looked at in an ONNX file before a runtime opens it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pocketseg.errors import ModelFileError
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import load_onnx, load_openvino
from pocketseg.predictors.onnx_file import read_onnx

PIPELINE = Pipeline(size=(8, 12))
CARD = {"version": 1, "pipeline": PIPELINE.to_dict()}
LOADERS = pytest.mark.parametrize("load", [load_onnx, load_openvino])


def tensor(values, kind=TensorProto.FLOAT, raw=True, name="w"):
    array = np.asarray(values, np.float32)
    shape = [1] * (4 - array.ndim) + list(array.shape)
    if kind == TensorProto.BFLOAT16:
        halves = (array.view("<u4") >> 16).astype("<u2")
        return helper.make_tensor(name, kind, shape, halves.tobytes(), raw=True)
    stored = helper.tensor_dtype_to_np_dtype(kind)
    return helper.make_tensor(name, kind, shape, array.astype(stored).tobytes() if raw else array.ravel(), raw=raw)


def write(path: Path, weights=None, card: object = CARD, size=(8, 12), metadata: bytes | None = None) -> Path:
    """A convolution 1×1 of one channel; `metadata` replaces the card's bytes."""
    weights = weights or tensor(2.0)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["images", 1, *size])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["images", 1, *size])
    nodes = [helper.make_node("Conv", ["image", "v"], ["logits"])]
    if weights.data_type != TensorProto.FLOAT:
        nodes.insert(0, helper.make_node("Cast", ["w"], ["v"], to=TensorProto.FLOAT))
    else:
        nodes.insert(0, helper.make_node("Identity", ["w"], ["v"]))
    graph = helper.make_graph(nodes, "g", [image], [logits], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content = model.SerializeToString()
    if card is not None:
        value = json.dumps(card).encode() if metadata is None else metadata
        entry = field(1, b"pocketseg") + field(2, value)
        content += field(14, entry)
    path.write_bytes(content)
    return path


def field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


@LOADERS
def test_a_whole_file_runs(tmp_path, load):
    image = np.arange(96, dtype=np.uint8).reshape(8, 12)
    found = load(write(tmp_path / "m.onnx")).predict(image)
    np.testing.assert_allclose(found[:, :, 0], 1 / (1 + np.exp(-2 * (image / 255))), atol=1e-6)


@pytest.mark.row("P13")
@LOADERS
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(tmp_path, load, odd):
    with pytest.raises(ModelFileError, match=r"m\.onnx: holds weights that are NaN or infinite"):
        load(write(tmp_path / "m.onnx", tensor(odd)))


@pytest.mark.row("P13")
@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16"])
def test_every_form_of_constants_is_looked_at(tmp_path, kind, raw):
    kind = getattr(TensorProto, kind)
    values = np.array([[0.0, -1.5, 3.0e4], [1e-3, 7, 0]])
    read_onnx(write(tmp_path / "m.onnx", tensor(values, kind, raw)))
    values[1, 2] = np.nan
    with pytest.raises(ModelFileError, match="NaN or infinite"):
        read_onnx(write(tmp_path / "m.onnx", tensor(values, kind, raw)))


@pytest.mark.row("P13")
def test_constants_inside_of_nodes_are_looked_at(tmp_path):
    path = write(tmp_path / "m.onnx")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor(np.inf)))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="NaN or infinite"):
        read_onnx(path)


@pytest.mark.row("S07")
def test_a_loop_that_need_not_end_is_refused(tmp_path):
    path = write(tmp_path / "m.onnx")
    model = onnx.load(path)
    inner = helper.make_graph([helper.make_node("Identity", ["going"], ["on"])], "inner", [], [])
    model.graph.node.append(helper.make_node("Loop", ["", "true"], ["y"], body=inner))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match="holds loops or conditions"):
        read_onnx(path)


def test_weights_in_another_file_are_refused(tmp_path):
    weights = tensor(2.0)
    onnx.external_data_helper.set_external_data(weights, "../secret")
    with pytest.raises(ModelFileError, match="keeps weights in other files"):
        read_onnx(write(tmp_path / "m.onnx", weights))


@pytest.mark.whole
@LOADERS
@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"x",
        b"[]",
        b"\xff\xfe",
        b'{"version": 1}',
        b'{"version": 1, "pipeline": {"size": ["\xff", 12]}}',
        b'{"version": "1", "pipeline": {}}',
        b'{"version": true, "pipeline": {}}',
        b'{"version": 2, "pipeline": {}}',
        b'{"pipeline": {}}',
        b"[" * 100_000,
        b'{"version": 1, "pipeline": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"version": 1, "pipeline": {"size": [8, 12], "postprocess": {"threshold": NaN}}}',
        b'{"version": 1, "pipeline": {"size": [8, ' + b"9" * 5000 + b"]}}",
        json.dumps({**CARD, "pipeline": {**CARD["pipeline"], "size": [16, 12]}}).encode(),
        json.dumps({**CARD, "pipeline": {**CARD["pipeline"], "channels": 3}}).encode(),
    ],
    ids=lambda metadata: metadata[:40],
)
def test_metadata_that_makes_no_sense_is_reported(tmp_path, load, metadata):
    with pytest.raises(ModelFileError, match=r"m\.onnx: .* → "):
        load(write(tmp_path / "m.onnx", metadata=metadata))


@LOADERS
def test_a_file_without_a_card_and_one_cut_off(tmp_path, load):
    with pytest.raises(ModelFileError, match="holds no pocketseg pipeline"):
        load(write(tmp_path / "m.onnx", card=None))
    content = write(tmp_path / "m.onnx").read_bytes()
    for end in range(0, len(content), 7):
        (tmp_path / "m.onnx").write_bytes(content[:end])
        with pytest.raises(ModelFileError):
            load(tmp_path / "m.onnx")


def test_damage_anywhere_is_reported_or_harmless(tmp_path):
    content = write(tmp_path / "m.onnx").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(2000):
        torn = bytearray(content)
        torn[rng.integers(len(torn))] = rng.integers(256)
        (tmp_path / "m.onnx").write_bytes(torn)
        with contextlib.suppress(ModelFileError):
            read_onnx(tmp_path / "m.onnx")
