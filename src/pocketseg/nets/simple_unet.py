"""SimpleUNet: one convolution a stage and half the channels on the way up (arXiv 2506.13415)."""

from __future__ import annotations

from torch import nn

from pocketseg.nets.blocks import BlockOptions, UNet, conv_block, plain, upsample


def simple_unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 16,
    levels: int = 4,
    style: BlockOptions = BlockOptions(up="bilinear-corners"),
) -> UNet:
    """One convolution–norm–ReLU a stage. Skips go through a 1×1 one to half the width, which the decoder keeps.

    The source ends in a norm and a ReLU, which logits cannot pass; here a convolution with bias ends it.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of every stage of the encoder.
        levels: number of poolings.
        style: see `BlockOptions`.
    """
    half = max(width // 2, 1)
    bias = style.norm != "conv"
    conv, point = plain(style.kernel, bias=bias), plain(1, bias=bias)
    ups = [upsample(half, half, style)[0] for _ in range(levels)]
    return UNet(
        encoder=[conv_block([source, width], [conv], style) for source in [in_channels, *[width] * (levels - 1)]],
        deepest=conv_block([width, width, half], [conv, conv], style),
        ups=ups,
        decoder=[conv_block([2 * half, half], [conv], style) for _ in range(levels)],
        head=nn.Conv2d(half, out_channels, 1),
        style=style,
        bridges=[conv_block([width, half], [point], style) for _ in range(levels)],
    )
