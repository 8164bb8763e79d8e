import numpy as np
import pytest

from pocketseg.errors import DataError
from pocketseg.pipeline.intensity import (
    Normalization,
    TrainedOn,
    bounds,
    is_colored,
    numbers_of,
    to_channels,
    unit_range,
)


def planes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("dtype", "top"),
    [(np.uint8, 255), (np.uint16, 65535), (">u2", 65535), (bool, 1)],
)
def test_integers_of_files_are_divided_by_the_maximum_of_their_type(dtype, top):
    image = np.array([[0, 1, top // 2, top]]).astype(dtype)
    out = unit_range(image)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, image.astype(np.float64) / top, rtol=1e-6)


def test_a_dark_image_stays_dark():
    """The dtype's maximum counts, not the image's."""
    assert unit_range(np.array([[0, 10]], np.uint8)).max() == pytest.approx(10 / 255)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_are_scaled_by_their_own_range(dtype):
    np.testing.assert_allclose(unit_range(np.array([[-1000, 0, 3000]], dtype)), [[0, 0.25, 1]], atol=1e-6)


def test_a_declared_range_wins():
    np.testing.assert_allclose(unit_range(np.array([[0, 2048, 4095]], np.uint16), (0, 4095)), [[0, 2048 / 4095, 1]])
    np.testing.assert_allclose(unit_range(np.array([[-200.0, 0, 400]]), (-200, 200)), [[0, 0.5, 1.5]])


@pytest.mark.parametrize("kind", ["unit-range", "min-max", "z-score"])
def test_a_constant_image_is_no_division_by_zero(kind):
    flat = unit_range(np.full((4, 4), 7.5))
    np.testing.assert_array_equal(Normalization(kind)(flat[None]), 0)
    out = Normalization(kind)(np.full((1, 4, 4), 0.25, np.float32))
    assert np.isfinite(out).all() and np.ptp(out) == 0


def test_unit_range_is_left_alone():
    values = planes(2, 5, 6)
    np.testing.assert_array_equal(Normalization("unit-range")(values), values)


def test_min_max():
    out = Normalization("min-max")(0.3 + 0.2 * planes(2, 5, 6))
    assert out.dtype == np.float32
    assert (out.min(), out.max()) == (0, pytest.approx(1))


def test_z_score():
    values = planes(2, 9, 6)
    out = Normalization("z-score")(values)
    assert out.dtype == np.float32
    assert out.mean() == pytest.approx(0, abs=1e-6) and out.std() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(out * values.std() + values.mean(), values, atol=1e-6)


def test_z_score_is_clipped_where_asked():
    values = np.zeros((1, 10, 10), np.float32)
    values[0, 0, 0] = 1
    assert Normalization("z-score")(values).max() > 9
    assert Normalization("z-score", clip=3)(values).max() == 3


def test_learned_numbers_are_used_per_channel():
    values = planes(2, 4, 4)
    out = Normalization("train-mean-std", mean=(0.5, 0.1), std=(0.25, 2.0))(values)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out[0], (values[0] - 0.5) / 0.25, rtol=1e-5)
    np.testing.assert_allclose(out[1], (values[1] - 0.1) / 2.0, rtol=1e-5)


@pytest.mark.row("P14")
def test_color_becomes_gray_by_bt601():
    color = np.eye(3, dtype=np.float32)[None]  # one red, one green, one blue pixel
    np.testing.assert_allclose(to_channels(color, 1), [[[0.299, 0.587, 0.114]]], rtol=1e-6)
    np.testing.assert_allclose(to_channels(np.full((2, 2, 3), 0.7, np.float32), 1), 0.7, rtol=1e-6)


@pytest.mark.row("P14")
def test_gray_becomes_color_by_repetition():
    gray = planes(4, 5)
    np.testing.assert_array_equal(to_channels(gray, 3), np.stack([gray] * 3))
    np.testing.assert_array_equal(to_channels(gray[:, :, None], 3), np.stack([gray] * 3))


def test_equal_channels_only_move():
    color = planes(4, 5, 3)
    out = to_channels(color, 3)
    np.testing.assert_array_equal(out, color.transpose(2, 0, 1))
    assert out.flags.c_contiguous


@pytest.mark.parametrize(("have", "want"), [(4, 3), (2, 1), (4, 1), (3, 2)])
def test_other_channels_are_refused(have, want):
    with pytest.raises(ValueError, match=f"has {have} channels and the net takes {want}"):
        to_channels(planes(3, 3, have), want)


# --- what has no full scale of its own ---------------------------------------------------------------------


EIGHT = np.array([[0, 51, 102, 255]], np.uint8)


@pytest.mark.row("API")
@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "uint32", "uint64", "float32", "float64", "longdouble"])
def test_other_types_are_read_as_training_was(dtype):
    np.testing.assert_array_equal(unit_range(EIGHT.astype(dtype), numbers="uint8"), unit_range(EIGHT))
    twelve = np.array([[0, 1, 2048, 4095]], np.uint16)
    np.testing.assert_array_equal(unit_range(twelve.astype(dtype), numbers="uint16"), unit_range(twelve))


@pytest.mark.row("API")
@pytest.mark.parametrize("top", [200, 255], ids=["dark", "full"])
def test_floats_from_0_to_1_are_shares_of_full_scale(top):
    """An image that does not reach white is not stretched to it, as one of the same values in uint8 is not."""
    image = np.array([[3, 51, top]], np.uint8)
    np.testing.assert_allclose(unit_range(image / 255, numbers="uint8"), unit_range(image), atol=1e-7)


@pytest.mark.parametrize("numbers", [None, "uint8", "uint16", "float"])
def test_what_files_hold_is_read_as_ever(numbers):
    for image in (EIGHT, EIGHT.astype(np.uint16), EIGHT > 60):
        np.testing.assert_array_equal(unit_range(image, numbers=numbers), unit_range(image))


@pytest.mark.row("API")
@pytest.mark.parametrize(
    ("numbers", "values"),
    [(None, [0, 255]), ("uint8", [-1, 255]), ("uint8", [0, 256]), ("uint16", [-1024, 3071]), ("uint16", [0, 65536])],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integers_that_cannot_be_meant_so_are_refused(numbers, values, dtype):
    with pytest.raises(DataError, match=f"{dtype} from {values[0]} to {values[1]}; the model") as caught:
        unit_range(np.array([values], dtype), numbers=numbers)
    assert "uint8 or uint16" in caught.value.problems[0].fix
    np.testing.assert_allclose(unit_range(np.array([values], dtype), values, numbers), [[0, 1]])


def test_floats_that_do_not_fit_run_over_their_own_range():
    for numbers in (None, "uint8", "uint16", "float"):
        found = unit_range(np.array([[-1000.0, 0, 3000]]), numbers=numbers)
        np.testing.assert_allclose(found, [[0, 0.25, 1]], atol=1e-6)
    np.testing.assert_allclose(unit_range(np.array([[-1000, 0, 3000]]), numbers="float"), [[0, 0.25, 1]], atol=1e-6)


@pytest.mark.row("API")
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_pixel_that_is_not_finite_is_reported(odd, dtype):
    image = np.zeros((3, 4), dtype)
    image[1, 2] = odd
    for declared in (None, (0, 1)):
        with pytest.raises(DataError, match="image: 1 pixel is NaN or infinite"):
            unit_range(image, declared)


@pytest.mark.row("API")
@pytest.mark.parametrize("ends", [(-3.4e38, 3.4e38), (0, 1e300), (0, 1e-300)], ids=str)
def test_ranges_that_f32_cannot_hold_are_reported(ends):
    with pytest.raises(DataError, match="f32 cannot"):
        unit_range(np.array([ends]))


@pytest.mark.parametrize("scale", [1e-12, 1e-7, 1e7, 3e37])
def test_the_unit_of_floats_makes_no_difference(scale):
    """Diffusion is some 1e-9 m²/s: no range is so small that an image counts as constant."""
    np.testing.assert_allclose(unit_range(np.array([[0, 1, 4]]) * scale), [[0, 0.25, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("stored", "numbers"),
    [
        ({"uint8": (0, 255)}, "uint8"),
        ({"uint16": (0, 4095)}, "uint16"),
        ({"float32": (-1, 1), "float64": (0, 1)}, "float"),
        ({"bool": (0, 1)}, None),
        ({"uint8": (0, 255), "float32": (0, 1)}, None),
        ({"int64": (0, 200)}, "uint8"),
        ({"int64": (0, 200), "uint8": (0, 255)}, "uint8"),
        ({}, None),
    ],
    ids=str,
)
def test_what_kind_of_numbers_a_data_set_holds(stored, numbers):
    assert numbers_of(stored) == numbers


@pytest.mark.parametrize(
    "stored",
    [
        {"int16": (-1024, 3071)},
        {"int64": (0, 4095)},
        {"int32": (0, 200), "uint16": (0, 65535)},
        {"uint32": (0, 200), "float32": (0, 1)},
    ],
    ids=str,
)
def test_a_data_set_of_integers_that_nothing_explains_is_refused(stored):
    with pytest.raises(DataError, match="which of them are black and white") as caught:
        numbers_of(stored)
    assert "data.range=[" in caught.value.problems[0].fix


# --- unlike those of training -------------------------------------------------------------------------------


SEEN = TrainedOn("uint8", 0.0, 0.9, 0.4, 0.8)


@pytest.mark.row("P15")
@pytest.mark.parametrize(
    ("low", "high", "unlike"),
    [
        (0.1, 0.7, False),  # like training
        (0.0, 0.15, False),  # dark, but not by much
        (0.0, 1.0, False),
        (0.3, 0.3, False),  # nothing is in it
        (0.0, 0.0039, True),  # 8 bits in a container of 16
        (0.0, 0.0625, True),  # 12 bits
        (-4.0, 12.0, True),  # another unit
        (3.0, 3.5, True),  # another offset
    ],
)
def test_an_image_of_another_range_is_reported(low, high, unlike):
    planes = np.linspace(low, high, 400, dtype=np.float32).reshape(1, 20, 20)
    warn = SEEN.unlike(*bounds(planes))
    assert bool(warn) == unlike
    assert not warn or "those of training from 0 to 0.9" in warn


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize(
    ("lift", "colored"),
    [(0, False), (6, False), (12, False), (13, True), (100, True)],
    ids=["equal", "cast", "faintest", "least", "strong"],
)
def test_a_faint_cast_is_gray_and_one_pixel_of_color_is_color(dtype, lift, colored):
    """Of 255: a scanned gray picture is tinted by a few levels everywhere; color may be in few pixels."""
    gray = np.random.default_rng(0).integers(13, 243, (40, 50))
    gray[0, 0], gray[0, 1] = 0, 255
    image = np.dstack([gray] * 3)
    image[3:9, 4:10, 1] += lift
    image[20, 20, 2] -= min(lift, 13)
    scale = {np.uint8: 1, np.uint16: 257, np.int32: 1000, np.float32: 1 / 255}[dtype]
    assert is_colored((image * scale).astype(dtype)) is colored


def test_dark_colors_and_an_image_of_one_color_are_colored_and_masks_of_bits_are_not_an_error():
    dark = np.zeros((20, 20, 3), np.uint8)
    dark[5:8, 5:8, 1] = 9
    assert is_colored(dark)
    assert is_colored(np.full((4, 4, 3), (200, 0, 0), np.uint8))
    assert is_colored(dark > 0)
    assert not is_colored(np.full((4, 4, 3), 7, np.uint8))
    assert not is_colored(np.full((4, 4, 3), np.inf, np.float32))
