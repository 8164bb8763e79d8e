"""The whole way through the command line, in a process of its own: DATA and OUT.

Prints a digest of every file made, every attempt to reach the network, and every write into the package's own folder.
Environment: TRY_LOCALE sets the C library's locale, as a program around may; TRY_CLOCK is where the clock stands, in
seconds since 1970: it jumps by a day, forth and back, from look to look.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import json
import locale
import os
import sys
import time
from pathlib import Path
from typing import Any


class Clock(datetime.datetime):
    """What the wall clock shows; nobody who measures a time may look at it."""

    shown = itertools.cycle([float(os.environ.get("TRY_CLOCK") or 0) + day * 86_400 for day in (0, 1, -1)])

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return cls.fromtimestamp(next(cls.shown), tz)


if os.environ.get("TRY_CLOCK"):  # before the package is imported, which is done below where it is used
    time.time = lambda: next(Clock.shown)
    time.time_ns = lambda: int(next(Clock.shown) * 1e9)
    datetime.datetime = Clock  # type: ignore[misc]

# They tell when and where a run was made and how long it took; ids of cases are drawn for each report.
OF_THE_RUN = (
    "manifest.json",
    "log.txt",
    "timings.csv",
    "results.csv",
    ".lock",
    "report.html",
    "case-ids.csv",
    "options.json",
    ".pocketseg-predict.jsonl",
)


def main(data: Path, out: Path) -> None:
    from helpers.commands import overrides

    asked, written = watch()
    if os.environ.get("TRY_LOCALE"):
        locale.setlocale(locale.LC_ALL, "")
    run, images = out / "run", data / "images"
    packed, onnx = run / "fold-0/model.pseg", out / "model.onnx"
    small = overrides("stages.0.epochs=2", "evaluate.metrics=[dice, hd95]")
    do("doctor", data, codes=(0, 2))
    do("train", "demo", "--data", data, "--out", run, "--device", "cpu", *small)
    do("export", run, "--out", onnx)
    do("verify", packed)
    do("inspect", run, "--out", out / "drawn")
    do("report", run)
    for model, name in ((packed, "pseg"), (onnx, "onnx")):
        do("predict", model, images, "--out", out / name, "--probabilities")
        do("evaluate", model, data, "--split", run / "split.json", "--out", out / f"{name}-scores")
    do("data", "convert", "auto", data, out / "data.npz")
    files = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.endswith(OF_THE_RUN)
    }
    print(json.dumps({"files": files, "asked": asked, "written": written}))


def do(*arguments: str | Path, codes: tuple[int, ...] = (0,)) -> None:
    from places import here

    code, said = here(*arguments)
    assert code in codes, f"{arguments}: {code} {said}"


def watch() -> tuple[list[str], list[str]]:
    """What asks the network from here on, and what is opened for writing in the package's folder."""
    import pocketseg

    asked: list[str] = []
    written: list[str] = []
    package = str(Path(pocketseg.__file__).parent)

    def look(event: str, arguments: tuple) -> None:
        looks_up = event in ("socket.getaddrinfo", "socket.gethostbyname", "urllib.Request")
        # An address that is not a tuple is a socket within the machine.
        if looks_up or (event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple)):
            asked.append(f"{event} {arguments[1:]}")
        if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            path = str(arguments[0])
            if path.startswith(package) and "__pycache__" not in path:
                written.append(path)

    sys.addaudithook(look)
    return asked, written


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
