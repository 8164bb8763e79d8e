"""MobileNetV1 out of files of Keras and TensorFlow Lite, under the names of the encoder in `nets`.

Both write the layers as they run: a convolution, then thirteen times a depthwise and a pointwise one, then a
classifier, which is left out. Beside the tensors goes what the net takes and how its activations end: `input`, the
factor and offset of pixels from 0 to 1, and `relu6`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketseg.errors import ModelFileError
from pocketseg.weights.hdf5 import Array, KerasLayer
from pocketseg.weights.tflite import TfliteNet

# Strides of the convolutions in order: of the first, and of each block's depthwise and pointwise one.
STRIDES = (2, *(side for stride in (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1) for side in (stride, 1)))
NORM_EPS = 1e-3
# What a channel of a photograph is like, of 1.
PHOTO_MEAN, PHOTO_STD = 0.449, 0.226
# Of the synthetic pictures.
PICTURES, SIDE = 8, 128


def names() -> Iterator[tuple[str, str]]:
    """The encoder's names of each convolution and its norm."""
    yield "conv_stem", "bn0"
    for block in range(13):
        yield f"blocks.{block}.depthwise_conv", f"blocks.{block}.bn1"
        yield f"blocks.{block}.pointwise_conv", f"blocks.{block}.bn2"


def mobilenet_of_keras(layers: Sequence[KerasLayer], where: str) -> dict[str, Tensor]:
    """The tensors of a MobileNetV1 that Keras saved.

    A convolution's bias in front of a norm is taken from the norm's running mean. Files do not say what the net takes:
    those with the names of `keras.applications` (conv1, …) take pixels from −1 to 1 and have ReLU6; others, as
    MLPerf Tiny's, take pixels from 0 to 1 and have ReLU.

    Raises:
        ModelFileError: other layers than a MobileNetV1 has.
    """
    found: dict[str, Tensor] = {}
    of_keras = bool(layers) and layers[0].name.startswith("conv1")
    waiting = list(layers)
    for index, (conv, norm) in enumerate(names()):
        depthwise = "depthwise_conv" in conv
        role, roles = "depthwise_kernel" if depthwise else "kernel", {"gamma", "beta", "moving_mean", "moving_variance"}
        first, second = (waiting + [KerasLayer("", {})] * 2)[:2]
        if set(first.weights) - {"bias"} != {role} or set(second.weights) != roles or first.weights[role].ndim != 4:
            raise _other(where, index, first.name or "nothing")
        if second.epsilon is not None and second.epsilon != NORM_EPS:
            raise ModelFileError(where, f"its norms have epsilon {second.epsilon:g}, not {NORM_EPS:g}", "use another")
        del waiting[:2]
        # (h, w, i, o) -> (o, i, h, w); of a depthwise one (h, w, o, 1) -> (o, 1, h, w).
        kernel = first.weights[role].transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        found[f"{conv}.weight"] = _tensor(kernel)
        mean = second.weights["moving_mean"] - first.weights.get("bias", np.float32(0))
        values = (second.weights["gamma"], second.weights["beta"], mean, second.weights["moving_variance"])
        found |= _norm(norm, *map(_tensor, values))
    return found | {"input": torch.tensor([2.0, -1.0] if of_keras else [1.0, 0.0]), "relu6": torch.tensor(of_keras)}


def mobilenet_of_tflite(net: TfliteNet, where: str) -> dict[str, Tensor]:
    """The tensors of a MobileNetV1 in a TensorFlow Lite file, whose norms are folded into its convolutions.

    A training needs norms. They get the mean and variance that synthetic pictures have in the net: noise that is as
    smooth as photographs (amplitudes fall with the frequency). In inference the net gives what the file's gives.

    Raises:
        ModelFileError: other layers than a MobileNetV1 has.
    """
    found: dict[str, Tensor] = {}
    layers = net.layers[: len(STRIDES)]
    activations = {layer.activation for layer in layers}
    if len(layers) < len(STRIDES) or activations not in ({"ReLU"}, {"ReLU6"}):
        what = f"has {len(net.layers)} convolutions, with {', '.join(sorted(activations)) or 'nothing'} behind them"
        raise ModelFileError(where, f"{what}; a MobileNetV1 has {len(STRIDES)} with ReLU6", "use another file")
    relu6 = activations == {"ReLU6"}
    x = net.factor * _pictures() + net.offset
    for index, ((conv, norm), layer, stride) in enumerate(zip(names(), layers, STRIDES, strict=True)):
        depthwise = "depthwise_conv" in conv
        # A gray image's first convolution may be written as a depthwise one.
        turned = layer.depthwise
        kernel = _tensor(layer.kernel.transpose((3, 0, 1, 2) if turned else (0, 3, 1, 2)))
        channels = 1 if depthwise or (turned and index == 0) else kernel.shape[1]
        if layer.stride != (stride, stride) or (index and turned != depthwise) or kernel.shape[1] != channels:
            raise _other(where, index, layer.name)
        if index == 0:
            x = x.expand(-1, channels, -1, -1)
        if x.shape[1] != (len(kernel) if depthwise else channels):
            raise _other(where, index, layer.name)
        found[f"{conv}.weight"], bias = kernel, _tensor(layer.bias)
        x = _convolved(x, kernel, stride)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        found |= _norm(norm, (variance + NORM_EPS).sqrt(), mean + bias, mean, variance)
        x = (x + bias[:, None, None]).clamp(0, 6 if relu6 else None)
    return found | {"input": torch.tensor([net.factor, net.offset]), "relu6": torch.tensor(relu6)}


def _other(where: str, index: int, name: str) -> ModelFileError:
    what = f"{name!r} is at the place of convolution {index + 1} of a MobileNetV1, and is another"
    return ModelFileError(where, what, "use a file of MobileNetV1 with one image or three channels")


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))


def _norm(name: str, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> dict[str, Tensor]:
    roles = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{role}": value for role, value in zip(roles, (gamma, beta, mean, variance), strict=True)}


def _convolved(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """With TensorFlow's "same" for even sides."""
    zeros = kernel.shape[2] - stride
    before, after = zeros // 2, zeros - zeros // 2
    groups = x.shape[1] // kernel.shape[1]
    return F.conv2d(F.pad(x, (before, after) * 2), kernel, stride=stride, groups=groups)


def _pictures() -> Tensor:
    """Gray pictures (n, 1, side, side) from 0 to 1 whose amplitudes fall with the frequency, always the same."""
    noise = torch.randn(PICTURES, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    rows, columns = torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)
    falling = (rows.square() + columns.square()).sqrt().clamp_min(1 / SIDE).reciprocal()
    smooth = torch.fft.irfft2(torch.fft.rfft2(noise) * falling, s=(SIDE, SIDE))
    smooth = (smooth - smooth.mean((2, 3), keepdim=True)) / smooth.std((2, 3), keepdim=True)
    pictures: Tensor = (PHOTO_MEAN + PHOTO_STD * smooth).clamp(0, 1)
    return pictures
