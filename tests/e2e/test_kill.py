"""Killed at random moments and resumed, a training ends in the bytes of an undisturbed one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.commands import overrides, run_cli

# Epochs of a fraction of a second, so that kills fall into steps, validation and checkpoint writing alike.
LONG = ("stages.0.epochs=30", "data.size=[48, 48]", "augment.copies=3")


def command(data: Path, out: Path, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "pocketseg.cli.main", "train", "demo", "--data", str(data), "--out", str(out),
        "--device", "cpu", *overrides(*LONG, *more),
    ]  # fmt: skip


def has_checkpoint(out: Path) -> bool:
    return any(out.glob("fold-*/*/*last.safetensors"))


def train_with_kills(data: Path, out: Path, kills: int, seed: int, *more: str) -> int:
    """Start, kill after a random time, resume, … and let the last start finish; the number of kills that hit."""
    rng = random.Random(seed)
    hits = 0
    while True:
        resume = ["--resume"] if has_checkpoint(out) else []
        if not resume and out.exists():
            subprocess.run(["rm", "-rf", str(out)], check=True)
        process = subprocess.Popen(
            [*command(data, out, *more), *resume], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        with process:
            if hits < kills:
                wait_for_training(process, out)
                time.sleep(rng.uniform(0.0, 1.2))
                process.send_signal(signal.SIGKILL)
            output = process.communicate(timeout=300)[0].decode()
        if process.returncode == 0:
            return hits
        assert process.returncode == -signal.SIGKILL, output
        hits += 1


def wait_for_training(process: subprocess.Popen[bytes], out: Path) -> None:
    """Until the log says that training has begun or gone on, so that the kill does not hit imports only."""
    log = out / "log.txt"
    before = log.read_text().count("\n") if log.exists() else 0
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > before + 1):
        time.sleep(0.02)


def final_bytes(out: Path) -> dict[str, bytes]:
    stage = out / "fold-0/float"
    names = ("best.safetensors", "last.safetensors", "history.csv")
    return {name: (stage / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def undisturbed(phantom_data, tmp_path_factory):
    """Two undisturbed runs for each precision, which must agree before a kill can mean anything."""
    made: dict[str, Path] = {}

    def run(precision: str) -> Path:
        if precision not in made:
            folder = tmp_path_factory.mktemp(f"undisturbed-{precision}")
            for name in ("one", "two"):
                done = subprocess.run(
                    command(phantom_data, folder / name, f"stages.0.precision={precision}"),
                    capture_output=True,
                    text=True,
                )
                assert done.returncode == 0, done.stderr
            assert final_bytes(folder / "one") == final_bytes(folder / "two")
            made[precision] = folder / "one"
        return made[precision]

    return run


def check(undisturbed, data: Path, out: Path, precision: str, kills: int, seed: int) -> None:
    reference = undisturbed(precision)
    hits = train_with_kills(data, out, kills, seed, f"stages.0.precision={precision}")
    assert hits >= max(1, kills // 2), "the training was too short to be killed"
    same = {name: content == final_bytes(reference)[name] for name, content in final_bytes(out).items()}
    assert all(same.values()), f"seed {seed}, {hits} kills: {same}"
    print(f"{precision}: {hits} kills, all bytes equal")


@pytest.mark.row("F01")
@pytest.mark.slow("trains again and again; every file operation is killed in test_kill_points.py")
def test_few_kills(undisturbed, phantom_data, tmp_path):
    check(undisturbed, phantom_data, tmp_path / "run", "f32", kills=4, seed=1)


@pytest.mark.row("F01")
@pytest.mark.slow("more of the same")
@pytest.mark.parametrize(("precision", "seed"), [("f32", 2), ("f32", 3), ("bf16", 4), ("bf16", 5)])
def test_many_kills(undisturbed, phantom_data, tmp_path, precision, seed):
    check(undisturbed, phantom_data, tmp_path / "run", precision, kills=10, seed=seed)


TWO_STAGES = """
data: {size: [32, 32]}
split: {kind: holdout, test: 0.2, validation: 0.2}
augment: {flip: [horizontal], noise: 0.05}
stages:
  - {name: float, net: {arch: thin_unet, width: 8, blocks: 3}, epochs: 3, batch: 8, precision: f32}
  - {name: int8, net: {arch: thin_unet, width: 8, blocks: 3}, init: {stage: float}, quant: {scheme: w8a8},
     epochs: 12, batch: 8, precision: f32}
postprocess: {threshold: auto}
"""


@pytest.mark.slow("trainings in processes; few kills are tried above")
@pytest.mark.row("F01")
def test_killed_in_the_second_stage(phantom_data, tmp_path):
    """The stage that was under way goes on, the one before is left as it was, and all ends in the same bytes."""
    recipe = tmp_path / "two.yaml"
    recipe.write_text(TWO_STAGES)

    def start(out: Path, *more: str) -> subprocess.Popen[bytes]:
        arguments = ["train", str(recipe), "--data", str(phantom_data), "--out", str(out), "--device", "cpu", *more]
        return subprocess.Popen([sys.executable, "-m", "pocketseg.cli.main", *arguments])

    def content(out: Path) -> dict[str, bytes]:
        wanted = ("best.safetensors", "last.safetensors", "packed.safetensors", "history.csv", "summary.json")
        return {
            str(path.relative_to(out)): path.read_bytes() for name in wanted for path in out.glob(f"fold-0/**/{name}")
        }

    with start(tmp_path / "whole") as whole:
        assert whole.wait(120) == 0
    out, history = tmp_path / "killed", tmp_path / "killed/fold-0/int8/history.csv"
    first, second = (out / "fold-0" / stage / "last.safetensors" for stage in ("float", "int8"))
    with start(out) as killed:
        while not (history.exists() and history.read_text().count("\n") > 3):
            assert killed.poll() is None, "the training was too short to be killed"
            time.sleep(0.005)
        killed.kill()
    assert first.exists() and (second.exists() or second.with_name("previous.last.safetensors").exists())
    log_before = (out / "log.txt").read_text()
    with start(out, "--resume") as resumed:
        assert resumed.wait(120) == 0
    log = (out / "log.txt").read_text().removeprefix(log_before)
    assert "stage float, epoch" not in log and "stage int8, epoch 2/12" not in log and "epoch 12/12" in log
    assert len(content(out)) == 9 and content(out) == content(tmp_path / "whole")


@pytest.mark.row("F05")
@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_signals_save_and_leave(phantom_data, tmp_path, signal_number, code):
    out = tmp_path / "run"
    with subprocess.Popen(command(phantom_data, out), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for_training(process, out)
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal_number)
        output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == code, output
    assert time.monotonic() - began < 10
    assert "the state is saved" in output
    assert "Traceback" not in output
    assert has_checkpoint(out)


@pytest.mark.slow("trainings in processes; other signals are sent above")
@pytest.mark.row("F05")
def test_ctrl_c_twice_ends_at_once_and_what_is_ignored_stays_so(phantom_data, tmp_path):
    """Under nohup a lost terminal is not a reason to stop."""
    out = tmp_path / "run"
    with subprocess.Popen(
        command(phantom_data, out, "stages.0.epochs=3000"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    ) as process:  # fmt: skip
        wait_for_training(process, out)
        process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        assert process.poll() is None
        for _ in range(5):
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)
        output = process.communicate(timeout=60)[0].decode()
    assert process.returncode == 130 and "Traceback" not in output


@pytest.mark.row("F07")
@pytest.mark.slow("sleeps for a minute")
def test_a_training_that_was_stopped_for_a_while_goes_on(undisturbed, phantom_data, tmp_path):
    out = tmp_path / "run"
    with subprocess.Popen(command(phantom_data, out, "stages.0.precision=f32"), stderr=subprocess.DEVNULL) as process:
        wait_for_training(process, out)
        process.send_signal(signal.SIGSTOP)
        time.sleep(60)
        process.send_signal(signal.SIGCONT)
        assert process.wait(120) == 0
    assert final_bytes(out) == final_bytes(undisturbed("f32"))


@pytest.mark.slow("three trainings in processes")
@pytest.mark.row("F16")
def test_second_training_is_refused_and_names_the_holder(phantom_data, tmp_path):
    out = tmp_path / "run"
    with subprocess.Popen(command(phantom_data, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not has_checkpoint(out):
            time.sleep(0.05)
            assert process.poll() is None
        second = run_cli(*command(phantom_data, out)[3:], "--resume")
        process.kill()
    assert second.returncode == 2
    assert f"process {process.pid}" in second.stderr
    third = run_cli(*command(phantom_data, out, "seed=9")[3:], "--resume")
    assert third.returncode == 2  # the lock of the killed process is gone; the recipe differs
    assert "differs from the recipe" in third.stderr


@pytest.mark.row("F11", "F12")
@pytest.mark.slow("trains twice; the reader of checkpoints is tested with torn ones")
def test_torn_checkpoint_is_reported_and_the_one_before_used(undisturbed, phantom_data, tmp_path):
    out = tmp_path / "run"
    with subprocess.Popen(
        command(phantom_data, out, "stages.0.precision=f32"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        while not any(out.glob("fold-*/*/previous.last.safetensors")):
            time.sleep(0.05)
            assert process.poll() is None
        process.kill()
        process.communicate()
    last = out / "fold-0/float/last.safetensors"
    if last.exists():
        content = bytearray(last.read_bytes())
        content[len(content) // 2] ^= 1
        last.write_bytes(bytes(content))
    else:
        last.write_bytes(b"torn")
    done = subprocess.run(
        [*command(phantom_data, out, "stages.0.precision=f32"), "--resume"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "trying the one before" in (out / "log.txt").read_text()
    assert final_bytes(out) == final_bytes(undisturbed("f32"))


@pytest.mark.row("F13")
def test_resume_without_checkpoint(phantom_data, tmp_path):
    done = run_cli(*command(phantom_data, tmp_path / "nothing")[3:], "--resume")
    assert done.returncode == 2
    assert "holds no run to resume" in done.stderr
    assert not (tmp_path / "nothing").exists()


@pytest.mark.slow("two trainings in processes; test_life.py has it in one")
@pytest.mark.row("F14")
def test_resume_with_other_data(phantom_data, tmp_path):
    data = tmp_path / "data"
    subprocess.run(["cp", "-r", str(phantom_data), str(data)], check=True)
    out = tmp_path / "run"
    short = ("stages.0.epochs=1",)
    assert run_cli(*command(data, out, *short)[3:]).returncode == 0
    image, other = sorted((data / "images").iterdir())[:2]
    image.write_bytes(other.read_bytes())
    done = run_cli(*command(data, out, *short)[3:], "--resume")
    assert done.returncode == 2
    assert "other data" in done.stderr


@pytest.mark.slow("four processes that import torch")
@pytest.mark.skipif(os.cpu_count() == 1, reason="needs two cores")
def test_two_processes_train_together(phantom_data, tmp_path):
    """Two gloo processes: one log, equal weights in both, and a result near that of a single process."""
    out = tmp_path / "run"
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run",
            "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2",
            "-m", "pocketseg.cli.main", *command(phantom_data, out, "stages.0.epochs=3", "stages.0.batch=7")[3:],
        ],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"processes": 2' in (out / "manifest.json").read_text()
    assert len((out / "fold-0/float/history.csv").read_text().splitlines()) == 4
    assert (out / "fold-0/summary.json").exists()
    assert done.stdout.count("report:") == 1
