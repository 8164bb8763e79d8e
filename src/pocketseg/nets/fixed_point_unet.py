"""The U-Net of the fixed-point study (AskariHemmat et al. 2019)."""

from __future__ import annotations

from torch import nn

from pocketseg.nets.blocks import BlockOptions, UNet, conv_block, plain, upsample


def fixed_point_unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 64,
    levels: int = 3,
    style: BlockOptions = BlockOptions(norm="relu", up="bilinear", skip="last", init="uniform"),
) -> UNet:
    """Widths width·2^i; the deepest block is as wide as the one above it, the head is 3×3.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of the first block.
        levels: number of poolings.
        style: see `BlockOptions`.
    """
    make = plain(style.kernel)
    widths = [width * 2**level for level in range(levels)]

    def block(channels_in: int, channels_out: int) -> nn.Module:
        return conv_block([channels_in, channels_out, channels_out], [make, make], style)

    belows = [widths[-1], *reversed(widths[1:])]
    ups = [upsample(below, below, style) for below in belows]
    return UNet(
        encoder=[block(a, b) for a, b in zip([in_channels, *widths[:-1]], widths, strict=True)],
        deepest=block(widths[-1], widths[-1]),
        ups=[layer for layer, _ in ups],
        decoder=[block(b + rising, b) for b, (_, rising) in zip(reversed(widths), ups, strict=True)],
        head=nn.Conv2d(width, out_channels, 3, padding=1),
        style=style,
    )
