from importlib.util import find_spec

import pytest
from torch import nn

from pocketseg.errors import EnvironmentProblem, RecipeError
from pocketseg.nets import NETS, build, check_net, default_options, parameter_count
from pocketseg.nets.catalog import LEVELS, LIMITS


def faults(**net) -> list[str]:
    return [str(problem) for problem in check_net(net, "stages.0.net")]


@pytest.mark.parametrize("arch", NETS)
def test_defaults_are_good(arch):
    assert faults(arch=arch) == []


@pytest.mark.parametrize("arch", NETS)
def test_every_number_has_limits(arch):
    numbers = {name for name, value in default_options(arch).items() if value is None or isinstance(value, int | float)}
    # Flags are ints to Python; the kernel is a choice.
    assert numbers and numbers - {"source_multiplier", "relu6", "kernel"} <= set(LIMITS)


@pytest.mark.parametrize("arch", ["thin_unet", "unet", "separable_unet_m2", "lighter_unet", "encoder_unet", "cmunext"])
def test_limits_hold(arch):
    known = default_options(arch)
    for name, (low, high) in LIMITS.items():
        if name not in known:
            continue
        if name == "levels":
            high = LEVELS.get(NETS[arch].function, high)
        if name not in ("width", "output_width", "group_channels", "levels"):  # what is built fast
            assert faults(arch=arch, **{name: high}) == []
        assert name == "group_channels" or faults(arch=arch, **{name: low}) == []
        for wrong in (low - 1, high + 1):
            (fault,) = faults(arch=arch, **{name: wrong})
            assert f"stages.0.net.{name}: " in fault and f"(given: {wrong})" in fault


def test_numbers_that_do_not_fit_together():
    (fault,) = faults(arch="lighter_unet", group_channels=48)
    assert fault.startswith("stages.0.net.group_channels: is 48, which does not divide a layer of 1024 channels → ")
    (fault,) = faults(arch="tiny_unet", width=24)
    assert fault == "stages.0.net.width: gives a block of 24 channels → take a multiple of 16"


def test_an_encoder_that_nobody_has():
    missing = find_spec("segmentation_models_pytorch") is None
    with pytest.raises(EnvironmentProblem if missing else RecipeError) as error:
        build("encoder_unet", 1, 1, encoder_name="resnet19")
    expected = "pocketseg[encoders]" if missing else "there is no encoder 'resnet19' → did you mean resnet18"
    assert expected in str(error.value)


def test_a_preset_is_its_family_with_other_numbers():
    changed = {"norm": "block", "init": "glorot", "norm_eps": 1e-3, "input_dropout": 0.2, "deepest_dropout": 0.5}
    expected = {**default_options("thin_unet"), **changed, "blocks": 6}
    assert default_options("thin_unet_w32_n6") == expected
    assert build("thin_unet_w32_n6", 1, 1, blocks=2).stride == 4


def test_an_unknown_net_names_the_near_ones():
    assert faults(arch="thinunet")[0].startswith(
        "stages.0.net.arch: there is no net 'thinunet' → did you mean thin_unet"
    )
    assert faults(arch="segformer") == [
        "stages.0.net.arch: there is no net 'segformer' → known: " + ", ".join(sorted(NETS))
    ]


def test_an_unknown_option_names_the_near_ones():
    assert faults(arch="unet", level=3) == ["stages.0.net.level: is not an option of unet → did you mean levels?"]
    (fault,) = faults(arch="unet", blocks=3)
    assert "stages.0.net.blocks: is not an option of unet → known: block_dropout, conv, deepest_dropout, init," in fault


@pytest.mark.parametrize("value", [8.0, "8", True, None, [8]])
def test_a_width_is_an_integer(value):
    (fault,) = faults(arch="unet", width=value)
    assert fault == f"stages.0.net.width: input should be a valid integer (given: {value!r})"


def test_choices_are_listed():
    (fault,) = faults(arch="unet", conv="depthwise")
    assert fault == "stages.0.net.conv: input should be 'plain' or 'separable' (given: 'depthwise')"


def test_an_optional_number_may_be_none_but_not_zero():
    assert faults(arch="thin_unet", output_width=None) == []
    assert len(faults(arch="thin_unet", output_width=0)) == 1


def test_all_faults_are_reported_at_once():
    assert len(faults(arch="thin_unet", width=0, blocks=99, conv="x", norms="y")) == 4
    with pytest.raises(RecipeError) as error:
        build("thin_unet", 1, 1, width=0, blocks=99)
    assert [problem.where for problem in error.value.problems] == ["net.width", "net.blocks"]


def test_a_missing_name_is_left_to_the_recipe():
    assert faults(width=3) == []


@pytest.mark.parametrize("channels", ["in_channels", "out_channels"])
def test_channels_are_no_options(channels):
    (fault,) = faults(arch="unet", **{channels: 3})
    assert f"stages.0.net.{channels}: is not an option of unet" in fault


def test_options_reach_the_net():
    small, wide = build("thin_unet", 1, 1, width=4), build("thin_unet", 1, 1, width=8)
    assert parameter_count(small) < parameter_count(wide)
    assert build("thin_unet", 1, 1, width=4, blocks=3).stride == 8
    assert build("unet", 1, 1, width=2, levels=2).stride == 4


def test_only_what_is_trained_is_counted():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    assert parameter_count(net) == 2 * 3 * 9 + 3 + 3 + 3
    net[0].weight.requires_grad_(False)
    assert parameter_count(net) == 9
