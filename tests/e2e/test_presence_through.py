"""A limit of presence from training to every form of the model."""

from __future__ import annotations

import logging

import pytest

import pocketseg
from helpers.commands import TRAINED
from pocketseg.errors import DataError
from pocketseg.pipeline import evidence
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import open_cases


def train(data, out, *settings):
    pocketseg.train("demo", data, out, overrides=[*TRAINED, "stages.0.epochs=1", *settings], device="cpu", report=False)
    return out


def test_it_is_chosen_and_every_form_of_the_model_obeys(trained_run, phantom_data, tmp_path, monkeypatch, caplog):
    table = tmp_path / "others"
    pocketseg.evaluate(trained_run, phantom_data, out=table)
    monkeypatch.setattr("pocketseg.evaluation.limits.FEWEST_GROUPS", 1)
    caplog.set_level(logging.INFO, "pocketseg")
    section = f"postprocess.presence={{specificity: 0.5, out_of_fold: ['{table}']}}"
    run = train(phantom_data, tmp_path / "run", section)
    assert "lesion is there where the evidence is above" in caplog.text

    packed, torch_net = pocketseg.load(run), pocketseg.load(run, backend="torch")
    onnx = pocketseg.load(pocketseg.export(run).file)
    (limit,) = packed.pipeline.postprocess.presence
    assert torch_net.pipeline == packed.pipeline and onnx.pipeline.postprocess == packed.pipeline.postprocess
    cases = open_cases(phantom_data, RunFolder(run).recipe().data)
    emptied = 0
    for case in cases:
        image = cases.image(case)
        for model in (packed, torch_net, onnx):
            probability = model.predict(image)
            there = evidence(probability[:, :, 0]) > limit
            mask = model.mask(image)
            assert mask.any() == bool((probability >= model.pipeline.postprocess.threshold).any() and there)
        emptied += not there
    assert emptied, "the limit is above no image: the test shows nothing"
    rows = pocketseg.evaluate(run, phantom_data, out=tmp_path / "evaluated").rows
    assert all((row.predicted_pixels > 0) <= (row.evidence > limit) for row in rows)
    pocketseg.predict(run, [phantom_data / "images"], tmp_path / "masks")
    written = pocketseg.evaluate(tmp_path / "masks", phantom_data, out=tmp_path / "of-masks").rows
    assert [row.predicted_pixels for row in written] == [row.predicted_pixels for row in rows]


def test_few_cases_choose_no_limit(phantom_data, tmp_path, caplog):
    run = train(phantom_data, tmp_path / "run", "postprocess.presence={specificity: 0.9}")
    assert "no limit of presence for lesion" in caplog.text
    assert pocketseg.load(run).pipeline.postprocess.presence == ()
    left = next(iter(RunFolder(run).manifest()["stages"].values()))["rules left"]
    assert "40 are needed" in left["presence of lesion"]


def test_a_table_that_is_not_there_is_found_before_training(phantom_data, tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: does not exist"):
        train(phantom_data, tmp_path / "run", "postprocess.presence={specificity: 0.9, out_of_fold: [none.csv]}")
    assert not (tmp_path / "run/fold-0").exists()
