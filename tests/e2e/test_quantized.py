"""A float net, quantized after training and while training: trained, evaluated, packed, inspected, resumed."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import pocketseg
from helpers.commands import run_cli
from pocketseg.errors import ModelFileError, RecipeError, RunError
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.gate import read_gate
from pocketseg.search.run_gate import gate_fold
from pocketseg.training.model import Model

NET = "net: {arch: thin_unet, width: 8, blocks: 3}"
RECIPE = f"""
data: {{size: [32, 32], group_csv: patients.csv, group_column: patient}}
split: {{test: 0.25, validation: 0.2}}
stages:
  - {{name: float, {NET}, epochs: 2, batch: 8}}
  - {{name: after, {NET}, init: {{stage: float}}, quant: {{scheme: w8a8, max_drop: 0.005}}, epochs: 0, batch: 8}}
  - {{name: w2, {NET}, init: {{stage: float}}, quant: {{scheme: w2a8}}, epochs: 1, batch: 8}}
  - {{name: bits, {NET}, init: {{stage: w2}}, quant: {{scheme: residual w2a2}}, epochs: 1, batch: 8}}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quantized")
    (folder / "recipe.yaml").write_text(RECIPE)
    data = pocketseg.phantom(folder / "data", cases=32, size=48)
    done = run_cli("train", folder / "recipe.yaml", "--data", data, "--out", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder, data


def test_every_quantized_stage_is_packed_and_means_the_same(trained):
    folder, data = trained
    images = [
        np.asarray(pocketseg.data.Cases.open(data).image(case)) for case in list(pocketseg.data.Cases.open(data))[:3]
    ]
    sizes = {}
    for stage in ("after", "w2", "bits"):
        place = folder / "run/fold-0" / stage
        best, packed = Model.load(place / "best.safetensors"), Model.load(place / "packed.safetensors")
        assert best.quant == packed.quant and packed.packed and packed.pipeline == best.pipeline
        for image in images:
            assert np.array_equal(packed.predictor().predict(image), best.predictor().predict(image))
        sizes[stage] = (place / "packed.safetensors").stat().st_size
        counted = pocketseg.inspect(place / "best.safetensors").totals["bytes"]
        assert abs(sizes[stage] - counted) <= 0.02 * counted + 4096
    assert not (folder / "run/fold-0/float/packed.safetensors").exists()
    assert sizes["w2"] < sizes["after"]


def test_training_ends_with_the_gate(trained):
    """It says what the last stage loses to the float one, which lies beside; the run's model is what was asked for."""
    folder, _ = trained
    fold = folder / "run/fold-0"
    found = json.loads((fold / "gate.json").read_text("utf-8"))
    plain, last = found["files"]["float"], found["files"]["bits"]
    assert list(found["files"]) == ["float", "bits"] and found["margin"] == 0.005 and found["groups"] > 1
    assert plain["size_bytes"] == (fold / "float.pseg").stat().st_size
    assert last["size_bytes"] == (fold / "model.pseg").stat().st_size < plain["size_bytes"]
    assert last["change"] == pytest.approx(last["dice"] - plain["dice"]) and last["low"] <= last["change"]
    assert last["refused"] or last["low"] > -0.005
    said = "refused by the gate" if last["refused"] else "passes the gate"
    assert f"stage bits: {said}" in (folder / "run/log.txt").read_text("utf-8")
    assert "is shown to be less than 0.5 points" in (folder / "run/report.html").read_text("utf-8")


def test_a_verdict_is_of_the_file_that_is_there(trained, tmp_path):
    """Judged again where that is another one, as after a training for longer; a damaged one is said."""
    folder, data = trained
    run = RunFolder(shutil.copytree(folder / "run", tmp_path / "run"))
    file, before = run.gate_file(0), run.gate_file(0).read_bytes()
    gate_fold(run, 0, data)
    assert file.read_bytes() == before
    file.write_text(before.decode().replace('"sha256": "', '"sha256": "0'), "utf-8")
    gate_fold(run, 0, data)
    assert read_gate(run, 0)["sha256"] == json.loads(before)["sha256"]
    for content in ("", "[]", "{}", '{"sha256": "", "margin": 0, "files": {"a": {}}}'):
        file.write_text(content)
        with pytest.raises(RunError, match="is damaged"):
            read_gate(run, 0)


def test_a_file_is_packed_only_if_it_passes(trained, tmp_path, monkeypatch):
    from pocketseg.search import gate

    folder, _ = trained
    out, run = tmp_path / "accepted.pseg", folder / "run"
    monkeypatch.setattr(gate, "SLOWER", 1e9)
    with pytest.raises(ModelFileError, match=r"refused by the gate, and was not written: not shown to lose less"):
        pocketseg.pack(run, out, gate=True, max_drop=1e-6)
    assert not out.exists()
    made = pocketseg.pack(run, out, gate=True, max_drop=99)
    assert made.file == out and made.size_bytes == out.stat().st_size
    assert out.read_bytes() == (run / "fold-0/model.pseg").read_bytes()
    rounded = pocketseg.pack(run, tmp_path / "half.pseg", stage="float", constants="f16", gate=True, max_drop=99)
    assert rounded.file.exists()
    for source, stage in ((run, "float"), (out, None)):
        with pytest.raises(RecipeError, match="--gate"):
            pocketseg.pack(source, tmp_path / "no.pseg", stage=stage, gate=True)
    monkeypatch.setattr(gate, "SLOWER", 0.0)
    with pytest.raises(ModelFileError, match="times as slow as the float file"):
        pocketseg.pack(run, tmp_path / "slow.pseg", gate=True, max_drop=99)


@pytest.mark.slow("commands; the next but few chooses without them")
def test_a_stage_is_chosen_by_name(trained, tmp_path):
    folder, data = trained
    run, case = folder / "run", pocketseg.data.Cases.open(data)[0]
    image = np.asarray(case.image.image())
    chosen = pocketseg.load(run, stage="float").predict(image)
    # By the packed file that the gate left beside, and by PyTorch.
    assert np.abs(chosen - pocketseg.load(run / "fold-0/float").predict(image)).max() < 1e-5
    assert not np.array_equal(chosen, pocketseg.load(run).predict(image))
    for model, stage, told in (
        (run, "flaot", "did you mean float"),
        (run / "fold-0/float", "float", "is not a run folder"),
    ):
        with pytest.raises(pocketseg.errors.RunError, match=told):
            pocketseg.load(model, stage=stage)
    done = run_cli("predict", run, case.image.path, "--out", tmp_path, "--probabilities", "--stage", "float")
    assert done.returncode == 0, done.stderr
    written = np.asarray(Image.open(tmp_path / f"{case.image.path.stem}_probability.png"))
    assert np.abs(written / 65535 - chosen[:, :, 0]).max() < 1e-4
    evaluated = [
        pocketseg.evaluate(run, data, stage=stage, out=tmp_path / str(stage)).rows[0]
        for stage in ("float", "bits", None)
    ]
    assert evaluated[0] != evaluated[1] == evaluated[2]


def test_a_packed_model_cannot_be_trained_on(trained):
    folder, data = trained
    packed = folder / "run/fold-0/w2/packed.safetensors"
    with pytest.raises(pocketseg.errors.PocketsegError, match="packed"):
        pocketseg.train(
            {"data": {"size": [32, 32]}, "stages": [{
                "name": "x", "net": {"arch": "thin_unet", "width": 8, "blocks": 3}, "init": {"weights": str(packed)},
            }]},
            data, folder / "never", report=False,
        )  # fmt: skip


def test_sensitivities_are_reported(trained):
    folder, _ = trained
    text = (folder / "run/fold-0/after/sensitivity.csv").read_text()
    rows = list(csv.DictReader(text.split("\n\n")[0].splitlines()))
    layers = [
        row["layer"]
        for row in rows
        if row["layer"] and row["dice_lost_alone"].replace("-", "").replace(".", "").isdigit()
    ]
    assert len(layers) >= 15 and "head" in layers and "all in f32" in text


def test_the_last_stage_is_evaluated_on_integers(trained):
    folder, data = trained
    found = pocketseg.evaluate(
        folder / "run/fold-0/bits/packed.safetensors", data, split=folder / "run/split.json", part="test",
        overrides=["data.group_csv=patients.csv", "data.group_column=patient"], out=folder / "evaluated",
    ).summaries[0]  # fmt: skip
    (row,) = [s for s in json.loads((folder / "run/fold-0/summary.json").read_text()) if s["part"] == "test"]
    assert row["dice"] == pytest.approx(found.dice, abs=1e-9)


@pytest.mark.slow("two commands; test_inspect.py has them")
def test_inspect_tells_bits_levels_and_bytes(trained):
    folder, _ = trained
    done = run_cli("inspect", folder / "run/fold-0/w2/best.safetensors")
    assert done.returncode == 0 and "levels" in done.stdout and "w2a8" in done.stdout
    content = json.loads(run_cli("inspect", folder / "run/fold-0/w2/packed.safetensors", "--json").stdout)
    layers = {layer["name"]: layer for layer in content["layers"]}
    assert layers["decoder.0.0"]["bits"] == 2 and layers["decoder.0.0"]["levels"] == 3
    assert layers["encoder.0.0"]["bits"] == 8 and 0 < layers["decoder.0.0"]["zeros"] < 1
    assert layers["decoder.0.0"]["packed_bytes"] == 16 * 8 * 9 * 2 // 8


@pytest.mark.slow("trains three times; test_kill.py resumes")
def test_resuming_a_quantized_stage_is_byte_exact(trained, tmp_path):
    """The last stage again, from the float run's checkpoint of its first epoch: same bytes."""
    _, data = trained
    changed = RECIPE.replace("quant: {scheme: residual w2a2}, epochs: 1", "quant: {scheme: residual w2a2}, epochs: 2")
    (tmp_path / "recipe.yaml").write_text(changed)

    class Stop:
        def stage_begins(self, *_): ...
        def step_ends(self, *_): ...
        def epoch_ends(self, row): ...

    whole, torn = tmp_path / "whole", tmp_path / "torn"
    pocketseg.train(tmp_path / "recipe.yaml", data, whole, report=False)

    class Kill(Stop):
        stage = ""

        def stage_begins(self, stage, *_):
            self.stage = stage

        def epoch_ends(self, row):
            if self.stage == "bits" and row["epoch"] == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pocketseg.train(tmp_path / "recipe.yaml", data, torn, listener=Kill(), report=False)
    pocketseg.train(tmp_path / "recipe.yaml", data, torn, resume=True, report=False)
    for name in ("best.safetensors", "packed.safetensors", "history.csv"):
        assert (torn / "fold-0/bits" / name).read_bytes() == (whole / "fold-0/bits" / name).read_bytes()


def test_a_stage_is_chosen_by_its_folder_or_its_name(trained):
    folder, data = trained
    stage = folder / "run/fold-0/float"
    image = np.asarray(pocketseg.data.Cases.open(data).image(next(iter(pocketseg.data.Cases.open(data)))))
    expected = pocketseg.load(stage / "best.safetensors").predict(image)
    assert np.array_equal(pocketseg.load(stage).predict(image), expected)
    assert pocketseg.inspect(stage).totals == pocketseg.inspect(stage / "best.safetensors").totals
    evaluated = pocketseg.evaluate(
        stage,
        data,
        overrides=["data.group_csv=patients.csv", "data.group_column=patient"],
        out=folder / "float-evaluated",
    )
    assert evaluated.summaries[0].cases == 32
    exported = pocketseg.export(folder / "run", stage="float")
    assert exported.file == folder / "run/fold-0/float.onnx" and not exported.parity.quantized
    with pytest.raises(pocketseg.errors.RunError, match=r"has no stage \'flaot\' → did you mean float"):
        pocketseg.export(folder / "run", stage="flaot")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.2.quant.scheme=w99a8", "stages.2.quant.scheme: 'w99a8'"),
        ("stages.2.quant.keep=[nothing]", "stages.2.quant.keep: 'nothing' fits no layer"),
        ("stages.2.quant.rul=mse", "stages.2.quant.rul: is not a key of a recipe → did you mean rule?"),
        ("stages.0.epochs=0", "0 epochs are for a stage that starts from trained weights"),
        ("stages.2.quant.max_drop=0.1", "quant.max_drop is for a stage of 0 epochs"),
    ],
)
def test_faults_of_a_quant_section(trained, change, message):
    folder, data = trained
    done = run_cli("train", folder / "recipe.yaml", "--data", data, "--out", folder / "faulty", "--set", change)
    assert done.returncode == 2 and message in done.stderr and not (folder / "faulty").exists()


def test_on_the_meta_device_nothing_is_drawn():
    """A recipe's check builds the quantized net without its weights."""
    from pocketseg.nets import skeleton
    from pocketseg.quant import Scheme, quantize_net

    core = skeleton("unet", 1, 1)
    quantize_net(core, Scheme("residual w3a3"))
    assert all(p.device.type == "meta" or p.numel() < 100 for p in core.parameters())
    assert torch.get_default_device().type == "cpu"
