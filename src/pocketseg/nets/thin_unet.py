"""The thin U-Net: one width at every depth (Vaze, Xie and Namburete 2020)."""

from __future__ import annotations

from torch import nn

from pocketseg.nets.blocks import BlockOptions, ConvKind, UNet, conv_block, conv_of, upsample


def thin_unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 32,
    blocks: int = 5,
    conv: ConvKind = "plain",
    output_width: int | None = None,
    extra_convs: int = 0,
    style: BlockOptions = BlockOptions(),
) -> UNet:
    """A U-Net whose blocks all have `width` channels.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of every block.
        blocks: encoder blocks, which is the number of poolings.
        conv: plain or separable.
        output_width: channels of the last block; None follows `width`, the source has 32 whatever the width.
        extra_convs: convolutions that the last encoder block has beyond two; the source's student has 1.
        style: see `BlockOptions`.
    """
    last = output_width or width
    make = conv_of(conv, style.kernel)

    def block(channels_in: int, channels_out: int, convs: int = 2) -> nn.Module:
        return conv_block([channels_in, *[channels_out] * convs], [make] * convs, style)

    convs = [2] * (blocks - 1) + [2 + extra_convs]
    sources = [in_channels] + [width] * (blocks - 1)
    return UNet(
        encoder=[block(source, width, count) for source, count in zip(sources, convs, strict=True)],
        deepest=block(width, width),
        ups=[upsample(width, width, style)[0] for _ in range(blocks)],
        decoder=[block(2 * width, out) for out in [width] * (blocks - 1) + [last]],
        head=nn.Conv2d(last, out_channels, 1),
        style=style,
    )
