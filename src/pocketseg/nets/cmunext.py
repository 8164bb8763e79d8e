"""A U-Net with large depthwise kernels, after CMUNeXt (Tang et al. 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from pocketseg.nets.blocks import BlockOptions, UNet, UpConv, conv_block, depthwise, plain, upsample

# Channels (in sixteenths of the width), and number of mixing blocks, from the image down.
WIDTHS, DEPTHS = (16, 32, 128, 160, 256), (1, 1, 1, 3, 1)


class Mixer(nn.Module):
    """A depthwise convolution beside a shortcut, then four times wider and back."""

    def __init__(self, channels: int, kernel: int, style: BlockOptions) -> None:
        super().__init__()
        self.space = conv_block([channels, channels], [depthwise(kernel)], style)
        self.channels = conv_block([channels, 4 * channels, channels], [plain(1), plain(1)], style)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.channels(x + self.space(x))
        return out


def cmunext(
    in_channels: int,
    out_channels: int,
    *,
    width: int = 16,
    levels: int = 4,
    style: BlockOptions = BlockOptions(kernel=7, norm="relu", up="bilinear"),
) -> UNet:
    """Mixers in the encoder; in the decoder a convolution of two groups, skip and upsampled apart, then pointwise.

    ReLU stands where the source has GELU.

    Args:
        in_channels: image channels.
        out_channels: logits.
        width: channels of the first block.
        levels: number of poolings, at most 4.
        style: see `BlockOptions`; `kernel` is that of the three deepest blocks, the others have 3×3.
    """
    widths = [width * part // 16 for part in WIDTHS[: levels + 1]]
    sources = [in_channels, *widths[:-1]]

    def encoder(level: int) -> nn.Module:
        a, b = sources[level], widths[level]
        if level == 0:
            return nn.Sequential(
                conv_block([a, b], [plain(3)], style), Mixer(b, 3, style), conv_block([b, b], [plain(3)], style)
            )
        kernel = style.kernel if level > 1 else 3
        mixers = [Mixer(a, kernel, style) for _ in range(DEPTHS[level])]
        return nn.Sequential(*mixers, conv_block([a, b], [plain(3)], style))

    ups, decoder = [], []
    for below, b in zip(widths[:0:-1], widths[-2::-1], strict=True):
        up, rising = upsample(below, b, style)
        # Weights after resizing bring the width to the skip's; an upsampling with weights has done so already.
        ups.append(
            up
            if isinstance(up, UpConv | nn.ConvTranspose2d)
            else nn.Sequential(up, conv_block([rising, b], [plain(3)], style))
        )
        decoder.append(conv_block([2 * b, 2 * b, 4 * b, b], [depthwise(3, groups=2), plain(1), plain(1)], style))
    return UNet(
        encoder=[encoder(level) for level in range(levels)],
        deepest=encoder(levels),
        ups=ups,
        decoder=decoder,
        head=nn.Conv2d(width, out_channels, 1),
        style=style,
    )
