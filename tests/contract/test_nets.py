"""The exam that every net of the catalogue takes. A new net is one line in `SMALL`, and its paper one in `SOURCE`."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pocketseg.errors import RecipeError
from pocketseg.nets import NETS, AnySize, build, parameter_count

SMALL: dict[str, dict[str, Any]] = {
    "unet": {"width": 4, "levels": 2},
    "unet, separable, no norm": {"width": 3, "levels": 3, "conv": "separable", "norm": "none"},
    "thin_unet": {"width": 5, "blocks": 3},
    "thin_unet, separable, block norm, wide end": {
        "width": 4, "blocks": 2, "conv": "separable", "norm": "block", "output_width": 7,
    },
}  # fmt: skip
SOURCE: dict[str, tuple[int, dict[str, Any]]] = {
    "unet, block norm": (31_036_481, {"norm": "block"}),
    "unet, no norm": (31_030_593, {"norm": "none"}),
    "thin_unet, plain, 6": (287_681, {"width": 32, "blocks": 6, "norm": "block"}),
    "thin_unet, separable, 6": (42_410, {"width": 32, "blocks": 6, "norm": "block", "conv": "separable"}),
    "thin_unet, plain, 4": (195_009, {"width": 32, "blocks": 4, "norm": "block"}),
    "thin_unet, separable, 4": (28_778, {"width": 32, "blocks": 4, "norm": "block", "conv": "separable"}),
    "thin_unet, separable, 6, width 16": (
        14_778, {"width": 16, "blocks": 6, "norm": "block", "conv": "separable", "output_width": 32},
    ),
}  # fmt: skip
ODD_SIZES = [(1, 1), (3, 5), (15, 17), (97, 130)]

every_net = pytest.mark.parametrize("name", SMALL)


def make(name: str, in_channels: int = 1, out_channels: int = 1, seed: int = 0) -> AnySize:
    return build(name.split(",")[0], in_channels, out_channels, seed=seed, **SMALL[name])


def picture(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights(net: AnySize) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in net.parameters()])


def test_every_net_takes_the_exam():
    assert {name.split(",")[0] for name in SMALL} == set(NETS)
    assert {name.split(",")[0] for name in SOURCE} == set(NETS)


@pytest.mark.parametrize("name", SOURCE)
def test_parameters_of_the_source(name):
    count, options = SOURCE[name]
    net = NETS[name.split(",")[0]]
    with torch.device("meta"):
        assert parameter_count(net(1, 1, **options)) == count


@pytest.mark.parametrize("name", [name for name in SOURCE if name.startswith("thin_unet")])
def test_the_source_size_runs(name):
    net = build("thin_unet", 1, 1, **SOURCE[name][1])
    logits = net(picture(2, 1, 70, 64))
    assert logits.shape == (2, 1, 70, 64) and logits.isfinite().all() and logits.std() > 0


@every_net
@pytest.mark.parametrize("size", ODD_SIZES, ids=str)
def test_odd_sizes(name, size):
    net = make(name)
    for training in (True, False):
        logits = net.train(training)(picture(2, 1, *size))
        assert logits.shape == (2, 1, *size) and logits.dtype == torch.float32
        assert logits.isfinite().all()
        net.zero_grad()
        logits.square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@every_net
def test_a_gradient_reaches_every_parameter(name):
    # In inference mode: a bias in front of a batch norm has no gradient while the norm takes it away again.
    net = make(name).eval()
    (net(picture(2, 1, 97, 130)) * picture(2, 1, 97, 130, seed=2)).sum().backward()
    untouched = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


@every_net
def test_the_output_follows_the_input(name):
    net = make(name).eval()
    first = picture(1, 1, 32, 32)
    second = first.clone()
    second[0, 0, 16, 16] += 10
    change = (net(second) - net(first)).abs()[0, 0]
    assert change[16, 16] > 0
    # A net is no constant and no pointwise function.
    assert (change > 0).sum() > 9


@every_net
def test_three_channels_and_four_logits(name):
    net = make(name, 3, 4).eval()
    images = picture(2, 3, 20, 24)
    logits = net(images)
    assert logits.shape == (2, 4, 20, 24)
    for channel in range(3):
        without = images.clone()
        without[:, channel] = 0
        assert not torch.allclose(net(without), logits)
    assert all(not torch.allclose(logits[:, a], logits[:, b]) for a in range(4) for b in range(a))


@every_net
def test_inference_repeats_itself(name):
    net = make(name).eval()
    images = picture(2, 1, 15, 17)
    with torch.inference_mode():
        assert torch.equal(net(images), net(images))


@every_net
def test_samples_do_not_mix_in_inference(name):
    net = make(name).eval()
    images = picture(3, 1, 17, 15)
    with torch.inference_mode():
        # Another batch size may take another convolution, which sums in another order.
        torch.testing.assert_close(net(images)[1:2], net(images[1:2]), rtol=1e-4, atol=1e-5)


@every_net
def test_weights_go_through_a_file(name):
    net = make(name)
    for seed in range(3):  # moves the running statistics
        net(picture(4, 1, 32, 32, seed=seed))
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = make(name, seed=5)
    images = picture(2, 1, 21, 33)
    assert not torch.equal(other.eval()(images), net.eval()(images))
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.eval()(images), net.eval()(images))


@every_net
def test_seeds(name):
    torch.manual_seed(11)
    first = make(name, seed=3)
    torch.rand(7)
    again, other = make(name, seed=3), make(name, seed=4)
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


@every_net
def test_building_leaves_the_global_generator_alone(name):
    torch.manual_seed(12)
    expected = torch.rand(4)
    torch.manual_seed(12)
    make(name, seed=3)
    assert torch.equal(torch.rand(4), expected)


@every_net
def test_building_leaves_the_gpu_generators_alone(name, monkeypatch):
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    make(name)
    assert seeded == []


@every_net
def test_initial_weights(name):
    """He et al. 2015: kernels of standard deviation sqrt(2 / fan-in), biases of zero."""
    options = {**SMALL[name], "width": 24}
    net = build(name.split(",")[0], 1, 1, **options)
    convolutions = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d)]
    assert all(not m.bias.any() for m in convolutions if m.bias is not None)
    large = [m.weight for m in convolutions if m.weight.numel() > 1000]
    assert large
    for kernel in large:
        expected = (2 / kernel[0].numel()) ** 0.5
        assert kernel.std().item() == pytest.approx(expected, rel=0.1)


@every_net
def test_the_stride_is_the_one_that_the_core_needs(name):
    net = make(name)
    assert net.stride == net.core.stride
    good, bad = picture(2, 1, 3 * net.stride, 2 * net.stride), picture(2, 1, 3 * net.stride, 2 * net.stride - 1)
    assert net.core(good).shape == good.shape
    with pytest.raises(RuntimeError):
        net.core(bad)


@every_net
def test_sizes_between_strides_are_padded_by_repetition(name):
    net = make(name).eval()
    images = picture(2, 1, net.stride + 1, 2 * net.stride - 1)
    padded = F.pad(images, (0, 1, 0, net.stride - 1), mode="replicate")
    assert padded.shape[2:] == (2 * net.stride, 2 * net.stride)
    with torch.inference_mode():
        expected = net.core(padded)[:, :, : net.stride + 1, : 2 * net.stride - 1]
        assert torch.equal(net(images), expected)


@every_net
def test_channels_last_and_bf16(name):
    net = make(name).eval()
    images = picture(2, 1, 32, 32)
    with torch.inference_mode():
        expected = net(images)
        net.to(memory_format=torch.channels_last)
        found = net(images.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            rough = net(images)
    # bf16 keeps 8 bits; a net this deep loses a few of them.
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - expected).abs().max() < 0.1 * expected.abs().max()


@every_net
def test_an_unknown_option_names_the_near_one(name):
    with pytest.raises(RecipeError, match=r"net\.widht: is no option of .* did you mean width\?"):
        build(name.split(",")[0], 1, 1, widht=3)
