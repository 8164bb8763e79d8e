"""The exam that every net of the catalog takes. A new net is one line in `PARAMETERS`."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from helpers.nets import every_net, make, narrow, picture
from pocketseg.errors import RecipeError
from pocketseg.exporters.onnx import compare, export_onnx
from pocketseg.nets import NETS, AnySize, build, default_options, parameter_count, skeleton
from pocketseg.nets.blocks import BlockOptions
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import load_onnx
from pocketseg.training.model import Model, torch_forward

# (image channels, logits) -> trainable parameters, from the sources' own counts.
PARAMETERS: dict[str, dict[tuple[int, int], int]] = {
    "unet": {(1, 1): 31_042_369},  # ours: a norm after every convolution but the upsampling's
    "unet_vaze2020": {(1, 1): 31_036_481},
    "unet_blu_net": {(1, 1): 31_030_593},
    "separable_unet": {(1, 1): 3_933_633},
    "separable_unet_m2": {(1, 1): 7_822_913},
    "thin_unet": {(1, 1): 242_049},  # ours: a norm after every convolution
    "thin_unet_w32_n4": {(1, 1): 195_009},
    "thin_unet_w32_n4_separable": {(1, 1): 28_778},
    "thin_unet_w32_n4_student": {(1, 1): 30_122},
    "thin_unet_w32_n5": {(1, 1): 241_345},
    "thin_unet_w32_n5_separable": {(1, 1): 35_594},
    "thin_unet_w32_n5_student": {(1, 1): 36_938},
    "thin_unet_w32_n6": {(1, 1): 287_681},
    "thin_unet_w32_n6_separable": {(1, 1): 42_410},
    "thin_unet_w32_n6_student": {(1, 1): 43_754},
    "thin_unet_w16_n6_separable": {(1, 1): 14_778},
    "light_unet_baseline": {(3, 1): 17_267_393, (1, 1): 17_266_241, (3, 3): 17_267_523},
    "light_unet": {(3, 1): 11_000_257, (1, 1): 10_999_105, (3, 3): 11_000_387},
    "lighter_unet": {(3, 1): 7_944_661, (1, 1): 7_944_459, (3, 3): 7_944_791},
    "lighter_unet_1": {(3, 1): 1_983_583, (1, 1): 1_983_435, (3, 3): 1_983_713},
    **{f"lighter_unet_{c}": {(3, 1): 1_935_829 + 47_808 * c} for c in (2, 4, 8, 16, 32, 64)},
    "lighter_unet_128": {(3, 1): 7_944_661},
    "lighter_unet_256": {(3, 1): 13_253_077},
    "lighter_unet_512": {(3, 1): 21_510_613},
    "lighter_unet_1024": {(3, 1): 26_229_205},
    "light_unet_baseline_transposed": {(3, 1): 31_043_521},
    "light_unet_transposed": {(3, 1): 17_113_793},
    "lighter_unet_transposed": {(3, 1): 12_546_261},
    "fixed_point_unet": {(1, 1): 4_837_249},
    "encoder_unet": {(1, 1): 14_321_937},
    "resnet18_unet": {(1, 1): 14_321_937, (3, 1): 14_328_209, (1, 3): 14_322_227, (3, 3): 14_328_499},
    # The next three follow from torchvision's classifiers; tests/unit/nets/test_encoders.py has the sums.
    "resnet34_unet": {(3, 1): 24_436_369},
    "resnet50_unet": {(3, 1): 32_521_105},
    "densenet121_unet": {(3, 1): 13_607_633},
    # tests/unit/nets/test_mobile_encoders.py has the sums.
    "efficientnet_lite0_unet": {(1, 1): 718_305, (3, 1): 718_881},
    "mobilenet_v1_025_unet": {(1, 1): 46_513, (3, 1): 46_657},
    "mobilenet_v1_050_unet": {(1, 1): 154_465},
    # Ours beside the published figure: 0.316 M with attention gates and added skips; 0.027 M; 0.48 M; 3.14 M.
    "mk_unet": {(1, 1): 436_593},
    "mk_unet_tiny": {(1, 1): 41_469},
    "tiny_unet": {(3, 1): 484_105},
    "cmunext": {(3, 1): 3_149_185},
    # The source's code, whose head has a norm in place of a bias: 16,234.
    "simple_unet": {(3, 1): 16_233, (1, 1): 15_945},
    "xtiny_unet": {(1, 1): 20_145, (3, 1): 20_289},
}  # fmt: skip
FAMILIES = {entry.function.__name__: name for name, entry in reversed(NETS.items())}
ODD_SIZES = [(1, 1), (3, 5), (15, 17), (97, 130)]


def weights(net: AnySize) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in net.parameters()])


def test_every_net_takes_the_exam():
    assert set(PARAMETERS) == set(NETS)


@every_net
def test_parameters(name):
    counts = {channels: parameter_count(skeleton(name, *channels)) for channels in PARAMETERS[name]}
    assert counts == PARAMETERS[name]


def test_the_source_forgets_the_multiplier_after_a_concatenation():
    assert parameter_count(skeleton("separable_unet", 1, 1, multiplier=2, source_multiplier=True)) == 7_109_313


@pytest.mark.parametrize(("channels", "published"), [(1, 20_244), (3, 20_388)])
def test_capped_at_eight_it_is_the_published_net(channels, published):
    """Which has background as a second logit, and a head of its own on each of five more levels of the decoder."""
    assert parameter_count(skeleton("xtiny_unet", channels, 2)) + 5 * (8 + 1) * 2 == published


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
    # A net is not a constant and no pointwise function.
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
    net = make(name).double().eval()
    images = picture(3, 1, 17, 15).double()
    with torch.inference_mode():
        # Another batch size may take another convolution, which sums in another order.
        torch.testing.assert_close(net(images)[1:2], net(images[1:2]), rtol=1e-9, atol=1e-9)


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


@pytest.mark.parametrize("family", [family for family in FAMILIES if family not in ("encoder_unet", "mobile_unet")])
@pytest.mark.parametrize(
    ("init", "spread"),
    [
        ("he", lambda fan_in, _: (2 / fan_in) ** 0.5),
        ("he-uniform", lambda fan_in, _: (2 / fan_in) ** 0.5),
        ("glorot", lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5),
        ("uniform", lambda *_: 3**-0.5),
        # torch's own: uniform up to 1 / sqrt(fan-in)
        ("torch", lambda fan_in, _: (3 * fan_in) ** -0.5),
    ],
)
def test_initial_weights(family, init, spread):
    net = build(FAMILIES[family], 1, 1, init=init, width=32)
    middle = [m for name, m in net.core.named_modules() if not name.startswith(("encoder.0", "head"))]
    convolutions = [m for m in middle if isinstance(m, torch.nn.Conv2d)]
    assert init == "torch" or all(not m.bias.any() for m in convolutions if m.bias is not None)
    large = [m.weight for m in convolutions if m.weight.numel() > 1000]
    assert large
    for kernel in large:
        area = kernel[0, 0].numel()
        fan_in, fan_out = kernel.shape[1] * area, kernel.shape[0] * area
        assert kernel.std().item() == pytest.approx(spread(fan_in, fan_out), rel=0.1)


@every_net
def test_the_stride_is_the_one_that_the_core_needs(name):
    net = make(name)
    assert net.stride == net.core.stride
    good, bad = picture(2, 1, 3 * net.stride, 2 * net.stride), picture(2, 1, 3 * net.stride, 2 * net.stride - 1)
    assert net.core(good).shape == good.shape
    try:
        assert net.core(bad).shape != bad.shape
    except RuntimeError as error:
        assert "Sizes of tensors must match" in str(error)


@every_net
def test_a_model_goes_through_its_file(name, tmp_path):
    options = {"arch": name, **narrow(name)}
    model = Model.fresh(options, Pipeline(size=(64, 64), classes=("a",)), seed=2)
    model.net(picture(4, 1, 64, 64))
    model.save(tmp_path / "best.safetensors", {})
    loaded = Model.load(tmp_path / "best.safetensors")
    images = picture(2, 1, 64, 64)
    assert loaded.net_options == options
    assert torch.equal(loaded.net.eval()(images), model.net.eval()(images))


def exported(name: str, options: dict[str, Any], size: tuple[int, int], folder: Any) -> None:
    """ONNX Runtime finds what torch finds, on a net whose norms have seen images."""
    model = Model.fresh({"arch": name, **options}, Pipeline(size=size, classes=("a", "b")), seed=3)
    for seed in range(3):
        model.net(picture(4, 1, *size, seed=seed))
    model.net.eval()
    export_onnx(model.net.core, model.pipeline, {}, folder / "model.onnx")
    images = [np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8) for seed in range(3)]
    runtime = load_onnx(folder / "model.onnx").forward
    parity = compare(model.pipeline, torch_forward(model.net), runtime, [(image, None) for image in images])
    batch = np.stack([model.pipeline.prepare(image) for image in images])
    ours, theirs = torch_forward(model.net)(batch), runtime(batch)
    # Nets that have learned nothing may have logits of thousands, whose last digits are sums in another order.
    assert np.abs(ours - theirs).max() <= 1e-4 * max(1.0, np.abs(ours).max())
    assert parity.images == 3 and (parity.holds or np.abs(ours).max() > 10)


@pytest.mark.parametrize("name", ["lighter_unet_4", "fixed_point_unet", "mk_unet"])
def test_onnx(name, tmp_path):
    exported(name, narrow(name), (64, 96), tmp_path)


@pytest.mark.slow("wide nets; narrow ones are exported too")
@every_net
def test_onnx_at_full_width(name, tmp_path):
    exported(name, {}, (64, 128), tmp_path)


@pytest.mark.slow("wide nets; narrow ones are trained too")
@every_net
def test_a_step_at_full_width(name):
    net = build(name, 3, 4)
    logits = net(picture(2, 3, 97, 130))
    assert logits.shape == (2, 4, 97, 130) and logits.isfinite().all() and logits.std() > 0
    logits.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


# --- options ----------------------------------------------------------------------------------------------

VALUES: dict[str, list[Any]] = {
    "norm_eps": [0.1],
    "norm_momentum": [0.7],
    "input_dropout": [0.4],
    "block_dropout": [0.4],
    "deepest_dropout": [0.6],
    "kernel": [1, 5],
    **{
        name: list(get_args(hint))
        for name, hint in get_type_hints(BlockOptions).items()
        if name not in ("kernel",) and get_args(hint)
    },
}


def test_every_option_of_the_style_is_tried():
    assert set(VALUES) == {each.name for each in fields(BlockOptions)}


def of_family(family: str, **options: Any) -> AnySize:
    """A net of the family without dropout, with norms, so that each option has something to change."""
    name = FAMILIES[family]
    still = {"input_dropout": 0.0, "block_dropout": 0.0, "deepest_dropout": 0.0, "norm": "conv"}
    depth = {"levels" if "levels" in default_options(name) else "blocks": 2}
    cut = {"encoder_blocks": None} if "encoder_blocks" in default_options(name) else {}
    return build(name, 1, 1, **{**narrow(name), **depth, **cut, **still, **options})


def signature(net: AnySize) -> tuple[Any, ...]:
    """What a net is: its initial weights, what it makes of an image in training and, after that, in inference."""
    images = picture(2, 1, 32, 32)
    initial = weights(net)
    torch.manual_seed(4)
    training = net.train()(images).detach()
    return initial, training, net.eval()(images).detach()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("option", VALUES)
def test_every_option_has_an_effect(family, option):
    default = default_options(FAMILIES[family])[option]
    base = "conv" if option == "norm" else 0.0 if option.endswith("dropout") else default
    before = signature(of_family(family, **{option: base}))
    for value in VALUES[option]:
        if value == base:
            continue
        net = of_family(family, **{option: value})
        after = signature(net)
        assert after[1].isfinite().all() and after[1].shape == before[1].shape
        assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(before, after, strict=True)), value
        net.train()(picture(2, 1, 19, 35)).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_depth_and_width(family):
    key = "levels" if "levels" in default_options(FAMILIES[family]) else "blocks"
    for depth in (1, 2, 3):
        net = of_family(family, **{key: depth})
        assert net.stride == 2**depth
        assert net.eval()(picture(1, 1, 9, 17)).shape == (1, 1, 9, 17)
    narrow_net, wide_net = of_family(family), of_family(family, width=64)
    assert parameter_count(wide_net) > parameter_count(narrow_net)


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
        # In f64, for f32 sums in another order show in the deepest nets.
        expected = net.double()(images.double())
        net.to(memory_format=torch.channels_last)
        found = net(images.double().contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
        with torch.autocast("cpu", torch.bfloat16):
            rough = net.float()(images)
    # bf16 keeps 8 bits; a net this deep loses a few of them.
    assert rough.dtype == torch.bfloat16
    assert (rough.double() - expected).norm() < 0.1 * expected.norm()


class Watch(TorchDispatchMode):
    """Notes operations on feature maps that leave bf16 or channels-last, or only copy."""

    LAYERS = ("convolution", "batch_norm", "max_pool2d", "upsample", "cat", "relu", "threshold", "avg_pool2d")

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.strange = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        first = out[0] if isinstance(out, tuple | list) else out
        name = str(function)
        if not isinstance(first, Tensor) or first.ndim != 4 or first.shape[1] < 2 or first.shape[2] < 4:
            return out
        if any(layer in name for layer in self.LAYERS) and "indices_backward" not in name:
            self.seen += 1
            weight_gradient = "convolution_backward" in name
            right = first.is_contiguous(memory_format=torch.channels_last) or weight_gradient
            if first.dtype != torch.bfloat16 or not right:
                self.strange.append((name, first.dtype, first.stride()))
        return out


@every_net
def test_training_stays_in_bf16_and_channels_last(name):
    """No silent detour through f32, no layer that changes the layout, forward and backward."""
    net = make(name, 2).to(memory_format=torch.channels_last)
    images = picture(2, 2, 4 * net.stride, 4 * net.stride).contiguous(memory_format=torch.channels_last)
    with Watch() as watch:
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(images)
        logits.float().square().mean().backward()
    assert watch.seen > 20 and watch.strange == []


@every_net
def test_an_unknown_option_names_the_near_one(name):
    with pytest.raises(RecipeError, match=r"net\.widht: is not an option of .* did you mean width\?"):
        build(name, 1, 1, widht=3)
