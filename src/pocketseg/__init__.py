"""Small segmentation networks for medical images: from a folder of scans to a small file, with the evidence.

The verbs of the command line as functions. Nothing heavy is imported before it is needed.

Example:
    import pocketseg

    pocketseg.train("thin-unet", data="scans", out="runs/first")
    found = pocketseg.load("runs/first").segment("scan.png")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from pocketseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pocketseg.flows.benchmark import benchmark as benchmark
    from pocketseg.flows.doctor import doctor as doctor
    from pocketseg.flows.evaluate import evaluate as evaluate
    from pocketseg.flows.export import export as export
    from pocketseg.flows.fit import fit as fit
    from pocketseg.flows.history import history as history
    from pocketseg.flows.import_weights import import_weights as import_weights
    from pocketseg.flows.inspect import inspect as inspect
    from pocketseg.flows.models import models as models
    from pocketseg.flows.pack import pack as pack
    from pocketseg.flows.phantom import phantom as phantom
    from pocketseg.flows.predict import predict as predict
    from pocketseg.flows.report import report as report
    from pocketseg.flows.run import run as run
    from pocketseg.flows.train import train as train
    from pocketseg.flows.verify import verify as verify
    from pocketseg.flows.web import web as web
    from pocketseg.flows.wrap import wrap as wrap
    from pocketseg.predictors import Ensemble, NetPredictor
    from pocketseg.predictors import Segmentation as Segmentation
    from pocketseg.predictors import SegmentedObject as SegmentedObject
    from pocketseg.predictors import show as show

__version__ = VERSION
VERBS = (
    "benchmark",
    "doctor",
    "evaluate",
    "export",
    "fit",
    "history",
    "import_weights",
    "inspect",
    "models",
    "pack",
    "phantom",
    "predict",
    "report",
    "run",
    "train",
    "verify",
    "web",
    "wrap",
)
RESULTS = ("Segmentation", "SegmentedObject", "show")
__all__ = [*VERBS, *RESULTS, "__version__", "load"]


def load(
    path: str | Path | bytes | Sequence[str | Path],
    fold: int | Literal["all"] = 0,
    stage: str | None = None,
    *,
    backend: str | None = None,
    threads: int = 0,
    device: str = "cpu",
    tta: Sequence[Literal["horizontal", "vertical"]] | None = None,
) -> NetPredictor | Ensemble:
    """A model: `segment(image)` gives mask, probabilities and objects of a path, bytes, an array or a picture.

    `predict(image)` gives the probabilities (h, w, k) of pixels alone, `mask(image)` their class indices (h, w).

    Args:
        path: a packed model or an ONNX file (need no torch), a checkpoint `best.safetensors`, or a run folder; the name
            of a model that ships (`pocketseg models`); or the bytes of a packed model. Several are an ensemble, which
            answers with the mean of their probabilities.
        fold, stage: of a run folder; default the first fold's last stage. `all` is the ensemble of the run's folds.
        backend: torch, onnx, openvino or pseg; default: a run's packed model where there is one, else by the file.
        threads: at most, up to 256; 0 lets the backend choose.
        device: cpu; cuda, cuda:N or mps, for torch (which then runs a run) and ONNX; auto: a GPU where there is one.
        tta: directions of test-time mirroring (horizontal, vertical); each doubles the time. Default: the model's own.

    Raises:
        PocketsegError: nothing that can predict is there, it is damaged, or the arguments make no sense.

    Images are arrays (h, w) or (h, w, c), or what plainly is one: nested lists of numbers, torch tensors, Pillow
    pictures. uint8 and uint16 count from 0 to 255 and 65535, as in files. Other integers, and floats from 0 to 255, are
    read as the type of the training images where they fit it; floats from 0 to 1 are shares of full scale; what cannot
    be meant, and nan, is a DataError. docs/data.md has the whole rule. An image whose intensities are very different
    from those of training is reported in the log.
    """
    if isinstance(path, bytes | bytearray | memoryview):
        from pathlib import Path

        from pocketseg.predictors import load_packed
        from pocketseg.runs.backends import mirrored

        return mirrored(load_packed(bytes(path), Path("the given bytes"), threads), tta)
    from pocketseg.runs.backends import load_predictor

    return load_predictor(path, fold, stage, backend=backend, threads=threads, device=device, tta=tta)


def __getattr__(name: str) -> Any:
    if name in VERBS:
        return getattr(import_module(f"pocketseg.flows.{name}"), name)
    if name in RESULTS:
        return getattr(import_module("pocketseg.predictors"), name)
    raise AttributeError(f"module 'pocketseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
