"""`inspect --weights`: the weights of a trained net before and after quantization, and what enters its layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pocketseg.data.layouts.listing import image_files
from pocketseg.data.readers import read_image
from pocketseg.errors import DataError, ModelFileError, Problem, RecipeError
from pocketseg.files import try_output, write_atomically
from pocketseg.flows.inspect import trained_model
from pocketseg.packages import require_torch
from pocketseg.reporting import Column, Distribution, Table, WeightPages
from pocketseg.reporting import draw_weights as draw_pages
from pocketseg.runs.inspection import inspect_model
from pocketseg.text import bytes_text, counted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pocketseg.quant import Codes, Planes, Quantizer
    from pocketseg.training.model import Model

BINS = 60
COLUMNS = ["layer", "kind", "weights", "bits", "levels", "zeros", "bytes", "input bits"]


def draw_weights(source: str | Path, out: str | Path, *, images: Sequence[str | Path] = (), fold: int = 0) -> Path:
    """Draw the weights of a trained model, layer by layer; and what enters its layers, where images are given.

    Args:
        source: run folder or best.safetensors.
        out: .pdf, or .png with one page below the other.
        images: image files and folders, which are searched with everything below.
        fold: of a run folder.

    Returns:
        The file that was written.

    Raises:
        RecipeError: no trained model, or another suffix.
        ModelFileError: the model has no weights in f32, or some that are not finite.
        DataError: images that cannot be read, all at once, or none.
    """
    path = Path(out)
    kinds: dict[str, Literal["pdf", "png"]] = {".pdf": "pdf", ".png": "png"}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise RecipeError(f"--weights {out}", "ends neither in .pdf nor in .png", "for example --weights weights.pdf")
    files = image_list(images) if images else []
    try_output(path, *files)
    write_atomically(path, draw_pages(weight_pages(_latent(source, fold), files), kind))
    return path


def _latent(source: str | Path, fold: int) -> Model:
    require_torch()
    from pocketseg.nets import NETS

    if str(source) in NETS:
        what = "is a net of the catalog; its weights are drawn at random and say nothing"
        raise RecipeError(
            str(source), what, f"give a run folder or best.safetensors; a folder of that name: ./{source}"
        )
    model = trained_model(source, fold, NETS)
    if model.packed:
        what = "holds codes only; the weights before quantization were not stored in it"
        raise ModelFileError(str(source), what, "give best.safetensors, which lies beside it")
    return model


def image_list(inputs: Sequence[str | Path]) -> list[Path]:
    """The image files among files and folders."""
    files: list[Path] = []
    for path in map(Path, inputs):
        below = sorted(one for one in path.rglob("*") if one.is_dir())
        files += [file for folder in (path, *below) for file in image_files(folder)] if path.is_dir() else [path]
    if not files:
        raise DataError(", ".join(map(str, inputs)), "no images were found", "give image files, or a folder with some")
    return files


def weight_pages(model: Model, images: Sequence[Path] = ()) -> WeightPages:
    """All numbers behind the drawing."""
    found = inspect_model(model)
    rows = {row["name"]: row for row in found.layers}
    layers = _layers(model.net.core)
    stage = f"stage {model.metadata['stage']} · " if "stage" in model.metadata else ""
    note = f"{stage}{found.totals['parameters']:,} parameters · {bytes_text(found.totals['bytes'])} in all"
    cells = [_cells(name, layer, rows[name]) for name, layer in layers.items()]
    table = Table(found.title, [Column(name) for name in COLUMNS], cells, note)
    weights = [_weights(name, layer, rows[name]) for name, layer in layers.items()]
    return WeightPages(table, weights, _activations(model, layers, images) if images else (), len(images))


def _layers(core: nn.Module) -> dict[str, Any]:
    """The layers that multiply by weights, in the order in which they run."""
    from torch import nn

    from pocketseg.quant.apply import graph_of

    names = dict.fromkeys(str(node.target) for node in graph_of(core).nodes if node.op == "call_module")
    layers = {name: core.get_submodule(name) for name in names}
    kinds = nn.Conv2d | nn.ConvTranspose2d | nn.Linear
    return {name: layer for name, layer in layers.items() if isinstance(layer, kinds)}


def _cells(name: str, layer: Any, row: Mapping[str, Any]) -> list[str]:
    inputs = getattr(layer, "inputs", None)
    quantized = [str(row["levels"]), f"{row['zeros']:.1%}"] if "levels" in row else ["–", "–"]
    return [
        name, row["kind"], f"{layer.weight.numel():,}", str(row["bits"]), *quantized, bytes_text(row["bytes"]),
        "32" if inputs is None else str(inputs.spec.bits),
    ]  # fmt: skip


def _weights(name: str, layer: Any, row: Mapping[str, Any]) -> Distribution:
    weight = layer.weight.detach()
    quantizer: Quantizer | None = getattr(layer, "weights", None)
    spread = _Spread(name, quantizer)
    spread.widen(weight)
    spread.count(weight)
    if quantizer is None:
        return spread.distribution(f"32 bits · {weight.numel():,} weights", "weight")
    whole = quantizer.spec.axis is None
    levels = _plural(row["levels"], "level") + ("" if whole else " a channel")
    facts = f"{_plural(row['bits'], 'bit')} · {levels} · {row['zeros']:.1%} zeros"
    return spread.distribution(facts, "weight" if whole else "weight ÷ scale of its channel")


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


@dataclass
class _Spread:
    """Counts of numbers that come in parts: first all of them `widen` the range, then all are counted in it."""

    name: str
    quantizer: Quantizer | None
    low: float = np.inf
    high: float = -np.inf
    counts: Any = 0
    levels: Counter[float] = field(default_factory=Counter)

    def widen(self, x: Tensor) -> None:
        before = self._scaled(x)
        if not (finite := before.isfinite()).all():
            what = f"{int((~finite).sum())} of {counted(x.numel(), 'number')} are nan or inf"
            raise ModelFileError(f"layer {self.name}", what, "train the model again with a lower learning rate")
        self.low, self.high = min(self.low, float(before.min())), max(self.high, float(before.max()))

    def count(self, x: Tensor) -> None:
        import torch

        self.counts = self.counts + np.histogram(self._scaled(x).numpy(), self._edges())[0]
        if self.quantizer is not None:
            values, counts = torch.unique(positions(self.quantizer.quantize(x)), return_counts=True)
            self.levels.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))

    def distribution(self, facts: str, label: str) -> Distribution:
        edges = self._edges().tolist()
        return Distribution(self.name, facts, label, edges, self.counts.tolist(), sorted(self.levels.items()))

    def _edges(self) -> Any:
        return np.histogram_bin_edges([], BINS, (self.low, self.high))

    def _scaled(self, x: Tensor) -> Tensor:
        """What is on the axis: x itself, or in the units of its channel where each has its own."""
        spec = None if self.quantizer is None else self.quantizer.spec
        if self.quantizer is None or spec is None or spec.axis is None:
            return x.float()
        return _divided(x.float(), _unit(self.quantizer.state(x).scale.detach()), spec.axis)


def positions(codes: Codes | Planes) -> Tensor:
    """The values, in the units of their channel where each has its own: where the levels of all channels meet."""
    from pocketseg.quant import Planes

    if codes.axis is None:
        return codes.values()
    if isinstance(codes, Planes):
        return _divided(codes.values(), _unit(codes.gamma), codes.axis)
    numbers = codes.codes.float()
    return numbers if codes.zero_point is None else numbers - _along(codes.zero_point.float(), codes.axis, numbers.ndim)


def _unit(scale: Tensor) -> Tensor:
    """(c,) from the scales of channels; of planes, the largest value there is."""
    return scale.sum(dim=0) if scale.ndim == 2 else scale


def _divided(x: Tensor, unit: Tensor, axis: int) -> Tensor:
    """A channel whose scale is 0 holds nothing but 0."""
    import torch

    unit = _along(unit, axis, x.ndim)
    return torch.where(unit > 0, x / unit, torch.zeros_like(x))


def _along(t: Tensor, axis: int, ndim: int) -> Tensor:
    from pocketseg.quant.codes import along

    return along(t, axis, ndim)


def _activations(model: Model, layers: Mapping[str, Any], images: Sequence[Path]) -> list[Distribution]:
    """What enters the layers of the trained net: run twice, for the ranges and for the counts, so nothing is held."""
    spreads = {name: _Spread(name, getattr(layer, "inputs", None)) for name, layer in layers.items()}
    _run(model, layers, images, {name: spread.widen for name, spread in spreads.items()})
    _run(model, layers, images, {name: spread.count for name, spread in spreads.items()})
    return [spread.distribution(_metadata(spread), "value") for spread in spreads.values()]


def _metadata(spread: _Spread) -> str:
    total = int(spread.counts.sum())
    if spread.quantizer is None:
        return f"32 bits · {total:,} values"
    spec = spread.quantizer.spec
    used = f"{len(spread.levels)} of {spec.levels} levels used"
    return f"{_plural(spec.bits, 'bit')} · {used} · {spread.levels[0.0] / total:.1%} zeros"


def _run(
    model: Model, layers: Mapping[str, Any], images: Sequence[Path], listeners: Mapping[str, Callable[[Tensor], None]]
) -> None:
    """Run the net on all images; what enters a layer goes to its listener."""
    from pocketseg.training.model import torch_forward

    def hook(listen: Callable[[Tensor], None]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: listen(inputs[0])

    handles = [layers[name].register_forward_pre_hook(hook(listen)) for name, listen in listeners.items()]
    forward = torch_forward(model.net)
    problems: list[Problem] = []
    try:
        for path in images:
            try:
                model.pipeline.predict(read_image(path), forward)
            except DataError as error:
                problems += [
                    Problem(str(path), problem.what, problem.fix) if problem.where == "image" else problem
                    for problem in error.problems
                ]
    finally:
        for handle in handles:
            handle.remove()
    if problems:
        raise DataError.of(problems)
