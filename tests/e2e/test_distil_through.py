"""A student and its teacher, from the recipe to the run folder: every kind of teacher, and what is refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import pocketseg
from helpers.commands import SMALL, read_csv, read_json
from pocketseg.data.readers import read_image
from pocketseg.errors import DataError, PocketsegError, RecipeError, RunError
from pocketseg.experiments import distillation
from pocketseg.weights import read_weights

STUDENT = "{arch: thin_unet, width: 4, blocks: 3, conv: separable, norm: block}"
SOFT = ("stages.0.distil={weight: 0.5}",)
FIXED = ("augment={}",)


@pytest.fixture
def train(phantom_data, tmp_path):
    """Train a small student for an epoch from the teacher that is named."""

    def go(teacher: str, *more: str, out: str = "run", **options):
        values = (
            *SMALL, f"stages.0.net={STUDENT}", "stages.0.epochs=1", f"stages.0.teacher={teacher}", *more,
        )  # fmt: skip
        pocketseg.train("demo", phantom_data, tmp_path / out, overrides=values, device="cpu", report=False, **options)
        return tmp_path / out

    return go


def history(run) -> dict[str, str]:
    (path,) = run.glob("fold-0/*/history.csv")
    return read_csv(path)[-1]


def taught_by(run) -> dict:
    return next(iter(read_json(run / "manifest.json")["stages"].values()))["teacher"]


def best(run):
    (path,) = run.glob("fold-0/*/best.safetensors")
    return path


def log(run) -> str:
    return (run / "log.txt").read_text(encoding="utf-8")


# --- a whole recipe -----------------------------------------------------------------------------------------------

SHORT = {"batch": 8, "precision": "f32"}
TEACHER = {"name": "teacher", "net": {"arch": "thin_unet", "width": 6, "blocks": 3, "norm": "block"}, "epochs": 2}
NET = {"arch": "thin_unet", "width": 4, "blocks": 3, "norm": "block", "conv": "separable"}
LEARNS = {"net": NET, "teacher": {"stage": "teacher"}}
HINTS = {"name": "hints", "hints": {"part": "encoder"}, "loss": None, "best_by": "hint", "epochs": 30}
LAST = {
    "name": "student",
    "init": {"stage": "hints"},
    "distil": {"kind": "kl", "per": "region"},
    "hints": {"layers": "convs", "kind": "attention", "total": 1},
    "freeze": ["encoder.0"],
    "quant": {"scheme": "w8a8"},
    "epochs": 1,
}
CHAIN = {
    "data": {"size": [32, 32], "group_csv": "patients.csv", "group_column": "patient"},
    "augment": {"flip": ["horizontal"], "affine": {"degrees": 8}},
    "stages": [TEACHER | SHORT, LEARNS | HINTS | SHORT, LEARNS | LAST | SHORT],
}


@pytest.mark.slow("trains three stages twice; test_kill.py resumes")
def test_teacher_hints_student_killed_in_the_hint_stage(phantom_data, tmp_path):
    """Killed inside of the hint stage and resumed, all three stages end in the bytes of an undisturbed run."""
    recipe = tmp_path / "chain.yaml"
    recipe.write_text(json.dumps(CHAIN), encoding="utf-8")
    pocketseg.train(recipe, phantom_data, tmp_path / "whole", device="cpu", report=False)
    killed = tmp_path / "killed"
    command = [
        sys.executable, "-m", "pocketseg.cli.main", "train", str(recipe), "--data", str(phantom_data),
        "--out", str(killed), "--device", "cpu",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (killed / "fold-0/hints/previous.last.safetensors").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert not (killed / "fold-0/student").exists(), "the hint stage was too short to be killed"
    # In this process, whose number of threads the undisturbed run had.
    pocketseg.train(recipe, phantom_data, killed, device="cpu", resume=True, report=False)
    for stage in ("teacher", "hints", "student"):
        for name in ("best.safetensors", "last.safetensors", "history.csv"):
            one, two = (tmp_path / run / "fold-0" / stage / name for run in ("whole", "killed"))
            assert one.read_bytes() == two.read_bytes(), f"{stage}/{name}"
    rows = read_csv(tmp_path / "whole/fold-0/hints/history.csv")
    assert float(rows[-1]["val_hint"]) < 0.8 * float(rows[0]["val_hint"])
    assert rows[0]["val_loss"] == rows[0]["val_hint"] and "bce" not in rows[0] and rows[0]["val_dice"]
    last = read_csv(tmp_path / "whole/fold-0/student/history.csv")[0]
    assert {"bce", "dice", "soft", "hint", "val_hint"} <= set(last)
    frozen, start = (
        read_weights(tmp_path / f"whole/fold-0/{stage}/best.safetensors") for stage in ("student", "hints")
    )
    assert np.array_equal(frozen["encoder.0.0.0.weight"], start["encoder.0.0.0.weight"])
    metadata = read_json(tmp_path / "whole/manifest.json")["stages"]
    assert metadata["fold-0/student"]["teacher"]["outputs"] == "live"
    assert metadata["fold-0/student"]["parameters"] == metadata["fold-0/hints"]["parameters"]
    assert "4 hints (l1), the heaviest deepest.3 from deepest.3 with " in log(tmp_path / "whole")
    report = (tmp_path / "whole/report.html").exists() or pocketseg.report(tmp_path / "whole")
    assert report


# --- every kind of teacher ----------------------------------------------------------------------------------------


def test_another_run(train, trained_run):
    run = train(f"{{run: {trained_run}}}", *SOFT, "stages.0.hints={kind: l2}")
    assert taught_by(run)["files"] == [str(best(trained_run))] and len(taught_by(run)["hints"]) == 7
    assert float(history(run)["soft"]) > 0 and float(history(run)["hint"]) > 0
    assert "learns from" in log(run)


@pytest.mark.slow("a training more; others here have a teacher")
def test_an_ensemble_of_runs(train, trained_run):
    run = train(f"{{runs: [{trained_run}, {trained_run}]}}", *SOFT)
    alone = train(f"{{run: {trained_run}}}", *SOFT, out="alone")
    assert len(taught_by(run)["files"]) == 2
    assert float(history(run)["soft"]) == pytest.approx(float(history(alone)["soft"]), rel=1e-3)


@pytest.mark.slow("a training more; others here have a teacher")
def test_an_onnx_file(train, exported, trained_run):
    run = train(f"{{onnx: {exported}}}", *SOFT)
    alone = train(f"{{run: {trained_run}}}", *SOFT, out="alone")
    assert float(history(run)["soft"]) == pytest.approx(float(history(alone)["soft"]), rel=1e-3)
    assert "nobody can tell which cases" in log(run)


@pytest.mark.slow("a training more; others here have a teacher")
def test_a_folder_of_maps(train, trained_run, phantom_data, tmp_path):
    pocketseg.predict(trained_run, [phantom_data / "images"], tmp_path / "maps", probabilities=True)
    for path in (tmp_path / "maps").iterdir():
        if not path.stem.endswith("_probability"):
            path.unlink()
    run = train(f"{{maps: {tmp_path / 'maps'}}}", *SOFT, *FIXED)
    alone = train(f"{{run: {trained_run}}}", *SOFT, *FIXED, out="alone")
    assert float(history(run)["soft"]) == pytest.approx(float(history(alone)["soft"]), rel=0.02)
    assert "nobody can tell which cases" in log(run) and "nobody can tell" not in log(alone)


def test_cached_answers_of_a_fixed_set_are_those_of_the_teacher(train, trained_run):
    live, cached = (
        train(f"{{run: {trained_run}, outputs: {outputs}}}", *SOFT, *FIXED, out=outputs)
        for outputs in ("live", "cached")
    )
    assert float(history(live)["soft"]) == pytest.approx(float(history(cached)["soft"]), rel=1e-4)
    taught = read_json(cached / "split.json")["folds"][0]["train"]
    assert len(list(cached.glob("fold-0/*/teacher/*.npy"))) == len(taught)
    assert not list(live.glob("fold-0/*/teacher*"))


@pytest.mark.slow("a training more; others here have a teacher")
@pytest.mark.parametrize(("times", "chosen"), [((1.0, 0.1), "cached"), ((0.1, 1.0), "live")])
def test_what_was_measured_once_stays(train, trained_run, monkeypatch, times, chosen):
    measured = iter([*times, *reversed(times)])
    monkeypatch.setattr(distillation, "_seconds", lambda work: next(measured))
    run = train(f"{{run: {trained_run}}}", *SOFT, *FIXED)
    assert taught_by(run)["outputs"] == chosen and "an answer takes" in log(run)
    kept = len(list(run.glob("fold-0/*/teacher/*.npy")))
    assert (kept == len(read_json(run / "split.json")["folds"][0]["train"])) == (chosen == "cached")
    train(f"{{run: {trained_run}}}", *SOFT, *FIXED, resume=True)
    assert len(list(measured)) == 2 and len(list(run.glob("fold-0/*/teacher/*.npy"))) == kept


@pytest.mark.slow("a training more; others here have a teacher")
def test_cached_answers_of_tiles_cover_the_whole_image(phantom_data, tmp_path):
    student = LEARNS | {"name": "student", "distil": {}, "teacher": {"stage": "teacher", "outputs": "cached"}}
    recipe = {
        "data": CHAIN["data"] | {"size": [24, 24], "fit": "tile"},
        "augment": {"flip": ["horizontal"]},
        "stages": [TEACHER | SHORT, student | SHORT | {"epochs": 1}],
    }
    run = pocketseg.train(recipe, phantom_data, tmp_path / "run", device="cpu", report=False).run
    files = list((run / "fold-0/student/teacher").glob("*.npy"))
    teacher = pocketseg.load(run / "fold-0/teacher")
    wanted = teacher.predict(read_image(phantom_data / "images" / f"{files[0].stem}.png"))
    assert wanted.shape == (48, 48, 1) and wanted.std() > 1e-3
    np.testing.assert_allclose(np.load(files[0]) / 65535, wanted, atol=1e-3)


def test_augmented_samples_ask_the_teacher(train, trained_run):
    run = train(f"{{run: {trained_run}}}", *SOFT)
    assert "live, since the samples change from epoch to epoch" in log(run)
    assert not list(run.glob("fold-0/*/teacher*"))


@pytest.mark.slow("a training more; others here have a teacher")
def test_unlabelled_images_join(train, trained_run, tmp_path):
    pocketseg.phantom(tmp_path / "more", cases=6, size=48, seed=77)
    images = tmp_path / "more/images"
    run = train(f"{{run: {trained_run}, unlabelled: {images}}}", *SOFT)
    assert taught_by(run)["unlabelled"] == 6 and "6 unlabelled images join" in log(run)
    cached = train(f"{{run: {trained_run}, unlabelled: {images}, outputs: cached}}", *SOFT, *FIXED, out="cached")
    assert len(list(cached.glob("fold-0/*/teacher/unlabelled/*.npy"))) == 6


# --- what is refused, before anything is trained --------------------------------------------------------------------


def refusal(train, kind: type[PocketsegError], *arguments, tmp_path, **options) -> str:
    with pytest.raises(kind) as caught:
        train(*arguments, **options)
    assert not (tmp_path / "run").exists()
    return str(caught.value)


def test_a_teacher_that_was_trained_on_these_test_cases(train, trained_run, tmp_path):
    other = ("split.seed=11",)
    text = refusal(train, RunError, f"{{run: {trained_run}}}", *SOFT, *other, tmp_path=tmp_path)
    assert "learns from" in text and "test cases of fold 0" in text and "teacher.allow_leak=true" in text
    text = refusal(train, RunError, f"{{runs: [{trained_run}]}}", *SOFT, *other, tmp_path=tmp_path)
    assert "learns from" in text
    assert best(train(f"{{run: {trained_run}, allow_leak: true}}", *SOFT, *other))


def test_test_images_among_the_unlabelled(train, trained_run, phantom_data, tmp_path):
    test = read_json(trained_run / "split.json")["folds"][0]["test"][0]
    (tmp_path / "more").mkdir()
    shutil.copy(phantom_data / "images" / f"{test}.png", tmp_path / "more/other_name.png")
    teacher = f"{{run: {trained_run}, unlabelled: {tmp_path / 'more'}}}"
    text = refusal(train, DataError, teacher, *SOFT, tmp_path=tmp_path)
    assert f"is the image of the test case {test!r}" in text


@pytest.mark.parametrize(
    ("teacher", "more", "kind", "words"),
    [
        ("{{run: no-such}}", SOFT, RunError, "is not a run folder"),
        ("{{run: {run}, stage: zzz}}", SOFT, RunError, "has no stage 'zzz'"),
        ("{{onnx: no-such.onnx}}", SOFT, PocketsegError, "does not exist"),
        ("{{maps: no-such}}", SOFT, DataError, "is not a folder of probability maps"),
        ("{{maps: {run}}}", SOFT, DataError, "has no probability map of"),
        ("{{run: {run}, unlabelled: no-such}}", SOFT, DataError, "does not exist"),
        ("{{run: {run}}}", (*SOFT, "normalize.kind=min-max"), RecipeError, "cannot be undone"),
        ("{{run: {run}}}", (*SOFT, "data.fit=tile"), RecipeError, "trained with data.fit=resize"),
        (
            "{{run: {run}}}", ("stages.0.hints={{layers: [{{student: nothing}}]}}",), RecipeError,
            "stages.0.hints.layers: 'nothing' fits no layer of the student",
        ),
        (
            "{{run: {run}}}", ("stages.0.hints={{layers: [{{student: encoder.0, teacher: encoder.1}}]}}",), RecipeError,
            "pair layers of one height and width",
        ),
        ("{{run: {run}}}", (*SOFT, "stages.0.freeze=[nothing]"), RecipeError, "'nothing' fits no layer"),
        ("{{run: {run}}}", (), RecipeError, "says nothing without distil or hints"),
        ("{{onnx: a.onnx}}", ("stages.0.hints={{}}",), RecipeError, "hints come from a single net of ours"),
        ("null", SOFT, RecipeError, "need a teacher"),
        ("{{stage: later}}", SOFT, RecipeError, "which is not an earlier stage"),
    ],
)  # fmt: skip
def test_faults(train, trained_run, tmp_path, teacher, more, kind, words):
    values = [text.replace("{{", "{").replace("}}", "}") for text in more]
    text = refusal(train, kind, teacher.format(run=trained_run), *values, tmp_path=tmp_path)
    assert words in text


@pytest.mark.slow("a training more; others here have a teacher")
def test_resuming_with_another_teacher_is_refused(train, trained_run, tmp_path):
    copy = tmp_path / "teacher"
    shutil.copytree(trained_run, copy)
    train(f"{{run: {copy}}}", *SOFT)
    train(f"{{run: {copy}}}", *SOFT, resume=True)
    pocketseg_run = train("null", "stages.0.net.conv=plain", out="other")
    shutil.copy(best(pocketseg_run), best(copy))
    with pytest.raises(PocketsegError, match="resume with the same"):
        train(f"{{run: {copy}}}", *SOFT, resume=True)
