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


def open_page(browser: str, page: Path, folder: Path, picture: Path) -> tuple[str, list[str]]:
    """What the browser printed, and the network addresses that the page asked for."""
    netlog = folder / "net.json"
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0",
            f"--log-net-log={netlog}", "--window-size=1280,2400", f"--screenshot={picture}", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(folder)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    events = json.loads(netlog.read_text(encoding="utf-8"))["events"]
    asked = [event.get("params", {}) for event in events]
    # What the browser asks for by itself has no origin.
    return done.stderr, [
        entry["url"]
        for entry in asked
        if str(entry.get("url", "")).startswith(("http", "ws", "ftp"))
        and entry.get("initiator", "not an origin") != "not an origin"
    ]


def test_report_opens_without_error_or_request(trained_run, tmp_path, tool):
    page = pocketseg.report(trained_run)
    ARTEFACTS.mkdir(exist_ok=True)
    picture = ARTEFACTS / "report.png"
    printed, requests = open_page(tool("chromium"), page, tmp_path, picture)
    assert "CONSOLE" not in printed, printed
    assert not requests
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape == (2400, 1280)
    assert pixels.std() > 10, "the page is blank"


def test_a_page_that_asks_and_complains_would_be_seen(tmp_path, tool):
    """The check above can fail."""
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('oh')</script>")
    printed, requests = open_page(tool("chromium"), page, tmp_path, tmp_path / "bad.png")
    assert "CONSOLE" in printed
    assert any("127.0.0.1:9" in url for url in requests)
