"""Threads belong to the process that started them: what has some is reported when it finds itself in a forked child."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Threaded(Protocol):
    """What would wait for ever in a child: for threads, or for a lock that one of them holds."""

    def forked(self) -> None:
        """Leave threads and locks of the parent behind. It runs alone, before anything else does in the child."""


_living: weakref.WeakSet[Threaded] = weakref.WeakSet()


def call_in_forks(owner: Threaded) -> None:
    """From now on `owner.forked` is called in each forked child, as long as the owner lives."""
    _living.add(owner)


def _forked() -> None:
    for owner in list(_living):
        owner.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
