"""The Dockerfile, as far as it can be judged without Docker: what it names is there, and it does not end as root."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from test_wheel import SOURCES

HOME = Path(__file__).parents[2]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = [
    line.split(None, 1)
    for line in (HOME / "Dockerfile").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def all_of(instruction: str) -> list[str]:
    return [rest for word, rest in LINES if word == instruction]


def test_it_copies_what_the_wheel_is_made_of():
    """tests/supply/test_wheel.py builds the wheel of exactly these."""
    copied = [each for line in all_of("COPY") if not line.startswith("--from") for each in line.split()[:-1]]
    assert sorted(copied) == sorted(SOURCES)
    sent = (HOME / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in sent if line.startswith("!")} == set(SOURCES) and "*" in sent


def test_it_installs_extras_that_there_are():
    (extras,) = re.findall(r"\.\[([a-z,-]+)\]", " ".join(all_of("RUN")))
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert not set(extras.split(",")) & {"train", "dev"}, "PyTorch has no place in it"


def test_its_command_is_the_package_s_own():
    (command,) = map(json.loads, all_of("ENTRYPOINT"))
    folder, name = Path(command[0]).parents[1], Path(command[0]).name
    assert name in PROJECT["scripts"]
    assert f"--from=build {folder} {folder}" in all_of("COPY") and f"python -m venv {folder} " in " ".join(
        all_of("RUN")
    )


def test_it_ends_as_a_user_without_rights():
    last = len(LINES) - 1 - [word for word, _ in reversed(LINES)].index("FROM")
    users = [rest for word, rest in LINES[last:] if word == "USER"]
    assert users and users[-1].isdecimal() and int(users[-1]) > 0
    assert not [rest for word, rest in LINES[last:] if word == "RUN" and "apt-get" in rest]


def test_the_python_of_its_image_is_one_that_the_package_takes():
    versions = {tuple(map(int, re.findall(r"\d+", line)[:2])) for line in all_of("FROM")}
    least = tuple(map(int, re.findall(r"\d+", PROJECT["requires-python"])))
    assert len(versions) == 1 and min(versions) >= least


def test_commands_of_the_documentation_are_verbs():
    text = (HOME / "docs/deploy.md").read_text(encoding="utf-8")
    verbs = re.findall(r"docker run [^\n]*? pocketseg ([a-z]+)", text)
    assert {"predict", "serve"} <= set(verbs) and all(
        (HOME / f"src/pocketseg/cli/{verb}.py").is_file() for verb in verbs
    )
