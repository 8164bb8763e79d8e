"""The page of the documentation about the DICOM node: its commands are run against one."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pydicom
from typer.main import get_command

from helpers.dicom_node import MODEL, archive, listening, needed, series, wait_until
from pocketseg.cli.verbs import app

needed()
PAGE = (Path(__file__).parents[2] / "docs/listen.md").read_text(encoding="utf-8")
COMMANDS = [
    line for text in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in text.split("\n")
]


def test_its_commands(tool, tmp_path):
    for name in ("echoscu", "storescu"):
        tool(name)
    (start,) = [line for line in COMMANDS if line.startswith("pocketseg listen runs/first")]
    sent = [line for line in COMMANDS if line.startswith(("echoscu", "storescu"))]
    assert len(sent) == 2 and start.endswith("--ae POCKETSEG --to ARCHIVE@127.0.0.1:4242 --out masks")
    files = series(tmp_path, "series", 3)
    with archive() as to:
        arguments = ["--ae", "POCKETSEG", "--to", f"ARCHIVE@127.0.0.1:{to.port}", "--out", tmp_path / "masks"]
        with listening(tmp_path / "dicom-spool", *arguments, "--quiet-seconds", "0", model=MODEL) as node:
            for command in sent:
                here = command.replace("11112", str(node.port))
                done = subprocess.run(["sh", "-c", here], cwd=tmp_path, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
            to.wait(1)
            wait_until(lambda: node.logged(": sent"), "that it was sent")
    (mask,) = (tmp_path / "masks").glob("*.dcm")
    assert pydicom.dcmread(mask).NumberOfFrames <= len(files) and to.uids() == [mask.stem]


def test_its_options_are_those_of_the_command():
    """Defaults of the table, and every option of the command somewhere on the page."""
    options = {
        each.opts[0]: each.default for each in get_command(app).commands["listen"].params if each.opts[0][0] == "-"
    }
    table = dict(re.findall(r"^\| `(--[a-z-]+)` \| ([0-9]+)", PAGE, re.MULTILINE))
    assert len(table) == 6 and {name: float(value) for name, value in table.items()} == {
        name: options[name] for name in table
    }
    assert [name for name in options if name not in PAGE and name not in ("--help", "--port")] == []
