"""Nets with the modules, names and order of definition that other projects give theirs, small; each runs as theirs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def named(**modules: nn.Module) -> nn.ModuleDict:
    return nn.ModuleDict(modules)


class Doubled(nn.Module):
    """Two convolutions with norm and ReLU, as `double_conv`; the second may be depthwise, then pointwise."""

    def __init__(self, into: int, middle: int, out: int, bias: bool, separable: bool) -> None:
        super().__init__()
        second: nn.Module = nn.Conv2d(middle, out, 3, padding=1, bias=bias)
        if separable:
            depthwise = nn.Conv2d(middle, middle, 3, padding=1, groups=middle)
            second = named(conv=nn.Sequential(depthwise, nn.Conv2d(middle, out, 1)))
        first = nn.Conv2d(into, middle, 3, padding=1, bias=bias)
        self.double_conv = nn.Sequential(
            first, nn.BatchNorm2d(middle), nn.ReLU(), second, nn.BatchNorm2d(out), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.double_conv:
            x = layer["conv"](x) if isinstance(layer, nn.ModuleDict) else layer(x)
        return x


class DoubleConvUNet(nn.Module):
    """The layout of Pytorch-UNet (milesial), and of Light U-Net, which is made of it."""

    def __init__(
        self, channels: int, outputs: int, *, transposed: bool = False, bias: bool = False, separable: bool = False
    ) -> None:
        super().__init__()
        narrow = 1 if transposed else 2

        def block(into: int, middle: int, out: int) -> Doubled:
            return Doubled(into, middle, out, bias, separable)

        self.inc = block(channels, 4, 4)
        for level, width in enumerate((8, 16, 32), 1):
            down = named(maxpool_conv=nn.Sequential(nn.MaxPool2d(2), block(width // 2, width, width)))
            self.add_module(f"down{level}", down)
        self.down4 = named(maxpool_conv=nn.Sequential(nn.MaxPool2d(2), block(32, 64 // narrow, 64 // narrow)))
        for level, width in enumerate((64, 32, 16, 8), 1):
            up: dict[str, nn.Module] = {"up": nn.ConvTranspose2d(width, width // 2, 2, 2)} if transposed else {}
            out = max(4, width // 2 // narrow)
            self.add_module(f"up{level}", named(**up, conv=block(width, width // 2, out)))
        self.outc = named(conv=nn.Conv2d(4, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.inc(x)
        skips = []
        for level in range(1, 5):
            skips.append(x)
            x = self.get_submodule(f"down{level}.maxpool_conv")(x)
        for level in range(1, 5):
            up = self.get_submodule(f"up{level}")
            rising = (
                up["up"](x) if "up" in up else F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            )
            x = up["conv"](torch.cat([skips.pop(), rising], 1))
        return self.outc["conv"](x)


class Down(nn.Module):
    """Two convolutions with ReLU and norm; both convolutions are defined before the norms."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(into, out, 3, padding=1), nn.Conv2d(out, out, 3, padding=1)
        self.conv1_bn, self.conv2_bn = nn.BatchNorm2d(out), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2_bn(F.relu(self.conv2(self.conv1_bn(F.relu(self.conv1(x))))))


class FixedPointUNet(nn.Module):
    """The layout of the fixed-point study (AskariHemmat et al. 2019), whose modules are those of medicaltorch."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4 = Down(channels, 4), Down(4, 8), Down(8, 16), Down(16, 16)
        self.up1, self.up2, self.up3 = (named(downconv=Down(a, b)) for a, b in ((32, 16), (24, 8), (12, 4)))
        self.conv9 = nn.Conv2d(4, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in (self.conv1, self.conv2, self.conv3):
            skips.append(block(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.conv4(x)
        for up in (self.up1, self.up2, self.up3):
            rising = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up["downconv"](torch.cat([rising, skips.pop()], 1))
        return self.conv9(x)


class Shortcut(nn.Module):
    """A basic block of ResNet, under torchvision's names."""

    def __init__(self, into: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        side = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + side)


class Resnet18UNet(nn.Module):
    """The layout of segmentation-models-pytorch, of which Resnet18-UNet is made: encoder, decoder, head."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        encoder = {"conv1": nn.Conv2d(channels, 64, 7, 2, 3, bias=False), "bn1": nn.BatchNorm2d(64)}
        into = 64
        for stage, out in enumerate((64, 128, 256, 512), 1):
            first = Shortcut(into, out, 1 if stage == 1 else 2)
            encoder[f"layer{stage}"] = nn.Sequential(first, Shortcut(out, out, 1))
            into = out
        self.encoder = nn.ModuleDict(encoder)

        def convolution(into: int, out: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(into, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU())

        blocks, into = [], 512
        for out, skip in ((64, 256), (32, 128), (16, 64), (8, 64), (4, 0)):
            blocks.append(named(conv1=convolution(into + skip, out), conv2=convolution(out, out)))
            into = out
        self.decoder = named(blocks=nn.ModuleList(blocks))
        self.segmentation_head = nn.Sequential(nn.Conv2d(4, outputs, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.encoder["bn1"](self.encoder["conv1"](x)))
        skips = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        for stage in range(1, 5):
            x = self.encoder[f"layer{stage}"](x)
            skips.append(x)
        x = skips.pop()
        for block in self.decoder["blocks"]:
            rising = F.interpolate(x, scale_factor=2)
            x = block["conv2"](block["conv1"](torch.cat([rising, skips.pop()], 1) if skips else rising))
        return self.segmentation_head(x)


@torch.no_grad()
def trained(net: nn.Module, seed: int = 0) -> nn.Module:
    """Every number another, so that a swap of layers shows; the norms have seen images of 0 … 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.rand(tensor.shape, generator=generator)
            fan = max(1, tensor[0].numel()) if tensor.ndim > 1 else 1
            tensor.copy_((drawn - 0.5) * 6 / fan**0.5 if tensor.ndim > 1 else drawn + 0.5 * ("bias" not in name))
    channels = next(module for module in net.modules() if isinstance(module, nn.Conv2d)).in_channels
    for _ in range(30):
        net.train()(torch.rand(4, channels, 32, 32, generator=generator))
    return net.eval()
