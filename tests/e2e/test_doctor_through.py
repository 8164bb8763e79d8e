"""The doctor on the command line: what it says, its exit codes, its copy; and what train says by itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from helpers.commands import overrides, run_cli


@pytest.mark.slow("four commands; the corpus asks the doctor row by row")
def test_a_sick_set_is_reported_corrected_and_trained(phantom_data, tmp_path):
    data = tmp_path / "data"
    for part in ("images", "masks"):
        (data / part).mkdir(parents=True)
        for path in sorted((phantom_data / part).iterdir())[:16]:
            (data / part / path.name).write_bytes(path.read_bytes())
    names = sorted(path.name for path in (data / "images").iterdir())
    mask = np.asarray(Image.open(data / "masks" / names[0]))
    Image.fromarray(mask // 255).save(data / "masks" / names[0])
    (data / "images" / names[1]).write_bytes(b"<html>404</html>")
    (data / "images/duplicate.png").write_bytes((data / "images" / names[2]).read_bytes())
    (data / "masks/duplicate.png").write_bytes((data / "masks" / names[2]).read_bytes())
    before = {path: path.read_bytes() for path in data.rglob("*.png")}

    done = run_cli("doctor", data, "--fix", tmp_path / "out")
    assert done.returncode == 2, done.stderr
    for text in (
        "ERROR mixed-coding",
        f"masks/{names[0]}",
        "<html",
        "duplicate",
        "WARNING duplicate",
        "ERROR image",
        "data.group_csv=groups.csv",
    ):
        assert text in done.stdout, f"{text!r} is missing in: {done.stdout}"
    assert done.stdout.index("ERROR") < done.stdout.index("WARNING") < done.stdout.index("NOTE")
    assert before == {path: path.read_bytes() for path in data.rglob("*.png")}

    grouped = ("data.group_csv=groups.csv", "data.group_column=group")
    again = run_cli("doctor", tmp_path / "out", "--json", *overrides(*grouped)[-4:])
    assert again.returncode == 0, again.stdout
    found = json.loads(again.stdout)
    assert found["cases"] == 15
    assert not [problem for problem in found["problems"] if problem["level"] == "error"]

    sick = run_cli(
        "train",
        "demo",
        "--data",
        data,
        "--out",
        tmp_path / "a",
        *overrides("data.group_csv=null", "data.group_column=null"),
    )
    assert sick.returncode == 2
    assert "2 ways" in sick.stderr
    assert not (tmp_path / "a").exists()
    trained = run_cli(
        "train", "demo", "--data", tmp_path / "out", "--out", tmp_path / "b", *overrides(*grouped, "stages.0.epochs=1")
    )
    assert trained.returncode == 0, trained.stderr


@pytest.mark.slow("a training more")
def test_train_refuses_equal_images_in_two_parts_and_warns_once_of_others(phantom_data, tmp_path):
    data = tmp_path / "data"
    for part in ("images", "masks"):
        (data / part).mkdir(parents=True)
        for number, path in enumerate(sorted((phantom_data / part).iterdir())[:12]):
            (data / part / f"{number:02}.png").write_bytes(path.read_bytes())
        (data / part / "duplicate.png").write_bytes((data / part / "00.png").read_bytes())
    names = [f"{number:02}" for number in range(12)]
    parts = {"train": [*names[:8], "duplicate"], "validation": names[8:10], "test": names[10:]}
    (tmp_path / "kept.json").write_text(json.dumps({"folds": [parts]}))
    torn = {**parts, "train": names[:8], "test": [*names[10:], "duplicate"]}
    (tmp_path / "torn.json").write_text(json.dumps({"folds": [torn]}))
    ungrouped = overrides("data.group_csv=null", "data.group_column=null", "stages.0.epochs=1")
    refused = run_cli(
        "train", "demo", "--data", data, "--out", tmp_path / "a", "--split", tmp_path / "torn.json", *ungrouped
    )
    assert refused.returncode == 2
    assert "same in every pixel and lie in train and test" in refused.stderr
    assert not (tmp_path / "a").exists()
    done = run_cli(
        "train", "demo", "--data", data, "--out", tmp_path / "b", "--split", tmp_path / "kept.json", *ungrouped
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the same in every pixel") == 1


def test_a_data_set_that_is_not_there(tmp_path):
    done = run_cli("doctor", tmp_path / "absent", "--json")
    assert done.returncode == 2
    (problem,) = json.loads(done.stdout)["problems"]
    assert "does not exist" in problem["message"]
