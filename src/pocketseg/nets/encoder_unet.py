"""A U-Net whose encoder is a classification net: ResNet, DenseNet, or any other with feature maps."""

from __future__ import annotations

from torch import Tensor, nn

from pocketseg.nets.blocks import (
    BlockOptions,
    applied,
    conv_block,
    dropout,
    initialize,
    joined,
    plain,
    upsample,
)
from pocketseg.nets.encoders import Encoder, encoder


class EncoderUNet(nn.Module):
    """Encoder, decoder, head. Each feature map of the encoder but the deepest is a skip.

    Args:
        body: the encoder.
        width: channels of the last decoder block; each one deeper has twice as many.
        out_channels: logits.
        style: of the decoder.
    """

    def __init__(self, body: Encoder, width: int, out_channels: int, style: BlockOptions) -> None:
        super().__init__()
        self.encoder = body
        self.style = style
        levels = len(body.out_channels)
        self.stride = 2**levels
        make = plain(style.kernel, bias=style.norm != "conv")
        below, skips = body.out_channels[-1], [*reversed(body.out_channels[:-1]), 0]
        ups, blocks = [], []
        for level, skip in zip(reversed(range(levels)), skips, strict=True):
            out = width * 2**level
            up, rising = upsample(below, out, style)
            ups.append(up)
            blocks.append(conv_block([skip + rising, out, out], [make, make], style))
            below = out
        self.ups = nn.ModuleList(ups)
        self.decoder = nn.ModuleList(blocks)
        self.head = nn.Conv2d(width, out_channels, 3, padding=1)
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
        encoder_name: resnet18, resnet34, resnet50, densenet121; others need the extra `encoders`.
        levels: how many times the encoder halves the image, 1 to 5.
        width: channels of the last decoder block.
        style: of the decoder; the encoder is as published. The head starts Glorot-uniform unless `init` is torch.
    """
    return EncoderUNet(encoder(encoder_name, in_channels, levels), width, out_channels, style)
