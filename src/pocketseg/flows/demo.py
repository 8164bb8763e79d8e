"""`demo`: all of it once on a phantom data set: train, export, pack, evaluate, time, predict, report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pocketseg.data import Split
from pocketseg.data.layouts.listing import image_files
from pocketseg.errors import RunError
from pocketseg.evaluation import Summary
from pocketseg.experiments.plan import Progress
from pocketseg.experiments.run import TrainResult
from pocketseg.files import PART, remove, write_atomically
from pocketseg.flows.benchmark import benchmark
from pocketseg.flows.evaluate import evaluate
from pocketseg.flows.export import export
from pocketseg.flows.pack import pack
from pocketseg.flows.phantom import phantom
from pocketseg.flows.predict import predict
from pocketseg.flows.report import report
from pocketseg.flows.train import train
from pocketseg.flows.web import ENGINE, SOURCES, web
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import open_cases
from pocketseg.runs.source import ModelSource

if TYPE_CHECKING:
    from pocketseg.training.loop import Listener

MARKER = ".pocketseg-demo"
TORCH, ONNX, PACKED, INT8 = "torch f32", "ONNX f32", "packed f32", "packed int8"
TURNS, TURN_S = 5, 0.1
PAGE = "page.html"


@dataclass(frozen=True)
class Variant:
    """The model as a file.

    Attributes:
        name: what it is and what runs it.
        file: where it is.
        size_bytes: of the file.
        ms: median from an image file to its mask.
        summaries: of the test part.
    """

    name: str
    file: Path
    size_bytes: int
    ms: float
    summaries: list[Summary]


@dataclass(frozen=True)
class Demo:
    """Where everything lies, and every variant of the model on the same test cases, timed interleaved.

    `missing` says how to get what could not be made here; empty where all was.
    """

    places: list[tuple[str, Path]]
    variants: list[Variant]
    threads: int
    missing: str = ""


def demo(
    out: str | Path = "demo",
    *,
    cases: int = 280,
    size: int = 128,
    seed: int = 0,
    overrides: tuple[str, ...] = (),
    listener: Listener | None = None,
    progress: Progress | None = None,
) -> Demo:
    """Make a phantom data set, train the `demo` recipe on it, export, pack, evaluate, time, predict, and report.

    Where the engine for browsers was built, the run folder also gets the page of `web`.

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
    trained = train("demo", data, run, overrides=overrides, report=False, listener=listener, progress=progress)
    files = _files(run)
    variants, threads = _compared(files, trained, data, folder, tell)
    predict(run, [data / "images"], folder / "masks", with_overlay=True, progress=partial(tell, "predicting"))
    places = [
        ("report", report(run)),
        *((name, files[name]) for name in (PACKED, INT8, ONNX)),
        ("masks and overlays", folder / "masks"),
        ("per-case table", run / "fold-0" / "cases-test.csv"),
        ("run folder", run),
        ("data", data),
    ]
    missing = ""
    if (SOURCES / ENGINE).is_file():
        places.insert(1, ("page for browsers", web(run, run / PAGE).file))
    else:
        missing = (
            f"no page for browsers, whose engine was not built: make wasm, then pocketseg web {run} --out {run / PAGE}"
        )
    return Demo(places, variants, threads, missing)


def _files(run: Path) -> dict[str, Path]:
    """The trained model in every variant; that of 8 bits is calibrated with training images."""
    folder = RunFolder(run)
    cases = open_cases(folder.manifest()["data"]["path"], folder.recipe().data)
    images = [cases.image(case) for case in cases.named(Split.read(folder.split_file).fold(0).train)]
    return {
        TORCH: ModelSource.of_run(folder).trained(),
        ONNX: export(run).file,
        PACKED: folder.packed_file(0),
        INT8: pack(run, calibrate=images).file,
    }


def _compared(
    files: dict[str, Path], trained: TrainResult, data: Path, folder: Path, tell: Progress
) -> tuple[list[Variant], int]:
    """Every variant evaluated on the test part, and timed interleaved; with how many threads."""
    split = trained.run / "split.json"
    evaluated = {TORCH: [summary for summary in trained.summaries[0] if summary.part == "test"]}
    for name in (ONNX, PACKED, INT8):
        out = folder / f"evaluation of {name}".replace(" ", "-")
        evaluating = partial(tell, f"evaluating {name}")
        evaluated[name] = evaluate(files[name], data, split=split, part="test", out=out, progress=evaluating).summaries
    image = image_files(data / "images")[0]
    timed = benchmark(list(files.values()), image=image, turns=TURNS, turn_s=TURN_S)
    variants = [
        Variant(name, file, file.stat().st_size, each.whole.median_ms, evaluated[name])
        for (name, file), each in zip(files.items(), timed.models, strict=True)
    ]
    return variants, timed.threads


def _clear(folder: Path) -> None:
    """Remove what an earlier demo left; anything else is not touched."""
    if folder.is_dir() and any(not path.name.endswith(PART) for path in folder.iterdir()):
        if not (folder / MARKER).exists():
            raise RunError(str(folder), "is not empty and was not made by the demo", "choose another --out")
        # The marker stays: of a demo that is killed here, the next one knows what it may remove.
        for path in [path for path in folder.iterdir() if path.name != MARKER]:
            remove(path)
    write_atomically(folder / MARKER, "made by pocketseg demo; it may be replaced by the next one\n")
