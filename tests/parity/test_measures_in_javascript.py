"""What the page measures of masks, beside the plainest way to do it."""

from __future__ import annotations

import json

import numpy as np
from scipy import ndimage

from helpers.javascript import in_node
from pocketseg.flows.web import SOURCES

MEASURE = f"""
const {{ measured }} = await import("{(SOURCES / "measure.js").as_uri()}");
const cases = JSON.parse(await readFile(given[0], "utf8"));
console.log(JSON.stringify(cases.map(({{ width, height, data, spacing }}) =>
  measured({{ width, height, data: Uint8Array.from(data) }}, ["a", "b"], spacing))));
"""


def longest(part: np.ndarray, row: float, column: float) -> float:
    """The largest distance of two corners of pixels, by looking at all of them."""
    y, x = np.nonzero(part)
    corners = np.concatenate([np.stack([(y + i) * row, (x + j) * column], 1) for i in (0, 1) for j in (0, 1)])
    return float(np.linalg.norm(corners[:, None] - corners[None], axis=2).max())


def test_areas_objects_and_longest_diameters(tmp_path):
    random = np.random.default_rng(6)
    masks = [np.zeros((5, 4), np.uint8), np.ones((3, 7), np.uint8), np.eye(6, dtype=np.uint8)]
    masks += [(random.random((14, 11)) < share).astype(np.uint8) * random.integers(1, 3) for share in (0.1, 0.3, 0.6)]
    masks += [random.integers(0, 3, (13, 17), np.uint8)]
    spacings = [None, [0.5, 2.0], [1.5, 0.25]]
    cases = [(mask, spacings[index % 3]) for index, mask in enumerate(masks)]
    given = [
        {"width": mask.shape[1], "height": mask.shape[0], "data": mask.ravel().tolist(), "spacing": spacing}
        for mask, spacing in cases
    ]
    (tmp_path / "cases.json").write_text(json.dumps(given))
    for (mask, spacing), found in zip(cases, json.loads(in_node(MEASURE, tmp_path / "cases.json")), strict=True):
        for index, one in enumerate(found, start=1):
            labels, count = ndimage.label(mask == index, np.ones((3, 3)))
            parts = [labels == label for label in range(1, count + 1)]
            assert (one["area"], one["objects"]) == (int((mask == index).sum()), count)
            assert one["largest"] == max((int(part.sum()) for part in parts), default=0)
            assert np.isclose(one["longest"], max((longest(part, 1, 1) for part in parts), default=0))
            if spacing is None:
                assert one["longestMm"] is None
            else:
                assert np.isclose(one["longestMm"], max((longest(part, *spacing) for part in parts), default=0))
