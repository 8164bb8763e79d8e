import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketseg.errors import DataError, ModelFileError, NotFiniteError
from pocketseg.pipeline import OF_COLOR, Normalization, Pipeline, Postprocess, TrainedOn, to_probabilities

SIZES = [(1, 1), (3, 5), (1, 40), (32, 32), (31, 33), (20, 90), (97, 130)]


def identity(x: np.ndarray) -> np.ndarray:
    """A net whose probability is its input."""
    with np.errstate(divide="ignore"):
        return (np.log(x) - np.log1p(-x)).clip(-200, 200).astype(np.float32)


def pipeline(fit: str, **changes) -> Pipeline:
    return Pipeline(size=(32, 32), fit=fit, intensity_range=(0, 1), **changes)


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.05, 0.95, shape).astype(np.float32)


def ramp(shape: tuple[int, int], axis: int) -> np.ndarray:
    line = 0.1 + 0.8 * (np.arange(shape[axis], dtype=np.float32) + 0.5) / shape[axis]
    return np.broadcast_to(line[:, None] if axis == 0 else line, shape).copy()


# --- there and back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("multiple", [1, 16, 24])
def test_tiles_reproduce_the_input(shape, multiple):
    image = noise(shape)
    out = pipeline("tile", multiple=multiple).predict(image, identity)
    assert out.shape == (*shape, 1) and out.dtype == np.float32
    np.testing.assert_allclose(out[:, :, 0], image, atol=1e-5)


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("multiple", [1, 24])
@pytest.mark.parametrize("axis", [0, 1])
def test_resizing_reproduces_a_ramp(shape, multiple, axis):
    """A grid shifted by half a pixel would be off by 0.4/32 = 0.0125 or more; only the border may be."""
    image = ramp(shape, axis)
    out = pipeline("resize", multiple=multiple).predict(image, identity)
    assert out.shape == (*shape, 1) and out.dtype == np.float32
    off = np.abs(out[:, :, 0] - image)
    margin = -(-2 * shape[axis] // 32) if shape[axis] > 2 else 0
    inside = np.take(off, range(margin, shape[axis] - margin), axis)
    assert inside.max(initial=0) < (2e-3 if shape[axis] > 5 or shape[axis] == 1 else 0.1)


@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("fit", ["resize", "tile"])
def test_a_flipped_image_gives_a_flipped_answer(shape, fit):
    image = noise(shape)
    whole = pipeline(fit, multiple=8).predict(image, identity)
    flipped = pipeline(fit, multiple=8).predict(image[::-1, ::-1], identity)[::-1, ::-1]
    np.testing.assert_allclose(flipped, whole, atol=1e-5)


def test_an_image_of_the_nets_size_passes_unchanged():
    image = noise((32, 32))
    np.testing.assert_allclose(pipeline("resize").predict(image, identity)[:, :, 0], image, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 120), st.integers(1, 120), st.floats(-20, 20, width=32))
def test_a_constant_answer_stays_constant(h, w, logit):
    def constant(x: np.ndarray) -> np.ndarray:
        return np.full((len(x), 1, *x.shape[2:]), logit, np.float32)

    expected = 1 / (1 + np.exp(-np.float64(logit)))
    for fit in ("resize", "tile"):
        out = pipeline(fit, multiple=8).predict(np.zeros((h, w), np.float32), constant)
        np.testing.assert_allclose(out, expected, rtol=1e-5)


def test_tiles_are_blended_smoothly():
    """Each tile answers with one number; between two centers the answer must go from one to the other."""
    numbers = iter([0.2, 0.8])

    def one_number_a_tile(x: np.ndarray) -> np.ndarray:
        levels = np.array([next(numbers) for _ in x], np.float32)
        return identity(np.broadcast_to(levels[:, None, None, None], (len(x), 1, *x.shape[2:])))

    out = pipeline("tile").predict(np.zeros((32, 48), np.float32), one_number_a_tile)[16, :, 0]
    np.testing.assert_allclose(out[:16], 0.2, atol=1e-6)
    np.testing.assert_allclose(out[32:], 0.8, atol=1e-6)
    assert np.all(np.diff(out[15:33]) > 0) and np.diff(out).max() < 0.1


@pytest.mark.parametrize("fit", ["resize", "tile"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_the_net_sees_only_sizes_it_can_take(fit, shape):
    seen = []

    def watch(x: np.ndarray) -> np.ndarray:
        seen.append(x)
        return x[:, :1]

    pipe = pipeline(fit, multiple=24, channels=3)
    pipe.predict(noise((*shape, 3)), watch)
    assert pipe.net_size == (48, 48)
    assert all(x.shape[1:] == (3, 48, 48) and x.dtype == np.float32 and len(x) <= 8 for x in seen)
    if fit == "tile" and shape == (97, 130):
        assert sum(map(len, seen)) == 4 * 6


def test_several_classes_keep_their_order():
    def three(x: np.ndarray) -> np.ndarray:
        p = np.concatenate([np.full_like(x, 0.1), 0.8 * x, 0.9 - 0.8 * x], axis=1)
        return np.log(p)

    image = noise((70, 40))
    out = pipeline("tile", classes=("a", "b")).predict(image, three)
    assert out.shape == (70, 40, 2)
    np.testing.assert_allclose(out[:, :, 0], 0.8 * image, atol=1e-5)
    np.testing.assert_allclose(out[:, :, 1], 0.9 - 0.8 * image, atol=1e-5)


@pytest.mark.parametrize("fit", ["resize", "letterbox", "crop", "tile"])
def test_a_batch_is_its_images(fit):
    images = [noise(shape, seed) for seed, shape in enumerate([(20, 20), (40, 33), (32, 32)])]
    pipe = pipeline(fit, multiple=8)
    places = [pipe.placement(image.shape) for image in images]
    together = pipe.predict_batch([pipe.prepare(i) for i in images], places, identity)
    for image, out in zip(images, together, strict=True):
        np.testing.assert_allclose(out, pipe.predict(image, identity), atol=1e-6)


# --- the parts --------------------------------------------------------------------------------------------


def test_preparing_scales_fits_and_normalizes():
    pipe = Pipeline(size=(8, 8), normalization=Normalization("train-mean-std", mean=(0.5,), std=(0.25,)))
    out = pipe.prepare(np.full((20, 30), 255, np.uint8))
    assert out.shape == (1, 8, 8) and out.dtype == np.float32
    np.testing.assert_allclose(out, 2, rtol=1e-6)


def test_masks_are_fitted_like_images():
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 2
    fitted = pipeline("resize", classes=("a", "b")).fit_mask(mask)
    assert fitted.shape == (32, 32) and np.all(fitted[:16] == 2) and np.all(fitted[16:] == 0)
    assert np.array_equal(pipeline("tile").fit_mask(mask), mask)


def test_channels_that_do_not_fit_are_a_data_error():
    with pytest.raises(DataError, match=r"^image: the image has 4 channels and the net takes 3 → "):
        Pipeline(size=(8, 8), channels=3).prepare(np.zeros((4, 4, 4), np.uint8))


def test_the_mask_follows_the_rules():
    pipe = pipeline("resize", postprocess=Postprocess(threshold=0.7))
    assert pipe.mask(np.array([[[0.6], [0.7]]], np.float32)).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x[:, :, ::2, ::2],
        lambda x: x.mean((2, 3), keepdims=True),
        lambda x: np.concatenate([x, x], 3),
        lambda x: x[:, :, 0],
        lambda x: np.concatenate([x, x]),
        lambda x: x > 0,
        lambda x: x.astype(np.int64),
        lambda x: x.astype(str),
        list,
    ],
)
@pytest.mark.parametrize("fit", ["resize", "tile"])
def test_what_is_no_logit_a_pixel_is_no_answer(fit, answer):
    with pytest.raises(ModelFileError, match="gives logits"):
        pipeline(fit).predict(noise((40, 50)), answer)


@pytest.mark.row("S07")
def test_a_long_thin_image_takes_little_memory():
    """The weights of a filter over all of it would not fit; those of one that fits are made a part at a time."""
    with pytest.raises(DataError, match="is too long to make 32×32 pixels of 1×100000000"):
        pipeline("resize").placement((1, 100_000_000))
    image = np.zeros((1, 1_000_000), np.uint8)
    tracemalloc.start()
    try:
        pipeline("resize").predict(image, np.zeros_like)
        assert tracemalloc.get_traced_memory()[1] < 6e8
    finally:
        tracemalloc.stop()
    assert pipeline("tile").placement((30_000, 30_000)).inner == (30_000, 30_000)


# --- probabilities ----------------------------------------------------------------------------------------


def test_sigmoid():
    logits = np.array([-1e4, -100, -1, 0, 1, 100, 1e4], np.float32)
    with np.errstate(all="raise", under="ignore"):
        out = to_probabilities(logits[None, None, None])[0, 0, 0]
    assert out.dtype == np.float32
    expected = [0, 3.72e-44, 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1, 1]
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-43)


def test_softmax():
    logits = np.array([[0, 1e4, -1e4, 2], [0, -1e4, 1e4, 1], [0, 0, 0, -1]], np.float32)[None, :, None]
    with np.errstate(all="raise", under="ignore"):
        out = to_probabilities(logits)
    assert out.shape == (1, 2, 1, 4) and out.dtype == np.float32
    powers = np.exp([2.0, 1.0, -1.0])
    expected = [[1 / 3, 0, 1, powers[1] / powers.sum()], [1 / 3, 0, 0, powers[2] / powers.sum()]]
    np.testing.assert_allclose(out[0, :, 0], expected, rtol=1e-6, atol=1e-30)


# --- in a file --------------------------------------------------------------------------------------------

FULL = Pipeline(
    size=(96, 128),
    channels=3,
    classes=("lesion", "cyst"),
    fit="tile",
    multiple=16,
    intensity_range=(-1000.0, 400.0),
    normalization=Normalization("z-score", clip=4.0, mean=(0.1,), std=(0.2,)),
    postprocess=Postprocess(threshold=0.4, fill_holes=True, min_peak=0.6, min_pixels=9, keep="largest"),
)


@pytest.mark.parametrize("pipe", [FULL, Pipeline(size=(32, 32))], ids=["full", "default"])
def test_json_round_trip(pipe):
    assert Pipeline.from_dict(json.loads(pipe.to_json()), "m.pseg") == pipe


def test_equal_pipelines_are_equal_bytes():
    assert FULL.to_json() == Pipeline.from_dict(json.loads(FULL.to_json()), "m").to_json()


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"size": [32]}, "size"),
        ({"fit": "stretch"}, "fit"),
        ({"normalization": {"kind": "histogram"}}, "normalization.kind"),
        ({"postprocess": {"threshold": "high"}}, "postprocess.threshold"),
        ({"size": None}, "size"),
    ],
)
def test_a_stored_pipeline_that_makes_no_sense_is_reported(change, place):
    fields = json.loads(FULL.to_json()) | change
    with pytest.raises(ModelFileError) as caught:
        Pipeline.from_dict(fields, "model.pseg")
    assert str(caught.value).startswith(f"model.pseg: its pipeline is not valid ({place}")


@pytest.mark.parametrize("fields", [None, [], "x", {}])
def test_what_is_no_pipeline_at_all_is_reported(fields):
    with pytest.raises(ModelFileError, match=r"model\.pseg: its pipeline is not valid"):
        Pipeline.from_dict(fields, "model.pseg")


BAD_FIELDS = [
    {"size": [0, 32]},
    {"size": [-8, 32]},
    {"size": [32768, 32768]},
    {"size": [1e30, 32]},
    {"size": [32.5, 32]},
    {"size": [True, 32]},
    {"size": ["32", 32]},
    {"size": [1, 1]},
    {"multiple": 0},
    {"multiple": -16},
    {"multiple": True},
    {"multiple": 10**9},
    {"channels": 0},
    {"channels": 10**6},
    {"channels": "3"},
    {"classes": []},
    {"classes": ["a", "a"]},
    {"classes": ["a"] * 300},
    {"classes": ["../a"]},
    {"classes": [3]},
    {"classes": "lesion"},
    {"intensity_range": [1, 0]},
    {"intensity_range": [0, 0]},
    {"intensity_range": [0, float("nan")]},
    {"intensity_range": [0, float("inf")]},
    {"intensity_range": [False, True]},
    {"spacing_mm": [0, 1]},
    {"spacing_mm": [float("inf"), 1]},
    {"spacing_mm": [1e-30, 1]},
    {"postprocess": {"threshold": float("nan")}},
    {"postprocess": {"threshold": float("inf")}},
    {"postprocess": {"threshold": -0.1}},
    {"postprocess": {"threshold": True}},
    {"postprocess": {"min_pixels": -1}},
    {"postprocess": {"min_pixels": 1.5}},
    {"postprocess": {"min_peak": 2}},
    {"postprocess": {"fill_holes": "no"}},
    {"normalization": {"kind": "train-mean-std"}},
    {"normalization": {"kind": "train-mean-std", "mean": [0.1], "std": [0.1]}},
    {"normalization": {"kind": "train-mean-std", "mean": [0.1] * 3, "std": [0.1, 0.1, 0]}},
    {"normalization": {"kind": "train-mean-std", "mean": [0.1] * 3, "std": [0.1, 0.1, float("nan")]}},
    {"normalization": {"kind": "train-mean-std", "mean": [0.1, 0.1, float("inf")], "std": [0.1] * 3}},
    {"normalization": {"kind": "z-score", "clip": -1}},
    {"reading": {"window": [0, 0]}},
    {"reading": {"window": [float("nan"), 1]}},
    {"reading": {"raw": 1}},
    {"trained_on": {"numbers": "int8"}},
    {"trained_on": {"low": float("nan")}},
    {"trained_on": {"widest": -1}},
]


@pytest.mark.whole
@pytest.mark.parametrize("change", BAD_FIELDS, ids=str)
def test_numbers_of_a_card_have_bounds(change):
    fields = json.loads(FULL.to_json()) | change
    with pytest.raises(ModelFileError, match=r"^model\.pseg: its pipeline is not valid \(.*→ "):
        Pipeline.from_dict(fields, "model.pseg")


def test_what_training_saw_is_an_additional_field():
    """Files of before lack it, and theirs lack it still when they are written again."""
    assert "trained_on" not in json.loads(FULL.to_json())
    seen = replace(FULL, trained_on=TrainedOn("uint8", 0.0, 0.9, 0.4, 0.8))
    assert Pipeline.from_dict(json.loads(seen.to_json()), "m.pseg") == seen


# --- nan and inf --------------------------------------------------------------------------------------------


@pytest.mark.row("P13")
@pytest.mark.parametrize("fit", ["resize", "tile"])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("classes", [("a",), ("a", "b")], ids=len)
def test_logits_that_are_not_finite_are_no_empty_mask(fit, odd, classes):
    def broken(batch):
        logits = np.zeros((len(batch), len(classes) + (len(classes) > 1), *batch.shape[2:]), np.float32)
        logits[-1, -1, -1, -1] = odd
        return logits

    with pytest.raises(NotFiniteError, match="image: makes the net give NaN or infinite"):
        pipeline(fit, classes=classes).predict(noise((40, 50)), broken)


def test_nan_never_reaches_a_net():
    def asked(batch):
        raise AssertionError

    with pytest.raises(NotFiniteError):
        pipeline("resize").predict_batch([np.full((1, 32, 32), np.nan, np.float32)], [], asked)


def test_a_net_of_other_classes_is_reported():
    with pytest.raises(
        ModelFileError, match=r"gives logits float32 \(1, 1, 32, 32\); 2 classes need float32 \(1, 3, 32, 32\)"
    ):
        pipeline("resize", classes=("a", "b")).predict(noise((40, 50)), identity)


@pytest.mark.parametrize("spacing", [(1e300, 1), (1e5, 1e5), (1e9, 1e-9)], ids=str)
def test_a_pixel_size_cannot_ask_for_all_memory(spacing):
    with pytest.raises(DataError, match="check its pixel size"):
        pipeline("tile", spacing_mm=(0.5, 0.5)).predict(noise((40, 50)), identity, spacing)


@pytest.mark.row("P15")
def test_intensities_unlike_those_of_training_are_reported():
    warn: list[str] = []
    seen = Pipeline((32, 32), trained_on=TrainedOn("uint8", 0.0, 0.9, 0.4, 0.8))
    dark = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint16)
    for image in (dark.astype(np.uint8), dark * 257):
        seen.predict(image, lambda batch: batch, warn=warn.append)
    assert not warn
    seen.predict(dark, lambda batch: batch, warn=warn.append)
    assert len(warn) == 1 and "of full scale" in warn[0]
    by_itself = replace(seen, normalization=Normalization("z-score"))
    by_itself.predict(dark, lambda batch: batch, warn=warn.append)
    assert len(warn) == 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seen", [None, "gray", "colored", "mixed"])
def test_images_in_other_colors_than_those_of_training_are_reported(channels, seen):
    """Before it was kept, a net of 1 channel counts as trained on gray images, one of 3 on colored ones."""
    usual = seen or {1: "gray", 3: "colored"}[channels]
    pipeline = Pipeline((8, 8), channels=channels, trained_on=replace(TrainedOn("uint8"), colors=seen))
    gray = np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8)
    colored = gray[..., None] // np.array([1, 2, 4], np.uint8)
    for image, have in ((gray, "gray"), (np.dstack([gray] * 3), "gray"), (colored, "colored")):
        warn = []
        pipeline.predict(image, lambda batch: np.zeros((len(batch), 1, 8, 8), np.float32), warn=warn.append)
        warn = [text for text in warn if text.startswith(OF_COLOR)]
        assert (len(warn) == 1 and f"it is {have}, those of training were {usual}" in warn[0]) == (
            usual not in (have, "mixed")
        )
    kept = Pipeline.from_dict(pipeline.to_dict(), "model")
    assert kept.trained_on.colors == seen and ("colors" in pipeline.to_dict()["trained_on"]) == (seen is not None)
