"""`inspect model.pseg`: what the engine does, instruction by instruction. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pocketseg.engine import program as p
from pocketseg.engine.codec import decode
from pocketseg.engine.container import Container, read_container
from pocketseg.flows.tables import bytes_text
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import open_pseg

COLUMNS = ["operation", "in", "out", "weights", "bytes", "then", "written as"]


@dataclass(frozen=True)
class PackedInspection:
    """A row for each instruction, in the words of `COLUMNS`, and facts with their names."""

    rows: list[list[str]]
    facts: list[tuple[str, str]]


def inspect_packed(path: str | Path) -> PackedInspection:
    """What is in a packed model.

    Raises:
        ModelFileError: missing, damaged, of another kind, or too new.
    """
    path = Path(path)
    session, card = open_pseg(path)
    content = path.read_bytes()
    container = read_container(content, str(path))
    program = decode(container.program, container.data, str(path))
    height, width = Pipeline.from_dict(card.get("pipeline"), str(path)).net_size
    facts = [
        ("precision", str(card.get("precision", "not told"))),
        ("parameters", f"{card['parameters']:,}" if isinstance(card.get("parameters"), int) else "not told"),
        ("file", f"{len(content):,} bytes: {_parts(container)}"),
        ("memory", f"{bytes_text(session.arena_bytes(height, width))} for {height}×{width}, weights apart"),
        ("on every machine", "the same bytes" if program.exact else "the same within rounding"),
    ]
    return PackedInspection(list(_rows(program)), facts)


def _parts(container: Container) -> str:
    return f"{len(container.program):,} of program, {len(container.data):,} of weights and constants"


def _rows(program: p.Program) -> Iterator[list[str]]:
    for each in program.instructions:
        into = [str(view.channels) for view in each.reads] or [str(program.in_channels)]
        out = [str(view.channels) for view in each.writes[:1]] or [str(program.out_channels)]
        forms = [_form(program.storages[view.storage].grid) for view in each.writes]
        steps = ", ".join(p.name_of(step) for step in each.steps)
        yield [_name(each.operation), *into, *out, *_weights(each.operation), steps or "–", ", ".join(forms) or "–"]


def _name(operation: p.Operation) -> str:
    window = getattr(operation, "window", None)
    if not isinstance(window, p.Window):
        return p.name_of(operation)
    groups = getattr(operation, "groups", 1)
    notes = [f"/{window.stride[0]}"] * (window.stride[0] > 1) + [f"{groups} groups"] * (groups > 1)
    return " ".join([p.name_of(operation), "×".join(map(str, window.kernel)), *notes])


def _weights(operation: p.Operation) -> tuple[str, str]:
    if not isinstance(operation, p.Convolution | p.Transposed):
        return "–", "–"
    weights = operation.weights
    planes = f"{weights.planes} planes of " if weights.planes > 1 else ""
    return f"{planes}{weights.kind}, {weights.bits} bit", bytes_text(len(weights.data))


def _form(grid: p.Grid | None) -> str:
    match grid:
        case None:
            return "f32"
        case p.Uniform():
            return f"codes {grid.lowest} … {grid.highest}"
        case p.Powers():
            return f"powers Q{grid.i}.{grid.f}"
        case p.Signs():
            return f"{len(grid.gammas)}-bit planes" if len(grid.gammas) > 1 else "bits"
