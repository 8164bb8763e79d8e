"""How fast nets are on another machine: the times that it measured, and estimates for nets between them."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pocketseg.errors import RecipeError
from pocketseg.files import MAX_TEXT, read_file
from pocketseg.search.shapes import Shape
from pocketseg.text import counted

FORMAT = "pocketseg device profile 1"
# Levels of the nets that are timed, and the sides of their inputs; nets of fewer levels at the middle one.
DEEP, SHALLOW = 5, 3
SIDES = (64, 128, 256)
MIDDLE = 1


@dataclass(frozen=True)
class Profile:
    """What a machine takes for nets of every width, kind and bits.

    Attributes:
        machine: that was measured.
        threads: that the engine had.
        isa: whose kernels ran.
        pocketseg: the version that measured.
        deep_ms: name of a net of `DEEP` levels -> milliseconds for inputs of `SIDES`.
        shallow_ms: name of a net of `SHALLOW` levels -> milliseconds at the middle side.
        channel_ms: name of a net of `DEEP` levels -> what another image channel takes at the middle side.
        logit_ms: the same of another logit.
        errors: of nets that were timed and no estimate used: estimate to time, 0.1 is 10 % too much.
    """

    machine: str
    threads: int
    isa: str
    pocketseg: str
    deep_ms: Mapping[str, Sequence[float]]
    shallow_ms: Mapping[str, float]
    channel_ms: Mapping[str, float]
    logit_ms: Mapping[str, float]
    errors: Sequence[float] = ()

    def estimate(self, shape: Shape, size: Sequence[int], channels: int = 1, logits: int = 1) -> float:
        """Milliseconds of a net for an input (height, width), which is brought to multiples of its stride.

        Between two inputs that were timed, and beyond them, it is a straight line in the logarithms of pixels and time.
        A level more or less costs what it does at the middle one, a channel and a logit so for each pixel.

        Raises:
            RecipeError: no net of this width and kind was timed.
        """
        deep, shallow = (replace(shape, blocks=blocks).name for blocks in (DEEP, SHALLOW))
        if not (
            deep in self.deep_ms and deep in self.channel_ms and deep in self.logit_ms and shallow in self.shallow_ms
        ):
            what = f"has no time of {deep}"
            raise RecipeError("--profile", what, "make it again with this version: pocketseg benchmark --profile FILE")
        stride = 2**shape.blocks
        pixels: int = math.prod(-(-side // stride) * stride for side in size)
        times = self.deep_ms[deep]
        at = 0 if pixels <= SIDES[1] ** 2 else 1
        (low, high), (fast, slow) = (
            (math.log(side**2) for side in SIDES[at : at + 2]),
            map(math.log, times[at : at + 2]),
        )
        found = math.exp(fast + (slow - fast) * (math.log(pixels) - low) / (high - low))
        level = max(0.0, times[MIDDLE] - self.shallow_ms[shallow]) / (DEEP - SHALLOW)
        more = (channels - 1) * self.channel_ms[deep] + (logits - 1) * self.logit_ms[deep]
        return max(found / 10, found + (shape.blocks - DEEP) * level) + more * pixels / SIDES[MIDDLE] ** 2

    @property
    def typical_error(self) -> float:
        """The median of its errors, without sign; 0 where none was measured."""
        return statistics.median(map(abs, self.errors)) if self.errors else 0.0

    @property
    def said(self) -> str:
        """The machine, and how good estimates are there."""
        if not self.errors:
            return f"{self.name}; how good its estimates are was not measured"
        largest, nets = max(map(abs, self.errors)), counted(len(self.errors), "net")
        return (
            f"{self.name}; estimates there were off by {100 * self.typical_error:.0f} % in the median and "
            f"{100 * largest:.0f} % at most, for {nets} that none rests on"
        )

    @property
    def name(self) -> str:
        return f"{self.machine}, {self.isa}, {counted(self.threads, 'thread')}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text().encode()).hexdigest()

    def text(self) -> str:
        """As its file has it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n"

    @classmethod
    def of(cls, content: Mapping[str, object]) -> Profile:
        """What `text` wrote, read as JSON.

        Raises:
            ValueError: it is something else, or has times that cannot be.
        """
        values = dict(content)
        if values.pop("format", None) != FORMAT:
            raise ValueError(f"it does not say that it is a {FORMAT}")
        found = cls(**values)  # type: ignore[arg-type]
        times = [*found.shallow_ms.values(), *(each for row in found.deep_ms.values() for each in row)]
        if any(len(row) != len(SIDES) for row in found.deep_ms.values()) or not all(map(_positive, times)):
            raise ValueError("its times are not numbers above 0 for each input")
        others = [*found.errors, *found.channel_ms.values(), *found.logit_ms.values()]
        if not all(isinstance(each, float | int) and math.isfinite(each) for each in others):
            raise ValueError("its errors, or what channels and logits take, are not numbers")
        return found

    @classmethod
    def read(cls, path: str | Path) -> Profile:
        """Of a file.

        Raises:
            RecipeError: it is not there, or is no profile.
        """
        try:
            return cls.of(json.loads(read_file(Path(path), MAX_TEXT)))
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            fix = "make one on that machine: pocketseg benchmark --profile FILE"
            raise RecipeError(f"--profile {path}", f"is not a device profile ({error})", fix) from None


def _positive(value: object) -> bool:
    return isinstance(value, float | int) and 0 < value < math.inf
