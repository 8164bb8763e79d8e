"""Denormals, negative zero, huge values, and nets that were left in training mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from pocketseg.engine.session import Session
from pocketseg.exporters.onnx import export_onnx
from pocketseg.nets.catalog import build
from pocketseg.packing.compile import file_of, program_of
from pocketseg.pipeline import Pipeline
from pocketseg.quant import Int, integer_net
from pocketseg.quant.layers import QuantConv2d


@pytest.fixture
def flushed():
    """A processor that takes denormals for zero, as some programs around set it."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    yield
    torch.set_flush_denormal(False)


def odd(channels: int) -> np.ndarray:
    """f32 (1, c, 8, 8): denormals, zeros of both signs, and values up to the largest that sums stand."""
    values = np.array([1e-45, -1e-45, 1e-39, -1e-38, 0.0, -0.0, 1.0, -1.0, 3e4, -3e4, 1e-30, 1e30], np.float32)
    image = np.random.default_rng(4).choice(values, (1, channels, 8, 8))
    image[0, :, 0, 0] = 3.0
    return image


def coded() -> nn.Module:
    torch.manual_seed(5)
    layer = QuantConv2d(nn.Conv2d(3, 4, 3, padding=1), Int(8, axis=0), Int(8, affine=True))
    layer(torch.linspace(-2, 3, 3 * 64).reshape(1, 3, 8, 8))
    return integer_net(nn.Sequential(layer, nn.BatchNorm2d(4), nn.ReLU()).eval())


@pytest.mark.row("N09")
def test_codes_do_not_know_denormals(isa, flushed):
    core = coded()
    session, image = Session(file_of(program_of(core, 3), {}), "here"), odd(3)
    inside = session(image)
    torch.set_flush_denormal(False)
    outside = session(image)
    assert inside.tobytes() == outside.tobytes()
    assert np.array_equal(outside, core(torch.from_numpy(image)).numpy())
    assert np.isfinite(outside).all() and outside.any()


@pytest.mark.row("N09")
def test_zeros_have_no_sign_to_the_engine(isa):
    session = Session(file_of(program_of(coded(), 3), {}), "here")
    zeros = np.zeros((1, 3, 8, 8), np.float32)
    assert session(zeros).tobytes() == session(-zeros).tobytes()


@pytest.mark.row("N11")
def test_a_net_in_training_mode_is_exported_as_it_predicts(tmp_path):
    """Norms with statistics of their own: in training mode they would use the image's."""
    import onnxruntime

    torch.manual_seed(6)
    core = build("thin_unet", 1, 1, width=8, blocks=2).core
    for module in core.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = core.eval()(image).numpy()
    core.train()
    pipeline = Pipeline((32, 32))
    export_onnx(core, pipeline, {}, tmp_path / "a.onnx")
    core.train()
    found = onnxruntime.InferenceSession(tmp_path / "a.onnx").run(None, {"image": image.numpy()})[0]
    packed = Session(file_of(program_of(core.train(), 1), {}), "here")(image.numpy())
    assert np.abs(found - expected).max() < 1e-4 and np.abs(packed - expected).max() < 1e-4
    with torch.no_grad():
        assert np.abs(core.train()(image).numpy() - expected).max() > 1e-2, "training mode makes a difference"
