"""The parts that nets are built from. Tensors are (n, c, h, w)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ConvKind = Literal["plain", "separable"]
# (channels in, channels out) -> a layer that keeps height and width.
Conv = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class BlockOptions:
    """What every family of nets lets one choose.

    Attributes:
        kernel: side of the convolutions in the blocks.
        norm: after what batch norm stands. `conv`: convolution–norm–ReLU; `relu`: convolution–ReLU–norm; `block`:
            (convolution–ReLU)…–norm, one norm a block (Vaze 2020); `none`: nowhere.
        norm_eps: added to the variance; Keras has 1e-3.
        norm_momentum: share of a batch in the running statistics; Keras' 0.99 is 0.01 here.
        up: how a decoder doubles height and width. `nearest-conv` has a 2×2 convolution with ReLU that changes the
            width, `transposed` a 2×2 transposed convolution; the others keep the width. `bilinear-corners` aligns
            the corner pixels' centers.
        skip: the skip's place in the concatenation with what was upsampled.
        input_dropout: probability that a pixel of the image is dropped in training.
        block_dropout: the same for values after every block.
        deepest_dropout: the same for values after the deepest block.
        init: of kernels; biases start at zero. `he`: normal, He et al. 2015; `he-uniform`; `glorot`: uniform, Glorot
            and Bengio 2010; `uniform`: from −1 to 1, apart from the first block and the head; `torch`: kernels and
            biases as torch draws them.
    """

    kernel: Literal[1, 3, 5, 7, 9, 11] = 3
    norm: Literal["conv", "relu", "block", "none"] = "conv"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    up: Literal["nearest", "bilinear", "bilinear-corners", "nearest-conv", "transposed"] = "nearest"
    skip: Literal["first", "last"] = "first"
    input_dropout: float = 0.0
    block_dropout: float = 0.0
    deepest_dropout: float = 0.0
    init: Literal["he", "he-uniform", "glorot", "uniform", "torch"] = "he"

    @property
    def up_keeps_width(self) -> bool:
        return self.up not in ("nearest-conv", "transposed")


def plain(kernel: int, *, stride: int = 1, bias: bool = True) -> Conv:
    """Ordinary convolutions. An even kernel needs one more row and column of zeros below and to the right."""

    def make(channels_in: int, channels_out: int) -> nn.Module:
        return nn.Conv2d(channels_in, channels_out, kernel, stride, padding=(kernel - 1) // 2, bias=bias)

    return make


def separable(kernel: int, *, multiplier: int = 1) -> Conv:
    """Depthwise without bias, then pointwise (Chollet 2017); each channel is filtered `multiplier` times."""

    def make(channels_in: int, channels_out: int) -> nn.Module:
        inner = channels_in * multiplier
        padding = (kernel - 1) // 2
        depthwise = nn.Conv2d(channels_in, inner, kernel, padding=padding, groups=channels_in, bias=False)
        return nn.Sequential(depthwise, nn.Conv2d(inner, channels_out, 1))

    return make


def depthwise(kernel: int, *, groups: int | None = None) -> Conv:
    """A convolution of each channel by itself, or of a few groups of channels; it keeps their number."""

    def make(channels_in: int, _: int) -> nn.Module:
        return nn.Conv2d(channels_in, channels_in, kernel, padding=kernel // 2, groups=groups or channels_in)

    return make


def conv_of(kind: ConvKind, kernel: int) -> Conv:
    return plain(kernel) if kind == "plain" else separable(kernel)


def norm(channels: int, style: BlockOptions) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=style.norm_eps, momentum=style.norm_momentum)


def conv_block(widths: Sequence[int], convs: Sequence[Conv], style: BlockOptions) -> nn.Sequential:
    """Convolutions from each width to the next, with ReLU, and batch norm where the style has it."""
    layers: list[nn.Module] = []
    for make, (channels_in, channels_out) in zip(convs, pairwise(widths), strict=True):
        layers.append(make(channels_in, channels_out))
        if style.norm == "conv":
            layers.append(norm(channels_out, style))
        layers.append(nn.ReLU(inplace=True))
        if style.norm == "relu":
            layers.append(norm(channels_out, style))
    if style.norm == "block":
        layers.append(norm(widths[-1], style))
    return nn.Sequential(*layers)


class UpConv(nn.Sequential):
    """Nearest ×2, then a 2×2 convolution with ReLU that changes the width.

    This is the up-convolution of Ronneberger 2015, without the transpose.
    """

    def __init__(self, channels_in: int, channels_out: int, conv: Conv) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.ZeroPad2d((0, 1, 0, 1)),
            conv(channels_in, channels_out),
            nn.ReLU(inplace=True),
        )


def upsample(
    channels_in: int, channels_out: int, style: BlockOptions, conv: Conv | None = None
) -> tuple[nn.Module, int]:
    """A layer that doubles height and width, and the channels it gives: `channels_out` only where it has weights."""
    match style.up:
        case "nearest-conv":
            return UpConv(channels_in, channels_out, conv or plain(2)), channels_out
        case "transposed":
            return nn.ConvTranspose2d(channels_in, channels_out, 2, stride=2), channels_out
        case "nearest":
            return nn.Upsample(scale_factor=2, mode="nearest"), channels_in
    corners = style.up == "bilinear-corners"
    return nn.Upsample(scale_factor=2, mode="bilinear", align_corners=corners), channels_in


def joined(skip: Tensor, up: Tensor, style: BlockOptions) -> Tensor:
    """Skip and upsampled, concatenated in the style's order."""
    return torch.cat([skip, up] if style.skip == "first" else [up, skip], dim=1)


def dropout(probability: float) -> nn.Module | None:
    return nn.Dropout(probability) if probability else None


def applied(layer: nn.Module | None, x: Tensor) -> Tensor:
    out: Tensor = x if layer is None else layer(x)
    return out


class UNet(nn.Module):
    """Encoder, deepest block, decoder, head, as in the figure.

    Height and width must be multiples of `stride`.

    Args:
        encoder: blocks, each followed by 2×2 max pooling (see `pools`); its output before pooling is the skip.
        deepest: the block between encoder and decoder.
        ups: one ×2 upsampling for each decoder block.
        decoder: blocks that take skip and upsampled, in the style's order.
        head: the last layer; emits logits.
        style: dropout, place of the skip, and initializer.
        bridges: what the skip of each encoder block goes through; none leaves it as it is.
        pools: False where the blocks halve by their own strides: each but the first, and the deepest.
    """

    def __init__(
        self,
        encoder: Sequence[nn.Module],
        deepest: nn.Module,
        ups: Sequence[nn.Module],
        decoder: Sequence[nn.Module],
        head: nn.Module,
        style: BlockOptions,
        *,
        bridges: Sequence[nn.Module] = (),
        pools: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(encoder)
        self.deepest = deepest
        self.ups = nn.ModuleList(ups)
        self.decoder = nn.ModuleList(decoder)
        self.head = head
        self.bridges = nn.ModuleList(bridges)
        self.pools = pools
        self.stride = 2 ** len(encoder)
        self.style = style
        self.input_dropout = dropout(style.input_dropout)
        self.block_dropout = dropout(style.block_dropout)
        self.deepest_dropout = dropout(style.deepest_dropout)
        spared = {id(part) for part in (self.encoder[0], head)} if style.init == "uniform" else set()
        for part in [*self.encoder, deepest, *self.ups, *self.decoder, head, *self.bridges]:
            if id(part) not in spared:
                initialize(part, style)

    def forward(self, x: Tensor) -> Tensor:
        x = applied(self.input_dropout, x)
        skips = []
        for block in self.encoder:
            x = applied(self.block_dropout, block(x))
            skips.append(x)
            x = F.max_pool2d(x, 2) if self.pools else x
        skips = [bridge(skip) for bridge, skip in zip(self.bridges, skips, strict=True)] if self.bridges else skips
        x = applied(self.block_dropout, self.deepest(x))
        x = applied(self.deepest_dropout, x)
        for up, block in zip(self.ups, self.decoder, strict=True):
            x = applied(self.block_dropout, block(joined(skips.pop(), up(x), self.style)))
        out: Tensor = self.head(x)
        return out


def initialize(part: nn.Module, style: BlockOptions) -> None:
    """Draw the kernels of a part again, as the style says."""
    for module in part.modules():
        if style.init == "torch" or not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            continue
        match style.init:
            case "he":
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            case "he-uniform":
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            case "glorot":
                nn.init.xavier_uniform_(module.weight)
            case "uniform":
                nn.init.uniform_(module.weight, -1, 1)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


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
