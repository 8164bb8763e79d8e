"""A U-Net of multi-kernel depthwise blocks, after MK-UNet (Rahman and Marculescu 2025)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from pocketseg.nets.blocks import BlockOptions, UNet, conv_block, depthwise, norm, plain, upsample

# Channels of the blocks from the image down, in units of the width.
WIDTHS = (1, 2, 4, 6, 10)


class MultiKernel(nn.Module):
    """Depthwise convolutions of several sizes side by side, each with its norm and ReLU, added up."""

    def __init__(self, channels: int, style: BlockOptions) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            conv_block([channels, channels], [depthwise(kernel)], style) for kernel in range(1, style.kernel + 1, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branches[0](x)
        for branch in self.branches[1:]:
            out = out + branch(x)
        return out


class InvertedResidual(nn.Module):
    """Wider by a pointwise convolution, several depthwise kernels, narrow again; added to the input where it fits."""

    def __init__(self, channels_in: int, channels_out: int, style: BlockOptions) -> None:
        super().__init__()
        inner = 2 * channels_in
        self.wide = conv_block([channels_in, inner], [plain(1)], style)
        self.kernels = MultiKernel(inner, style)
        self.narrow = nn.Conv2d(inner, channels_out, 1)
        self.norm = nn.Identity() if style.norm == "none" else norm(channels_out, style)
        self.adds = channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.narrow(self.kernels(self.wide(x))))
        return x + out if self.adds else out


def mk_unet(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 16,
    levels: int = 4,
    style: BlockOptions = BlockOptions(kernel=5, up="bilinear"),
) -> UNet:
    """Inverted residual blocks whose depthwise part has kernels of 1×1, 3×3, … up to `style.kernel`.

    The source's attention gates are left out, skips are concatenated, and its 1×1 stem is a 3×3 one.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of the first block; 4, 8, 32 and 64 are the source's smaller and larger nets.
        levels: number of poolings, at most 4.
        style: see `BlockOptions`.
    """
    widths = [width * factor for factor in WIDTHS[: levels + 1]]

    def block(channels_in: int, channels_out: int) -> nn.Module:
        return InvertedResidual(channels_in, channels_out, style)

    ups = [upsample(below, b, style) for below, b in zip(widths[:0:-1], widths[-2::-1], strict=True)]
    return UNet(
        encoder=[
            nn.Sequential(conv_block([in_channels, width], [plain(3)], style), block(width, width)),
            *(block(a, b) for a, b in pairwise(widths[:-1])),
        ],
        deepest=block(widths[-2], widths[-1]),
        ups=[layer for layer, _ in ups],
        decoder=[block(b + rising, b) for b, (_, rising) in zip(widths[-2::-1], ups, strict=True)],
        head=nn.Conv2d(width, out_channels, 1),
        style=style,
    )
