"""A net in somebody else's runtime: opened again wherever its threads are not."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.engine.forks import call_in_forks
from pocketseg.pipeline import Forward


class Runtime:
    """Net input f32 (n, c, h, w) to logits, by a session that is opened from bytes.

    In a forked child, in a copy, and where a pickle brings it, the session is opened again from the same bytes, which
    are kept for that.

    Args:
        opened: a class, or a function of a module: from the bytes and the arguments to what runs the net.
        content: the model file.
        arguments: numbers and texts.

    Attributes:
        session: what runs the net; None in a forked child that has not used it so far.
    """

    def __init__(self, opened: Callable[..., Forward], content: bytes, *arguments: Any) -> None:
        self._opened, self._content, self._arguments = opened, content, arguments
        self.session: Any = opened(content, *arguments)
        call_in_forks(self)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.session is None:
            self.session = self._opened(self._content, *self._arguments)
        logits: NDArray[np.float32] = self.session(batch)
        return logits

    def __reduce__(self) -> tuple[type[Runtime], tuple[Any, ...]]:
        return Runtime, (self._opened, self._content, *self._arguments)

    def forked(self) -> None:
        """The child never frees the session of its parent, which would wait for threads that are not there."""
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.session))
        self.session = None
