"""`inspect model.pseg`: what the engine does, instruction by instruction. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pocketseg.engine import program as p
from pocketseg.engine.codec import program_in
from pocketseg.engine.container import Container
from pocketseg.engine.program import operation_text
from pocketseg.engine.session import JOINED, Session
from pocketseg.grids import BinaryPlanes, PowersOfTwo, Quantization, Uniform
from pocketseg.pipeline import Pipeline
from pocketseg.predictors import default_threads, read_pseg, warn_if_plain
from pocketseg.text import bytes_text, counted

COLUMNS = ["operation", "in", "out", "weights", "bytes", "then", "written as", "kernel"]


@dataclass(frozen=True)
class PackedInspection:
    """A row for each instruction, in the words of `COLUMNS`, and metadata with their names."""

    rows: list[list[str]]
    metadata: list[tuple[str, str]]

    def json(self) -> str:
        """Both as one object: `instructions`, each by the names of `COLUMNS`, and the metadata by theirs."""
        instructions = [dict(zip(COLUMNS, row, strict=True)) for row in self.rows]
        return json.dumps({**dict(self.metadata), "instructions": instructions}, indent=1, ensure_ascii=False) + "\n"


def inspect_packed(path: str | Path) -> PackedInspection:
    """What is in a packed model.

    Raises:
        ModelFileError: missing, damaged, of another kind, or too new.
    """
    path = Path(path)
    content = read_pseg(path)
    program, container = program_in(content, str(path))
    session, card = Session(content, str(path), default_threads()), container.card
    warn_if_plain(session.isa)
    height, width = Pipeline.from_dict(card.get("pipeline"), str(path)).net_size
    memory = bytes_text(session.arena_bytes(height, width))
    metadata = [
        ("precision", str(card.get("precision", "not stated"))),
        ("parameters", f"{card['parameters']:,}" if isinstance(card.get("parameters"), int) else "not stated"),
        ("file", f"{len(content):,} bytes: {_parts(container)}"),
        ("memory", f"{memory} for {height}×{width} and {counted(session.threads, 'thread')}"),
        ("on every machine", "the same bytes" if program.exact else "the same within rounding"),
        ("kernels", session.isa),
        ("tuned for", _tuned(program, session.isa)),
    ]
    rows = [[*row, kernel or JOINED] for row, kernel in zip(_rows(program), session.kernels, strict=True)]
    return PackedInspection(rows, metadata)


def _tuned(program: p.Program, isa: str) -> str:
    if program.hints is None:
        return "no machine: the first kernel that fits runs"
    machine, count = program.hints.machine, len(program.hints.kernels)
    here = "" if machine == isa else f", and not for {isa}, which runs here"
    return f"{machine}, in {counted(count, 'instruction')}{here}"


def _parts(container: Container) -> str:
    return f"{len(container.program):,} of program, {len(container.data):,} of weights and constants"


def _rows(program: p.Program) -> Iterator[list[str]]:
    for each in program.instructions:
        into = [str(view.channels) for view in each.reads] or [str(program.in_channels)]
        out = [str(view.channels) for view in each.writes[:1]] or [str(program.out_channels)]
        forms = [_form(program.buffers[view.buffer].grid) for view in each.writes]
        steps = ", ".join(p.name_of(step) for step in each.steps)
        yield [
            operation_text(each.operation),
            *into,
            *out,
            *_weights(each.operation),
            steps or "–",
            ", ".join(forms) or "–",
        ]


def _weights(operation: p.Operation) -> tuple[str, str]:
    if not isinstance(operation, p.Convolution | p.Transposed):
        return "–", "–"
    weights = operation.weights
    planes = f"{weights.planes} planes of " if weights.planes > 1 else ""
    return f"{planes}{weights.kind}, {weights.bits} bit", bytes_text(len(weights.data))


def _form(grid: Quantization | None) -> str:
    match grid:
        case None:
            return "f32"
        case Uniform():
            return f"codes {grid.lowest} … {grid.highest}"
        case PowersOfTwo():
            return f"powers Q{grid.i}.{grid.f}"
        case BinaryPlanes():
            return f"{len(grid.gammas)}-bit planes" if len(grid.gammas) > 1 else "bits"
