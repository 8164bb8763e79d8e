"""`nets`: what every net of the catalog costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pocketseg.errors import Problem, RecipeError, near
from pocketseg.flows.inspect import SIZE, padded
from pocketseg.packages import require_torch
from pocketseg.text import bytes_text, pixels_text, si


def nets(
    names: Sequence[str] = (), *, in_channels: int = 1, classes: int = 1, size: tuple[int, int] = SIZE
) -> list[dict[str, Any]]:
    """Costs of nets of the catalog with their default options, one mapping a net.

    Args:
        names: which; default all.
        in_channels: image channels.
        classes: foreground classes.
        size: (height, width) of the image; each net gets the next multiple of its stride.

    Returns:
        name, and the fields of `pocketseg.nets.cost.Cost` without the layers.

    Raises:
        RecipeError: there is no such net.
    """
    require_torch()
    from pocketseg.nets import NETS, skeleton
    from pocketseg.nets.cost import cost
    from pocketseg.training.model import logit_count

    unknown = [name for name in names if name not in NETS]
    if unknown:
        raise RecipeError.of([Problem(f"net {name!r}", "is not in the catalog", near(name, NETS)) for name in unknown])
    rows = []
    for name in names or NETS:
        core = skeleton(name, in_channels, logit_count(classes))
        row = {"name": name, **asdict(cost(core, (in_channels, *padded(size, core))))}
        del row["layers"]
        rows.append(row)
    return rows


NET_COLUMNS = ["net", "parameters", "buffers", "MACs", "receptive field", "largest activation", "peak", "weights"]


def net_row(row: Mapping[str, Any]) -> list[str]:
    """The costs of a net as the cells of NET_COLUMNS."""
    return [
        row["name"], f"{row['parameters']:,}", f"{row['buffers']:,}", si(row["macs"]),
        pixels_text(row["receptive_field"]), bytes_text(row["largest_activation_bytes"]),
        bytes_text(row["peak_bytes"]), bytes_text(row["bytes"]),
    ]  # fmt: skip
