"""The native pipeline beside NumPy's, which is its specification: every byte of masks and probabilities is the same."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest

import pocketseg
from helpers.random_pipelines import one_of, small_net, some_image, some_pipeline
from pocketseg.data.readers import read_image
from pocketseg.data.volumes import open_volume, slices_of
from pocketseg.engine.session import Session
from pocketseg.errors import PocketsegError
from pocketseg.pipeline import Normalization, Pipeline, Postprocess, Reading, TrainedOn

GOLDEN = Path(__file__).parents[1] / "golden/0.1.0"
DTYPES = ("uint8", "uint16", "int16", "float32")


def found(work):
    """What it gives, or None for an error."""
    try:
        return work()
    except PocketsegError:
        return None


def assert_equal(pipeline, session, image, spacing):
    """Whether there is a mask with something in it."""
    said = f"{pipeline}, {image.dtype} {image.shape}, {spacing}"
    probabilities = found(lambda: pipeline.predict(image, session, spacing))
    native = found(lambda: session.segment(image, pipeline.to_json(), spacing, True))
    assert (probabilities is None) == (native is None), said
    if native is None:
        return False
    mask = pipeline.mask(probabilities)
    assert native[1].tobytes() == probabilities.tobytes(), said
    assert np.array_equal(native[0], mask), said
    alone, nothing, _ = session.segment(image, pipeline.to_json(), spacing, False)
    assert nothing is None and np.array_equal(alone, mask), said
    return 0 < np.count_nonzero(mask) < mask.size


@pytest.mark.parametrize("count", [500, pytest.param(3000, marks=pytest.mark.slow("more of the same"))])
def test_random_images_pipelines_and_nets(count):
    """Five seconds: what the equality of both is told by."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    draw = np.random.default_rng(seed)
    sessions: dict[tuple[int, int], Session] = {}
    full = 0
    for _ in range(count):
        pipeline = some_pipeline(draw)
        image = some_image(draw, pipeline, one_of(draw, *DTYPES))
        known = pipeline.spacing_mm is not None or draw.random() < 0.5
        spacing = (0.3 + draw.random(), 0.3 + draw.random()) if known else None
        key = pipeline.channels, len(pipeline.classes)
        session = sessions.setdefault(key, Session(small_net(*key), "here"))
        full += assert_equal(pipeline, session, image, spacing)
    assert full > count / 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (3, 700), (517, 389)])
def test_shapes_that_are_rare(shape):
    image = some_image(np.random.default_rng(3), Pipeline((8, 8)), "uint8")
    image = np.resize(image, shape)
    rules = Postprocess(threshold=0.4, fill_holes=True, min_pixels=3, min_peak=0.45)
    for fit in ("resize", "letterbox", "crop", "tile"):
        for kind in ("unit-range", "z-score", "min-max"):
            pipeline = Pipeline((32, 40), fit=fit, normalization=Normalization(kind), postprocess=rules, multiple=8)
            assert_equal(pipeline, Session(small_net(1, 1), "here"), image, None)


@pytest.mark.parametrize("kernels", ["scalar", "sse41", "avx2", "avxvnni", "avx512", "neon", "dotprod"])
def test_threads_and_instruction_sets_change_nothing(monkeypatch, kernels):
    net = (GOLDEN / "w8a8.pseg").read_bytes()
    pipeline = Pipeline((32, 32), fit="tile", tta=("horizontal",), normalization=Normalization("z-score"), multiple=4)
    image = some_image(np.random.default_rng(5), pipeline, "uint16")
    wanted = Session(net, "here").segment(image, pipeline.to_json(), None, True)
    monkeypatch.setenv("POCKETSEG_ISA", kernels)
    for threads in (1, 2, 5):
        session = found(lambda threads=threads: Session(net, "here", threads))
        if session is None:
            pytest.skip(f"no {kernels} here")
        mask, probabilities, _ = session.segment(image, pipeline.to_json(), None, True)
        assert np.array_equal(mask, wanted[0]) and probabilities.tobytes() == wanted[1].tobytes()


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.pseg")), ids=lambda file: file.stem)
def test_the_predictor_answers_alike_with_both(monkeypatch, file):
    image = read_image(GOLDEN / "image.png")
    native = pocketseg.load(file)
    mask, probabilities = native.both(image)
    segmented = native.segment(image)
    assert np.array_equal(mask, native.mask(image)) and np.array_equal(mask, segmented.mask) and mask.any()
    calls = []
    monkeypatch.setattr(Session, "segment", lambda *_: calls.append(1))
    monkeypatch.setenv("POCKETSEG_PIPELINE", "numpy")
    assert np.array_equal(native.mask(image), mask)
    assert native.predict(image).tobytes() == probabilities.tobytes() == segmented.probabilities.tobytes()
    assert not calls


PIXELS = np.full((9, 7), 5, np.int16)


@pytest.mark.parametrize(
    ("image", "spacing", "changes"),
    [
        (PIXELS, None, {}),
        (np.full((9, 7), np.nan, np.float32), None, {}),
        (np.full((9, 7, 2), 5, np.uint8), None, {}),
        (PIXELS.astype(np.uint8), None, {"spacing_mm": (1.0, 1.0)}),
        (PIXELS.astype(np.uint8), (0.0, 1.0), {}),
        (np.full((90, 7), 5, np.uint8), None, {"fit": "pad"}),
        (np.array([[-3e38, 3e38]], np.float32), None, {}),
        (PIXELS.astype(np.uint8), (1e9, 1e9), {"spacing_mm": (1.0, 1.0), "fit": "tile"}),
    ],
)
def test_errors_are_the_same(monkeypatch, image, spacing, changes):
    predictor = pocketseg.load(GOLDEN / "f32.pseg")
    predictor = dataclasses.replace(predictor, pipeline=dataclasses.replace(predictor.pipeline, **changes))
    with pytest.raises(PocketsegError) as native:
        predictor.mask(image, spacing)
    monkeypatch.setenv("POCKETSEG_PIPELINE", "numpy")
    with pytest.raises(PocketsegError) as numpy:
        predictor.mask(image, spacing)
    assert str(native.value) == str(numpy.value) and type(native.value) is type(numpy.value)


@pytest.mark.parametrize(
    ("image", "changes"),
    [
        (np.arange(63).reshape(9, 7), {"trained_on": TrainedOn("uint8")}),
        (np.eye(9, dtype=bool), {}),
        (np.eye(9), {}),
        (np.eye(30, dtype=np.uint8) * 255, {"paint_out_calipers": True}),
    ],
    ids=["int64", "bool", "float64", "calipers"],
)
def test_what_the_library_does_not_take_numpy_does(image, changes):
    predictor = pocketseg.load(GOLDEN / "f32.pseg")
    predictor = dataclasses.replace(predictor, pipeline=dataclasses.replace(predictor.pipeline, **changes))
    mask, probabilities = predictor.both(image)
    assert probabilities.tobytes() == predictor.pipeline.predict(image, predictor.forward).tobytes()
    assert np.array_equal(mask, predictor.mask(image))


def test_an_unusual_image_is_reported_once():
    said = []
    predictor = pocketseg.load(GOLDEN / "f32.pseg")
    trained = TrainedOn("uint16", low=0.3, high=0.9, narrowest=0.5, widest=0.6, colors="colored")
    pipeline = dataclasses.replace(predictor.pipeline, trained_on=trained)
    predictor = dataclasses.replace(predictor, pipeline=pipeline, warn=said.append)
    image = some_image(np.random.default_rng(1), pipeline, "uint8") // 16
    image = image if image.ndim == 2 else image[:, :, 0]
    predictor.mask(image)
    theirs = []
    pipeline.predict(image, predictor.forward, warn=theirs.append)
    assert said == theirs and len(said) == 2


SETS = ["busi", "busi_gray256", "hc18", "hc18_gray256", "dsb2018_96", "isbi2012_membrane"]


@pytest.mark.real_data
@pytest.mark.parametrize("name", SETS)
def test_real_images(real_data, name):
    """By all fits, with nets that find something in everything."""
    ends = {".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp"}
    files = sorted(path for path in (real_data / name).rglob("*") if path.suffix.lower() in ends)
    assert len(files) >= 10
    full, rules = 0, Postprocess(threshold=0.3, fill_holes=True, min_pixels=10, min_peak=0.4)
    sessions = {1: Session(small_net(1, 1), "here"), 3: Session(small_net(3, 2), "here")}
    for file in files[:: max(1, len(files) // 5)]:
        image = read_image(file)
        if image.dtype == bool:  # a mask
            continue
        channels = image.shape[2] if image.ndim == 3 and image.shape[2] == 3 else 1
        classes = ("a", "b") if channels == 3 else ("a",)
        for fit in ("resize", "letterbox", "crop", "tile"):
            pipeline = Pipeline((96, 96), channels, classes, fit=fit, multiple=8, postprocess=rules)
            full += assert_equal(pipeline, sessions[channels], image, None)
    assert full > 5


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["msd_hippocampus", "sct_spinalcord", "dicom_samples/udacity_Study3"])
def test_real_slices(real_data, name):
    """At a pixel size of the model's own, and as floats of their own range."""
    ends = (".nii", ".nii.gz", ".dcm")
    files = sorted(path for path in (real_data / name).rglob("*") if path.name.endswith(ends))
    session, full = Session((GOLDEN / "f32.pseg").read_bytes(), "here"), 0
    for file in files[:: max(1, len(files) // 4)]:
        volume = open_volume(file)
        slices = slices_of(volume, Reading())
        for each in slices[len(slices) // 4 :: max(1, len(slices) // 4)]:
            spacing = volume.grid.plane_spacing(each.axis)
            for fit in ("crop", "tile"):
                pipeline = Pipeline((64, 64), fit=fit, multiple=4, spacing_mm=(1.1, 0.9) if spacing else None)
                pipeline = dataclasses.replace(pipeline, normalization=Normalization("z-score", clip=3.0))
                full += assert_equal(pipeline, session, each.image(), spacing)
    assert full > 2
