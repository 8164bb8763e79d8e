"""`benchmark`: how long models take on this machine, interleaved, once it is known that they answer alike."""

from __future__ import annotations

import json
import logging
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg import notebook
from pocketseg.data.phantom import phantom_case
from pocketseg.data.readers import read_image
from pocketseg.errors import DataError, ModelFileError
from pocketseg.files import try_output, write_atomically
from pocketseg.packages import require_torch
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.png import write_png
from pocketseg.predictors import NetPredictor, default_threads
from pocketseg.runs.backends import DIGEST, open_model, origin
from pocketseg.search.profile import Profile
from pocketseg.text import brief, bytes_text, counted
from pocketseg.timing import Timing, in_turns

log = logging.getLogger("pocketseg")

COLUMNS = [
    "model", "runs on", "bits", "KiB", "input", "load ms", "first ms", "net ms", "quartiles", "a second", "ratio",
    "file to mask ms", "quartiles ", "a second ", "ratio ", "mask",
]  # fmt: skip


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


@dataclass(frozen=True, repr=False)
class Measured:
    """One model with one backend.

    Attributes:
        model: as it was given.
        file: what runs.
        runtime: what runs it.
        precision: as the file says; of torch, what it computes in.
        size_bytes: of the file; of a net by name its weights in f32.
        input: channels, height and width that the net is called with.
        load_ms: from the file to a model that is ready.
        first_ms: from there to the first logits: preprocessing and a call that sets things up.
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
    first_ms: float
    net: Timing
    whole: Timing
    agreement: Agreement | None

    def __repr__(self) -> str:
        time = f"net {self.net.median_ms:.2f} ms, from file to mask {self.whole.median_ms:.2f} ms"
        return brief(self, f"{self.model}, {self.runtime}, {self.precision}, {bytes_text(self.size_bytes)}; {time}")


@dataclass(frozen=True, repr=False)
class Benchmark:
    """All models, timed interleaved in one process.

    Attributes:
        models: in the order given.
        image: height and width of the image.
        threads: that each of them may use.
    """

    models: list[Measured]
    image: tuple[int, int]
    threads: int
    machine: str = field(default_factory=lambda: f"{platform.machine()}, {platform.system()}")

    @property
    def title(self) -> str:
        """What was done, in a line."""
        height, width = self.image
        return f"image {height}×{width}, {counted(self.threads, 'thread')}, {self.machine}"

    def rows(self) -> list[list[str]]:
        """A row for each model, the cells those of `COLUMNS`; ratios are to the first model."""
        return [self._row(each) for each in self.models]

    def _row(self, each: Measured) -> list[str]:
        first = self.models[0]
        return [
            each.model, each.runtime, each.precision, f"{each.size_bytes / 1024:,.0f}", "×".join(map(str, each.input)),
            f"{each.load_ms:.1f}", f"{each.first_ms:.1f}", *_timing_cells(each.net, first.net),
            *_timing_cells(each.whole, first.whole), self._agreement(each),
        ]  # fmt: skip

    def _agreement(self, each: Measured) -> str:
        agreement = each.agreement
        if agreement is None:
            return "–"
        other = self.models[agreement.other].runtime
        if not agreement.pixels:
            return f"that of {other}"
        return f"{counted(agreement.pixels, 'pixel')} ({agreement.share:.2%}) other than {other}"

    def __repr__(self) -> str:
        times = ", ".join(f"{each.whole.median_ms:.1f}" for each in self.models)
        return brief(self, f"{counted(len(self.models), 'model')}, {self.title}; from file to mask {times} ms")

    def _repr_html_(self) -> str:
        """The table of the command line, for notebooks."""
        return notebook.table(COLUMNS, self.rows(), self.title)

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


def _timing_cells(timing: Timing, first: Timing) -> list[str]:
    low, high = timing.quartiles_ms
    return [
        f"{timing.median_ms:.2f}", f"{low:.2f} to {high:.2f}", f"{1000 / timing.median_ms:.1f}",
        f"{timing.ratio(first)[0]:.2f}",
    ]  # fmt: skip


def _line(each: Measured, first: Measured) -> dict[str, Any]:
    agreement = each.agreement
    return {
        **{key: getattr(each, key) for key in ("model", "file", "runtime", "precision", "size_bytes")},
        "input": list(each.input),
        "load_ms": each.load_ms,
        "first_ms": each.first_ms,
        "net": _figures(each.net, first.net),
        "file_to_mask": _figures(each.whole, first.whole),
        "agreement": None if agreement is None else vars(agreement),
    }


def _figures(timing: Timing, first: Timing) -> dict[str, Any]:
    ratio, spread = timing.ratio(first)
    return {
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
    device: str = "cpu",
    turns: int = 10,
    turn_s: float = 0.2,
) -> Benchmark:
    """Time models on this machine.

    Each is warmed up and then timed interleaved with the others, so that a machine whose speed drifts treats all alike.
    Before, all answer for the same image; models made of the same weights are compared.

    Args:
        models: packed models, ONNX files, checkpoints, run or stage folders; or names of nets of the catalog, which get
            random weights and images of that size. A folder that is called like a net needs a path: ./unet.
        backends: torch, onnx, openvino, pseg: each model is timed with each of them; default: its own.
        size: height and width of a synthetic ultrasound image.
        image: an image file to take instead.
        threads: that each may use; 0 is one for each core, at most 8.
        fold: of run folders.
        device: cpu; cuda, cuda:N or mps, for torch and ONNX; auto: a GPU where there is one. The time of a net of torch
            on a GPU is that of the net alone, waited for; from file to mask includes the way to the GPU and back.
        turns: of each model.
        turn_s: how long a turn goes on.

    Raises:
        ModelFileError: a model is not there, or nothing that the backend runs.
        EnvironmentProblem: a backend is not installed; the error names the extra.
        DataError: an image or number of threads that cannot be.
    """
    paths = [models] if isinstance(models, str | Path) else list(models)
    if not paths or threads < 0 or turns < 1 or turn_s <= 0 or min(size) < 1:
        given = f"{counted(len(paths), 'model')}, {counted(threads, 'thread')}, {counted(turns, 'turn')} of {turn_s} s"
        what = f"has {given}, an image of {size}"
        raise DataError("benchmark", what, "give a model and positive numbers")
    threads = threads or default_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(image) if image is not None else _phantom_file(Path(folder), size)
        pixels = read_image(file)
        ready = [
            _ready(path, backend, fold, threads, device, pixels) for path in paths for backend in (backends or (None,))
        ]
        agreements = [_agreement(index, ready) for index in range(len(ready))]
        calls: dict[str, Callable[[], object]] = {}
        for index, each in enumerate(ready):
            calls[f"{index} net"] = _net_alone(each)
            calls[f"{index} whole"] = partial(_file_to_mask, each.predictor, file)
        times = in_turns(calls, turns=turns, turn_s=turn_s)
    measured = [
        each.measured(times[f"{index} net"], times[f"{index} whole"], agreement)
        for index, (each, agreement) in enumerate(zip(ready, agreements, strict=True))
    ]
    return Benchmark(measured, (pixels.shape[0], pixels.shape[1]), threads)


def write_profile(out: str | Path, *, threads: int = 0, progress: Callable[[int, int], None] | None = None) -> Profile:
    """Time this machine's engine on untrained nets of every width and kind, for `fit` on another machine.

    Args:
        out: the file.
        threads: of the engine; 0: as `predict` takes.
        progress: called with (done, of).
    """
    require_torch()  # which the nets are packed with
    from pocketseg.search.profiling import profile_here

    path = Path(out)
    if threads < 0:
        raise DataError("benchmark", f"has {counted(threads, 'thread')}", "give a positive number")
    try_output(path, ending=".json")
    found = profile_here(threads, progress)
    write_atomically(path, found.text())
    return found


@dataclass(frozen=True)
class _Ready:
    """A model that has answered for the image.

    Attributes:
        size_bytes: of the file, or of the weights of a net by name.
        weights: digest of those it was made of; where that is not known, its own name.
        net_input: f32 (1, c, h, w) that its net was given.
    """

    model: str
    file: Path
    predictor: NetPredictor
    size_bytes: int
    weights: str
    load_ms: float
    first_ms: float
    net_input: NDArray[np.float32]
    probability: NDArray[np.float32]
    mask: NDArray[np.uint8]

    @property
    def precision(self) -> str:
        return self.predictor.precision

    def measured(self, net: Timing, whole: Timing, agreement: Agreement | None) -> Measured:
        _, channels, height, width = self.net_input.shape
        return Measured(
            model=self.model,
            file=str(self.file),
            runtime=self.predictor.runtime,
            precision=self.precision,
            size_bytes=self.size_bytes,
            input=(channels, height, width),
            load_ms=self.load_ms,
            first_ms=self.first_ms,
            net=net,
            whole=whole,
            agreement=agreement,
        )


def _ready(
    path: str | Path, backend: str | None, fold: int, threads: int, device: str, pixels: NDArray[np.generic]
) -> _Ready:
    began = time.perf_counter()
    predictor, file, size = _opened(path, backend, fold, threads, device, pixels)
    loaded = time.perf_counter()
    seen: list[NDArray[np.float32]] = []
    ended: list[float] = []

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(batch)
        logits = predictor.forward(batch)
        ended.append(time.perf_counter())
        return logits

    probability = predictor.pipeline.predict(pixels, forward, predictor.pipeline.spacing_mm)
    known = origin(file) if file.suffix == ".safetensors" else predictor.card
    return _Ready(
        model=str(path),
        file=file,
        predictor=predictor,
        size_bytes=size,
        weights=str(known.get(DIGEST, path)),
        load_ms=1000 * (loaded - began),
        first_ms=1000 * (ended[0] - loaded),
        net_input=np.ascontiguousarray(seen[0][:1]),
        probability=probability,
        mask=predictor.pipeline.mask(probability),
    )


def _opened(
    path: str | Path, backend: str | None, fold: int, threads: int, device: str, pixels: NDArray[np.generic]
) -> tuple[NetPredictor, Path, int]:
    """What predicts, its file, and bytes: of a model, or of a net of the catalog with random weights."""
    if _is_net(path):
        predictor, size = _random(str(path), backend, threads, device, pixels)
        return predictor, Path(path), size
    predictor, file = open_model(path, fold, backend=backend, threads=threads, device=device)
    return predictor, file, file.stat().st_size


def _is_net(path: str | Path) -> bool:
    """Whether it is the name of a net; without torch there is none."""
    try:
        from pocketseg.nets import NETS
    except ImportError:
        return False
    return str(path) in NETS


def _random(
    arch: str, backend: str | None, threads: int, device: str, pixels: NDArray[np.generic]
) -> tuple[NetPredictor, int]:
    """A net of the catalog for images such as this one, and the bytes of its weights."""
    import torch

    from pocketseg.nets import parameter_count
    from pocketseg.training.device import torch_device
    from pocketseg.training.model import Model

    if backend not in (None, "torch"):
        fix = "leave out --backend, or train and pack it"
        raise ModelFileError(arch, f"is a net without a file, which torch runs and {backend} does not", fix)
    torch.set_num_threads(threads)
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    pipeline = Pipeline((pixels.shape[0], pixels.shape[1]), channels, normalization=Normalization("unit-range"))
    model = Model.fresh({"arch": arch}, pipeline, seed=0)
    count = parameter_count(model.net)
    log.warning("%s has random weights: its times are right, its masks mean nothing", arch)
    found = model.predictor(torch_device(device))
    return replace(found, runtime=f"{found.runtime}, random weights"), 4 * count


def _net_alone(each: _Ready) -> Callable[[], object]:
    """A call of the net; of torch on a GPU without the way there and back."""
    forward = each.predictor.forward
    on_device = getattr(forward, "call_on_device", None)
    if on_device is None or forward.device.type == "cpu":  # type: ignore[attr-defined]
        return partial(forward, each.net_input)
    call: Callable[[], object] = on_device(each.net_input)
    return call


def _agreement(index: int, ready: Sequence[_Ready]) -> Agreement | None:
    """How a model differs from the first one of the same weights; a difference is reported."""
    mine = ready[index]
    number, its = next((number, each) for number, each in enumerate(ready) if each.weights == mine.weights)
    if number == index:
        return None
    pixels = int((mine.mask != its.mask).sum())
    found = Agreement(number, pixels, pixels / mine.mask.size, float(np.abs(mine.probability - its.probability).max()))
    if pixels:
        log.log(
            logging.WARNING if mine.precision == its.precision else logging.INFO,
            "%s (%s, %s) differs from %s (%s, %s) in %s (%.3f %%)",
            mine.file, mine.predictor.runtime, mine.precision, its.file, its.predictor.runtime, its.precision,
            counted(pixels, "pixel"), 100 * found.share,
        )  # fmt: skip
    return found


def _file_to_mask(predictor: NetPredictor, file: Path) -> NDArray[np.uint8]:
    return predictor.mask(read_image(file), predictor.pipeline.spacing_mm)


def _phantom_file(folder: Path, size: tuple[int, int]) -> Path:
    """A synthetic ultrasound image as PNG."""
    height, width = size
    return write_png(folder / "phantom.png", phantom_case(0, 1, 1, max(size)).image[:height, :width])
