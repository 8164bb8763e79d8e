"""`demo`: everything once, on a phantom data set: train, export, evaluate both forms, predict, report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pocketseg.errors import RunError
from pocketseg.evaluation import Summary
from pocketseg.flows.evaluate import evaluate
from pocketseg.flows.export import export
from pocketseg.flows.phantom import phantom
from pocketseg.flows.predict import predict
from pocketseg.flows.report import report
from pocketseg.flows.train import train

if TYPE_CHECKING:
    from pocketseg.training.loop import Listener

MARKER = ".pocketseg-demo"


@dataclass(frozen=True)
class Demo:
    """Where everything lies, and what both forms of the model scored on the test part."""

    places: list[tuple[str, Path]]
    torch: list[Summary]
    onnx: list[Summary]
    onnx_bytes: int
    checkpoint_bytes: int


def demo(
    out: str | Path = "demo",
    *,
    cases: int = 280,
    size: int = 128,
    seed: int = 0,
    overrides: tuple[str, ...] = (),
    listener: Listener | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Demo:
    """Make a phantom data set, train the `demo` recipe on it, export, evaluate, predict, and write the report.

    Args:
        out: folder for everything; one that an earlier demo made is replaced.
        cases, size, seed: of the phantom.
        overrides: recipe keys, as in `train`.
        listener, progress: as in `train`.
    """
    folder = Path(out)
    _clear(folder)
    tell = progress or (lambda what, done, of: None)
    data, run = folder / "data", folder / "run"
    phantom(data, cases=cases, size=size, seed=seed, progress=lambda done, of: tell("making images", done, of))
    trained = train("demo", data, run, overrides=overrides, listener=listener, progress=progress)
    exported = export(run)
    judged = evaluate(
        exported.file,
        data,
        split=run / "split.json",
        part="test",
        out=folder / "evaluation-onnx",
        progress=lambda done, of: tell("judging the ONNX file", done, of),
    )
    predict(exported.file, [data / "images"], folder / "masks", with_overlay=True,
            progress=lambda done, of: tell("predicting", done, of))  # fmt: skip
    page = report(run)
    checkpoint = next((run / "fold-0").glob("*/best.safetensors"))
    places = [
        ("report", page),
        ("ONNX file", exported.file),
        ("masks and overlays", folder / "masks"),
        ("per-case table", run / "fold-0" / "cases-test.csv"),
        ("run folder", run),
        ("data", data),
    ]
    torch = [summary for summary in trained.summaries[0] if summary.part == "test"]
    return Demo(places, torch, judged.summaries, exported.size_bytes, checkpoint.stat().st_size)


def _clear(folder: Path) -> None:
    """Remove what an earlier demo left; anything else is not touched."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise RunError(str(folder), "is not empty and was not made by the demo", "choose another --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).write_text("made by pocketseg demo; it may be replaced by the next one\n", encoding="utf-8")
