"""A net layer by layer, what each layer costs, and its drawing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pocketseg import notebook
from pocketseg.errors import RunError
from pocketseg.files import write_atomically
from pocketseg.reporting import draw_architecture
from pocketseg.text import brief, bytes_text, counted, pixels_text, si

if TYPE_CHECKING:
    from torch import nn

    from pocketseg.quant import Storage
    from pocketseg.training.model import Model

# What quantized nets have in the place of ReLU, by its class.
REPLACED = {"Hardtanh": "clip to ±1", "TernaryTanhActivation": "ternary tanh"}


@dataclass(frozen=True, repr=False)
class Inspection:
    """A net and what it costs.

    Attributes:
        title: what the net is called.
        options: arch and all options with their values.
        totals: see `pocketseg.nets.cost.Cost`; bytes are numbers of bytes, the receptive field is in pixels.
        layers: one mapping a layer, see `pocketseg.nets.cost.Layer`.
    """

    title: str
    options: Mapping[str, Any]
    totals: Mapping[str, Any]
    layers: Sequence[Mapping[str, Any]]

    def __repr__(self) -> str:
        costs = f"{self.totals['parameters']:,} parameters, {si(self.totals['macs'])} multiply-accumulates"
        return brief(self, f"{self.title}, {counted(len(self.layers), 'layer')}, {costs}")

    def _repr_html_(self) -> str:
        """What the net costs, and its layers, for notebooks."""
        return notebook.facts({"net": self.title, **dict(totals(self.totals))}) + notebook.table(
            *layer_table(self.layers)
        )

    def json(self) -> str:
        """Everything as text; equal nets give equal bytes."""
        content = {"net": self.options, "totals": self.totals, "layers": self.layers}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def drawing(self) -> tuple[bytes, bytes]:
        """The net as SVG and as PNG."""
        metadata = (
            f"{self.totals['parameters']:,} parameters", f"{si(self.totals['macs'])} multiply-accumulates",
            f"{bytes_text(self.totals['peak_bytes'])} of activations at the peak",
            f"receptive field {pixels_text(self.totals['receptive_field'])}",
        )  # fmt: skip
        return draw_architecture(self.title, " · ".join(metadata), self.layers)

    def save(self, folder: Path, suffixes: Sequence[str] = ("json", "svg", "png")) -> list[Path]:
        """Write architecture.json, architecture.svg and architecture.png, or some of them."""
        svg, png = self.drawing()
        known: dict[str, bytes | str] = {"json": self.json(), "svg": svg, "png": png}
        contents = {suffix: known[suffix] for suffix in suffixes}
        paths = [folder / f"architecture.{suffix}" for suffix in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            write_atomically(path, content)
        return paths


def inspect_model(model: Model, size: tuple[int, int] | None = None) -> Inspection:
    """A model that is at hand, at the size of its pipeline or another.

    The layers of a quantized one say besides: `levels` that a channel really uses, share of `zeros`, `packed_bytes`
    of the codes, `floats` that stay f32 beside them; `bits` and `bytes` are those of the stored layer.
    """
    from pocketseg.nets import default_options, skeleton
    from pocketseg.quant import storage, stored_bytes

    name = model.net_options["arch"]
    options = {"arch": name, **default_options(name), **model.net_options}
    channels = model.pipeline.channels
    core = skeleton(in_channels=channels, out_channels=model.pipeline.logits, **model.net_options)
    found = inspect_core(core, name, options, (channels, *(size or model.pipeline.net_size)))
    if model.quant is None:
        return found
    replaced = {
        name: kind for name, module in model.net.core.named_modules() if (kind := REPLACED.get(type(module).__name__))
    }
    core = model.integer_core()
    rows, sizes = {row.name: row for row in storage(core)}, stored_bytes(core)
    layers = []
    for layer in found.layers:
        name = layer["name"]
        known = _stored(rows[name]) if name in rows else {}
        kind = replaced.get(name, layer["kind"]) if layer["kind"].startswith("ReLU") else layer["kind"]
        layers.append({**layer, "kind": kind, **known, "bytes": sizes.get(name, layer["bytes"])})
    totals = {**found.totals, "bytes": sum(layer["bytes"] for layer in layers)}
    return Inspection(f"{found.title}, {model.quant['scheme']}", {**options, "quant": model.quant}, totals, layers)


def _stored(row: Storage) -> dict[str, Any]:
    keys = ("bits", "levels", "zeros", "nominal_bits", "packed_bytes", "floats")
    return {key: getattr(row, key) for key in keys}


def inspect_core(
    core: nn.Module, title: str, options: Mapping[str, Any], input_shape: tuple[int, int, int]
) -> Inspection:
    """A net that is at hand. It is neither changed nor run."""
    from pocketseg.nets.cost import cost

    found = asdict(cost(core, input_shape))
    layers = found.pop("layers")
    return Inspection(title, dict(options), found, layers)


Count = Annotated[int, Field(ge=0)]


class _StoredLayer(BaseModel):
    """A layer in architecture.json; a quantized one says more."""

    model_config = ConfigDict(strict=True, extra="allow")

    name: str
    kind: str
    stage: str
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3)]
    inputs: list[str]
    parameters: Count
    buffers: Count
    macs: Count
    bits: Count
    bytes: Count


class _StoredTotals(BaseModel):
    """The costs of the net in architecture.json."""

    model_config = ConfigDict(strict=True, extra="allow")

    input_shape: Annotated[list[Count], Field(min_length=3, max_length=3)]
    parameters: Count
    buffers: Count
    macs: Count
    largest_activation_bytes: Count
    peak_bytes: Count
    receptive_field: Count | None
    bytes: Count


class _StoredNet(BaseModel):
    """The net's options in architecture.json."""

    model_config = ConfigDict(strict=True, extra="allow")

    arch: str


class _Stored(BaseModel):
    """Everything in architecture.json."""

    net: _StoredNet
    totals: _StoredTotals
    layers: Annotated[list[_StoredLayer], Field(min_length=1)]

    @model_validator(mode="after")
    def _in_order(self) -> _Stored:
        known: set[str] = set()
        for layer in self.layers:
            if not known.issuperset(layer.inputs):
                raise ValueError(f"{layer.name} reads what is not an earlier layer")
            known.add(layer.name)
        return self


def read_inspection(file: Path) -> Inspection:
    """What `Inspection.save` wrote.

    Raises:
        RunError: the file is damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        _Stored.model_validate(content)
    except (OSError, ValueError, RecursionError) as error:
        what = f"is damaged ({_first_line(error)})"
        raise RunError(str(file), what, "remove it; the report is then without a drawing") from error
    return Inspection(content["net"]["arch"], content["net"], content["totals"], content["layers"])


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        fault = error.errors()[0]
        return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
    return str(error).splitlines()[0]


LAYER_COLUMNS = ["layer", "kind", "shape", "parameters", "MACs", "bits", "weights"]


QUANT_COLUMNS = ["levels", "zeros", "packed", "floats"]


def layer_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of a net's layers; what a layer has not is a dash. A quantized net has more columns."""
    quantized = any("levels" in row for row in rows)
    return LAYER_COLUMNS + QUANT_COLUMNS * quantized, [_layer_row(row, quantized) for row in rows]


def _layer_row(row: Mapping[str, Any], quantized: bool) -> list[str]:
    cells = [
        row["name"], row["kind"], "×".join(map(str, row["shape"])),
        f"{row['parameters']:,}" if row["parameters"] else "–", si(row["macs"]) if row["macs"] else "–",
        str(row["bits"] or "–"), bytes_text(row["bytes"]) if row["bytes"] else "–",
    ]  # fmt: skip
    if "levels" in row:
        cells += [str(row["levels"]), f"{row['zeros']:.1%}", bytes_text(row["packed_bytes"]), f"{row['floats']:,}"]
    return cells + ["–"] * (len(LAYER_COLUMNS) + len(QUANT_COLUMNS) * quantized - len(cells))


def totals(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The costs of a whole net, each with its name."""
    return [
        ("input", "×".join(map(str, row["input_shape"]))), ("parameters", f"{row['parameters']:,}"),
        ("buffers", f"{row['buffers']:,}"), ("MACs", f"{row['macs']:,}"),
        ("receptive field", pixels_text(row["receptive_field"])),
        ("largest activation", bytes_text(row["largest_activation_bytes"])),
        ("peak of activations", bytes_text(row["peak_bytes"])),
        ("weights", bytes_text(row["bytes"])),
    ]  # fmt: skip
