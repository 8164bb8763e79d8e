"""MobileNetV1 as Keras saves it: biases in front of norms, what the file's net takes, and a start from it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pocketseg.errors import ModelFileError
from pocketseg.nets.mobile_encoders import PHOTO_MEAN, PHOTO_STD, mobile_encoder
from pocketseg.weights import KerasLayer, mobilenet_of_keras, take
from pocketseg.weights.mobilenet import STRIDES

WIDTHS = [8, 16, 32, 32, 64, 64, *[128] * 6, 256, 256]


def layers(*, bias: bool = True, names: tuple[str, str] = ("conv2d", "batch_normalization")) -> list[KerasLayer]:
    """A quarter of MobileNetV1 with drawn numbers, and its classifier."""
    rng = np.random.default_rng(0)
    shapes = [(3, 3, 3, 8)]
    for before, after in pairwise(WIDTHS):
        shapes += [(3, 3, before, 1), (1, 1, before, after)]
    found = []
    for index, shape in enumerate(shapes):
        depthwise = index % 2 == 1
        out = shape[2] if depthwise else shape[3]
        fan = 9 if depthwise else shape[0] * shape[1] * shape[2]
        weights = {"depthwise_kernel" if depthwise else "kernel": rng.normal(0, (2 / fan) ** 0.5, shape)}
        weights |= {"bias": rng.normal(0, 0.3, out)} if bias else {}
        norm = {"gamma": rng.uniform(0.7, 1.3, out), "beta": rng.normal(0, 0.3, out)}
        norm |= {"moving_mean": rng.normal(0, 0.3, out), "moving_variance": rng.uniform(0.5, 1.5, out)}
        for name, values, epsilon in ((names[0], weights, None), (names[1], norm, 1e-3)):
            as_f32 = {role: value.astype(np.float32) for role, value in values.items()}
            found.append(KerasLayer(f"{name}_{index}", as_f32, epsilon))
    return [*found, KerasLayer("dense", {"kernel": np.ones((256, 2), np.float32), "bias": np.ones(2, np.float32)})]


def features(given: list[KerasLayer], x: torch.Tensor, relu6: bool) -> list[torch.Tensor]:
    """What the file's net gives before each halving, in Keras' own terms."""
    found = []
    for index, stride in enumerate(STRIDES):
        conv, norm = given[2 * index].weights, {k: torch.from_numpy(v) for k, v in given[2 * index + 1].weights.items()}
        depthwise = "depthwise_kernel" in conv
        kernel = torch.from_numpy(conv["depthwise_kernel" if depthwise else "kernel"]).permute(3, 2, 0, 1)
        kernel = kernel.transpose(0, 1) if depthwise else kernel
        zeros = kernel.shape[2] - stride
        x = F.pad(x, (zeros // 2, zeros - zeros // 2) * 2)
        x = F.conv2d(x, kernel, stride=stride, groups=len(kernel) if depthwise else 1)
        x = x + (torch.from_numpy(conv["bias"])[:, None, None] if "bias" in conv else 0)
        mean, variance, gamma, beta = (
            norm[role][:, None, None] for role in ("moving_mean", "moving_variance", "gamma", "beta")
        )
        x = ((x - mean) / (variance + 1e-3).sqrt() * gamma + beta).clamp(0, 6 if relu6 else None)
        if index in (2, 6, 10, 22, 26):
            found.append(x)
    return found


@pytest.mark.parametrize("bias", [True, False])
def test_the_encoder_gives_what_keras_does(bias):
    given = layers(bias=bias)
    tensors = mobilenet_of_keras(given, "here")
    assert not tensors.pop("relu6") and tensors.pop("input").tolist() == [1, 0]
    body = mobile_encoder("mobilenet_v1_025", 3, relu6=False).eval()
    take(body, tensors, strict=True, where="here")
    x = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for found, expected in zip(body(x), features(given, x, relu6=False), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.max()))
            assert expected.std() > 0.01


@pytest.mark.parametrize(("names", "factor", "offset", "relu6"), [
    (("conv2d", "batch_normalization"), 1.0, 0.0, False), (("conv1", "conv1_bn"), 2.0, -1.0, True),
])  # fmt: skip
def test_gray_images_and_what_the_files_net_takes(names, factor, offset, relu6):
    """MLPerf Tiny's take pixels from 0 to 1 and have ReLU; those of keras.applications from −1 to 1 and ReLU6."""
    given = layers(names=names)
    body = mobile_encoder("mobilenet_v1_025", 1, 4, blocks=7, relu6=relu6).eval()
    taken = take(body, body.translate(mobilenet_of_keras(given, "here")), strict=True, where="here")
    assert len(taken.names) == 15 * 6  # a kernel, and five of a norm with its counter
    u = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    photo = torch.cat([std * u + mean for mean, std in zip(PHOTO_MEAN, PHOTO_STD, strict=True)], 1)
    with torch.inference_mode():
        found, expected = body(u)[0], features(given, factor * photo + offset, relu6)[0]
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-3, atol=1e-3)


def changed(index: int, layer: KerasLayer) -> list[KerasLayer]:
    return [layer if place == index else old for place, old in enumerate(layers())]


@pytest.mark.parametrize(("given", "what"), [
    ([], "'nothing' is at the place of convolution 1"),
    (layers()[:20], "'nothing' is at the place of convolution 11"),
    (layers()[::2], "'conv2d_0' is at the place of convolution 1"),
    (changed(2, KerasLayer("other", {"kernel": np.ones((3, 3, 8, 8), np.float32)})), "'other' is at the place of"),
    (changed(1, KerasLayer("norm", layers()[1].weights, 1e-5)), "its norms have epsilon 1e-05, not 0.001"),
], ids=range(5))  # fmt: skip
def test_other_nets_are_refused(given, what):
    with pytest.raises(ModelFileError, match=what):
        mobilenet_of_keras(given, "here")
