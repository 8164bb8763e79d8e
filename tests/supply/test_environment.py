"""The environment for conda asks for what pyproject.toml does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement

HOME = Path(__file__).parents[2]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
CONDA = yaml.safe_load((HOME / "environment.yml").read_text(encoding="utf-8"))
# What conda-forge calls otherwise.
NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
EXTRAS = ("report", "train", "medical", "onnx")
# What builds the native library.
BUILDERS = {"pip", "cxx-compiler", "cmake", "ninja"}


def asked() -> dict[str, str]:
    """Name and versions of what conda installs."""
    lines = [line for line in CONDA["dependencies"] if isinstance(line, str)]
    found = [re.fullmatch(r"([a-z0-9-]+)(.*)", line) for line in lines]
    return {match[1]: match[2] for match in found if match and match[1] not in BUILDERS}


def test_it_is_what_the_project_and_four_extras_need():
    project = PROJECT["project"]
    extras = [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    needed = [Requirement(line) for line in [*project["dependencies"], *extras]]
    wanted = {NAMES.get(each.name, each.name): str(each.specifier) for each in needed if each.name != project["name"]}
    assert asked() == wanted | {"python": project["requires-python"]}


def test_pip_installs_nothing_but_the_package_itself():
    (pip,) = [line["pip"] for line in CONDA["dependencies"] if isinstance(line, dict)]
    assert pip == ["-e ."]
