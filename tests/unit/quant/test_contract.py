"""The exam that every quantizer takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketseg.errors import TrainingError
from pocketseg.grids import PowersOfTwo, Uniform
from pocketseg.quant import (
    QUANTIZERS,
    Binary,
    Codes,
    Fixed,
    Int,
    Planes,
    PowerOfTwo,
    Quantizer,
    ResidualBinary,
    Ternary,
)
from pocketseg.quant.encodings import packed_codes, unpacked_codes
from pocketseg.quant.packing import pack, unpack
from pocketseg.quant.published import PublishedFixed, PublishedInt, PublishedPowers, PublishedSign

SPECS = [
    *[Int(bits) for bits in (2, 3, 4, 5, 6, 7, 8, 16)],
    *[Int(bits, affine=True) for bits in (2, 3, 4, 8, 16)],
    Int(8, axis=0),
    Int(4, affine=True, axis=1),
    Int(4, rule="percentile", percentile=99.0),
    Int(4, affine=True, axis=0, rule="percentile"),
    Int(3, rule="mse"),
    Int(3, affine=True, axis=0, rule="mse"),
    Int(4, rule="learned"),
    Int(4, axis=0, rule="learned"),
    Int(8, affine=True, rule="learned"),
    Fixed(0, 4),
    Fixed(6, 0),
    Fixed(8, 8),
    PowerOfTwo(0, 4),
    PowerOfTwo(2, 3),
    Ternary(),
    Ternary(axis=None),
    Binary(),
    Binary("mean", axis=0),
    Binary("mean", "approx-sign"),
    *[ResidualBinary(planes) for planes in (1, 2, 3, 4)],
    ResidualBinary(2, axis=0),
    ResidualBinary(3, axis=1),
    ResidualBinary(2, start="source"),
    *[PublishedInt(n) for n in (1, 4, 8)],
    *[PublishedFixed(i, f) for i, f in ((0, 2), (0, 4), (6, 0), (2, 3))],
    *[PublishedPowers(i, f) for i, f in ((0, 4), (6, 0), (8, 8))],
    PublishedSign(),
]
# As published, and odd: numbers whose values are no longer near to what they stand for, or wrap.
ODD = PublishedInt | PublishedFixed
each_spec = pytest.mark.parametrize("spec", SPECS, ids=repr)


def sample(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (6, 5, 3, 3)), generator=torch.Generator().manual_seed(7))


def bits_of(x: torch.Tensor) -> np.ndarray:
    """Told apart: +0.0 and −0.0."""
    assert x.dtype == torch.float32
    return x.detach().numpy().view(np.int32)


def test_every_kind_is_examined():
    assert {type(spec) for spec in SPECS} == set(QUANTIZERS.values())


@each_spec
def test_integers_times_scale_are_the_values_bit_for_bit(spec):
    x = sample()
    x[0, 0, 0, :] = torch.tensor([0.0, -0.0, 1e-9])
    quantized = spec.quantize(x)
    if isinstance(quantized, Codes):
        assert quantized.codes.dtype == torch.int32
        codes = quantized.codes.numpy().astype(np.float64)
        shape = [1] * 4
        if spec.axis is not None:
            shape[spec.axis] = -1
        if quantized.zero_point is not None:
            assert quantized.zero_point.dtype == torch.int32
            codes = codes - quantized.zero_point.numpy().reshape(shape)
        # The product is exact in f64, so this rounds once.
        expected = (codes * quantized.scale.numpy().astype(np.float64).reshape(shape)).astype(np.float32)
    else:
        assert quantized.planes.dtype == torch.int8
        assert set(np.unique(quantized.planes)) == {-1, 1}
        gamma = quantized.gamma.numpy()
        shape = [len(gamma)] + [1] * 4
        if spec.axis is not None:
            shape[1 + spec.axis] = -1
        expected = np.zeros(x.shape, np.float32)
        for term in quantized.planes.numpy().astype(np.float32) * gamma.reshape(shape):
            expected = expected + term
    np.testing.assert_array_equal(bits_of(quantized.values()), expected.view(np.int32))
    assert np.abs(expected).max() > 0


@each_spec
def test_quantizing_the_values_again_changes_nothing(spec):
    x = sample()
    measured = spec.measure(x)
    if isinstance(spec, ODD):
        return
    if isinstance(spec, ResidualBinary):
        # It holds where each gamma is larger than the sum of those after it.
        measured = measured[:1] * 0.45 ** torch.arange(spec.planes).reshape(-1, *[1] * (measured.ndim - 1))
    state = spec.state(measured)
    first = spec.quantize(x, state).values()
    np.testing.assert_array_equal(bits_of(spec.quantize(first, state).values()), bits_of(first))
    assert (first != x).any()


@each_spec
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_inf_are_errors(spec, bad):
    x = sample()
    state = spec.state(spec.measure(x))
    x[3, 2, 1, 1] = bad
    with pytest.raises(TrainingError, match="1 of 270 values are nan or inf"):
        spec.quantize(x, state)
    with pytest.raises(TrainingError, match="1 of 270 values are nan or inf"):
        Quantizer(spec, of="weights").eval()(x) if not spec.learned else spec.quantize(x)


@each_spec
@pytest.mark.parametrize(
    "x", [torch.zeros(4, 3), torch.full((4, 3), -0.25), torch.full((1, 1), 2.0), torch.zeros(1, 1)]
)
def test_constant_tensors_are_defined(spec, x):
    values = spec.quantize(x).values()
    assert values.isfinite().all()
    if spec == ResidualBinary(2, start="source") or spec == Binary() or isinstance(spec, PublishedInt):
        return
    if not x.any():
        np.testing.assert_array_equal(bits_of(values), 0)
    elif isinstance(spec, Ternary | Binary | ResidualBinary) or (isinstance(spec, Int) and not spec.learned):
        # One level suffices, so a constant comes back (up to the rounding of the scale).
        torch.testing.assert_close(values, x, rtol=1e-6, atol=0)


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.axis is not None], ids=repr)
def test_a_channel_of_zeros_stays_zero_beside_others(spec):
    x = sample()
    x.select(spec.axis, 1).zero_()
    values = spec.quantize(x).values()
    assert values.isfinite().all()
    assert not values.select(spec.axis, 1).any()
    assert values.select(spec.axis, 2).any()


@each_spec
@pytest.mark.parametrize("of", ["weights", "activations"])
def test_evaluation_is_values_of_quantize_and_training_gives_the_same_numbers(spec, of):
    x = sample()
    channels = None if spec.axis is None else x.shape[spec.axis]
    quantizer = Quantizer(spec, of=of, channels=channels)
    quantizer(x * 1.5)
    quantizer.observing = False
    trained = quantizer(x)
    evaluated = quantizer.eval()(x)
    if spec.by_batch and of == "activations":
        trained = evaluated  # in training they have the range of their batch
    np.testing.assert_array_equal(bits_of(evaluated), bits_of(quantizer.quantize(x).values()))
    assert torch.equal(evaluated, trained)  # where training may keep −0.0
    assert not evaluated.requires_grad
    loaded = Quantizer(spec, of=of, channels=channels).eval()
    loaded.load_state_dict(quantizer.state_dict())
    np.testing.assert_array_equal(bits_of(evaluated), bits_of(loaded(x)))


@each_spec
def test_codes_survive_packing(spec):
    quantized = spec.quantize(sample())
    codes = quantized.planes if isinstance(quantized, Planes) else quantized.codes[None]
    if spec.has_zero_point:  # unsigned, and for activations only
        codes = codes[0].numpy()
        np.testing.assert_array_equal(unpack(pack(codes, spec.bits), spec.bits, codes.size), codes.reshape(-1))
        return
    packed = packed_codes(spec, codes)
    bits = 1 if spec.encoding == "signs" else spec.bits
    assert len(packed) == len(codes) and packed.size == len(codes) * -(-bits * codes[0].numel() // 8)
    assert torch.equal(unpacked_codes(spec, packed, codes), codes)


@each_spec
def test_a_kind_is_what_it_says_of_itself(spec):
    x = sample()
    state = spec.state(spec.measure(x))
    values = spec.quantize(torch.cat([x, torch.zeros(6, 5, 3, 1)], 3), state).values()
    assert (state.zero_point is not None) == spec.has_zero_point
    assert bool((values == 0).any()) == spec.has_zero
    grid = spec.grid(state)
    if grid is None:
        return
    assert spec.axis is None
    if isinstance(grid, Uniform):
        codes = torch.round(x * np.float32(grid.inverse_scale)) + grid.zero_point
        meant = (codes.clamp(grid.lowest, grid.highest) - grid.zero_point) * np.float32(grid.scale)
    elif isinstance(grid, PowersOfTwo):
        codes = spec.quantize(x, state).codes.abs()
        assert codes.max() <= 2 ** (grid.i + grid.f - 1) and spec.encoding == "powers"
        return
    else:
        meant, rest = torch.zeros_like(x), x
        for gamma in grid.gammas:
            part = torch.where(rest >= 0, gamma, -gamma)
            meant, rest = meant + part, rest - part
    torch.testing.assert_close(spec.quantize(x, state).values(), meant, rtol=1e-6, atol=1e-6)


@each_spec
def test_a_gradient_comes_back_in_every_precision(spec):
    for dtype in (torch.float32, torch.bfloat16):
        x = sample().to(dtype).requires_grad_()
        channels = None if spec.axis is None else x.shape[spec.axis]
        quantizer = Quantizer(spec, of="weights", channels=channels)
        quantizer(x).sum().backward()
        assert x.grad.dtype == dtype and x.grad.isfinite().all() and x.grad.any()
        assert all(parameter.grad.any() for parameter in quantizer.parameters())


@each_spec
def test_training_in_bf16_and_channels_last_is_the_same_arithmetic_rounded_once(spec):
    x = torch.cat([sample(), torch.zeros(1, 5, 3, 3), -torch.zeros(1, 5, 3, 3)]).bfloat16()
    x = x.contiguous(memory_format=torch.channels_last)
    state = spec.state(spec.measure(x.float()))
    values = spec.fake(x, state)
    assert values.dtype == torch.bfloat16 and values.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(values, spec.encode(x.float(), state).values().bfloat16())


@each_spec
def test_slices_that_fit_a_cache_give_what_the_whole_gives(spec, monkeypatch):
    found = []
    for cached in (10**6, 100):
        monkeypatch.setattr("pocketseg.quant.quantizer.CACHED", cached)
        x = sample().requires_grad_()
        quantizer = Quantizer(spec, of="activations", channels=None if spec.axis is None else x.shape[spec.axis])
        out = quantizer(x)
        out.backward(sample(6, 5, 3, 3).flip(0))
        found.append((out, x.grad, *[parameter.grad for parameter in quantizer.parameters()]))
    for whole, sliced in zip(*found, strict=True):
        torch.testing.assert_close(sliced, whole, rtol=1e-5, atol=1e-5)
