import numpy as np
import pytest

from pocketseg.pipeline.intensity import Normalization, to_channels, unit_range


def planes(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize(
    ("dtype", "top"),
    [(np.uint8, 255), (np.uint16, 65535), (np.int16, 32767), (np.int32, 2**31 - 1), (">u2", 65535), (bool, 1)],
)
def test_integers_are_divided_by_the_maximum_of_their_type(dtype, top):
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
def test_colour_becomes_grey_by_bt601():
    colour = np.eye(3, dtype=np.float32)[None]  # one red, one green, one blue pixel
    np.testing.assert_allclose(to_channels(colour, 1), [[[0.299, 0.587, 0.114]]], rtol=1e-6)
    np.testing.assert_allclose(to_channels(np.full((2, 2, 3), 0.7, np.float32), 1), 0.7, rtol=1e-6)


@pytest.mark.row("P14")
def test_grey_becomes_colour_by_repetition():
    grey = planes(4, 5)
    np.testing.assert_array_equal(to_channels(grey, 3), np.stack([grey] * 3))
    np.testing.assert_array_equal(to_channels(grey[:, :, None], 3), np.stack([grey] * 3))


def test_equal_channels_only_move():
    colour = planes(4, 5, 3)
    out = to_channels(colour, 3)
    np.testing.assert_array_equal(out, colour.transpose(2, 0, 1))
    assert out.flags.c_contiguous


@pytest.mark.parametrize(("have", "want"), [(4, 3), (2, 1), (4, 1), (3, 2)])
def test_other_channels_are_refused(have, want):
    with pytest.raises(ValueError, match=f"has {have} channels and the net takes {want}"):
        to_channels(planes(3, 3, have), want)
