"""A page in a real browser, without a window."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

ARTIFACTS = Path(__file__).parents[2] / "artifacts"


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
