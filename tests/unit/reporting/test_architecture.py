"""The drawing of a net: its parts, where they stand, and that equal nets give equal bytes."""

from __future__ import annotations

import io
import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from pocketseg.reporting import draw_architecture
from pocketseg.reporting.architecture import layout, parts


def row(name, kind, stage, shape, *inputs, parameters=0):
    macs = int(kind.startswith(("conv", "depthwise")))
    return {
        "name": name, "kind": kind, "stage": stage, "shape": shape, "inputs": inputs, "parameters": parameters,
        "macs": macs,
    }  # fmt: skip


def unet(depth: int = 2, up_conv: bool = False, last: tuple[str, str, int] | None = None) -> list[dict]:
    """A U-Net as rows: a convolution in every part."""
    rows, x = [row("image", "input", "", (1, 64, 64))], "image"
    for level in range(depth):
        side = 64 >> level
        rows.append(row(f"e{level}", "conv 3×3", f"encoder.{level}", (8 << level, side, side), x, parameters=80))
        rows.append(row(f"p{level}", "max pool 2×2", "", (8 << level, side // 2, side // 2), f"e{level}"))
        x = f"p{level}"
    rows.append(row("d", "conv 3×3", "deepest", (8 << depth, 64 >> depth, 64 >> depth), x, parameters=7))
    x = "d"
    for number, level in enumerate(reversed(range(depth))):
        side = 64 >> level
        rows.append(row(f"u{level}", "nearest ×2", f"ups.{number}" if up_conv else "", (16 << level, side, side), x))
        if up_conv:
            rows.append(row(f"v{level}", "conv 2×2", f"ups.{number}", (16 << level, side, side), f"u{level}"))
        joined = f"v{level}" if up_conv else f"u{level}"
        rows.append(row(f"c{level}", "concat", "", (24 << level, side, side), f"e{level}", joined))
        rows.append(row(f"x{level}", "conv 3×3", f"decoder.{number}", (8 << level, side, side), f"c{level}"))
        x = f"x{level}"
    name, stage, parameters = last or ("head", "head", 9)
    return [*rows, row(name, "conv 1×1", stage, (1, 64, 64), x, parameters=parameters)]


def drawn(rows) -> tuple[bytes, bytes]:
    return draw_architecture("a net", "9 parameters", rows)


def test_boxes_are_stages_and_arrows_say_what_happens():
    boxes, arrows = parts(unet())
    names = ["image", "encoder.0", "encoder.1", "deepest", "decoder.0", "decoder.1", "head"]
    assert [box.name for box in boxes] == names
    assert boxes[1].lines == ("1 conv 3×3", "8 × 64×64", "80 parameters")
    assert {(a.source, a.target, a.label, a.channels) for a in arrows} == {
        ("image", "encoder.0", "", 1), ("encoder.0", "encoder.1", "max pool 2×2", 8),
        ("encoder.1", "deepest", "max pool 2×2", 16), ("deepest", "decoder.0", "nearest ×2", 32),
        ("encoder.1", "decoder.0", "", 16), ("decoder.0", "decoder.1", "nearest ×2", 16),
        ("encoder.0", "decoder.1", "", 8), ("decoder.1", "head", "", 8),
    }  # fmt: skip


def test_an_up_convolution_is_a_word_on_an_arrow():
    boxes, arrows = parts(unet(up_conv=True))
    assert [box.name for box in boxes] == [box.name for box in parts(unet())[0]]
    assert next(a for a in arrows if a.source == "deepest").label == "nearest ×2, conv 2×2"


def test_layers_are_counted_and_strides_stand_on_the_arrow():
    rows = [
        row("image", "input", "", (1, 8, 8)),
        row("a", "conv 3×3 /2", "stem", (4, 4, 4), "image"),
        *(row(f"k{k}", f"depthwise {k}×{k}", "many", (4, 4, 4), "a") for k in (1, 3, 5)),
        row("b", "conv 1×1", "many", (4, 4, 4), "k5"),
        row("c", "conv 1×1", "many", (4, 4, 4), "b"),
    ]
    boxes, arrows = parts(rows)
    assert boxes[1].lines[0] == "1 conv 3×3"
    assert boxes[2].lines[:2] == ("3 depthwise 1×1 … 5×5,", "2 conv 1×1")
    assert arrows[0].label == "stride 2"


def test_it_goes_down_on_the_left_and_up_on_the_right():
    boxes, _ = parts(unet(3))
    places, width, height = layout(boxes)
    for upper, lower in itertools.pairwise(["encoder.0", "encoder.1", "encoder.2", "deepest"]):
        assert places[upper].y > places[lower].y + places[lower].height
    for level in range(3):
        left, right = places[f"encoder.{level}"], places[f"decoder.{2 - level}"]
        assert left.middle[1] == pytest.approx(right.middle[1])
        assert left.x + left.width < right.x
    assert places["image"].x < places["encoder.0"].x < places["deepest"].x < places["decoder.0"].x < places["head"].x
    assert places["encoder.0"].x == places["encoder.1"].x
    for place in places.values():
        assert place.x > 0 and place.x + place.width < width and place.y > 0 and place.y + place.height < height


@pytest.mark.parametrize("depth", [1, 2, 6])
def test_no_box_lies_on_another(depth):
    places, *_ = layout(parts(unet(depth))[0])
    for a, b in itertools.combinations(places.values(), 2):
        beside = a.x + a.width <= b.x or b.x + b.width <= a.x
        assert beside or a.y + a.height <= b.y or b.y + b.height <= a.y


def test_equal_nets_give_equal_bytes_and_others_do_not():
    first, second, other = drawn(unet()), drawn(unet()), drawn(unet(3))
    assert first == second
    assert first[0] != other[0] and first[1] != other[1]
    assert b"dc:date" not in first[0] and b"Matplotlib v" not in first[0]
    with Image.open(io.BytesIO(first[1])) as image:
        assert set(image.info) <= {"dpi"}


def test_the_svg_is_small_and_holds_every_word():
    svg, png = drawn(unet(6, up_conv=True))
    assert len(svg) < 300_000 and len(png) < 300_000
    text = " ".join(t for element in ET.fromstring(svg).iter() for t in [element.text or ""])
    for said in ("a net", "encoder.5", "deepest", "decoder.5", "head", "max pool 2×2", "nearest ×2, conv 2×2"):
        assert said in text
    assert text.count("skip, ") == 6


LONG = ("a", "encoder.features.denseblock10", 2**31)


@pytest.mark.parametrize("rows", [unet(6, up_conv=True), unet(1), unet(2, last=LONG)])
def test_words_stand_neither_on_words_nor_on_edges(monkeypatch, rows):
    """Every text and every box of the figure as matplotlib measures it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    texts, boxes = [], []
    save = Figure.savefig

    def measured(self, *args, **kwargs):
        renderer = FigureCanvasAgg(self).get_renderer()
        texts[:] = [text.get_window_extent(renderer) for text in self.axes[0].texts if text.get_text()]
        boxes[:] = [box.get_window_extent(renderer) for box in self.axes[0].patches if isinstance(box, Rectangle)]
        save(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", measured)
    drawn(rows)
    assert len(boxes) == len(parts(rows)[0]) and len(texts) > 3 * len(boxes)
    for a, b in itertools.combinations(texts, 2):
        assert not a.padded(-1).overlaps(b.padded(-1))
    for text, box in itertools.product(texts, boxes):
        inside = box.x0 < text.x0 and text.x1 < box.x1 and box.y0 < text.y0 and text.y1 < box.y1
        assert inside or not text.overlaps(box)


def test_letters_that_would_be_mathematics_are_letters():
    svg, _ = draw_architecture("$x$ \udc80 <b>", "&", unet(1))
    assert "$x$" in ET.fromstring(svg).find(".//{*}text").text


def teal(rows) -> int:
    with Image.open(io.BytesIO(drawn(rows)[1])) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - (0x0B, 0x6B, 0x80)).max(axis=-1) < 40).sum())


def test_the_picture_shows_the_skips():
    rows = unet()
    for row in rows:
        if row["kind"] == "concat":
            row["inputs"] = row["inputs"][1:]
    assert teal(rows) == 0
    assert teal(unet()) > 300


def test_one_box_is_a_drawing_too():
    svg, _ = drawn([row("image", "input", "", (1, 8, 8)), row("a", "conv 3×3", "head", (1, 8, 8), "image")])
    assert b"head" in svg
