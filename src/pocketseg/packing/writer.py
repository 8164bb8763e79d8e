"""A torch net as a program, and as the bytes of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from torch import nn

from pocketseg.engine import program as p
from pocketseg.engine.codec import encode
from pocketseg.engine.container import Container
from pocketseg.packing.lower import lowered
from pocketseg.packing.passes import optimized
from pocketseg.packing.schedule import scheduled
from pocketseg.packing.weights import rounded_to_bf16

FloatWeights = Literal["f32", "bf16"]


def program_of(core: nn.Module, in_channels: int, *, float_weights: FloatWeights = "f32") -> p.Program:
    """The program of a net.

    Args:
        core: a net without its size wrapper; of a quantised model its integer net.
        in_channels: of the image.
        float_weights: how weights that are f32 are stored.

    Raises:
        ModelFileError: it does something that the engine has no operation for.
    """
    program = scheduled(optimized(lowered(core.eval(), in_channels)))
    return program if float_weights == "f32" else _in_bf16(program)


def _in_bf16(program: p.Program) -> p.Program:
    def stored(operation: p.Operation) -> p.Operation:
        if isinstance(operation, p.Convolution | p.Transposed) and operation.weights.kind == "f32":
            return dataclasses.replace(operation, weights=rounded_to_bf16(operation.weights))
        return operation

    changed = (dataclasses.replace(each, operation=stored(each.operation)) for each in program.instructions)
    return dataclasses.replace(program, instructions=tuple(changed))


def file_of(program: p.Program, card: Mapping[str, Any]) -> bytes:
    """The bytes of a file."""
    return Container(card, *encode(program)).to_bytes()
