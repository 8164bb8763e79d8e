"""Where a stage starts from: other runs, weight files, Keras files; and what is refused before anything is trained."""

from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch

import pocketseg
from helpers.commands import SMALL, overrides, read_csv, read_json, run_cli
from pocketseg.errors import EnvironmentProblem, ModelFileError, PocketsegError, RecipeError, RunError
from pocketseg.nets import build, encoders
from pocketseg.weights import read_weights

ENCODER = ("stages.0.net={arch: encoder_unet, levels: 2, width: 4}", "data.size=[32, 32]", "stages.0.epochs=1")


@pytest.fixture
def train(phantom_data, tmp_path):
    """Train from what `init` says, hardly at all: the weights stay near those it starts from."""

    def go(init: str, *more: str, out: str = "run", small: tuple[str, ...] = SMALL, **options):
        values = (*small, "stages.0.epochs=1", "stages.0.optimizer.lr=1e-9", f"stages.0.init={init}", *more)
        pocketseg.train("demo", phantom_data, tmp_path / out, overrides=values, device="cpu", report=False, **options)
        return tmp_path / out

    return go


def best(run):
    """The only stage's weights, whatever the stage is called."""
    (path,) = run.glob("fold-0/*/best.safetensors")
    return path


def close(run, path) -> bool:
    """Same kernels and biases; the norms' running statistics move on."""
    ours, theirs = read_weights(best(run)), read_weights(path)
    names = [name for name in theirs if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    return all(torch.allclose(ours[name], theirs[name].float(), atol=1e-6) for name in names)


def refusal(train, kind: type[PocketsegError], *arguments, tmp_path, **options) -> str:
    with pytest.raises(kind) as caught:
        train(*arguments, **options)
    assert not (tmp_path / "run").exists()  # nothing was begun
    return str(caught.value)


# --- what it starts from ----------------------------------------------------------------------------------------


def test_from_another_run(train, trained_run):
    run = train(f"{{run: {trained_run}}}")
    assert close(run, best(trained_run))
    metadata = next(iter(read_json(run / "manifest.json")["stages"].values()))["start"]
    assert metadata["file"] == str(best(trained_run)) and metadata["taken"] == len(read_weights(best(trained_run)))
    log = (run / "log.txt").read_text(encoding="utf-8")
    count = metadata["taken"]
    assert f"loaded {count} of {count} tensors" in log and "head.weight" in log
    (history,) = run.glob("fold-0/*/history.csv")
    (before,) = trained_run.glob("fold-0/*/history.csv")
    assert float(read_csv(history)[0]["loss"]) < float(read_csv(before)[0]["loss"])


@pytest.mark.parametrize("kind", ["best", "last", "pth", "legacy", "safetensors"])
def test_from_a_file(train, trained_run, tmp_path, kind):
    tensors = read_weights(best(trained_run))
    path = tmp_path / "start.file"
    if kind in ("best", "last"):
        path = best(trained_run).with_name(f"{kind}.safetensors")
    elif kind == "safetensors":
        safetensors.torch.save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors}, path, _use_new_zipfile_serialization=kind == "pth")
    assert close(train(f"{{weights: {path}}}"), path)


def test_from_keras(train, tmp_path):
    from unit.weights.test_keras_files import keras_layers, write

    net = build("thin_unet", 1, 1, width=8, blocks=3, norm="block")
    layers = keras_layers(net)
    run = train(f"{{weights: {write(tmp_path / 'net.h5', layers)}}}", "stages.0.net.norm=block")
    head = read_weights(best(run))["head.bias"]
    assert torch.allclose(head, torch.from_numpy(layers[-1].weights["bias"]), atol=1e-6)


def test_by_name_takes_what_fits_and_tells_the_rest(train, trained_run):
    run = train(f"{{run: {trained_run}, match: name}}", "stages.0.net.blocks=2")
    log = (run / "log.txt").read_text(encoding="utf-8")
    assert ", not used: " in log and "encoder.2" in log
    assert torch.allclose(
        read_weights(best(run))["encoder.0.0.weight"], read_weights(best(trained_run))["encoder.0.0.weight"], atol=1e-6
    )


@pytest.mark.slow("three trainings; each start is tested alone")
def test_between_quantized_and_plain_nets(train, trained_run):
    quant = "stages.0.quant={scheme: w8a8}"
    name = "encoder.1.0.weight"
    wanted = read_weights(best(trained_run))[name]
    first = train(f"{{run: {trained_run}}}", quant, out="first")
    for out, more in (("second", (quant,)), ("plain", ())):
        run = train(f"{{run: {first}}}", *more, out=out)
        assert torch.allclose(read_weights(best(run))[name], wanted, atol=1e-6)


def published(tmp_path, monkeypatch):
    """A file as torchvision publishes it, in a cache of its own, with a digest that the name promises."""
    core = build("encoder_unet", 3, 1, levels=5, width=4).core
    tensors = dict(core.encoder.state_dict()) | {"fc.weight": torch.ones(10, 512), "fc.bias": torch.ones(10)}
    tensors["bn1.bias"] = torch.full((64,), 0.5)
    torch.save(tensors, tmp_path / "file")
    name = f"resnet18-{hashlib.sha256((tmp_path / 'file').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "cache").mkdir(exist_ok=True)
    shutil.move(tmp_path / "file", tmp_path / "cache" / name)
    monkeypatch.setitem(encoders.PUBLISHED, "resnet18", name)
    monkeypatch.setenv("POCKETSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("POCKETSEG_WEIGHTS_URL", "http://no-such-host.invalid")
    return tensors, tmp_path / "cache" / name


@pytest.mark.parametrize("by", ["imagenet", "path"])
def test_a_published_encoder(train, tmp_path, monkeypatch, by):
    tensors, path = published(tmp_path, monkeypatch)
    start = "imagenet" if by == "imagenet" else path
    found = read_weights(best(train(f"{{weights: {start}}}", *ENCODER, small=())))
    assert torch.allclose(found["encoder.bn1.bias"], tensors["bn1.bias"], atol=1e-6)
    assert torch.allclose(found["encoder.conv1.weight"], tensors["conv1.weight"].sum(1, keepdim=True), atol=1e-5)


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("data.channels=3",), "has 1 image channels, not 3"),
        (("stages.0.net={arch: unet, width: 8, levels: 2}",), "whose net is thin_unet, not unet"),
        (("stages.0.net.width=6",), "is 8×1×3×3 in the file and 6×1×3×3 in the net"),
    ],
)
def test_another_net_is_reported_with_both(train, trained_run, tmp_path, changes, words):
    assert words in refusal(train, PocketsegError, f"{{run: {trained_run}}}", *changes, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("{{run: {run}, allow_leak: true}}", "has 1 classes, not 2"),
        ("{{weights: {file}}}", "head.weight is 1×8×1×1 in the file and 3×8×1×1 in the net"),
    ],
)
def test_another_number_of_classes_is_reported_with_both(trained_run, tmp_path, init, words):
    masks = np.zeros((12, 32, 32, 1), np.uint8)
    masks[:, 5:15, 5:20], masks[:, 18:30, 10:30] = 1, 2
    images = masks * 80 + np.arange(12, dtype=np.uint8)[:, None, None, None]
    np.savez(tmp_path / "data.npz", images=images, masks=masks)
    recipe = {
        "data": {"size": [32, 32], "classes": ["left", "right"]},
        "stages": [{"name": "a", "net": {"arch": "thin_unet", "width": 8, "blocks": 3}, "loss": {"ce": 1}}],
    }
    start = f"stages.0.init={init.format(run=trained_run, file=best(trained_run))}"
    with pytest.raises(PocketsegError) as caught:
        pocketseg.train(recipe, tmp_path / "data.npz", tmp_path / "run", overrides=[start], device="cpu", report=False)
    assert words in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("init", "kind", "words"),
    [
        ("{weights: no-such.pth}", ModelFileError, "does not exist"),
        ("{weights: no-such.h5}", ModelFileError, "does not exist"),
        ("{run: no-such}", RunError, "is not a run folder"),
        ("{weights: imagenet}", RecipeError, "has no published encoder"),
        ("{weights: x.h5, match: name}", RecipeError, "matched by order"),
    ],
)
def test_faults_of_the_start_before_anything_is_trained(train, tmp_path, init, kind, words):
    assert words in refusal(train, kind, init, tmp_path=tmp_path)


def test_the_second_stages_file_is_missed_before_the_first_is_trained(train, tmp_path):
    first, second = "{name: a, net: {arch: thin_unet}}", "{name: b, net: {arch: thin_unet}, init: {weights: none.pth}}"
    text = refusal(train, ModelFileError, "null", f"stages=[{first}, {second}]", tmp_path=tmp_path)
    assert "none.pth: does not exist" in text


def test_stages_of_different_nets_are_reported_before_training(train, tmp_path):
    stages = (
        "stages=[{name: a, net: {arch: thin_unet, width: 4}},"
        " {name: b, net: {arch: thin_unet, width: 8}, init: {stage: a}}]"
    )
    assert "4×1×3×3 in the file and 8×1×3×3" in refusal(train, ModelFileError, "null", stages, tmp_path=tmp_path)


def test_a_stage_the_run_does_not_have(train, trained_run, tmp_path):
    text = refusal(train, RunError, f"{{run: {trained_run}, stage: zzz}}", tmp_path=tmp_path)
    assert "has no stage 'zzz' → known: float" in text


def test_no_network_is_reported_with_what_to_do(phantom_data, tmp_path):
    env = {"POCKETSEG_CACHE": str(tmp_path), "POCKETSEG_WEIGHTS_URL": "http://127.0.0.1:9", "NO_PROXY": "*"}
    sets = [part for value in (*ENCODER, "stages.0.init={weights: imagenet}") for part in ("--set", value)]
    done = run_cli("train", "demo", "--data", phantom_data, "--out", tmp_path / "run", *sets, env={**os.environ, **env})
    assert done.returncode == EnvironmentProblem.exit_code, done.stderr
    assert "Traceback" not in done.stderr and "stages.0.init=null" in done.stderr.replace("\n", "")


# --- leaks and resuming -----------------------------------------------------------------------------------------


def test_a_run_that_was_trained_on_these_test_cases(train, trained_run, tmp_path):
    other = ("split.seed=11",)
    text = refusal(train, RunError, f"{{run: {trained_run}}}", *other, tmp_path=tmp_path)
    folds = read_json(trained_run / "split.json")
    seen = {folds["groups"][name] for name in folds["folds"][0]["train"]}
    run = train(f"{{run: {trained_run}, allow_leak: true}}", *other)
    mine = read_json(run / "split.json")["folds"][0]["test"]
    leaked = [name for name in mine if folds["groups"][name] in seen]
    assert leaked and f"was trained on {len(leaked)} of the {len(mine)} test cases of fold 0" in text


def test_resuming_with_another_start_is_refused(train, trained_run, tmp_path, phantom_data):
    tensors = read_weights(best(trained_run))
    path = tmp_path / "start.pth"
    torch.save(tensors, path)
    train(f"{{weights: {path}}}")
    train(f"{{weights: {path}}}", resume=True)
    tensors["head.bias"] = tensors["head.bias"] + 0.25
    torch.save(tensors, path)
    with pytest.raises(PocketsegError, match="resume with the same"):
        train(f"{{weights: {path}}}", resume=True)


def test_command_line(phantom_data, trained_run, tmp_path):
    done = run_cli(
        "train", "demo", "--data", phantom_data, "--out", tmp_path / "run",
        *overrides("stages.0.epochs=1", f"stages.0.init={{run: {trained_run}}}"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " tensors" in done.stderr and "loaded " in done.stderr and "encoder.0" not in done.stderr
