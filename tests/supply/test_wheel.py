"""The wheel: equal from equal sources, nothing in it that does not belong there, and its bill of materials."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2]
SOURCES = ("CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", "native", "src")
# What an editable install leaves among the sources.
BUILT = shutil.ignore_patterns("*.so", "*.dylib", "*.dll", "__pycache__", "CMakeFiles", "cmake_install.cmake")
WHEN = "1700000000"
LIBRARY = "libpocketseg.so"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> list[Path]:
    """Made twice, from copies of the sources in two folders."""
    if importlib.util.find_spec("scikit_build_core") is None:
        pytest.skip("missing tool: scikit_build_core (scripts/install brings it)")
    made = []
    for name in ("here", "somewhere else"):
        folder = tmp_path_factory.mktemp("wheel") / name
        folder.mkdir()
        for source in SOURCES:
            path = HOME / source
            shutil.copytree(path, folder / source, ignore=BUILT) if path.is_dir() else shutil.copy(
                path, folder / source
            )
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "-w", "dist", "."], cwd=folder, check=True, env=environment())
        made += (folder / "dist").glob("*.whl")
    return made


def environment() -> dict[str, str]:
    return {**os.environ, "SOURCE_DATE_EPOCH": WHEN, "PIP_NO_INDEX": "1"}


@pytest.mark.slow("builds the wheel twice")
@pytest.mark.row("S30")
def test_equal_sources_are_an_equal_wheel(wheels):
    first, second = (hashlib.sha256(path.read_bytes()).hexdigest() for path in wheels)
    assert first == second


@pytest.mark.slow("builds the wheel twice")
@pytest.mark.row("S28", "S30")
def test_nothing_is_in_the_wheel_that_does_not_belong_there(wheels):
    with zipfile.ZipFile(wheels[0]) as archive:
        names = archive.namelist()
        contents = {name: archive.read(name) for name in names}
    kinds = {Path(name).suffix or Path(name).name for name in names if ".dist-info/" not in name}
    assert kinds <= {
        ".py",
        ".typed",
        ".yaml",
        ".so",
        ".pseg",  # trained models, with their cards
        ".h",
        ".c",
        ".css",
        ".html",
        ".js",
        ".j2",
        ".ts",
        ".json",
        ".md",
        ".wasm",
    }, kinds
    assert {name.split("/")[0].split("-")[0] for name in names} == {"pocketseg"}
    assert not [name for name in names if re.search(r"test|cache|\.ci|corpus|golden", name)]
    assert f"pocketseg/engine/{LIBRARY}" in names and any(name.endswith("LICENSE") for name in names)
    for place in (str(HOME), str(Path.home()), str(wheels[0].parents[1]), "/tmp/"):
        assert not [name for name, content in contents.items() if place.encode() in content], place


@pytest.mark.slow("builds the wheel twice")
@pytest.mark.row("S30")
def test_the_bill_of_materials(wheels):
    """The fields that CycloneDX 1.6 asks for, and that what it says hangs together."""
    subprocess.run([sys.executable, str(HOME / "scripts/sbom"), str(wheels[0])], check=True)
    text = wheels[0].with_suffix(".cdx.json").read_text(encoding="utf-8")
    bom = json.loads(text)
    assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", bom["serialNumber"])
    whole, parts = bom["metadata"]["component"], bom["components"]
    assert whole["hashes"][0]["content"] == hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    for each in (whole, *parts):
        assert each["type"] == "library" and each["name"] and each["version"]
        assert re.fullmatch(r"pkg:pypi/[a-z0-9.-]+@[A-Za-z0-9.%]+", each["purl"]) and each["bom-ref"] == each["purl"]
        assert re.fullmatch(r"[0-9a-f]{64}", each["hashes"][0]["content"]) and each["hashes"][0]["alg"] == "SHA-256"
        assert [set(license["license"]) for license in each["licenses"]] in ([], [{"name"}])
    refs = {each["bom-ref"] for each in parts}
    assert len(refs) == len(parts)
    graph = {each["ref"]: set(each["dependsOn"]) for each in bom["dependencies"]}
    assert set(graph) == refs | {whole["bom-ref"]} and set().union(*graph.values()) == refs
    required = {each["name"] for each in parts if each["scope"] == "required"}
    assert {"numpy", "pillow", "pydantic", "pyyaml", "typer", "pydantic-core"} <= required
    assert not required & {"torch", "onnxruntime", "pytest", "scipy"} and "torch" in {each["name"] for each in parts}
    assert not {"pytest", "ruff", "mypy", "monai"} & {each["name"] for each in parts}
    assert "/tmp" not in text and "file:" not in text
