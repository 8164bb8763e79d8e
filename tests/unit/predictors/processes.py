"""A model in another process, by every way there is. Run as a program, so that nothing of the tests is in its memory.

    python processes.py MODEL BACKEND WAY…

Prints a line for each way that gave the bytes that this process had before.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

import pocketseg
from pocketseg.predictors import NetPredictor

SECONDS = 40
# Threads may change the last digits of what other runtimes compute.
TOLERANCE = {"pseg": 0.0}
IMAGE = np.random.default_rng(1).integers(0, 256, (40, 48), dtype=np.uint8)


def found(predictor: NetPredictor) -> np.ndarray:
    return predictor.predict(IMAGE)


def in_a_pool(way: str, predictor: NetPredictor) -> list[np.ndarray]:
    with multiprocessing.get_context(way).Pool(2) as pool:
        return pool.map_async(found, [predictor] * 4).get(SECONDS)


class Images:
    """What a DataLoader reads from; a teacher's answer belongs to each image."""

    def __init__(self, predictor: NetPredictor) -> None:
        self.predictor = predictor

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> np.ndarray:
        return found(self.predictor)


def in_a_loader(way: str, predictor: NetPredictor) -> list[np.ndarray]:
    from torch.utils.data import DataLoader

    loader = DataLoader(Images(predictor), batch_size=None, num_workers=2, multiprocessing_context=way, timeout=SECONDS)
    return [np.asarray(each) for each in loader]


def in_a_child(work: Callable[[], np.ndarray | None], *, leave: Callable[[int], None] = os._exit) -> list[np.ndarray]:
    """By fork alone: the child has all that its parent had, and pickles nothing."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        result = work()
        os.write(sending, b"" if result is None else result.tobytes())
        leave(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        content = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"the child ended with {status}; {-signal.SIGALRM} is one that hangs"
    return [np.frombuffer(content, np.float32).reshape(*IMAGE.shape, -1)] if content else []


def forked(backend: str, model: str, held: list[NetPredictor]) -> list[np.ndarray]:
    def again() -> np.ndarray:
        return in_a_child(lambda: found(held[0]))[0]

    def reopened() -> np.ndarray:
        held[0] = pocketseg.load(model, backend=backend, threads=2)
        return found(held[0])

    def copied() -> np.ndarray:
        copies = [copy.copy(held[0]), copy.deepcopy(held[0])]
        del held[0]
        assert np.array_equal(found(copies[0]), found(copies[1]))
        return found(copies[0])

    used = in_a_child(lambda: found(held[0]))
    return [*used, *used, *in_a_child(again), *in_a_child(reopened), *in_a_child(copied)]


def while_others_work(held: list[NetPredictor]) -> list[np.ndarray]:
    """A fork in the middle of a prediction: neither its lock nor its threads are there to be waited for."""
    stopping = threading.Event()

    def work() -> None:
        images = iter(range(10**9))
        while not stopping.is_set():
            held[0].forward(np.zeros((1, 1, 256 + 16 * (next(images) % 2), 256), np.float32))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        return [each for _ in range(10) for each in in_a_child(lambda: found(held[0]))]
    finally:
        stopping.set()
        worker.join()


def main(model: str, backend: str, *ways: str) -> None:
    held = [pocketseg.load(model, backend=backend, threads=2)]
    expected = found(held[0])
    for way in ways:
        kind, _, place = way.partition(":")
        if kind == "pool":
            # What lies on the disk by then is nothing to a pickled model.
            Path(model).rename(f"{model}.away")
            try:
                results = in_a_pool(place, held[0])
            finally:
                Path(f"{model}.away").rename(model)
        elif kind == "loader":
            results = in_a_loader(place, held[0])
        elif kind == "busy":
            results = while_others_work(held)
        elif kind == "unused":
            results = [*in_a_child(held.clear), expected]
        elif kind == "end":
            results = [*in_a_child(lambda: None, leave=sys.exit), expected]
        else:
            results = forked(backend, model, held)
        assert results
        for result in results:
            assert np.abs(result - expected).max() <= TOLERANCE.get(backend, 1e-5), way
        print(way, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
