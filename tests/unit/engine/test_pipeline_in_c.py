"""pseg_segment and its neighbors, as C sees them: what is refused, by which name, in which order and memory."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pocketseg.engine import library as native
from pocketseg.engine.container import read_container
from pocketseg.engine.session import Session, _interruptible
from pocketseg.errors import ModelFileError
from pocketseg.pipeline import Normalization, Pipeline, TrainedOn
from pocketseg.pipeline.intensity import is_colored

FILE = Path(__file__).parents[2] / "golden/0.1.0/w8a8.pseg"
IMAGE = (np.indices((50, 70)).sum(axis=0) * 2).astype(np.uint8)
WHOLE = Pipeline(
    (32, 32), multiple=4, spacing_mm=(1.0, 1.0), trained_on=TrainedOn("uint8"), tta=("horizontal",),
    normalization=Normalization("train-mean-std", mean=(0.5,), std=(0.2,)),
).to_dict()  # fmt: skip


class Facts(ctypes.Structure):
    """pseg_pipeline_facts."""

    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("height", "width", "channels", "classes", "runs", "tiles")),
        ("spacing_mm", ctypes.c_double * 2),
    ]


class Raw:
    """A model behind the C interface; calls return a status."""

    def __init__(self, content: bytes) -> None:
        self.library, self.model, self.size = native.library(), ctypes.c_void_p(), ctypes.c_size_t()
        assert self.library.pseg_open(content, len(content), ctypes.byref(self.model)) == 0

    def __del__(self) -> None:
        self.library.pseg_close(self.model)

    @property
    def error(self) -> str:
        return self.library.pseg_error(self.model).decode()

    def use(self, card: object) -> int:
        text = card if isinstance(card, bytes) else json.dumps(card).encode()
        return self.library.pseg_use_pipeline(self.model, text, len(text))

    def plan(self, image: native.ImageOf, threads: int = 1) -> int:
        return self.library.pseg_plan_segment(self.model, ctypes.byref(image), threads, ctypes.byref(self.size))

    def segment(self, image: native.ImageOf, progress=None, skip: int = 0, less: int = 0):
        """Status and mask; around the arena and the mask nothing is written."""
        pixels, arena = image.height * image.width, np.full(self.size.value + skip + 64, 0xAA, np.uint8)
        mask = np.full(pixels + 64, 0xAA, np.uint8)
        status = self.library.pseg_segment(
            self.model, ctypes.byref(image), mask.ctypes.data, None,
            native.PROGRESS(progress) if progress else native.NO_PROGRESS, None,
            arena.ctypes.data + skip, self.size.value - less,
        )  # fmt: skip
        assert (arena[:skip] == 0xAA).all() and (arena[skip + self.size.value :] == 0xAA).all()
        assert (mask[pixels:] == 0xAA).all()
        return status, mask[:pixels].reshape(image.height, image.width)


def image_of(pixels: np.ndarray, **changes) -> native.ImageOf:
    fields = {"pixels": pixels.ctypes.data, "type": 0, "height": pixels.shape[0], "width": pixels.shape[1]}
    return native.ImageOf(**{**fields, "channels": 1, "planar": 0, **changes})


@pytest.fixture
def model() -> Raw:
    return Raw(FILE.read_bytes())


def test_facts_of_a_card(model):
    facts = Facts()
    assert model.library.pseg_describe_pipeline(model.model, ctypes.byref(facts)) == 0
    assert (facts.height, facts.width, facts.channels, facts.classes, facts.runs) == (32, 32, 1, 1, 1)
    assert list(facts.spacing_mm) == [0, 0]
    model.library.pseg_class_name.restype = ctypes.c_char_p
    model.library.pseg_class_name.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    names = [{"classes": [name], "size": [32, 32], "multiple": 4} for name in ("Zyste, groß", "囊 \U0001f600", 'a"\\b')]
    for card in names:
        assert model.use(card) == 0
        assert model.library.pseg_class_name(model.model, 1).decode() == card["classes"][0]
    assert model.library.pseg_class_name(model.model, 2) == b""
    tiled = {"size": [32, 64], "multiple": 4, "fit": "tile", "tta": ["vertical", "horizontal"], "spacing_mm": [0.5, 2]}
    assert model.use(tiled) == 0 and model.library.pseg_describe_pipeline(model.model, ctypes.byref(facts)) == 0
    assert (facts.height, facts.width, facts.runs, facts.tiles, *facts.spacing_mm) == (32, 64, 4, 1, 0.5, 2)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"paint_out_calipers": True}, "paint_out_calipers"),
        ({"presence": 0.5}, "presence"),
        ({"größe\n": 0.5}, "gr??"),
        ({"fit": "fill"}, "fit fill"),
        ({"normalization": {"kind": "unit-range", "gamma": 2}}, "normalization.gamma"),
        ({"normalization": {"kind": "clahe"}}, "normalization.kind clahe"),
        ({"postprocess": {"smooth": 3}}, "postprocess.smooth"),
        ({"postprocess": {"keep": "two"}}, "postprocess.keep two"),
        ({"tta": ["diagonal"]}, "tta diagonal"),
        ({"trained_on": {"numbers": "int8"}}, "trained_on.numbers int8"),
        ({"trained_on": {"scanner": "x"}}, "trained_on.scanner"),
    ],
)
def test_what_is_not_done_is_named(model, changes, name):
    assert model.use(WHOLE) == 0
    assert model.use({**WHOLE, **changes}) == 8
    assert f"asks for {name}" in model.error and "which the native pipeline does not do" in model.error
    assert model.error.isascii()
    file = read_container(FILE.read_bytes(), "here")
    card = {**file.card, "pipeline": {**WHOLE, **changes}}
    other = Raw(dataclasses.replace(file, card=card).to_bytes())
    assert other.plan(image_of(IMAGE)) == 8 and name in other.error
    assert other.library.pseg_plan(other.model, 32, 32, 1, ctypes.byref(other.size)) == 0  # the net runs as ever
    assert other.use(WHOLE) == 0 and other.plan(image_of(IMAGE, spacing_mm=(1, 1))) == 0
    with pytest.raises(ModelFileError, match="does not do"):
        Session(FILE.read_bytes(), "here").segment(IMAGE, json.dumps({**WHOLE, **changes}), (1, 1), False)


@pytest.mark.parametrize(
    "card",
    [
        b"", b"{", b"[]", b"{}", b"nul", b'{"size": [32, 32], "multiple": 4} x', b'{"size": [032, 32], "multiple": 4}',
        b'{"size": [32, 32,], "multiple": 4}', b'{"size": [32.0, 32], "multiple": 4}', b'{"size": [32, 32, 1]}',
        b'{"size": [32], "multiple": 4}', b'{"size": [0, 32]}', b'{"size": [4097, 32]}', b'{"size": [32, 32]',
        b'{"size": [32, 32], "multiple": 4, "classes": []}', b'{"size": [32, 32], "multiple": 4, "fit": "tile\\ud800"}',
        b'{"size": [32, 32], "multiple": 4, "classes": ["a", "b"]}', b'{"size": [32, 32], "multiple": 3}',
        b'{"size": [32, 32], "multiple": 4, "channels": 3}', b'{"size": [4, 32], "multiple": 4, "fit": "tile"}',
        b'{"size": [32, 32], "multiple": 4, "postprocess": {"threshold": 1.5}}',
        b'{"size": [32, 32], "multiple": 4, "postprocess": {"threshold": NaN}}',
        b'{"size": [32, 32], "multiple": 4, "postprocess": {"threshold": 1e999}}',
        b'{"size": [32, 32], "multiple": 4, "postprocess": {"min_pixels": -1}}',
        b'{"size": [32, 32], "multiple": 4, "postprocess": {"fill_holes": 1}}',
        b'{"size": [32, 32], "multiple": 4, "intensity_range": [1, 1]}',
        b'{"size": [32, 32], "multiple": 4, "spacing_mm": [0, 1]}',
        b'{"size": [32, 32], "multiple": 4, "tta": ["vertical", "vertical"]}',
        b'{"size": [32, 32], "multiple": 4, "normalization": {"kind": "train-mean-std"}}',
        b'{"size": [32, 32], "multiple": 4, "reading": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"size": [32, 32], "multiple": 4, "postprocess": {"threshold": 0.' + b"1" * 80 + b"}}",
    ],
)  # fmt: skip
def test_cards_that_are_not_valid(model, card):
    assert model.use(WHOLE) == 0
    assert model.use(card) == 3 and model.error
    assert model.plan(image_of(IMAGE, spacing_mm=(1, 1))) == 0  # the pipeline before stays


def test_an_order_that_is_none(model):
    image = image_of(IMAGE)
    model.size.value = 64
    assert model.segment(image)[0] == 5 and "pseg_plan_segment comes first" in model.error
    assert model.plan(image) == 0
    good, mask = model.segment(image)
    assert good == 0 and 0 < mask.sum() < mask.size
    assert np.array_equal(model.segment(image, skip=5)[1], mask)
    assert model.segment(image, less=1)[0] == 5 and "the arena is smaller" in model.error
    assert model.segment(image_of(IMAGE, width=69))[0] == 5 and "is not like the one" in model.error
    nothing = image_of(IMAGE)
    nothing.pixels = None
    assert model.segment(nothing)[0] == 5 and "there is no image" in model.error
    assert model.library.pseg_plan(model.model, 32, 32, 1, ctypes.byref(ctypes.c_size_t())) == 0
    assert model.segment(image)[0] == 5 and "pseg_plan_segment comes first" in model.error


@pytest.mark.parametrize(
    "changes",
    [
        {"type": 4}, {"planar": 2}, {"height": 0}, {"channels": 0}, {"channels": 17}, {"spacing_mm": (1, 0)},
        {"spacing_mm": (np.nan, 1)}, {"spacing_mm": (-1, -1)},
    ],
)  # fmt: skip
def test_images_that_are_none(model, changes):
    assert model.plan(image_of(IMAGE, **changes)) == 5 and model.error


def test_images_without_a_rule_and_too_large_ones(model):
    assert model.plan(image_of(IMAGE, channels=2)) == 9 and "has 2 channels and the net takes 1" in model.error
    assert model.plan(image_of(IMAGE, height=2**32 - 1, width=2**32 - 1)) == 4
    assert model.plan(image_of(IMAGE), threads=0) == 5


def test_progress_and_its_end(model):
    pipeline = {"size": [32, 32], "multiple": 4, "fit": "tile", "tta": ["horizontal"]}
    assert model.use(pipeline) == 0
    image, seen = image_of(IMAGE), []
    assert model.plan(image) == 0
    assert model.segment(image, lambda _, done, of: seen.append((done, of)) or 0)[0] == 0
    assert seen == [(done, 12) for done in range(13)]  # 2 × 3 tiles, each twice
    for last in (0, 5, 12):
        assert model.segment(image, lambda _, done, of, last=last: done == last)[0] == 10
        assert model.error == "it was cancelled"
    assert model.segment(image)[0] == 0


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ('"postprocess": {"threshold": 0}', '"postprocess": {"fill_holes": false}'),
        ('"normalization": {"kind": "z-score", "clip": 0.1}', '"normalization": {}'),
        ('"trained_on": {"numbers": "uint16"}', '"trained_on": null'),
    ],
    ids=["postprocess", "normalization", "trained_on"],
)
def test_of_a_key_that_is_there_twice_the_last_counts(first, last):
    """As for Python, and nothing of the first stays."""
    session, found = Session(FILE.read_bytes(), "here"), []
    for fields in (last, f"{first}, {last}", first):
        text = f'{{"size": [32, 32], "multiple": 4, {fields}}}'
        mask, probabilities, _ = session.segment(IMAGE.astype(np.float32), text, None, True)
        found.append((mask.tobytes(), probabilities.tobytes()))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_colors_are_seen_as_the_python_pipeline_sees_them(model, dtype, planar):
    """A faint cast is none."""
    assert model.use({"size": [32, 32], "multiple": 4, "trained_on": {"numbers": "float"}}) == 0
    casts, found = [0, 1, 9, 10, 11, 90], []
    for cast in casts:
        gray = IMAGE.astype(int) % 200  # a twentieth of it is a little less than 10
        pixels = np.stack([gray, gray, gray], axis=-1)
        pixels[20, 30, 1] = (pixels[20, 30, 1] + cast) % 200
        pixels = (pixels - 100 * (dtype == "int16")).astype(dtype)
        stored = np.ascontiguousarray(np.moveaxis(pixels, -1, 0) if planar else pixels)
        image = image_of(pixels, type=native.TYPES[dtype], channels=3, planar=planar)
        image.pixels = stored.ctypes.data
        assert model.plan(image) == 0 and model.segment(image)[0] == 0
        colored = ctypes.c_uint32()
        assert model.library.pseg_seen(model.model, (ctypes.c_float * 2)(), ctypes.byref(colored)) == 0
        assert bool(colored.value) == is_colored(pixels), cast
        found.append(colored.value)
    assert found == [0, 0, 0, 1, 1, 1]


def test_tiles_of_a_large_image_need_little_memory(model):
    """Twelve thousand pixels a side: a few rows of tiles, and no plane of all its pixels."""
    pipeline = {"size": [256, 256], "multiple": 4, "fit": "tile"}
    assert model.use(pipeline) == 0
    assert model.plan(image_of(IMAGE, height=12_000, width=12_000)) == 0
    assert 10e6 < model.size.value < 60e6


@pytest.mark.skipif(os.name == "nt", reason="signals are sent in another way")
def test_a_large_image_is_interrupted():
    """By Ctrl-C between two tiles; the session goes on afterwards."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in what runs in the background
    session, tiled = Session(FILE.read_bytes(), "here"), Pipeline((32, 32), multiple=4, fit="tile").to_json()
    large = np.tile(IMAGE, (200, 100))  # 100,000 tiles
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        session.segment(large, tiled, None, False)
    timer.join()
    signal.signal(signal.SIGINT, before)
    _, one, _ = session.segment(IMAGE, tiled, None, True)
    _, many, _ = session.segment(large[:1200, :1000], tiled, None, True)
    assert one.std() > 0 and many.std() > 0


def test_an_interrupt_while_the_thread_starts_waits_for_it_too(monkeypatch):
    """What it writes to would be freed under it."""
    ended = []

    class Interrupted(threading.Thread):
        def start(self) -> None:
            super().start()
            raise KeyboardInterrupt

    def run(progress) -> int:
        while not progress(None, 0, 1):
            time.sleep(0.01)
        time.sleep(0.1)
        ended.append("run")
        return 0

    monkeypatch.setattr(threading, "Thread", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        _interruptible(run)
    assert ended == ["run"]
