"""Which layers are paired, with which weights, and what a student shows of them."""

import pytest
import torch

from pocketseg.errors import RecipeError
from pocketseg.nets import NETS, build, skeleton
from pocketseg.nets.taps import block_output, blocks, place_shapes, tapped
from pocketseg.quant import Scheme, calibrate, quantize_net
from pocketseg.recipes import load_sweep
from pocketseg.recipes.loading import shipped_names
from pocketseg.recipes.schema import HintsSection
from pocketseg.training.hints import Student, choose_hints, fits_name, keep_outputs
from pocketseg.training.parts import frozen_layers

THIN = {"arch": "thin_unet", "width": 8, "blocks": 2, "norm": "block"}


def chosen(options=None, student=None, teacher=None, size=(32, 32)):
    mine, theirs = (skeleton(in_channels=1, out_channels=1, **(net or THIN)) for net in (student, teacher))
    return choose_hints(HintsSection.model_validate(options or {}), mine, theirs, (1, *size), (1, *size))


def names(hints) -> list[tuple[str, str]]:
    return [(hint.student, hint.teacher) for hint in hints.each]


# --- the pairs of the published studies ---------------------------------------------------------------------------


def test_vaze2020_weighs_the_deepest_hint_with_6_of_10():
    """The fact sheet's numbers: six blocks at 128×256; hints are the outputs before the norms, 13 of them."""
    student = {"arch": "thin_unet_w32_n6_student"}
    hints = chosen({}, student, {"arch": "thin_unet_w32_n6"}, (128, 256))
    assert hints.kind == "l1" and len(hints.each) == 13
    weights = {hint.student: hint.weight for hint in hints.each}
    assert sum(weights.values()) == pytest.approx(10)
    assert weights["deepest.3"] == pytest.approx(6.00, abs=0.005)
    assert weights["encoder.5.5"] == weights["decoder.0.3"] == pytest.approx(1.50, abs=0.005)
    assert weights["encoder.0.3"] == weights["decoder.5.3"] == pytest.approx(0.0015, abs=0.00005)
    # The student's last encoder block has a convolution more; both hints stand after the ReLU of the last one.
    assert ("encoder.5.5", "encoder.5.3") in names(hints)
    areas = [hint.student_shape[1] * hint.student_shape[2] for hint in hints.each]
    assert areas == [32768, 8192, 2048, 512, 128, 32, 8, 32, 128, 512, 2048, 8192, 32768]


def test_blu_net_hints_every_convolution():
    student, teacher = {"arch": "separable_unet", "width": 8}, {"arch": "unet_blu_net", "width": 8}
    convs = {"layers": "convs", "kind": "l2", "weights": "uniform"}
    encoder = chosen({**convs, "part": "encoder", "total": 10}, student, teacher)
    decoder = chosen({**convs, "part": "decoder", "total": 12}, student, teacher)
    assert len(encoder.each) == 10 and len(decoder.each) == 12
    assert all(hint.weight == 1 for hint in (*encoder.each, *decoder.each))
    assert all(mine == theirs for mine, theirs in names(encoder) + names(decoder))
    assert names(decoder)[0][0].startswith("ups.0.")  # the up-convolution is one of them
    assert all(hint.student_shape == hint.teacher_shape for hint in (*encoder.each, *decoder.each))


@pytest.mark.parametrize("recipe", shipped_names())
def test_every_net_of_the_recipes_pairs_with_itself_and_with_a_thinner_one(recipe):
    for stage in (stage for variant in load_sweep(recipe).variants for stage in variant.recipe.stages):
        net = {"arch": stage.net.arch, **stage.net.options}
        core = skeleton(in_channels=1, out_channels=1, **net)
        size = (2 * core.stride, 2 * core.stride)
        same = chosen({}, net, net, size)
        assert len(same.each) == len(blocks(core)) >= 7
        assert all(mine == theirs for mine, theirs in names(same))
        thin = chosen({}, {"arch": "thin_unet", "width": 4, "blocks": len(blocks(core)) // 2}, net, size)
        assert len(thin.each) >= 7
        assert all(hint.student_shape[1:] == hint.teacher_shape[1:] for hint in thin.each)


@pytest.mark.parametrize("arch", [name for name in NETS if name not in ("resnet50_unet", "densenet121_unet")])
def test_every_net_of_the_catalog_pairs_with_a_thin_one(arch):
    core = skeleton(arch, 1, 1)
    hints = chosen({}, {"arch": "thin_unet", "width": 4, "blocks": 5}, {"arch": arch}, (64, 64))
    assert len(hints.each) == len([b for b in blocks(core) if b.level < 5 or (b.part, b.level) == ("encoder", 5)])
    assert hints.each and all(hint.student_shape[1:] == hint.teacher_shape[1:] for hint in hints.each)


def test_parts_and_places():
    assert [a for a, _ in names(chosen({"part": "encoder"}))] == ["encoder.0.3", "encoder.1.3", "deepest.3"]
    assert [a for a, _ in names(chosen({"part": "decoder"}))] == ["decoder.0.3", "decoder.1.3"]
    assert [a for a, _ in names(chosen({"at": "after-norm", "part": "decoder"}))] == ["decoder.0", "decoder.1"]


@pytest.mark.parametrize(
    ("norm", "before"), [("block", "deepest.3"), ("conv", "deepest.3"), ("relu", "deepest.4"), ("none", "deepest")]
)
def test_before_the_norm(norm, before):
    core = skeleton(in_channels=1, out_channels=1, **{**THIN, "norm": norm})
    place = block_output(core, "deepest", "before-norm")
    assert place == before
    kind = type(core.get_submodule(place)).__name__
    assert kind == {"block": "ReLU", "conv": "Conv2d", "relu": "ReLU", "none": "Sequential"}[norm]


# --- lists, weights and faults ------------------------------------------------------------------------------------


def test_patterns_pair_in_order():
    hints = chosen({"layers": [{"student": "encoder.*"}]})
    assert names(hints) == [("encoder.0", "encoder.0"), ("encoder.1", "encoder.1")]
    assert fits_name("decoder.1.3", "decoder.*.3") and not fits_name("decoder.1.3", "decoder.*")
    assert not fits_name("encoderx1", "encoder.1")


def test_weights():
    layers = {"layers": [{"student": "encoder.*"}]}
    assert [hint.weight for hint in chosen({**layers, "weights": [3, 0.5]}).each] == [3, 0.5]
    assert [hint.weight for hint in chosen({**layers, "weights": "uniform", "total": 3}).each] == [1.5, 1.5]
    assert [hint.weight for hint in chosen({**layers, "total": 5}).each] == pytest.approx([1, 4])


@pytest.mark.parametrize(
    ("options", "nets", "words"),
    [
        ({"layers": [{"student": "encode.0"}]}, {}, "fits no layer of the student → did you mean encoder"),
        ({"layers": [{"student": "head", "teacher": "tail"}]}, {}, "'tail' fits no layer of the teacher"),
        ({"layers": [{"student": "encoder.*", "teacher": "head"}]}, {}, "fits 2 layers of the student (encoder.0, enc"),
        (
            {"layers": [{"student": "encoder.0", "teacher": "deepest"}]},
            {},
            "is 8×32×32 and deepest of the teacher 8×8×8",
        ),
        ({"layers": [{"student": "encoder.*"}], "weights": [1, 2, 3]}, {}, "has 3 numbers for 2 hints"),
        ({"layers": "convs"}, {"student": {**THIN, "extra_convs": 1}}, "encoder.1 of the student has 3 and encoder.1"),
        ({"layers": "convs"}, {"teacher": {"arch": "mk_unet", "width": 4}}, "encoder.0 is not a plain chain"),
    ],
)
def test_faults(options, nets, words):
    with pytest.raises(RecipeError) as caught:
        chosen(options, **nets)
    assert words in str(caught.value)


def test_faults_of_freeze():
    core = skeleton(in_channels=1, out_channels=1, **THIN)
    with pytest.raises(RecipeError, match="'encodr' fits no layer → did you mean encoder"):
        frozen_layers(core, ["encodr"])
    with pytest.raises(RecipeError, match="leaves nothing to train"):
        frozen_layers(core, ["encoder", "deepest", "decoder", "head"])
    assert frozen_layers(core, ["encoder.*"]) == [core.encoder[0], core.encoder[1]]


# --- the student ---------------------------------------------------------------------------------------------------


def student_of(student, teacher, options=None, quant=None, **more):
    net = build(in_channels=1, out_channels=1, **student)
    if quant:
        quantize_net(net.core, Scheme.of(quant))
        calibrate(net.core, [torch.rand(2, 1, 32, 32)])
    return Student(net, chosen(options or {}, student, teacher), 3, **({"logits_learn": True} | more))


def test_regressors_stand_where_widths_differ_and_are_drawn_from_the_seed():
    same = student_of(THIN, THIN)
    assert not list(same.regressors.parameters())
    wide = {**THIN, "width": 12}
    other = student_of(THIN, wide)
    assert [tuple(p.shape) for p in other.regressors.parameters()] == [(12, 8, 1, 1), (12,)] * 5
    torch.manual_seed(99)
    again = student_of(THIN, wide)
    assert all(
        torch.equal(a, b) for a, b in zip(other.regressors.parameters(), again.regressors.parameters(), strict=True)
    )
    _, maps = other(torch.rand(2, 1, 32, 32))
    assert tuple(maps[0].shape) == (2, 12, 32, 32)
    assert not list(student_of(THIN, wide, {"kind": "attention"}).regressors.parameters())


def test_a_student_whose_logits_learn_nothing_shows_them_without_a_gradient():
    x = torch.rand(2, 1, 32, 32)
    assert student_of(THIN, THIN)(x)[0].requires_grad
    logits, maps = student_of(THIN, THIN, logits_learn=False)(x)
    assert not logits.requires_grad and all(m.requires_grad for m in maps)


@pytest.mark.parametrize("scheme", ["w8a8", "w1a1"])
def test_a_quantized_student_shows_the_same_places(scheme):
    student = student_of({**THIN, "width": 6}, THIN, {"layers": "convs"}, {"scheme": scheme})
    logits, maps = student(torch.rand(2, 1, 32, 32))
    assert len(maps) == 10 and all(m.shape[1] == 8 for m in maps)
    (logits.mean() + sum(m.mean() for m in maps)).backward()
    assert student.net.core.get_submodule("encoder.0.0").weight.grad is not None


@pytest.mark.parametrize("norm", ["conv", "none", "block", "relu"])
@pytest.mark.parametrize("conv", ["plain", "separable"])
def test_what_a_hint_sees_is_not_overwritten(norm, conv):
    """Convolutions and norms before a ReLU in place: their output, not that of the ReLU."""
    net = build(in_channels=1, out_channels=1, **{**THIN, "norm": norm, "conv": conv})
    places = [
        name
        for name, module in net.core.named_modules()
        if name.count(".") == 2 and name.startswith(("encoder", "decoder"))
    ]
    copies = {}
    for place in places:
        net.core.get_submodule(place).register_forward_hook(
            lambda module, inputs, output, place=place: copies.__setitem__(place, output.detach().clone())
        )
    keep_outputs(net.core, places)
    with tapped(net.core, places) as seen:
        net(torch.randn(2, 1, 32, 32))
    assert all(torch.equal(seen[place], copies[place]) for place in places) and len(places) >= 16


def test_only_what_would_overwrite_gives_up_its_place():
    net = build(in_channels=1, out_channels=1, **{**THIN, "norm": "conv"})
    keep_outputs(net.core, ["encoder.0", "deepest.4"])  # a block whose own ReLU ends it, and a norm before one
    relus = {name: m.inplace for name, m in net.core.named_modules() if isinstance(m, torch.nn.ReLU)}
    assert [name for name, inplace in relus.items() if not inplace] == ["deepest.5"]


def test_shapes_of_skeletons_are_those_of_nets():
    for arch in ("thin_unet", "resnet18_unet", "cmunext", "tiny_unet"):
        core, net = skeleton(arch, 1, 1), build(arch, 1, 1)
        places = [block_output(core, block.name, "before-norm") for block in blocks(core)]
        with tapped(net.core, places) as seen, torch.no_grad():
            net.eval()(torch.zeros(1, 1, 64, 64))
        assert place_shapes(core, places, (1, 64, 64)) == {place: t.shape[1:] for place, t in seen.items()}
