"""The PNG files: same input, same bytes; strange input, still a picture."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pocketseg.reporting import Panel, StageCurves, save_curves, save_examples
from pocketseg.reporting.overlay import PALETTE, REFERENCE_COLOR, rgb


def history(epochs: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": float(number),
            "lr": 1e-3 / number,
            "loss": 1 / number,
            "bce": 0.5 / number,
            "val_loss": 1.2 / number,
            "val_dice": 1 - 1 / number,
            "val_iou": 0.9 - 0.9 / number,
        }
        for number in range(1, epochs + 1)
    ]


def panel(title: str = "case 1", shape: tuple[int, ...] = (32, 40), reference: bool = True, classes: int = 1) -> Panel:
    image = np.arange(math.prod(shape)).reshape(shape) % 251
    mask = np.zeros(shape[:2], np.uint8)
    mask[4 : shape[0] // 2, 4 : shape[1] // 2] = classes
    return Panel(title, "Dice 0.90", image, np.roll(mask, 9, axis=1) if reference else None, mask)


def text_chunks(path: Path) -> dict[str, object]:
    with Image.open(path) as image:
        image.load()
        return {key: value for key, value in image.info.items() if key != "dpi"}


def count(path: Path, color: str) -> int:
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - rgb(color)).max(axis=-1) <= 12).sum())


def test_curves_are_the_same_bytes_again_and_hold_no_date(tmp_path: Path) -> None:
    save_curves(StageCurves("float", history(5)), tmp_path / "a.png")
    time.sleep(1.1)
    save_curves(StageCurves("float", history(5)), tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert text_chunks(tmp_path / "a.png") == {}
    save_curves(StageCurves("float", history(6)), tmp_path / "c.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "c.png").read_bytes()


def test_curves_do_not_depend_on_the_users_settings(tmp_path: Path) -> None:
    import matplotlib

    save_curves(StageCurves("float", history(5)), tmp_path / "a.png")
    with matplotlib.rc_context({"figure.dpi": 50, "axes.facecolor": "red", "savefig.dpi": 30, "font.size": 20}):
        save_curves(StageCurves("float", history(5)), tmp_path / "b.png")
        assert matplotlib.rcParams["axes.facecolor"] == "red"
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "rows",
    [
        [],
        history(1),
        [{"epoch": 1.0, "loss": 0.5}],
        [{"epoch": 1.0, "loss": math.nan, "val_dice": math.nan}, {"epoch": 2.0, "loss": math.inf, "val_dice": 0.5}],
        [{"epoch": 1.0, "loss": -2.0}, {"epoch": 2.0, "loss": -3.0}],
    ],
)
def test_curves_of_short_and_broken_histories(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    save_curves(StageCurves("a $b$ \udc80\n漢字", rows), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > 300 and image.height > 200


def test_one_epoch_is_a_dot_in_the_color_of_its_line(tmp_path: Path) -> None:
    save_curves(StageCurves("", [{"epoch": 1.0, "lr": 0.5}]), tmp_path / "one.png")
    assert count(tmp_path / "one.png", PALETTE[6]) > 10


def test_examples_show_both_contours(tmp_path: Path) -> None:
    save_examples([panel()], tmp_path / "both.png")
    save_examples([panel(reference=False)], tmp_path / "alone.png")
    legend = count(tmp_path / "alone.png", REFERENCE_COLOR)
    assert count(tmp_path / "both.png", REFERENCE_COLOR) > legend + 500
    assert count(tmp_path / "both.png", PALETTE[0]) > 300 < count(tmp_path / "alone.png", PALETTE[0])


def test_examples_are_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        save_examples([panel(), panel("case 2", classes=3)], tmp_path / name, ["_wall", "lumen", "plaque"])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert text_chunks(tmp_path / "a.png") == {}


def test_strange_panels_are_drawn(tmp_path: Path) -> None:
    panels = [
        panel("tall", (300, 20)),
        panel("wide", (20, 300, 3)),
        panel("$x_{<script>$ \udc80 漢字 " + 50 * "long"),
        Panel("empty", "", np.full((16, 16), np.nan), None, np.zeros((16, 16), np.uint8)),
        panel("several", classes=3),
    ]
    save_examples(panels, tmp_path / "examples.png")
    with Image.open(tmp_path / "examples.png") as image:
        assert image.width > 900


def test_no_examples_is_a_picture_too(tmp_path: Path) -> None:
    save_examples([], tmp_path / "none.png")
    with Image.open(tmp_path / "none.png") as image:
        assert image.width > 100
