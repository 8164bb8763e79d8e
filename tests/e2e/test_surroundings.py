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
from PIL import Image
from places import here

import pocketseg
from helpers.commands import overrides, run_cli

HERE = Path(__file__).parent
WITHOUT_A_NETWORK = ["unshare", "--net", "--map-root-user"]


def whole_way(data: Path, out: Path, *before: str, cwd: Path | None = None, **environment: str) -> dict:
    done = subprocess.run(
        [*before, sys.executable, str(HERE / "whole_way.py"), str(data), str(out)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1", **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return pocketseg.phantom(tmp_path_factory.mktemp("phantom") / "data", cases=16, size=40, seed=3)


@pytest.fixture(scope="module")
def usual(data, tmp_path_factory) -> dict:
    found = whole_way(data, tmp_path_factory.mktemp("usual"), PYTHONHASHSEED="0")
    assert len(found["files"]) > 60
    return found


def same(found: dict, usual: dict) -> bool:
    differ = {
        name for name in {*found["files"], *usual["files"]} if found["files"].get(name) != usual["files"].get(name)
    }
    assert not differ
    return True


@pytest.mark.row("F26", "F27")
@pytest.mark.slow("the whole way once more")
def test_without_a_network_nobody_asks_for_one(usual, data, tmp_path):
    assert usual["asked"] == [] and usual["written"] == []
    before = WITHOUT_A_NETWORK if subprocess.run([*WITHOUT_A_NETWORK, "true"]).returncode == 0 else []
    found = whole_way(data, tmp_path / "out", *before, cwd=tmp_path, PYTHONHASHSEED="random")
    assert found["asked"] == [] and same(found, usual)


@pytest.mark.row("F25")
@pytest.mark.slow("the whole way once more")
def test_in_turkish_far_from_greenwich(usual, data, tmp_path, tool):
    """A decimal comma, an i that has no capital I, and a time zone of quarter hours."""
    subprocess.run([tool("localedef"), "-i", "tr_TR", "-f", "UTF-8", str(tmp_path / "tr_TR.UTF-8")], check=True)
    found = whole_way(
        data, tmp_path / "out", LOCPATH=str(tmp_path), LC_ALL="tr_TR.UTF-8", TRY_LOCALE="1", TZ="Asia/Kathmandu"
    )
    assert same(found, usual)


@pytest.mark.row("F15", "F25")
@pytest.mark.parametrize(
    "seconds",
    [86_400.0, pytest.param(2_285_280_000.0, marks=pytest.mark.slow("the whole way once more"))],
    ids=["1970", "2042"],
)
def test_in_plain_ascii_with_a_clock_that_jumps(usual, data, tmp_path, seconds):
    environment = {"LC_ALL": "C", "TZ": "UTC", "TRY_CLOCK": str(seconds)}
    assert same(whole_way(data, tmp_path / "out", **environment), usual)


@pytest.mark.row("F25")
@pytest.mark.parametrize(
    ("verb", "encoding"),
    [("doctor", "ascii"), ("doctor", "latin-1"), ("evaluate", "ascii"), ("inspect", "latin-1"), ("inspect", "ascii")],
)
def test_terminals_of_other_encodings(verb, encoding, phantom_data, trained_run, tmp_path):
    """What the encoding cannot say is said otherwise; nothing else changes."""
    arguments = {
        "doctor": [phantom_data],
        "evaluate": [trained_run, phantom_data, "--out", tmp_path / "scores"],
        "inspect": ["thin_unet"],
    }
    command = [sys.executable, "-m", "pocketseg.cli.main", verb, *map(str, arguments[verb])]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, encoding=encoding, env=environment)
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
    for path in (tmp_path / "alone").glob("*.png"):
        assert (out / path.name).read_bytes() == path.read_bytes()


@pytest.mark.slow("the whole way once more")
@pytest.mark.row("F07")
def test_stopped_and_continued(usual, data, tmp_path):
    """A machine that sleeps, a job that waits for its turn: nothing times out and nothing changes."""
    command = [sys.executable, str(HERE / "whole_way.py"), str(data), str(tmp_path / "out")]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for _ in range(5):
            time.sleep(1)
            process.send_signal(signal.SIGSTOP)
            time.sleep(1)
            process.send_signal(signal.SIGCONT)
        said = process.communicate(timeout=300)[0]
    assert process.returncode == 0 and same(json.loads(said.splitlines()[-1]), usual)


@pytest.mark.row("P08")
def test_a_batch_larger_than_the_data(data, tmp_path):
    options = overrides("stages.0.batch=4096", "stages.0.epochs=1", "evaluate.metrics=[dice]")
    code, said = here("train", "demo", "--data", data, "--out", tmp_path / "run", "--device", "cpu", *options)
    assert code == 0 and (tmp_path / "run/fold-0/model.pseg").exists(), said


@pytest.mark.row("P14")
def test_color_and_gray_mean_the_same_to_a_gray_net(exported, phantom_data, tmp_path):
    source = sorted((phantom_data / "images").iterdir())[0]
    with Image.open(source) as image:
        image.convert("RGB").save(tmp_path / "color.png")
    done = run_cli("predict", exported, source, tmp_path / "color.png", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    masks = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "out").glob("*.png"))]
    assert len(masks) == 2 and np.array_equal(*masks)
