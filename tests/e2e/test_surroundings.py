"""What must not matter: locale, time zone, clock, hash seed, working folder, network; other processes beside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import overrides, run_cli
from PIL import Image

HERE = Path(__file__).parent
WITHOUT_A_NETWORK = ["unshare", "--net", "--map-root-user"]


def whole_way(data: Path, out: Path, *before: str, cwd: Path | None = None, **environment: str) -> dict:
    done = subprocess.run(
        [*before, sys.executable, str(HERE / "whole_way.py"), str(data), str(out)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def usual(phantom_data, tmp_path_factory) -> dict:
    found = whole_way(phantom_data, tmp_path_factory.mktemp("usual"), PYTHONHASHSEED="0")
    assert len(found["files"]) > 100
    return found


def same(found: dict, usual: dict) -> bool:
    differ = {
        name for name in {*found["files"], *usual["files"]} if found["files"].get(name) != usual["files"].get(name)
    }
    assert not differ
    return True


@pytest.mark.row("F26", "F27")
def test_without_a_network_nobody_asks_for_one(usual, phantom_data, tmp_path):
    assert usual["asked"] == [] and usual["written"] == []
    before = WITHOUT_A_NETWORK if subprocess.run([*WITHOUT_A_NETWORK, "true"]).returncode == 0 else []
    found = whole_way(phantom_data, tmp_path / "out", *before, cwd=tmp_path, PYTHONHASHSEED="random")
    assert found["asked"] == [] and same(found, usual)


@pytest.mark.row("F25")
def test_in_turkish_far_from_greenwich(usual, phantom_data, tmp_path, tool):
    """A decimal comma, an i that has no capital I, and a time zone of quarter hours."""
    subprocess.run([tool("localedef"), "-i", "tr_TR", "-f", "UTF-8", str(tmp_path / "tr_TR.UTF-8")], check=True)
    found = whole_way(
        phantom_data, tmp_path / "out", LOCPATH=str(tmp_path), LC_ALL="tr_TR.UTF-8", TRY_LOCALE="1", TZ="Asia/Kathmandu"
    )
    assert same(found, usual)


@pytest.mark.row("F15", "F25")
def test_in_1970_in_plain_ascii(usual, phantom_data, tmp_path, tool):
    before = [tool("faketime"), "--exclude-monotonic", "-f", "@1970-01-02 00:00:00"]
    assert same(whole_way(phantom_data, tmp_path / "out", *before, LC_ALL="C", TZ="UTC"), usual)


@pytest.mark.row("F15")
def test_in_2042_with_a_clock_that_jumps(usual, phantom_data, tmp_path, tool):
    before = [tool("faketime"), "--exclude-monotonic", "-f", "@2042-06-01 00:00:00"]
    assert same(whole_way(phantom_data, tmp_path / "out", *before, TRY_JUMPS="1"), usual)


@pytest.mark.row("F15")
def test_checkpoints_are_told_apart_by_what_is_in_them_not_by_the_clock(phantom_data, tmp_path):
    """All files of a run are of tomorrow, the older checkpoint the newest of all."""
    options = overrides("stages.0.epochs=3")
    for out in (tmp_path / "once", tmp_path / "twice"):
        done = run_cli("train", "demo", "--data", phantom_data, "--out", out, "--device", "cpu", *options)
        assert done.returncode == 0, done.stderr
    stage = tmp_path / "twice/fold-0/float"
    tomorrow = time.time() + 86_400
    for path in stage.iterdir():
        os.utime(path, (tomorrow, tomorrow + 60 * path.name.startswith("previous")))
    more = overrides("stages.0.epochs=3")
    done = run_cli("train", "demo", "--data", phantom_data, "--out", tmp_path / "twice", "--resume", *more)
    assert done.returncode == 0, done.stderr
    for name in ("last.safetensors", "best.safetensors"):
        assert (stage / name).read_bytes() == (tmp_path / "once/fold-0/float" / name).read_bytes()


@pytest.mark.row("F25")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("verb", ["doctor", "evaluate", "inspect", "nets"])
def test_terminals_of_other_encodings(verb, encoding, phantom_data, trained_run, tmp_path):
    arguments = {
        "doctor": [phantom_data],
        "evaluate": [trained_run, phantom_data, "--out", tmp_path / "scores"],
        "inspect": [trained_run],
        "nets": [],
    }
    done = run_cli(verb, *arguments[verb], env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert done.returncode == 0 and "Error" not in done.stderr, done.stderr
    assert len(done.stdout.splitlines()) > 3


@pytest.mark.row("F17")
def test_two_predictions_into_one_folder(exported, phantom_data, tmp_path):
    out = tmp_path / "masks"
    command = [sys.executable, "-m", "pocketseg.cli.main", "predict", str(exported), str(phantom_data / "images")]
    both = [subprocess.Popen([*command, "--out", str(out), "--probabilities"]) for _ in range(2)]
    assert [each.wait(120) for each in both] == [0, 0]
    done = run_cli("predict", exported, phantom_data / "images", "--out", tmp_path / "alone", "--probabilities")
    assert done.returncode == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "alone").iterdir())
    for path in (tmp_path / "alone").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.row("F07")
def test_stopped_and_continued(usual, phantom_data, tmp_path):
    """A machine that sleeps, a job that waits for its turn: nothing times out and nothing changes."""
    small = overrides("stages.0.epochs=2", "evaluate.metrics=[dice, hd95]")
    command = [sys.executable, "-m", "pocketseg.cli.main", "train", "demo", "--data", str(phantom_data)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "run"), "--device", "cpu", *small], stderr=subprocess.DEVNULL
    )
    for _ in range(3):
        time.sleep(1)
        process.send_signal(signal.SIGSTOP)
        time.sleep(1)
        process.send_signal(signal.SIGCONT)
    assert process.wait(120) == 0
    found = whole_way_files(tmp_path / "run")
    assert {name: usual["files"][f"run/{name}"] for name in found} == found


def whole_way_files(run: Path) -> dict[str, str]:
    import hashlib

    names = ("fold-0/float/best.safetensors", "fold-0/model.pseg", "fold-0/cases-test.csv", "split.json")
    return {name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in names}


@pytest.mark.row("P08")
def test_a_batch_larger_than_the_data(phantom_data, tmp_path):
    options = overrides("stages.0.batch=4096", "stages.0.epochs=1")
    done = run_cli("train", "demo", "--data", phantom_data, "--out", tmp_path / "run", "--device", "cpu", *options)
    assert done.returncode == 0, done.stderr


@pytest.mark.row("P14")
def test_color_and_gray_mean_the_same_to_a_gray_net(exported, phantom_data, tmp_path):
    source = sorted((phantom_data / "images").iterdir())[0]
    with Image.open(source) as image:
        image.convert("RGB").save(tmp_path / "color.png")
    done = run_cli("predict", exported, source, tmp_path / "color.png", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    masks = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").iterdir())]
    assert len(masks) == 2 and np.array_equal(*masks)
