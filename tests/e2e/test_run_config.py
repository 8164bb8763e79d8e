"""One file of the fixed-point study drives all its modes: trains, trains again, evaluates, draws weights."""

from __future__ import annotations

import pytest
import torch
import yaml

import pocketseg
from helpers.commands import read_csv, read_json, run_cli
from helpers.foreign_nets import FixedPointUNet, trained
from pocketseg.errors import RecipeError
from pocketseg.weights import read_weights

SMALL = [
    part
    for value in (
        "data.size=[32, 32]", "split.validation=0.2", "stages.0.net.width=4", "stages.0.precision=f32",
        "evaluate.parts=[test]",
    )
    for part in ("--set", value)
]  # fmt: skip


@pytest.fixture
def go(phantom_data, tmp_path):
    """Runs a config in a folder of its own, as the study does, with data unless told otherwise."""

    def run(mode: str, *more, data: bool = True, small: bool = True, **changed):
        section = {
            "dataset": "nih", "lr": 1e-3, "num_epochs": 1, "quantization": "FIXED", "activation_i_width": 6,
            "activation_f_width": 0, "weight_i_width": 0, "weight_f_width": 4, "activation": "relu",
            "experiment_name": "nih_a6_0_w0_4", "log_output_dir": "results", "operation_mode": mode, **changed,
        }  # fmt: skip
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({"UNET": section}))
        given = ["--data", phantom_data] if data else []
        done = run_cli("run", "config.yaml", *given, *(SMALL if small else []), *more, cwd=tmp_path)
        assert "Traceback" not in done.stderr
        return done

    return run


def test_all_modes_one_after_another(go, tmp_path):
    home = tmp_path / "results/nih_a6_0_w0_4"
    done = go("normal")
    assert done.returncode == 0, done.stderr
    assert "normal: results/nih_a6_0_w0_4" in done.stdout and "compat fixed Q0.4/Q6.0" in done.stderr
    assert (home / "fold-0/fixed-point/packed.safetensors").is_file()
    before = (home / "fold-0/fixed-point/best.safetensors").read_bytes()

    done = go("inference", small=False)
    assert done.returncode == 0, done.stderr
    assert "inference: results/nih_a6_0_w0_4.evaluation" in done.stdout
    assert read_csv(tmp_path / "results/nih_a6_0_w0_4.evaluation/cases.csv")
    assert (home / "fold-0/fixed-point/best.safetensors").read_bytes() == before  # nothing was trained

    done = go("visualize", small=False, data=False, trained_model="gone.pkl")
    assert done.returncode == 0, done.stderr
    assert "trained_model gone.pkl is not there; the model is that of the run" in done.stderr
    assert (tmp_path / "results/nih_a6_0_w0_4.pdf").read_bytes().startswith(b"%PDF")

    done = go("retrain", "--out", "again", trained_model="results/nih_a6_0_w0_4")
    assert done.returncode == 0, done.stderr
    (stage,) = read_json(tmp_path / "again/manifest.json")["stages"].values()
    assert stage["start"]["file"].endswith("nih_a6_0_w0_4/fold-0/fixed-point/best.safetensors")


def test_a_state_dict_of_the_study_is_evaluated_drawn_and_trained_on(go, tmp_path):
    theirs = trained(FixedPointUNet(1, 1))
    torch.save(theirs.state_dict(), tmp_path / "full.pkl")
    done = go("inference", trained_model="full.pkl")
    assert done.returncode == 0, done.stderr
    home = tmp_path / "results/nih_a6_0_w0_4"
    (history,) = home.glob("fold-0/*/history.csv")
    assert [row["epoch"] for row in read_csv(history)] == ["0"] and read_csv(home / "fold-0/cases-test.csv")
    found = read_weights(home / "fold-0/fixed-point/best.safetensors")
    assert torch.equal(found["encoder.0.0.weight"], theirs.conv1.conv1.weight)
    assert torch.equal(found["decoder.0.5.running_var"], theirs.up1["downconv"].conv2_bn.running_var)

    done = go("visualize", data=False, trained_model="full.pkl", quantization="Normal", experiment_name="nih_full")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results/nih_full.pdf").is_file() and (tmp_path / "results/nih_full/recipe.yaml").is_file()
    done = go("visualize", data=False, trained_model="full.pkl", experiment_name="nih_other")
    assert done.returncode == 2 and "is quantized with ranges of activations" in done.stderr
    done = go("retrain", "--out", "more", "--set", "stages.0.optimizer.lr=1e-9", trained_model="full.pkl")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow("four trainings of a published quantizer each")
@pytest.mark.parametrize(
    "scheme", ["compat int 4/6", "compat fixed Q0.4/Q6.0", "compat powers Q0.4/Q6.0", "compat bnn"]
)
def test_published_quantizers_train_and_are_exported_in_floats(go, tmp_path, scheme):
    done = go("normal", "--set", f"stages.0.quant.scheme={scheme}")
    assert done.returncode == 0, done.stderr
    run = tmp_path / "results/nih_a6_0_w0_4"
    assert "is not packed" in done.stderr and "--to onnx-floats" in done.stderr
    assert (run / "fold-0/fixed-point/packed.safetensors").is_file()
    found = pocketseg.export(run, "onnx-floats")
    assert found.parity.holds and found.size_bytes > 4 * 19_000


@pytest.mark.parametrize(
    ("mode", "options", "words"),
    [
        ("normal", {"data": False}, "operation_mode normal: needs images and masks"),
        ("inference", {}, "trained_model: is not given, and neither that nor a run in results/nih_a6_0_w0_4 is there"),
        ("visualize", {"trained_model": "x.pkl"}, "trained_model: is x.pkl, and neither"),
        ("retrain", {}, "trained_model: is missing"),
    ],
)
def test_what_is_missing_is_told(go, mode, options, words):
    done = go(mode, **options)
    assert done.returncode == 2 and words in done.stderr


def test_a_recipe_is_no_such_file(tmp_path):
    (tmp_path / "recipe.yaml").write_text("stages: []")
    with pytest.raises(RecipeError, match="a recipe is trained with `pocketseg train`"):
        pocketseg.run(tmp_path / "recipe.yaml", "data")
