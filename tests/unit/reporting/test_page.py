"""The page: one file, nothing fetched, nothing executed that came from a name, readable without pictures."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketseg.reporting import (
    Axis,
    Chart,
    Code,
    Column,
    Drawing,
    Gallery,
    Highlights,
    Interval,
    Notes,
    Panel,
    Properties,
    Rated,
    Report,
    Section,
    Series,
    Table,
    histogram,
    trade_off,
    training_charts,
    write_report,
)
from pocketseg.reporting.page import LONGEST_IN_ROW, LONGEST_SIDE, cells, render

EVIL = "<script>alert(1)</script> \"><img src=x onerror='alert(2)'> {{ 7*7 }} &amp; http://example.org"


def panel(title: str = "case 1", shape: tuple[int, ...] = (32, 40), reference: bool = True, label: int = 1) -> Panel:
    image = np.arange(math.prod(shape)).reshape(shape) % 251
    mask = np.zeros(shape[:2], np.uint8)
    mask[4 : shape[0] // 2, 4 : shape[1] // 2] = label
    return Panel(title, "Dice 0.90", image, np.roll(mask, 9, axis=1) if reference else None, mask)


def history(epochs: int = 4) -> list[dict[str, float]]:
    return [
        {
            "epoch": n,
            "lr": 1e-3,
            "loss": 1 / n,
            "bce": 0.5 / n,
            "val_loss": 1.2 / n,
            "val_dice": 1 - 1 / n,
            "val_iou": 0.8,
        }
        for n in range(1, epochs + 1)
    ]


def gallery(*panels: Panel, names: tuple[str, ...] = (), columns: int | None = None) -> Gallery:
    return Gallery("Worst", panels, names, columns)


def charts() -> list[Chart]:
    rated = [Rated("float", 900, 0.8, Interval(0.7, 0.9)), Rated("int8", 100, 0.79, Interval(math.nan, math.nan))]
    spread, size = histogram("Spread", [0.2, 0.8, 0.9, math.nan]), trade_off("Dice against size", "KiB", rated)
    assert spread is not None and size is not None
    return [spread, size, *training_charts(history())]


def report(**sections: list) -> Report:
    """Every kind of item; `sections` replaces what a section holds."""
    results = Table(
        "Models",
        [Column("model"), Column("Dice"), Column("95 %"), Column("n")],
        [["float", 0.84, Interval(0.81, 0.87), 1200], ["int8", math.nan, Interval(math.nan, math.nan), None]],
        "a note",
    )
    every = {
        "card": [
            Highlights([("Dice", "0.84", "95 % 0.81 to 0.87")]),
            Properties("Use", [("Intended use", "research")]),
        ],
        "results": [results, Notes("How to read", ["A miss counts 0."])],
        "examples": [gallery(panel("worst case", reference=False), panel("second"))],
        "curves": charts(),
        "net": [Drawing("a net of two layers", png())],
        "reproduce": [Code("Commands", "pocketseg train r.yaml\npocketseg evaluate R\n")],
    }
    return Report(
        "Lesions", "thin_unet", [Section(key, key.title(), items) for key, items in (every | sections).items()]
    )


def png() -> bytes:
    buffer = BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


EMPTY = Report("", "", [])


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """What a browser would see: elements in order, each with the text directly or deeper inside it."""

    source: str
    elements: list[Element] = field(default_factory=list)
    stack: list[Element] = field(default_factory=list)

    VOID = frozenset({"meta", "img", "input", "link", "br", "hr", "source", "embed", "base"})

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.source)
        self.close()
        assert not self.stack, f"never closed: {[one.tag for one in self.stack]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {key: value or "" for key, value in attrs})
        self.elements.append(element)
        if tag not in self.VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.stack and self.stack[-1].tag == tag, f"</{tag}> closes {self.stack[-1:]}"
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        for element in self.stack:
            element.text += data

    def all(self, tag: str, **attributes: str) -> list[Element]:
        return [
            one
            for one in self.elements
            if one.tag == tag and all(one.attributes.get(key.strip("_")) == value for key, value in attributes.items())
        ]


def policy(page: Page) -> dict[str, list[str]]:
    content = next(one for one in page.all("meta") if "http-equiv" in one.attributes).attributes["content"]
    return {words[0]: words[1:] for part in content.split(";") if (words := part.split())}


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = Page(render(report()))
    strange = {"link", "iframe", "object", "embed", "base", "form", "video", "use", "script"}
    assert not {one.tag for one in page.elements} & strange
    for one in page.elements:
        for name, value in one.attributes.items():
            if name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"):
                assert value.startswith("data:image/png;base64,") or (one.tag == "a" and value.startswith("#")), value
            assert not name.startswith("on") and name != "style", "the policy forbids inline handlers and styles"
    for one in page.all("style"):
        assert not re.search(r"https?:|//[a-z]|url\(|@import", one.text)


def test_policy_allows_the_one_style_and_no_script() -> None:
    page = Page(render(report()))
    rules = policy(page)
    assert rules["default-src"] == ["'none'"] and rules["img-src"] == ["data:"]
    [element] = page.all("style")
    expected = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
    assert rules["style-src"] == [f"'sha256-{expected}'"]
    assert set(rules) == {"default-src", "img-src", "style-src", "base-uri", "form-action"}


def test_links_and_names_lead_somewhere() -> None:
    page = Page(render(report()))
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    assert len(page.all("a")) == 7 and {one.attributes["href"][1:] for one in page.all("a")} <= set(ids)
    for one in page.elements:
        assert set(one.attributes.get("aria-labelledby", "").split()) <= set(ids)


def test_any_text_stays_text() -> None:
    series = Series(EVIL, [(1.0, 1.0), (2.0, 2.0)], labels=[EVIL, "b"])
    evil = Report(
        EVIL,
        EVIL,
        [
            Section(
                "all",
                EVIL,
                [
                    Highlights([(EVIL, EVIL, EVIL)]),
                    Properties(EVIL, [(EVIL, EVIL)]),
                    Table(EVIL, [Column(EVIL), Column(EVIL)], [[EVIL, EVIL]], EVIL),
                    Notes(EVIL, [EVIL]),
                    Code(EVIL, EVIL),
                    gallery(replace(panel(EVIL), caption=EVIL), names=(EVIL, "b")),
                    Chart(EVIL, EVIL, Axis(EVIL), Axis(EVIL), [series, series], (1.0, EVIL), EVIL),
                ],
                EVIL,
            )
        ],
    )
    page = Page(render(evil))
    assert not page.all("script") and len(page.all("img")) == 1 and not page.all("img", src="x")
    assert not any(name.startswith("on") for one in page.elements for name in one.attributes)
    assert page.all("h1")[0].text == EVIL, "shown as it came, braces and all"
    assert page.all("code")[0].text == EVIL and page.all("desc")[0].text == EVIL
    assert EVIL in page.all("img")[0].attributes["alt"]


def test_bytes_that_utf8_cannot_hold_do_not_stop_the_report(tmp_path: Path) -> None:
    write_report(report(examples=[gallery(panel("scan\udc80.png"))]), tmp_path / "report.html")
    assert "scan?.png" in (tmp_path / "report.html").read_text("utf-8")


def test_every_picture_and_chart_has_a_text_and_its_numbers() -> None:
    page = Page(render(report()))
    first, second, drawing = page.all("img")
    assert "worst case" in first.attributes["alt"] and "Dice 0.90" in first.attributes["alt"]
    # 12 rows by 16 columns of 32 by 40 pixels
    assert "prediction covers 15.0 % of the picture" in first.attributes["alt"]
    assert "reference" not in first.attributes["alt"] and "reference 15.0 %" in second.attributes["alt"]
    assert drawing.attributes["alt"] == "a net of two layers"
    spoken = page.all("svg", role="img")
    assert len(spoken) == len(charts()) == len(page.all("details")) == len(page.all("desc"))
    assert all(len(one.text) > 20 for one in page.all("desc"))
    assert all(one.attributes.get("aria-hidden") == "true" for one in page.all("svg") if one not in spoken)
    captions = [one.text for one in page.all("caption")]
    assert captions[0] == "Models" and captions[1:] == [f"{one.title}, numbers" for one in charts()]


def test_tables_can_be_read_aloud() -> None:
    page = Page(render(report()))
    assert all(one.attributes["scope"] in ("row", "col") for one in page.all("th"))
    assert len(page.all("th", scope="row")) >= 2
    assert page.all("html")[0].attributes["lang"] == "en" and len(page.all("h1")) == len(page.all("main")) == 1
    levels = [int(one.tag[1]) for one in page.elements if re.fullmatch("h[1-6]", one.tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels)), "no level is skipped"
    for one in page.elements:
        if "tabindex" in one.attributes:
            assert one.attributes["role"] == "region" and one.attributes["aria-label"], "what scrolls has a name"


def test_sections_stand_in_order_and_empty_ones_are_left_out() -> None:
    page = Page(render(report(net=[])))
    order = [one.attributes["id"] for one in page.all("section")]
    assert order == ["card", "results", "examples", "curves", "reproduce"]
    text = page.all("main")[0].text
    for words in ("Intended useresearch", "A miss counts 0.", "pocketseg evaluate R", "0.810 to 0.870", "1,200"):
        assert words in text, words


def test_what_has_no_value_is_a_dash() -> None:
    (results,) = [item for item in report().sections[1].items if isinstance(item, Table)]
    assert cells(results) == [["float", "0.840", "0.810 to 0.870", "1,200"], ["int8", "–", "–", "–"]]
    page = Page(render(report()))
    drawn = "".join(one.attributes.get("points", "") + one.attributes.get("d", "") for one in page.elements)
    assert "nan" not in drawn and "inf" not in drawn


def test_columns_of_numbers_stand_to_the_right_and_a_case_may_be_called_nan() -> None:
    table = Table("t", [Column("case"), Column("Dice"), Column("word")], [["nan", 0.5, "a"], ["2", None, "3"]])
    page = Page(render(report(results=[table], curves=[])))
    assert [one.attributes.get("class") for one in page.all("td")] == ["number", None, "number", None]
    assert page.all("bdi")[0].text == "nan"


def test_nothing_at_all_is_a_page_too() -> None:
    page = Page(render(EMPTY))
    assert not page.all("section") and not page.all("img") and page.all("main")


def test_one_class_has_two_colors_and_several_have_one_each() -> None:
    def strokes(*galleries: Gallery) -> set[tuple[str, str]]:
        page = Page(render(report(examples=list(galleries))))
        paths = [one for one in page.all("path") if len(one.attributes.get("d", "")) > 8]
        return {(one.attributes["class"], one.attributes["stroke"]) for one in paths if "stroke" in one.attributes}

    assert strokes(gallery(panel())) == {("reference", "#56B4E9"), ("prediction", "#E69F00")}
    names = ("wall", "lumen")
    assert strokes(gallery(panel(label=2), panel(label=1), names=names)) == {
        ("reference dashed", "#E69F00"),
        ("prediction", "#E69F00"),
        ("reference dashed", "#56B4E9"),
        ("prediction", "#56B4E9"),
    }
    assert "lumen" in Page(render(report(examples=[gallery(panel(), names=names)]))).all("main")[0].text


@pytest.mark.parametrize("columns", [None, 3])
@pytest.mark.parametrize("shape", [(300, 20), (20, 300), (16, 16, 3), (2 * LONGEST_SIDE + 1, 50)])
def test_picture_and_contours_lie_on_one_grid(shape: tuple[int, ...], columns: int | None) -> None:
    page = Page(render(report(examples=[gallery(panel(shape=shape), columns=columns)], net=[])))
    [image] = page.all("img")
    width, height = int(image.attributes["width"]), int(image.attributes["height"])
    with Image.open(BytesIO(base64.b64decode(image.attributes["src"].split(",")[1]))) as decoded:
        assert decoded.size == (width, height)
    assert max(width, height) <= (LONGEST_IN_ROW if columns else LONGEST_SIDE)
    assert page.all("svg", viewbox=f"0 0 {width} {height}")
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.05)


def test_same_report_same_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(report(), tmp_path / "new" / name)
    assert (tmp_path / "new/a.html").read_bytes() == (tmp_path / "new/b.html").read_bytes()
    assert (tmp_path / "new/a.html").read_bytes().startswith(b"<!doctype html>")


def test_colors_can_be_told_from_the_paper() -> None:
    """WCAG: 4.5 for text, 3 for lines, in light and dark."""
    [style] = Page(render(report())).all("style")
    light, dark = (dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", block)) for block in style.text.split("}")[:2])
    for colors in (light, dark):
        for name in ("ink", "quiet", "accent"):
            for ground in ("paper", "card", "soft"):
                assert contrast(colors[name], colors[ground]) >= 4.5, (name, ground)
        for name in (f"s{number}" for number in range(8)):
            assert contrast(colors[name], colors["card"]) >= 3, name


def contrast(one: str, other: str) -> float:
    """The ratio of relative luminances (WCAG 2.2)."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
