import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from pocketseg.data.masks import MaskCoding
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.recipes.schema import SamplingSection
from pocketseg.training.pixel_weights import border_weights
from pocketseg.training.samples import Samples, learn_mean_std


def names(cases):
    return [case.name for case in cases]


@pytest.fixture
def seven(discs):
    cases = discs(7)
    return Samples.of(cases, list(cases), Pipeline((24, 24)), seed=3)


# --- order ------------------------------------------------------------------------------------------------


def test_the_order_is_a_permutation(seven):
    order = names(seven.order(0, copies=1, balanced=False))
    assert sorted(order) == sorted(names(seven.part)) and order != sorted(order)


def test_the_order_depends_on_seed_and_epoch_only(seven, discs):
    orders = [names(seven.order(epoch, copies=1, balanced=False)) for epoch in range(6)]
    assert orders == [names(seven.order(epoch, copies=1, balanced=False)) for epoch in range(6)]
    again = Samples.of(seven.cases, seven.part, seven.pipeline, seed=3)
    assert names(again.order(4, copies=1, balanced=False)) == orders[4]
    assert len({tuple(order) for order in orders}) == 6
    other = Samples.of(seven.cases, seven.part, seven.pipeline, seed=4)
    assert names(other.order(0, copies=1, balanced=False)) != orders[0]


def test_only_the_part_is_drawn(seven):
    some = Samples.of(seven.cases, seven.part[2:5], seven.pipeline, seed=3)
    for balanced in (False, True):
        drawn = {name for epoch in range(8) for name in names(some.order(epoch, copies=2, balanced=balanced))}
        assert drawn == set(names(seven.part[2:5]))


def test_copies(seven):
    order = names(seven.order(1, copies=3, balanced=False))
    assert Counter(order) == Counter(names(seven.part) * 3)
    # Copies are shuffled with everything else, not one pass after the other.
    assert len(set(order[:7])) < 7


def test_balanced_sampling_draws_every_set_of_classes_alike(discs):
    cases = discs(16, classes=3, empty=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12))
    pipeline = Pipeline((24, 24), classes=("a", "b", "c"))
    samples = Samples.of(cases, list(cases), pipeline, seed=0)
    kinds = {case.name: tuple(np.unique(cases.mask(case))) for case in cases}
    present = Counter(kinds.values())
    assert len(present) == 4 and present[(0,)] == 12 and min(present.values()) == 1
    order = samples.order(0, copies=100, balanced=True)
    assert len(order) == 1600
    counts = Counter(kinds[case.name] for case in order)
    # 400 each; three standard deviations are 52.
    assert set(counts) == set(present) and all(abs(count - 400) < 60 for count in counts.values())
    within = Counter(case.name for case in order if kinds[case.name] == (0,))
    assert len(within) == 12 and max(within.values()) < 3 * min(within.values())
    assert names(order) == names(samples.order(0, copies=100, balanced=True))
    assert names(order) != names(samples.order(1, copies=100, balanced=True))


@pytest.mark.parametrize("weight", [0.25, 1.5, 4.0])
def test_empty_cases_come_as_often_as_the_weight_says(discs, weight):
    cases = discs(14, empty=(0, 3, 4, 9))
    samples = Samples.of(cases, list(cases), Pipeline((24, 24)), seed=0)
    samples.sampling = SamplingSection(empty=weight)
    empty = {cases[index].name for index in (0, 3, 4, 9)}
    seen, expected = (
        Counter(),
        {name: 14 / (10 + 4 * weight) * (weight if name in empty else 1) for name in names(cases)},
    )
    for epoch in range(300):
        counts = Counter(names(samples.order(epoch, copies=1, balanced=False)))
        assert counts.total() == 14
        # As often as it should be, but for one more or less.
        assert all(abs(counts[name] - expected[name]) < 1 for name in expected)
        seen += counts
    # Three standard deviations of 300 draws of a half are 26.
    assert all(abs(seen[name] - 300 * each) < 30 for name, each in expected.items())
    order = names(samples.order(7, copies=1, balanced=False))
    assert (
        order == names(samples.order(7, copies=1, balanced=False)) != names(samples.order(8, copies=1, balanced=False))
    )


def test_a_weight_of_one_is_no_weight(discs):
    cases = discs(6, empty=(2,))
    first, other = (Samples.of(cases, list(cases), Pipeline((24, 24)), seed=0) for _ in range(2))
    other.sampling = SamplingSection(empty=1.0)
    assert first.order(3, copies=2, balanced=False) == other.order(3, copies=2, balanced=False)


# --- batches ----------------------------------------------------------------------------------------------


def test_a_batch_is_what_the_pipeline_prepares(discs):
    cases = discs(3, (30, 40))
    pipeline = Pipeline(
        (16, 24), channels=3, normalization=Normalization("train-mean-std", None, (0.1, 0.2, 0.3), (1, 2, 3))
    )
    images, masks = Samples.of(cases, list(cases), pipeline, seed=0).batch(cases[:2], epoch=0, first=0)
    assert images.shape == (2, 3, 16, 24) and masks.shape == (2, 16, 24)
    for index in range(2):
        assert np.array_equal(images[index].numpy(), pipeline.prepare(cases.image(cases[index])))
        assert np.array_equal(masks[index].numpy(), pipeline.fit_mask(cases.mask(cases[index])))
    assert masks.any() and images.std() > 0


def test_a_batch_may_be_changed(seven):
    """What is cached must not be reached through a batch."""
    first, masks = seven.batch(seven.part[:2], 0, 0)
    kept = first.clone(), masks.clone()
    first.zero_(), masks.zero_()
    again, masks_again = seven.batch(seven.part[:2], 0, 0)
    assert np.array_equal(again, kept[0]) and np.array_equal(masks_again, kept[1])


def test_an_image_is_prepared_once(seven, monkeypatch):
    calls = []
    real = Pipeline.prepare
    monkeypatch.setattr(Pipeline, "prepare", lambda self, *image: calls.append(1) or real(self, *image))
    for epoch in range(3):
        seven.batch(seven.part, epoch, 0)
    assert len(calls) == 7


# --- windows ----------------------------------------------------------------------------------------------


def test_maps_and_pixel_weights_are_cut_as_the_image_is(tmp_path):
    samples = tiled(coordinates(tmp_path, (40, 31)), (16, 24))
    samples.weighting, samples.maps = "borders", lambda case, shape: np.indices(shape).astype(np.float32)
    (case,) = samples.part
    weights = border_weights(samples.prepared(case)[1])
    assert len(np.unique(weights)) > 1
    for position in range(5):
        rows, columns, _ = window(samples, 1, position)
        assert np.array_equal(samples.teacher_maps([case], 1, position)[0], [rows, columns])
        assert np.array_equal(samples.pixel_weights([case], 1, position)[0, 0], weights[rows, columns])


def coordinates(tmp_path, size, classes=1):
    """An image whose pixels tell where they are, and a mask that can be computed from it."""
    from pocketseg.data import Cases

    rows, columns = np.mgrid[: size[0], : size[1]]
    folder = tmp_path / f"where-{size}"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    image = np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)
    Image.fromarray(image).save(folder / "images" / "a.png")
    Image.fromarray((((rows + columns) % 3 == 0) * 255).astype(np.uint8)).save(folder / "masks" / "a.png")
    return Cases.open(folder, coding=MaskCoding(classes=classes))


def window(samples, epoch, position):
    """Rows and columns, (h, w) each, that a window was taken from, and its mask."""
    images, masks = samples.batch([samples.part[0]], epoch, position)
    rows, columns = (np.rint(images[0, index].numpy() * 255).astype(int) for index in range(2))
    return rows, columns, masks[0].numpy()


def tiled(cases, size, **options):
    pipeline = Pipeline(size, channels=3, fit="tile", normalization=Normalization("unit-range"), **options)
    return Samples.of(cases, list(cases), pipeline, seed=1)


def test_windows(tmp_path):
    samples = tiled(coordinates(tmp_path, (40, 31)), (16, 24))
    corners = set()
    for position in range(200):
        rows, columns, mask = window(samples, 0, position)
        top, left = rows[0, 0], columns[0, 0]
        assert rows.shape == (16, 24) == mask.shape
        assert np.array_equal(rows, top + np.mgrid[:16, :24][0]) and np.array_equal(
            columns, left + np.mgrid[:16, :24][1]
        )
        assert np.array_equal(mask, (rows + columns) % 3 == 0)
        corners.add((int(top), int(left)))
    tops, lefts = ({corner[axis] for corner in corners} for axis in (0, 1))
    # Every place can come, the first and the last one too.
    assert tops == set(range(25)) and lefts == set(range(8)) and len(corners) > 100


def test_a_window_depends_on_seed_epoch_and_position(tmp_path):
    samples = tiled(coordinates(tmp_path, (40, 31)), (16, 24))

    def corner(samples, epoch, position):
        rows, columns, _ = window(samples, epoch, position)
        return rows[0, 0], columns[0, 0]

    places = [(epoch, position) for epoch in range(3) for position in range(5)]
    found = [corner(samples, *place) for place in places]
    assert found == [corner(samples, *place) for place in places] and len(set(found)) > 10
    case = samples.part[0]
    images, _ = samples.batch([case] * 5, 2, 0)
    alone = [samples.batch([case], 2, position)[0][0] for position in range(5)]
    assert all(np.array_equal(a, b) for a, b in zip(images, alone, strict=True))
    other = Samples.of(samples.cases, samples.part, samples.pipeline, seed=2)
    assert found != [corner(other, *place) for place in places]


@pytest.mark.parametrize(("size", "windows"), [((40, 31), 4), ((16, 24), 1), ((5, 7), 1), ((17, 24), 2)], ids=str)
def test_as_many_windows_as_the_area_has(tmp_path, size, windows):
    samples = tiled(coordinates(tmp_path, size), (16, 24))
    assert samples.length(3) == 3
    samples.sampling = SamplingSection(windows="area")
    assert samples.length(3) == 3 * windows == len(samples.order(0, copies=3, balanced=False))
    assert samples.length(3) == len(samples.order(0, copies=3, balanced=True))


def test_windows_over_foreground(tmp_path):
    """A single pixel of one class, a corner of another: each is in half of the windows, anywhere in them."""
    cases = coordinates(tmp_path, (60, 70), classes=2)
    mask = np.zeros((60, 70), np.uint8)
    mask[33, 40], mask[55:, 60:] = 1, 2
    Image.fromarray(mask).save(cases[0].masks[0].path)
    samples = tiled(cases, (16, 24), classes=("a", "b"))
    samples.sampling = SamplingSection(foreground=1.0)
    shown, places = Counter(), set()
    for position in range(200):
        rows, columns, cut = window(samples, 0, position)
        top, left = int(rows[0, 0]), int(columns[0, 0])
        assert np.array_equal(cut, mask[top : top + 16, left : left + 24])
        shown.update(set(np.unique(cut).tolist()) - {0})
        places |= {(33 - top, 40 - left)} if (cut == 1).any() else set()
    assert shown[1] + shown[2] >= 200 and abs(shown[1] - 100) < 25
    assert {row for row, _ in places} == set(range(16)) and len({column for _, column in places}) > 20
    samples.sampling = SamplingSection(foreground=0.3)
    found = sum(bool((window(samples, 1, position)[2] == 1).any()) for position in range(400))
    # Of the others 384 of 45 · 47 places show the pixel.
    assert 60 < found < 180


def test_cases_without_foreground_have_windows_anywhere(discs):
    cases = discs(2, (40, 40), empty=(0,))
    samples = Samples.of(cases, list(cases), Pipeline((16, 16), fit="tile"), seed=0)
    plain = [samples.batch([cases[0]], 0, position)[0] for position in range(8)]
    samples.sampling = SamplingSection(foreground=1.0)
    found = [samples.batch([cases[0]], 0, position)[0] for position in range(8)]
    assert all(image.shape == plain[0].shape for image in found) and len({image.sum().item() for image in found}) > 4
    assert all(samples.batch([cases[1]], 0, position)[1].any() for position in range(8))


@pytest.mark.parametrize("size", [(10, 40), (40, 9), (5, 7), (16, 24)], ids=str)
def test_images_smaller_than_the_window_repeat_their_border(tmp_path, size):
    samples = tiled(coordinates(tmp_path, size), (16, 24))
    for position in range(10):
        rows, columns, mask = window(samples, 0, position)
        assert mask.shape == (16, 24)
        top, left = rows[0, 0], columns[0, 0]
        assert np.array_equal(rows, np.minimum(top + np.mgrid[:16, :24][0], size[0] - 1))
        assert np.array_equal(columns, np.minimum(left + np.mgrid[:16, :24][1], size[1] - 1))
        assert np.array_equal(mask, (rows + columns) % 3 == 0)


# --- mean and standard deviation --------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fit", ["resize", "tile"])
def test_mean_and_std_of_all_pixels(discs, tmp_path, channels, fit):
    cases = discs(3, (30, 40))
    rng = np.random.default_rng(0)
    for index, case in enumerate(cases):
        pixels = rng.integers(0, 60 * (index + 1), (30 + index, 40, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(case.image.path)
    pipeline = Pipeline((20, 24), channels=channels, fit=fit)
    part = [cases[0], cases[2]]
    mean, std = learn_mean_std(cases, part, pipeline)
    planes = [pipeline.fitted(cases.image(case)).reshape(channels, -1) for case in part]
    pixels = np.concatenate(planes, 1).astype(np.float64)
    assert len(mean) == len(std) == channels
    np.testing.assert_allclose(mean, pixels.mean(1), rtol=1e-9)
    np.testing.assert_allclose(std, pixels.std(1), rtol=1e-6)
    everything, _ = learn_mean_std(cases, list(cases), pipeline)
    assert everything != mean


def test_the_learned_numbers_normalize(discs):
    cases = discs(4, (30, 40))
    mean, std = learn_mean_std(cases, list(cases), Pipeline((24, 24)))
    pipeline = Pipeline((24, 24), normalization=Normalization("train-mean-std", None, mean, std))
    images, _ = Samples.of(cases, list(cases), pipeline, seed=0).batch(list(cases), 0, 0)
    assert images.mean().item() == pytest.approx(0, abs=1e-5) and images.std(correction=0).item() == pytest.approx(
        1, abs=1e-4
    )


def test_a_constant_data_set_is_not_divided_by_zero(discs):
    cases = discs(2)
    for case in cases:
        Image.fromarray(np.full((24, 24), 51, np.uint8)).save(case.image.path)
    mean, std = learn_mean_std(cases, list(cases), Pipeline((24, 24)))
    assert mean == pytest.approx((0.2,)) and 0 < std[0] < 1e-3


def test_the_files_are_not_needed_twice(seven):
    before = seven.batch(seven.part, 0, 0)
    shutil.rmtree(seven.cases.root)
    after = seven.batch(seven.part, 0, 0)
    assert np.array_equal(before[0], after[0])
