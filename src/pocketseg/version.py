"""Which version of pocketseg this is, as it was installed; `pyproject.toml` has the number."""

from __future__ import annotations

from importlib import metadata

try:
    VERSION = metadata.version("pocketseg")
except metadata.PackageNotFoundError:  # a source tree that is not installed, as the documentation is built from
    VERSION = "unknown"
