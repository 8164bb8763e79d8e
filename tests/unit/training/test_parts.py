"""Parts of a net that are frozen for some epochs, or learn at another rate."""

from __future__ import annotations

import pytest
import torch

from pocketseg.errors import RecipeError
from pocketseg.experiments.stage_checks import check_stage
from pocketseg.nets import build
from pocketseg.recipes.schema import OptimizerSection
from pocketseg.training.optim import add_kernel_l2, make_optimizer
from pocketseg.training.parts import freeze, hold, rate_scales

NET = {"arch": "thin_unet", "width": 4, "blocks": 2}


def net():
    return build("thin_unet", 1, 1, width=4, blocks=2, seed=1)


def part_of(whole, parameter) -> str:
    return next(name for name, each in whole.core.named_parameters() if each is parameter).split(".")[0]


def test_each_layer_has_its_factor():
    whole = net()
    scales = rate_scales(whole.core, {"encoder.0": 0.5, "encoder": 0.1, "head": 3.0})
    optimizer = make_optimizer(whole, OptimizerSection(weight_decay=0.2), scales)
    found = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = next(name for name, each in whole.core.named_parameters() if each is parameter)
            assert name not in found and group["kernels"] == (parameter.ndim > 1)
            assert group["weight_decay"] == (0.2 if parameter.ndim > 1 else 0)
            found[name] = group["scale"]
    assert set(found) == {name for name, _ in whole.core.named_parameters()}
    for name, scale in found.items():
        first = 0.5 if name.startswith("encoder.0.") else {"encoder": 0.1, "head": 3.0}.get(name.split(".")[0], 1.0)
        assert scale == first
    assert [group["scale"] for group in optimizer.param_groups[:2]] == [1.0, 1.0]


def test_a_step_is_as_long_as_the_factor_says():
    """Plain gradient descent, whose steps are as long as their rate."""

    def step(lr_scale):
        whole = net()
        options = OptimizerSection(kind="sgd", momentum=0, lr=0.1, lr_scale=lr_scale, l2_kernel=0.3)
        optimizer = make_optimizer(whole, options, rate_scales(whole.core, lr_scale))
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * group["scale"]
        before = {name: value.detach().clone() for name, value in whole.core.named_parameters()}
        whole.train()(torch.linspace(-1, 1, 512).reshape(2, 1, 16, 16)).square().mean().backward()
        add_kernel_l2(optimizer, 0.3)
        optimizer.step()
        return {name: value.detach() - before[name] for name, value in whole.core.named_parameters()}

    plain, scaled = step({}), step({"encoder": 0.25})
    for name, moved in plain.items():
        factor = 0.25 if name.startswith("encoder") else 1.0
        torch.testing.assert_close(scaled[name], factor * moved, rtol=1e-3, atol=1e-7)
    assert any(moved.abs().max() > 1e-4 for name, moved in plain.items() if name.startswith("encoder"))


def test_layers_are_let_go_one_after_the_other():
    whole = net()
    frozen = freeze(whole.core, {"encoder.*": 2, "encoder.0": 4, "deepest": 1})
    assert all(parameter.requires_grad for parameter in whole.parameters())
    for epoch, held in enumerate([
        {"encoder.0", "encoder.1", "deepest"}, {"encoder.0", "encoder.1"}, {"encoder.0"}, {"encoder.0"}, set(),
    ]):  # fmt: skip
        whole.train()
        hold(frozen, epoch)
        for name, module in (("encoder.0", whole.core.encoder[0]), ("encoder.1", whole.core.encoder[1]),
                             ("deepest", whole.core.deepest), ("head", whole.core.head)):  # fmt: skip
            assert all(parameter.requires_grad == (name not in held) for parameter in module.parameters()), epoch
            assert all(each.training == (name not in held) for each in module.modules()), epoch


def test_what_is_never_trained_is_not_trained_later():
    whole = net()
    whole.core.encoder[0].requires_grad_(False)
    frozen = freeze(whole.core, {"encoder": 1})
    hold(frozen, 3)
    assert not any(parameter.requires_grad for parameter in whole.core.encoder[0].parameters())
    assert all(parameter.requires_grad for parameter in whole.core.encoder[1].parameters())


@pytest.mark.parametrize(("stage", "words"), [
    ({"optimizer": {"lr_scale": {"encodr": 0.1}}}, "'encodr' fits no layer"),
    ({"freeze": {"encodr": 3}}, "'encodr' fits no layer"),
    ({"freeze": {"encoder": 3, "deepest": 2, "decoder": 1, "head": 1}}, "leaves nothing to train"),
])  # fmt: skip
def test_faults_are_found_before_training(stage, words):
    (problem,) = check_stage({"net": NET} | stage, "stages.0")
    assert words in problem.what and problem.where.startswith("stages.0.")
    with pytest.raises(RecipeError):
        freeze(net().core, ["encodr"])
