"""A quantized stage as ONNX: exported, checked in mask pixels, told in the card, run without torch."""

import json

import numpy as np
import onnx
import pytest

import pocketseg
from helpers.commands import run_cli
from pocketseg.data import Cases
from pocketseg.predictors import load_onnx
from pocketseg.training.model import Model

NET = {"arch": "thin_unet", "width": 8, "blocks": 2}


def trained(folder, scheme, epochs):
    data = pocketseg.phantom(folder / "data", cases=24, size=64)
    recipe = {
        "data": {"size": [48, 48], "group_csv": "patients.csv", "group_column": "patient"},
        "split": {"test": 0.25, "validation": 0.25},
        "stages": [
            {"name": "float", "net": NET, "epochs": epochs, "batch": 4, "precision": "f32"},
            {"name": "last", "net": NET, "init": {"stage": "float"}, "quant": {"scheme": scheme}, "epochs": 1,
             "batch": 8, "precision": "f32"},
        ],
    }  # fmt: skip
    pocketseg.train(recipe, data, folder / "run", report=False)
    return folder / "run", data


@pytest.mark.slow("trains; the contract exports every scheme")
def test_a_quantized_stage_becomes_int8(tmp_path, caplog):
    run, data = trained(tmp_path, "w4a8", 80)
    with caplog.at_level("INFO", "pocketseg"):
        exported = pocketseg.export(run)
    assert exported.parity.quantized and exported.parity.holds and exported.parity.images > 3
    assert "its classes differ from the integer net's in 0." in caplog.text and "allowed 0.2%" in caplog.text
    proto = onnx.load(exported.file)
    (card,) = (json.loads(entry.value) for entry in proto.metadata_props)
    assert card["precision"] == "w4a8" and card["quant"]["scheme"] == "w4a8"
    image = np.asarray(next(iter(Cases.open(data).image(case) for case in Cases.open(data))))
    best = Model.load(run / "fold-0/last/best.safetensors").predictor()
    assert abs(load_onnx(exported.file).predict(image) - best.predict(image)).mean() < 0.02
    done = run_cli("predict", exported.file, data / "images", "--out", tmp_path / "masks")
    assert done.returncode == 0, done.stderr


def test_bits_are_refused_and_leave_no_file(tmp_path):
    run, _ = trained(tmp_path, "residual w2a2", 1)
    with pytest.raises(pocketseg.errors.ModelFileError, match=r"packed\.safetensors"):
        pocketseg.export(run)
    assert not list((run / "fold-0").glob("*.onnx")) and not list((run / "fold-0").glob(".*.onnx"))
