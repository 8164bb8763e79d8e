"""`demo` ends with the page for browsers, or says how to get it; what it does before is done elsewhere."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pocketseg.flows import demo as flow


@pytest.fixture
def nothing_else(monkeypatch, tmp_path):
    """The demo without all that it does before; a page has the names of what was asked for in it."""
    for name in ("phantom", "train", "predict"):
        monkeypatch.setattr(flow, name, lambda *given, **named: None)
    monkeypatch.setattr(flow, "_files", lambda run: dict.fromkeys((flow.PACKED, flow.INT8, flow.ONNX), run))
    monkeypatch.setattr(flow, "_compared", lambda *given: ([], 1))
    monkeypatch.setattr(flow, "report", lambda run: run / "report.html")
    monkeypatch.setattr(flow, "web", lambda run, out: SimpleNamespace(file=out, run=run))
    monkeypatch.setattr(flow, "SOURCES", tmp_path)
    return tmp_path


def test_the_page_is_made_where_the_engine_is(nothing_else):
    (nothing_else / flow.ENGINE).write_bytes(b"")
    done = flow.demo(nothing_else / "demo")
    assert dict(done.places)["page for browsers"] == nothing_else / "demo/run/page.html" and not done.missing


def test_without_the_engine_it_ends_well_and_says_how_to_get_it(nothing_else):
    done = flow.demo(nothing_else / "demo")
    assert "page for browsers" not in dict(done.places)
    assert "make wasm, then pocketseg web" in done.missing and "page.html" in done.missing
