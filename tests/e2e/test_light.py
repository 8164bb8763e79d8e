"""What must be light: importing, --help, and predicting without torch."""

from __future__ import annotations

import csv
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from typer.main import get_command

from helpers.commands import run_cli
from pocketseg.engine.library import library_file

ROOT = Path(__file__).parents[2]
LIMIT_S = 0.3


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("arguments", [["-c", "import pocketseg"], ["-m", "pocketseg.cli.main", "--help"]])
def test_start_takes_under_300_ms(arguments):
    """Processor time, the best of a few: other tests share the machine, so the clock on the wall says little."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    took = [seconds() for _ in range(7)]
    assert min(took) < LIMIT_S, took


@pytest.mark.parametrize("statement", ["import pocketseg", "from pocketseg.cli.verbs import app; app(['--help'])"])
def test_start_imports_nothing_heavy(statement):
    code = (
        f"import sys\ntry:\n    exec({statement!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'onnxruntime', 'accelerate', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_every_verb_has_help_with_examples_whose_options_exist():
    from pocketseg.cli.verbs import app

    group = get_command(app)
    checked = 0
    for name, verb in group.commands.items():
        if verb.hidden:
            continue  # an old name, whose examples have the new one
        done = run_cli(name, "--help", env={"COLUMNS": "200"})
        assert done.returncode == 0
        for line in re.findall(r"^\s*(pocketseg .+?)\s*$", verb.help or "", re.MULTILINE):
            words = shlex.split(line, comments=True)[1:]
            words = words[: words.index(">")] if ">" in words else words
            command, inner = verb, words[1:]
            if hasattr(verb, "commands") and inner:
                command, inner = verb.commands[inner[0]], inner[1:]
            command.make_context(words[0], inner)  # raises where an option does not exist or a value is missing
            assert words[0] == name
            checked += 1
    assert checked >= 12


@pytest.mark.slow("installs an environment of its own")
def test_predict_works_where_torch_is_not_installed(exported, trained_run, phantom_data, tmp_path):
    """A fresh environment from the wheel: with ONNX Runtime, then with the base install alone, then with `report`."""
    run = {"check": True, "capture_output": True, "text": True}
    wheel = tmp_path / "wheel"
    pip = ["-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", str(wheel), str(ROOT)], **run)
    built = next(wheel.glob("pocketseg-*.whl"))
    assert re.fullmatch(r"pocketseg-.*-py3-none-(?!any).*\.whl", built.name)
    library = zipfile.ZipFile(built).getinfo(f"pocketseg/engine/{library_file().name}")
    assert library.file_size <= 560 * 1024  # 60 of them are the pipeline, 108 the sets sse41 and avxvnni
    assert not [name for name in zipfile.ZipFile(built).namelist() if name.endswith((".cpp", ".h"))]
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], **run)
    python = tmp_path / "venv/bin/python"
    subprocess.run([str(python), *pip, "install", f"{built}[onnx]"], **run)
    image = sorted((phantom_data / "images").iterdir())[0]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(tmp_path / "venv/bin/pocketseg"), "predict", str(exported), str(image), "--out", "out", "--overlay"],
        capture_output=True, text=True, cwd=tmp_path, env=clean,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / image.name).exists()
    subprocess.run([str(python), *pip, "uninstall", "--yes", "onnxruntime"], **run)
    copy = shutil.copytree(trained_run, tmp_path / "run", ignore=shutil.ignore_patterns("*.safetensors", "*.onnx"))

    def pocket(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(tmp_path / "venv/bin/pocketseg"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=clean)

    packed = copy / "fold-0/model.pseg"
    for arguments in (
        ["verify", packed],
        ["predict", packed, image, "--out", "packed"],
        ["predict", copy, image, "--out", "by-run"],
        ["benchmark", packed, "--turns", "1", "--turn-seconds", "0.01"],
    ):
        done = pocket(*arguments)
        assert done.returncode == 0, done.stderr
    for folder in ("packed", "by-run"):
        assert (tmp_path / folder / image.name).read_bytes() == (tmp_path / "out" / image.name).read_bytes()
    for backend, extra in (("torch", "train"), ("onnx", "onnx"), ("openvino", "openvino")):
        shutil.copy(exported, copy / "fold-0/model.onnx")
        (copy / "fold-0/float/best.safetensors").touch()
        done = pocket("predict", copy, image, "--out", "x", "--backend", backend)
        assert done.returncode == 3 and f"pocketseg[{extra}]" in done.stderr, done.stderr
    (copy / "fold-0/float/best.safetensors").unlink()
    # What is measured and drawn needs the extra `report`, and nothing else.
    evaluate = ["evaluate", copy, phantom_data, "--split", trained_run / "split.json", "--out", "evaluated"]
    done = pocket(*evaluate)
    assert done.returncode == 3 and "pocketseg[report]" in done.stderr, done.stderr
    subprocess.run([str(python), *pip, "install", f"{built}[report]"], **run)
    done = pocket(*evaluate)
    assert done.returncode == 0 and "model.pseg (engine" in done.stderr, done.stderr
    # Of what is there evidence is a mean of probabilities, whose last digits the engine and PyTorch round differently.
    found, expected = (rows(path) for path in (tmp_path / "evaluated/cases.csv", trained_run / "fold-0/cases-test.csv"))
    assert len(found) == len(expected) > 2 and found[0] == expected[0]
    for one, other in zip(found[1:], expected[1:], strict=True):
        for name, mine, theirs in zip(found[0], one, other, strict=True):
            same = abs(float(mine) - float(theirs)) < 1e-5 if name.startswith("evidence") else mine == theirs
            assert same, (name, mine, theirs)
    done = pocket("report", copy, "--out", "page.html")
    assert done.returncode == 0, done.stderr
    assert "to its mask in engine on this machine" in (tmp_path / "page.html").read_text(encoding="utf-8")
    missing = subprocess.run([str(python), "-c", "import torch"], capture_output=True, text=True, env=clean)
    assert missing.returncode != 0, "torch is in the environment that should be without"
    refused = pocket("train", "demo", "--data", "x", "--out", "y")
    assert refused.returncode == 3
    assert "pocketseg[train]" in refused.stderr
