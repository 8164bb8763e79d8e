"""`inspect`: a net layer by layer, from the catalog or from a trained model, with a drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketseg.errors import ModelFileError, RecipeError, near
from pocketseg.packages import require_torch
from pocketseg.recipes.loading import parse_yaml
from pocketseg.runs.inspection import Inspection, inspect_core, inspect_model
from pocketseg.runs.source import ModelSource

if TYPE_CHECKING:
    from torch import nn

    from pocketseg.training.model import Model

SIZE = (256, 256)


def inspect(
    source: str | Path,
    *,
    size: tuple[int, int] | None = None,
    in_channels: int | None = None,
    classes: int | None = None,
    overrides: Sequence[str] = (),
    fold: int = 0,
) -> Inspection:
    """A net of the catalog, or the net of a trained model, layer by layer.

    Args:
        source: name in the catalog, run folder, a stage's folder, best.safetensors or packed.safetensors. A folder
            that is called like a net needs a path: ./unet.
        size: (height, width) of the image; default 256×256, or what the model was trained on.
        in_channels: of a net of the catalog; default 1.
        classes: of a net of the catalog; default 1.
        overrides: `option=value` for a net of the catalog.
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
                "is not a net of the catalog, and a trained model has its options, channels and classes",
                f"leave --set, --in-channels and --classes out; or {near(str(source), NETS)}",
            )
        return inspect_model(trained_model(source, fold, NETS), size)
    from pocketseg.training.model import logit_count

    options, name = parse_options(overrides), str(source)
    channels = in_channels or 1
    core = skeleton(name, channels, logit_count(classes or 1), **options)
    height, width = size or padded(SIZE, core)
    return inspect_core(core, name, {"arch": name, **default_options(name), **options}, (channels, height, width))


def padded(size: tuple[int, int], core: nn.Module) -> tuple[int, int]:
    """The size that a net really sees: the next multiples of its stride."""
    stride = int(core.stride)  # type: ignore[arg-type]
    return size[0] + -size[0] % stride, size[1] + -size[1] % stride


def parse_options(overrides: Sequence[str]) -> dict[str, Any]:
    """`width=16` as {"width": 16}.

    Raises:
        RecipeError: there is no "=", or the value is not YAML.
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

    path = ModelSource.resolve(source, fold).trained()
    if not path.is_file():
        raise RecipeError(str(source), "is neither a net of the catalog nor a trained model", near(str(source), nets))
    if path.suffix != ".safetensors":
        raise ModelFileError(
            str(path), "does not name the parts of the net", "give the run folder or best.safetensors that it came from"
        )
    return Model.load(path)
