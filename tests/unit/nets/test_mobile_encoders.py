"""MobileNetV1 and EfficientNet-Lite0: sizes of the sources, where they are cut, padding and activation."""

import numpy as np
import pytest
import torch
from torch import nn

from pocketseg.errors import RecipeError
from pocketseg.nets import build, check_net, parameter_count, skeleton
from pocketseg.nets.mobile_encoders import MOBILE, mobile_encoder
from pocketseg.quant import Scheme, calibrate, integer_net, quantize_net


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def kernels(net: nn.Module) -> int:
    return sum(module.weight.numel() for module in net.modules() if isinstance(module, nn.Conv2d))


def test_lite0_is_the_classifier_without_its_head():
    """4,652,008 parameters: 1280 channels in front of 1000 classes are not in the encoder."""
    assert parameter_count(mobile_encoder("efficientnet_lite0", 3)) == 4_652_008 - 1281 * 1000 - 1280 * (320 + 2)


@pytest.mark.parametrize(("name", "classifier", "features"), [
    ("mobilenet_v1_025", 475_544, 256), ("mobilenet_v1_050", 1_342_536, 512),
])  # fmt: skip
def test_mobilenet_is_the_classifier_without_its_head(name, classifier, features):
    """Keras counts the running statistics too, and has 1000 classes."""
    body = mobile_encoder(name, 3)
    statistics = sum(2 * module.num_features for module in body.modules() if isinstance(module, nn.BatchNorm2d))
    assert parameter_count(body) + statistics == classifier - 1000 * (features + 1)


@pytest.mark.parametrize("name", MOBILE)
@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_feature_maps(name, levels):
    body = mobile_encoder(name, 2, levels).eval()
    features = body(picture(2, 2, 64, 96))
    expected = [(2, c, 64 // 2**n, 96 // 2**n) for n, c in enumerate(body.out_channels, 1)]
    assert [tuple(feature.shape) for feature in features] == expected and len(features) == levels


@pytest.mark.parametrize("name", MOBILE)
@pytest.mark.parametrize("cut", [{"levels": 2}, {"levels": 4}, {"levels": 4, "blocks": 7}], ids=str)
def test_a_cut_encoder_is_the_upper_part_of_the_whole(name, cut):
    whole, part = mobile_encoder(name, 3).eval(), mobile_encoder(name, 3, **cut).eval()
    part.load_state_dict(part.translate(whole.state_dict()))
    images = picture(1, 3, 64, 64)
    found, expected = part(images), whole(images)
    assert all(torch.equal(a, b) for a, b in zip(found[:-1], expected, strict=False))
    assert "blocks" in cut or torch.equal(found[-1], expected[len(found) - 1])


def test_blocks_that_end_at_another_size():
    with pytest.raises(RecipeError, match=r"net.encoder_blocks: is 3; .* after 4 halvings are 6 to 11 → "):
        mobile_encoder("mobilenet_v1_025", 1, 4, blocks=3)
    (fault,) = check_net({"arch": "efficientnet_lite0_unet", "encoder_blocks": 16}, "stages.0.net")
    assert str(fault).startswith("stages.0.net.encoder_blocks: is 16; the blocks of efficientnet_lite0 that end after")


@pytest.mark.parametrize("name", MOBILE)
def test_padding_is_that_of_tensorflow(name):
    """Against the definition: zeros in all max((⌈n/s⌉ − 1)·s + k − n, 0), the smaller half in front."""
    body = mobile_encoder(name, 1).double().eval()
    seen = []
    for module in body.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            module.register_forward_hook(lambda conv, given, out: seen.append((conv, given[0], out)))
    before = []
    for module in body.modules():
        if isinstance(module, nn.ZeroPad2d):
            module.register_forward_hook(lambda _, given, out: before.append(given[0]))
    body(picture(1, 1, 64, 96).double())
    assert len(seen) == len(before) == 5
    for (conv, _, found), x in zip(seen, before, strict=True):
        kernel, image = conv.weight[0, 0].detach().numpy(), x[0, 0].detach().numpy()
        sides = []
        for n, k in zip(image.shape, kernel.shape, strict=True):
            zeros = max((-(-n // 2) - 1) * 2 + k - n, 0)
            sides.append((zeros // 2, zeros - zeros // 2))
        padded = np.pad(image, sides)
        k = len(kernel)
        expected = sum(
            kernel[i, j] * padded[i : i + image.shape[0] : 2, j : j + image.shape[1] : 2]
            for i in range(k)
            for j in range(k)
        )
        np.testing.assert_allclose(found[0, 0].detach().numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("relu6", [True, False])
def test_activations_are_cut_at_six_unless_they_shall_not(relu6):
    body = mobile_encoder("mobilenet_v1_025", 1, 2, relu6=relu6).eval()
    with torch.inference_mode():
        for module in body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.bias.fill_(50)
        highest = [float(feature.max()) for feature in body(picture(1, 1, 32, 32))]
    assert (highest == [6, 6]) if relu6 else (min(highest) > 6)


def test_the_shipped_nets_are_as_small_as_said():
    """A quarter of MobileNetV1 to two blocks of 128 channels: 34 k numbers in kernels."""
    body = skeleton("mobilenet_v1_025_unet", 1, 1).encoder
    assert 34_000 < kernels(body) < 36_000 and body.out_channels == (16, 32, 64, 128)


def test_signs_of_activations_still_differ():
    """ReLU6 in front of a sign would leave nothing but +1."""
    net = build("mobilenet_v1_025_unet", 1, 1, seed=1)
    quantize_net(net.core, Scheme("w1a1"))
    assert not [module for module in net.core.modules() if isinstance(module, nn.ReLU | nn.ReLU6)]
    calibrate(net.core, [picture(2, 1, 32, 32)])
    logits = integer_net(net.core)(picture(1, 1, 32, 32, seed=3))
    assert logits.isfinite().all() and logits.std() > 0


def published(body: nn.Module) -> dict[str, torch.Tensor]:
    """A whole encoder's tensors as the package names them, with a classifier."""
    names = {}
    for name, value in body.state_dict().items():
        # A line before the module's own name, and before each layer of a block: _blocks.3._bn1.weight.
        *modules, role = name.split(".")
        names[".".join([part if part.isdigit() else f"_{part}" for part in modules] + [role])] = value
    head = {
        "_conv_head.weight": torch.ones(1280, 320, 1, 1),
        "_bn1.weight": torch.ones(1280),
        "_fc.bias": torch.ones(9),
    }
    return names | head


def test_names_of_the_published_lite0():
    names = published(mobile_encoder("efficientnet_lite0", 3))
    for name, shape in {
        "_conv_stem.weight": (32, 3, 3, 3), "_bn0.running_var": (32,),
        "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
        "_blocks.0._project_conv.weight": (16, 32, 1, 1), "_blocks.1._expand_conv.weight": (96, 16, 1, 1),
        "_blocks.2._bn0.bias": (144,), "_blocks.15._bn2.running_mean": (320,),
    }.items():  # fmt: skip
        assert tuple(names[name].shape) == shape
    assert "_blocks.0._expand_conv.weight" not in names


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("levels", [2, 5])
def test_published_lite0_takes_standardized_images(channels, levels):
    """What a photograph of these numbers gives in the published net, away from the border."""
    whole = mobile_encoder("efficientnet_lite0", 3).double()
    whole(picture(4, 3, 64, 64).double())  # norms that have seen something
    body = mobile_encoder("efficientnet_lite0", channels, levels).double().eval()
    body.load_state_dict(body.translate(published(whole)))
    u = picture(1, channels, 64, 64, seed=1).double()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = 255 * (std[:, None, None] * u + mean[:, None, None])
    with torch.inference_mode():
        found, expected = body(u)[0], whole.eval()((pixels - 127) / 128)[0]
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(found[inside], expected[inside], rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.01


def test_what_is_ours_already_is_taken_as_it_is():
    body = mobile_encoder("efficientnet_lite0", 3)
    assert all(torch.equal(value, body.state_dict()[name]) for name, value in body.translate(body.state_dict()).items())
