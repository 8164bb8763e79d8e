"""Light and Lighter U-Net, and the plain net they are held against (Li, Chouzenoux et al. 2021)."""

from __future__ import annotations

from torch import nn

from pocketseg.errors import RecipeError
from pocketseg.nets.blocks import BlockOptions, Conv, UNet, conv_block, plain, upsample

BLOCKS = BlockOptions(up="bilinear-corners", init="torch", deepest_dropout=0.5)


def light_unet_baseline(
    in_channels: int, out_channels: int, *, width: int = 64, levels: int = 4, style: BlockOptions = BLOCKS
) -> UNet:
    """Plain convolutions throughout.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of the first block.
        levels: number of poolings.
        style: see `BlockOptions`; upsampling without weights makes the lower half of the net half as wide.
    """
    make = plain(style.kernel)
    return _double_convs(in_channels, out_channels, width, levels, make, make, style)


def light_unet(
    in_channels: int, out_channels: int, *, width: int = 64, levels: int = 4, style: BlockOptions = BLOCKS
) -> UNet:
    """The second convolution of every block is depthwise, then pointwise, both with bias.

    Args: as `light_unet_baseline`.
    """
    second = grouped(style.kernel, 1, in_channels)
    return _double_convs(in_channels, out_channels, width, levels, plain(style.kernel), second, style)


def lighter_unet(
    in_channels: int,
    out_channels: int,
    *,
    group_channels: int = 128,
    width: int = 64,
    levels: int = 4,
    style: BlockOptions = BLOCKS,
) -> UNet:
    """Every convolution is grouped, then pointwise.

    Args:
        in_channels: image channels.
        out_channels: logits.
        group_channels: channels of each group (C), not the number of groups; 1 is depthwise.
        width: channels of the first block.
        levels: number of poolings.
        style: see `BlockOptions`.

    Raises:
        RecipeError: group_channels does not divide the channels of a layer.
    """
    make = grouped(style.kernel, group_channels, in_channels)
    return _double_convs(in_channels, out_channels, width, levels, make, make, style)


def grouped(kernel: int, group_channels: int, image_channels: int) -> Conv:
    """A grouped convolution that keeps the channels, then a pointwise one; both with bias.

    A layer with fewer channels than a group is one group, and so is the image where the groups do not divide it.
    """

    def make(channels_in: int, channels_out: int) -> nn.Module:
        inside = min(channels_in, group_channels)
        if channels_in % inside and channels_in == image_channels:
            inside = channels_in
        if channels_in % inside:
            raise RecipeError(
                "net.group_channels",
                f"is {group_channels}, which does not divide a layer of {channels_in} channels",
                "take a power of two, and a width that is a multiple of it",
            )
        groups = channels_in // inside
        mixing = nn.Conv2d(channels_in, channels_in, kernel, padding=kernel // 2, groups=groups)
        return nn.Sequential(mixing, nn.Conv2d(channels_in, channels_out, 1))

    return make


def _double_convs(
    in_channels: int, out_channels: int, width: int, levels: int, first: Conv, second: Conv, style: BlockOptions
) -> UNet:
    """Where upsampling keeps the width, the deepest block and the decoder are half as wide as where it halves it."""
    widths = [width * 2**level for level in range(levels)]
    narrow = style.up_keeps_width
    deepest = widths[-1] if narrow else 2 * widths[-1]
    ups, decoder, below = [], [], deepest
    for b in reversed(widths):
        up, rising = upsample(below, b, style)
        out = max(b // 2, width) if narrow else b
        ups.append(up)
        decoder.append(conv_block([b + rising, (b + rising) // 2, out], [first, second], style))
        below = out
    sources = [in_channels, *widths[:-1]]
    return UNet(
        encoder=[conv_block([a, b, b], [first, second], style) for a, b in zip(sources, widths, strict=True)],
        deepest=conv_block([widths[-1], deepest, deepest], [first, second], style),
        ups=ups,
        decoder=decoder,
        head=nn.Conv2d(width, out_channels, 1),
        style=style,
    )
