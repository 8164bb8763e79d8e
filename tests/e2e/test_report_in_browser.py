"""The report in a real browser: it shows, says nothing on the console, and asks nobody for anything."""

from __future__ import annotations

import numpy as np
from browser import ARTIFACTS, open_page
from PIL import Image

import pocketseg
from helpers.pictures import good


def test_report_opens_without_error_or_request(trained_run, tmp_path, tool):
    page = pocketseg.report(trained_run)
    ARTIFACTS.mkdir(exist_ok=True)
    picture = ARTIFACTS / "report.png"
    printed, requests = open_page(tool("chromium"), page, tmp_path, picture)
    assert "CONSOLE" not in printed, printed
    assert not requests
    pixels = np.asarray(Image.open(picture).convert("L"))
    assert pixels.shape == (2400, 1280)
    assert pixels.std() > 10, "the page is blank"


def test_a_preview_opens_without_error_or_request(tmp_path, tool):
    from pocketseg.flows.preview import preview

    page = preview(good(tmp_path / "data"), tmp_path / "page.html").page
    printed, requests = open_page(tool("chromium"), page, tmp_path, tmp_path / "page.png")
    assert "CONSOLE" not in printed and not requests
    colors = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).reshape(-1, 3)
    assert (abs(colors.astype(int) - (0x56, 0xB4, 0xE9)).sum(axis=1) < 9).sum() > 200, "contours are drawn"


def test_a_page_that_asks_and_complains_would_be_seen(tmp_path, tool):
    """The check above can fail."""
    page = tmp_path / "bad.html"
    page.write_text("<img src='http://127.0.0.1:9/x.png'><script>console.error('oh')</script>")
    printed, requests = open_page(tool("chromium"), page, tmp_path, tmp_path / "bad.png")
    assert "CONSOLE" in printed
    assert any("127.0.0.1:9" in url for url in requests)
