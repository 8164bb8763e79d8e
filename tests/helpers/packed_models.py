"""Small packed models, made once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Literal

from helpers.quantized_nets import trained
from pocketseg.engine.codec import file_of, program_in
from pocketseg.engine.container import Container, read_container
from pocketseg.engine.program import KernelHints
from pocketseg.engine.session import Session
from pocketseg.packing.compile import program_of
from pocketseg.quant import integer_net


@cache
def packed(
    name: str = "thin_unet", text: str = "w2a8", constants: Literal["f32", "f16"] = "f32", kernel: str | None = None
) -> bytes:
    """A net of the quantized contract under a scheme; it may ask for a kernel, wherever that fits, on this machine."""
    program = program_of(integer_net(trained(name, text).core), 1, constants=constants)
    plain = file_of(program, {"hello": "world"})
    return plain if kernel is None else asking(plain, dict.fromkeys(range(len(program.instructions)), kernel))


def asking(content: bytes, kernels: Mapping[int, str], machine: str | None = None) -> bytes:
    """The file, asking for kernels; on machines like this one where none is named."""
    program, container = program_in(content, "here")
    hints = KernelHints(machine or Session(content, "here").isa, kernels)
    return file_of(dataclasses.replace(program, hints=hints), container.card)


def changed(content: bytes, **sections: bytes) -> bytes:
    """The file with other sections and a right digest."""
    return dataclasses.replace(read_container(content, "here"), **sections).to_bytes()


__all__ = ["Container", "asking", "changed", "packed"]
