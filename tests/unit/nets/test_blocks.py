import pytest
import torch
from torch import nn

from pocketseg.nets.blocks import AnySize, UNet, UpConv, conv, conv_block


def kinds(block: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in block.children()]


def test_a_separable_convolution_is_the_plain_one_of_its_product():
    """Pointwise after depthwise is a plain convolution with kernel[o, i] = pointwise[o, i] · depthwise[i]."""
    separable = conv("separable", 3, 5)
    depthwise, pointwise = separable.children()
    plain = conv("plain", 3, 5)
    plain.weight.data = pointwise.weight.data * depthwise.weight.data[:, 0][None]
    plain.bias.data = pointwise.bias.data
    images = torch.randn(2, 3, 9, 7)
    torch.testing.assert_close(separable(images), plain(images))
    assert depthwise.bias is None and pointwise.bias is not None


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("kind", ["plain", "separable"])
def test_a_convolution_keeps_the_size(kind, kernel):
    assert conv(kind, 2, 4, kernel)(torch.randn(1, 2, 6, 11)).shape == (1, 4, 6, 11)


@pytest.mark.parametrize(
    ("norm", "layers"),
    [
        ("conv", ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU"]),
        ("block", ["Conv2d", "ReLU", "Conv2d", "ReLU", "BatchNorm2d"]),
        ("none", ["Conv2d", "ReLU", "Conv2d", "ReLU"]),
    ],
)
def test_where_the_norm_stands(norm, layers):
    assert kinds(conv_block(3, 4, norm=norm)) == layers


def test_up_convolution_aligns_with_the_pixel_below_and_to_the_right():
    up = UpConv(1, 1)
    kernel = up[2]
    kernel.weight.data = torch.tensor([[[[1.0, 10.0], [100.0, 1000.0]]]])
    kernel.bias.data.zero_()
    found = up(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))[0, 0]
    large = torch.tensor([[1, 1, 2, 2, 0], [1, 1, 2, 2, 0], [3, 3, 4, 4, 0], [3, 3, 4, 4, 0], [0, 0, 0, 0, 0.0]])
    expected = large[:4, :4] + 10 * large[:4, 1:] + 100 * large[1:, :4] + 1000 * large[1:, 1:]
    assert torch.equal(found, expected)


def test_a_unet_takes_skips_from_deep_to_shallow():
    """With identities for blocks and a decoder that adds, the output can be computed by hand."""

    class Add(nn.Module):
        def forward(self, both):
            assert both.shape[1] == 2
            return 10 * both[:, :1] + both[:, 1:]

    class Plus(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return x + self.value

    ups = [nn.Upsample(scale_factor=2, mode="nearest") for _ in range(2)]
    net = UNet([Plus(1), Plus(2)], Plus(3), ups, [Add(), Add()], nn.Identity())
    assert net.stride == 4
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = net(x)
    half = torch.tensor([[5.0, 7.0], [13.0, 15.0]]) + 3
    deepest = 15.0 + 3 + 3
    middle = 10 * half + deepest
    expected = 10 * (x[0, 0] + 1) + middle.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(found[0, 0], expected)


class Counting(nn.Module):
    """A core that multiplies columns and rows by their number from the end, so that every padded pixel shows."""

    stride = 4

    def forward(self, x):
        self.seen = x
        return x * 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 8), (5, 3), (8, 9)])
def test_any_size_pads_below_and_to_the_right(height, width):
    core = Counting()
    images = torch.randn(2, 3, height, width)
    found = AnySize(core)(images)
    assert torch.equal(found, images * 2)
    seen = core.seen
    assert seen.shape[2] % 4 == 0 and seen.shape[3] % 4 == 0
    assert seen.shape[2] - height < 4 and seen.shape[3] - width < 4
    for row in range(seen.shape[2]):
        for column in range(seen.shape[3]):
            nearest = images[:, :, min(row, height - 1), min(column, width - 1)]
            assert torch.equal(seen[:, :, row, column], nearest)
