"""What a run wrote of its net is read again, or refused where somebody changed it."""

from __future__ import annotations

import copy
import json

import pytest
import torch

from pocketseg.errors import RunError
from pocketseg.nets import skeleton
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.runs.inspection import inspect_core, inspect_model, read_inspection
from pocketseg.training.model import Model


@pytest.fixture(scope="module")
def inspection():
    return inspect_core(skeleton("thin_unet", 1, 1, width=4, blocks=2), "thin_unet", {"arch": "thin_unet"}, (1, 16, 16))


def test_what_is_saved_is_read(inspection, tmp_path):
    (file,) = inspection.save(tmp_path, ("json",))
    assert read_inspection(file).json() == inspection.json()


@pytest.mark.parametrize("value", [None, -1, "", "a", [], {}, [1, 1, 1], [[1]], {"a": 1}, 1e400, True])
def test_any_other_value_is_refused_or_drawn(inspection, tmp_path, value):
    """Each key of the totals and of a layer in turn: damage is reported, and what is accepted can be drawn."""
    (file,) = inspection.save(tmp_path, ("json",))
    whole = json.loads(file.read_text())
    places = [("net", "arch"), ("net",), ("totals",), ("layers",), ("layers", 3)]
    places += [("totals", key) for key in whole["totals"]] + [("layers", 3, key) for key in whole["layers"][3]]
    for *way, last in places:
        content = copy.deepcopy(whole)
        part = content
        for key in way:
            part = part[key]
        part[last] = value
        file.write_text(json.dumps(content))
        try:
            found = read_inspection(file)
        except RunError as error:
            assert str(file) in str(error) and "remove it" in str(error)
        else:
            found.drawing()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_a_file_that_is_something_else(tmp_path, text):
    (tmp_path / "architecture.json").write_text(text)
    with pytest.raises(RunError, match="is damaged"):
        read_inspection(tmp_path / "architecture.json")


@pytest.mark.parametrize(
    ("quant", "kind"),
    [({"scheme": "w1a1"}, "clip to ±1"), ({"scheme": "w2", "activation": "ternary-tanh"}, "ternary tanh"),
     ({"scheme": "w8a8"}, "ReLU")],
    ids=["signs", "ternary", "integers"],
)  # fmt: skip
def test_activations_that_quantizing_replaced_are_called_so(quant, kind):
    pipeline = Pipeline((16, 16), normalization=Normalization("unit-range"))
    model = Model.fresh({"arch": "thin_unet", "width": 4, "blocks": 2}, pipeline, seed=0)
    model.quantize(quant, [torch.rand(2, 1, 16, 16)])
    kinds = {layer["kind"] for layer in inspect_model(model).layers}
    assert kinds & {"ReLU", "clip to ±1", "ternary tanh"} == {kind}
