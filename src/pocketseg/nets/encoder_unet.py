"""A U-Net whose encoder is a classification net: ResNet, DenseNet, MobileNet, or any other with feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from pocketseg.nets.blocks import (
    BlockOptions,
    ConvKind,
    applied,
    conv_block,
    dropout,
    initialize,
    joined,
    plain,
    separable,
    upsample,
)
from pocketseg.nets.encoder_base import Encoder
from pocketseg.nets.encoders import encoder
from pocketseg.nets.mobile_encoders import mobile_encoder


class EncoderUNet(nn.Module):
    """Encoder, decoder, head. Each feature map of the encoder but the deepest is a skip.

    Args:
        body: the encoder.
        widths: channels of the decoder blocks, the deepest first; as many as the encoder has feature maps.
        out_channels: logits.
        style: of the decoder.
        conv: plain or separable convolutions in it.
    """

    def __init__(
        self, body: Encoder, widths: Sequence[int], out_channels: int, style: BlockOptions, conv: ConvKind = "plain"
    ) -> None:
        super().__init__()
        self.encoder = body
        self.style = style
        levels = len(body.out_channels)
        self.stride = 2**levels
        make = plain(style.kernel, bias=style.norm != "conv") if conv == "plain" else separable(style.kernel)
        below, skips = body.out_channels[-1], [*reversed(body.out_channels[:-1]), 0]
        ups, blocks = [], []
        for out, skip in zip(widths, skips, strict=True):
            up, rising = upsample(below, out, style)
            ups.append(up)
            blocks.append(conv_block([skip + rising, out, out], [make, make], style))
            below = out
        self.ups = nn.ModuleList(ups)
        self.decoder = nn.ModuleList(blocks)
        self.head = nn.Conv2d(widths[-1], out_channels, 3, padding=1)
        self.input_dropout = dropout(style.input_dropout)
        self.block_dropout = dropout(style.block_dropout)
        self.deepest_dropout = dropout(style.deepest_dropout)
        initialize(self.ups, style)
        initialize(self.decoder, style)
        if style.init != "torch":
            nn.init.xavier_uniform_(self.head.weight)
            if self.head.bias is not None:
                nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        *skips, x = self.encoder(applied(self.input_dropout, x))
        x = applied(self.deepest_dropout, x)
        for up, block in zip(self.ups, self.decoder, strict=True):
            rising = up(x)
            x = applied(self.block_dropout, block(joined(skips.pop(), rising, self.style) if skips else rising))
        out: Tensor = self.head(x)
        return out


def encoder_unet(
    in_channels: int,
    out_channels: int,
    *,
    encoder_name: str = "resnet18",
    levels: int = 5,
    width: int = 16,
    style: BlockOptions = BlockOptions(skip="last", init="he-uniform"),
) -> EncoderUNet:
    """An encoder of torchvision's or any of segmentation-models-pytorch, and a decoder of plain convolutions.

    Args:
        in_channels: image channels.
        out_channels: logits.
        encoder_name: resnet18, resnet34, resnet50, densenet121, or of `mobile_unet`; others need the extra `encoders`.
        levels: how many times the encoder halves the image, 1 to 5.
        width: channels of the last decoder block.
        style: of the decoder; the encoder is as published. The head starts Glorot-uniform unless `init` is torch.
    """
    widths = [width * 2**level for level in reversed(range(levels))]
    return EncoderUNet(encoder(encoder_name, in_channels, levels), widths, out_channels, style)


def mobile_unet(
    in_channels: int,
    out_channels: int,
    *,
    encoder_name: Literal["efficientnet_lite0", "mobilenet_v1_025", "mobilenet_v1_050"] = "mobilenet_v1_025",
    levels: int = 4,
    encoder_blocks: int | None = None,
    relu6: bool = True,
    width: int = 16,
    conv: ConvKind = "separable",
    style: BlockOptions = BlockOptions(skip="last", init="he-uniform"),
) -> EncoderUNet:
    """A small encoder, cut where one wants, and a decoder that is as wide at every level.

    Args:
        in_channels: image channels.
        out_channels: logits.
        encoder_name: efficientnet_lite0, mobilenet_v1_025 or mobilenet_v1_050 (a quarter or half of the channels).
        levels: how many times the encoder halves the image, 1 to 5.
        encoder_blocks: how many of its blocks are kept, of those that end after `levels` halvings; None: all.
        relu6: activations of the encoder are cut at 6, as published; false for weights that were trained with ReLU.
        width: channels of every decoder block.
        conv: plain or separable, of the decoder.
        style: of the decoder; the encoder is as published.
    """
    body = mobile_encoder(encoder_name, in_channels, levels, blocks=encoder_blocks, relu6=relu6)
    return EncoderUNet(body, [width] * levels, out_channels, style, conv)
