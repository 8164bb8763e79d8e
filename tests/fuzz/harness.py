"""Mutate files of one kind and use them, for some seconds, in a process of its own.

    python tests/fuzz/harness.py KIND --seconds 60 --seed 1

Only two ends are allowed: a right answer, or an error of ours that is the file's fault; each in `SECONDS` and the
target's memory. What fails is written to --failures; the same seed gives the same files.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from targets import TARGETS, Target

from pocketseg.errors import PocketsegError

CORPUS = Path(__file__).parent / "corpus"
SECONDS, WAITING = 5, 60


class Slow(BaseException):
    """An input took too long."""


def ring(*_: object) -> None:
    raise Slow


def outcome(target: Target, path: Path) -> str:
    """`read`, `refused`, or what went against the contract."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of the processor: other work slows a shared machine
    signal.alarm(WAITING)
    try:
        target.use(path)
        return "read"
    except PocketsegError as error:
        if error.exit_code != 2:
            return f"exit code {error.exit_code}: {error}"
        return "refused"
    except Slow:
        return f"more than {SECONDS} s\n{traceback.format_exc(limit=-6)}"
    except Exception:
        return traceback.format_exc(limit=-6)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def seeds(kind: str) -> list[Path]:
    return sorted(path for path in (CORPUS / kind).iterdir() if path.name.startswith("seed"))


def fuzz(kind: str, seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """Mutate and use files until the time is over."""
    target, starts = TARGETS[kind], seeds(kind)
    contents = [start.read_bytes() for start in starts]
    for start in starts:  # what is imported with the first file counts for none
        target.use(start)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + (target.mib << 21), resource.RLIM_INFINITY))
    ends: Counter[str] = Counter()
    failures: dict[str, str] = {}
    slowest, number, end = 0.0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        rng = random.Random(f"{seed} {number}")
        which = rng.randrange(len(starts))
        content = rng.choice(target.mutators)(contents[which], rng)
        path = folder / f"{number % 2}{starts[which].name}"
        path.write_bytes(content)
        began = time.process_time()
        told = outcome(target, path)
        slowest = max(slowest, time.process_time() - began)
        if told in ("read", "refused"):
            ends[told] += 1
            path.unlink()
        else:
            ends["failed"] += 1
            where = told.strip().splitlines()[-1][:100]
            if where not in failures:
                failures[where] = told
                kept = folder / f"failed-{seed}-{number}-{starts[which].name}"
                path.rename(kept)
                failures[where] += f"\n{kept}"
        number += 1
    output_padding = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    if output_padding > target.mib << 20:
        failures["memory"] = f"{output_padding / 2**20:.0f} MiB were taken"
    return {
        "kind": kind,
        "seed": seed,
        **ends,
        "slowest": round(slowest, 2),
        "mib": output_padding >> 20,
        "failures": failures,
    }


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--failures", type=Path, default=Path("fuzz-failures"))
    given = parser.parse_args()
    given.failures.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")

    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, ring)
    print(json.dumps(fuzz(given.kind, given.seconds, given.seed, given.failures)))


if __name__ == "__main__":
    main()
