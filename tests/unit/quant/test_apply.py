import pytest
import torch
from torch import nn

from pocketseg.errors import RecipeError, TrainingError
from pocketseg.nets import build, skeleton
from pocketseg.quant import Scheme, calibrate, integer_net, latent_weights, nominal, quantize_net, ternary_tanh
from pocketseg.quant.apply import convolutions, quantizers
from pocketseg.quant.layers import Affine, IntegerConv2d, QuantConv2d
from pocketseg.quant.ternary import TernaryTanhActivation

MIB = 2**20


def picture(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def words_of(arch: str, **options) -> dict[str, tuple[str, ...]]:
    return {name: words[1:] for name, _, words in convolutions(skeleton(arch, 1, 1, **options))}


def test_layers_in_the_order_they_run():
    words = words_of("thin_unet", conv="separable", blocks=2)
    names = list(words)
    assert names[0] == "encoder.0.0.0" and names[-1] == "head"
    assert names.index("deepest.0.0") < names.index("decoder.0.0.0") < names.index("decoder.1.0.0")
    # The image has one channel: its filter is an ordinary convolution.
    assert words["encoder.0.0.0"] == ("first", "conv") and words["encoder.0.0.1"] == ("pointwise",)
    assert words["encoder.1.0.0"] == ("depthwise",) and words["encoder.1.0.1"] == ("pointwise", "after depthwise")
    assert words["head"] == ("last", "pointwise")


def test_names_of_weights_stay():
    net = build("thin_unet", 1, 1, width=4, blocks=2)
    before = {name: value.clone() for name, value in net.core.state_dict().items()}
    quantize_net(net.core, Scheme("w4a8"))
    found = latent_weights(net.core)
    assert set(found) == set(before) and all(torch.equal(found[name], before[name]) for name in before)
    assert set(net.core.state_dict()) > set(before)


def test_relu_becomes_a_clip_where_activations_are_signs():
    for text, kind in (
        ("w1a1", nn.Hardtanh),
        ("residual w2a2", nn.Hardtanh),
        ("w1a8", nn.ReLU),
        ("residual w2", nn.ReLU),
    ):
        net = build("thin_unet", 1, 1, width=4, blocks=2)
        quantize_net(net.core, Scheme(text))
        kinds = {type(m) for m in net.modules() if isinstance(m, nn.Hardtanh | nn.ReLU)}
        assert kinds == {kind}


def test_calibration_changes_nothing_but_grids():
    net = build("thin_unet", 1, 1, width=4, blocks=2, norm="conv")
    quantize_net(net.core, Scheme("w4a8"))
    with pytest.raises(TrainingError, match="has seen no data"):
        net.eval()(picture(1, 1, 8, 8))
    before = {name: value.clone() for name, value in latent_weights(net.core).items()}
    calibrate(net.core.eval(), [picture(2, 1, 8, 8, seed=seed) for seed in range(3)])
    assert not net.core.training and not any(q.training for q in quantizers(net.core).values())
    after = latent_weights(net.core)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(q.started for q in quantizers(net.core).values() if q.held)
    assert net(picture(1, 1, 8, 8)).isfinite().all()


def test_a_pattern_that_fits_no_layer_is_reported_what_there_is():
    core = skeleton("thin_unet", 1, 1, width=4, blocks=2)
    with pytest.raises(
        RecipeError,
        match=r"quant\.keep: 'depthwise' fits no layer → this net has first, last, conv, pointwise, and layers such as",
    ):
        quantize_net(core, Scheme("w4a8", keep=("depthwise",)))
    with pytest.raises(RecipeError, match=r"quant\.layers: 'encoder\.9\.0' fits no layer"):
        quantize_net(core, Scheme("w4a8", layers={"encoder.9.0": "float"}))
    with pytest.raises(RecipeError, match="leaves no layer to quantize"):
        quantize_net(core, Scheme("w4a8", keep=("*",)))


def test_norms_are_folded_behind_convolutions_and_kept_elsewhere():
    for norm, affine in (("conv", 0), ("relu", 10), ("block", 5), ("none", 0)):
        net = build("thin_unet", 1, 1, width=4, blocks=2, norm=norm)
        quantize_net(net.core, Scheme("w4a8"))
        calibrate(net.core, [picture(2, 1, 8, 8)])
        whole = integer_net(net.core)
        kinds = [type(module) for module in whole.modules()]
        assert nn.BatchNorm2d not in kinds and QuantConv2d not in kinds
        assert kinds.count(Affine) == affine and kinds.count(IntegerConv2d) == 11
        assert not any(p.requires_grad for p in whole.parameters())
        assert any(isinstance(m, QuantConv2d) for m in net.modules())  # the trained net is untouched


def test_sizes_that_papers_state():
    """BLU-Net with three planes: 1.431 MiB; the fixed-point net at four bits with its first block and head in f32."""
    core = skeleton("separable_unet", 1, 1)
    quantize_net(core, Scheme("residual w3a3", keep=()))
    assert nominal(core) == (11_780_352, 7_044)
    assert pytest.approx(1.431, abs=5e-4) == (11_780_352 / 8 + 4 * 7_044) / MIB
    for planes, bits, floats in ((1, 3_926_784, 6_914), (2, 7_853_568, 6_979), (4, 15_707_136, 7_109)):
        core = skeleton("separable_unet", 1, 1)
        quantize_net(core, Scheme(f"residual w{planes}a{planes}", keep=()))
        assert nominal(core) == (bits, floats)
    core = skeleton("fixed_point_unet", 1, 1)
    quantize_net(core, Scheme("w4", keep=("encoder.0*", "last")))
    bits, floats = nominal(core)
    assert (bits, floats) == (4 * 4_792_320, 37_568 + 577 + 2_176 + 4_608)
    assert (bits / 8 + 4 * floats) / MIB == pytest.approx(2.457, abs=5e-4)
    core = skeleton("fixed_point_unet", 1, 1)
    quantize_net(core, Scheme("fixed Q0.4", keep=("encoder.0*", "last")))
    assert nominal(core) == (5 * 4_792_320, floats)  # sign, and four bits of fraction: 31 levels


def test_a_ternary_tanh_takes_the_place_of_relu_and_sharpens():
    net = build("thin_unet", 1, 1, width=4, blocks=2)
    before = set(net.core.state_dict())
    quantize_net(net.core, Scheme("w2", activation="ternary-tanh", keep=("first", "last")))
    steps = [module for module in net.modules() if isinstance(module, TernaryTanhActivation)]
    assert len(steps) == 10 and not any(isinstance(module, nn.ReLU) for module in net.modules())
    assert set(latent_weights(net.core)) == before
    x = torch.linspace(-2, 2, 101)
    for epoch, beta in ((0, 3.0), (2, 5.5), (4, 8.0)):
        steps[0].begin_epoch(epoch, 5)
        torch.testing.assert_close(steps[0](x), ternary_tanh(x, beta))
    whole = integer_net(net.core)
    images = picture(2, 1, 8, 8)
    torch.testing.assert_close(whole(images), net.eval()(images), rtol=1e-4, atol=1e-4)
