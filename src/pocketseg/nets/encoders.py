"""Encoders that were trained on ImageNet elsewhere: layouts and names of torchvision, so that its files load.

ResNet: He et al. 2016. DenseNet: Huang et al. 2017.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pocketseg.errors import RecipeError, missing_package, near
from pocketseg.nets.encoder_base import Encoder, init_he_fan_out
from pocketseg.nets.mobile_encoders import MOBILE, mobile_encoder

# What torchvision publishes; the digits are the first of the file's SHA-256.
PUBLISHED = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "densenet121": "densenet121-a639ec97.pth",
}
RESNETS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
DENSE_BLOCKS, GROWTH = (6, 12, 24, 16), 32


def encoder(name: str, in_channels: int, levels: int = 5) -> Encoder:
    """An encoder by name: our own, or any of segmentation-models-pytorch (extra `encoders`).

    Args:
        name: for example resnet18.
        in_channels: image channels.
        levels: how many times it halves the image, 1 to 5.

    Raises:
        RecipeError: no such encoder.
        EnvironmentProblem: it needs the extra, which is not installed.
    """
    if name in RESNETS:
        return ResNet(name, in_channels, levels)
    if name == "densenet121":
        return DenseNet(in_channels, levels)
    if name in MOBILE:
        return mobile_encoder(name, in_channels, levels)
    return Foreign(name, in_channels, levels)


class _Residual(nn.Module):
    """Convolutions beside a shortcut; subclasses give `body`."""

    downsample: nn.Module | None

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels_out))

    def body(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        out: Tensor = self.relu(self.body(x) + shortcut)
        return out


class BasicBlock(_Residual):
    """Two 3×3 convolutions."""

    expansion = 1

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__(channels_in, width, stride)
        self.conv1 = nn.Conv2d(channels_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def body(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.bn2(self.conv2(x))
        return out


class Bottleneck(_Residual):
    """1×1, 3×3 and 1×1; the stride is in the 3×3, as torchvision has it."""

    expansion = 4

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__(channels_in, 4 * width, stride)
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)

    def body(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        out: Tensor = self.bn3(self.conv3(x))
        return out


class ResNet(Encoder):
    """The convolutional part of ResNet-18, -34 or -50."""

    first = "conv1.weight"

    def __init__(self, name: str, in_channels: int, levels: int = 5) -> None:
        super().__init__()
        self.published, self.in_channels, self.levels = PUBLISHED[name], in_channels, levels
        kind: type[BasicBlock] | type[Bottleneck] = Bottleneck if name == "resnet50" else BasicBlock
        self.conv1 = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, widths = 64, []
        for stage, count in enumerate(RESNETS[name][: levels - 1]):
            width = 64 * 2**stage
            blocks = []
            for index in range(count):
                blocks.append(kind(channels, width, 2 if stage and not index else 1))
                channels = width * kind.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
            widths.append(channels)
        self.out_channels = (64, *widths)
        init_he_fan_out(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.relu(self.bn1(self.conv1(x)))
        features = [x]
        for stage in range(1, self.levels):
            if stage == 1:
                x = self.maxpool(x)
            x = self.get_submodule(f"layer{stage}")(x)
            features.append(x)
        return features


class _DenseLayer(nn.Module):
    def __init__(self, channels_in: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(channels_in, 4 * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * GROWTH)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4 * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))
        return torch.cat([x, new], 1)


class DenseNet(Encoder):
    """The convolutional part of DenseNet-121."""

    first = "features.conv0.weight"

    def __init__(self, in_channels: int, levels: int = 5) -> None:
        super().__init__()
        self.published, self.in_channels, self.levels = PUBLISHED["densenet121"], in_channels, levels
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        parts["conv0"] = nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)
        parts["norm0"] = nn.BatchNorm2d(64)
        channels, out = 64, [64]
        for block, count in enumerate(DENSE_BLOCKS[: levels - 1], 1):
            layers: OrderedDict[str, nn.Module] = OrderedDict()
            for index in range(count):
                layers[f"denselayer{index + 1}"] = _DenseLayer(channels)
                channels += GROWTH
            out.append(channels)
            parts[f"denseblock{block}"] = nn.Sequential(layers)
            if block == len(DENSE_BLOCKS):
                parts["norm5"] = nn.BatchNorm2d(channels)
                continue
            transition: OrderedDict[str, nn.Module] = OrderedDict(norm=nn.BatchNorm2d(channels))
            if block < levels - 1:
                channels //= 2
                transition["conv"] = nn.Conv2d(2 * channels, channels, 1, bias=False)
            parts[f"transition{block}"] = nn.ModuleDict(transition)
        self.features = nn.ModuleDict(parts)
        self.relu = nn.ReLU(inplace=True)
        self.out_channels = tuple(out)
        init_he_fan_out(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        parts: Any = self.features
        x = self.relu(parts["norm0"](parts["conv0"](x)))
        features = [x]
        if self.levels > 1:
            x = F.max_pool2d(x, 3, 2, 1)
        for block in range(1, self.levels):
            x = parts[f"denseblock{block}"](x)
            norm = parts["norm5"] if block == len(DENSE_BLOCKS) else parts[f"transition{block}"]["norm"]
            x = self.relu(norm(x))
            features.append(x)
            if block < self.levels - 1:
                x = F.avg_pool2d(parts[f"transition{block}"]["conv"](x), 2)
        return features


class Foreign(Encoder):
    """Any encoder of segmentation-models-pytorch, with freshly drawn weights."""

    def __init__(self, name: str, in_channels: int, levels: int = 5) -> None:
        super().__init__()
        try:
            from segmentation_models_pytorch.encoders import get_encoder, get_encoder_names
        except Exception as error:  # broken installations raise more than ImportError
            raise missing_package("segmentation-models-pytorch", "encoders", error) from error
        known = {*PUBLISHED, *MOBILE, *get_encoder_names()}
        # tu-NAME is any net of timm.
        if name not in known and not name.startswith("tu-"):
            raise RecipeError("net.encoder_name", f"there is no encoder {name!r}", near(name, sorted(known)))
        try:
            self.net = get_encoder(name, in_channels=in_channels, depth=levels, weights=None)
        except Exception as error:  # each library behind it raises its own
            raise RecipeError("net.encoder_name", f"{name!r} cannot be built ({error})", "take another") from error
        self.in_channels, self.levels = in_channels, levels
        self.out_channels = tuple(self.net.out_channels[1:])

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = list(self.net(x))[1:]
        return features
