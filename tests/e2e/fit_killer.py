"""Fits in forked processes, each killed at its k-th change of a file; the last one is let go on to the end.

    python fit_killer.py DATA OUT KILL_AT…

The search is as small as one can be that has a round: two shapes, one fold, few steps. What a run's report shows is not
looked at here, and is left out. Prints how many changes of files each process made.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from pathlib import Path

import torch

import pocketseg.flows.fit as flow
from pocketseg.search import accept, begin, costs, gate, halving, page, rounds, shapes  # noqa: F401 – forks find all imported

CHANGES = ("os.rename", "os.remove", "os.mkdir")
OVERRIDES = ("data.size=[32, 32]", "stages.*.precision=f32", "stages.*.optimizer.lr=0.02")
LIMITS = {"size": "12KB", "steps": 36, "max_drop": 50.0}


def small() -> None:
    """One round of two shapes."""
    halving.COUNTS, halving.LEAST_STEPS, halving.LEAST_EPOCHS = (2, 1), 4, 1
    begin.FEW_GROUPS = 1
    shapes.WIDTHS = (8, 12)
    shapes.KINDS = (("plain", "int4"), ("plain", "ternary"))
    gate.TURNS = 2
    gate.SLOWER = 1e9  # what a clock says may differ between two processes
    flow.write_run_report = lambda *_, **__: None


def watch(root: Path, at: int) -> list[int]:
    """Count what changes below the root, and end the process at a number."""
    done = [0]

    def hook(event: str, args: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        path = args[0] if args else None
        named = isinstance(path, str | os.PathLike) and (writes or event in CHANGES)
        if named and (Path.cwd() / path).is_relative_to(root):  # type: ignore[operator]
            done[0] += 1
            if done[0] == at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return done


def child(data: str, out: Path, at: int) -> int:
    """A process that fits, or goes on; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            done = watch(out, at)
            resume = any(out.glob(".*.lock"))
            flow.fit(data, out, overrides=OVERRIDES, resume=resume, device="cpu", quiet=True, **LIMITS)
            print(done[0], flush=True)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    data, out, *kills = sys.argv[1:]
    torch.set_num_threads(1)
    small()
    for at in [*map(int, kills), 0]:
        code = child(data, Path(out).absolute(), at)
        if code not in ((-signal.SIGKILL, 0) if at else (0,)):
            sys.exit(f"ended with {code}")


if __name__ == "__main__":
    main()
