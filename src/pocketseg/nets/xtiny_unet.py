"""XTinyU-Net: nnU-Net's plain U-Net with every stage capped at a few channels (arXiv 2605.09639)."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from pocketseg.nets.blocks import BlockOptions, UNet, conv_block, plain, upsample

NNUNET_WIDTH = 32


def xtiny_unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 8,
    levels: int = 6,
    style: BlockOptions = BlockOptions(up="transposed"),
) -> UNet:
    """Two convolutions a stage; the first of a stage halves by its stride, and transposed convolutions double.

    The source has instance norm and leaky ReLU, which the engine has not: here they are batch norm and ReLU, with as
    many parameters. Its heads for deep supervision serve its training only and are left out.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: the cap: the most channels of a stage. nnU-Net has 32·2^i, so up to 32 it is the width of all.
        levels: how many times the image is halved.
        style: see `BlockOptions`.
    """
    widths = [min(NNUNET_WIDTH * 2**level, width) for level in range(levels + 1)]
    conv, halving = plain(style.kernel), plain(style.kernel, stride=2)
    first = conv_block([in_channels, widths[0], widths[0]], [conv, conv], style)
    stages = [conv_block([above, here, here], [halving, conv], style) for above, here in pairwise(widths)]
    ups = [upsample(widths[level + 1], widths[level], style) for level in reversed(range(levels))]
    return UNet(
        encoder=[first, *stages[:-1]],
        deepest=stages[-1],
        ups=[layer for layer, _ in ups],
        decoder=[
            conv_block([here + rising, here, here], [conv, conv], style)
            for here, (_, rising) in zip(reversed(widths[:-1]), ups, strict=True)
        ],
        head=nn.Conv2d(widths[0], out_channels, 1),
        style=style,
        pools=False,
    )
