"""ONNX: one file with the net and, in its metadata, the pipeline; refused where it computes something else."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pocketseg.errors import ModelFileError, NotFiniteError
from pocketseg.exporters.floats import float_graph
from pocketseg.exporters.qdq import is_quantized, with_qdq
from pocketseg.files import write_atomically
from pocketseg.packages import require
from pocketseg.pipeline import Forward, Pipeline
from pocketseg.pipeline.geometry import Spacing
from pocketseg.pipeline.pipeline import FORMAT_VERSION, METADATA_KEY
from pocketseg.pipeline.postprocess import threshold_or_argmax
from pocketseg.text import counted

OPSET = 18
# In probability. onnxruntime and torch sum convolutions in different orders; f32 leaves about 1e-6 in logits.
MAX_DIFFERENCE = 1e-4
# Share of pixels. Runtimes divide by a scale and round the bias: beside a tie a code may differ by 1, and so may masks.
MAX_SHARE = 0.002
# How many times the foreground of one form that of the other may be, above this share of all pixels: a small object can
# vanish within `MAX_SHARE`.
FOREGROUND_RATIO, FEW_PIXELS = (0.5, 2.0), 0.0005


def export_onnx(core: nn.Module, pipeline: Pipeline, card: Mapping[str, Any], path: Path) -> None:
    """Write what `onnx_file` gives."""
    write_atomically(path, onnx_file(core, pipeline, card, path))


def onnx_file(
    core: nn.Module, pipeline: Pipeline, card: Mapping[str, Any], path: Path, *, floats: bool = False
) -> bytes:
    """The net and its pipeline as ONNX; height and width are fixed, the number of images is free.

    Args:
        core: the net without its size wrapper, on the CPU, in f32; of a quantized model its integer net, which is
            written with uint8 activations and int8 weights, or in floats.
        pipeline: goes into the metadata, so that prediction needs nothing else.
        card: metadata about the model for its reader; must hold no path, no case name, no patient's data.
        path: what errors call it.
        floats: write a quantized net as a graph of floats, which every scheme can be.
    """
    require("export", "onnx", "onnxscript")
    core = core.eval() if not is_quantized(core) else float_graph(core) if floats else with_qdq(core)
    height, width = pipeline.net_size
    example = torch.zeros(2, pipeline.channels, height, width)
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"):
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            core,
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("images")},),
            opset_version=OPSET,
            external_data=False,
        )
    if program is None:
        raise ModelFileError(str(path), "torch gave no ONNX program", "report this net")
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key = METADATA_KEY
    entry.value = json.dumps({"version": FORMAT_VERSION, "pipeline": pipeline.to_dict(), **card}, sort_keys=True)
    _drop_source_lines(proto)
    content: bytes = proto.SerializeToString()
    return content


def _drop_source_lines(proto: Any) -> None:
    """The exporter notes file names and lines of this machine in every node; they are nobody's business."""
    del proto.graph.metadata_props[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer]:
        del value.metadata_props[:]


class _quiet:  # noqa: N801 - reads as a word in a with statement
    """Loggers that speak at error level only, for the length of a block."""

    def __init__(self, *names: str) -> None:
        self.loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)


@dataclass(frozen=True)
class Parity:
    """How far two forms of a model are apart on some images.

    Attributes:
        images: how many were compared.
        largest: highest absolute difference in probability.
        ties: pixels whose class differs although both probabilities lie within the tolerance of the decision.
        wrong: pixels whose class differs and is not such a tie.
        pixels: how many were compared.
        quantized: whether one form may round to other codes. Then the share of pixels whose class differs counts, and
            `largest` only informs.
        foreground: pixels of each form.
        constant: whether the second gives one probability everywhere, and the first does not.
    """

    images: int
    largest: float
    ties: int
    wrong: int
    pixels: int
    quantized: bool = False
    foreground: tuple[int, int] = (0, 0)
    constant: bool = False

    @property
    def text(self) -> str:
        """In words."""
        images, pixels = counted(self.images, "image"), counted(self.ties + self.wrong, "pixel[ differs|s differ]")
        return f"largest difference {self.largest:.1e} in probability, {pixels} in {images}"

    @property
    def share(self) -> float:
        """Pixels whose class differs, of all."""
        return (self.ties + self.wrong) / max(self.pixels, 1)

    @property
    def ratio(self) -> float:
        """Of the second's foreground to the first's; few pixels beside all count as none."""
        few = FEW_PIXELS * self.pixels
        first, second = self.foreground
        return (second + few) / (first + few) if few else 1.0

    @property
    def sees_as_much(self) -> bool:
        """Whether the second finds foreground where the first does, roughly: it did not break down."""
        low, high = FOREGROUND_RATIO
        return bool(np.isfinite(self.largest)) and not self.constant and low <= self.ratio <= high

    @property
    def holds(self) -> bool:
        """Whether they are the same model; they are not where nothing was compared, or something is nan."""
        if not self.images or not np.isfinite(self.largest):
            return False
        if self.quantized:
            return self.share <= MAX_SHARE and self.sees_as_much
        return self.largest <= MAX_DIFFERENCE and self.wrong == 0


def compare(
    pipeline: Pipeline,
    first: Forward,
    second: Forward,
    images: Iterable[tuple[NDArray[np.generic], Spacing | None]],
    *,
    quantized: bool = False,
) -> Parity:
    """Run both on the same images, given with their pixel sizes, through the same pipeline."""
    count, largest, ties, wrong, pixels = 0, 0.0, 0, 0, 0
    foreground, varies = np.zeros(2, int), np.zeros(2, bool)
    before: list[NDArray[np.float32]] = []
    threshold = (
        pipeline.postprocess.limits(len(pipeline.classes)) if pipeline.multilabel else pipeline.postprocess.threshold
    )
    for image, spacing_mm in images:
        count += 1
        try:
            a, b = (pipeline.predict(image, forward, spacing_mm) for forward in (first, second))
        except NotFiniteError:
            largest = np.nan
            continue
        masks = [threshold_or_argmax(each, threshold, multilabel=pipeline.multilabel) for each in (a, b)]
        differs = masks[0] != masks[1]
        foreground += [np.count_nonzero(mask) for mask in masks]
        # Of one value within an image and over all of them.
        before = before or [a[0, 0], b[0, 0]]
        varies |= [bool((each != value).any()) for each, value in zip((a, b), before, strict=True)]
        near = _margin(a, threshold) <= MAX_DIFFERENCE
        largest = float(np.maximum(largest, np.abs(a - b).max()))  # Python's max may lose a nan
        ties += int((differs & near).sum())
        wrong += int((differs & ~near).sum())
        pixels += differs.size
    first_pixels, second_pixels = foreground.tolist()
    constant = bool(varies[0] and not varies[1])
    return Parity(count, largest, ties, wrong, pixels, quantized, (first_pixels, second_pixels), constant)


def _margin(probabilities: NDArray[np.float32], threshold: float | Sequence[float]) -> NDArray[np.float32]:
    """How far each pixel is from another decision, (h, w); (k, h, w) where each class has its threshold."""
    if isinstance(threshold, Sequence):
        apart: NDArray[np.float32] = np.abs(np.moveaxis(probabilities - np.array(threshold, np.float32), 2, 0))
        return apart
    if probabilities.shape[2] == 1:
        distance: NDArray[np.float32] = np.abs(probabilities[:, :, 0] - np.float32(threshold))
        return distance
    every = np.concatenate([1 - probabilities.sum(2, keepdims=True), probabilities], 2)
    second, first = np.moveaxis(np.sort(every, axis=2)[:, :, -2:], 2, 0)
    margin: NDArray[np.float32] = (first - second) / 2
    return margin
