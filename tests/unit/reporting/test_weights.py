"""The pages of a net's weights: how many, what stands on them, and that equal numbers give equal bytes."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from pocketseg.reporting import Column, Distribution, Table, WeightPages, draw_weights
from pocketseg.reporting.weights import _pages


def distribution(name: str = "encoder.0", levels: int = 3, bins: int = 10) -> Distribution:
    edges = np.linspace(-2, 2, bins + 1).tolist()
    values = np.linspace(-1, 1, levels).tolist() if levels else []
    return Distribution(name, "2 bits · 40.0% zeros", "weight", edges, [1] * bins, [(v, 7) for v in values])


def content(layers: int, activations: int = 0, levels: int = 3) -> WeightPages:
    columns = [Column(name) for name in ("layer", "kind", "bits")]
    table = Table("net, w2a8", columns, [[f"l{n}", "conv", "2"] for n in range(layers)], "9 parameters")
    panels = [distribution(f"l{n}", levels) for n in range(layers)]
    return WeightPages(table, panels, panels[:activations], images=2)


def pages_of(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


def words(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def drawn_height(axes) -> float:
    """The highest line or bar, in percent."""
    lines = [segment[:, 1].max() for some in axes.collections for segment in some.get_segments()]
    return max([*lines, *(patch.get_data().values.max() for patch in axes.patches)])


@pytest.mark.parametrize(
    ("layers", "activations", "pages"), [(1, 0, 2), (12, 0, 2), (13, 0, 3), (12, 12, 3), (35, 1, 2 + 3 + 1)]
)
def test_a_list_and_twelve_panels_a_page(layers, activations, pages):
    assert pages_of(draw_weights(content(layers, activations), "pdf")) == pages


def test_png_has_the_pages_one_below_the_other():
    one, two = (Image.open(io.BytesIO(draw_weights(content(n), "png"))) for n in (12, 13))
    assert one.width == two.width and one.height * 3 == two.height * 2


@pytest.mark.parametrize("kind", ["pdf", "png"])
def test_equal_numbers_give_equal_bytes_without_a_date(kind):
    first, second = (draw_weights(content(3, 2), kind) for _ in range(2))
    assert first == second and b"CreationDate" not in first and b"atplotlib" not in first
    assert draw_weights(content(3, 2, levels=5), kind) != first


def test_the_panel_shows_the_shares():
    figure = list(_pages(content(1)))[1]
    before, after = figure.axes
    assert drawn_height(before) == pytest.approx(10) and drawn_height(after) == pytest.approx(100 / 3)
    assert before.get_ylabel() == "before" and after.get_ylabel() == "after" and after.get_xlabel() == "weight"
    assert {"l0", "2 bits · 40.0% zeros", "Weights"} <= set(words(figure))


def test_a_float_layer_has_one_histogram():
    first, second = _pages(content(1, levels=0))
    assert len(second.axes) == 1 and "before" not in words(first) and "bars" in words(first)


def test_many_levels_are_drawn_in_bins():
    after = list(_pages(content(1, levels=1001)))[1].axes[1]
    assert not after.collections and sum(after.patches[0].get_data().values) == pytest.approx(100)


def test_activations_are_logarithmic_and_say_from_how_many_images():
    last = list(_pages(content(2, 2)))[-1]
    assert "Activations: what enters each layer, on 2 images" in words(last)
    assert {axes.get_yscale() for axes in last.axes} == {"log"}


def test_nothing_overlaps_on_a_full_page():
    figure = list(_pages(content(12)))[1]
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes] + [text.get_window_extent() for text in figure.texts]
    inside = figure.bbox
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= inside.x1 and box.y1 <= inside.y1 for box in boxes)
    # The labels of a panel's two axes may touch at the corner of the axes, panels may not.
    for one in figure.texts:
        box = one.get_window_extent(renderer)
        assert not any(box.overlaps(axes.get_tightbbox(renderer)) for axes in figure.axes), one.get_text()
