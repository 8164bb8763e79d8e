"""Run one row in a process of its own, and hold every outcome against the contract."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from corpus import ROWS, Try

NOBODY = 65534
# What the corpus' DICOM files say of a person.
CANARIES = ("Secret", "MRN-12345")
MODULES = ("rows_annotations", "rows_images", "rows_layout", "rows_masks", "rows_splits", "rows_volumes", "rows_dicom")


def load_rows() -> dict[str, Any]:
    import importlib
    import importlib.util

    for name in MODULES:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    return dict(sorted(ROWS.items()))


def run_row(name: str, pipe: Any) -> None:
    """Sends {failures, seconds, bytes}: what went against the contract, and what it cost above the baseline.

    Seconds are the processor's, since other work slows a shared machine; what hangs is ended by the test.
    """
    make = load_rows()[name]
    failures: list[str] = []
    cost = 0.0
    base = memory()
    with tempfile.TemporaryDirectory(prefix=f"corpus-{name}-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        folder.chmod(0o755)
        try:
            for number, one in enumerate(make(folder)):
                begun = time.process_time()
                failures += [f"{name}, try {number}: {fault}" for fault in faults(one)]
                cost += time.process_time() - begun
        except Exception:
            failures.append(traceback.format_exc())
        os.seteuid(os.getuid())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    pipe.send({"failures": failures, "seconds": cost, "bytes": peak - base})
    pipe.close()


def memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def faults(one: Try) -> list[str]:
    """What of a try goes against the contract."""
    if one.nobody and os.getuid() == 0:
        os.seteuid(NOBODY)
    try:
        code, out, err = command("doctor", str(one.data), "--json", *one.arguments)
    finally:
        os.seteuid(os.getuid())
    found = [] if code in (0, 2) else [f"exit code {code}: {err}"]
    found += [f"shows {word}" for word in (*CANARIES, "Traceback", "InternalError") if word in out + err]
    found += ["a line was forged"] if "\nERROR forged" in out + err else []
    if found:
        return found
    problems = (
        json.loads(out)["problems"] if out else [{"level": "error", "code": "", "files": [], "message": err, "fix": ""}]
    )
    if code == 2 and not any(problem["level"] == "error" for problem in problems):
        found.append("exit code 2 without an error")
    errors = [problem for problem in problems if problem["level"] == "error"]
    if (one.outcome == "error") != bool(errors) and one.outcome != "works or error":
        found.append(f"wanted {one.outcome}, errors are {errors}")
    if one.outcome in ("error", "warning"):
        level = {"error": ("error",), "warning": ("warning", "note")}[one.outcome]
        fitting = [p for p in problems if p["level"] in level and one.code in ("", p["code"])]
        texts = [" ".join([*p["files"], p["message"], p["fix"]]) for p in fitting]
        if not any(all(text in whole for text in one.told) for whole in texts):
            found.append(f"no {one.outcome} {one.code} tells {one.told}; told is {problems}")
    if any(not problem["fix"] for problem in errors if problem["code"]):
        found.append(f"an error says not what to do: {errors}")
    if one.check is not None:
        try:
            one.check(one.data)
        except Exception:
            found.append(traceback.format_exc())
    return found


def command(*arguments: str) -> tuple[int, str, str]:
    """The command line in this process: exit code, standard output, standard error."""
    from pocketseg.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["pocketseg", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as done:
        return int(done.code or 0), out.getvalue(), err.getvalue()
    finally:
        sys.argv = before
    return 0, out.getvalue(), err.getvalue()
