"""The command line. It holds no logic: each verb hands its options to the flow of the same name."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import typer

from pocketseg import memory, signals
from pocketseg.cli.console import any_encoding
from pocketseg.cli.verbs import app
from pocketseg.errors import EnvironmentProblem, PocketsegError, Problem
from pocketseg.names import printable

BUG = 4
DEBUG = "POCKETSEG_DEBUG"


def main() -> None:
    """Run a verb. A signal that ends it lets it unwind, so that nothing half written is left."""
    _on_signals(_unwind)
    try:
        _run()
    except KeyboardInterrupt:  # once more, while the first was reported
        sys.exit(130)
    finally:
        _on_signals(_leave)


def _on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    """What ends a verb from outside is unwound or left; a training hears it itself."""
    for number in signals.heard(*signals.ENDS, *(() if handler is _unwind else (signals.INTERRUPT,))):
        signal.signal(number, handler)


def _unwind(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _leave(number: int, _: FrameType | None) -> None:
    """Everything is done and reported: there is nothing to unwind."""
    os._exit(128 + number)


def _run() -> None:
    """Run a verb; an error is reported in its three parts, with the exit code of its kind, and no traceback."""
    any_encoding()
    debug = "--debug" in sys.argv or bool(os.environ.get(DEBUG))
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        try:
            sys.exit(app(arguments, prog_name="pocketseg"))
        finally:
            sys.stdout.flush()
    except PocketsegError as error:
        if debug:
            traceback.print_exc()
        print(
            f"{type(error).__name__}\n{error}" if len(error.problems) > 1 else f"{type(error).__name__} {error}",
            file=sys.stderr,
        )
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe left; there is nobody to tell.
        _drop_output()
        sys.exit(1)
    except Exception as error:
        if debug:
            traceback.print_exc()
        line, code = _line_and_code(error)
        print(line, file=sys.stderr)
        sys.exit(code)


def _line_and_code(error: Exception) -> tuple[str, int]:
    """What is said of an error that nobody expected, and the exit code of its kind."""
    if memory.ended(error):
        problem = memory.problem("memory", fix="use a smaller batch, size or cache")
        return f"{type(problem).__name__} {problem}", problem.exit_code
    if isinstance(error, OSError):
        _drop_output()
        return f"EnvironmentProblem {_system_problem(error)}", EnvironmentProblem.exit_code
    return (
        f"InternalError {type(error).__name__}: {printable(str(error))} → this is a bug of pocketseg; "
        "run the command again with --debug and report what it prints",
        BUG,
    )


def _system_problem(error: OSError) -> Problem:
    """What the operating system refused where nobody expected it; without a name it was the output."""
    where = str(error.filename) if error.filename is not None else "standard output"
    return Problem(where, f"cannot be used ({error.strerror or error})", "check the disk and who may use it")


def _drop_output() -> None:
    """What waits for standard output goes nowhere: it cannot be written, and Python would try again at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
