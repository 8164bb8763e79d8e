"""The page as a file: what is in it, what it allows, and what is refused. `tests/e2e/test_web_page.py` opens it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from helpers.packed_models import changed
from helpers.random_pipelines import small_net
from pocketseg.errors import DataError, EnvironmentProblem, ModelFileError
from pocketseg.flows import web as flow
from pocketseg.pipeline import Pipeline, Postprocess
from pocketseg.runs.shipped import shipped_models
from pocketseg.version import VERSION

PIPELINE = Pipeline(size=(32, 32), multiple=8, classes=("<b onclick=1>",))


def model_with(folder, pipeline: Pipeline, net: bytes | None = None):
    file = folder / "my <model>.pseg"
    file.write_bytes(changed(net or small_net(1, 1), card={"pipeline": pipeline.to_dict()}))
    return file


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model, and an engine that nobody runs."""
    sources = tmp_path / "web"
    sources.mkdir()
    for file in flow.SOURCES.iterdir():
        (sources / file.name).write_bytes(file.read_bytes())
    (sources / flow.ENGINE).write_bytes(b"\0asm")
    monkeypatch.setattr(flow, "SOURCES", sources)
    return model_with(tmp_path, PIPELINE)


def between(page: str, start: str, end: str) -> str:
    return page.split(start)[1].split(end)[0]


def test_the_page_holds_model_engine_and_nothing_foreign(model, tmp_path):
    page = flow.web(model, tmp_path / "page.html")
    text = page.file.read_text(encoding="utf-8")
    assert page.bytes == page.file.stat().st_size
    name = html.escape(model.name)
    held = {"engine-bytes": (b"\0asm", ""), "model-bytes": (model.read_bytes(), f' data-name="{name}"')}
    for each, (content, more) in held.items():
        inside = between(text, f'id="{each}"{more}>', "</script>")
        assert gzip.decompress(base64.b64decode(inside)) == content
    assert html.escape(PIPELINE.classes[0]) in text and PIPELINE.classes[0] not in text
    assert "http://" not in text and "https://" not in text
    assert flow.web(model, tmp_path / "again.html").file.read_bytes() == page.file.read_bytes()


def test_the_policy_names_the_script_and_the_style(model, tmp_path):
    text = flow.web(model, tmp_path / "page.html").file.read_text(encoding="utf-8")
    policy = between(text, 'Content-Security-Policy" content="', '"')
    for start, end in (('<script type="module">', "</script>"), ("<style>", "</style>")):
        digest = base64.b64encode(hashlib.sha256(between(text, start, end).encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy and "unsafe-inline" not in policy
    assert len(re.findall("<script", text)) == len(re.findall("</script>", text)) == 5


def test_every_module_is_in_the_page_behind_what_it_imports():
    for names in (flow.WORKER, flow.PAGE):
        for place, name in enumerate(names):
            text = flow.source(f"{name}.js")
            found = flow.IMPORT.findall(text)
            assert len(found) == len(re.findall(r"^import\b", text, re.MULTILINE)), (
                f"{name}.js: an import of another form"
            )
            assert {module for _, module in found} <= set(names[:place])
            exported = len(flow.EXPORT.findall(text)) + len(flow.EXPORTED_TOO.findall(text))
            assert exported == len(re.findall(r"^export\b", text, re.MULTILINE)), (
                f"{name}.js: an export of another form"
            )
    assert {file.stem for file in flow.SOURCES.glob("*.js")} == {*flow.WORKER, *flow.PAGE, "offline"}


def test_a_model_that_ships_brings_its_scores(model, tmp_path):
    shipped = shipped_models()[0]
    text = flow.web(shipped.name, tmp_path / "page.html").file.read_text(encoding="utf-8")
    about = json.loads(between(text, 'id="about-model">', "</script>"))
    assert f"Dice, rules off: {shipped.card.scores['Dice, rules off']}" in about["scores"]
    assert ["Trained on", shipped.card.data] in about["facts"] and shipped.card.split in about["scores"]


def test_what_a_card_says_cannot_end_its_element():
    about = {"scores": ["</script><script>alert(1)</script>"], "facts": []}
    text = flow.rendered(b"", "a.pseg", "a", b"", about)
    assert "<script>alert" not in text and json.loads(between(text, 'id="about-model">', "</script>")) == about


def test_a_folder_for_a_server_names_its_own_files_and_no_others(model, tmp_path):
    page = flow.web(model, folder=tmp_path / "site")
    files = {file.name for file in (tmp_path / "site").iterdir()}
    assert files == {
        page.file.name,
        "app.webmanifest",
        "offline.js",
        "icon-192.png",
        "icon-512.png",
        ".pocketseg-web.jsonl",
    }
    kept = json.loads(between((tmp_path / "site/offline.js").read_text(), "FILES = ", ";"))
    assert set(kept) - {"./"} <= files and "{digest}" not in (tmp_path / "site/offline.js").read_text()
    manifest = json.loads((tmp_path / "site/app.webmanifest").read_text())
    for icon in manifest["icons"]:
        with Image.open(tmp_path / "site" / icon["src"]) as picture:
            assert "{}x{}".format(*picture.size) == icon["sizes"] and len(picture.convert("RGB").getcolors()) == 3
    assert "connect-src 'none'" in page.file.read_text(encoding="utf-8")


def test_the_package_is_of_this_version():
    assert json.loads(flow.source("package.json"))["version"] == VERSION


def test_without_the_engine_it_says_what_to_do(model, tmp_path):
    (flow.SOURCES / flow.ENGINE).unlink()
    with pytest.raises(EnvironmentProblem, match="make wasm"):
        flow.web(model, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_what_the_page_cannot_do_is_refused(model, tmp_path):
    calipers = model_with(tmp_path, replace(PIPELINE, paint_out_calipers=True))
    with pytest.raises(ModelFileError, match="asks for paint_out_calipers"):
        flow.web(calipers, tmp_path / "page.html")
    overlapping = model_with(tmp_path, replace(PIPELINE, multilabel=True, classes=("a", "b", "c")), small_net(1, 2))
    with pytest.raises(ModelFileError, match="asks for multilabel"):
        flow.web(overlapping, tmp_path / "page.html")
    limits = model_with(tmp_path, replace(PIPELINE, postprocess=Postprocess(presence=(0.5,))))
    with pytest.raises(ModelFileError, match=r"asks for postprocess\.presence"):
        flow.web(limits, tmp_path / "page.html")
    (tmp_path / "other.pseg").write_bytes(b"hello")
    with pytest.raises(ModelFileError, match="not a packed model"):
        flow.web(tmp_path / "other.pseg", tmp_path / "page.html")
    with pytest.raises(DataError, match="ends in"):
        flow.web(model_with(tmp_path, PIPELINE), tmp_path / "page.png")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize("content", ["", "mine", '<!doctype html><meta name="generator" content="pocketseg report">'])
def test_nothing_but_a_page_of_its_own_is_replaced(content, model, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(content)
    with pytest.raises(DataError, match=r"page\.html: is there already and was not written by web → choose another"):
        flow.web(model, page)
    assert page.read_text() == content
    page.unlink()
    assert flow.web(model, page) == flow.web(model, page)
