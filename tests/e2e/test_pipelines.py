"""The shipped pipelines run from the first stage to the last, in their smoke forms, on synthetic images."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.commands import read_csv, read_json, run_cli
from pocketseg.recipes import load_sweep

PIPELINES = [
    "pocket",
    "vaze2020",
    "blu-net",
    "fixed-point-grid",
    "light-unet-table",
    "resnet18-unet-encoders",
    "tiny-16k",
]


@pytest.fixture(scope="module", params=PIPELINES)
def pipeline(request, phantom_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, str]:
    """Name, folder and printed text of a pipeline that was trained from the command line."""
    out = tmp_path_factory.mktemp("pipelines") / request.param
    done = run_cli("train", f"{request.param}:smoke", "--data", phantom_data, "--out", out, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return request.param, out, done.stdout


@pytest.mark.slow("whole pipelines; test_quantized.py trains stages")
def test_a_pipeline_reaches_its_end_and_evaluates_its_stages(pipeline):
    name, out, printed = pipeline
    whole = load_sweep(f"{name}:smoke")
    runs = [out / "trials" / variant.name if whole.keys else out for variant in whole.variants]
    for variant, run in zip(whole.variants, runs, strict=True):
        for stage in variant.recipe.stages:
            folder = run / "fold-0" / stage.name
            history = read_csv(folder / "history.csv")
            assert len(history) == stage.epochs
            assert {"hint"} <= history[0].keys() or stage.hints is None
            assert {"soft"} <= history[0].keys() or stage.distil is None
            assert (folder / "packed.safetensors").exists() == (stage.quant is not None)
            evaluated = (folder / "summary.json").exists() or stage == variant.recipe.stages[-1]
            assert evaluated == (stage.loss is not None)
            if stage.quant is not None and stage.init is not None:
                start = run / "fold-0" / stage.init.stage / "best.safetensors"
                assert (folder / "packed.safetensors").stat().st_size < start.stat().st_size
            teacher = read_json(run / "manifest.json")["stages"][f"fold-0/{stage.name}"].get("teacher")
            assert (teacher is None) == (stage.teacher is None)
    table = read_csv(out / "results.csv" if whole.keys else out.parent / "results.csv")
    if whole.keys:
        assert [row["name"] for row in table] == [variant.name for variant in whole.variants]
        assert all(row["status"] == "finished" for row in table) and (out / "sweep.png").stat().st_size > 1000
        return
    evaluated = [stage.name for stage in whole.variants[0].recipe.stages[:-1] if stage.loss is not None]
    mine = [row for row in table if row["name"].startswith(out.name)]
    assert [row["name"] for row in mine] == [*(f"{out.name}/{stage}" for stage in evaluated), out.name]
    assert all(0 <= float(row["test"]) <= 1 and float(row["KiB"]) > 0 for row in mine)
    assert {row["recipe"] for row in mine} == {whole.variants[0].recipe.name}
    seconds = [float(row["seconds"]) for row in mine]
    for stage, taken in zip(evaluated, seconds, strict=False):
        (timing,) = read_csv(out / "fold-0" / stage / "timings.csv")
        assert taken == pytest.approx(float(timing["train_s"]) + float(timing["validation_s"]), abs=0.06)
    assert sum(seconds[:-1]) < seconds[-1]
    assert all(stage in printed for stage in evaluated)
    assert all(stage in (out / "report.html").read_text(encoding="utf-8") for stage in evaluated)
