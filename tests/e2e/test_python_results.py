"""What Python functions return, as a prompt and a notebook show it: a line, and a table of nothing but text."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from rich.console import Console

import pocketseg
from helpers.commands import SMALL
from pocketseg.experiments.run import Trial

TINY = (*SMALL, "data.size=[16, 16]", "stages.0.net.width=4", "stages.0.net.blocks=2", "stages.0.epochs=1")
CLASS = "<b>bold<script>"


class Checked(HTMLParser):
    """Every element is closed, none is a script or loads anything, and no name became an element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        assert tag in {"table", "caption", "tr", "th", "td", "p", "img"}, tag
        assert all(name == "src" and value.startswith("data:image/png;base64,") for name, value in attrs), attrs
        self.seen.add(tag)
        self.open += [] if tag == "img" else [tag]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def named(phantom_data, tmp_path_factory):
    """A run whose class is called as an element of HTML is; names of files cannot be, and a class's may."""
    out = tmp_path_factory.mktemp("named") / "run"
    values = [*TINY, f'data.classes=["{CLASS}"]', "postprocess.threshold=0.5"]
    return pocketseg.train("demo", phantom_data, out, overrides=values, device="cpu", quiet=True, report=False)


def results(run, data, tmp_path):
    """What each verb returns, by its name, and what is found in it."""
    split = run / "split.json"
    packed = run / "fold-0/model.pseg"
    evaluation = pocketseg.evaluate(packed, data, split=split, out=tmp_path / "scores")
    again = pocketseg.evaluate(packed, data, split=split, out=tmp_path / "again", against=tmp_path / "scores")
    timed = pocketseg.benchmark([packed], size=(32, 32), turns=1, turn_s=0.01)
    diagnosis = pocketseg.doctor(data, fix=tmp_path / "copy")
    exported = pocketseg.export(run, out=tmp_path / "model.onnx")
    model = pocketseg.load(packed)
    found = model.segment(next((data / "images").iterdir()))
    return {
        "evaluate": evaluation, "rows": evaluation.rows[0], "summary": evaluation.summaries[0], "against": again,
        "benchmark": timed, "measured": timed.models[0], "timing": timed.models[0].net,
        "doctor": diagnosis, "checkup": diagnosis.found, "finding": diagnosis.found.findings[0],
        "repaired": diagnosis.repaired, "export": exported, "parity": exported.parity,
        "inspect": pocketseg.inspect(run), "pack": pocketseg.pack(run, tmp_path / "model.pseg"),
        "tuned": pocketseg.pack(run, tmp_path / "tuned.pseg", constants="f16"),
        "predict": pocketseg.predict(packed, [data / "images", tmp_path / "none.png"], tmp_path / "masks"),
        "verify": pocketseg.verify(packed), "load": model, "segment": found,
        **({"object": found.objects[0]} if found.objects else {}),
        "trial": Trial("width=4", {"width": 4}, run, "<i>went wrong", {}),
    }  # fmt: skip


# What a verb gives, which a notebook shows as a table; parts of it have a line alone.
SHOWN = {
    "evaluate",
    "against",
    "benchmark",
    "doctor",
    "export",
    "inspect",
    "pack",
    "predict",
    "verify",
    "load",
    "segment",
}


def test_every_result_is_a_line_and_a_table(named, phantom_data, tmp_path):
    found = {"train": named, **results(named.run, phantom_data, tmp_path)}
    trial = found["trial"]
    found["sweep"] = replace(named, summaries={}, trials=(trial, trial))
    for name, result in found.items():
        assert len(repr(result)) <= 200 and "\n" not in repr(result), (name, repr(result))
        assert repr(result).startswith("<") or name == "parity", repr(result)
    for name in {*SHOWN, "train", "sweep"}:
        page = found[name]._repr_html_()
        assert Checked(page).seen & {"table", "img"} and len(page) < 100_000, name
    for name in ("train", "evaluate", "load"):
        assert "&lt;b&gt;bold&lt;script&gt;" in found[name]._repr_html_(), name
    assert "&lt;i&gt;went wrong" in found["sweep"]._repr_html_()
    assert "bold" in repr(found["train"]) and "Dice" in repr(found["train"])


def test_results_of_many_names_stay_short(named, tmp_path):
    model = pocketseg.load(named.run / "fold-0/model.pseg")
    model.pipeline = replace(model.pipeline, classes=tuple(f"class number {number}" for number in range(200)))
    assert len(repr(model)) <= 200 and "…" in repr(model)
    assert len(repr(replace(named, run=tmp_path / ("long" * 50)))) <= 200


# --- train ------------------------------------------------------------------------------------------------------


def standard_error(monkeypatch) -> io.StringIO:
    """Standard error of a program that has not said what becomes of its log, as pytest does."""
    file = io.StringIO()
    plain = Console(file=file, width=80, soft_wrap=True, highlight=False)
    monkeypatch.setattr("pocketseg.terminal.err", plain)
    monkeypatch.setattr("pocketseg.live.err", plain)
    logger = logging.getLogger("pocketseg")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", False)
    return file


def test_python_trains_as_the_command_does(monkeypatch, phantom_data, tmp_path):
    err = standard_error(monkeypatch)
    result = pocketseg.train("demo", phantom_data, tmp_path / "run", overrides=TINY, device="cpu")
    assert result.report == tmp_path / "run/report.html" and "<html" in result.report.read_text(encoding="utf-8")
    assert "epoch 1/1" in err.getvalue() and "\x1b" not in err.getvalue()
    assert "report.html" in result._repr_html_()
    assert not logging.getLogger("pocketseg").handlers


def test_a_quiet_training_says_nothing(monkeypatch, phantom_data, tmp_path):
    err = standard_error(monkeypatch)
    options = {"overrides": TINY, "device": "cpu", "report": False}
    result = pocketseg.train("demo", phantom_data, tmp_path / "run", quiet=True, **options)
    assert err.getvalue() == "" and result.report is None and not (tmp_path / "run/report.html").exists()
    seen = []
    pocketseg.train("demo", phantom_data, tmp_path / "two", progress=lambda *told: seen.append(told), **options)
    assert err.getvalue() == "" and {"evaluating float, test"} <= {what for what, _, _ in seen}


def test_a_report_that_cannot_be_drawn_is_reported_before(monkeypatch, phantom_data, tmp_path):
    def gone(extra: str, *packages: str) -> None:
        if extra == "report":
            raise pocketseg.errors.missing_package("jinja2", "report", ImportError("No module named 'jinja2'"))

    monkeypatch.setattr("pocketseg.packages.require", gone)
    with pytest.raises(pocketseg.errors.EnvironmentProblem, match=r"pocketseg\[report\]"):
        pocketseg.train("demo", phantom_data, tmp_path / "run", overrides=TINY, device="cpu")
    assert not (tmp_path / "run").exists()
