"""Quantized nets as ONNX: uint8 activations, int8 weights, the masks of the integer net, and who is refused."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from helpers.quantized_nets import PUBLISHED, SCHEMES, picture, trained
from pocketseg.errors import ModelFileError
from pocketseg.exporters import compare, export_onnx, qdq
from pocketseg.exporters.floats import float_graph
from pocketseg.exporters.onnx import MAX_SHARE, Parity, onnx_file
from pocketseg.exporters.qdq import QdqConv2d, with_qdq
from pocketseg.grids import Uniform
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import load_onnx
from pocketseg.quant import Fixed, Int, integer_net
from pocketseg.quant.layers import IntegerConv2d, QuantConv2d

PIPELINE = Pipeline(size=(16, 24))
NETS = ("thin_unet", "thin_unet_w32_n4_separable", "fixed_point_unet")


def exported(name, text, folder):
    whole = integer_net(trained(name, text).core)
    export_onnx(whole, PIPELINE, {}, folder / "model.onnx")
    return whole, folder / "model.onnx"


def session(path, options=None):
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def operations(path):
    return [node.op_type for node in onnx.load(path).graph.node]


def onnx_by_hand(name, inputs, dtype, shape, attributes=None):
    """The three operations as ONNX defines them."""
    x, scale, zero_point = inputs
    if name == "Clip":
        return x.clamp(scale, zero_point)
    if name == "QuantizeLinear":
        return (torch.round(x / scale) + zero_point.float()).clamp(0, 255).to(torch.uint8)
    each = [-1] + [1] * (x.ndim - 1) if scale.ndim else []
    return (x.float() - zero_point.float().reshape(each)) * scale.reshape(each)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("text", ["w8a8", "w4a8", "w2a8", "w4a4", "fixed Q0.4/Q2.4"])
def test_every_layer_means_the_same(name, text, monkeypatch):
    """The bias is rounded to its unit; nothing else is."""
    monkeypatch.setattr(qdq, "_onnx", onnx_by_hand)
    whole = integer_net(trained(name, text).core)
    seen = []
    for module in whole.modules():
        if isinstance(module, IntegerConv2d):
            module.register_forward_hook(lambda layer, given, out: seen.append((layer, given[0].clone(), out.clone())))
    whole(picture(2, 1, 16, 24, seed=9))
    assert len(seen) >= 11
    for layer, x, wanted in seen:
        grid = qdq.uint8_grid(layer, "here")
        there = qdq.QdqConv2d(layer, grid)
        scale, zero_point = torch.tensor(grid.scale), torch.tensor(grid.zero_point, dtype=torch.uint8)
        found = there(qdq.DequantizeLinear(scale, zero_point)(qdq.QuantizeLinear(grid)(x)))
        allowed = 0.5 * there.biases.scale[:, None, None] + 1e-5 * wanted.abs().max()
        assert wanted.std() > 0
        # The rest lies beside a tie: multiplied or divided by the scale.
        assert ((found - wanted).abs() <= allowed).float().mean() > 0.99


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("text", ["w8a8", "w4a8", "w2a8"])
def test_the_file_computes_what_the_integer_net_does(name, text, tmp_path, monkeypatch):
    whole, path = exported(name, text, tmp_path)
    images = picture(3, 1, 16, 24, seed=9)
    wanted = whole(images).numpy()
    found = session(path).run(None, {"image": images.numpy()})[0]
    # Single codes differ and travel through a net that is close to chance; the strict exam is that of the layers.
    assert abs(found - wanted).mean() < 0.1 * wanted.std()
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    monkeypatch.setattr(qdq, "_onnx", onnx_by_hand)
    by_hand = with_qdq(whole)(images).numpy()
    found = session(path, plain).run(None, {"image": images.numpy()})[0]
    assert np.median(abs(found - by_hand)) < 1e-5 * by_hand.std()
    graph = onnx.load(path).graph
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    layers = sum(isinstance(module, IntegerConv2d) for module in whole.modules())
    quantize = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert quantize and all(stored[node.input[2]] == onnx.TensorProto.UINT8 for node in quantize)
    kernels = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert len(kernels) == layers
    assert not [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 4]


def test_onnxruntime_convolves_integers(tmp_path):
    """All but the head and what two grids read."""
    whole, path = exported("thin_unet", "w8a8", tmp_path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    session(path, options)
    found = operations(tmp_path / "optimized.onnx")
    layers = sum(isinstance(module, IntegerConv2d) for module in whole.modules())
    assert layers == 11 and found.count("QLinearConv") >= layers - 3


@pytest.mark.parametrize("text", ["w4a4", "fixed Q0.4/Q2.4", "w4", "w1a8", "power-of-two Q0.4"])
def test_other_grids_that_have_a_form(text, tmp_path):
    whole, path = exported("thin_unet", text, tmp_path)
    images = picture(3, 1, 16, 24, seed=9)
    wanted = whole(images).numpy().ravel()
    found = session(path).run(None, {"image": images.numpy()})[0].ravel()
    assert np.corrcoef(found, wanted)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("w2a1", "input: Binary"),
        ("residual w2a2", "weights: ResidualBinary"),
        ("fixed Q8.8/Q8.8", "weights: Fixed"),
        ("w8a16", "input: Int"),
        ("power-of-two Q0.4/Q6.0", "input: PowerOfTwo"),
    ],
)
def test_schemes_without_a_form_name_the_packed_file(text, what, tmp_path):
    with pytest.raises(ModelFileError, match=rf"export to onnx, layer \S+: .* {what}.* → --to onnx-floats"):
        exported("thin_unet", text, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("text", [*SCHEMES, *PUBLISHED])
def test_every_scheme_has_a_form_in_floats(name, text):
    """Layer by layer it is the integer net's arithmetic, up to the rounding of sums and what it does beside a tie."""
    if text in PUBLISHED and name != "fixed_point_unet":
        return  # without a norm behind each of them, unscaled numbers overflow: the study has one net
    whole = integer_net(trained(name, text).core)
    seen = []
    for place, module in whole.named_modules():
        if isinstance(module, IntegerConv2d):
            module.register_forward_hook(
                lambda _, given, out, place=place: seen.append((place, given[0].clone(), out.clone()))
            )
    whole(picture(2, 1, 16, 24, seed=9))
    floats = float_graph(whole)
    assert seen and not any(isinstance(module, IntegerConv2d | QuantConv2d) for module in floats.modules())
    for place, x, wanted in seen:
        apart = (floats.get_submodule(place)(x) - wanted).abs() > 1e-4 * wanted.abs().max()
        assert wanted.isfinite().all() and apart.float().mean() < 0.01, place


LONG = pytest.mark.slow("each export takes ten seconds; one kind of planes and one of the study stay")


@pytest.mark.parametrize(
    "text",
    [
        "residual w2a2", "compat fixed Q0.4/Q6.0",
        *[pytest.param(text, marks=LONG) for text in (
            "w8a8", "w1a1", "fixed Q8.8/Q8.8", "power-of-two Q0.4/Q6.0", "compat int 4/6", "compat powers Q0.4/Q6.0",
            "compat bnn",
        )],
    ],
)  # fmt: skip
def test_the_graph_of_floats_runs_as_onnx(text, tmp_path):
    whole = integer_net(trained("fixed_point_unet", text).core)
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_file(whole, PIPELINE, {}, path, floats=True))
    images = picture(3, 1, 16, 24, seed=9)
    found, wanted = session(path).run(None, {"image": images.numpy()})[0], float_graph(whole)(images).numpy()
    # A code beside a tie may be another, and travels through the net.
    assert np.median(abs(found - wanted)) < 0.05 * wanted.std()
    kernels = [t for t in onnx.load(path).graph.initializer if len(t.dims) == 4]
    assert kernels and all(tensor.data_type == onnx.TensorProto.FLOAT for tensor in kernels)


def one_layer(weights, inputs, norm=None):
    """The integer form of one convolution on a grid whose scale is a power of two, so that nothing is rounded again."""
    generator = torch.Generator().manual_seed(3)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator))
        conv.bias.copy_(torch.randn(4, generator=generator))
    layer = QuantConv2d(conv, weights, inputs)
    layer.inputs.observe(torch.tensor([-1.0, layer.inputs.spec.highest / 2**6 - 1.0]))
    return IntegerConv2d(layer.eval(), *(() if norm is None else norm))


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("inputs", [Int(8, affine=True), Fixed(1, 6)])
def test_weights_and_bias_mean_the_same(bits, inputs):
    """Negative and vanishing factors of a norm, and a bias that its unit could not hold."""
    factor = torch.tensor([1.5, -2.0, 0.0, 1e-14], dtype=torch.float64)
    offset = torch.tensor([0.1, 0.2, -0.3, 4.0], dtype=torch.float64)
    if isinstance(inputs, Fixed):
        layer = QuantConv2d(nn.Conv2d(3, 4, 3, padding=1), Int(bits, axis=0), inputs).eval()
        layer = IntegerConv2d(layer, factor, offset)
    else:
        layer = one_layer(Int(bits, axis=0), inputs, (factor, offset))
    grid = Uniform(128, 0, 255, float(layer.scale), float(1 / layer.scale))
    found = QdqConv2d(layer, grid)
    scale, bias_scale = found.weights.scale.double(), found.biases.scale.double()
    meant = found.codes.double() * scale[:, None, None, None] * grid.scale
    wanted = layer.codes[0].double() * layer.m[0, 0].double()[:, None, None, None]
    assert (meant - wanted).abs().max() < 1e-6 * wanted.abs().max()
    assert (meant[1] * layer.codes[0, 1]).sum() < 0 < (meant[0] * layer.codes[0, 0]).sum()
    assert torch.allclose(found.bias.double() * bias_scale, layer.b.double(), rtol=0, atol=float(bias_scale.max()))
    assert found.codes.abs().max() == {8: 127, 4: 63, 2: 64}[bits]


def test_a_quantizer_stands_behind_the_producer():
    """Pooling and concatenation run on codes: what enters them was dequantized."""
    graph = with_qdq(integer_net(trained("thin_unet", "w8a8").core)).graph
    pools = [node for node in graph.nodes if "max_pool" in node.name or node.name.startswith("cat")]
    assert len(pools) == 4
    for node in pools:
        assert all(str(before.target).startswith("grid_") for before in node.all_input_nodes)
    # Bilinear upsampling does not commute.
    graph = with_qdq(integer_net(trained("fixed_point_unet", "w8a8").core)).graph
    ups = [node for node in graph.nodes if str(node.target).startswith("ups.")]
    assert ups and not any(str(node.args[0].target).startswith("grid_") for node in ups)


def test_parity_counts_pixels(tmp_path):
    _, path = exported("thin_unet", "w8a8", tmp_path)
    model = load_onnx(path)
    image = picture(16, 24).numpy()
    same = compare(model.pipeline, model.forward, model.forward, [(image, None)], quantized=True)
    assert same.holds and same.share == 0 and same.pixels == 16 * 24
    flipped = compare(model.pipeline, model.forward, lambda x: -model.forward(x), [(image, None)], quantized=True)
    assert not flipped.holds and flipped.share > 0.9
    assert Parity(1, 0.5, 0, 2, 1000, quantized=True).holds and not Parity(1, 0.5, 0, 2, 1000).holds
    assert not Parity(1, 0.0, 1, 2, 1000, quantized=True).holds and MAX_SHARE == 0.002
