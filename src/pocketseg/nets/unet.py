"""The U-Net that everybody compares with (Ronneberger, Fischer and Brox 2015), same-padded."""

from __future__ import annotations

from torch import nn

from pocketseg.nets.blocks import ConvKind, NormPlace, UNet, UpConv, conv_block


def unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 64,
    levels: int = 4,
    conv: ConvKind = "plain",
    norm: NormPlace = "conv",
) -> UNet:
    """Widths width·2^i down to width·2^levels.

    Upsampling is nearest ×2 and a 2×2 convolution that halves the width.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of the first block.
        levels: number of poolings.
        conv: plain or separable convolutions in the blocks.
        norm: where batch norm stands; `block` is the layout of Vaze et al. 2020 (31,036,481 parameters for
            1 → 1), `none` the original's (31,030,593).
    """
    widths = [width * 2**level for level in range(levels + 1)]
    sources = [in_channels, *widths[:-2]]
    return UNet(
        encoder=[conv_block(a, b, kind=conv, norm=norm) for a, b in zip(sources, widths[:-1], strict=True)],
        deepest=conv_block(widths[-2], widths[-1], kind=conv, norm=norm),
        ups=[UpConv(2 * b, b) for b in reversed(widths[:-1])],
        decoder=[conv_block(2 * b, b, kind=conv, norm=norm) for b in reversed(widths[:-1])],
        head=nn.Conv2d(width, out_channels, 1),
    )
