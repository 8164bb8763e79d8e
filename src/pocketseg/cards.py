"""The JSON that a model file brings: read as data of unknown origin."""

from __future__ import annotations

import json
from typing import Any


def json_object(content: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is not JSON, not an object, or nested so deeply that it cannot be read.

    Example:
        >>> json_object('{"version": 1}')
        {'version': 1}
    """
    try:
        found = json.loads(content)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def newer(version: object, newest: int) -> bool:
    """Whether a file is of a version above the newest that is known, or of none that is a number.

    Example:
        >>> newer(2, 1), newer(True, 1), newer(1, 1)
        (True, True, False)
    """
    return not (type(version) is int and version <= newest)
