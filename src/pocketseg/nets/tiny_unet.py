"""A U-Net of cascaded receptive fields, after TinyU-Net (Chen et al. 2024)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pocketseg.errors import RecipeError
from pocketseg.nets.blocks import BlockOptions, UNet, conv_block, norm, plain, upsample

CASCADE = 8


class Cascade(nn.Module):
    """A few channels go through one depthwise convolution after another; all results are mixed by a pointwise one.

    So a block sees as far as seven convolutions at the price of depthwise ones on a sixteenth of its channels.
    """

    def __init__(self, channels_in: int, channels_out: int, style: BlockOptions) -> None:
        super().__init__()
        if channels_out % (2 * CASCADE):
            raise RecipeError(
                "net.width", f"gives a block of {channels_out} channels", f"take a multiple of {2 * CASCADE}"
            )
        part = channels_out // (2 * CASCADE)
        self.reduce = conv_block([channels_in, 2 * part], [plain(1)], style)
        self.steps = nn.ModuleList(self._step(part, style) for _ in range(CASCADE - 1))
        self.mix = conv_block([CASCADE * part, channels_out], [plain(1)], style)
        self.adds = channels_in == channels_out

    @staticmethod
    def _step(channels: int, style: BlockOptions) -> nn.Module:
        depthwise = nn.Conv2d(channels, channels, style.kernel, padding=style.kernel // 2, groups=channels)
        return depthwise if style.norm == "none" else nn.Sequential(depthwise, norm(channels, style))

    def forward(self, x: Tensor) -> Tensor:
        kept, moving = self.reduce(x).chunk(2, 1)
        parts = [kept + moving]
        for step in self.steps:
            moving = step(moving)
            parts.append(moving)
        out: Tensor = self.mix(torch.cat(parts, 1))
        return x + out if self.adds else out


def tiny_unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 64,
    levels: int = 4,
    style: BlockOptions = BlockOptions(up="bilinear"),
) -> UNet:
    """One cascade a block; widths width·2^i. As in the source, no block stands at the deepest level.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of the first block, a multiple of 16.
        levels: number of poolings.
        style: see `BlockOptions`; `kernel` is that of the depthwise convolutions.
    """
    widths = [width * 2**level for level in range(levels)]
    belows = [widths[-1], *reversed(widths[1:])]
    ups = [upsample(below, below, style) for below in belows]
    return UNet(
        encoder=[Cascade(a, b, style) for a, b in zip([in_channels, *widths[:-1]], widths, strict=True)],
        deepest=nn.Identity(),
        ups=[layer for layer, _ in ups],
        decoder=[Cascade(b + rising, b, style) for b, (_, rising) in zip(reversed(widths), ups, strict=True)],
        head=nn.Conv2d(width, out_channels, 1),
        style=style,
    )
