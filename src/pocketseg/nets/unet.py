"""The U-Net that everybody compares with (Ronneberger, Fischer and Brox 2015), same-padded, and its separable form."""

from __future__ import annotations

from torch import nn

from pocketseg.nets.blocks import BlockOptions, Conv, ConvKind, UNet, conv_block, conv_of, plain, separable, upsample


def unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 64,
    levels: int = 4,
    conv: ConvKind = "plain",
    style: BlockOptions = BlockOptions(up="nearest-conv"),
) -> UNet:
    """Widths width·2^i down to width·2^levels; the upsampling's convolution halves the width.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of the first block.
        levels: number of poolings.
        conv: plain or separable convolutions in the blocks.
        style: see `BlockOptions`.
    """
    make = conv_of(conv, style.kernel)
    return _doubling(in_channels, out_channels, width, levels, make, make, make, plain(2), style)


def separable_unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 64,
    levels: int = 4,
    multiplier: int = 1,
    source_multiplier: bool = False,
    style: BlockOptions = BlockOptions(norm="none", up="nearest-conv", init="glorot"),
) -> UNet:
    """The U-Net with separable convolutions everywhere but in the first block and the head (Zhang 2022).

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of the first block.
        levels: number of poolings.
        multiplier: filters of each channel in a depthwise convolution.
        source_multiplier: leave the multiplier out of the convolutions that follow a concatenation, as the source
            does by mistake.
        style: see `BlockOptions`.
    """
    make = separable(style.kernel, multiplier=multiplier)
    after_concat = separable(style.kernel) if source_multiplier else make
    up = separable(2, multiplier=multiplier)
    return _doubling(in_channels, out_channels, width, levels, plain(style.kernel), make, after_concat, up, style)


def _doubling(
    in_channels: int,
    out_channels: int,
    width: int,
    levels: int,
    first: Conv,
    make: Conv,
    after_concat: Conv,
    up: Conv,
    style: BlockOptions,
) -> UNet:
    """The layout of both: `first` makes the first block, `after_concat` the convolution that follows a skip."""
    widths = [width * 2**level for level in range(levels + 1)]
    ups = [upsample(2 * b, b, style, up) for b in reversed(widths[:-1])]
    decoder = [
        conv_block([b + rising, b, b], [after_concat, make], style)
        for b, (_, rising) in zip(reversed(widths[:-1]), ups, strict=True)
    ]
    return UNet(
        encoder=[
            conv_block([in_channels, width, width], [first, first], style),
            *(conv_block([b // 2, b, b], [make, make], style) for b in widths[1:-1]),
        ],
        deepest=conv_block([widths[-2], widths[-1], widths[-1]], [make, make], style),
        ups=[layer for layer, _ in ups],
        decoder=decoder,
        head=nn.Conv2d(width, out_channels, 1),
        style=style,
    )
