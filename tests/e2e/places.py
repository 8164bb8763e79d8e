"""Every place of the command line that takes the path of a file or folder to read."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

from helpers.commands import overrides

Arguments = list[str | Path]

# The place: the command, given the path to try, a data set, a run, and a new name to write to.
PLACES: dict[str, Callable[[str, Path, Path, Path], Arguments]] = {
    "doctor DATA": lambda path, data, run, out: ["doctor", path],
    "doctor --recipe": lambda path, data, run, out: ["doctor", data, "--recipe", path],
    "train RECIPE": lambda path, data, run, out: ["train", path, "--data", data, "--out", out],
    "train --data": lambda path, data, run, out: ["train", "demo", "--data", path, "--out", out, *overrides()],
    "train --split": lambda path, data, run, out: training(data, out, "--split", path),
    "data.group_csv": lambda path, data, run, out: training(
        data, out, *overrides(f"data.group_csv={path!r}", "data.group_column=patient")
    ),
    "data.images": lambda path, data, run, out: training(
        data, out, *overrides(f"data.images={path!r}", "data.masks=masks")
    ),
    "data.masks": lambda path, data, run, out: training(
        data, out, *overrides("data.images=images", f"data.masks={path!r}")
    ),
    "init.weights": lambda path, data, run, out: training(
        data, out, *overrides(f"stages.0.init={{weights: {path!r}}}")
    ),
    "init.run": lambda path, data, run, out: training(data, out, *overrides(f"stages.0.init={{run: {path!r}}}")),
    **{
        f"teacher.{key}": lambda path, data, run, out, key=key: training(
            data, out, *overrides(f"stages.0.teacher={{{key}: {path!r}}}", "stages.0.distil={}")
        )
        for key in ("run", "onnx", "maps")
    },
    "teacher.unlabelled": lambda path, data, run, out: training(
        data, out, *overrides(f"stages.0.teacher={{run: {run}, unlabelled: {path!r}}}", "stages.0.distil={}")
    ),
    "evaluate MODEL": lambda path, data, run, out: ["evaluate", path, data, "--out", out],
    "evaluate DATA": lambda path, data, run, out: ["evaluate", run, path, "--out", out],
    "evaluate --split": lambda path, data, run, out: ["evaluate", run, data, "--split", path, "--out", out],
    "evaluate --against": lambda path, data, run, out: ["evaluate", run, data, "--against", path, "--out", out],
    "predict MODEL": lambda path, data, run, out: ["predict", path, data / "images", "--out", out],
    "predict INPUT": lambda path, data, run, out: ["predict", run, path, "--out", out],
    "pack MODEL": lambda path, data, run, out: ["pack", path, "--out", out],
    "pack --calibrate": lambda path, data, run, out: ["pack", run, "--out", out, "--calibrate", path],
    "pack --tune": lambda path, data, run, out: ["pack", path, "--out", out, "--tune"],
    "verify MODEL": lambda path, data, run, out: ["verify", path],
    "export RUN": lambda path, data, run, out: ["export", path, "--out", out],
    "export --data": lambda path, data, run, out: ["export", run, "--out", out, "--data", path],
    "benchmark MODEL": lambda path, data, run, out: ["benchmark", path],
    "benchmark --image": lambda path, data, run, out: ["benchmark", run, "--image", path],
    "overlay IMAGE": lambda path, data, run, out: ["overlay", path, "--reference", a_mask(data), "--out", out],
    "overlay --reference": lambda path, data, run, out: ["overlay", an_image(data), "--reference", path, "--out", out],
    "overlay --prediction": lambda path, data, run, out: [
        "overlay", an_image(data), "--prediction", path, "--out", out
    ],
    "report RUN": lambda path, data, run, out: ["report", path, "--out", out],
    "inspect WHAT": lambda path, data, run, out: ["inspect", path],
    "inspect --images": lambda path, data, run, out: ["inspect", run, "--weights", f"{out}.png", "--images", path],
    "data convert": lambda path, data, run, out: ["data", "convert", "auto", path, out],
    "rois-to-masks": lambda path, data, run, out: ["data", "convert", "rois-to-masks", path, out],
    "recipes convert": lambda path, data, run, out: ["recipes", "convert", path],
}  # fmt: skip


def training(data: Path, out: Path, *options: str | Path) -> Arguments:
    return ["train", "demo", "--data", data, "--out", out, *overrides("stages.0.epochs=1"), *options]


def an_image(data: Path) -> Path:
    return sorted((data / "images").iterdir())[0]


def a_mask(data: Path) -> Path:
    return sorted((data / "masks").iterdir())[0]


def here(*arguments: str | Path) -> tuple[int, str]:
    """The command line in this process: exit code, and all that it says."""
    from pocketseg.cli.main import main

    said = io.StringIO()
    before, sys.argv = sys.argv, ["pocketseg", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            main()
    except SystemExit as done:
        return int(done.code or 0), said.getvalue()
    finally:
        sys.argv = before
    return 0, said.getvalue()
