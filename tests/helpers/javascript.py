"""The engine for browsers, and JavaScript that calls it, under Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pocketseg.data.readers import read_image
from pocketseg.flows.web import ENGINE, SOURCES

MISSING = "missing tool: {} (scripts/system-packages installs what builds it, and make wasm does)"


def engine_file() -> Path:
    """`pocketseg.wasm`, or the test is skipped with that reason."""
    file = SOURCES / ENGINE
    if not file.is_file():
        pytest.skip(MISSING.format(ENGINE))
    return file


def in_node(script: str, *arguments: str | Path) -> str:
    """What a script prints that imports `open` and `PocketsegError` of the module; its arguments are `given`."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("missing tool: node (scripts/system-packages installs it)")
    engine_file()
    head = (
        f'import {{ open, PocketsegError }} from "{(SOURCES / "pocketseg.js").as_uri()}";\n'
        'import { readFile, writeFile } from "node:fs/promises";\n'
        "const given = process.argv.slice(1);\n"
    )
    done = subprocess.run(
        [node, "--input-type=module", "--no-warnings", "-e", head + script, "--", *map(str, arguments)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def decoding(module: str, function: str) -> str:
    """A script that reads each of its files by a function of a module: its numbers, or what the refusal says."""
    return f"""
const {{ {function} }} = await import("{(SOURCES / module).as_uri()}");
const found = {{}};
for (const file of given) {{
  try {{
    const {{ width, height, channels, data }} = await {function}(new Uint8Array(await readFile(file)));
    found[file] = {{ width, height, channels, data: [...data] }};
  }} catch (error) {{
    if (!(error instanceof PocketsegError)) throw error;
    found[file] = error.message;
  }}
}}
console.log(JSON.stringify(found));
"""


def assert_read_alike(script: str, files: Sequence[Path]) -> None:
    """The numbers that a script of `decoding` reads of files are those of our own reader."""
    found = json.loads(in_node(script, *files))
    for file in files:
        wanted, had = read_image(file), found[str(file)]
        assert isinstance(had, dict), (file.name, had)
        pixels = np.array(had["data"]).reshape(had["height"], had["width"], had["channels"])
        assert np.array_equal(pixels if wanted.ndim == 3 else pixels[:, :, 0], wanted), file.name
        assert wanted.ndim == 3 or had["channels"] == 1, file.name
