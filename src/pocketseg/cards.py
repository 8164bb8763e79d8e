"""The JSON that a model file brings: read as data of unknown origin."""

from __future__ import annotations

import json
from typing import Any


def json_object(content: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: it is no JSON, no object, or nested so deeply that it cannot be read.

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
    """Whether a file's version is above the newest that is known.

    Raises:
        ValueError: it is no version.

    Example:
        >>> newer(2, 1)
        True
    """
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError("without a version")
    return version > newest
