"""Turns, what counts in them, and ratios; with calls that take as long as a clock of our own says."""

from __future__ import annotations

import pytest

from pocketseg import timing
from pocketseg.timing import Timing, in_turns


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a call lets them."""

    class Clock:
        now = 0.0

        def perf_counter(self) -> float:
            return self.now

        def sleep(self, seconds: float) -> None:
            self.now += seconds

    found = Clock()
    monkeypatch.setattr(timing, "time", found)
    return found


class Call:
    """A call that takes the next of some times, then the last again and again, and notes when it began."""

    def __init__(self, clock, name: str, log: list[str], *milliseconds: float) -> None:
        self.clock, self.name, self.log = clock, name, log
        self.times = list(milliseconds)

    def __call__(self) -> None:
        self.log.append(self.name)
        self.clock.now += (self.times.pop(0) if len(self.times) > 1 else self.times[0]) / 1000


def test_rivals_take_turns_and_what_sets_up_does_not_count(clock):
    log: list[str] = []
    # The first call of all, two settling calls of the first turn; then 4 ms.
    a, b = Call(clock, "a", log, 500, 90, 90, 4), Call(clock, "b", log, 10)
    found = in_turns({"a": a, "b": b}, turns=3, turn_s=0.05)
    assert found["a"].first_ms == pytest.approx(500)
    assert found["a"].calls_ms == pytest.approx([4] * len(found["a"].calls_ms))
    assert found["b"].median_ms == pytest.approx(10)
    assert len(found["a"].turns_ms) == len(found["b"].turns_ms) == 3
    order = [name for name, before in zip(log[2:], [None, *log[2:]], strict=False) if name != before]
    assert "".join(log[:2]) == "ab" and "".join(order) == "ababab"
    # 50 ms: 20 for settling, three that count and begin before the end.
    assert len(found["b"].calls_ms) == 9


def test_a_slow_one_has_few_turns_of_one_call(clock):
    log: list[str] = []
    found = in_turns({"slow": Call(clock, "s", log, 3000), "quick": Call(clock, "q", log, 1)}, turns=8, turn_s=0.01)
    assert log.count("s") == 1 + timing.SLOW_TURNS and len(found["slow"].turns_ms) == timing.SLOW_TURNS
    assert len(found["quick"].turns_ms) == 8
    assert found["slow"].ratio(found["quick"])[0] == pytest.approx(3000)


def test_ratios_go_turn_by_turn():
    """The machine is half as fast in the second turn, for both."""
    mine, its = Timing([2, 4, 2], [2, 4, 2], 0), Timing([1, 2, 1], [1, 2, 1], 0)
    assert mine.ratio(its) == (2, (2, 2)) and its.ratio(mine)[0] == 0.5


def test_quartiles_hold_the_middle_half():
    assert Timing([1, 2, 3, 4, 5], [3], 0).quartiles_ms == (2, 4)
    assert Timing([7], [7], 0).quartiles_ms == (7, 7)
