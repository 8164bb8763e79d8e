"""Costs against hand computation, real runs, and single pixels sent through nets."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from pocketseg.errors import PocketsegError, RecipeError
from pocketseg.nets import NETS, build, parameter_count, skeleton
from pocketseg.nets.cost import cost


def test_a_plain_net_by_hand():
    core = skeleton("thin_unet", 3, 2, width=4, blocks=1, norm="none")
    found = cost(core, (3, 8, 6))
    layers = {layer.name: layer for layer in found.layers}
    assert layers["encoder.0.0"].macs == 8 * 6 * 4 * 3 * 9
    assert layers["encoder.0.0"].parameters == 4 * 3 * 9 + 4
    assert layers["encoder.0.0"].bytes == 4 * (4 * 3 * 9 + 4)
    assert layers["deepest.0"].macs == 4 * 3 * 4 * 4 * 9
    assert layers["decoder.0.0"].macs == 8 * 6 * 4 * 8 * 9
    assert layers["head"].macs == 8 * 6 * 2 * 4
    assert layers["cat"].inputs == ("encoder.0.3", "ups.0")
    assert (layers["cat"].kind, layers["cat"].shape, layers["cat"].stage) == ("concat", (8, 8, 6), "")
    assert found.macs == 48 * 4 * 9 * (3 + 4) + 12 * 4 * 9 * (4 + 4) + 48 * 4 * 9 * (8 + 4) + 48 * 2 * 4
    assert found.parameters == (108 + 4) + 3 * (144 + 4) + (288 + 4) + (144 + 4) + (8 + 2)
    assert found.buffers == 0
    assert found.bytes == 4 * found.parameters
    assert found.largest_activation_bytes == 4 * 8 * 48
    # While the concatenation is made: the skip, what was upsampled, and both together.
    assert found.peak_bytes == 4 * 48 * (4 + 4 + 8)


def test_a_separable_net_by_hand():
    found = cost(skeleton("thin_unet", 1, 1, width=4, blocks=1, conv="separable"), (1, 8, 8))
    # Depthwise, pointwise, for encoder, deepest and decoder, then the head.
    blocks = (64, 1), (64, 4), (16, 4), (16, 4), (64, 8), (64, 4)
    assert found.macs == sum(pixels * (c * 9 + c * 4) for pixels, c in blocks) + 64 * 4
    norms = 6 * 4
    assert found.parameters == sum(c * 9 + c * 4 + 4 for _, c in blocks) + 2 * norms + 4 + 1
    assert found.buffers == 2 * norms
    assert found.bytes == 4 * (found.parameters + found.buffers)


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), 3 * 2 * 8 * 2 * 9),
        (nn.Conv2d(4, 6, (1, 3), padding="same"), 6 * 4 * 6 * 4 * 3),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), 6 * 4 * 4 * 6 * 4),
        (nn.ConvTranspose2d(4, 6, 4, stride=2, groups=2), 6 * 4 * 4 * 3 * 16),
        (nn.Linear(4, 5), 4 * 6 * 5 * 4),
        (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)), 0),
    ],
)
def test_what_multiplies(layer, macs):
    assert cost(nn.Sequential(layer), (4, 6, 4)).macs == macs


@pytest.mark.parametrize(
    ("arch", "side", "macs"),
    [
        ("unet", 256, 54.534e9),  # 218.1 G at 512×512 for the vanilla net of blu-net
        ("separable_unet", 512, 39.065e9),
        ("thin_unet_w32_n6_separable", 256, 0.4919e9),
    ],
)
def test_known_figures(arch, side, macs):
    assert cost(skeleton(arch, 1, 1), (1, side, side)).macs == pytest.approx(macs, rel=1e-4)


@pytest.mark.parametrize("arch", NETS)
def test_the_layers_of_every_net_add_up(arch):
    core = skeleton(arch, 2, 3)
    found = cost(core, (2, 128, 192))
    assert found.parameters == parameter_count(core)
    assert found.buffers == sum(buffer.numel() for name, buffer in core.named_buffers() if "tracked" not in name)
    assert found.layers[0].name == "image" and found.layers[0].shape == (2, 128, 192)
    assert found.layers[-1].shape == (3, 128, 192)
    names = [layer.name for layer in found.layers]
    assert len(set(names)) == len(names)
    for index, layer in enumerate(found.layers):
        assert set(layer.inputs) <= set(names[:index])
        assert bool(layer.inputs) == (index > 0)
        assert layer.stage or not layer.parameters
    assert cost(core, (2, 256, 384)).macs == 4 * found.macs


def measured_peak(core: nn.Module, shape: tuple[int, int, int]) -> int:
    """Bytes of all storages that live while each node runs, on real tensors. A tensor goes after its last user."""
    traced = fx.symbolic_trace(core.eval())
    order = list(traced.graph.nodes)
    last_use = {node: max((order.index(user) for user in node.users), default=-1) for node in order}
    modules, values, peak = dict(traced.named_modules()), {}, 0
    for index, node in enumerate(order[:-1]):
        arguments = fx.node.map_arg(node.args, values.get)
        options = fx.node.map_arg(node.kwargs, values.get)
        if node.op == "placeholder":
            values[node] = torch.rand(1, *shape)
        elif node.op == "call_module":
            values[node] = modules[node.target](*arguments, **options)
        elif node.op == "call_function":
            values[node] = node.target(*arguments, **options)
        else:
            assert node.op == "call_method"
            values[node] = getattr(arguments[0], node.target)(*arguments[1:], **options)
        tensors = [t for value in values.values() for t in (value if isinstance(value, tuple) else (value,))]
        peak = max(peak, sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values()))
        values = {kept: value for kept, value in values.items() if last_use[kept] > index}
    return peak


@pytest.mark.parametrize("size", [(64, 96), (128, 64)])
@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("thin_unet", {"blocks": 4}),
        ("thin_unet_w32_n5_separable", {}),  # dropout
        ("unet", {"width": 8}),
        ("light_unet_transposed", {"width": 8}),
        ("resnet18_unet", {}),
        ("densenet121_unet", {}),
        ("tiny_unet", {"width": 16}),  # views
        ("mk_unet", {}),
    ],
)
def test_the_peak_is_what_a_real_run_holds(arch, options, size):
    core = build(arch, 1, 1, **options).core
    with torch.inference_mode():
        assert cost(core, (1, *size)).peak_bytes == measured_peak(core, (1, *size))


class Peak(nn.Module):
    """Something whose memory is known by heart; inputs of 1 × 4 × 4 take 64 bytes."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=inplace)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dropout(self.relu(x))
        return torch.cat([y, y], 1).reshape(1, 1, 2, 4, 4)[:, :, 0]


def test_in_place_and_views_add_nothing():
    assert cost(Peak(inplace=True), (1, 4, 4)).peak_bytes == 64 + 128
    assert cost(Peak(inplace=False), (1, 4, 4)).peak_bytes == 64 + 128
    assert cost(nn.Sequential(nn.Dropout(0.5)), (1, 4, 4)).peak_bytes == 64
    relu = nn.Sequential(nn.ReLU(inplace=False))
    assert cost(relu, (1, 4, 4)).peak_bytes == 128
    assert cost(nn.Sequential(nn.ReLU(inplace=True)), (1, 4, 4)).peak_bytes == 64


def reached_rows(core: nn.Module, height: int) -> int:
    """Rows of the image that one row of logits depends on, found by sending every row through the net by itself.

    All weights are positive and all biases zero, so that a one can get lost nowhere.
    """
    for module in core.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(module.weight, 1.0 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    rows = torch.zeros(height, 1, height, 8, dtype=torch.float64)
    rows[range(height), :, range(height)] = 1
    with torch.inference_mode():
        logits = core.double().eval()(rows)
    reached = logits.amax((1, 3)) > 0  # (row of the image, row of the logits)
    extents = []
    for column in reached.T:
        found = column.nonzero().flatten().tolist()
        extents.append(found[-1] - found[0] + 1 if found else 0)
    return max(extents)


@pytest.mark.parametrize("up", ["nearest", "bilinear", "bilinear-corners", "nearest-conv", "transposed"])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_the_receptive_field_is_what_rows_reach(up, levels):
    core = build("unet", 1, 1, width=2, levels=levels, up=up, norm="none").core
    height = 64 * levels  # more than the receptive field, so that the border hides nothing
    assert cost(core, (1, height, 8)).receptive_field == reached_rows(core, height)


def test_a_layer_that_runs_twice_has_its_weights_once():
    layer = nn.Conv2d(2, 2, 3, padding=1)
    found = cost(nn.Sequential(layer, layer), (2, 4, 4))
    assert [row.name for row in found.layers] == ["image", "0", "0 (2)"]
    assert (found.parameters, found.bytes, found.macs) == (38, 152, 2 * 16 * 36)


class Chain(nn.Sequential):
    stride = 1


class Fork(nn.Module):
    """Two ways from the image, side by side."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.one(x), self.other(x)], 1)


def enlarged(mode: str, **options) -> nn.Module:
    return nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4, mode=mode, **options))


@pytest.mark.parametrize(
    "core",
    [
        Chain(nn.Conv2d(1, 1, 3, dilation=3, padding=3), nn.Conv2d(1, 1, 5, padding="same")),
        Chain(nn.Conv2d(1, 1, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, 1), nn.Conv2d(1, 1, 3, padding=1)),
        Chain(nn.AvgPool2d(4), nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=1)),
        Chain(nn.Conv2d(1, 1, 3, padding=1), nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 5, stride=4, dilation=2)),
        Chain(nn.ZeroPad2d((0, 0, 2, 1)), nn.Conv2d(1, 1, 4), nn.Upsample(scale_factor=2, mode="bilinear")),
        Fork(Chain(nn.ZeroPad2d((1, 2, 2, 1)), nn.Conv2d(1, 1, 4)), nn.Conv2d(1, 1, 3, padding=1)),
        Fork(nn.Conv2d(1, 1, 9, padding=4), enlarged("bilinear", align_corners=True)),
        Fork(nn.Conv2d(1, 1, 9, padding=4), enlarged("bilinear", align_corners=False)),
        Fork(
            Chain(nn.ZeroPad2d((1, 1, 2, 0)), nn.Conv2d(1, 1, 3)), Chain(nn.ZeroPad2d((1, 1, 0, 2)), nn.Conv2d(1, 1, 3))
        ),
    ],
)
def test_the_receptive_field_of_single_layers(core):
    assert cost(core, (1, 96, 8)).receptive_field == reached_rows(core, 96)


class Gate(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(F.adaptive_avg_pool2d(x, 1))


def test_a_global_average_sees_the_whole_image():
    assert cost(Gate(), (3, 8, 8)).receptive_field is None


class Strange(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.fft2(x).real


class Crop(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, 2:-2]


class Loose(nn.Module):
    """A weight that no layer owns, which nobody would count."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


@pytest.mark.parametrize(
    ("core", "told"),
    [
        (Strange(), "the cost of fft_fft2"),
        (Loose(), "the cost of scale"),
        (Crop(), "8 rows into 4"),
        (nn.Sequential(nn.Flatten(2)), "the cost of Flatten"),
    ],
)
def test_what_is_not_known_is_refused(core, told):
    with pytest.raises(PocketsegError, match=told):
        cost(core, (1, 8, 8))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(RecipeError, match="size 250×100: this net needs multiples of 16 → take 256×112"):
        cost(skeleton("unet", 1, 1), (1, 250, 100))


def test_the_net_is_left_alone():
    core = build("thin_unet", 1, 1, width=4, blocks=2).core.train()
    before = {name: tensor.clone() for name, tensor in core.state_dict().items()}
    assert cost(core, (1, 32, 32)) == cost(skeleton("thin_unet", 1, 1, width=4, blocks=2), (1, 32, 32))
    assert core.training
    assert all(torch.equal(before[name], tensor) for name, tensor in core.state_dict().items())


@pytest.mark.parametrize(
    ("arch", "stages"),
    [
        ("unet", "encoder.0 encoder.1 deepest ups.0 decoder.0 ups.1 decoder.1 head"),
        ("thin_unet_w32_n4_separable", "encoder.0 encoder.1 deepest decoder.0 decoder.1 head"),
        ("resnet18_unet", "encoder.conv1 encoder.layer1 decoder.0 decoder.1 head"),
        (
            "densenet121_unet",
            "encoder.conv0 encoder.denseblock1 encoder.transition1 decoder.0 decoder.1 head",
        ),
    ],
)
def test_stages_are_the_parts_of_the_figure(arch, stages):
    option = "blocks" if "thin" in arch else "levels"
    found = cost(skeleton(arch, 1, 1, **{option: 2}), (1, 32, 32))
    assert [stage for stage in dict.fromkeys(layer.stage for layer in found.layers) if stage] == stages.split()
