import pytest
import torch
from torch.nn import functional as F

from pocketseg.nets import parameter_count, skeleton
from pocketseg.nets.encoder_base import adapt_input_channels
from pocketseg.nets.encoders import encoder

OWN = ["resnet18", "resnet34", "resnet50", "densenet121"]
# Parameters of torchvision's classifiers (its documentation), and channels of their last layer.
CLASSIFIERS = {
    "resnet18": (11_689_512, 512), "resnet34": (21_797_672, 512),
    "resnet50": (25_557_032, 2048), "densenet121": (7_978_856, 1024),
}  # fmt: skip


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", OWN)
def test_parameters_are_those_of_the_classifier_without_its_last_layer(name):
    whole, channels = CLASSIFIERS[name]
    assert parameter_count(encoder(name, 3)) == whole - 1000 * channels - 1000


@pytest.mark.parametrize("name", OWN)
def test_a_unet_is_its_encoder_and_its_decoder(name):
    """Decoder: two 3×3 convolutions without bias and two norms a block, widths 256 to 16; head 3×3 with bias."""
    body = encoder(name, 3)
    below, count = body.out_channels[-1], parameter_count(body)
    for width, skip in zip((256, 128, 64, 32, 16), (*body.out_channels[-2::-1], 0), strict=True):
        count += 9 * (below + skip) * width + 9 * width * width + 4 * width
        below = width
    assert parameter_count(skeleton(f"{name}_unet", 3, 1)) == count + 9 * 16 + 1


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5])
def test_feature_maps_are_as_published(name, levels):
    body = encoder(name, 2, levels).eval()
    features = body(picture(2, 2, 64, 96))
    expected = [(2, c, 64 // 2**n, 96 // 2**n) for n, c in enumerate(body.out_channels, 1)]
    assert [tuple(feature.shape) for feature in features] == expected and len(features) == levels


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("levels", [2, 3, 4])
def test_a_shallow_encoder_is_the_upper_part_of_the_whole(name, levels):
    whole, shallow = encoder(name, 3).eval(), encoder(name, 3, levels).eval()
    shallow.load_state_dict(shallow.translate(whole.state_dict()))
    images = picture(1, 3, 64, 64)
    for a, b in zip(whole(images), shallow(images), strict=False):
        assert torch.equal(a, b)


def test_names_are_those_of_the_published_files():
    """A sample of every kind of name, as torchvision documents its modules."""
    resnet = encoder("resnet50", 3).state_dict()
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7), "bn1.running_var": (64,), "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer1.0.downsample.1.bias": (256,), "layer2.3.conv3.weight": (512, 128, 1, 1),
        "layer4.2.bn2.num_batches_tracked": (),
    }.items():  # fmt: skip
        assert tuple(resnet[name].shape) == shape
    assert "layer2.1.downsample.0.weight" not in resnet
    dense = encoder("densenet121", 3).state_dict()
    for name, shape in {
        "features.conv0.weight": (64, 3, 7, 7), "features.norm0.weight": (64,),
        "features.denseblock1.denselayer6.norm1.weight": (224,),
        "features.denseblock3.denselayer24.conv2.weight": (32, 128, 3, 3),
        "features.transition2.conv.weight": (256, 512, 1, 1), "features.norm5.running_mean": (1024,),
    }.items():  # fmt: skip
        assert tuple(dense[name].shape) == shape


def test_old_spelling_and_classifier():
    body = encoder("densenet121", 3)
    old = {}
    for name, value in body.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        for part in ("norm", "conv"):
            for number in "12":
                name = name.replace(f".{part}{number}.", f".{part}.{number}.") if "denselayer" in name else name
        old[name] = value + 1
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    old |= {"classifier.weight": torch.zeros(1000, 1024), "classifier.bias": torch.zeros(1000)}
    found = body.translate(old)
    assert set(found) == set(body.state_dict())
    assert torch.equal(found["features.norm5.weight"], body.state_dict()["features.norm5.weight"] + 1)


def test_unknown_names_are_kept_so_that_they_are_reported():
    found = encoder("resnet18", 3).translate({"layer5.0.conv1.weight": torch.zeros(1)})
    assert "layer5.0.conv1.weight" in found


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7])
def test_other_numbers_of_channels(channels):
    kernel = picture(8, 3, 7, 7)
    adapted = adapt_input_channels(kernel, channels)
    assert adapted.shape == (8, channels, 7, 7)
    for channel in range(channels):
        factor = 1 if channels == 3 else 3 / channels
        source = kernel.sum(1) if channels == 1 else kernel[:, channel % 3] * factor
        torch.testing.assert_close(adapted[:, channel], source)


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_gray_in_every_channel_gives_the_same_response(channels):
    kernel, gray = picture(8, 3, 7, 7), picture(1, 1, 20, 20, seed=1)
    expected = F.conv2d(gray.expand(-1, 3, -1, -1), kernel)
    found = F.conv2d(gray.expand(-1, channels, -1, -1), adapt_input_channels(kernel, channels))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OWN)
def test_a_published_file_goes_into_a_gray_encoder(name):
    rgb, gray = encoder(name, 3).double().eval(), encoder(name, 1).double().eval()
    gray.load_state_dict(gray.translate(rgb.state_dict()))
    image = picture(1, 1, 64, 64).double()
    for a, b in zip(gray(image), rgb(image.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
