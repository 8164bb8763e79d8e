"""Weights as other projects lay them out, matched by order: our net then computes what theirs does."""

from __future__ import annotations

import pytest
import torch

from helpers.foreign_nets import DoubleConvUNet, FixedPointUNet, Resnet18UNet, trained
from helpers.nets import picture
from pocketseg.errors import ModelFileError
from pocketseg.nets import build
from pocketseg.weights import ends_of, read_in_order, read_weights, take_in_order

# Theirs, and the net of ours with its options. Both compute in f32.
PROJECTS = {
    "Pytorch-UNet": (DoubleConvUNet(3, 1), "light_unet_baseline"),
    "Pytorch-UNet with bias": (DoubleConvUNet(3, 1, bias=True), "light_unet_baseline"),
    "Pytorch-UNet, transposed": (DoubleConvUNet(3, 1, transposed=True), "light_unet_baseline_transposed"),
    "Light U-Net": (DoubleConvUNet(3, 1, bias=True, separable=True), "light_unet"),
    "fixed-point U-Net": (FixedPointUNet(3, 1), "fixed_point_unet"),
    "Resnet18-UNet": (Resnet18UNet(3, 1), "resnet18_unet"),
    "three classes": (DoubleConvUNet(1, 4), "light_unet_baseline"),
}


def ours(name: str, channels: int = 3, outputs: int = 1):
    return build(name, channels, outputs, width=4).eval()


@pytest.mark.whole
@pytest.mark.parametrize("project", PROJECTS)
def test_same_weights_same_logits(project):
    theirs, name = PROJECTS[project]
    theirs = trained(theirs)
    channels, outputs = ends_of(theirs.state_dict())
    net, images = ours(name, channels, outputs), picture(2, channels, 32, 64)
    with torch.no_grad():
        wanted, before = theirs(images), net(images)
        taken = take_in_order(net.core, theirs.state_dict(), channels=channels, where="file")
        found = net(images)
    spread = wanted.std()
    assert spread > 0.1 and (before - wanted).abs().max() > spread
    assert (found - wanted).abs().max() < 1e-3 * spread
    every = [key for key in net.core.state_dict() if not key.endswith("num_batches_tracked")]
    assert sorted((*taken.names, *taken.zeros)) == sorted(every) and taken.complete
    assert bool(taken.zeros) == (project in ("Pytorch-UNet", "Pytorch-UNet, transposed", "three classes"))


def test_two_logits_become_one_whose_sigmoid_is_their_softmax():
    theirs, net, images = trained(DoubleConvUNet(3, 2)), ours("light_unet_baseline"), picture(1, 3, 32, 32)
    take_in_order(net.core, theirs.state_dict(), channels=3, where="file")
    with torch.no_grad():
        torch.testing.assert_close(net(images).sigmoid(), theirs(images).softmax(1)[:, 1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prefix", ["module.", "model.net.", ""])
def test_what_stands_before_all_names_is_left_out(prefix):
    theirs = trained(Resnet18UNet(1, 1))
    tensors = {prefix + name: value for name, value in theirs.state_dict().items()}
    net, images = ours("resnet18_unet", 1), picture(1, 1, 32, 32)
    take_in_order(net.core, tensors, channels=1, where="file")
    with torch.no_grad():
        torch.testing.assert_close(net(images), theirs(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("light_unet_baseline", {"width": 8}, "layer 'inc.double_conv.0': weight is 4×3×3×3; our layer 'encoder.0.0'"),
        ("light_unet_baseline", {"width": 4, "levels": 3}, "has 19 convolutions, the net has 15"),
        ("light_unet_baseline", {"width": 4, "norm": "none"}, "has 18 norms, the net has 0"),
        ("light_unet", {"width": 4}, "has 19 convolutions, the net has 28"),
    ],
)
def test_another_net_is_refused_and_changes_nothing(name, options, words):
    net = build(name, 3, 1, **options)
    before = {key: value.clone() for key, value in net.core.state_dict().items()}
    with pytest.raises(ModelFileError, match=words):
        take_in_order(net.core, trained(DoubleConvUNet(3, 1)).state_dict(), channels=3, where="file")
    assert all(torch.equal(value, before[key]) for key, value in net.core.state_dict().items())


def test_numbers_that_are_not_finite_are_refused():
    tensors = trained(DoubleConvUNet(3, 1)).state_dict()
    tensors["outc.conv.bias"][0] = torch.nan
    with pytest.raises(ModelFileError, match=r"layer 'outc.conv': bias holds numbers that are not finite"):
        take_in_order(ours("light_unet_baseline").core, tensors, channels=3, where="file")


def test_a_bias_that_the_net_has_no_place_for_is_refused():
    tensors = trained(Resnet18UNet(1, 1)).state_dict()
    tensors["decoder.blocks.0.conv1.0.bias"] = torch.ones(64)
    with pytest.raises(ModelFileError, match="has weight, bias; our layer"):
        take_in_order(ours("resnet18_unet", 1).core, tensors, channels=1, where="file")


def test_safetensors_files_have_no_order(tmp_path):
    import safetensors.torch

    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file({"b.weight": torch.ones(1), "a.weight": torch.ones(1)}, path)
    assert set(read_weights(path)) == {"a.weight", "b.weight"}
    with pytest.raises(ModelFileError, match="does not keep the order of layers"):
        read_in_order(path)
