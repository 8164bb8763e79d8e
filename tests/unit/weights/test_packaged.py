"""Weights that a package brings: found without running it, checked, and what is said where it is missing."""

from __future__ import annotations

import hashlib

import pytest

from pocketseg.errors import EnvironmentProblem, ModelFileError
from pocketseg.weights import packaged


def package(folder, content: bytes, name: str):
    (folder / "weights_of_theirs" / "models").mkdir(parents=True)
    (folder / "weights_of_theirs" / "__init__.py").write_text("raise RuntimeError('was run')")
    path = folder / "weights_of_theirs" / "models" / name
    path.write_bytes(content)
    return path


def test_a_file_is_found_and_nothing_is_run(tmp_path, monkeypatch):
    name = f"net-lite0-{hashlib.sha256(b'numbers').hexdigest()[:8]}.pth"
    path = package(tmp_path, b"numbers", name)
    monkeypatch.syspath_prepend(tmp_path)
    assert packaged("weights_of_theirs", f"models/{name}", "lite0-weights") == path
    path.write_bytes(b"other numbers")
    with pytest.raises(ModelFileError, match=r"is not the published file: .* → install the package again"):
        packaged("weights_of_theirs", f"models/{name}", "lite0-weights")
    path.unlink()
    with pytest.raises(EnvironmentProblem, match=f"it has no file models/{name}"):
        packaged("weights_of_theirs", f"models/{name}", "lite0-weights")


def test_a_missing_package_names_the_extra():
    expected = (
        r"no-such-weights: cannot be imported \(no module named 'no_such_weights'\) → .*'pocketseg\[lite0-weights\]'"
    )
    with pytest.raises(EnvironmentProblem, match=expected):
        packaged("no_such_weights", "models/net-12345678.pth", "lite0-weights")
