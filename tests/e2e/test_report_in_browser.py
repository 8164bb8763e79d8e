"""The report in a real browser: it shows, says nothing on the console, and asks nobody for anything."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

import pocketseg

ARTEFACTS = Path(__file__).parents[2] / "artefacts"


def test_report_opens_without_error_or_request(trained_run, tmp_path, tool):
    browser = tool("chromium")
    page = pocketseg.report(trained_run)
    ARTEFACTS.mkdir(exist_ok=True)
    picture = ARTEFACTS / "report.png"
    netlog = tmp_path / "net.json"
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0",
            f"--log-net-log={netlog}", "--window-size=1280,2400", f"--screenshot={picture}", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape == (2400, 1280)
    assert pixels.std() > 10, "the page is blank"
    assert not requests_of_the_page(netlog)


def requests_of_the_page(netlog: Path) -> list[str]:
    """Network addresses asked for by the page; what the browser asks for by itself has no origin."""
    events = json.loads(netlog.read_text(encoding="utf-8"))["events"]
    asked = [event.get("params", {}) for event in events]
    assert any(str(entry.get("url", "")).startswith("file:") for entry in asked), (
        "the log does not show the page itself"
    )
    return [
        entry["url"]
        for entry in asked
        if str(entry.get("url", "")).startswith(("http", "ws", "ftp"))
        and entry.get("initiator", "not an origin") != "not an origin"
    ]
