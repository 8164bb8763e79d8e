"""Which file of a model runs, and what runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

from pocketseg.data import Split
from pocketseg.engine.session import MAX_THREADS
from pocketseg.errors import DataError, ModelFileError, RecipeError, RunError, near
from pocketseg.files import sha256_of
from pocketseg.packages import require_torch
from pocketseg.pipeline import Mirror, Pipeline
from pocketseg.predictors import Ensemble, NetPredictor, load_onnx, load_openvino, load_pseg
from pocketseg.predictors.device import on_cpu_alone, parts_of
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.source import WANTED, ModelSource
from pocketseg.text import bytes_text, counted

log = logging.getLogger("pocketseg")

Backend = Literal["torch", "onnx", "openvino", "pseg"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

# What runs a file; the first unless another is asked for.
RUNS: dict[str, tuple[Backend, ...]] = {".pseg": ("pseg",), ".onnx": ("onnx", "openvino"), ".safetensors": ("torch",)}
# How a run gets the file that a backend runs.
MADE_BY = {".pseg": "pocketseg pack {}", ".onnx": "pocketseg export {} --to onnx"}
DIGEST = "weights_sha256"
# Instead of the number of a fold: the ensemble of all of them.
ALL: Literal["all"] = "all"
Fold = int | Literal["all"]


def _warn(odd: str) -> None:
    log.warning("image: %s", odd)


def load_predictor(
    path: str | Path | Sequence[str | Path],
    fold: Fold = 0,
    stage: str | None = None,
    *,
    backend: str | None = None,
    threads: int = 0,
    device: str = "cpu",
    tta: Sequence[Mirror] | None = None,
    warn: Callable[[str], None] = _warn,
    opened: Callable[[Path], object] = lambda file: None,
) -> NetPredictor | Ensemble:
    """A predictor from a run folder, a stage's, a checkpoint, a packed model, or an ONNX file.

    A run is predicted with by its packed model, where that was made of the weights the run has now and nothing was
    rounded on the way; else by torch. The log tells which. Only torch needs torch.

    Args:
        path: of the model; of several they are an ensemble, which answers with the mean of their probabilities.
        fold, stage: of a run folder; default the first fold's last stage. `all` is the ensemble of all trained folds.
        backend: torch, onnx, openvino or pseg; default as above, and by the kind of a file.
        threads: at most; 0 lets the backend choose.
        device: cpu; cuda, cuda:N or mps, for which a run is predicted with by torch; auto: a GPU where there is one.
        tta: directions of test-time mirroring (horizontal, vertical); each doubles the time. Default: the model's own.
        warn: gets a line for an image whose intensities are very different from those of training.
        opened: gets each file that is loaded.

    Raises:
        ModelFileError: nothing that can predict is there, or not what the backend runs.
        RecipeError: there is no such backend.
        EnvironmentProblem: the backend is not installed, or the device not there.
        RunError: a stage that the run does not have, or of what is not a run.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    if fold != ALL and len(paths) == 1:
        predictor, file = open_model(paths[0], fold, stage, backend=backend, threads=threads, device=device)
        predictor = mirrored(predictor, tta)
        opened(file)
        log.info("predicting with %s (%s%s)", file, predictor.runtime, _price(predictor.pipeline))
        return replace(predictor, warn=warn)
    return _ensemble(paths, fold, stage, backend, threads, device, tta, warn, opened)


def mirrored(predictor: NetPredictor, tta: Sequence[Mirror] | None) -> NetPredictor:
    """The predictor with other directions of test-time mirroring than its model's; None leaves those.

    Raises:
        RecipeError: a direction that does not exist, or stands there more than once.
    """
    if tta is None:
        return predictor
    known = get_args(Mirror)
    wrong = [name for name in tta if name not in known]
    if wrong or len(set(tta)) < len(tta):
        what = f"{wrong[0]!r} is not a direction" if wrong else "a direction appears twice"
        raise RecipeError("--tta", what, f"give none, or one or both of {', '.join(known)}")
    return replace(predictor, pipeline=replace(predictor.pipeline, tta=tuple(tta)))


def _price(pipeline: Pipeline) -> str:
    return f", {pipeline.runs} mirror images of each" if pipeline.tta else ""


def _ensemble(
    paths: Sequence[str | Path],
    fold: Fold,
    stage: str | None,
    backend: str | None,
    threads: int,
    device: str,
    tta: Sequence[Mirror] | None,
    warn: Callable[[str], None],
    opened: Callable[[Path], object],
) -> Ensemble:
    """The models of several paths, or folds, as one; of odd images the first one tells."""
    places = [(path, number) for path in paths for number in ([fold] if fold != ALL else _folds(path))]
    if len(places) < 2:
        only = "no model" if not places else f"{places[0][0]} alone, with a single fold"
        fix = "give several models, or a run of several folds (split.kind=kfold)"
        raise ModelFileError("the ensemble", f"would be of {only}", fix)
    found = [
        open_model(path, number, stage, backend=backend, threads=threads, device=device) for path, number in places
    ]
    members = [mirrored(predictor, tta) for predictor, _ in found]
    together = Ensemble.of([replace(members[0], warn=warn), *members[1:]], [str(file) for _, file in found])
    for _, file in found:
        opened(file)
    size = sum(file.stat().st_size for _, file in found)
    log.info(
        "%s: %s%s; %s together, and %d times the time of one for an image",
        ", ".join(map(str, paths)), together.runtime, _price(together.pipeline), bytes_text(size), len(members),
    )  # fmt: skip
    return together


def _folds(path: str | Path) -> list[int]:
    """The trained folds of a run.

    Raises:
        RunError: it is no run, or a fold of it is not trained to its end.
    """
    run = RunFolder.existing(path)
    wanted, there = len(Split.read(run.split_file).folds), run.evaluated()
    if len(there) < wanted:
        what = f"{len(there)} of {counted(wanted, 'fold')} are trained to their end"
        raise RunError(str(path), what, "finish the training with --resume, or choose a --fold")
    return there


def open_model(
    path: str | Path,
    fold: int = 0,
    stage: str | None = None,
    *,
    backend: str | None = None,
    threads: int = 0,
    device: str = "cpu",
) -> tuple[NetPredictor, Path]:
    """The same, and the file that it came from."""
    if type(threads) is not int or not 0 <= threads <= MAX_THREADS:
        raise DataError(f"threads {threads!r}", "cannot be", f"give a whole number from 0 to {MAX_THREADS}")
    if backend is not None and backend not in BACKENDS:
        raise RecipeError(f"--backend {backend}", "is not a backend", near(backend, BACKENDS))
    parts_of(device)
    source = ModelSource.resolve(path, fold, stage)
    if source.weights == source.path:
        return _of_file(source.path, backend, threads, device), source.path
    return _of_folder(source, backend, threads, device)


def _of_file(file: Path, backend: str | None, threads: int, device: str) -> NetPredictor:
    if file.suffix not in RUNS:
        raise ModelFileError(str(file), "is not a model" if file.is_file() else "does not exist", WANTED)
    able = RUNS[file.suffix]
    if backend is not None and backend not in able:
        raise ModelFileError(
            str(file), f"is nothing that {backend} runs", f"choose {' or '.join(able)}, or give the run"
        )
    return LOADERS[backend or able[0]](file, threads, device)


def _of_folder(source: ModelSource, backend: str | None, threads: int, device: str) -> tuple[NetPredictor, Path]:
    if backend in (None, "torch"):
        if backend is None and not _wants_gpu(device) and (found := _packed(source, threads)):
            return found
        weights = source.trained()
        return _torch(weights, threads, device), weights
    suffix = next(suffix for suffix, able in RUNS.items() if backend in able)
    file, fix = source.made(suffix), f"make it with: {MADE_BY[suffix].format(source.path)}"
    if not file.is_file():
        raise ModelFileError(str(file), "does not exist", fix)
    predictor = LOADERS[backend](file, threads, device)
    if wrong := _foreign(predictor.card, source.weights):
        raise ModelFileError(str(file), wrong, fix)
    return predictor, file


def _wants_gpu(device: str) -> bool:
    """Whether torch is to run a net on a GPU; `auto` is one where torch sees it."""
    if device != "auto":
        return device != "cpu"
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _packed(source: ModelSource, threads: int) -> tuple[NetPredictor, Path] | None:
    """The packed model of a run, where it is the run's model and no other."""
    file = source.made(".pseg")
    if not file.is_file():
        return None
    try:
        predictor = load_pseg(file, threads)
        wrong = _foreign(predictor.card, source.weights) or _rounded(predictor.card)
    except ModelFileError as error:
        wrong = error.problems[0].what
    if wrong is None:
        return predictor, file
    log.warning("%s is not used: it %s; `pocketseg pack %s` makes it again", file, wrong, source.path)
    return None


def _foreign(card: Mapping[str, Any], weights: Path) -> str | None:
    """What is wrong with a file that should be made of these weights; where they are not there, it is all there is."""
    if DIGEST not in card:
        return "does not say which weights it was made of"
    if weights.is_file() and card[DIGEST] != sha256_of(weights):
        return f"was made of other weights than {weights.name} holds now"
    return None


def _rounded(card: Mapping[str, Any]) -> str | None:
    """Why a packed model is another model than the run."""
    return "was packed with fewer bits than the run was trained with" if card.get("rounded") else None


def origin(weights: Path) -> dict[str, str]:
    """What a file says of the weights it was made of."""
    return {DIGEST: sha256_of(weights)}


def _torch(weights: Path, threads: int, device: str) -> NetPredictor:
    if not weights.is_file():
        raise ModelFileError(str(weights), "does not exist", WANTED)
    require_torch()
    import torch

    from pocketseg.training.device import torch_device
    from pocketseg.training.model import Model

    where = torch_device(device)
    if threads:
        torch.set_num_threads(threads)
    return Model.load(weights).predictor(where)


def _openvino(file: Path, threads: int, device: str) -> NetPredictor:
    on_cpu_alone(device, str(file), "OpenVINO")
    return load_openvino(file, threads)


def _engine(file: Path, threads: int, device: str) -> NetPredictor:
    on_cpu_alone(device, str(file), "the engine")
    return load_pseg(file, threads)


LOADERS: dict[str, Callable[[Path, int, str], NetPredictor]] = {
    "torch": _torch,
    "onnx": load_onnx,
    "openvino": _openvino,
    "pseg": _engine,
}


def allow_user_code(files: Sequence[Path]) -> None:
    """Execute Python files of the user, whose nets models and recipes may then be of; see `nets.allow_code`."""
    require_torch()
    from pocketseg.nets import allow_code

    for file in files:
        allow_code(file)
