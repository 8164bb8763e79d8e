"""docs/threat-model.md and SECURITY.md: what they point to is there, and what they promise is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.reliability_rows import subjects

HOME = Path(__file__).parents[2]
MODEL = (HOME / "docs/threat-model.md").read_text(encoding="utf-8")
TABLE = MODEL.partition("## Entry points")[2].partition("\n## ")[0]
LINES = [
    [cell.strip() for cell in line.strip("|").split(" | ")] for line in TABLE.splitlines() if line.startswith("| ")
]
ENTRIES = {cells[0]: cells for cells in LINES[1:]}
NEEDED = (
    "Image", "Names of files", "Volumes", "DICOM", "NumPy", "Annotations", "ImageJ", "Recipes", "Split",
    "Packed models", "ONNX", "Checkpoints", "Foreign weights (`.pth`", "Foreign weights (Keras", "Run folders",
    "Names and paths", "Numbers",
    "Environment", "Download", "C API", "Reports", "Packages", "HTTP service", "DICOM node",
)  # fmt: skip


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.row("S32")
def test_every_entry_point_is_there():
    assert [start for start in NEEDED if not any(name.startswith(start) for name in ENTRIES)] == []


@pytest.mark.whole
@pytest.mark.row("S32")
@pytest.mark.parametrize("name", ENTRIES)
def test_its_code_and_its_tests_are_there(name):
    _, who, wrong, rule, code, tests = ENTRIES[name]
    assert who and wrong and rule
    if "none yet" in rule:
        return
    assert quoted(code) and quoted(tests)
    for place in quoted(code):
        assert any((HOME / folder / place).exists() for folder in (".", "src/pocketseg")), place
    for test in quoted(tests):
        file, _, function = test.partition("::")
        path = HOME / "tests" / file
        assert path.exists(), test
        assert not function or re.search(rf"^def {function}\(", path.read_text("utf-8"), re.MULTILINE), test


@pytest.mark.row("S32")
def test_rows_that_are_named_are_in_the_matrix():
    named = re.findall(r"\b(?:[ABCDFLNPSX]\d\d|API)\b", MODEL)
    assert named and set(named) <= set(subjects())


@pytest.mark.row("S32")
def test_the_policy_says_what_it_must():
    policy = (HOME / "SECURITY.md").read_text(encoding="utf-8")
    for word in ("privately", "72", "In scope", "Supported", "docs/threat-model.md"):
        assert word in policy
    assert len(policy.splitlines()) < 30


@pytest.mark.row("S27")
@pytest.mark.parametrize("page", ["SECURITY.md", "docs/threat-model.md"])
def test_nobody_says_that_images_are_de_identified(page):
    assert "does not de-identify" in (HOME / page).read_text(encoding="utf-8")
