"""The command line. It holds no logic: each verb hands its options to the flow of the same name."""

from __future__ import annotations

import os
import sys
import traceback

import typer

from pocketseg import memory
from pocketseg.cli.verbs import app
from pocketseg.errors import PocketsegError

BUG = 4
DEBUG = "POCKETSEG_DEBUG"


def main() -> None:
    """Run a verb; an error is told in its three parts, with the exit code of its kind, and no traceback."""
    debug = "--debug" in sys.argv or bool(os.environ.get(DEBUG))
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        sys.exit(app(arguments, prog_name="pocketseg"))
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
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if debug:
            raise
        if memory.ended(error):
            problem = memory.problem("memory", fix="use a smaller batch, size or cache")
            print(f"{type(problem).__name__} {problem}", file=sys.stderr)
            sys.exit(problem.exit_code)
        print(
            f"InternalError {type(error).__name__}: {error} → this is a bug of pocketseg; "
            "run the command again with --debug and report what it prints",
            file=sys.stderr,
        )
        sys.exit(BUG)


if __name__ == "__main__":
    main()
