"""Encoders of segmentation-models-pytorch behind our interface; runs where the extra `encoders` is installed."""

import importlib.util

import pytest
import torch

from pocketseg.errors import RecipeError
from pocketseg.nets import build, parameter_count, skeleton
from pocketseg.nets.encoders import encoder

if importlib.util.find_spec("segmentation_models_pytorch") is None:
    pytest.skip("needs the extra `encoders`, which brings torchvision", allow_module_level=True)


@pytest.fixture(autouse=True, scope="module")
def torchvision_operators():
    """A torchvision made for another torch lacks two operators that no encoder uses; named, they let it import."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms(Tensor a, Tensor b, float c) -> Tensor", "qnms(Tensor a, Tensor b, float c) -> Tensor"):
        try:
            library.define(name)
        except RuntimeError as error:
            assert "already" in str(error) or "multiple" in str(error)
    yield library


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "densenet121"])
def test_ours_has_the_size_and_the_features_of_theirs(name):
    from segmentation_models_pytorch import Unet
    from segmentation_models_pytorch.encoders import get_encoder

    ours, theirs = encoder(name, 3), get_encoder(name, in_channels=3, weights=None)
    assert ours.out_channels == tuple(theirs.out_channels[1:])
    assert parameter_count(skeleton(f"{name}_unet", 3, 2)) == parameter_count(
        Unet(name, encoder_weights=None, classes=2)
    )
    ours.load_state_dict(ours.translate(theirs.state_dict()))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        for a, b in zip(ours.eval()(images)[:-1], theirs.eval()(images)[1:-1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["efficientnet-b0", "tu-mobilenetv3_small_050", "mobilenet_v2"])
def test_any_encoder_of_theirs_makes_a_net(name):
    net = build("encoder_unet", 1, 3, encoder_name=name, levels=4, width=8)
    logits = net(torch.randn(2, 1, 37, 50))
    assert logits.shape == (2, 3, 37, 50)
    logits.square().mean().backward()
    assert net.core.encoder.published is None
    assert all(p.grad is not None for p in net.core.decoder.parameters())


def test_a_net_that_timm_does_not_have():
    with pytest.raises(RecipeError, match=r"net.encoder_name: 'tu-nonsense' cannot be built"):
        build("encoder_unet", 1, 1, encoder_name="tu-nonsense")


def test_an_unknown_encoder_names_the_near_ones():
    with pytest.raises(RecipeError, match="there is no encoder 'mobilenet_v3' → did you mean mobilenet_v2"):
        build("encoder_unet", 1, 1, encoder_name="mobilenet_v3")
