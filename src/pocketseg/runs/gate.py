"""What the gate found at the end of a training, as it lies in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pocketseg.errors import RunError
from pocketseg.runs.folder import RunFolder

# Of each of the two files, by its stage.
SHOWN = ("size_bytes", "arena_bytes", "ms", "dice", "change", "low", "high", "ratio", "refused")


def read_gate(run: RunFolder, fold: int) -> Mapping[str, Any] | None:
    """What `gate_fold` wrote; None where it did not.

    Raises:
        RunError: it is damaged.
    """
    file = run.gate_file(fold)
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        missing = {"sha256", "margin", "files"} - content.keys()
        missing |= {key for each in content["files"].values() for key in SHOWN if key not in each}
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        fix = "delete it: a training that is resumed writes it again"
        raise RunError(str(file), f"is damaged ({type(error).__name__}: {error})", fix) from error
    return content
