"""`inspect`: a net layer by layer, from the catalogue or from a trained model, with a drawing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketseg.errors import ModelFileError, RecipeError, RunError, near
from pocketseg.files import write_atomically
from pocketseg.flows.loading import checkpoint_of, require_torch
from pocketseg.flows.tables import bytes_text, pixels_text, si
from pocketseg.recipes.loading import parse_yaml
from pocketseg.reporting import draw_architecture

if TYPE_CHECKING:
    from torch import nn

    from pocketseg.quant import Storage
    from pocketseg.training.model import Model

SIZE = (256, 256)


@dataclass(frozen=True)
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

    def json(self) -> str:
        """Everything as text; equal nets give equal bytes."""
        content = {"net": self.options, "totals": self.totals, "layers": self.layers}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"

    def drawing(self) -> tuple[bytes, bytes]:
        """The net as SVG and as PNG."""
        facts = (
            f"{self.totals['parameters']:,} parameters", f"{si(self.totals['macs'])} multiply-accumulates",
            f"{bytes_text(self.totals['peak_bytes'])} of activations at the peak",
            f"receptive field {pixels_text(self.totals['receptive_field'])}",
        )  # fmt: skip
        return draw_architecture(self.title, " · ".join(facts), self.layers)

    def save(self, folder: Path, suffixes: Sequence[str] = ("json", "svg", "png")) -> list[Path]:
        """Write architecture.json, architecture.svg and architecture.png, or some of them."""
        svg, png = self.drawing()
        known: dict[str, bytes | str] = {"json": self.json(), "svg": svg, "png": png}
        contents = {suffix: known[suffix] for suffix in suffixes}
        paths = [folder / f"architecture.{suffix}" for suffix in contents]
        for path, content in zip(paths, contents.values(), strict=True):
            write_atomically(path, content)
        return paths


def inspect(
    source: str | Path,
    *,
    size: tuple[int, int] | None = None,
    in_channels: int | None = None,
    classes: int | None = None,
    overrides: Sequence[str] = (),
    fold: int = 0,
) -> Inspection:
    """A net of the catalogue, or the net of a trained model, layer by layer.

    Args:
        source: name in the catalogue, run folder, a stage's folder, best.safetensors or packed.safetensors. A folder
            that is called like a net needs a path: ./unet.
        size: (height, width) of the image; default 256×256, or what the model was trained on.
        in_channels: of a net of the catalogue; default 1.
        classes: of a net of the catalogue; default 1.
        overrides: `option=value` for a net of the catalogue.
        fold: of a run folder.

    Raises:
        RecipeError: there is no such net, option or size.
        ModelFileError: there is no such model.
    """
    require_torch()
    from pocketseg.nets import NETS, default_options, skeleton

    if str(source) not in NETS:
        if overrides or in_channels is not None or classes is not None:
            raise RecipeError(
                str(source),
                "is no net of the catalogue, and a trained model has its options, channels and classes",
                f"leave --set, --in-channels and --classes out; or {near(str(source), NETS)}",
            )
        return inspect_model(trained_model(source, fold, NETS), size)
    from pocketseg.training.model import logit_count

    options, name = parse_options(overrides), str(source)
    channels = in_channels or 1
    core = skeleton(name, channels, logit_count(classes or 1), **options)
    height, width = size or padded(SIZE, core)
    return inspect_core(core, name, {"arch": name, **default_options(name), **options}, (channels, height, width))


def inspect_model(model: Model, size: tuple[int, int] | None = None) -> Inspection:
    """A model that is at hand, at the size of its pipeline or another.

    The layers of a quantised one say besides: `levels` that a channel really uses, share of `zeros`, `packed_bytes`
    of the codes, `floats` that stay f32 beside them; `bits` and `bytes` are those of the stored layer.
    """
    from pocketseg.nets import default_options, skeleton
    from pocketseg.quant import storage, stored_bytes
    from pocketseg.training.model import logit_count

    name = model.net_options["arch"]
    options = {"arch": name, **default_options(name), **model.net_options}
    channels, classes = model.pipeline.channels, len(model.pipeline.classes)
    core = skeleton(in_channels=channels, out_channels=logit_count(classes), **model.net_options)
    found = inspect_core(core, name, options, (channels, *(size or model.pipeline.net_size)))
    if model.quant is None:
        return found
    core = model.integer_core()
    rows, sizes = {row.name: row for row in storage(core)}, stored_bytes(core)
    layers = []
    for layer in found.layers:
        name = layer["name"]
        known = _stored(rows[name]) if name in rows else {}
        layers.append({**layer, **known, "bytes": sizes.get(name, layer["bytes"])})
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


def read_inspection(file: Path) -> Inspection:
    """What `Inspection.save` wrote.

    Raises:
        RunError: the file is damaged.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Inspection(content["net"]["arch"], content["net"], content["totals"], content["layers"])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            str(file), f"cannot be read ({error})", "remove it; the report is then without a drawing"
        ) from error


def padded(size: tuple[int, int], core: nn.Module) -> tuple[int, int]:
    """The size that a net really sees: the next multiples of its stride."""
    stride = int(core.stride)  # type: ignore[arg-type]
    return size[0] + -size[0] % stride, size[1] + -size[1] % stride


def parse_options(overrides: Sequence[str]) -> dict[str, Any]:
    """`width=16` as {"width": 16}.

    Raises:
        RecipeError: there is no "=", or the value is no YAML.
    """
    options = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name:
            raise RecipeError(f"--set {override}", "is not OPTION=VALUE", "for example --set width=16")
        options[name] = parse_yaml(text, f"--set {override}")
    return options


def trained_model(source: str | Path, fold: int, nets: Mapping[str, Any]) -> Model:
    """The model of a run folder or a checkpoint; names near to a wrong one are looked for among the nets."""
    from pocketseg.training.model import Model

    path = Path(source)
    path = checkpoint_of(path, fold)
    if not path.is_file():
        raise RecipeError(str(source), "is neither a net of the catalogue nor a trained model", near(str(source), nets))
    if path.suffix != ".safetensors":
        raise ModelFileError(
            str(path), "does not name the parts of the net", "give the run folder or best.safetensors that it came from"
        )
    return Model.load(path)
