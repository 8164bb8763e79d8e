"""Sweeps and folds: one after another, side by side, with failures, kills and signals, and on Ray."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import pocketseg
from helpers.commands import read_csv, read_json, run_cli
from pocketseg.errors import EnvironmentProblem, ModelFileError, RecipeError, RunError, TrainingError
from pocketseg.experiments import sweep as sweep_flow
from pocketseg.recipes import load_recipe, parse_yaml
from pocketseg.runs.folder import RunFolder

TINY = (
    "data.size=[32, 32]",
    "stages.0.net={arch: thin_unet, width: 4, blocks: 2}",
    "stages.0.epochs=2",
    "stages.0.precision=f32",
    "split.validation=0.2",
)
WIDTHS = "sweep.stages.0.net.width=[4, 8]"
SEEDS = "sweep.seed=[0, 1]"
FOLDS = ("split.kind=kfold", "split.folds=3")
# Long enough to be caught in the middle.
LONG = ("stages.0.epochs=40", "augment.copies=2")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def arguments(data: Path, out: Path, *values: str) -> list[str]:
    sets = [part for value in (*TINY, *values) for part in ("--set", value)]
    return ["train", "demo", "--data", str(data), "--out", str(out), "--device", "cpu", *sets]


def start(data: Path, out: Path, *values: str, more: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pocketseg.cli.main", *arguments(data, out, *values), *more],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **ONE_THREAD},
    )  # fmt: skip


def train(data: Path, out: Path, *values: str, **options):
    return pocketseg.train("demo", data, out, overrides=(*TINY, *values), device="cpu", report=False, **options)


def trained_bytes(run: Path) -> dict[str, bytes]:
    """What must not depend on how a run was trained."""
    names = ("best.safetensors", "last.safetensors", "history.csv", "summary.json", "cases-test.csv")
    return {str(path.relative_to(run)): path.read_bytes() for name in names for path in run.rglob(name)}


def holder(run: Path, fold: int = 0) -> int:
    """The process that trains a fold, once it has saved something; waits for it."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        lock = run / f".fold-{fold}.lock"
        if lock.exists() and any(run.glob(f"fold-{fold}/*/history.csv")):
            return int(re.findall(r"process (\d+)", lock.read_text())[0])
        time.sleep(0.02)
    raise AssertionError(f"nothing trains in {run}")


@pytest.fixture(scope="module")
def swept(phantom_data, tmp_path_factory):
    """Widths and seeds, two by two, in a process of its own with one thread."""
    out = tmp_path_factory.mktemp("sweep") / "grid"
    done = run_cli(*arguments(phantom_data, out, WIDTHS, SEEDS), env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    return out, done.stdout


# --- what a sweep leaves ------------------------------------------------------------------------------------------


def test_folder_of_a_sweep(swept):
    out, said = swept
    names = [f"width={width},seed={seed}" for width in (4, 8) for seed in (0, 1)]
    assert sorted(path.name for path in (out / "trials").iterdir()) == sorted(names)
    assert parse_yaml((out / "recipe.yaml").read_text(), "recipe")["sweep"]["seed"] == [0, 1]
    assert {"results.csv", "sweep.png", "log.txt"} <= {path.name for path in out.iterdir()}
    with Image.open(out / "sweep.png") as drawn:
        assert min(drawn.size) > 300
    assert "results.csv" in said and all(name in said for name in names)
    log = (out / "log.txt").read_text()
    assert all(f"{name} finished: Dice" in log for name in names) and "epoch 2/2" in log and "┃" in log


def test_rows_of_a_sweep(swept):
    out, _ = swept
    rows = read_csv(out / "results.csv")
    assert list(rows[0]) == [
        "name", "width", "seed", "fold-0", "test", "mean", "std", "with empty", "misses", "false alarms",
        "rules off", "misses off", "false alarms off",
        "parameters", "KiB", "MACs", "seconds", "status", "error",
        "iou", "precision", "recall", "hd95 [px]", "assd [px]",
    ]  # fmt: skip
    assert [(row["name"], row["width"], row["seed"]) for row in rows] == [
        (f"width={width},seed={seed}", str(width), str(seed)) for width in (4, 8) for seed in (0, 1)
    ]
    for row in rows:
        stage = out / "trials" / row["name"] / "fold-0"
        test = next(one for one in read_json(stage / "summary.json") if one["part"] == "test")
        totals = read_json(stage / "float/architecture.json")["totals"]
        assert row["fold-0"] == row["test"] == row["mean"] == f"{test['dice']:.4f}" and row["std"] == ""
        assert (int(row["misses"]), int(row["false alarms"])) == (test["misses"], test["false_alarms"])
        assert (int(row["parameters"]), int(row["MACs"])) == (totals["parameters"], totals["macs"])
        assert float(row["KiB"]) == pytest.approx((stage / "float/best.safetensors").stat().st_size / 1024, abs=0.06)
        assert float(row["seconds"]) > 0 and (row["status"], row["error"]) == ("finished", "")
    assert len({row["parameters"] for row in rows}) == 2
    assert not (out / "trials/results.csv").exists()


@pytest.mark.slow("a training more")
def test_a_trial_is_an_ordinary_run(swept, phantom_data, tmp_path):
    """Its recipe alone trains it again, to the byte; report and export take it."""
    trial = swept[0] / "trials/width=8,seed=1"
    assert load_recipe(trial / "recipe.yaml").seed == 1
    again = tmp_path / "again"
    done = run_cli("train", trial / "recipe.yaml", "--data", phantom_data, "--out", again, "--device", "cpu",
                   env=ONE_THREAD)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert trained_bytes(again) == trained_bytes(trial) and len(trained_bytes(trial)) == 5
    assert pocketseg.report(trial).exists()
    (row,) = read_csv(tmp_path / "results.csv")
    (of_sweep,) = (row for row in read_csv(swept[0] / "results.csv") if row["name"] == trial.name)
    shared = ("fold-0", "test", "mean", "misses", "parameters", "MACs", "KiB", "status")
    assert row["name"] == "again" and [row[key] for key in shared] == [of_sweep[key] for key in shared]


@pytest.mark.slow("a report of every trial")
def test_reports_of_a_sweep(swept, tmp_path):
    done = run_cli("report", swept[0])
    assert done.returncode == 0, done.stderr
    pages = [swept[0] / f"trials/width={width},seed={seed}/report.html" for width in (4, 8) for seed in (0, 1)]
    assert done.stdout.split("\n")[:-1] == [str(page) for page in pages] and all(page.exists() for page in pages)
    assert run_cli("report", swept[0], "--out", tmp_path / "page.html").returncode == 2
    with pytest.raises(RunError, match="is the folder of a sweep"):
        pocketseg.export(swept[0])


def test_side_by_side_gives_the_same_bytes(swept, phantom_data, tmp_path):
    out = tmp_path / "grid"
    done = run_cli(*arguments(phantom_data, out, WIDTHS, "sweep.seed=[1]"), "--jobs", "2", env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert "2 of 2 trainings to do, 2 at a time with 1 thread each" in done.stderr
    rows = {row["name"]: row for row in read_csv(swept[0] / "results.csv")}
    for row in read_csv(out / "results.csv"):
        assert trained_bytes(out / "trials" / row["name"]) == trained_bytes(swept[0] / "trials" / row["name"])
        assert row | {"seconds": ""} == rows[row["name"]] | {"seconds": ""}
    assert len(list((out / "trials").iterdir())) == 2


@pytest.mark.slow("a sweep more in processes; a whole one is looked at above")
def test_folds_side_by_side_give_the_same_bytes(phantom_data, tmp_path):
    for name, more in (("turns", ()), ("pairs", ("--jobs", "2"))):
        done = run_cli(*arguments(phantom_data, tmp_path / name, *FOLDS), *more, env=ONE_THREAD)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("│ test") + done.stdout.count(" test │") == 3
    assert trained_bytes(tmp_path / "pairs") == trained_bytes(tmp_path / "turns")
    assert len(trained_bytes(tmp_path / "pairs")) == 15
    manifest = read_json(tmp_path / "pairs/manifest.json")
    assert len(manifest["stages"]) == 3 and "resumed" not in manifest and manifest["wall_time_s"] > 0
    rows = {row["name"]: row for row in read_csv(tmp_path / "results.csv")}
    assert rows["turns"] | {"name": "", "seconds": ""} == rows["pairs"] | {"name": "", "seconds": ""}
    scores = [float(rows["pairs"][f"fold-{fold}"]) for fold in range(3)]
    assert float(rows["pairs"]["mean"]) == pytest.approx(statistics.fmean(scores), abs=1e-4)
    assert float(rows["pairs"]["std"]) == pytest.approx(statistics.stdev(scores), abs=1e-4)
    cases = [row for fold in range(3) for row in read_csv(tmp_path / f"pairs/fold-{fold}/cases-test.csv")]
    dice = [float(row["dice"]) for row in cases if row["outcome"] in ("scored", "miss")]
    assert len(cases) == 40 and float(rows["pairs"]["test"]) == pytest.approx(statistics.fmean(dice), abs=1e-4)


# --- failures and resuming ----------------------------------------------------------------------------------------


@pytest.mark.slow("a sweep more")
def test_a_failed_trial_does_not_stop_the_rest_and_is_tried_again(phantom_data, tmp_path, monkeypatch):
    begun: list[str] = []
    broken = ["seed=1"]
    real = sweep_flow.train_run

    def sometimes(recipe, data, out, **options):
        begun.append(out.name)
        if out.name in broken:
            raise ValueError("broken on purpose")
        return real(recipe, data, out, **options)

    monkeypatch.setattr(sweep_flow, "train_run", sometimes)
    out, asked = tmp_path / "sweep", "sweep.seed=[0, 1, 2]"
    result = train(phantom_data, out, asked)
    assert begun == ["seed=0", "seed=1", "seed=2"]
    assert [trial.error for trial in result.trials] == ["", "ValueError: broken on purpose", ""]
    assert [len(trial.summaries) for trial in result.trials] == [1, 0, 1]
    assert [(row["status"], row["error"]) for row in read_csv(out / "results.csv")] == [
        ("finished", ""), ("failed", "ValueError: broken on purpose"), ("finished", ""),
    ]  # fmt: skip
    broken.clear()
    result = train(phantom_data, out, asked, resume=True)
    assert begun[3:] == ["seed=1"], "finished trials are left alone"
    assert [row["status"] for row in read_csv(out / "results.csv")] == ["finished"] * 3
    assert [trial.values for trial in result.trials] == [{"seed": seed} for seed in range(3)]
    begun.clear()
    output_padding = train(phantom_data, out, "sweep.seed=[0, 1, 2, 3]", resume=True)
    assert begun == ["seed=3"] and len(output_padding.trials) == 4


@pytest.mark.slow("a sweep more in processes; a whole one is looked at above")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_command_line_tells_which_trials_failed(phantom_data, tmp_path, jobs):
    """A loss that overflows fails the trial in which it does."""
    out = tmp_path / "sweep"
    overflow = "sweep.stages.0.loss.bce=[1.0e+39, 1]"
    done = run_cli(*arguments(phantom_data, out, overflow), "--jobs", jobs, env=ONE_THREAD)
    assert done.returncode == TrainingError.exit_code, done.stderr
    assert "Traceback" not in done.stderr and "bce=1e+39: " in done.stderr.splitlines()[-1]
    rows = read_csv(out / "results.csv")
    assert [row["status"] for row in rows] == ["failed", "finished"] and "not finite" in rows[0]["error"]


@pytest.mark.slow("a sweep more in processes; a whole one is looked at above")
def test_a_fold_that_failed_is_reported_and_the_others_are_kept(phantom_data, tmp_path):
    run = tmp_path / "run"
    with RunFolder(run).held(1):
        done = run_cli(*arguments(phantom_data, run, *FOLDS), "--jobs", "3", env=ONE_THREAD)
    assert done.returncode == TrainingError.exit_code, done.stderr
    last = done.stderr.splitlines()[-1]
    assert "fold 1: " in last and f"is in use by process {os.getpid()}" in last
    assert sorted(path.parent.name for path in run.glob("fold-*/summary.json")) == ["fold-0", "fold-2"]


@pytest.fixture(scope="module")
def whole(phantom_data, tmp_path_factory):
    """Two seeds that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "sweep"
    done = run_cli(*arguments(phantom_data, out, SEEDS, *LONG), env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow("a sweep more in processes; a whole one is looked at above")
@pytest.mark.row("F05", "F06")
def test_interrupted_and_resumed(whole, phantom_data, tmp_path):
    """Ctrl-C stops all, with the state saved; what was under way goes on to the same bytes."""
    out = tmp_path / "sweep"
    with start(phantom_data, out, SEEDS, *LONG, more=("--jobs", "2")) as process:
        children = [holder(out / f"trials/seed={seed}") for seed in (0, 1)]
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    assert "2 of 2 trainings not finished; their state is saved" in said and "--resume" in said
    assert "Traceback" not in said
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    assert [row["status"] for row in read_csv(out / "results.csv")] == ["unfinished"] * 2
    done = run_cli(*arguments(phantom_data, out, SEEDS, *LONG), "--jobs", "2", "--resume", env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        trial = Path(f"trials/seed={seed}")
        assert "resumed from" in (out / trial / "log.txt").read_text()
        assert trained_bytes(out / trial) == trained_bytes(whole / trial)


@pytest.mark.slow("a sweep more in processes; a whole one is looked at above")
@pytest.mark.row("F06")
def test_children_stop_when_the_parent_is_killed(phantom_data, tmp_path):
    out = tmp_path / "sweep"
    with start(phantom_data, out, SEEDS, *LONG, more=("--jobs", "2")) as process:
        children = [holder(out / f"trials/seed={seed}") for seed in (0, 1)]
        process.kill()
        process.communicate(timeout=60)
    until = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < until, "a child trains on"
        time.sleep(0.05)
    assert all((out / f"trials/seed={seed}/fold-0/float/last.safetensors").exists() for seed in (0, 1))
    assert not any(out.glob("trials/*/fold-0/summary.json"))


@pytest.mark.row("F18")
@pytest.mark.slow("a whole sweep, twice")
def test_a_killed_child_is_started_again(whole, phantom_data, tmp_path):
    out = tmp_path / "sweep"
    with start(phantom_data, out, SEEDS, *LONG, more=("--jobs", "2")) as process:
        os.kill(holder(out / "trials/seed=1"), signal.SIGKILL)
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert "resumed from" in (out / "trials/seed=1/log.txt").read_text()
    for seed in (0, 1):
        assert trained_bytes(out / f"trials/seed={seed}") == trained_bytes(whole / f"trials/seed={seed}")


# --- what is refused ----------------------------------------------------------------------------------------------


def test_all_recipes_are_checked_before_the_first_is_trained(phantom_data, tmp_path):
    with pytest.raises(RecipeError, match="width=-3"):
        train(phantom_data, tmp_path / "out", "sweep.stages.0.net.width=[4, -3]")
    with pytest.raises(ModelFileError, match=r"none\.pth"):
        train(phantom_data, tmp_path / "out", "sweep.stages.0.init=[null, {weights: none.pth}]")
    assert not (tmp_path / "out").exists()


def test_folders_that_hold_something_else(swept, trained_run, phantom_data, tmp_path):
    out, _ = swept
    with pytest.raises(RunError, match="not empty"):
        train(phantom_data, out, SEEDS)
    with pytest.raises(RunError, match="holds no sweep"):
        train(phantom_data, trained_run, SEEDS, resume=True)
    with pytest.raises(RunError, match="holds a sweep"):
        train(phantom_data, out, *FOLDS, resume=True, jobs=2)
    with pytest.raises(RunError, match="differs from the recipe"):
        train(phantom_data, out, WIDTHS, SEEDS, "stages.0.epochs=1", resume=True)
    with pytest.raises(RunError, match="holds no sweep"):
        train(phantom_data, tmp_path / "none", SEEDS, resume=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"jobs": 0}, "is not a valid number of jobs"),
        ({"cluster": "here"}, "use local or ray://"),
        ({"logs": ["tb"]}, "tensorboard"),
    ],
)
def test_options_that_make_no_sense(phantom_data, tmp_path, options, words):
    with pytest.raises(EnvironmentProblem, match=words):
        train(phantom_data, tmp_path / "out", SEEDS, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow("a sweep more in processes; a whole one is looked at above")
def test_two_sweeps_in_one_folder(phantom_data, tmp_path):
    with RunFolder(tmp_path / "sweep").led(), pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        train(phantom_data, tmp_path / "sweep", SEEDS)
    assert not (tmp_path / "sweep/trials").exists()


# --- Ray ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow("a cluster on this machine")
def test_on_ray_a_killed_worker_loses_nothing(whole, phantom_data, tmp_path):
    out = tmp_path / "sweep"
    with start(phantom_data, out, SEEDS, *LONG, more=("--cluster", "local", "--jobs", "2")) as process:
        os.kill(holder(out / "trials/seed=1"), signal.SIGKILL)
        said = process.communicate(timeout=280)[0]
    assert process.returncode == 0, said
    assert "resumed from" in (out / "trials/seed=1/log.txt").read_text()
    assert [row["status"] for row in read_csv(out / "results.csv")] == ["finished"] * 2
    for seed in (0, 1):
        assert trained_bytes(out / f"trials/seed={seed}") == trained_bytes(whole / f"trials/seed={seed}")


@pytest.mark.slow("a cluster on this machine")
def test_on_ray_a_signal_stops_and_resume_finishes(phantom_data, tmp_path):
    out = tmp_path / "sweep"
    with start(phantom_data, out, SEEDS, *LONG, more=("--cluster", "local")) as process:
        holder(out / "trials/seed=1")
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=120)[0]
    assert process.returncode == 130 and "their state is saved" in said, said
    done = run_cli(*arguments(phantom_data, out, SEEDS, *LONG), "--jobs", "2", "--resume", env=ONE_THREAD)
    assert done.returncode == 0, done.stderr
    assert "resumed from" in (out / "trials/seed=1/log.txt").read_text()


@pytest.mark.slow("waits until Ray gives up")
def test_no_cluster_is_reported(phantom_data, tmp_path):
    done = run_cli(*arguments(phantom_data, tmp_path / "out", SEEDS), "--cluster", "ray://127.0.0.1:9")
    assert done.returncode == EnvironmentProblem.exit_code and "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
