"""A kind of quantizer that exists in this file only: one class and one line, and everything else takes it as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from helpers.nets import picture
from helpers.quantized_nets import NETS, lived
from pocketseg.engine.session import Session
from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.exporters import export_onnx
from pocketseg.grids import Uniform
from pocketseg.nets import AnySize, build
from pocketseg.packing.compile import file_of, program_of
from pocketseg.pipeline import Pipeline
from pocketseg.quant import (
    QUANTIZERS,
    Codes,
    Pair,
    Quantizer,
    Scheme,
    Spec,
    State,
    check_quant,
    integer_net,
    integer_skeleton,
    nominal,
    pack_net,
    storage,
    unpack_net,
)


@dataclass(frozen=True)
class Shift(Spec):
    """Symmetric integers whose scale is the least power of two that holds the largest magnitude."""

    bits: int = 8
    axis: None = None
    words = "shift 4/8"

    @classmethod
    def of_words(cls, text, options) -> Pair | None:
        match = re.fullmatch(r"shift (\d)/(\d)", text)
        return match and Pair(*(cls(int(bits)) for bits in match.groups()))

    @property
    def measures(self) -> int:
        return 1

    @property
    def highest(self) -> int:
        return 2 ** (self.bits - 1) - 1

    @property
    def levels(self) -> int:
        return 2 * self.highest + 1

    def measure(self, x: Tensor) -> Tensor:
        return x.detach().float().abs().max()[None]

    def state(self, measured: Tensor) -> State:
        return State(torch.exp2(torch.ceil(torch.log2((measured[0] / self.highest).clamp(min=2.0**-20)))))

    def grid(self, state: State) -> Uniform:
        return Uniform(0, -self.highest, self.highest, float(state.scale), float(state.inverse_scale))

    def encode(self, x: Tensor, state: State) -> Codes:
        return Codes(torch.round(x * state.inverse_scale).clamp(-self.highest, self.highest) + 0.0, state.scale)

    def gradient(self, grad: Tensor, x: Tensor, state: State) -> tuple[Tensor, None]:
        return grad, None


class Gridless(Shift):
    """The same, which says nothing of a grid."""

    def grid(self, state: State) -> None:
        return None


@pytest.fixture
def listed(monkeypatch) -> None:
    monkeypatch.setitem(QUANTIZERS, "shift", Shift)  # the one line


def trained() -> AnySize:
    """A few steps in float, and a few with the quantizers of the scheme."""
    return lived("thin_unet", Scheme.of({"scheme": "shift 4/8", "keep": []})).eval()


def test_it_measures_and_encodes():
    quantizer = Quantizer(Shift(3), of="activations")
    quantizer(torch.tensor([0.0, 3.0, -5.0]))
    codes = quantizer.eval().quantize(torch.tensor([0.9, 1.1, -5.0, 9.0]))
    assert codes.codes.tolist() == [0, 1, -2, 3] and float(codes.scale) == 2.0
    assert codes.values().tolist() == [0.0, 2.0, -4.0, 6.0]


def test_a_scheme_asks_for_it(listed):
    assert Scheme("shift 4/8").parsed("shift 4/8") == Pair(Shift(4), Shift(8))
    assert check_quant({"scheme": "w8a8", "layers": {"pointwise": "shift 4/8"}}, "here") == []
    with pytest.raises(RecipeError, match="compat bnn, shift 4/8"):
        Scheme.of({"scheme": "shift"})


def test_it_trains(listed):
    net = trained()
    assert {type(module.spec) for module in net.modules() if isinstance(module, Quantizer)} == {Shift}
    net.train()(picture(2, 1, 16, 24)).square().mean().backward()
    kernels = [p.grad.any() for key, p in net.named_parameters() if key.endswith("weight") and p.ndim == 4]
    assert all(kernels)
    bits, _ = nominal(net.core)
    assert bits == sum(4 * p.numel() for p in net.parameters() if p.ndim == 4)


def test_it_is_stored(listed):
    whole = integer_net(trained().core)
    assert {row.bits for row in storage(whole)} == {4} and max(row.levels for row in storage(whole)) <= 15
    other = integer_skeleton(build("thin_unet", 1, 1, seed=99, **NETS["thin_unet"]).core, Scheme("shift 4/8", keep=()))
    unpack_net(other, pack_net(whole), "here")
    images = picture(2, 1, 16, 24, seed=5)
    assert torch.equal(other(images), whole(images))


def test_it_runs_in_the_engine(listed):
    whole = integer_net(trained().core)
    images = picture(2, 1, 16, 24, seed=9)
    content = file_of(program_of(whole, 1), {})
    assert np.array_equal(Session(content, "here")(images.numpy()), whole(images).numpy())


def test_it_runs_in_onnx(listed, tmp_path):
    whole = integer_net(trained().core)
    images = picture(3, 1, 16, 24, seed=9)
    export_onnx(whole, Pipeline(size=(16, 24)), {}, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": images.numpy()})[0]
    assert np.corrcoef(found.ravel(), whole(images).numpy().ravel())[0, 1] > 0.9


def test_without_a_grid_it_is_refused_where_integers_run(monkeypatch, tmp_path):
    monkeypatch.setitem(QUANTIZERS, "shift", Gridless)
    whole = integer_net(trained().core)
    pack_net(whole)
    with pytest.raises(ModelFileError, match=r"is quantized as Gridless\(bits=8"):
        program_of(whole, 1)
    with pytest.raises(ModelFileError, match=r"no integer convolution for its input: Gridless\(bits=8"):
        export_onnx(whole, Pipeline(size=(16, 24)), {}, tmp_path / "model.onnx")
