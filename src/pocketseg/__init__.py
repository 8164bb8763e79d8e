"""Small segmentation networks for medical images: from a folder of scans to a small file, with the evidence.

The verbs of the command line as functions. Nothing heavy is imported before it is needed.

Example:
    import pocketseg

    pocketseg.train("thin-unet", data="scans", out="runs/first")
    mask = pocketseg.load("runs/first").mask(image)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pocketseg.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from pocketseg.flows.benchmark import benchmark as benchmark
    from pocketseg.flows.doctor import doctor as doctor
    from pocketseg.flows.evaluate import evaluate as evaluate
    from pocketseg.flows.export import export as export
    from pocketseg.flows.inspect import inspect as inspect
    from pocketseg.flows.pack import pack as pack
    from pocketseg.flows.phantom import phantom as phantom
    from pocketseg.flows.predict import predict as predict
    from pocketseg.flows.report import report as report
    from pocketseg.flows.train import train as train
    from pocketseg.flows.verify import verify as verify
    from pocketseg.predictors import NetPredictor

__version__ = VERSION
VERBS = (
    "benchmark",
    "doctor",
    "evaluate",
    "export",
    "inspect",
    "pack",
    "phantom",
    "predict",
    "report",
    "train",
    "verify",
)
__all__ = [*VERBS, "__version__", "load"]


def load(
    path: str | Path, fold: int = 0, stage: str | None = None, *, backend: str | None = None, threads: int = 0
) -> NetPredictor:
    """A model as a predictor: `predict(image)` gives probabilities (h, w, k), `mask(image)` class indices (h, w).

    Args:
        path: a packed model or an ONNX file (need no torch), a checkpoint `best.safetensors`, or a run folder.
        fold, stage: of a run folder; default the first fold's last stage.
        backend: torch, onnx, openvino or pseg; default: a run's packed model where there is one, else by the file.
        threads: at most, up to 256; 0 lets the backend choose.

    Raises:
        PocketsegError: nothing that can predict is there, it is damaged, or the arguments make no sense.

    Images are arrays (h, w) or (h, w, c), or what plainly is one: nested lists of numbers, torch tensors, Pillow
    pictures. uint8 and uint16 count from 0 to 255 and 65535, as in files. Other integers, and floats from 0 to 255, are
    read as the type of the training images where they fit it; floats from 0 to 1 are shares of full scale; what cannot
    be meant, and nan, is a DataError. docs/data.md has the whole rule. An image whose intensities are very different
    from those of training is told in the log.
    """
    from pocketseg.runs.backends import load_predictor

    return load_predictor(path, fold, stage, backend=backend, threads=threads)


def __getattr__(name: str) -> Any:
    if name in VERBS:
        from importlib import import_module

        return getattr(import_module(f"pocketseg.flows.{name}"), name)
    raise AttributeError(f"module 'pocketseg' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
