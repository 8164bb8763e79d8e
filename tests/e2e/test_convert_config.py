"""A configuration file of the fixed-point study: converted, trained, and trained as it is."""

import csv

import pytest

from helpers.commands import read_json, run_cli
from pocketseg.recipes import load_recipe

CONFIG = """
UNET:
    dataset: 'nih'
    lr: "0.001"
    num_epochs: 200
    model_type: "unet"
    init_type: glorot
    quantization: "FIXED"
    activation_f_width: 0
    activation_i_width: 6
    weight_f_width: 4
    weight_i_width: 0
    gpu_core_num: none
    trained_model: "nih_a6_0_w0_4.pkl"
    experiment_name: "nih_a6_0_w0_4"
    log_output_dir: "results"
    operation_mode: "normal"
"""
SMALL = [
    part
    for value in (
        "data.size=[32, 32]", "split.validation=0.2", "stages.0.net.width=4", "stages.0.net.levels=2",
        "stages.0.epochs=1", "stages.0.batch=8", "stages.0.precision=f32", "evaluate.parts=[validation]",
    )
    for part in ("--set", value)
]  # fmt: skip


def test_convert_and_train(phantom_data, tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    done = run_cli("recipes", "convert", "config.yaml", "-o", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "next:   pocketseg train recipe.yaml --data DATA --out results/nih_a6_0_w0_4" in done.stdout
    for told in ("init_type has no effect", "model_type has no effect", "activation is missing", "--device cpu"):
        assert told in done.stderr
    old = run_cli("convert-config", "config.yaml", cwd=tmp_path)
    assert old.returncode == 0 and "now called: pocketseg recipes convert" in old.stderr
    assert old.stdout == (tmp_path / "recipe.yaml").read_text() and "convert-config" not in run_cli("--help").stdout
    again = run_cli("recipes", "convert", "config.yaml", "-o", "recipe.yaml", cwd=tmp_path)
    assert again.returncode == 2 and "already exists" in again.stderr

    out = tmp_path / "results/nih_a6_0_w0_4"
    done = run_cli("train", "recipe.yaml", "--data", phantom_data, "--out", out, *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    stage = out / "fold-0/fixed-point"
    with (stage / "history.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    assert (stage / "packed.safetensors").stat().st_size < (stage / "best.safetensors").stat().st_size
    assert read_json(out / "fold-0/summary.json")[0]["part"] == "validation"
    assert load_recipe(out / "recipe.yaml").stages[0].quant.scheme == "fixed Q0.4/Q6.0"


@pytest.mark.slow("a training more")
def test_the_file_as_it_is_says_its_notes_and_inference_never_trains(phantom_data, tmp_path):
    path, out = tmp_path / "config.yaml", tmp_path / "run"
    path.write_text(CONFIG.replace('"normal"', '"inference"'))
    done = run_cli("train", path, "--data", phantom_data, "--out", out, *SMALL)
    assert done.returncode == 2 and "trains nothing" in done.stderr and not out.exists()
    path.write_text(CONFIG)
    done = run_cli("train", path, "--data", phantom_data, "--out", out, *SMALL)
    assert done.returncode == 0, done.stderr
    assert "activation is missing" in done.stderr and (out / "fold-0/fixed-point/packed.safetensors").exists()


def test_experiments_by_name(tmp_path):
    done = run_cli("recipes", "convert", "--list")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 27 and "em/a6.0w0.4" in done.stdout
    done = run_cli("recipes", "convert", "--experiment", "em/a6.0w0.4")
    (tmp_path / "recipe.yaml").write_text(done.stdout)
    assert load_recipe(tmp_path / "recipe.yaml").stages[0].quant.scheme == "fixed Q0.4/Q6.0"
    assert "next:" in done.stderr


def test_faults_are_reported_together(tmp_path):
    (tmp_path / "config.yaml").write_text(
        CONFIG.replace("'nih'", "'ct'").replace("nih_", "x_").replace('"0.001"', "-1")
    )
    done = run_cli("recipes", "convert", tmp_path / "config.yaml")
    assert done.returncode == 2 and "UNET.dataset" in done.stderr and "UNET.lr" in done.stderr
    assert run_cli("recipes", "convert").returncode == 2
    (tmp_path / "recipe.yaml").write_text("stages: []")
    done = run_cli("recipes", "convert", tmp_path / "recipe.yaml")
    assert done.returncode == 2 and "no mapping UNET" in done.stderr
