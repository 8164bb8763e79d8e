"""The exam of every net of the catalog in the engine: it packs, and gives torch's logits."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn

from helpers.nets import every_net, make, picture
from pocketseg.engine import program as p
from pocketseg.engine.session import Session
from pocketseg.nets import NETS, build, parameter_count
from pocketseg.packing.compile import file_of, program_of
from pocketseg.pipeline import Pipeline
from pocketseg.quant import Scheme, calibrate, integer_net, quantize_net

# Logits; torch and the engine sum convolutions in different orders.
TOLERANCE = 1e-4


def lived(net: nn.Module) -> nn.Module:
    """Norms that have seen something, so that none of their four numbers can be forgotten."""
    generator = torch.Generator().manual_seed(5)

    def draw(values: torch.Tensor, low: float, high: float) -> None:
        values.data.uniform_(low, high, generator=generator)

    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            draw(module.running_mean, -0.1, 0.1)
            draw(module.running_var, 0.5, 1.5)
            draw(module.weight, 0.3, 0.8)
            draw(module.bias, -0.1, 0.1)
    return net.eval()


def agrees(core: nn.Module, size: tuple[int, int], channels: int = 1) -> None:
    session = Session(file_of(program_of(core, channels), {}), "here")
    images = picture(2, channels, *size)
    with torch.inference_mode():
        expected = core(images).numpy()
    logits = session(images.numpy())
    tolerance = TOLERANCE * max(1.0, float(np.abs(expected).max()))
    assert np.abs(logits - expected).max() <= tolerance
    decided = np.abs(expected) > tolerance
    assert ((logits > 0) == (expected > 0))[decided].all()
    assert expected.std() > 1e-6


@pytest.mark.row("N01")
@every_net
def test_every_net_packs_and_agrees(name):
    net = lived(make(name))
    agrees(net.core, (net.stride * 2, net.stride))


@every_net
def test_what_a_net_becomes(name):
    """Norms, activations and concatenations cost no instruction of their own, but where a net needs one."""
    net = make(name)
    program = program_of(lived(net).core, 1)
    names = [type(each.operation).__name__ for each in program.instructions]
    convolutions = sum(isinstance(module, nn.Conv2d | nn.ConvTranspose2d) for module in net.modules())
    assert names.count("Convolution") + names.count("Transposed") == convolutions
    assert "Pad" not in names
    # Norms before a convolution (DenseNet), sums of parts (TinyU-Net), and what meets an upsampled tensor.
    copies = {"densenet121_unet": 62, "tiny_unet": 8}
    upsampled = {each.writes[0].buffer for each in program.instructions if isinstance(each.operation, p.Nearest)}
    late = [
        each
        for each in program.instructions
        if isinstance(each.operation, p.Copy) and each.writes[0].buffer in upsampled
    ]
    assert names.count("Copy") - len(late) == copies.get(name, 0)


@pytest.mark.parametrize(
    ("name", "options", "scheme", "most_kib"),
    [
        ("separable_unet", {}, Scheme("residual w3a3"), 1.45 * 1024),
        (
            "thin_unet",
            {"width": 32, "blocks": 6, "conv": "separable"},
            Scheme("w2a8", layers={"depthwise": "w8a8"}),
            32,
        ),
        ("thin_unet", {"width": 15, "blocks": 4, "conv": "plain"}, Scheme("w2a8"), 20),
    ],
)
def test_low_bit_nets_are_as_small_as_they_should_be(name, options, scheme, most_kib):
    """With constants in f32, and a card of the usual length."""
    net = build(name, 1, 1, seed=1, **options)
    assert name != "thin_unet" or 42_000 < parameter_count(net) < 44_000
    quantize_net(net.core, scheme)
    calibrate(net.core, [picture(1, 1, 64, 64)])
    program = program_of(integer_net(net.core), 1)
    card = {"pipeline": asdict(Pipeline((256, 256))), "description": "A sentence. " * 8, "weights_sha256": "0" * 64}
    assert most_kib / 2 < len(file_of(program, card)) / 1024 <= most_kib


@pytest.mark.parametrize("options", [
    {"up": "bilinear-corners"}, {"up": "transposed"}, {"up": "nearest"}, {"skip": "last"}, {"norm": "none"},
    {"norm": "relu"}, {"norm": "block"}, {"kernel": 5},
], ids=str)  # fmt: skip
def test_styles(options):
    agrees(lived(build("unet", 3, 4, seed=2, width=4, **options)).core, (32, 48), channels=3)


@pytest.mark.parametrize("name", ["unet", "densenet121_unet", "resnet50_unet"])
def test_color_and_classes(name):
    net = lived(make(name, 3, 4))
    agrees(net.core, (net.stride, net.stride * 2), channels=3)


def test_every_net_is_examined():
    """What has no line in the exam of `test_nets.py` is refused there; here none may be left out of it."""
    assert set(every_net.args[1]) == set(NETS)
