"""`pocketseg benchmark`: what it measures, what it compares, and what it refuses."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import pocketseg
from helpers.commands import run_cli
from pocketseg.data.readers import read_image
from pocketseg.engine.container import Container, read_container
from pocketseg.errors import DataError, EnvironmentProblem, ModelFileError
from pocketseg.flows import benchmark as flow
from pocketseg.timing import in_turns
from pocketseg.training.model import Model, torch_forward

ROOT = Path(__file__).parents[2]
QUICK = {"turns": 2, "turn_s": 0.01, "threads": 1}


@pytest.fixture(scope="module")
def picture(phantom_data):
    return sorted((phantom_data / "images").iterdir())[3]


@pytest.fixture(scope="module")
def other(trained_run, tmp_path_factory):
    """A packed model that says it was made of the run's weights, but computes something else."""
    folder = tmp_path_factory.mktemp("other")
    model = Model.load(trained_run / "fold-0/float/best.safetensors")
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    model.save(folder / "best.safetensors", model.metadata)
    changed = read_container(pocketseg.pack(folder / "best.safetensors").file.read_bytes(), "here")
    card = read_container((trained_run / "fold-0/model.pseg").read_bytes(), "here").card
    file = folder / "other.pseg"
    file.write_bytes(Container(card, changed.program, changed.data).to_bytes())
    return file


def test_every_backend_by_turns(trained_run, exported, picture):
    backends = ("torch", "onnx", "openvino", "pseg")
    found = pocketseg.benchmark(trained_run, backends=backends, image=picture, **QUICK)
    assert [each.runtime.split(",")[0] for each in found.models] == ["torch", "onnxruntime", "OpenVINO", "engine"]
    assert found.image == (48, 48) and found.threads == 1
    for each in found.models:
        assert each.input == (1, 32, 32) and each.precision == "f32" and each.load_ms > 0
        assert each.first_ms >= 0.5 * min(each.net.calls_ms)
        assert each.size_bytes == Path(each.file).stat().st_size
        for timing in (each.net, each.whole):
            low, high = timing.quartiles_ms
            assert 0 < low <= timing.median_ms <= high and len(timing.turns_ms) == 2
    first, *others = found.models
    assert first.agreement is None
    for each in others:
        assert (each.agreement.other, each.agreement.pixels) == (0, 0) and 0 < each.agreement.largest < 1e-4


def test_another_answer_of_the_same_net_is_reported(trained_run, other, picture, caplog, monkeypatch):
    said_before = []

    def timed(*arguments, **options):
        said_before.append("differs from" in caplog.text)
        return in_turns(*arguments, **options)

    monkeypatch.setattr(flow, "in_turns", timed)
    found = pocketseg.benchmark([trained_run, other], image=picture, **QUICK)
    assert said_before == [True]
    masks = [pocketseg.load(model).mask(read_image(picture)) for model in (trained_run, other)]
    wrong = int((masks[0] != masks[1]).sum())
    assert wrong > 0
    assert found.models[1].agreement.pixels == wrong
    assert found.models[1].agreement.share == wrong / masks[0].size
    (said,) = (record for record in caplog.records if "differs from" in record.getMessage())
    assert said.levelno == logging.WARNING and f"in {wrong} pixels" in said.getMessage()


def test_different_nets_are_not_compared(trained_run, picture, tmp_path):
    model = Model.fresh({"arch": "thin_unet", "width": 4, "blocks": 2}, pocketseg.load(trained_run).pipeline, seed=1)
    model.save(tmp_path / "best.safetensors", {})
    found = pocketseg.benchmark([trained_run, tmp_path / "best.safetensors"], image=picture, **QUICK)
    assert [each.agreement for each in found.models] == [None, None]


def test_the_size_is_that_of_the_image(trained_run):
    found = pocketseg.benchmark(trained_run, size=(64, 40), **QUICK)
    assert found.image == (64, 40) and found.models[0].input == (1, 32, 32)


def test_json_and_table(trained_run, exported):
    command = ["benchmark", trained_run, exported, "--size", "32", "48", "--turns", "2", "--turn-seconds", "0.01"]
    done = run_cli(*command, "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["image"] == [32, 48] and content["threads"] == 1
    ours, onnx = content["models"]
    assert ours["net"]["ratio"] == ours["file_to_mask"]["ratio"] == 1
    assert onnx["agreement"]["pixels"] == 0 and onnx["agreement"]["other"] == 0
    for each in (ours, onnx):
        net = each["net"]
        assert net["per_second"] == pytest.approx(1000 / net["median_ms"])
        assert net["calls"] >= 2 and net["quartiles_ms"][0] <= net["median_ms"] <= net["quartiles_ms"][1]
        assert each["file_to_mask"]["median_ms"] > 0
    done = run_cli(*command)
    assert done.returncode == 0, done.stderr
    for words in ("net ms", "file to mask ms", "a second", "onnxruntime", "kernels", "that of engine", "image 32×48"):
        assert words in done.stdout


def test_what_is_refused(trained_run, exported, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EnvironmentProblem, match=r"pocketseg\[onnx\]"):
        pocketseg.benchmark([trained_run, exported], **QUICK)
    with pytest.raises(DataError, match="0 models"):
        pocketseg.benchmark([], **QUICK)
    with pytest.raises(DataError, match="positive numbers"):
        pocketseg.benchmark(trained_run, turns=0)
    with pytest.raises(ModelFileError, match="does not exist"):
        pocketseg.benchmark(tmp_path / "none.pseg", **QUICK)
    with pytest.raises(DataError, match="nowhere"):
        pocketseg.benchmark(trained_run, image=tmp_path / "nowhere.png", **QUICK)


@pytest.mark.slow("three runtimes in a process; this file has `benchmark`")
def test_the_benchmark_of_the_engine_works(tmp_path, tool):
    """Every part of it, on the smallest net."""
    tool("cc")
    file = tmp_path / "lines.jsonl"
    runtimes = ["pseg", "onnxruntime:int8", "openvino:int8"]
    command = [
        sys.executable, "benchmarks/engine.py", "--nets", "tiny", "--runtimes", *runtimes, "--quick", "--threads", "1",
        "--parts", "nets", "scaling", "example", "--sides", "64", "128", "--json", file,
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    nets = {(each["runtime"], each["precision"]): each for each in lines if each["part"] == "nets"}
    assert set(nets) == {("pseg", "int8"), ("pseg", "f32"), ("onnxruntime", "int8"), ("openvino", "int8")}
    best = min((each["ms"], f"{kind}:{bits}") for (kind, bits), each in nets.items() if kind != "pseg")
    for each in nets.values():
        assert {"net", "isa", "threads", "ms", "spread_ms", "ratio", "difference", "commit", "versions"} <= set(each)
        assert each["spread_ms"][0] <= each["ms"] <= each["spread_ms"][1]
        assert each["best_peer"] == best[1]
    assert nets["pseg", "int8"]["difference"] < 1e-4 < nets["openvino", "int8"]["difference"]
    sizes = [(each["size"], each["threads"]) for each in lines if each["part"] == "scaling"]
    assert sizes == [(64, 1), (64, 2), (128, 1), (128, 2)]
    (example,) = (each for each in lines if each["part"] == "example")
    assert 200 < example["peak_rss_kib"] < 8 * 1024 and example["ms"] > 0


def test_a_net_of_the_catalog_has_random_weights(caplog):
    found = pocketseg.benchmark(["thin_unet_w32_n4", "tiny_unet"], size=(48, 32), **QUICK)
    assert [each.model for each in found.models] == ["thin_unet_w32_n4", "tiny_unet"]
    assert all(each.input == (1, 48, 32) and each.net.median_ms > 0 for each in found.models)
    assert all(each.runtime == "torch, f32, random weights" for each in found.models)
    first = found.models[0]
    assert first.size_bytes == 4 * pocketseg.inspect("thin_unet_w32_n4").totals["parameters"]
    assert "thin_unet_w32_n4 has random weights" in caplog.text
    with pytest.raises(ModelFileError, match="is a net without a file, which torch runs and pseg does not"):
        pocketseg.benchmark("thin_unet_w32_n4", backends=["pseg"], **QUICK)


def test_a_gpu_is_waited_for(monkeypatch):
    """There is none here: a net that says it is on one is timed with its input in place, until the device is done."""
    waited = []
    monkeypatch.setattr("pocketseg.training.model.wait_for", waited.append)
    net = torch.nn.Conv2d(1, 1, 1)
    forward = torch_forward(net)
    call = forward.call_on_device(np.zeros((1, 1, 8, 8), np.float32))
    call()
    assert waited == [torch.device("cpu")]
    forward.device = torch.device("meta")  # of another kind than cpu
    net.to("meta")
    each = SimpleNamespace(predictor=SimpleNamespace(forward=forward), net_input=np.zeros((1, 1, 8, 8), np.float32))
    monkeypatch.setattr("pocketseg.training.model.autocast", lambda *_: contextlib.nullcontext())
    flow._net_alone(each)()
    assert waited[1:] == [torch.device("meta")]
