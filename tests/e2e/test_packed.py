"""A trained run as model.pseg: packed, verified, predicted and evaluated with, and refused where that is right."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import pocketseg
from helpers.commands import run_cli
from pocketseg.data import Cases
from pocketseg.engine.container import read_container
from pocketseg.engine.session import Session
from pocketseg.errors import DataError, ModelFileError, RecipeError
from pocketseg.runs import packed as flow
from pocketseg.training.model import Model


@pytest.fixture(scope="module")
def packed(trained_run):
    return pocketseg.pack(trained_run)


@pytest.fixture(scope="module")
def images(phantom_data):
    cases = Cases.open(phantom_data)
    return [np.asarray(cases.image(case)) for case in list(cases)[:4]]


def test_the_same_masks_as_torch(packed, trained_run, images):
    engine, net = pocketseg.load(packed.file), pocketseg.load(trained_run, backend="torch")
    assert packed.file == trained_run / "fold-0/model.pseg" and packed.parity.images > 3
    for image in images:
        assert np.abs(engine.predict(image) - net.predict(image)).max() < 1e-4
        assert np.array_equal(engine.mask(image), net.mask(image))
    assert engine.pipeline == net.pipeline


@pytest.mark.row("S28")
def test_the_file_holds_what_its_reader_needs_and_no_more(packed, trained_run, phantom_data):
    content = packed.file.read_bytes()
    assert packed.size_bytes == len(content)
    card = read_container(content, "here").card
    assert set(card) == {
        "description", "net", "parameters", "pipeline", "pocketseg", "precision", "rounded", "trained_on_sha256",
        "verification", "version", "weights_sha256",
    }  # fmt: skip
    assert card["precision"] == "f32" and card["verification"]["kind"] == "tolerance"
    for word in (
        phantom_data,
        phantom_data.name,
        trained_run.name,
        *(p.stem for p in (phantom_data / "images").iterdir()),
    ):
        assert str(word).encode() not in content
    assert pocketseg.pack(trained_run, trained_run / "again.pseg").file.read_bytes() == content


def test_the_command_line(packed, trained_run, phantom_data, tmp_path):
    done = run_cli("pack", trained_run, "-o", tmp_path / "a.pseg")
    assert done.returncode == 0 and "KiB" in done.stdout, done.stderr
    done = run_cli("verify", tmp_path / "a.pseg")
    assert done.returncode == 0 and "equal within" in done.stdout
    done = run_cli("predict", tmp_path / "a.pseg", phantom_data / "images", "--out", tmp_path / "masks")
    assert done.returncode == 0 and len(list((tmp_path / "masks").glob("*.png"))) == 40
    evaluated = []
    for model in (tmp_path / "a.pseg", trained_run):
        done = run_cli(
            "evaluate",
            model,
            phantom_data,
            "--split",
            trained_run / "split.json",
            "--out",
            tmp_path / f"{model.name}.evaluated",
        )
        assert done.returncode == 0, done.stderr
        evaluated.append((tmp_path / f"{model.name}.evaluated" / "cases.csv").read_text())
    assert evaluated[0] == evaluated[1]


def test_inspect(packed, tmp_path):
    done = run_cli("inspect", packed.file, env={"COLUMNS": "200"})
    assert done.returncode == 0, done.stderr
    for words in (
        "convolution 3×3",
        "f32, 32 bit",
        "relu",
        "within rounding",
        f"{packed.size_bytes:,} bytes",
        "KiB for 32×32",
    ):
        assert words in done.stdout, words
    done = run_cli("inspect", packed.file, "--size", "64", "64")
    assert done.returncode == 2 and "is packed" in done.stderr


def test_an_altered_file_is_refused(packed, phantom_data, tmp_path):
    content = bytearray(packed.file.read_bytes())
    content[-5] ^= 1
    (tmp_path / "a.pseg").write_bytes(content)
    for verb in (
        ["verify", tmp_path / "a.pseg"],
        ["predict", tmp_path / "a.pseg", phantom_data / "images", "--out", tmp_path / "x"],
    ):
        done = run_cli(*verb)
        assert done.returncode == 2 and "was altered" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.row("P11")
def test_a_pipeline_of_another_net_is_refused(packed, tmp_path):
    container = read_container(packed.file.read_bytes(), "here")
    card = {**container.card, "pipeline": {**container.card["pipeline"], "classes": ["a", "b"]}}
    (tmp_path / "a.pseg").write_bytes(type(container)(card, container.program, container.data).to_bytes())
    with pytest.raises(ModelFileError, match="do not fit each other"):
        pocketseg.load(tmp_path / "a.pseg")


def test_verify_tells_another_result(packed, tmp_path):
    container = read_container(packed.file.read_bytes(), "here")
    data = bytearray(container.data)
    data[2] ^= 0x40
    (tmp_path / "a.pseg").write_bytes(type(container)(container.card, container.program, bytes(data)).to_bytes())
    with pytest.raises(ModelFileError, match=r"a\.pseg: gives logits that differ"):
        pocketseg.verify(tmp_path / "a.pseg")


def test_a_float_net_packed_with_eight_bits(packed, trained_run, phantom_data, images, tmp_path):
    best = next((trained_run / "fold-0").glob("*/best.safetensors"))
    small = pocketseg.pack(best, tmp_path / "int8.pseg", calibrate=phantom_data / "images")
    assert small.size_bytes < 0.75 * packed.size_bytes and small.arena_bytes < 0.5 * packed.arena_bytes
    assert small.parity.share == 0 and small.parity.largest < 1e-6
    assert pocketseg.verify(small.file).exact
    differs = [
        (pocketseg.load(small.file).mask(image) != pocketseg.load(packed.file).mask(image)).mean() for image in images
    ]
    assert np.mean(differs) < 0.05
    with pytest.raises(DataError, match="holds no images to calibrate"):
        pocketseg.pack(best, tmp_path / "x.pseg", calibrate=tmp_path / "nowhere")
    half = pocketseg.pack(best, tmp_path / "bf16.pseg", weights="bf16")
    assert small.size_bytes < half.size_bytes < packed.size_bytes


def test_eight_bits_are_reported_beside_the_float_net(trained_run, phantom_data, tmp_path, caplog):
    with caplog.at_level("INFO", "pocketseg"):
        pocketseg.pack(trained_run, tmp_path / "model.pseg", calibrate=phantom_data / "images")
    count = len(list((phantom_data / "images").iterdir()))
    assert f"calibrated on {count} images" in caplog.text
    told = next(line for line in caplog.text.splitlines() if "differ from the float net" in line)
    assert 0 <= float(told.split(": ")[-1].split(" %")[0]) < 20
    with pytest.raises(RecipeError, match="changes nothing: no weights of this model are f32"):
        pocketseg.pack(trained_run, tmp_path / "b.pseg", calibrate=phantom_data / "images", weights="bf16")
    assert not (tmp_path / "b.pseg").exists()


def test_nothing_but_a_packed_model_is_replaced(packed, trained_run, tmp_path):
    picture = tmp_path / "scan.png"
    picture.write_bytes(b"my scan")
    for source, tune in ((trained_run, False), (packed.file, True)):
        with pytest.raises(ModelFileError, match="is there already and is not a packed model"):
            pocketseg.pack(source, picture, tune=tune)
    assert picture.read_bytes() == b"my scan"
    (tmp_path / "old.pseg").write_bytes(packed.file.read_bytes()[:100])
    assert pocketseg.pack(trained_run, tmp_path / "old.pseg").size_bytes == packed.size_bytes


def test_verify_takes_a_run_and_inspect_gives_json(packed, trained_run):
    done = run_cli("verify", trained_run)
    assert done.returncode == 0 and "equal within" in done.stdout, done.stderr
    done = run_cli("inspect", packed.file, "--json")
    found = json.loads(done.stdout)
    assert found["precision"] == "f32" and found["instructions"][0]["operation"] == "input"
    assert len(found["instructions"]) == len(Session(packed.file.read_bytes(), "here").kernels)


def test_quantized_twice_is_refused(trained_run, phantom_data, tmp_path):
    best = next((trained_run / "fold-0").glob("*/best.safetensors"))
    model = Model.load(best)
    model.quantize({"scheme": "w4a8"}, [torch.rand(2, 1, 32, 32)])
    model.save(tmp_path / "best.safetensors", {})
    with pytest.raises(RecipeError, match="quantized already"):
        pocketseg.pack(tmp_path / "best.safetensors", calibrate=phantom_data / "images")
    done = pocketseg.pack(tmp_path / "best.safetensors")
    assert done.file == tmp_path / "model.pseg" and pocketseg.verify(done.file).exact
    model.save_packed(tmp_path / "packed.safetensors")
    again = pocketseg.pack(tmp_path / "packed.safetensors", tmp_path / "b.pseg")
    assert again.parity.holds and pocketseg.verify(again.file).exact


def test_a_net_that_differs_leaves_no_file(trained_run, tmp_path, monkeypatch):
    monkeypatch.setattr(flow.Session, "__call__", lambda self, batch: batch * 0 + 3)
    with pytest.raises(ModelFileError, match="differs from torch"):
        pocketseg.pack(trained_run, tmp_path / "a.pseg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["nothing.safetensors", "model.onnx"])
def test_what_is_no_model(tmp_path, name):
    done = run_cli("pack", tmp_path / name)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_predicting_with_a_packed_model_needs_neither_torch_nor_onnxruntime(packed, phantom_data, tmp_path):
    code = (
        "import sys, pocketseg; from pathlib import Path; from pocketseg.data.readers import read_image\n"
        "predictor = pocketseg.load(sys.argv[1])\n"
        "print(predictor.mask(read_image(Path(sys.argv[2]))).shape)\n"
        "heavy = {'torch', 'onnxruntime', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    image = next((phantom_data / "images").iterdir())
    subprocess.run([sys.executable, "-c", code, str(packed.file), str(image)], check=True)
