"""The page: one file, nothing fetched, nothing executed that came from a name, readable without pictures."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketseg.reporting import Panel, Report, StageCurves, Table, write_report
from pocketseg.reporting.charts import best_epoch, curve_chart, groups, histogram, ticks
from pocketseg.reporting.page import LONGEST_SIDE, cells, columns, render

EVIL = "<script>alert(1)</script> \"><img src=x onerror='alert(2)'> {{ 7*7 }} &amp; http://example.org"


def panel(title: str = "case 1", shape: tuple[int, ...] = (32, 40), truth: bool = True, label: int = 1) -> Panel:
    image = np.arange(math.prod(shape)).reshape(shape) % 251
    mask = np.zeros(shape[:2], np.uint8)
    mask[4 : shape[0] // 2, 4 : shape[1] // 2] = label
    return Panel(title, "Dice 0.90", image, np.roll(mask, 9, axis=1) if truth else None, mask)


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


def report() -> Report:
    return Report(
        title="Lesions",
        subtitle="thin_unet on phantom",
        facts=[("Parameters", "131 905"), ("Intended use", "research")],
        tables=[
            Table("Test part", "95 % interval", ["Model", "Dice"], [["float", "0.84 [0.81, 0.87]"], ["int8", "nan"]])
        ],
        dice={"test": [0.2, 0.8, 0.9, math.nan], "validation": [0.7]},
        curves=[StageCurves("float", history())],
        best=[panel("best case")],
        median=[panel("median case")],
        worst=[panel("worst case", truth=False)],
        cases=Table("All cases", "", ["Case", "Dice", "HD95 mm"], [["nan", "nan", "inf"], ["a 2", "0.9", "3.1"]]),
        recipe="data: {size: [128, 128]}\nseed: 0\n",
        reproduce=["pocketseg train r.yaml --data D", "pocketseg evaluate R"],
        notes=["Empty masks are counted as true negatives."],
    )


EMPTY = Report("", "", [], [], {}, [], [], [], [], Table("", "", [], []), "", [], [])


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


def test_nothing_is_fetched() -> None:
    page = Page(render(report()))
    assert not {one.tag for one in page.elements} & {
        "link",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "video",
        "use",
    }
    for one in page.elements:
        for name, value in one.attributes.items():
            if name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"):
                assert value.startswith("data:image/png;base64,") or (one.tag == "a" and value.startswith("#")), value
            assert not name.startswith("on") and name != "style", "the policy forbids inline handlers and styles"
    for one in page.all("style") + page.all("script"):
        assert not re.search(r"https?:|//[a-z]|url\(|@import|fetch|XMLHttp", one.text)


def test_policy_allows_the_one_style_and_the_one_script() -> None:
    page = Page(render(report()))
    rules = policy(page)
    assert rules["default-src"] == ["'none'"] and rules["img-src"] == ["data:"]
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        [element] = page.all(tag)
        expected = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert rules[rule] == [f"'sha256-{expected}'"]
    assert set(rules) <= {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}


def test_links_inside_the_page_lead_somewhere() -> None:
    page = Page(render(report()))
    ids = [one.attributes["id"] for one in page.elements if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    assert page.all("a") and {one.attributes["href"][1:] for one in page.all("a")} <= set(ids)


def test_any_text_stays_text() -> None:
    rows = [[EVIL, EVIL]]
    evil = Report(
        title=EVIL,
        subtitle=EVIL,
        facts=[(EVIL, EVIL)],
        tables=[Table(EVIL, EVIL, [EVIL, EVIL], rows)],
        dice={EVIL: [0.5, 0.6]},
        curves=[StageCurves(EVIL, [{"epoch": 1.0, "loss": 1.0, EVIL: 0.5}])],
        best=[replace(panel(EVIL), caption=EVIL)],
        median=[],
        worst=[],
        cases=Table(EVIL, EVIL, [EVIL, EVIL], rows),
        recipe=EVIL,
        reproduce=[EVIL],
        notes=[EVIL],
        class_names=[EVIL, "b"],
    )
    page = Page(render(evil))
    assert len(page.all("script")) == 1 and "alert" not in page.all("script")[0].text
    assert len(page.all("img")) == 1 and not page.all("img", src="x")
    assert not any(name.startswith("on") for one in page.elements for name in one.attributes)
    assert page.all("h1")[0].text == EVIL, "shown as it came, braces and all"
    assert page.all("code")[0].text == EVIL
    assert EVIL in page.all("img")[0].attributes["alt"]


def test_bytes_that_utf8_cannot_hold_do_not_stop_the_report(tmp_path: Path) -> None:
    write_report(replace(report(), best=[panel("scan\udc80.png")]), tmp_path / "report.html")
    assert "scan?.png" in (tmp_path / "report.html").read_text("utf-8")


def test_every_picture_has_a_text() -> None:
    page = Page(render(report()))
    pictures = page.all("img")
    assert len(pictures) == 3
    for one, title in zip(pictures, ("worst case", "median case", "best case"), strict=True):
        assert title in one.attributes["alt"] and "Dice 0.90" in one.attributes["alt"]
    drawings = page.all("svg")
    assert len(drawings) > 5
    for one in drawings:
        assert one.attributes.get("aria-hidden") == "true" or (
            one.attributes["role"] == "img" and len(one.attributes["aria-label"]) > 20
        )
    # 12 rows by 16 columns of 32 by 40 pixels
    assert "prediction covers 15.0 % of the picture" in pictures[0].attributes["alt"]
    assert "reference" not in pictures[0].attributes["alt"] and "reference 15.0 %" in pictures[1].attributes["alt"]


def test_tables_can_be_read_aloud() -> None:
    page = Page(render(report()))
    tables = page.all("table")
    assert [one.text for one in page.all("caption")] == ["Test part", "All cases"]
    assert len(tables) == 2 and all(one.attributes["scope"] in ("row", "col") for one in page.all("th"))
    assert len(page.all("th", scope="row")) == 4
    assert page.all("html")[0].attributes["lang"] == "en" and len(page.all("h1")) == len(page.all("main")) == 1


def test_order_of_the_page() -> None:
    page = Page(render(report()))
    order = [one.attributes["id"] for one in page.all("section")]
    assert order == ["summary", "results", "examples", "distribution", "training", "cases", "recipe", "reproduce"]
    text = page.all("main")[0].text
    for words in ("131 905", "Empty masks are counted", "seed: 0", "pocketseg evaluate R", "0.84 [0.81, 0.87]"):
        assert words in text


def test_nan_is_a_dash_and_a_case_may_be_called_nan() -> None:
    assert cells(report().cases) == [["nan", "–", "∞"], ["a 2", "0.9", "3.1"]]
    page = Page(render(report()))
    assert [one.text for one in page.all("td")] == ["0.84 [0.81, 0.87]", "–", "–", "∞", "0.9", "3.1"]
    assert "nan" not in "".join(one.attributes.get("points", "") + one.attributes.get("d", "") for one in page.elements)


@pytest.mark.parametrize(
    "cell", ["3", "-1.5", "0.84 [0.81, 0.87]", "12.4 ± 3", "139 KiB", "1 024", "5 %", "1e-3", "nan"]
)
def test_numbers_stand_to_the_right(cell: str) -> None:
    assert columns(Table("", "", ["a", "b"], [["x", cell], ["y", "–"]]))[1].numeric


@pytest.mark.parametrize("cell", ["benign", "3 of 12", "2025-03-01", "1/2", "v1", "[1]"])
def test_words_stand_to_the_left(cell: str) -> None:
    assert not columns(Table("", "", ["a", "b"], [["1", cell], ["2", "3"]]))[1].numeric


def test_median_of_each_part_is_told_and_missing_values_are_counted() -> None:
    text = Page(render(report())).all("main")[0].text
    assert "Median Dice, test0.800middle half 0.500 – 0.850 · 3 cases" in text
    assert "3 cases, 1 without a value left out" in text


@pytest.mark.parametrize(
    "change",
    [
        {"dice": {}},
        {"dice": {"test": []}},
        {"dice": {"test": [math.nan]}},
        {"curves": []},
        {"curves": [StageCurves("float", [])]},
        {"curves": [StageCurves("float", [{"epoch": 1.0, "loss": math.nan}])]},
        {"curves": [StageCurves("float", history(1))]},
        {"best": [], "median": [], "worst": []},
        {"cases": Table("", "", [], []), "tables": []},
        {"recipe": "", "reproduce": [], "notes": [], "facts": []},
    ],
)
def test_whatever_is_missing_the_rest_is_shown(change: dict[str, object]) -> None:
    page = Page(render(replace(report(), **change)))  # type: ignore[arg-type]
    assert len(page.all("section")) == 8
    drawn = "".join(value for one in page.elements for key, value in one.attributes.items() if key in ("d", "points"))
    assert "nan" not in drawn and "inf" not in drawn


def test_nothing_at_all_is_a_page_too() -> None:
    page = Page(render(EMPTY))
    assert len(page.all("section")) == 8 and not page.all("img")
    assert "No case with foreground" in page.all("main")[0].text


def test_one_class_has_two_colours_and_several_have_one_each() -> None:
    def strokes(some: Report) -> set[tuple[str, str]]:
        paths = [one for one in Page(render(some)).all("path") if len(one.attributes.get("d", "")) > 8]
        return {(one.attributes["class"], one.attributes["stroke"]) for one in paths if "stroke" in one.attributes}

    assert strokes(report()) == {("truth", "#56B4E9"), ("prediction", "#E69F00")}
    several = replace(report(), best=[panel(label=2)], median=[], worst=[panel(label=1)], class_names=["wall", "lumen"])
    assert strokes(several) == {
        ("truth dashed", "#E69F00"),
        ("prediction", "#E69F00"),
        ("truth dashed", "#56B4E9"),
        ("prediction", "#56B4E9"),
    }
    assert "lumen" in Page(render(several)).all("main")[0].text


@pytest.mark.parametrize("shape", [(300, 20), (20, 300), (16, 16, 3), (2 * LONGEST_SIDE + 1, 50)])
def test_picture_and_contours_lie_on_one_grid(shape: tuple[int, ...]) -> None:
    page = Page(render(replace(report(), best=[panel(shape=shape)], median=[], worst=[])))
    [image] = page.all("img")
    width, height = int(image.attributes["width"]), int(image.attributes["height"])
    with Image.open(BytesIO(base64.b64decode(image.attributes["src"].split(",")[1]))) as decoded:
        assert decoded.size == (width, height)
    assert max(width, height) <= LONGEST_SIDE
    assert page.all("svg", viewbox=f"0 0 {width} {height}")
    assert width / height == pytest.approx(shape[1] / shape[0], rel=0.05)


def test_same_report_same_bytes(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_report(report(), tmp_path / "new" / name)
    assert (tmp_path / "new/a.html").read_bytes() == (tmp_path / "new/b.html").read_bytes()
    assert (tmp_path / "new/a.html").read_bytes().startswith(b"<!doctype html>")


def test_bars_count_the_cases() -> None:
    chart = histogram("test", [0.0, 0.51, 0.52, 1.0, math.nan])
    assert chart is not None
    assert [bar.tip for bar in chart.bars] == ["0.00 to 0.05: 1", "0.50 to 0.55: 2", "0.95 to 1.00: 1"]
    heights = [bar.height for bar in chart.bars]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2) and heights[0] == heights[2] > 10
    assert all(bar.y + bar.height == pytest.approx(chart.bottom) for bar in chart.bars)
    middle = (chart.left + chart.right) / 2
    assert chart.marker is not None and chart.marker.position == pytest.approx(middle + 0.015 * 304, abs=0.2)


def test_curves_go_where_the_numbers_are() -> None:
    [loss, scores, _] = groups(history())
    chart = curve_chart(scores, best_epoch(history()))
    first = [tuple(map(float, point.split(","))) for point in chart.lines[0].pieces[0].split()]
    # val_dice is 0, 1/2, 2/3, 3/4 on a scale from 0 (bottom) to 1 (top).
    shares = [(chart.bottom - y) / (chart.bottom - chart.top) for _, y in first]
    assert shares == pytest.approx([0, 1 / 2, 2 / 3, 3 / 4], abs=0.01)
    assert first[0][0] == chart.left and first[-1][0] == chart.right
    assert chart.marker is not None and chart.marker.position == chart.right
    assert [one.name for one in loss.series] == ["training", "validation", "bce (part)"]


def test_gaps_break_a_line_and_lonely_points_are_dots() -> None:
    values = [0.1, 0.2, math.nan, 0.4, math.nan, math.nan, 0.7, 0.8]
    [group] = groups([{"epoch": float(n), "val_dice": value} for n, value in enumerate(values)])
    [line] = curve_chart(group).lines
    assert [len(piece.split()) for piece in line.pieces] == [2, 2] and len(line.dots) == 1


def test_best_epoch_is_the_first_of_the_highest() -> None:
    rows = [{"epoch": 1.0, "val_dice": math.nan}, {"epoch": 2.0, "val_dice": 0.5}, {"epoch": 3.0, "val_dice": 0.5}]
    assert best_epoch(rows) == (2.0, 0.5)
    assert best_epoch([]) is None and best_epoch([{"epoch": 1.0}]) is None


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 1e-5), (-3, 0), (0, 7e6), (0.99, 1.01)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 6 and low - 1e-9 <= found[0] and found[-1] <= high * (1 + 1e-9) + 1e-12
