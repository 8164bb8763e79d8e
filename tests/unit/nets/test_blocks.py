import pytest
import torch
from torch import nn

from pocketseg.errors import RecipeError
from pocketseg.nets.blocks import (
    AnySize,
    BlockOptions,
    UNet,
    UpConv,
    conv_block,
    conv_of,
    joined,
    plain,
    separable,
    upsample,
)
from pocketseg.nets.light_unet import grouped


def kinds(block: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in block.children()]


def test_a_separable_convolution_is_the_plain_one_of_its_product():
    """Pointwise after depthwise is a plain convolution with kernel[o, i] = pointwise[o, i] · depthwise[i]."""
    layers = separable(3)(3, 5)
    depthwise, pointwise = layers.children()
    single = plain(3)(3, 5)
    single.weight.data = pointwise.weight.data * depthwise.weight.data[:, 0][None]
    single.bias.data = pointwise.bias.data
    images = torch.randn(2, 3, 9, 7)
    torch.testing.assert_close(layers(images), single(images))
    assert depthwise.bias is None and pointwise.bias is not None


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("kind", ["plain", "separable"])
def test_a_convolution_keeps_the_size(kind, kernel):
    assert conv_of(kind, kernel)(2, 4)(torch.randn(1, 2, 6, 11)).shape == (1, 4, 6, 11)


@pytest.mark.parametrize(
    ("norm", "layers"),
    [
        ("conv", ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU"]),
        ("block", ["Conv2d", "ReLU", "Conv2d", "ReLU", "BatchNorm2d"]),
        ("relu", ["Conv2d", "ReLU", "BatchNorm2d", "Conv2d", "ReLU", "BatchNorm2d"]),
        ("none", ["Conv2d", "ReLU", "Conv2d", "ReLU"]),
    ],
)
def test_where_the_norm_stands(norm, layers):
    block = conv_block([3, 4, 5], [plain(3)] * 2, BlockOptions(norm=norm, norm_eps=0.02, norm_momentum=0.3))
    assert kinds(block) == layers
    norms = [layer for layer in block if isinstance(layer, nn.BatchNorm2d)]
    assert all((layer.eps, layer.momentum) == (0.02, 0.3) for layer in norms)


def test_a_multiplied_separable_convolution():
    """Each channel is filtered twice; the pointwise kernel mixes all of them."""
    depthwise, pointwise = separable(3, multiplier=2)(3, 5)
    assert depthwise.weight.shape == (6, 1, 3, 3) and depthwise.groups == 3 and depthwise.bias is None
    assert pointwise.weight.shape == (5, 6, 1, 1)


@pytest.mark.parametrize(
    ("channels", "group", "image", "groups"),
    [(3, 1, 3, 3), (3, 2, 3, 1), (3, 128, 3, 1), (1, 4, 1, 1), (64, 128, 3, 1), (256, 128, 3, 2), (1024, 128, 3, 8),
     (64, 1, 3, 64), (5, 4, 5, 1)],
)  # fmt: skip
def test_channels_of_a_group(channels, group, image, groups):
    mixing, pointwise = grouped(3, group, image)(channels, 7)
    assert mixing.groups == groups and mixing.bias is not None
    assert mixing.weight.shape == (channels, channels // groups, 3, 3)
    assert pointwise.weight.shape == (7, channels, 1, 1) and pointwise.bias is not None


@pytest.mark.parametrize("group", [3, 48, 100])
def test_groups_must_divide_the_channels(group):
    with pytest.raises(RecipeError, match=f"is {group}, which does not divide a layer of 128 channels"):
        grouped(3, group, 3)(128, 64)


@pytest.mark.parametrize(
    ("up", "channels"),
    [("nearest", 6), ("bilinear", 6), ("bilinear-corners", 6), ("nearest-conv", 2), ("transposed", 2)],
)
def test_upsampling_says_how_many_channels_it_gives(up, channels):
    style = BlockOptions(up=up)
    layer, found = upsample(6, 2, style)
    assert found == channels and style.up_keeps_width == (channels == 6)
    assert layer(torch.randn(1, 6, 3, 5)).shape == (1, channels, 6, 10)


def test_bilinear_upsampling_differs_at_the_corners():
    ramp = torch.tensor([[[[0.0, 1.0]]]])
    between, _ = upsample(1, 1, BlockOptions(up="bilinear"))
    corners, _ = upsample(1, 1, BlockOptions(up="bilinear-corners"))
    torch.testing.assert_close(between(ramp)[0, 0, 0], torch.tensor([0, 0.25, 0.75, 1]))
    torch.testing.assert_close(corners(ramp)[0, 0, 0], torch.tensor([0, 1 / 3, 2 / 3, 1]))


def test_the_place_of_the_skip():
    skip, up = torch.zeros(1, 2, 1, 1), torch.ones(1, 3, 1, 1)
    assert joined(skip, up, BlockOptions(skip="first")).flatten().tolist() == [0, 0, 1, 1, 1]
    assert joined(skip, up, BlockOptions(skip="last")).flatten().tolist() == [1, 1, 1, 0, 0]


def test_where_dropout_stands():
    """Nothing is drawn again for the other places when one is switched off; in inference nothing is dropped."""
    torch.manual_seed(0)

    class Note(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = []

        def forward(self, x):
            self.seen.append((x == 0).float().mean().item())
            return x[:, :1]

    for option, where in (("input_dropout", 0), ("block_dropout", 1), ("deepest_dropout", 2)):
        notes = [Note() for _ in range(4)]
        ups = [nn.Upsample(scale_factor=2)]
        net = UNet([notes[0]], notes[1], ups, [notes[2]], notes[3], BlockOptions(**{option: 0.5}))
        ones = torch.ones(1, 1, 32, 32)
        net.train()(ones)
        first, _, decoder, head = (note.seen[0] for note in notes)
        dropped = {"input_dropout": first, "block_dropout": head, "deepest_dropout": decoder}[option]
        assert 0.2 < dropped < 0.8, where
        assert (first > 0) == (option == "input_dropout")
        assert (head > 0) == (option != "deepest_dropout")
        for note in notes:
            note.seen.clear()
        assert net.eval()(ones).eq(1).all() and not any(note.seen[0] for note in notes)


def test_a_uniform_start_spares_first_block_and_head():
    parts = [nn.Conv2d(1, 1, 9) for _ in range(5)]
    before = [part.weight.clone() for part in parts]
    ups = [nn.ConvTranspose2d(1, 1, 2, stride=2)]
    UNet([parts[0], parts[1]], parts[2], ups, [parts[3]], parts[4], BlockOptions(init="uniform"))
    changed = [not torch.equal(part.weight, old) for part, old in zip(parts, before, strict=True)]
    assert changed == [False, True, True, True, False]
    assert parts[1].weight.abs().max() > 0.5 and ups[0].weight.abs().max() <= 1


def test_up_convolution_aligns_with_the_pixel_below_and_to_the_right():
    up = UpConv(1, 1, plain(2))
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
    net = UNet([Plus(1), Plus(2)], Plus(3), ups, [Add(), Add()], nn.Identity(), BlockOptions())
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
