"""A run's life beside its kills: odd names, folders that cannot be written to, other versions, data that changes."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pocketseg
from helpers.commands import SMALL, overrides, read_csv, read_json, run_cli
from pocketseg import files
from pocketseg.cli.verbs import app
from pocketseg.data import Cases, Split
from pocketseg.errors import EnvironmentProblem, RunError
from pocketseg.evaluation import read_scores, read_summaries
from pocketseg.experiments import run as training
from pocketseg.experiments.stopping import SIGNALS
from pocketseg.flows.report import measurements
from pocketseg.runs import results
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.history import read_history
from pocketseg.runs.results import can_list, list_run
from pocketseg.runs.tables import add_result, read_rows

TINY = (*SMALL, "data.size=[16, 16]", "stages.0.net.width=4", "stages.0.net.blocks=2", "stages.0.epochs=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return pocketseg.phantom(tmp_path_factory.mktemp("life") / "data", cases=14, size=32, seed=3)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    return train(data, tmp_path_factory.mktemp("life") / "run")


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A finished run that a test may spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def train(data: Path, out: Path, **options) -> Path:
    return pocketseg.train("demo", data, out, overrides=TINY, device="cpu", report=False, **options).run


# --- names that are not UTF-8 ------------------------------------------------------------------------------------


@pytest.mark.row("A21")
@pytest.mark.slow("every command once more")
def test_names_that_are_no_text_go_through_everything(data, tmp_path, monkeypatch):
    odd = tmp_path / "odd"
    for kind in ("images", "masks"):
        (odd / kind).mkdir(parents=True)
        for number, path in enumerate(sorted((data / kind).iterdir())):
            name = (b"caf\xe9", b"bad\xff", b"\xe6\x97\xa5")[number % 3] + f"-{number}.png".encode()
            shutil.copyfile(path, odd / kind / os.fsdecode(name))
    names = {case.name for case in Cases.open(odd)}
    assert any("\udcff" in name for name in names)
    out = tmp_path / "run"
    options = [
        *("--out", str(out), "--device", "cpu", "--set", "data.group_csv=null", "--set", "data.group_column=null"),
        *overrides(*TINY[len(SMALL) :], "evaluate.parts=[train, validation, test]"),
    ]
    here = str(odd)
    verb("train", "demo", "--data", here, *options)
    split = Split.read(out / "split.json", Cases.open(odd))
    found = {row.case for file in out.glob("fold-0/cases-*.csv") for row in read_scores(file)}
    assert found == names == set(split.groups)
    verb("train", "demo", "--data", here, *options, "--resume")
    part = ("--split", str(out / "split.json"))
    verb("evaluate", str(out), here, *part, "--out", str(tmp_path / "one"))
    verb("evaluate", str(out), here, *part, "--out", str(tmp_path / "two"), "--against", str(tmp_path / "one"))
    # What a report times for seconds is not looked at here.
    monkeypatch.setattr(measurements, "TURN_S", 0.001)
    for form in ("html", "json", "csv"):
        verb("report", str(out), "--format", form)
    verb("data", "convert", "auto", here, str(tmp_path / "converted"))
    verb("predict", str(out), f"{here}/images", "--out", str(tmp_path / "masks"), "--overlay")
    assert {row.case for row in read_scores(tmp_path / "one/cases.csv")} == set(split.folds[0].test)
    assert {case.name for case in Cases.open(tmp_path / "converted")} == names
    for file in tmp_path.rglob("*.json"):
        json.loads(file.read_bytes().decode("utf-8"))


def verb(*arguments: str) -> None:
    """The command line in this process."""
    app(list(arguments), standalone_mode=False)


# --- folders that cannot be written to --------------------------------------------------------------------------


def refuse(monkeypatch, where: str, number: int) -> None:
    """No file whose path has `where` in it can be opened for writing."""
    real = os.open

    def opened(path, flags, *more, **options):
        if where in str(path) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, flags, *more, **options)

    monkeypatch.setattr(files.os, "open", opened)


@pytest.mark.row("F10", "P16")
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_run_whose_parent_is_closed_is_trained_and_said_to_be_unlisted(data, tmp_path, monkeypatch, caplog, number):
    refuse(monkeypatch, ".results.csv.lock", number)
    with caplog.at_level(logging.WARNING):
        out = train(data, tmp_path / "mounted/out")
    assert (out / "fold-0/model.pseg").exists() and not (tmp_path / "mounted/results.csv").exists()
    warned = [record.message for record in caplog.records if "will not be listed" in record.message]
    assert len(warned) == 1 and "results.csv" in warned[0]
    told = (out / "log.txt").read_text()
    assert told.index("will not be listed") < told.index("epoch 1/2")


@pytest.mark.row("P16")
@pytest.mark.parametrize("package", ["matplotlib", "jinja2"])
def test_a_package_of_the_report_is_missed_before_training(data, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        EnvironmentProblem, match=rf"{package}: cannot be imported .* pip install 'pocketseg\[report\]'"
    ):
        train(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "fits"),
    [
        (b"name,recipe\nalt,gr\xfcn\n", True),  # as a spreadsheet saves it in Latin-1
        (b"\xef\xbb\xbfname,recipe\nalt,demo\n", True),
        (b"name;recipe\nalt;demo\n", False),
        (b"patient,age\n1,2\n", False),
        (b"name,recipe\nalt,demo,more\n", False),
        (b"\x00\xff\xfe", False),
    ],
)
def test_a_table_of_somebody_else_is_left_alone(run, caplog, content, fits):
    table = run.parent / "results.csv"
    table.write_bytes(content)
    assert can_list(RunFolder(run)) == fits
    if fits:
        list_run(RunFolder(run))
        assert [row["name"] for row in read_rows(table)] == ["alt", "run"]
        assert content.splitlines()[1].split(b",")[1] in table.read_bytes()
    else:
        assert table.read_bytes() == content and "is not a table of runs" in caplog.text


@pytest.mark.row("F17")
def test_runs_that_end_together_are_all_listed(tmp_path):
    script = (
        "import sys; from pathlib import Path; from pocketseg.runs.tables import add_result\n"
        "for i in range(25):\n"
        "    add_result(Path(sys.argv[1]) / 'results.csv', {'name': f'{sys.argv[2]}-{i}', 'x': i})\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(number)]) for number in range(3)]
    assert [racer.wait(60) for racer in racers] == [0, 0, 0]
    assert len({row["name"] for row in read_csv(tmp_path / "results.csv")}) == 75


def test_a_name_that_is_a_formula_is_none_in_the_table(tmp_path):
    add_result(tmp_path / "results.csv", {"name": "=1+1", "dice": -0.5})
    add_result(tmp_path / "results.csv", {"name": "b", "dice": 0.5})
    assert (tmp_path / "results.csv").read_text() == "name,dice\n'=1+1,-0.5\nb,0.5\n"
    assert [row["name"] for row in read_rows(tmp_path / "results.csv")] == ["=1+1", "b"]


# --- what changes between two starts ----------------------------------------------------------------------------


@pytest.mark.row("F14")
@pytest.mark.parametrize("what", ["pocketseg", "torch", "numpy"])
def test_other_versions_are_reported_and_taken_when_allowed(data, run, what):
    manifest = read_json(run / "manifest.json")
    place = manifest if what == "pocketseg" else manifest["libraries"]
    now, place[what] = place[what], "0.0.1"
    (run / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=rf"{what} 0\.0\.1 → {re.escape(now)} → .*--allow-changed"):
        train(data, run, resume=True)
    train(data, run, resume=True, allow_changed=True)
    assert f"{what} 0.0.1 → {now}" in read_json(run / "manifest.json")["resumed"][-1]


@pytest.mark.row("F14")
def test_other_data_is_reported_and_taken_when_allowed(data, run, tmp_path):
    other = Path(shutil.copytree(data, tmp_path / "other"))
    image, another = sorted((other / "images").iterdir())[:2]
    image.write_bytes(another.read_bytes())
    before = read_json(run / "manifest.json")["data"]["sha256"]
    done = run_cli("train", "demo", "--data", other, "--out", run, "--device", "cpu", "--resume", *overrides(*TINY))
    assert done.returncode == 2 and re.search(r'other data \(path "[^"]+" → "[^"]+", sha256 "', done.stderr)
    train(other, run, resume=True, allow_changed=True)
    manifest = read_json(run / "manifest.json")
    assert "other data" in manifest["resumed"][-1] and manifest["data"]["sha256"] == before


@pytest.mark.row("F14")
def test_another_split_or_recipe_is_refused_always(data, run, tmp_path):
    content = read_json(run / "split.json")
    fold = content["folds"][0]
    fold["train"], fold["test"] = fold["test"], fold["train"]
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="differs from the split that"):
        train(data, run, resume=True, allow_changed=True, split=tmp_path / "other.json")
    train(data, run, resume=True, split=run / "split.json")
    with pytest.raises(RunError, match=r"differs from the recipe given now \(seed 0 → 5\)"):
        pocketseg.train(
            "demo", data, run, overrides=[*TINY, "seed=5"], device="cpu", resume=True, allow_changed=True, report=False
        )


def longer(data: Path, run: Path, epochs: int, *more: str, **options):
    values = [*TINY[:-1], f"stages.0.epochs={epochs}", *more]
    return pocketseg.train("demo", data, run, overrides=values, device="cpu", resume=True, report=False, **options)


@pytest.mark.parametrize("jobs", [None, 2])
def test_a_finished_run_goes_on_for_more_epochs(data, finished, tmp_path, jobs):
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    before = read_history(run / "fold-0" / "float" / "history.csv")
    found = longer(data, run, 3, jobs=jobs)
    after = read_history(run / "fold-0" / "float" / "history.csv")
    assert after[:2] == before and [row["epoch"] for row in after] == [1, 2, 3]
    assert RunFolder(run).recipe().stages[0].epochs == 3 and RunFolder(run).evaluated() == [0]
    manifest = read_json(run / "manifest.json")
    assert any("stages.float.epochs 2 → 3" in each for each in manifest["resumed"]) and "finished" in manifest
    assert manifest["recipe_sha256"] == files.sha256_of(run / "recipe.yaml")
    assert {fold: [one.dice for one in each] for fold, each in found.summaries.items()} == {
        0: [one.dice for one in read_summaries(run / "fold-0" / "summary.json")]
    }
    # Once more is nothing more, and it does not become shorter.
    again = longer(data, run, 3)
    assert again.summaries == found.summaries
    with pytest.raises(RunError, match=r"stages\.float\.epochs 3 → 2\).*of which only epochs may grow"):
        train(data, run, resume=True)
    with pytest.raises(RunError, match=r"\(stages\.float\.epochs 3 → 4, seed 0 → 5\)"):
        longer(data, run, 4, "seed=5")


def test_a_run_that_is_to_go_on_is_not_finished(data, run, monkeypatch):
    """Stopped before the first of the new epochs is done, nothing says that the run is at its end."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pocketseg.training.loop.StageTraining.run", stop)
        with pytest.raises(KeyboardInterrupt):
            longer(data, run, 3)
    assert RunFolder(run).evaluated() == [] and "finished" not in read_json(run / "manifest.json")
    longer(data, run, 3, jobs=2)
    assert RunFolder(run).evaluated() == [0] and len(read_history(run / "fold-0" / "float" / "history.csv")) == 3


def test_a_stage_that_another_was_trained_from_stays(data, tmp_path):
    second = "{name: second, net: {arch: thin_unet, width: 4, blocks: 2}, init: {stage: float}, epochs: 1}"
    first = "{name: float, net: {arch: thin_unet, width: 4, blocks: 2}, epochs: 1}"
    values = ["data.size=[16, 16]", f"stages=[{first}, {second}]"]

    def both(*more: str, **options):
        return pocketseg.train(
            "demo", data, tmp_path, overrides=[*values, *more], device="cpu", report=False, **options
        )

    both()
    with pytest.raises(RunError, match=r"stage 'second' was trained from stage 'float' as it is") as error:
        both("stages.float.epochs=2", resume=True)
    assert f"stages.float.init={{run: {tmp_path}, stage: float}}" in str(error.value)
    both("stages.second.epochs=2", resume=True)
    assert len(read_history(tmp_path / "fold-0" / "second" / "history.csv")) == 2


class Meddler:
    """A listener that changes the data while it is trained on."""

    def __init__(self, change) -> None:
        self.change = change

    def stage_begins(self, *_) -> None:
        self.change()

    def step_ends(self, *_) -> None: ...
    def epoch_ends(self, *_) -> None: ...


def test_data_that_changes_while_it_is_trained_on_is_noticed(data, tmp_path, caplog):
    mine = Path(shutil.copytree(data, tmp_path / "mine"))
    image = sorted((mine / "images").iterdir())[0]
    pixels = np.asarray(Image.open(image)).copy()
    pixels[0, 0] ^= 1
    out = train(mine, tmp_path / "out", listener=Meddler(lambda: Image.fromarray(pixels).save(image)))
    assert f"the data changed while it was trained on: {image}" in caplog.text
    found = read_json(out / "manifest.json")["data"]
    assert found["changed_while_training"] == {"files": 1, "sha256": Cases.open(mine).digest()} and found["sha256"]


def test_data_that_is_only_touched_is_the_same(data, tmp_path, caplog):
    mine = Path(shutil.copytree(data, tmp_path / "mine"))
    image = sorted((mine / "images").iterdir())[0]
    out = train(mine, tmp_path / "out", listener=Meddler(image.touch))
    assert (
        "changed while" not in caplog.text and "changed_while_training" not in read_json(out / "manifest.json")["data"]
    )


@pytest.mark.row("F15")
def test_a_clock_that_jumps_changes_nothing(data, finished, tmp_path, monkeypatch):
    """Days forth and back, 1970, and behind 2038."""
    jumps = itertools.cycle([0.0, 86400.0, -86400.0, -time.time(), 3e9 - time.time()])
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(jumps))
    out = train(data, tmp_path / "out")
    for name in ("best.safetensors", "last.safetensors", "history.csv"):
        assert (out / "fold-0/float" / name).read_bytes() == (finished / "fold-0/float" / name).read_bytes()


def test_durations_are_taken_from_a_clock_that_does_not_jump():
    """What times, waits or saves now and then asks `time.monotonic` or `time.perf_counter`."""
    source = Path(pocketseg.__file__).parent
    assert not [path.name for path in source.rglob("*.py") if re.search(r"\btime\.time\(|st_mtime\b", path.read_text())]


# --- files of a run that are damaged ----------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "3", '{"data": {}}', "[" * 100000])
def test_a_damaged_manifest_is_reported(data, run, content):
    (run / "manifest.json").write_text(content)
    with pytest.raises(RunError, match=r"manifest\.json: (cannot be read|does not say)"):
        RunFolder(run).manifest()
    with pytest.raises(RunError, match=r"manifest\.json"):
        train(data, run, resume=True)


@pytest.mark.parametrize("content", ["", "[{", '[{"part": 1}]', "3", "[3]"])
def test_a_damaged_summary_is_reported_and_evaluated_again(data, run, content):
    file = run / "fold-0/summary.json"
    before = file.read_bytes()
    file.write_text(content)
    with pytest.raises(RunError, match=r"summary\.json: is damaged"):
        results.stage_summaries(RunFolder(run))
    train(data, run, resume=True)
    assert file.read_bytes() == before


def test_a_folder_beside_the_folds_is_none(run):
    shutil.copytree(run / "fold-0", run / "fold-0.bak")
    (run / "fold-x").mkdir()
    assert RunFolder(run).folds() == [0]


def test_timings_that_a_kill_cut_off_are_corrected(data, run):
    file = run / "fold-0/float/timings.csv"
    whole = file.read_text()
    file.write_text(whole[:-9])
    assert len(read_history(file)) == 1
    file.write_text(whole.replace("1,", "one,"))
    with pytest.raises(RunError, match=r"timings\.csv: is damaged"):
        read_history(file)


def test_a_full_disk_under_the_log_is_one_line_and_code_3(data, tmp_path, monkeypatch, capsys):
    real = os.write
    lines = []

    def write(handle, content):
        lines.append(handle)
        if len(lines) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, content)

    monkeypatch.setattr(training.RunFolder.logged.__globals__["os"], "write", write)
    with pytest.raises(EnvironmentProblem, match=r"log\.txt: cannot be written \(No space left"):
        train(data, tmp_path / "out")
    assert "Logging error" not in capsys.readouterr().err


def test_what_slurm_and_a_lost_terminal_send_is_heard():
    assert SIGNALS == ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK")


@pytest.mark.parametrize("verb", [["phantom", "--cases", "2"], ["demo", "--out"]])
def test_a_place_that_no_folder_can_be_made_in(tmp_path, verb):
    (tmp_path / "file").write_text("")
    done = run_cli(*verb, tmp_path / "file/out")
    assert done.returncode == 3 and "file" in done.stderr and "cannot be written" in done.stderr


def test_output_that_nobody_can_take():
    done = run_cli_to("/dev/full", "nets")
    assert done.returncode == 3 and "standard output: cannot be used" in done.stderr and "Traceback" not in done.stderr


def run_cli_to(place: str, *arguments: str):
    with Path(place).open("w") as output:
        return subprocess.run(
            [sys.executable, "-m", "pocketseg.cli.main", *arguments], stdout=output, stderr=subprocess.PIPE, text=True
        )


# --- what the audit's second pass found --------------------------------------------------------------------------


@pytest.mark.row("F01")
def test_a_fold_that_is_evaluated_is_packed_too(data, tmp_path, monkeypatch):
    """Side by side, folds that are evaluated are not looked at again: what comes behind would never be made."""

    def killed(*_: object, **__: object) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr(training, "pack_model", killed)
        train(data, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.stage(0, "float").best.exists()
    assert run.evaluated() == []
    train(data, run.path, resume=True, jobs=2)
    assert run.evaluated() == [0]
    assert run.packed_file(0).exists()


@pytest.mark.row("F01")
@pytest.mark.parametrize("jobs", [None, 2])
def test_a_split_of_before_the_run_began_is_not_taken_over(data, tmp_path, monkeypatch, jobs):
    """A run that was killed before its manifest has not begun: its recipe may be another one now."""

    def killed(*_: object, **__: object) -> None:
        raise SystemExit(137)

    with monkeypatch.context() as patched, pytest.raises(SystemExit):
        patched.setattr("pocketseg.experiments.manifest.determinism", killed)
        train(data, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.split_file.exists()
    assert not run.manifest_file.exists()
    other = (*TINY, "split.seed=5")
    options = {"overrides": other, "device": "cpu", "resume": True, "jobs": jobs}
    pocketseg.train("demo", data, run.path, report=False, **options)
    fresh = pocketseg.train("demo", data, tmp_path / "fresh", overrides=other, device="cpu", report=False).run
    assert run.split_file.read_bytes() == (fresh / "split.json").read_bytes()
    assert run.stage(0, "float").best.read_bytes() == RunFolder(fresh).stage(0, "float").best.read_bytes()


@pytest.mark.parametrize("table", ["name,age\nrun,7\n", "name,recipe,status,note,note\nrun,a,b,1,2\n"])
def test_a_table_of_something_else_is_left_alone(finished, tmp_path, table):
    run = RunFolder(Path(shutil.copytree(finished, tmp_path / "run")))
    (tmp_path / "results.csv").write_text(table)
    assert not can_list(run)
    assert (tmp_path / "results.csv").read_text() == table


@pytest.mark.row("A19")
def test_no_name_forges_a_line_of_the_log(tmp_path):
    with RunFolder(tmp_path).logged():
        logging.getLogger("pocketseg").info("data in %s", "\x1b[31mset\n2026-01-01 00:00:00,000 INFO all is well")
    first, second = (tmp_path / "log.txt").read_text().splitlines()
    assert first.endswith("INFO data in \\x1b[31mset")
    assert second == "  2026-01-01 00:00:00,000 INFO all is well"


@pytest.mark.row("F16")
def test_a_folder_that_another_filled_while_the_data_were_read(data, tmp_path, monkeypatch):
    check, first = Cases.check, []

    def slow(cases, progress=None):
        if not first:
            first.append(True)
            train(data, tmp_path / "run")
        return check(cases, progress)

    monkeypatch.setattr(Cases, "check", slow)
    with pytest.raises(RunError, match="already holds a run"):
        train(data, tmp_path / "run")
    assert RunFolder(tmp_path / "run").evaluated() == [0]


@pytest.mark.row("F16")
def test_a_fold_that_begins_with_another_split(data, tmp_path, monkeypatch):
    folds = (*TINY, "split.kind=kfold", "split.folds=2")
    fresh = pocketseg.train("demo", data, tmp_path / "run", overrides=folds, device="cpu", fold=0, report=False).run
    plan = json.loads((fresh / "split.json").read_text())
    plan["folds"].reverse()
    (tmp_path / "other.json").write_text(json.dumps(plan))
    # As if both had begun at one moment.
    monkeypatch.setattr(training, "check_out", lambda *_: None)
    with pytest.raises(RunError, match="was begun with another split"):
        pocketseg.train(
            "demo", data, fresh, overrides=folds, device="cpu", fold=1, split=tmp_path / "other.json", report=False
        )  # fmt: skip
    assert RunFolder(fresh).folds() == [0]
