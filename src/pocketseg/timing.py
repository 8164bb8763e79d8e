"""How long calls take: rivals in turns, because a machine whose speed drifts must treat all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pocketseg.text import brief, counted

Name = TypeVar("Name", bound=Hashable)

# Thread pools of other runtimes go on looking for work for some milliseconds after a call.
REST_S = 0.02
# Calls at the beginning of a turn that find the caches and the threads of the one before.
SETTLING_CALLS = 2
SLOW_TURNS = 3


@dataclass(frozen=True, repr=False)
class Timing:
    """What a rival took.

    Attributes:
        calls_ms: every call that counts, in order.
        turns_ms: the median of each turn.
        first_ms: the first call of all, which sets things up and counts nowhere else.
    """

    calls_ms: list[float]
    turns_ms: list[float]
    first_ms: float

    def __repr__(self) -> str:
        return brief(self, f"{self.median_ms:.2f} ms, the median of {counted(len(self.calls_ms), 'call')}")

    @property
    def median_ms(self) -> float:
        return statistics.median(self.calls_ms)

    @property
    def quartiles_ms(self) -> tuple[float, float]:
        """Between these lies the middle half of the calls."""
        return _quartiles(self.calls_ms)

    def ratio(self, other: Timing) -> tuple[float, tuple[float, float]]:
        """How many times the other's time this one takes, over the turns that both had: median and quartiles.

        Example:
            >>> slow = Timing([4, 4, 8], [4, 4, 8], 9)
            >>> slow.ratio(Timing([2, 2, 2], [2, 2, 2], 2))
            (2.0, (2.0, 3.0))
        """
        ratios = [mine / its for mine, its in zip(self.turns_ms, other.turns_ms, strict=False)]
        return statistics.median(ratios), _quartiles(ratios)


def in_turns(
    rivals: Mapping[Name, Callable[[], object]], *, turns: int = 10, turn_s: float = 0.1, slow_s: float = 1.0
) -> dict[Name, Timing]:
    """Time every rival interleaved.

    Args:
        rivals: what to call, by name.
        turns: of each.
        turn_s: how long a turn goes on; it has at least one call that counts.
        slow_s: a rival whose first call takes longer has a few turns of a single call.
    """
    found = {name: Timing([], [], _call_ms(call)) for name, call in rivals.items()}
    for turn in range(turns):
        for name, call in rivals.items():
            slow = found[name].first_ms > 1000 * slow_s
            if slow and turn >= SLOW_TURNS:
                continue
            time.sleep(REST_S)
            took = [_call_ms(call)] if slow else _turn(call, turn_s)
            found[name].calls_ms.extend(took)
            found[name].turns_ms.append(statistics.median(took))
    return found


def _turn(call: Callable[[], object], turn_s: float) -> list[float]:
    ends = time.perf_counter() + turn_s
    for _ in range(SETTLING_CALLS):
        call()
    took = [_call_ms(call)]
    while time.perf_counter() < ends:
        took.append(_call_ms(call))
    return took


def _call_ms(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high
