"""Which version of pocketseg this is, as it was installed; `pyproject.toml` has the number."""

from __future__ import annotations

from importlib import metadata

VERSION = metadata.version("pocketseg")
