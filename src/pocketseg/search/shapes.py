"""Shapes that a net may have, and which of them are worth a training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

WIDTHS = (8, 12, 16, 24, 32)
MOST_BLOCKS, LEAST_SIDE = 5, 3
# The bits of a net without quantizers.
FLOAT = "float"
# What the words of a stage's name mean as a scheme, the most bits first.
SCHEMES = {"int8": "w8a8", "int4": "w4a8", "ternary": "w2a8"}
KINDS: tuple[tuple[Literal["plain", "separable"], str], ...] = (
    ("plain", "int8"), ("plain", "int4"), ("plain", "ternary"), ("separable", "int8"),
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """A thin U-Net: channels, levels, kind of convolution, and the bits of the file that is wanted of it."""

    width: int
    blocks: int
    conv: Literal["plain", "separable"]
    bits: str

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.conv}-w{self.width}-n{self.blocks}-{self.bits}"

    @property
    def net(self) -> dict[str, Any]:
        return {"arch": "thin_unet", "width": self.width, "blocks": self.blocks, "conv": self.conv, "norm": "block"}

    def quant_of(self, bits: str) -> dict[str, Any]:
        """Constants in 16 bits are a part of what is trained, so a packed file always has them in 16 bits."""
        return {"scheme": SCHEMES[bits], "constants": "f16"}

    @classmethod
    def named(cls, name: str) -> Shape:
        """The shape of a name.

        Example:
            >>> Shape.named("plain-w16-n5-int4")
            Shape(width=16, blocks=5, conv='plain', bits='int4')
        """
        conv, width, blocks, bits = name.split("-")
        return cls(int(width[1:]), int(blocks[1:]), conv, bits)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Cost:
    """What a shape costs, known before it is trained.

    Attributes:
        size_bytes: of the packed file.
        arena_bytes: of memory for an image.
        ms: for the net's input, by the engine.
        float_bytes: of the file in floats.
        step_s: of a training step; 0 where it was not asked for.
    """

    size_bytes: int
    arena_bytes: int
    ms: float
    float_bytes: int
    step_s: float = 0.0


@dataclass(frozen=True)
class Budget:
    """What a file may cost at most; None is no limit."""

    size_bytes: int | None = None
    latency_ms: float | None = None
    memory_bytes: int | None = None

    def excess(self, size_bytes: int, arena_bytes: int, ms: float) -> str:
        """By what something is above the budget, in words; empty where it is not.

        Example:
            >>> Budget(size_bytes=40_000).excess(50_000, 0, 1.0), Budget().excess(50_000, 0, 1.0)
            ('48.8 KiB, above 39.1 KiB', '')
        """
        asked = (
            (size_bytes, self.size_bytes, 1024, "KiB"),
            (arena_bytes, self.memory_bytes, 2**20, "MiB of memory"),
            (ms, self.latency_ms, 1, "ms"),
        )
        return "; ".join(
            f"{have / unit:.1f} {name}, above {limit / unit:.1f} {name.split()[0]}"
            for have, limit, unit, name in asked
            if limit is not None and have > limit
        )

    def needed(self, size_bytes: int, arena_bytes: int, ms: float) -> list[str]:
        """The options of a budget that holds this, those that this one holds left out.

        Example:
            >>> Budget(size_bytes=40_000, latency_ms=5.0).needed(50_001, 0, 1.0)
            ['--size 51KB']
        """
        asked = (
            ("--size", size_bytes, self.size_bytes, 1000, "KB"),
            ("--memory", arena_bytes, self.memory_bytes, 1000, "KB"),
            ("--latency", ms, self.latency_ms, 1, "ms"),
        )
        return [
            f"{option} {math.ceil(have / step)}{unit}"
            for option, have, limit, step, unit in asked
            if limit is not None and have > limit
        ]


def ladder(size: Sequence[int]) -> list[Shape]:
    """All shapes for an input (height, width), the largest first."""
    deepest = max(1, min(MOST_BLOCKS, int(math.log2(min(size) / LEAST_SIDE))))
    depths = [deepest, *([deepest - 1] if deepest > 2 else [])]
    return [
        Shape(width, blocks, conv, bits)
        for width in sorted(WIDTHS, reverse=True)
        for blocks in depths
        for conv, bits in KINDS
    ]


def chosen(costs: dict[Shape, Cost], count: int) -> list[Shape]:
    """The shapes to train of those that fit: the widest of each kind, and others down to small files.

    Half of them (of each kind of convolution and bits the largest file) are the best that the budget can hold. The rest
    are spread evenly in the logarithm of bytes, down to an eighth of the largest: smaller files may do as well.
    """
    by_size = sorted(costs, key=lambda shape: (-costs[shape].size_bytes, shape.name))
    widest: dict[tuple[str, str], Shape] = {}
    for shape in by_size:
        widest.setdefault((shape.conv, shape.bits), shape)
    taken = list(widest.values())[: max(1, -(-count // 2))]
    largest, smallest = costs[by_size[0]].size_bytes, costs[by_size[-1]].size_bytes
    low, high = math.log(max(smallest, largest / 8)), math.log(largest)
    while len(taken) < min(count, len(by_size)):
        rest = count - len(taken)
        target = low + (high - low) * (rest - 1) / max(1, count - len(widest))
        free = [shape for shape in by_size if shape not in taken]
        taken.append(min(free, key=lambda shape: abs(math.log(costs[shape].size_bytes) - target)))
    return taken
