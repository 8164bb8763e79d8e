"""What runs a model: a run's packed model where it is the run's own, what was asked for, and clear refusals."""

from __future__ import annotations

import logging
import shutil
import sys

import numpy as np
import pytest
import torch

import pocketseg
from helpers.commands import run_cli
from pocketseg.data import Cases
from pocketseg.engine.container import Container, read_container
from pocketseg.errors import EnvironmentProblem, ModelFileError, RecipeError, RunError
from pocketseg.training.model import Model


@pytest.fixture(scope="module")
def image(phantom_data):
    cases = Cases.open(phantom_data)
    return np.asarray(cases.image(cases[3]))


@pytest.fixture
def run(trained_run, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(trained_run, tmp_path / "copy")


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "pocketseg")
    return caplog


def changed(run):
    """Train on, so to say: other weights under the same name."""
    best = run / "fold-0/float/best.safetensors"
    model = Model.load(best)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter += 0.05
    model.save(best, model.metadata)


def repacked(run, **changes):
    """The run's packed model with another card; None takes a fact away."""
    file = run / "fold-0/model.pseg"
    whole = read_container(file.read_bytes(), "here")
    card = {key: value for key, value in {**whole.card, **changes}.items() if value is not None}
    file.write_bytes(Container(card, whole.program, whole.data).to_bytes())


def test_training_packs_and_the_run_is_predicted_with_that(trained_run, image, said):
    found = pocketseg.load(trained_run)
    assert found.runtime.startswith("engine") and found.card["precision"] == "f32"
    assert "fold-0/model.pseg (engine" in said.text
    net = pocketseg.load(trained_run, backend="torch")
    assert net.runtime == "torch, f32" and "best.safetensors (torch, f32" in said.text
    assert 0 < np.abs(found.predict(image) - net.predict(image)).max() < 1e-4
    assert found.pipeline == net.pipeline


def test_older_than_the_weights_is_not_used_and_told(run, image, said):
    before = pocketseg.load(run).predict(image)
    changed(run)
    found = pocketseg.load(run)
    assert found.runtime.startswith("torch")
    assert "is not used: it was made of other weights than best.safetensors holds now" in said.text
    assert np.abs(found.predict(image) - before).max() > 1e-3
    with pytest.raises(ModelFileError, match=r"made of other weights.*pocketseg pack"):
        pocketseg.load(run, backend="pseg")
    pocketseg.pack(run)
    again = pocketseg.load(run)
    assert again.runtime.startswith("engine") and np.abs(again.predict(image) - found.predict(image)).max() < 1e-4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"rounded": True}, "with fewer bits"), ({"weights_sha256": None}, "does not say which weights")],
)
def test_what_is_not_the_runs_own_is_not_used(run, said, changes, reason):
    repacked(run, **changes)
    assert pocketseg.load(run).runtime.startswith("torch")
    assert reason in said.text


def test_rounded_is_used_when_it_is_asked_for(run):
    repacked(run, rounded=True)
    assert pocketseg.load(run, backend="pseg").runtime.startswith("engine")


def test_a_damaged_one_is_not_used(run, said):
    file = run / "fold-0/model.pseg"
    file.write_bytes(file.read_bytes()[:-3])
    assert pocketseg.load(run).runtime.startswith("torch")
    assert "is not used: it is truncated" in said.text


def test_packed_with_fewer_bits_lies_beside(run, phantom_data):
    images = [np.asarray(each) for each in map(Cases.open(phantom_data).image, list(Cases.open(phantom_data))[:5])]
    small = pocketseg.pack(run, calibrate=images)
    assert small.file == run / "fold-0/model-w8a8.pseg"
    assert pocketseg.load(small.file).card["rounded"] and not pocketseg.load(run).card["rounded"]
    assert pocketseg.pack(run, weights="bf16").file.name == "model-bf16.pseg"


def test_without_weights_the_packed_model_is_all_there_is(run):
    (run / "fold-0/float/best.safetensors").unlink()
    assert pocketseg.load(run).runtime.startswith("engine")
    (run / "fold-0/model.pseg").unlink()
    with pytest.raises(RunError, match=r"best\.safetensors: does not exist \(folds begun: 0\)"):
        pocketseg.load(run)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_other_backends_compute_the_same(run, exported, image, backend):
    net = pocketseg.load(run, backend="torch")
    with pytest.raises(ModelFileError, match=r"model\.onnx.*does not exist.*pocketseg export"):
        (run / "fold-0/model.onnx").unlink(missing_ok=True)
        pocketseg.load(run, backend=backend)
    shutil.copy(exported, run / "fold-0/model.onnx")
    found = pocketseg.load(run, backend=backend, threads=1)
    assert {"onnx": "onnxruntime", "openvino": "OpenVINO, f32"}[backend] == found.runtime
    assert found.pipeline == net.pipeline
    assert 0 < np.abs(found.predict(image) - net.predict(image)).max() < 1e-4
    batch = np.random.default_rng(0).random((3, 1, 32, 32), np.float32)
    assert np.abs(found.forward(batch) - net.forward(batch)).max() < 1e-4
    assert pocketseg.load(exported, backend=backend).runtime == found.runtime
    changed(run)
    with pytest.raises(ModelFileError, match=r"model\.onnx.*made of other weights.*pocketseg export"):
        pocketseg.load(run, backend=backend)


@pytest.mark.parametrize(("backend", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_backend_that_is_not_installed_names_the_extra(exported, monkeypatch, backend, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentProblem, match=rf"{package}.*pocketseg\[{backend}\]"):
        pocketseg.load(exported, backend=backend)


def test_openvino_refuses_what_it_cannot_read(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no net")
    with pytest.raises(ModelFileError, match=r"a\.onnx.*cannot be opened as ONNX"):
        pocketseg.load(tmp_path / "a.onnx", backend="openvino")


def test_backends_and_files_that_do_not_fit(trained_run, exported):
    with pytest.raises(RecipeError, match=r"openvin.*did you mean openvino"):
        pocketseg.load(trained_run, backend="openvin")
    with pytest.raises(ModelFileError, match="is nothing that torch runs"):
        pocketseg.load(exported, backend="torch")
    with pytest.raises(ModelFileError, match="is nothing that onnx runs"):
        pocketseg.load(trained_run / "fold-0/model.pseg", backend="onnx")


def test_a_gpu_that_is_not_there_is_refused_and_auto_takes_what_is(run, exported, image, said):
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(EnvironmentProblem, match="this machine has no CUDA"):
        pocketseg.load(run, device="cuda")
    with pytest.raises(EnvironmentProblem, match="needs the provider CUDAExecutionProvider, and ONNX Runtime has"):
        pocketseg.load(exported, device="cuda:0")
    with pytest.raises(ModelFileError, match="on the CPU alone"):
        pocketseg.load(run / "fold-0/model.pseg", device="mps")
    assert pocketseg.load(run, device="auto").runtime.startswith("engine")


def test_the_stage_folder_has_one_of_its_own(run, said):
    stage = run / "fold-0/float"
    assert pocketseg.load(stage).runtime.startswith("torch")
    assert pocketseg.pack(stage).file == stage / "model.pseg"
    assert pocketseg.load(stage).runtime.startswith("engine")


def test_a_net_that_cannot_be_packed_is_reported_and_the_training_ends_well(phantom_data, tmp_path, monkeypatch, said):
    from helpers.commands import SMALL
    from pocketseg.experiments import run

    def refuse(*_, **__):
        raise ModelFileError("model.pseg", "does something new")

    monkeypatch.setattr(run, "pack_model", refuse)
    small = (*SMALL, "stages.0.epochs=1")
    pocketseg.train("demo", phantom_data, tmp_path / "run", overrides=small, device="cpu", report=False)
    assert "not packed, so that predicting needs torch: model.pseg: does something new" in said.text
    assert pocketseg.load(tmp_path / "run").runtime.startswith("torch")


def test_the_command_line_chooses(trained_run, phantom_data, tmp_path):
    picture = sorted((phantom_data / "images").iterdir())[0]
    for backend, words in ((None, "model.pseg (engine"), ("torch", "best.safetensors (torch")):
        chosen = [] if backend is None else ["--backend", backend]
        out = tmp_path / str(backend)
        done = run_cli("predict", trained_run, picture, "--out", out, *chosen)
        assert done.returncode == 0 and words in done.stderr
    assert (tmp_path / "None" / picture.name).read_bytes() == (tmp_path / "torch" / picture.name).read_bytes()
    done = run_cli("evaluate", trained_run, phantom_data, "--out", tmp_path / "evaluated", "--backend", "tourch")
    assert done.returncode == 2 and "did you mean torch" in done.stderr
