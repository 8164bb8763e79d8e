import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketseg.pipeline import geometry
from pocketseg.pipeline.geometry import resize, resize_labels, tiles

sides = st.integers(1, 40)


def random_planes(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def triangle_filter(line: np.ndarray, target: int) -> np.ndarray:
    """The filter in its plainest words: a tent around each output pixel's center, weights made to sum to one."""
    scale = len(line) / target
    width = max(scale, 1.0)
    out = np.zeros(target)
    for i in range(target):
        center, total = (i + 0.5) * scale, 0.0
        for j, value in enumerate(line):
            weight = max(0.0, 1 - abs(j + 0.5 - center) / width)
            out[i] += weight * value
            total += weight
        out[i] /= total
    return out


@given(sides, sides, st.integers(0, 5))
def test_a_line_is_filtered_by_the_triangle(source, target, seed):
    line = random_planes(source, seed=seed)
    expected = triangle_filter(line, target)
    np.testing.assert_allclose(resize(line[None, None, :], (1, target))[0, 0], expected, atol=1e-6)
    np.testing.assert_allclose(resize(line[None, :, None], (target, 1))[0, :, 0], expected, atol=1e-6)


def test_rows_and_columns_do_not_meet():
    """An outer product stays one: the filter is separable and the axes are not swapped."""
    rows, columns = random_planes(9, seed=1), random_planes(14, seed=2)
    out = resize((rows[:, None] * columns)[None], (20, 5))[0]
    np.testing.assert_allclose(out, np.outer(triangle_filter(rows, 20), triangle_filter(columns, 5)), atol=1e-6)


@given(sides, sides, sides, sides)
def test_flips_commute_with_resizing(h, w, height, width):
    planes = random_planes(2, h, w)
    flipped = resize(planes[:, ::-1, ::-1], (height, width))[:, ::-1, ::-1]
    np.testing.assert_allclose(flipped, resize(planes, (height, width)), atol=1e-6)


@given(sides, sides, sides, sides)
def test_constants_and_bounds_are_kept(h, w, height, width):
    out = resize(np.full((1, h, w), 0.3, np.float32), (height, width))
    assert out.shape == (1, height, width) and out.dtype == np.float32
    np.testing.assert_allclose(out, 0.3, rtol=1e-6)
    noise = resize(random_planes(1, h, w), (height, width))
    assert noise.min() >= -1e-6 and noise.max() <= 1 + 1e-6


@pytest.mark.parametrize(("source", "target"), [(64, 32), (64, 16), (30, 10), (8, 32), (100, 300)])
def test_the_mean_is_kept(source, target):
    """In whole-number scales all pixels weigh the same, apart from the border, where the tent is cut off."""
    planes = random_planes(3, source, source)
    border = max(source // target, 1)
    planes[:, :border] = planes[:, -border:] = planes[:, :, :border] = planes[:, :, -border:] = 0.5
    out = resize(planes, (target, target))
    np.testing.assert_allclose(out.mean(axis=(1, 2)), planes.mean(axis=(1, 2)), atol=2e-3)


def test_nothing_is_skipped_when_reducing():
    planes = np.zeros((1, 1, 99), np.float32)
    for column in range(99):
        planes[:] = 0
        planes[0, 0, column] = 1
        assert resize(planes, (1, 10)).sum() > 0.05


def test_the_same_size_is_the_same_array():
    planes = random_planes(1, 7, 5)
    assert resize(planes, (7, 5)) is planes


def test_the_center_of_mass_stays():
    """A shift by half a pixel of either grid would move it by 0.5 % and more."""
    planes = np.zeros((1, 64, 96), np.float32)
    planes[0, 20:30, 50:70] = 1
    for size in [(32, 32), (17, 23), (128, 200)]:
        out = resize(planes, size)[0]
        row = (out.sum(axis=1) @ (np.arange(size[0]) + 0.5)) / out.sum() / size[0]
        column = (out.sum(axis=0) @ (np.arange(size[1]) + 0.5)) / out.sum() / size[1]
        assert row == pytest.approx(25 / 64, abs=1e-3) and column == pytest.approx(60 / 96, abs=1e-3)


# --- labels -----------------------------------------------------------------------------------------------


def test_labels_take_the_class_that_covers_most():
    mask = np.zeros((8, 8), np.uint8)
    mask[:, :3], mask[:, 3:5] = 1, 2
    out = resize_labels(mask, (4, 4), classes=2)
    assert out.dtype == np.uint8
    # Columns 1 and 2 are ties, of classes 1 and 2, and of background and class 2.
    assert out[0].tolist() == [1, 1, 0, 0]
    np.testing.assert_array_equal(out, np.repeat(out[:1], 4, axis=0))


def test_the_first_class_wins_a_tie():
    mask = np.array([[2, 0, 1]], np.uint8)
    assert resize_labels(mask[:, ::2], (1, 1), classes=2).tolist() == [[1]]
    assert resize_labels(mask[:, :2], (1, 1), classes=2).tolist() == [[0]]


def test_enlarged_labels_keep_their_places():
    mask = np.array([[0, 1], [2, 0]], np.uint8)
    out = resize_labels(mask, (8, 8), classes=2)
    assert out[0, 0] == 0 and out[0, 7] == 1 and out[7, 0] == 2 and out[7, 7] == 0


def test_labels_never_become_a_class_between():
    """Interpolating indices would make class 1 of 0 and 2."""
    mask = np.zeros((30, 30), np.uint8)
    mask[10:20, 10:20] = 2
    assert set(np.unique(resize_labels(mask, (13, 17), classes=2))) == {0, 2}


def test_labels_and_image_shift_alike():
    mask = np.zeros((97, 130), np.uint8)
    mask[20:60, 70:110] = 1
    soft = resize(mask[None].astype(np.float32), (32, 32))[0]
    np.testing.assert_array_equal(resize_labels(mask, (32, 32), classes=1), soft > 0.5)


def test_labels_of_the_same_size_are_untouched():
    mask = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert resize_labels(mask, (3, 4), classes=20) is mask


# --- padding ----------------------------------------------------------------------------------------------


@given(sides, sides, st.integers(1, 32))
def test_padding_to_a_multiple(h, w, multiple):
    planes = random_planes(2, h, w)
    out = geometry.pad_to_multiple(planes, multiple)
    assert out.shape[1] % multiple == out.shape[2] % multiple == 0
    assert out.shape[1] - h < multiple and out.shape[2] - w < multiple
    np.testing.assert_array_equal(out[:, :h, :w], planes)
    assert np.all(out[:, h:, :w] == planes[:, -1:]) and np.all(out[:, :h, w:] == planes[:, :, -1:])


@given(sides, sides, sides, sides)
def test_padding_to_a_size(h, w, height, width):
    planes = random_planes(1, h, w)
    out = geometry.pad_to_size(planes, (height, width))
    assert out.shape == (1, max(h, height), max(w, width))
    np.testing.assert_array_equal(out[:, :h, :w], planes)


# --- tiles ------------------------------------------------------------------------------------------------

overlaps = st.floats(0, 0.9)


@given(st.integers(1, 80), st.integers(1, 80), st.integers(2, 40), st.integers(2, 40), overlaps)
def test_tiles_cover_everything_with_the_overlap(h, w, height, width, overlap):
    found = tiles((h, w), (height, width), overlap)
    cover = np.zeros((h, w), int)
    for tile in found:
        assert (tile.height, tile.width) == (min(h, height), min(w, width))
        assert cover[tile.window].shape == (tile.height, tile.width)  # inside the image
        cover[tile.window] += 1
    assert cover.min() >= 1
    for starts, side in (({t.top for t in found}, height), ({t.left for t in found}, width)):
        steps = np.diff(sorted(starts))
        assert np.all(steps <= max(1, side * (1 - overlap) + 1e-9))
    assert len(set(found)) == len(found)


def test_an_image_of_one_tile_has_one_tile():
    assert len(tiles((32, 32), (32, 32))) == 1 and len(tiles((5, 7), (32, 32))) == 1
    assert len(tiles((33, 32), (32, 32))) == 2


def test_tiles_are_not_many_more_than_needed():
    assert len(tiles((100, 100), (50, 50), overlap=0)) == 4


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_blending_window(height, width):
    window = geometry.blending_window(height, width)
    assert window.shape == (height, width) and window.min() > 0
    np.testing.assert_array_equal(window, window[::-1, ::-1])
    assert window[height // 2, width // 2] == window.max()
