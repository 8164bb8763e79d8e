"""Small packed models, made once."""

from __future__ import annotations

import dataclasses
import sys
from functools import cache
from pathlib import Path
from typing import Literal

from pocketseg.engine.container import Container, read_container
from pocketseg.packing.writer import file_of, program_of
from pocketseg.quant import integer_net

sys.path.insert(0, str(Path(__file__).parents[2] / "contract"))
from test_quantized_nets import trained


@cache
def packed(name: str = "thin_unet", text: str = "w2a8", constants: Literal["f32", "f16"] = "f32") -> bytes:
    """A net of the quantised contract under a scheme."""
    program = program_of(integer_net(trained(name, text).core), 1, constants=constants)
    return file_of(program, {"hello": "world"})


def changed(content: bytes, **sections: bytes) -> bytes:
    """The file with other sections and a right digest."""
    return dataclasses.replace(read_container(content, "here"), **sections).to_bytes()


__all__ = ["Container", "changed", "packed"]
