"""The log of a program that a test runs: standard error, line by line as it comes."""

from __future__ import annotations

import re
import subprocess
import threading


def port_of(process: subprocess.Popen[str], log: list[str], seconds: float, scheme: str = "") -> int:
    """The port that the log says it listens on; the program is ended where it does not say so in time."""
    assert process.stderr is not None
    watch = threading.Timer(seconds, process.kill)
    watch.start()
    try:
        for line in iter(process.stderr.readline, ""):
            log.append(line.rstrip())
            if found := re.search(rf"listening on {scheme}\S+:(\d+)", line):
                return int(found[1])
    finally:
        watch.cancel()
    raise AssertionError("it did not start:\n" + "\n".join(log))


def read_log(process: subprocess.Popen[str], log: list[str]) -> None:
    """All lines, until the program ends or its log is closed."""
    assert process.stderr is not None
    try:
        for line in iter(process.stderr.readline, ""):
            log.append(line.rstrip())
    except ValueError:  # closed
        return
