"""Single layers in the engine: convolutions of random shapes to the bit, at their extremes too, then the others."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketseg.engine.session import Session
from pocketseg.packing.compile import file_of, program_of
from pocketseg.quant import Binary, Fixed, Int, PowerOfTwo, ResidualBinary, Ternary, integer_net
from pocketseg.quant.layers import QuantConv2d

pytestmark = pytest.mark.usefixtures("isa")

WEIGHTS = [Int(8, axis=0), Int(4, axis=0), Int(2, axis=0), Ternary(axis=0), Binary(scale="mean", axis=0),
           ResidualBinary(2), Fixed(0, 4), PowerOfTwo(1, 8)]  # fmt: skip
INPUTS = [Int(8, affine=True), Int(4, affine=True), Int(16, affine=True), Fixed(2, 4), Fixed(8, 8), PowerOfTwo(4, 4),
          Binary(), ResidualBinary(3)]  # fmt: skip

FRAME = 4


def run(core: nn.Module, x: Tensor, threads: int = 1):
    return Session(file_of(program_of(core, x.shape[1]), {}), "here", threads)(x.numpy())


def layer(draw: random.Random, weights, inputs) -> tuple[QuantConv2d, int]:
    kernel = draw.choice([1, 2, 3, 5])
    groups = draw.choice([1, 1, 1, 2, 3, "depthwise"])
    channels = draw.choice([*range(1, 12), 31, 33, 64, 65, 70, 127, 128, 129])
    if groups == "depthwise":
        inside, outside, count = channels, channels * draw.choice([1, 2]), channels
    else:
        inside, outside, count = groups * -(-channels // groups), groups * draw.randint(1, 9), groups
    conv = nn.Conv2d(
        inside, outside, (kernel, draw.choice([kernel, 1])), stride=draw.choice([1, 1, 2, 3]),
        padding=draw.choice([0, kernel // 2, kernel]), dilation=draw.choice([1, 1, 2]), groups=count,
        bias=draw.random() < 0.7,
    )  # fmt: skip
    return QuantConv2d(conv, weights, inputs), inside


@pytest.mark.row("N01")
@pytest.mark.parametrize(("weights", "inputs"), list(itertools.product(WEIGHTS, INPUTS)), ids=str)
def test_convolutions(weights, inputs):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    draw, tried = random.Random(seed), 0
    torch.manual_seed(seed)
    while tried < 4:
        conv, channels = layer(draw, weights, inputs)
        height, width = draw.randint(1, 12), draw.randint(1, 12)
        x = torch.randn(1, channels, height, width) * draw.choice([0.5, 2.0])
        with torch.no_grad():
            try:
                size = conv(x).shape[2:]
            except RuntimeError:  # the kernel is larger than the padded image
                continue
            if size[0] > FRAME * height or size[1] > FRAME * width:
                continue
            whole = integer_net(nn.Sequential(conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()).eval())
            core = Framed(whole, FRAME * height - size[0], FRAME * width - size[1])
            image = x.repeat_interleave(FRAME, 2).repeat_interleave(FRAME, 3)
            expected = core(image).numpy()
        assert np.array_equal(run(core, image), expected), (conv, x.shape)
        tried += 1


class Framed(nn.Module):
    """A layer on a coarser grid than the image, its result with zeros around, so that any layer has an image's size."""

    def __init__(self, inner: nn.Module, below: int, right: int) -> None:
        super().__init__()
        self.inner, self.frame = inner, (0, right, 0, below)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(self.inner(F.max_pool2d(x, FRAME)), self.frame)


@pytest.mark.row("N08")
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sums(sign):
    """All weights and codes at their ends, the longest sum that a layer of the catalog has."""
    conv = nn.Conv2d(2048, 2, 3, padding=1, bias=False)
    nn.init.constant_(conv.weight, sign * 0.5)
    quantized = QuantConv2d(conv, Int(8, axis=0), Int(8, affine=True))
    x = torch.full((1, 2048, 4, 4), 3.0)
    quantized(x)
    core = integer_net(nn.Sequential(quantized).eval())
    logits = run(core, x)
    assert np.array_equal(logits, core(x).numpy())
    assert abs(logits[0, 0, 1, 1]) == pytest.approx(2048 * 9 * 1.5, rel=1e-3)


@pytest.mark.row("N08")
def test_sums_beyond_int32_take_wider_ones():
    conv = nn.Conv2d(64, 2, 3, padding=1, bias=False)
    nn.init.constant_(conv.weight, 0.5)
    quantized = QuantConv2d(conv, Int(8, axis=0), Int(16, affine=True))
    x = torch.full((1, 64, 4, 4), 3.0)
    quantized(x)
    core = integer_net(nn.Sequential(quantized).eval())
    assert 64 * 9 * 127 * 65535 > 2**31
    assert np.array_equal(run(core, x), core(x).numpy())


# --- everything else, in f32 ------------------------------------------------------------------------------


class Resize(nn.Module):
    def __init__(self, **options) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(F.avg_pool2d(x, 2), **self.options)


class Gate(nn.Module):
    """Squeeze and excite, softmax, parts, a pixel-wise gate: what nets outside of the catalog use."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = torch.chunk(x, 2, dim=1)
        c = a * torch.sigmoid(F.adaptive_avg_pool2d(b, 1))
        d = torch.cat([c, torch.relu(b), a], 1)
        return d + d * F.relu6(torch.cat([b, a * a, b], 1))


class Twice(nn.Module):
    """The same tensor added to itself, in two concatenations, twice in one of them, and both as input and output."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(x + x)
        z = torch.cat([y, y, x], 1)
        return torch.cat([y, z], 1) + torch.cat([z, y], 1)


def pooled(pool: nn.Module) -> nn.Module:
    return nn.Sequential(pool, nn.Upsample(scale_factor=2))


OPERATIONS = {
    "transposed": nn.ConvTranspose2d(6, 4, 1, bias=False),
    "transposed 2": nn.Sequential(nn.MaxPool2d(2), nn.ConvTranspose2d(6, 4, 2, stride=2)),
    "transposed 3": nn.Sequential(
        nn.MaxPool2d(2), nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
    ),
    "transposed spread": nn.ConvTranspose2d(6, 4, 3, padding=2, dilation=2),
    "transposed uneven": nn.ConvTranspose2d(6, 4, (3, 5), padding=(1, 2)),
    "max pool": pooled(nn.MaxPool2d(3, 2, 1)),
    "max pool spread": nn.MaxPool2d(2, 1, padding=1, dilation=2),
    "average pool": pooled(nn.AvgPool2d((2, 2))),
    "nearest": Resize(scale_factor=2),
    "bilinear": Resize(scale_factor=2, mode="bilinear"),
    "bilinear corners": Resize(scale_factor=2, mode="bilinear", align_corners=True),
    "softmax": nn.Sequential(nn.Conv2d(6, 5, 1), nn.Softmax(dim=1)),
    "sigmoid": nn.Sequential(nn.Conv2d(6, 5, 1), nn.Sigmoid()),
    "hard tanh": nn.Hardtanh(-0.3, 0.4),
    "norm": nn.Sequential(nn.BatchNorm2d(6), nn.ReLU6()),
    "same padding": nn.Conv2d(6, 3, (5, 3), padding="same", dilation=2),
    "pad": nn.Sequential(nn.ZeroPad2d((1, 2, 0, 3)), nn.ReLU(), nn.Conv2d(6, 2, (4, 4))),
    "gate": Gate(),
    "twice": Twice(),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("threads", [1, 3])
def test_operations(name, threads):
    torch.manual_seed(3)
    core = nn.Sequential(OPERATIONS[name]).eval()
    for size in ((8, 12), (2, 2), (14, 6)):
        x = torch.randn(2, 6, *size)
        with torch.no_grad():
            expected = core(x).numpy()
        assert np.allclose(run(core, x, threads), expected, rtol=0, atol=2e-6)


def test_bf16_weights_are_the_nearest():
    conv = nn.Conv2d(4, 3, 3, padding=1)
    x = torch.randn(1, 4, 8, 8)
    program = program_of(nn.Sequential(conv), 4, float_weights="bf16")
    logits = Session(file_of(program, {}), "here")(x.numpy())
    rounded = F.conv2d(x, conv.weight.bfloat16().float(), conv.bias, padding=1).detach().numpy()
    assert np.allclose(logits, rounded, rtol=0, atol=1e-6)
    assert not np.allclose(logits, conv(x).detach().numpy(), rtol=0, atol=1e-4)
    assert len(file_of(program, {})) < len(file_of(program_of(nn.Sequential(conv), 4), {})) - 200
