"""The parts that nets are built from. Tensors are (n, c, h, w)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ConvKind = Literal["plain", "separable"]
# `conv`: convolution-norm-ReLU each time; `block`: (convolution-ReLU)…-norm, one norm a block (Vaze 2020);
# `none`: no norm.
NormPlace = Literal["conv", "block", "none"]


def conv(kind: ConvKind, channels_in: int, channels_out: int, kernel: int = 3) -> nn.Module:
    """A convolution that keeps height and width.

    Separable is depthwise without bias, then pointwise (Chollet 2017).
    """
    if kind == "plain":
        return nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2)
    depthwise = nn.Conv2d(channels_in, channels_in, kernel, padding=kernel // 2, groups=channels_in, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(channels_in, channels_out, 1))


def conv_block(
    channels_in: int,
    channels_out: int,
    *,
    kind: ConvKind = "plain",
    norm: NormPlace = "conv",
    repeats: int = 2,
) -> nn.Sequential:
    """Several 3×3 convolutions with ReLU and batch norm."""
    layers: list[nn.Module] = []
    for index in range(repeats):
        layers.append(conv(kind, channels_in if index == 0 else channels_out, channels_out))
        if norm == "conv":
            layers.append(nn.BatchNorm2d(channels_out))
        layers.append(nn.ReLU(inplace=True))
    if norm == "block":
        layers.append(nn.BatchNorm2d(channels_out))
    return nn.Sequential(*layers)


class UpConv(nn.Sequential):
    """Nearest ×2, then a 2×2 convolution with ReLU that changes the width.

    This is the up-convolution of Ronneberger 2015, without the transpose.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            # An even kernel keeps the size with one row and one column of zeros below and to the right.
            nn.ZeroPad2d((0, 1, 0, 1)),
            nn.Conv2d(channels_in, channels_out, 2),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """Encoder, deepest block, decoder, head, as in the figure.

    Height and width must be multiples of `stride`.

    Args:
        encoder: blocks, each followed by 2×2 max pooling; its output before pooling is the skip.
        deepest: the block between encoder and decoder.
        ups: one ×2 upsampling for each decoder block.
        decoder: blocks that take [skip, upsampled].
        head: the last layer; emits logits.
    """

    def __init__(
        self,
        encoder: Sequence[nn.Module],
        deepest: nn.Module,
        ups: Sequence[nn.Module],
        decoder: Sequence[nn.Module],
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(encoder)
        self.deepest = deepest
        self.ups = nn.ModuleList(ups)
        self.decoder = nn.ModuleList(decoder)
        self.head = head
        self.stride = 2 ** len(encoder)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.deepest(x)
        for up, block in zip(self.ups, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], dim=1))
        out: Tensor = self.head(x)
        return out


class AnySize(nn.Module):
    """Lets a net take any height and width: repeats the border up to the next multiple, and crops the logits.

    It stays outside of traced and exported graphs, which see the core only.
    """

    def __init__(self, core: nn.Module) -> None:
        super().__init__()
        self.core = core
        self.stride: int = core.stride  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        below, right = -height % self.stride, -width % self.stride
        if not below and not right:
            out: Tensor = self.core(x)
            return out
        logits: Tensor = self.core(F.pad(x, (0, right, 0, below), mode="replicate"))
        return logits[:, :, :height, :width]
