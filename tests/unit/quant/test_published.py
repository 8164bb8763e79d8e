"""The study's quantizers as schemes: the functions of `compat`, number by number, and what they pass back."""

from __future__ import annotations

import pytest
import torch

from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.nets import build
from pocketseg.packing.compile import program_of
from pocketseg.quant import Quantizer, Scheme, calibrate, compat, integer_net, quantize_net
from pocketseg.quant.published import PublishedFixed, PublishedInt, PublishedPowers, PublishedSign


def sample(scale: float = 1.0) -> torch.Tensor:
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * scale
    x[0, 0, 0] = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, 1.3, -2.7, 7.9])
    return x


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
@pytest.mark.parametrize(
    ("spec", "published"),
    [
        *[(PublishedInt(n), lambda x, n=n: compat.fixed_point_int(x, n)) for n in (1, 4, 8)],
        *[
            (PublishedFixed(i, f), lambda x, i=i, f=f: compat.fixed_point_fixed_gm(x, i, f))
            for i, f in ((0, 2), (0, 4), (0, 8), (6, 0), (8, 8))
        ],
        *[
            (PublishedPowers(i, f), lambda x, i=i, f=f: compat.fixed_point_fixed_em(x, i, f))
            for i, f in ((0, 2), (0, 4), (0, 8), (6, 0), (4, 4))
        ],
        (PublishedSign(), compat.fixed_point_bnn),
    ],
    ids=lambda value: repr(value) if not callable(value) else "",
)
def test_values_are_those_of_the_study(spec, published, scale):
    x = sample(scale)
    assert torch.equal(spec.quantize(x).values(), published(x))


@pytest.mark.parametrize(
    ("spec", "levels"), [(PublishedInt(4), 17), (PublishedFixed(0, 2), 9), (PublishedFixed(0, 4), 33),
                         (PublishedFixed(4, 0), 31), (PublishedFixed(0, 8), 513), (PublishedSign(), 3)],
    ids=repr,
)  # fmt: skip
def test_levels_are_those_that_were_counted(spec, levels):
    x = torch.linspace(-20, 20, 200_001)
    assert spec.levels == levels
    inside = torch.linspace(-1, 1, 200_001) if isinstance(spec, PublishedFixed) and spec.i == 0 else x
    assert len(spec.quantize(torch.cat([inside, torch.zeros(1)])).values().unique()) == levels


def test_the_levels_of_powers():
    x = torch.cat([torch.exp2(torch.linspace(-20, 6, 100_001)), torch.zeros(1)])
    found = PublishedPowers(0, 4).quantize(torch.cat([x, -x])).values().unique()
    assert len(found) == PublishedPowers(0, 4).levels and found.max() == 0.9375


@pytest.mark.parametrize("spec", [PublishedInt(4), PublishedFixed(0, 4), PublishedPowers(0, 4)], ids=repr)
def test_the_gradient_is_the_identity(spec):
    x = (sample() * 3).requires_grad_()
    Quantizer(spec, of="activations")(x).backward(torch.full_like(x, 2.0))
    assert torch.equal(x.grad, torch.full_like(x, 2.0))


def test_the_gradient_of_a_sign_is_clipped_unless_the_identity_is_asked_for():
    for identity in (False, True):
        x = sample().requires_grad_()
        Quantizer(PublishedSign(), of="weights", identity=identity)(x).sum().backward()
        assert torch.equal(x.grad, torch.ones_like(x) if identity else (x.abs() <= 1).float())


@pytest.mark.parametrize("gradient", ["kind", "identity"])
def test_the_identity_can_be_asked_for_of_every_scheme(gradient):
    net = build("thin_unet", 1, 1, width=4, blocks=2)
    quantize_net(net.core, Scheme.of({"scheme": "fixed Q0.4/Q2.4", "gradient": gradient}))
    found = {module.identity for module in net.modules() if isinstance(module, Quantizer)}
    assert found == {gradient == "identity"}


def test_a_batch_has_its_own_range_in_training_and_the_average_in_evaluation():
    quantizer = Quantizer(PublishedInt(2), of="activations")
    first, second = torch.tensor([0.0, 4.0]), torch.tensor([0.0, 8.0])
    assert quantizer(first).tolist() == [-2, 2] and quantizer(second).tolist() == [-2, 2]
    # 0.9 · 4 + 0.1 · 8 = 4.4
    assert quantizer.eval()(torch.tensor([2.3, 4.3, 9.0])).tolist() == [0, 1, 2]


@pytest.mark.parametrize("text", ["compat int 4/6", "compat fixed Q0.4/Q6.0", "compat powers Q0.4/Q6.0", "compat bnn"])
def test_the_engine_says_that_it_cannot_carry_them(text):
    net = build("fixed_point_unet", 1, 1, width=4, levels=2)
    quantize_net(net.core, Scheme.of({"scheme": text, "keep": ["encoder.0*", "last"]}))
    calibrate(net.core, [torch.rand(2, 1, 16, 16)])
    with pytest.raises(ModelFileError, match=r"quantized as Published.*no operation for → .*--to onnx-floats"):
        program_of(integer_net(net.core), 1)


@pytest.mark.parametrize(
    "text", ["compat int 0/4", "compat int 16", "compat fixed Q0.0", "compat powers Q9.0", "compat", "compat bnn 1"]
)
def test_what_is_not_offered(text):
    with pytest.raises(RecipeError):
        Scheme.of({"scheme": text})
