"""Nets as TensorFlow Lite: what LiteRT makes of the files is what ONNX Runtime makes of the ONNX form."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from helpers.nets import picture
from helpers.quantized_nets import NETS, trained
from pocketseg.errors import ModelFileError
from pocketseg.exporters.onnx import onnx_file
from pocketseg.exporters.tflite import litert_forward, tflite_file
from pocketseg.nets import build
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.pipeline import METADATA_KEY
from pocketseg.quant import integer_net

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra tflite)")
PIPELINE = Pipeline(size=(16, 24))
FLOATS = {name: NETS[name] for name in ("thin_unet", "thin_unet_w32_n4_separable", "mobilenet_v1_025_unet")}


def both(core: torch.nn.Module) -> tuple[np.ndarray, np.ndarray, bytes]:
    """Logits by ONNX Runtime and by LiteRT, and the file."""
    core.eval()
    onnx = onnx_file(core, PIPELINE, {"description": "größe"}, Path("here"))
    images = picture(3, 1, 16, 24, seed=5).numpy()
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    content = tflite_file(onnx, Path("here"))
    return session.run(None, {"image": images})[0], litert_forward(content)(images), content


def parts(content: bytes):
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    codes = [code.builtinCode for code in model.operatorCodes]
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    operators = model.subgraphs[0].operators
    kinds = Counter(names[codes[each.opcodeIndex]] for each in operators)
    tensors = model.subgraphs[0].tensors
    integers = sum(
        names[codes[each.opcodeIndex]].endswith("CONV_2D") and tensors[each.outputs[0]].type == schema.TensorType.INT8
        for each in operators
    )
    return model, kinds, integers


@pytest.mark.parametrize("name", FLOATS)
def test_float_nets(name):
    torch.manual_seed(0)
    net = build(name, 1, 1, seed=3, **FLOATS[name])
    net.train()(picture(4, 1, 16, 24, seed=1))  # norms have seen something
    try:
        wanted, found, _ = both(net.core)
    except ModelFileError as error:
        assert "is not written" in str(error), error
        pytest.skip(str(error))
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.whole
@pytest.mark.parametrize(
    ("name", "scheme", "at_least"),
    [("thin_unet", "w8a8", 10), ("thin_unet", "w2a8", 10), ("thin_unet_w32_n4_separable", "w4a8", 15)],
)
def test_quantized_nets_stay_integers(name, scheme, at_least):
    """A code may be another beside a tie, where one runtime multiplies and the other divides."""
    wanted, found, content = both(integer_net(trained(name, scheme).core))
    assert wanted.std() > 1e-3
    assert np.mean(np.abs(found - wanted) > 1e-4 * np.abs(wanted).max()) < 0.01
    np.testing.assert_allclose(found, wanted, atol=0.1 * wanted.std())
    assert parts(content)[2] >= at_least, "all convolutions but the last and those before a norm"


def test_what_the_file_says_of_itself():
    _, _, content = both(integer_net(trained("thin_unet", "w8a8").core))
    model, kinds, _ = parts(content)
    assert content[4:8] == b"TFL3" and model.version == 3
    (entry,) = model.metadata
    card = json.loads(bytes(model.buffers[entry.buffer].data))
    assert entry.name.decode() == METADATA_KEY
    assert card["pipeline"]["size"] == [16, 24] and card["description"] == "größe"
    assert kinds["DEQUANTIZE"] == 1 and kinds["QUANTIZE"] == 1, "but the image and the logits all is integers"


def test_a_quantizer_changes_nothing_but_what_it_gives():
    """Beside it the same value is pooled as floats, above the largest code."""
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Relu", ["image"], ["value"]),
        helper.make_node("QuantizeLinear", ["value", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["rounded"]),
        helper.make_node("MaxPool", ["value"], ["whole"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("MaxPool", ["rounded"], ["cut"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Add", ["whole", "cut"], ["logits"]),
    ]
    image, logits = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, side, side])
        for name, side in (("image", 8), ("logits", 4))
    )
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [1 / 255]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [0]),
    ]
    model = helper.make_model(
        helper.make_graph(nodes, "net", [image], [logits], constants),
        opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
    )  # fmt: skip
    helper.set_model_props(model, {METADATA_KEY: "{}"})
    content = model.SerializeToString()
    planes = 2 * picture(1, 2, 8, 8, seed=5).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"image": planes})
    assert wanted.max() > 2, "something is above the grid"
    np.testing.assert_allclose(litert_forward(tflite_file(content, Path("here")))(planes), wanted, atol=1e-5)


@pytest.mark.parametrize("scheme", ["w4a4", "w2a1"])
def test_what_has_no_form_is_refused_by_name(scheme):
    with pytest.raises(ModelFileError, match=r"is not written|has no integer convolution"):
        both(integer_net(trained("thin_unet", scheme).core))
