"""The thin U-Net: one width at every depth (Vaze, Xie and Namburete 2020)."""

from __future__ import annotations

from torch import nn

from pocketseg.nets.blocks import ConvKind, NormPlace, UNet, conv_block


def thin_unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 32,
    blocks: int = 5,
    conv: ConvKind = "plain",
    norm: NormPlace = "conv",
    output_width: int | None = None,
) -> UNet:
    """A U-Net whose blocks all have `width` channels; upsampling is nearest ×2 without a convolution.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of every block.
        blocks: encoder blocks, which is the number of poolings.
        conv: plain or separable.
        norm: where batch norm stands; `block` is the source's (width 32, 6 blocks, 1 → 1: 287,681 parameters
            plain, 42,410 separable).
        output_width: channels of the last block; None follows `width`, the source has 32 whatever the width.
    """
    last = output_width or width

    def block(channels_in: int, channels_out: int) -> nn.Module:
        return conv_block(channels_in, channels_out, kind=conv, norm=norm)

    return UNet(
        encoder=[block(in_channels, width), *(block(width, width) for _ in range(blocks - 1))],
        deepest=block(width, width),
        ups=[nn.Upsample(scale_factor=2, mode="nearest") for _ in range(blocks)],
        decoder=[*(block(2 * width, width) for _ in range(blocks - 1)), block(2 * width, last)],
        head=nn.Conv2d(last, out_channels, 1),
    )
