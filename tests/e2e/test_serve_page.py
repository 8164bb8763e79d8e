"""The page of the documentation about the service: its commands are run against one."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np

import pocketseg
from helpers.service import IMAGE, MODEL, needed, serving
from helpers.volume_files import ball, write_nifti

needed()
PAGE = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_its_commands(tool, tmp_path):
    tool("curl")
    shutil.copy(IMAGE, tmp_path / "scan.png")
    write_nifti(tmp_path / "scan.nii.gz", (ball((20, 16, 3), radius=6) * 900).astype(np.int16))
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        archive.write(IMAGE, "a/scan.png")
    commands = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line.startswith("curl ")]
    (program,) = [text for kind, text in BLOCKS if kind == "python"]
    with serving(models=(MODEL,)) as service:
        here = f"127.0.0.1:{service.port}"
        assert len(commands) == 5 and all("127.0.0.1:8000" in text for text in (*commands, program))
        said = [
            subprocess.run(["sh", "-c", command.replace("127.0.0.1:8000", here)], cwd=tmp_path, capture_output=True)
            for command in commands
        ]
        assert [each.returncode for each in said] == [0] * 5, said
        done = subprocess.run(
            [sys.executable, "-c", program.replace("127.0.0.1:8000", here)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and "'area_px':" in done.stdout, done.stderr
    assert json.loads(said[1].stdout)["measurements"][0]["area_px"] > 0
    right = pocketseg.predict(MODEL, [IMAGE], tmp_path / "out").written[0]
    assert (tmp_path / "mask.png").read_bytes() == right.read_bytes()
    with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
        assert sorted(archive.namelist()) == ["a/scan.png", "a/scan_overlay.png"]


def test_its_limits_are_those_of_the_command():
    """Options and defaults of the table, and every option of the command somewhere on the page."""
    from typer.main import get_command

    from pocketseg.cli.verbs import app

    options = {
        each.opts[0]: each.default for each in get_command(app).commands["serve"].params if each.opts[0][0] == "-"
    }
    table = dict(re.findall(r"^\| `(--[a-z-]+)` \| ([0-9]+|one)", PAGE, re.MULTILINE))
    assert {name: float(value) for name, value in table.items() if value != "one"} == {
        name: options[name] for name in table if name != "--workers"
    }
    assert [name for name in options if name not in PAGE and name not in ("--help", "--port")] == []
