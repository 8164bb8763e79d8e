"""The exam of every scheme on four nets: a training step, integer evaluation against NumPy, packed storage."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from helpers.nets import picture
from helpers.quantized_nets import NETS, PUBLISHED, SCHEMES, trained
from pocketseg.errors import ModelFileError
from pocketseg.nets import build
from pocketseg.quant import (
    Scheme,
    calibrate,
    integer_net,
    integer_skeleton,
    nominal,
    pack_net,
    quantize_net,
    storage,
    unpack_net,
)
from pocketseg.quant.encodings import packed_codes
from pocketseg.quant.layers import Affine, IntegerConv2d, QuantConv2d
from pocketseg.quant.stored import _numbers

every_net = pytest.mark.parametrize("name", NETS)
every_scheme = pytest.mark.parametrize("text", [*SCHEMES, *PUBLISHED])


# --- the reference ----------------------------------------------------------------------------------------


def codes_of(layer: IntegerConv2d, x: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    """Whole numbers of the padded input, by the definition of each quantizer, in NumPy's f32 and int64."""
    spec, scale = layer.input_spec, layer.scale.numpy()
    kind = type(spec).__name__
    if kind == "Int":
        codes = np.rint(x * (np.float32(1) / scale)) + layer.zero_point.numpy()
        return [np.clip(codes, 0, 2**spec.bits - 1).astype(np.int64) - int(layer.zero_point)]
    if kind == "Fixed":
        highest = 2 ** (spec.i + spec.f) - 1
        return [np.clip(np.rint(x * np.float32(2.0**spec.f)), -highest, highest).astype(np.int64)]
    if kind == "PowerOfTwo":
        size = np.abs(x)
        power = np.rint(np.log2(np.where(size == 0, 1, size).astype(np.float64)))
        whole = np.where((size == 0) | (power < -spec.f), 0, 2.0 ** (np.minimum(power, spec.i - 1) + spec.f))
        return [(whole * np.sign(x)).astype(np.int64)]
    if kind == "PublishedInt":
        low, width = layer.span.numpy()
        codes = np.floor(np.float32(2**spec.n) * ((x - low) / width)) - 2 ** (spec.n - 1)
        return [np.clip(codes, -(2 ** (spec.n - 1)), 2 ** (spec.n - 1)).astype(np.int64)]
    if kind == "PublishedFixed":
        size, (i, f) = np.abs(x), (np.float32(2**spec.i), np.float32(2**spec.f))
        whole = np.floor(size)
        parts = np.rint(np.minimum(whole, i - 1) * i) / i, np.rint(np.minimum(size - whole, f - 1) * f) / f
        return [(np.sign(x) * (parts[0] + parts[1]) * f).astype(np.int64)]
    if kind == "PublishedPowers":
        power = np.rint(np.log2(np.where(x == 0, 1e-30, np.abs(x)).astype(np.float64)))
        limit = (2.0 ** (spec.i - 1) if spec.i else 0) + (1 - 2.0**-spec.f if spec.f else 0)
        whole = np.where(power < -15, 0, np.minimum(2.0**power, limit)) * 2**15
        return [(whole * np.sign(x)).astype(np.int64)]
    if kind == "PublishedSign":
        return [np.sign(x).astype(np.int64)]
    planes = []
    for gamma in scale.reshape(-1):
        sign = np.where(x >= 0, 1, -1)
        planes.append(sign.astype(np.int64))
        x = x - np.float32(gamma) * sign.astype(np.float32)
    return planes


def convolved(numbers: NDArray[np.int64], kernel: NDArray[np.int64], groups: int, stride: int) -> NDArray[np.int64]:
    """Sums of products over a padded input (n, i, h, w) with kernels (o, i/groups, k, k)."""
    count, _, height, width = numbers.shape
    out_channels, inside, k, _ = kernel.shape
    rows, columns = height - k + 1, width - k + 1
    out = np.zeros((count, out_channels, -(-rows // stride), -(-columns // stride)), np.int64)
    for o in range(out_channels):
        first = o // (out_channels // groups) * inside
        for i in range(inside):
            for row in range(k):
                for column in range(k):
                    window = numbers[:, first + i, row : row + rows : stride, column : column + columns : stride]
                    out[:, o] += window * kernel[o, i, row, column]
    return out


def reference(layer: IntegerConv2d, x: NDArray[np.float32]) -> NDArray[np.float32]:
    pad = layer.padding[0]
    m, b = layer.m.numpy(), layer.b.numpy()
    total = None
    around = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    # Zeros are padded before they are quantized: for all quantizers but planes of signs that is the code of 0. Those of
    # the study's INT are padded behind it, as there, where 0 has another code.
    if layer.span is None:
        inputs = codes_of(layer, np.pad(x, around))
    else:
        inputs = [np.pad(numbers, around) for numbers in codes_of(layer, x)]
    for p, kernel in enumerate(layer.codes.numpy().astype(np.int64)):
        for q, numbers in enumerate(inputs):
            acc = convolved(numbers, kernel, layer.groups, layer.stride[0]).astype(np.float32)
            part = acc * m[p, q][:, None, None]
            total = part if total is None else total + part
    return total + b[:, None, None]


# --- the exam ---------------------------------------------------------------------------------------------


@every_net
@every_scheme
def test_integer_evaluation_equals_the_reference(name, text):
    whole = integer_net(trained(name, text).core)
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []
    for module in whole.modules():
        if isinstance(module, IntegerConv2d | Affine):
            module.register_forward_hook(lambda layer, given, out: seen.append((layer, given[0].clone(), out.clone())))
    whole(picture(2, 1, 16, 24, seed=9))
    integer = [(layer, x, y) for layer, x, y in seen if isinstance(layer, IntegerConv2d) and layer.input_spec]
    assert len(integer) >= 3
    for layer, x, y in integer:
        assert np.array_equal(reference(layer, x.numpy()), y.numpy())
    for layer, x, y in ((layer, x, y) for layer, x, y in seen if isinstance(layer, Affine)):
        expected = x.numpy() * layer.a.numpy()[:, None, None] + layer.c.numpy()[:, None, None]
        assert np.array_equal(expected, y.numpy())


@every_net
@every_scheme
def test_integers_mean_what_was_trained(name, text):
    """Integer evaluation and fake quantization differ by the rounding of sums only, which moves few codes."""
    net = trained(name, text).eval()
    images = picture(2, 1, 16, 24, seed=9)
    with torch.no_grad():
        simulated, whole = net(images), integer_net(net.core)(images)
    assert (simulated - whole).abs().median() < 1e-3 * simulated.abs().max()
    # One sign that falls the other way in a net of signs changes a neighborhood of its pixel altogether.
    assert text == "w1a1" or (simulated - whole).norm() < 0.2 * simulated.norm()


@every_net
@every_scheme
def test_a_training_step_moves_weights_and_scales(name, text):
    if text in PUBLISHED and name != "fixed_point_unet":
        return  # without a norm behind each of them, unscaled numbers silence layers: the study has one net
    net = trained(name, text)
    assert any(isinstance(module, QuantConv2d) for module in net.modules())
    net.train()(picture(4, 1, 16, 24)).square().mean().backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    kernels = [p.grad.any() for key, p in net.named_parameters() if key.endswith("weight") and p.ndim == 4]
    assert sum(map(bool, kernels)) >= len(kernels) - 1


@every_net
@every_scheme
def test_packed_and_taken_out_again(name, text):
    whole = integer_net(trained(name, text).core)
    packed = pack_net(whole)
    other = integer_skeleton(build(name, 1, 1, seed=99, **NETS[name]).core, Scheme(text))
    images = picture(2, 1, 16, 24, seed=5)
    assert not torch.equal(other.eval()(images), whole(images))
    unpack_net(other, packed, "here")
    assert torch.equal(other(images), whole(images))
    rows = storage(whole)
    kept = {row.name for row in rows}
    others = sum(
        4 * value.numel()
        for key, value in whole.state_dict().items()
        if key.rpartition(".")[0] not in kept and value.is_floating_point()
    )
    assert len(packed) == sum(row.bytes for row in rows) + others
    for wrong in (packed[:-4], torch.cat([packed, packed[:4]])):
        with pytest.raises(ModelFileError, match=r"here: holds \d+ bytes of weights, its net needs"):
            unpack_net(other, wrong, "here")


@every_scheme
def test_what_version_1_packed_is_read(text):
    """A factor for every channel of every pair of planes."""
    whole = integer_net(trained("thin_unet", text).core)
    old = b"".join(
        pack_codes(owner, value) if name == "codes" else value.numpy().astype("<f4").tobytes()
        for owner, name, value in _numbers(whole)
    )
    other = integer_skeleton(build("thin_unet", 1, 1, seed=99, **NETS["thin_unet"]).core, Scheme(text))
    images = picture(2, 1, 16, 24, seed=5)
    unpack_net(other.eval(), torch.frombuffer(bytearray(old), dtype=torch.uint8), "here", packing=1)
    assert torch.equal(other(images), whole(images)) and len(pack_net(whole)) <= len(old) + 99
    with pytest.raises(ModelFileError, match="packing 3"):
        unpack_net(other, pack_net(whole), "here", packing=3)


def pack_codes(layer, codes) -> bytes:
    return packed_codes(layer.weight_spec, codes).tobytes()


def test_factors_that_all_channels_share_are_stored_once():
    """BLU-Net with three planes of each: what the paper counts is what the file has."""
    net = build("separable_unet", 1, 1, seed=1)
    for name, parameter in net.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    quantize_net(net.core, Scheme.of({"scheme": "residual w3a3", "keep": []}))
    calibrate(net.core, [picture(1, 1, 32, 32)])
    bits, floats = nominal(net.core)
    assert (bits, floats) == (11_780_352, 7_044)
    packed = len(pack_net(integer_net(net.core)))
    assert packed / 2**20 == pytest.approx(1.43, abs=0.01)


@every_scheme
def test_what_is_counted(text):
    whole = integer_net(trained("thin_unet", text).core)
    (row,) = (row for row in storage(whole) if row.name == "decoder.0.0")
    layer = whole.get_submodule("decoder.0.0")
    bits = {"w8a8": 8, "w2a8": 2, "wint2a8": 2, "w1a8": 1, "w2a1": 2, "w1a1": 1, "fixed Q0.4/Q6.0": 5,
            "fixed Q8.8/Q8.8": 17, "power-of-two Q0.4/Q6.0": 4,
            "power-of-two Q1.8/Q4.4": 5, "residual w2a2": 2, "residual w3a3": 3, "compat int 4/6": 5,
            "compat fixed Q0.4/Q6.0": 6, "compat powers Q0.4/Q6.0": 16, "compat bnn": 2}  # fmt: skip
    weights = 12 * 6 * 9
    assert row.bits == bits.get(text, 4) == layer.weight_spec.bits
    assert row.nominal_bits == weights * row.bits
    # Planes begin at a byte each; everything else is one stream.
    assert weights % 8 == 0 and row.packed_bytes == weights * row.bits // 8
    assert 1 < row.levels <= 2**row.bits
    assert row.zeros == pytest.approx((layer.codes == 0).all(0).float().mean().item())
    without = ("w1a8", "w1a1", "residual w2a2", "residual w3a3", "compat powers Q0.4/Q6.0", "compat bnn")
    assert (row.zeros > 0) == (text not in without)
