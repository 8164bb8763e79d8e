"""What the project depends on: versions without known faults, locked by digest, under licenses that allow it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

HOME = Path(__file__).parents[2]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = sorted((HOME / "requirements").glob("*.lock"))
LINE = re.compile(r"([A-Za-z0-9_.-]+)==([^ ]+) --hash=sha256:[0-9a-f]{64}")

# The lowest version of what reads files of others or listens, and what was wrong below it.
FLOORS = {
    "h11": ("0.16.0", "CVE-2025-43859: chunks that end otherwise than they say"),
    "jinja2": ("3.1.6", "CVE-2025-27516: templates leave the sandbox"),
    "keras": ("3.13.2", "CVE-2026-0897: a declared shape fills the memory"),
    "monai": ("1.6.0", "CVE-2026-21851 and GHSA-89gg-p5r5-q6r4: archives and pickles of others"),
    "numpy": ("1.22", "CVE-2021-41496: lengths of arrays"),
    "onnx": ("1.21.0", "CVE-2026-27489, CVE-2026-34446, CVE-2026-34447: external data outside of the folder is read"),
    "pillow": ("12.3.0", "faults of decoders that were published until then, the last CVE-2026-42308"),
    "pydantic": ("2.4", "CVE-2024-3772: time without bound"),
    "pydicom": ("3.0.2", "CVE-2026-32711: a DICOMDIR leads out of its folder"),
    "pyyaml": ("5.4", "CVE-2020-14343: the full loader executes"),
    "ray": ("2.54.0", "CVE-2026-27482: jobs can be deleted from a web page"),
    "scipy": ("1.10.0", "CVE-2023-25399: a reference that is freed twice"),
    "starlette": ("0.49.1", "CVE-2025-62727: ranges without end"),
    "torch": ("2.10.0", "CVE-2026-24747: a checkpoint corrupts the memory"),
}
# What builds the native library, and is in the lock but not needed afterwards.
BUILDERS = {"scikit-build-core", "cmake", "ninja"}
BUILDERS_NEED = {"packaging", "pathspec"}
MAX_TO_PREDICT, MAX_IN_ALL = 20, 110

ALLOWED = re.compile(
    r"MIT|BSD|Apache|Python|PSF|ISC|MPL|Mozilla|HPND|Zlib|Unlicense|CC0|0BSD|CNRI|BSL|Boost|LLVM", re.IGNORECASE
)
REFUSED = re.compile(r"\bA?GPL|Affero|General Public|SSPL|Commons Clause|Non.?Commercial|\bNC\b", re.IGNORECASE)
# Their metadata name no license; their sources do.
KNOWN_LICENSES = {"namex": "Apache-2.0"}


def locked(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    matches = [LINE.fullmatch(line) for line in lines]
    assert all(matches), "a line is not a NAME==VERSION --hash=sha256:DIGEST"
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


@pytest.fixture(params=LOCKS, ids=lambda path: path.stem)
def lock(request) -> dict[str, str]:
    return locked(request.param.read_text(encoding="utf-8"))


def of_extras(*extras: str) -> set[str]:
    """Names that the package itself and some of its extras need."""
    project = PROJECT["project"]
    found = [Requirement(text) for text in project["dependencies"]]
    for extra in extras:
        for each in map(Requirement, project["optional-dependencies"][extra]):
            found += [each] if each.name != "pocketseg" else map(Requirement, of_extras(*each.extras))
    return {canonicalize_name(each.name) for each in found}


def declared() -> list[Requirement]:
    project = PROJECT["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values(), PROJECT["build-system"]["requires"]]
    return [Requirement(text) for group in groups for text in group]


def needed(names: set[str], extras: frozenset[str] = frozenset()) -> set[str]:
    """Names with all that they need, as the metadata of what is installed here say."""
    found: set[str] = set()
    todo = [(name, extras) for name in names]
    while todo:
        name, asked = todo.pop()
        found.add(name)
        for text in importlib.metadata.requires(name) or []:
            each = Requirement(text)
            wanted = each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in {"", *asked})
            if wanted and canonicalize_name(each.name) not in found:
                todo.append((canonicalize_name(each.name), frozenset(each.extras)))
    return found


@pytest.mark.row("S29")
def test_there_is_a_lock_for_ci():
    assert [path.stem for path in LOCKS] == ["linux-x86_64-cp311"]


@pytest.mark.row("S29")
def test_a_lock_holds_all_that_is_declared_in_a_version_that_fits(lock):
    wanted = [each for each in declared() if each.name != "pocketseg"]
    dev = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["optional-dependencies"]["dev"]}
    assert dev - {"pocketseg"} | BUILDERS <= set(lock)
    for each in wanted:
        name = canonicalize_name(each.name)
        assert name not in lock or each.specifier.contains(lock[name], prereleases=True), f"{each}: {lock[name]}"
    pins = [Requirement(line) for line in (HOME / "constraints.txt").read_text().splitlines() if line[0] != "#"]
    assert all(each.specifier.contains(lock[canonicalize_name(each.name)]) for each in pins)


@pytest.mark.row("S29")
def test_a_lock_holds_all_that_those_need(lock):
    assert needed(set(lock) - BUILDERS, frozenset({"client"})) <= set(lock)


@pytest.mark.row("S29")
@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_the_first_part_of_a_lock_is_what_the_demo_needs(path):
    """`make demo` installs no more: neither what checks the sources nor what other programs are compared with."""
    first = set(locked(path.read_text(encoding="utf-8").partition("# The rest")[0]))
    assert first == needed(of_extras("train", "export")) | BUILDERS | BUILDERS_NEED
    assert not first & {"ray", "monai", "keras", "tensorboard", "openvino", "pytest", "hypothesis", "ruff", "mypy"}
    script = (HOME / "scripts/install").read_text(encoding="utf-8")
    assert "demo) extras=train,export last='/^# The rest/q'" in script


@pytest.mark.row("S29")
@pytest.mark.skipif("POCKETSEG_LOCKED" not in os.environ, reason="only CI has to run what is locked")
def test_ci_runs_what_is_locked(lock):
    assert {name: importlib.metadata.version(name) for name in lock} == lock


@pytest.mark.row("S29")
def test_the_number_of_dependencies_is_bounded(lock):
    base = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    assert len(needed(base)) <= MAX_TO_PREDICT
    assert len(lock) <= MAX_IN_ALL


@pytest.mark.row("S29")
def test_dependencies_come_from_an_index():
    """No addresses, no repositories, no paths; and nothing that leaves the version open to the bottom."""
    for each in declared():
        assert each.url is None
        assert each.name in ("pocketseg", "types-PyYAML") or any(part.operator == ">=" for part in each.specifier), each


@pytest.mark.whole
@pytest.mark.row("S34")
@pytest.mark.parametrize("name", FLOORS)
def test_floors_are_above_known_faults(name):
    lowest, reason = FLOORS[name]
    floors = [
        Version(part.version)
        for each in declared()
        if canonicalize_name(each.name) == name
        for part in each.specifier
        if part.operator == ">="
    ]
    assert floors and min(floors) >= Version(lowest), f"{name} below {lowest}: {reason}"


@pytest.mark.row("S29")
def test_licenses(lock):
    for name in set(lock) - BUILDERS:
        told = license_of(name)
        assert ALLOWED.search(told) and not REFUSED.search(told), f"{name}: {told}"


def license_of(name: str) -> str:
    """What the metadata say, in the newest of the three forms that they have."""
    metadata = importlib.metadata.metadata(name)
    classifiers = [each for each in metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    expression = metadata.get("License-Expression")
    first_line = (metadata.get("License") or "").strip().partition("\n")[0]
    return expression or "; ".join(classifiers) or first_line or KNOWN_LICENSES.get(name, "")
