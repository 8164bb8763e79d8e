"""A torch net as a program; `file_of` makes the bytes of a file of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

from torch import nn

from pocketseg.engine import program as p
from pocketseg.engine.codec import file_of
from pocketseg.halves import rounded
from pocketseg.packing.lower import lowered
from pocketseg.packing.passes import optimized
from pocketseg.packing.schedule import scheduled
from pocketseg.packing.weights import rounded_to_bf16

FloatWeights = Literal["f32", "bf16"]
Constants = Literal["f32", "f16"]

__all__ = ["Constants", "FloatWeights", "changed", "file_of", "program_of"]


def program_of(
    core: nn.Module, in_channels: int, *, float_weights: FloatWeights = "f32", constants: Constants = "f32"
) -> p.Program:
    """The program of a net.

    Args:
        core: a net without its size wrapper; of a quantized model its integer net.
        in_channels: of the image.
        float_weights: how weights that are f32 are stored.
        constants: how scales, biases and norms are: `f16` rounds them to 11 bits with an exponent for each layer.

    Raises:
        ModelFileError: it does something that the engine has no operation for.
    """
    program = scheduled(optimized(lowered(core.eval(), in_channels)))
    if float_weights == "bf16":
        program = changed(program, _in_bf16)
    return changed(program, _in_halves) if constants == "f16" else program


Part = p.Operation | p.Step


def changed(program: p.Program, change: Callable[[Part], Part]) -> p.Program:
    """The program with every operation and step changed."""
    instructions = (
        dataclasses.replace(each, operation=change(each.operation), steps=tuple(map(change, each.steps)))  # type: ignore[arg-type]
        for each in program.instructions
    )
    return dataclasses.replace(program, instructions=tuple(instructions))


def _in_bf16(part: Part) -> Part:
    if isinstance(part, p.Convolution | p.Transposed) and part.weights.kind == "f32":
        return dataclasses.replace(part, weights=rounded_to_bf16(part.weights))
    return part


def _in_halves(part: Part) -> Part:
    match part:
        case p.Convolution():
            return dataclasses.replace(part, m=None if part.m is None else rounded(part.m), b=rounded(part.b))
        case p.Transposed():
            return dataclasses.replace(part, b=rounded(part.b))
        case p.Affine():
            return p.Affine(rounded(part.m), rounded(part.b))
    return part
