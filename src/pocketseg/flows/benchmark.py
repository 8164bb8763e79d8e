"""`benchmark`: how long models take on this machine, by turns, once it is known that they answer alike."""

from __future__ import annotations

import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketseg.data.phantom import phantom_case
from pocketseg.data.readers import read_image
from pocketseg.errors import DataError
from pocketseg.flows.backends import DIGEST, open_model, origin
from pocketseg.flows.timing import Timing, in_turns
from pocketseg.predictors import NetPredictor, default_threads

log = logging.getLogger("pocketseg")


@dataclass(frozen=True)
class Agreement:
    """How a model's answer differs from that of the first one of the same net.

    Attributes:
        other: number of that model, from 0.
        pixels: of the mask, whose class differs.
        share: of all pixels.
        largest: difference in probability.
    """

    other: int
    pixels: int
    share: float
    largest: float


@dataclass(frozen=True)
class Measured:
    """One model with one backend.

    Attributes:
        model: as it was given.
        file: what runs.
        runtime: what runs it.
        precision: as the file says; of torch, what it computes in.
        size_bytes: of the file.
        input: channels, height and width that the net is called with.
        load_ms: from the file to a model that is ready.
        net: the net alone, from its input to logits.
        whole: from an image file to the mask: reading, preprocessing, net, resizing, threshold, component rules.
        agreement: with the first model of the same net; None for that one.
    """

    model: str
    file: str
    runtime: str
    precision: str
    size_bytes: int
    input: tuple[int, int, int]
    load_ms: float
    net: Timing
    whole: Timing
    agreement: Agreement | None


@dataclass(frozen=True)
class Benchmark:
    """All models, timed by turns in one process.

    Attributes:
        models: in the order given.
        image: height and width of the image.
        threads: that each of them may use.
    """

    models: list[Measured]
    image: tuple[int, int]
    threads: int
    machine: str = field(default_factory=lambda: f"{platform.machine()}, {platform.system()}")

    def json(self) -> str:
        """Numbers in full; ratios are to the first model."""
        first = self.models[0]
        content = {
            "image": list(self.image),
            "threads": self.threads,
            "machine": self.machine,
            "models": [_line(each, first) for each in self.models],
        }
        return json.dumps(content, indent=1) + "\n"


def _line(each: Measured, first: Measured) -> dict[str, Any]:
    agreement = each.agreement
    return {
        **{key: getattr(each, key) for key in ("model", "file", "runtime", "precision", "size_bytes")},
        "input": list(each.input),
        "load_ms": each.load_ms,
        "net": _figures(each.net, first.net),
        "file_to_mask": _figures(each.whole, first.whole),
        "agreement": None if agreement is None else vars(agreement),
    }


def _figures(timing: Timing, first: Timing) -> dict[str, Any]:
    ratio, spread = timing.ratio(first)
    return {
        "first_ms": timing.first_ms,
        "median_ms": timing.median_ms,
        "quartiles_ms": list(timing.quartiles_ms),
        "per_second": 1000 / timing.median_ms,
        "calls": len(timing.calls_ms),
        "ratio": ratio,
        "ratio_quartiles": list(spread),
    }


def benchmark(
    models: str | Path | Sequence[str | Path],
    *,
    backends: Sequence[str] = (),
    size: tuple[int, int] = (256, 256),
    image: str | Path | None = None,
    threads: int = 0,
    fold: int = 0,
    turns: int = 10,
    turn_s: float = 0.2,
) -> Benchmark:
    """Time models on this machine.

    Each is warmed up and then timed by turns with the others, so that a machine whose speed drifts treats all alike.
    Before, all answer for the same image; models made of the same weights are compared.

    Args:
        models: packed models, ONNX files, checkpoints, run or stage folders.
        backends: torch, onnx, openvino, pseg: each model is timed with each of them; default: its own.
        size: height and width of a synthetic ultrasound image.
        image: an image file to take instead.
        threads: that each may use; 0 is one for each core, at most 8.
        fold: of run folders.
        turns: of each model.
        turn_s: how long a turn goes on.

    Raises:
        ModelFileError: a model is not there, or nothing that the backend runs.
        EnvironmentProblem: a backend is not installed; the error names the extra.
        DataError: an image or number of threads that cannot be.
    """
    paths = [models] if isinstance(models, str | Path) else list(models)
    if not paths or threads < 0 or turns < 1 or turn_s <= 0 or min(size) < 1:
        what = f"has {len(paths)} models, {threads} threads, {turns} turns of {turn_s} s, an image of {size}"
        raise DataError("benchmark", what, "give a model and positive numbers")
    threads = threads or default_threads()
    loaded = [_loaded(path, backend, fold, threads) for path in paths for backend in (backends or (None,))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(image) if image is not None else _phantom_file(Path(folder), size)
        pixels = read_image(file)
        answers = [_answer(each, pixels) for each in loaded]
        calls: dict[str, Callable[[], object]] = {}
        for index, (each, answer) in enumerate(zip(loaded, answers, strict=True)):
            calls[f"{index} net"] = partial(each.predictor.forward, answer.net_input)
            calls[f"{index} whole"] = partial(_file_to_mask, each.predictor, file)
        times = in_turns(calls, turns=turns, turn_s=turn_s)
    channels_first = [answer.net_input.shape for answer in answers]
    measured = [
        Measured(
            model=each.model,
            file=str(each.file),
            runtime=each.predictor.runtime,
            precision=str(each.predictor.card.get("precision", "unknown")),
            size_bytes=each.file.stat().st_size,
            input=(shape[1], shape[2], shape[3]),
            load_ms=each.load_ms,
            net=times[f"{index} net"],
            whole=times[f"{index} whole"],
            agreement=_agreement(index, loaded, answers),
        )
        for index, (each, shape) in enumerate(zip(loaded, channels_first, strict=True))
    ]
    return Benchmark(measured, (pixels.shape[0], pixels.shape[1]), threads)


@dataclass(frozen=True)
class _Loaded:
    """A model that is ready, and the digest of the weights it was made of; where that is not known, its own name."""

    model: str
    file: Path
    predictor: NetPredictor
    load_ms: float
    weights: str


@dataclass(frozen=True)
class _Answer:
    """What a model says of the image, and what its net was given for it: f32 (1, c, h, w)."""

    probability: NDArray[np.float32]
    mask: NDArray[np.uint8]
    net_input: NDArray[np.float32]


def _loaded(path: str | Path, backend: str | None, fold: int, threads: int) -> _Loaded:
    began = time.perf_counter()
    predictor, file = open_model(path, fold, backend=backend, threads=threads)
    load_ms = 1000 * (time.perf_counter() - began)
    known = origin(file) if file.suffix == ".safetensors" else predictor.card
    return _Loaded(str(path), file, predictor, load_ms, str(known.get(DIGEST, path)))


def _answer(each: _Loaded, pixels: NDArray[np.generic]) -> _Answer:
    seen: list[NDArray[np.float32]] = []

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(batch)
        return each.predictor.forward(batch)

    pipeline = each.predictor.pipeline
    probability = pipeline.predict(pixels, forward, pipeline.spacing_mm)
    return _Answer(probability, pipeline.mask(probability), np.ascontiguousarray(seen[0][:1]))


def _agreement(index: int, loaded: Sequence[_Loaded], answers: Sequence[_Answer]) -> Agreement | None:
    first = next(number for number, each in enumerate(loaded) if each.weights == loaded[index].weights)
    if first == index:
        return None
    mine, its = answers[index], answers[first]
    pixels = int((mine.mask != its.mask).sum())
    largest = float(np.abs(mine.probability - its.probability).max())
    found = Agreement(first, pixels, pixels / mine.mask.size, largest)
    if pixels:
        (file, runtime, precision), (other, its_runtime, its_precision) = (
            (each.file, each.predictor.runtime, each.predictor.card.get("precision"))
            for each in (loaded[index], loaded[first])
        )
        log.log(
            logging.WARNING if precision == its_precision else logging.INFO,
            "%s (%s, %s) gives another class than %s (%s, %s) in %d pixels (%.3f %%)",
            file, runtime, precision, other, its_runtime, its_precision, pixels, 100 * found.share,
        )  # fmt: skip
    return found


def _file_to_mask(predictor: NetPredictor, file: Path) -> NDArray[np.uint8]:
    return predictor.mask(read_image(file), predictor.pipeline.spacing_mm)


def _phantom_file(folder: Path, size: tuple[int, int]) -> Path:
    """A synthetic ultrasound image as PNG."""
    height, width = size
    file = folder / "phantom.png"
    Image.fromarray(phantom_case(0, 1, 1, max(size)).image[:height, :width]).save(file)
    return file
