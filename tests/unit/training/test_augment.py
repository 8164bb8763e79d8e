from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from pocketseg.recipes.schema import STRENGTHS, AffineSection, AugmentSection, ElasticSection
from pocketseg.training.augment import augment, draw, sample_generator

EVERYTHING = AugmentSection(
    flip=["horizontal", "vertical"],
    affine=AffineSection(degrees=30, shear=10, translate=0.1),
    elastic=ElasticSection(alpha=0.02, probability=1.0),
    zoom=(0.8, 1.3),
    gamma=0.4,
    brightness=0.1,
    illumination=0.2,
    speckle=0.2,
    noise=0.1,
    blur=1.5,
    histogram=3,
)
STILL = {"degrees": 0, "scale": (1, 1), "translate": 0, "shear": 0}
INTENSITY = ("gamma", "brightness", "across", "down", "speckle", "noise", "sigma")


def affine(**options) -> AffineSection:
    """An affine section that does nothing but what is asked for."""
    return AffineSection(**(STILL | options))


def batch(count=3, channels=1, height=20, width=28, *, seed=0, classes=2):
    """Images that reach from about -2 to 2, and masks."""
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 1, (count, channels, height, width)).astype(np.float32)
    masks = rng.integers(0, classes + 1, (count, height, width)).astype(np.uint8)
    return torch.from_numpy(images), torch.from_numpy(masks)


def disc(height, width, y, x, radius):
    rows, columns = np.mgrid[:height, :width]
    return torch.from_numpy(((rows - y) ** 2 + (columns - x) ** 2 < radius**2).astype(np.uint8))


def center(mask):
    """(y, x) from the center of the image, in pixels."""
    ys, xs = np.nonzero(mask.numpy())
    return np.array([ys.mean() - (mask.shape[0] - 1) / 2, xs.mean() - (mask.shape[1] - 1) / 2])


def draws(options, count, height, width, key=5):
    return [draw(sample_generator(key, index), options, height, width) for index in range(count)]


def apply(images, masks, options, key=5):
    drawn = draws(options, len(images), *images.shape[2:], key=key)
    return augment(images, masks, drawn, options)


def shade(images, options, **numbers):
    """Intensity changes with numbers given by hand; the others at rest."""
    rest = dict.fromkeys(INTENSITY, 0.0) | {"gamma": 1.0}
    intensity = np.array(list((rest | numbers).values()), np.float32)
    drawn = [replace(d, intensity=intensity) for d in draws(options, len(images), *images.shape[2:])]
    out, _ = augment(images, torch.zeros(len(images), *images.shape[2:], dtype=torch.uint8), drawn, options)
    return out.numpy()


def moved_by(images, masks, options, matrix):
    """Geometry with a matrix given by hand."""
    drawn = [replace(d, matrix=np.array(matrix, np.float32)) for d in draws(options, len(images), *images.shape[2:])]
    return augment(images, masks, drawn, options)


# --- the whole --------------------------------------------------------------------------------------------


def test_nothing_asked_nothing_done():
    images, masks = batch()
    out, moved = apply(images, masks, AugmentSection())
    torch.testing.assert_close(out, images, rtol=0, atol=1e-5)
    assert torch.equal(moved, masks)


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_types_and_the_input_stay(channels):
    images, masks = batch(4, channels)
    copies = images.clone(), masks.clone()
    out, moved = apply(images, masks, EVERYTHING)
    assert out.shape == images.shape and out.dtype == torch.float32
    assert moved.shape == masks.shape and moved.dtype == torch.uint8
    assert torch.equal(images, copies[0]) and torch.equal(masks, copies[1])
    assert not torch.allclose(out, images, atol=0.1) and not torch.equal(moved, masks)


def test_it_repeats_itself():
    images, masks = batch(4)
    first, again = apply(images, masks, EVERYTHING), apply(images, masks, EVERYTHING)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    other = apply(images, masks, EVERYTHING, key=6)
    assert not torch.allclose(first[0], other[0], atol=0.1)


def test_samples_differ_from_each_other():
    images, masks = (whole[:1].expand(4, *whole.shape[1:]) for whole in batch(1))
    out, _ = apply(images, masks, EVERYTHING)
    assert all(not torch.allclose(out[a], out[b], atol=0.1) for a in range(4) for b in range(a))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_knows_nothing_of_its_batch(channels):
    images, masks = batch(5, channels)
    drawn = draws(EVERYTHING, 5, 20, 28)
    whole, moved = augment(images, masks, drawn, EVERYTHING)
    for order in ([3], [4, 3, 2], [3, 0]):
        some, labels = augment(images[order], masks[order], [drawn[index] for index in order], EVERYTHING)
        # Vector and scalar code round powers differently, so not to the last bit.
        torch.testing.assert_close(some, whole[order], rtol=0, atol=1e-5)
        assert torch.equal(labels, moved[order])


def test_generators():
    keys = [(1, 2, 3), (1, 2, 4), (1, 3, 2), (2, 1, 3), (1, 2**63 - 1, 3)]
    first = [sample_generator(*key).integers(2**62) for key in keys]
    assert first == [sample_generator(*key).integers(2**62) for key in keys]
    assert len(set(first)) == len(keys)


@pytest.mark.parametrize("border", ["reflect", "edge", "zero"])
def test_masks_keep_their_labels(border):
    options = EVERYTHING.model_copy(update={"border": border})
    images, masks = batch(16, classes=3)
    masks = torch.tensor([0, 3, 77, 255], dtype=torch.uint8)[masks.long()]
    _, moved = apply(images, masks, options)
    assert set(moved.unique().tolist()) == {0, 3, 77, 255}


@pytest.mark.parametrize("value", [-1.5, 0.0, 7.0])
def test_a_constant_image_stays_near_its_value(value):
    images, masks = torch.full((3, 1, 20, 28), value), torch.zeros(3, 20, 28, dtype=torch.uint8)
    out, _ = apply(images, masks, EVERYTHING)
    torch.testing.assert_close(out, images, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (50.0, -3.0), (0.01, 900.0)])
def test_it_means_the_same_after_every_normalization(scale, offset):
    images, masks = batch()
    expected, _ = apply(images, masks, EVERYTHING)
    out, _ = apply(images * scale + offset, masks, EVERYTHING)
    # An offset of 900 leaves 16 bits for a span of 0.05.
    torch.testing.assert_close((out - offset) / scale, expected, rtol=0, atol=1e-4 if offset < 900 else 0.1)


# --- geometry ---------------------------------------------------------------------------------------------

AXES = {"horizontal": 2, "vertical": 1}


@pytest.mark.parametrize("side", AXES)
@pytest.mark.parametrize(("height", "width"), [(20, 28), (17, 9), (8, 8)])
def test_flips(side, height, width):
    images, masks = batch(12, 2, height, width)
    out, moved = apply(images, masks, AugmentSection(flip=[side]))
    axis = AXES[side]
    flipped = []
    for image, mask, found, labels in zip(images, masks, out, moved, strict=True):
        flipped.append(not torch.allclose(found, image, atol=1e-4))
        if flipped[-1]:
            torch.testing.assert_close(found, image.flip(axis), rtol=0, atol=1e-4)
        assert torch.equal(labels, mask.flip(axis - 1) if flipped[-1] else mask)
    assert 2 <= sum(flipped) <= 10


def test_both_flips_are_drawn_apart():
    images, masks = batch(40, 1, 9, 12)
    out, _ = apply(images, masks, AugmentSection(flip=["horizontal", "vertical"]))
    ways = [(), (1,), (2,), (1, 2)]
    counts = [sum(torch.allclose(o, i.flip(way), atol=1e-4) for o, i in zip(out, images, strict=True)) for way in ways]
    assert sum(counts) == 40 and min(counts) >= 3


@pytest.mark.parametrize("side", [16, 17])
def test_quarter_turns(side):
    images, masks = batch(40, 1, side, side)
    out, moved = apply(images, masks, AugmentSection(rotate90=True))
    counts = [0] * 4
    for image, mask, found, labels in zip(images, masks, out, moved, strict=True):
        (turns,) = [k for k in range(4) if torch.allclose(found, image.rot90(k, (1, 2)), atol=1e-4)]
        assert torch.equal(labels, mask.rot90(turns, (0, 1)))
        counts[turns] += 1
    assert min(counts) >= 3


@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 60)])
def test_translation(height, width):
    """The content moves against the sampling grid, by at most the share of each side."""
    options = AugmentSection(affine=affine(translate=0.25), border="zero")
    mask = disc(height, width, height / 2 - 0.5, width / 2 - 0.5, 4)
    masks = mask.expand(30, height, width)
    out, moved = apply(masks[:, None].float(), masks, options)
    drawn = draws(options, 30, height, width)
    offsets = np.array([center(labels) for labels in moved])
    expected = np.array([-d.matrix[::-1, 2] * [height / 2, width / 2] for d in drawn])
    np.testing.assert_allclose(offsets, expected, atol=0.6)
    shares = offsets / [height, width]
    assert np.abs(shares).max() <= 0.25 + 0.6 / min(height, width)
    assert (shares.max(0) > 0.15).all() and (shares.min(0) < -0.15).all()
    assert ((out[:, 0] >= 0.5) == (moved > 0)).float().mean() > 0.99


def test_a_translation_by_whole_pixels_is_exact():
    images, masks = batch(2, 3)
    options = AugmentSection(affine=affine(), border="edge")
    out, moved = moved_by(images, masks, options, [[1, 0, 2 * 5 / 28], [0, 1, -2 * 3 / 20]])
    torch.testing.assert_close(out[:, :, 3:, :-5], images[:, :, :-3, 5:], rtol=0, atol=1e-4)
    assert torch.equal(moved[:, 3:, :-5], masks[:, :-3, 5:])


MODES = {"reflect": "symmetric", "edge": "edge", "zero": "constant"}


@pytest.mark.parametrize("border", MODES)
def test_borders(border):
    """The same rule for image and mask; zero is the darkest value of the image."""
    images, masks = batch(2)
    pad = ((0, 0), (6, 6), (6, 6))
    mask_whole = np.pad(masks.numpy(), pad, mode=MODES[border])
    fill = images.amin((1, 2, 3)).numpy()
    whole = np.stack(
        [
            np.pad(
                image[0].numpy(), pad[1:], mode=MODES[border], **({"constant_values": low} if border == "zero" else {})
            )
            for image, low in zip(images, fill, strict=True)
        ]
    )
    options = AugmentSection(affine=affine(), border=border)
    for dx, dy in ((6, 4), (-5, 2), (3, -6)):
        out, moved = moved_by(images, masks, options, [[1, 0, 2 * dx / 28], [0, 1, 2 * dy / 20]])
        window = (slice(None), slice(6 + dy, 26 + dy), slice(6 + dx, 34 + dx))
        np.testing.assert_allclose(out[:, 0].numpy(), whole[window], atol=1e-4)
        assert np.array_equal(moved.numpy(), mask_whole[window])


@pytest.mark.parametrize("options", [{"zoom": (2, 2)}, {"affine": affine(scale=(2, 2))}], ids=["zoom", "scale"])
def test_two_is_twice_as_large(options):
    mask = disc(48, 64, 23.5, 31.5, 8)[None]
    out, moved = apply(mask[:, None].float(), mask, AugmentSection(**options))
    assert moved.sum().item() == pytest.approx(4 * mask.sum().item(), rel=0.03)
    assert (out >= 0.5).sum().item() == pytest.approx(4 * mask.sum().item(), rel=0.03)
    np.testing.assert_allclose(center(moved[0]), 0, atol=0.2)


def test_scale_and_zoom_are_drawn_from_their_ranges():
    for options in (AugmentSection(zoom=(0.5, 2)), AugmentSection(affine=affine(scale=(0.5, 2)))):
        scales = [1 / d.matrix[0, 0] for d in draws(options, 300, 8, 8)]
        assert 0.5 <= min(scales) < 0.53 and 1.9 < max(scales) <= 2
        assert np.median(scales) == pytest.approx(1, rel=0.15)  # uniform in the logarithm
        assert all(d.matrix[0, 0] == d.matrix[1, 1] for d in draws(options, 3, 8, 8))
    both = AugmentSection(zoom=(2, 2), affine=affine(scale=(3, 3)))
    assert draws(both, 1, 8, 8)[0].matrix[0, 0] == pytest.approx(1 / 6)


def test_a_scale_for_each_axis():
    options = AugmentSection(affine=affine(scale=(0.5, 2), per_axis=True))
    drawn = draws(options, 300, 8, 12)
    scales = np.array([[1 / d.matrix[0, 0], 1 / d.matrix[1, 1]] for d in drawn])
    assert (scales.min(0) < 0.53).all() and (scales.max(0) > 1.9).all()
    assert scales.min() >= 0.5 and scales.max() <= 2
    assert abs(np.corrcoef(np.log(scales).T)[0, 1]) < 0.15
    assert not any(d.matrix[0, 1] or d.matrix[1, 0] for d in drawn)


def test_an_object_is_scaled_along_the_axes_of_the_image_before_it_turns():
    """Then its own axes are still at right angles."""
    options = AugmentSection(affine=affine(scale=(0.5, 2), degrees=180, per_axis=True), border="zero")
    for d in draws(options, 50, 64, 64):
        forward = np.linalg.inv(d.matrix[:, :2].astype(np.float64))
        assert forward[:, 0] @ forward[:, 1] == pytest.approx(0, abs=1e-5)


def test_what_is_drawn_without_per_axis_stays_what_it_was():
    """An option that is off takes no random number: these are the numbers from before there was one."""
    options = AugmentSection(
        flip=["horizontal"], affine=AffineSection(degrees=15, scale=(0.8, 1.25), translate=0.08, shear=5), gamma=0.25
    )
    found = draw(sample_generator(3, 0, 1, 2), options, 24, 36)
    expected = [[-1.0131487, -0.172927, -0.1206575], [-0.265967, 0.9987839, -0.0532256]]
    np.testing.assert_allclose(found.matrix, expected, rtol=2e-6)


@pytest.mark.parametrize(("height", "width"), [(60, 60), (60, 90), (90, 60)])
def test_rotation_without_distortion(height, width):
    """A disc away from the center stays a disc, as large and as far away, on images of every shape."""
    mask = disc(height, width, (height - 1) / 2, (width - 1) / 2 + 17, 7)
    masks = mask.expand(24, height, width)
    options = AugmentSection(affine=affine(degrees=180), border="zero")
    out, moved = apply(masks[:, None].float(), masks, options)
    angles = []
    for labels in moved:
        offset = center(labels)
        assert np.hypot(*offset) == pytest.approx(17, abs=0.4)
        assert labels.sum().item() == pytest.approx(mask.sum().item(), rel=0.06)
        ys, xs = np.nonzero(labels.numpy())
        assert np.linalg.eigvalsh(np.cov(ys, xs)) == pytest.approx(np.full(2, 7**2 / 4), rel=0.1)
        angles.append(np.degrees(np.arctan2(*offset)))
    assert min(angles) < -100 and max(angles) > 100
    assert ((out[:, 0] >= 0.5) == (moved > 0)).float().mean() > 0.995


def test_degrees_and_shear_are_bounds():
    half = np.array([30, 20])

    def pixels(options):
        """The linear parts in pixels: undoes the step to normalized coordinates."""
        return [d.matrix[:, :2] / half[None, :] * half[:, None] for d in draws(options, 200, 40, 60)]

    turned = pixels(AugmentSection(affine=affine(degrees=25)))
    angles = [np.degrees(np.arctan2(m[1, 0], m[0, 0])) for m in turned]
    assert -25 <= min(angles) < -23 and 23 < max(angles) <= 25
    for matrix in turned:
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(2), atol=1e-6)
    sheared = pixels(AugmentSection(affine=affine(shear=20)))
    slopes = [np.degrees(np.arctan(m[0, 1])) for m in sheared]
    assert -20 <= min(slopes) < -18 and 18 < max(slopes) <= 20
    for matrix in sheared:
        np.testing.assert_allclose([matrix[0, 0], matrix[1, 0], matrix[1, 1]], [1, 0, 1], atol=1e-6)


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.5, 70, 130), (1.0, 200, 200)])
def test_probabilities(probability, low, high):
    options = AugmentSection(
        affine=affine(degrees=20, probability=probability), elastic=ElasticSection(probability=probability)
    )
    drawn = draws(options, 200, 8, 8)
    assert low <= sum(d.matrix[0, 1] != 0 for d in drawn) <= high
    assert low <= sum(bool(d.displacement.any()) for d in drawn) <= high


INTENSE = {"gamma": 0.4, "brightness": 0.1, "speckle": 0.2, "noise": 0.1, "blur": 1.5, "histogram": 3}


def test_each_change_has_its_probability():
    """One number for all of them, each drawn by itself; those with a section of their own may have another."""
    options = AugmentSection(
        **INTENSE, illumination=0.2, zoom=(0.8, 1.3), affine=affine(degrees=20), probability=0.3,
        elastic=ElasticSection(probability=0.9),
    )  # fmt: skip
    drawn = draws(options, 400, 8, 8)
    intensity = np.array([d.intensity for d in drawn])
    rest = np.array([1, 0, 0, 0, 0, 0, 0])
    changed = dict(zip(INTENSITY, (intensity != rest).T, strict=True)) | {
        "histogram": np.array([not np.allclose(d.curve, np.linspace(0, 1, 256)) for d in drawn]),
        "affine": np.array([d.matrix[0, 1] != 0 for d in drawn]),
        "zoom": np.array([abs(np.linalg.det(d.matrix[:, :2].astype(float)) - 1) > 1e-5 for d in drawn]),
    }
    # Three standard deviations of 400 draws are 27.
    assert {name: abs(int(each.sum()) - 120) < 35 for name, each in changed.items()} == dict.fromkeys(changed, True)
    assert np.array_equal(changed["across"], changed["down"])
    together = np.mean(changed["gamma"] & changed["noise"])
    assert 0.03 < together < 0.16
    assert 330 < sum(bool(d.displacement.any()) for d in drawn) < 390


def test_probabilities_by_name():
    drawn = draws(AugmentSection(**INTENSE, probability={"gamma": 0.0, "blur": 0.5}), 200, 8, 8)
    gamma, *_, noise, sigma = (np.array([d.intensity for d in drawn]).T)[[0, 4, 5, 6]]
    assert (gamma == 1).all() and (noise > 0).all() and 70 < (sigma > 0).sum() < 130


def test_without_a_probability_nothing_is_drawn_for_it():
    """The draws of recipes of before, by the numbers they had."""
    plain, of_one = (AugmentSection(**INTENSE, probability=each) for each in (None, 1.0))
    first, other = (draws(options, 3, 8, 8) for options in (plain, of_one))
    assert all(np.array_equal(a.intensity, b.intensity) for a, b in zip(first, other, strict=True))
    assert not any(np.array_equal(a.fields, b.fields) for a, b in zip(first, other, strict=True))
    assert first[0].intensity[0] == np.float32(np.exp(0.4 * sample_generator(5, 0).standard_normal(6)[0]))


def test_a_sample_without_any_change_is_left_as_it_is():
    images, masks = batch()
    out, moved = apply(images, masks, EVERYTHING.model_copy(update={
        "probability": 0.0, "flip": [], "elastic": None, "affine": affine(degrees=20),
    }))  # fmt: skip
    torch.testing.assert_close(out, images, rtol=0, atol=1e-4)
    assert torch.equal(moved, masks)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_strength_is_its_settings(strength):
    named = AugmentSection(strength=strength, flip=["horizontal"])
    assert named == AugmentSection(**STRENGTHS[strength], flip=["horizontal"]) and named.strength is None
    assert AugmentSection.model_validate(named.model_dump(mode="json")) == named
    images, masks = batch(8)
    out, _ = apply(images, masks, named)
    assert not torch.allclose(out, images, atol=0.1)


def test_a_strength_and_what_it_sets_are_refused_together():
    with pytest.raises(ValidationError, match=r"strength: light sets affine, gamma too; give one of them"):
        AugmentSection.model_validate({"strength": "light", "affine": None, "gamma": 0.5, "blur": 1})
    with pytest.raises(ValidationError, match="light', 'standard' or 'strong"):
        AugmentSection.model_validate({"strength": "mild"})


def test_strengths_grow():
    light, standard, strong = (AugmentSection(strength=name) for name in STRENGTHS)
    for name in ("gamma", "brightness"):
        assert getattr(light, name) < getattr(standard, name) < getattr(strong, name)
    for less, more in ((light, standard), (standard, strong)):
        assert less.affine.degrees < more.affine.degrees and less.affine.scale[0] > more.affine.scale[0]


def test_elastic_displacement_in_pixels():
    """On a ramp the value that is found tells from where it came: alpha is its deviation as a share of the side."""
    height, width, alpha = 41, 81, 0.02
    options = AugmentSection(elastic=ElasticSection(alpha=alpha, grid=3, probability=1.0), border="edge")
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    ramp = torch.from_numpy(np.stack([rows, columns]))[None].expand(400, 2, height, width)
    out, _ = apply(ramp, torch.zeros(400, height, width, dtype=torch.uint8), options)
    # The middle of the image is a control point of a grid of three.
    shift = (out - ramp)[:, :, height // 2, width // 2].numpy()
    assert shift.std(0) == pytest.approx([alpha * height, alpha * width], rel=0.12)
    assert np.abs(shift.mean(0)).max() < 0.3
    # It is smooth: neighbors move alike.
    steps = np.diff((out - ramp)[:, :, 5:-5, 5:-5].numpy(), axis=3)
    assert np.abs(steps).max() < 0.5


@pytest.mark.parametrize("border", MODES)
def test_image_and_mask_move_alike(border):
    options = AugmentSection(
        flip=["horizontal", "vertical"],
        affine=AffineSection(degrees=180, shear=20, translate=0.2, scale=(0.7, 1.4)),
        elastic=ElasticSection(alpha=0.03, probability=1.0),
        border=border,
    )
    mask = disc(64, 80, 24, 50, 17) | disc(64, 80, 45, 20, 9)
    masks = mask.expand(16, 64, 80)
    out, moved = apply(masks[:, None].float(), masks, options)
    agreement = ((out[:, 0] >= 0.5) == (moved > 0)).float().mean((1, 2))
    assert agreement.min() > 0.98
    # The agreement is not a matter of chance: with the mask that did not move it is low.
    assert ((out[:, 0] >= 0.5) == (masks > 0)).float().mean() < 0.85


def test_geometry_changes_no_intensity():
    images = torch.full((4, 1, 20, 28), 3.0)
    images[:, :, 5:15, 5:20] = 8
    out, _ = apply(images, torch.zeros(4, 20, 28, dtype=torch.uint8), AugmentSection(affine=AffineSection(degrees=40)))
    assert out.min() >= 3 - 1e-4 and out.max() <= 8 + 1e-4


# --- intensity --------------------------------------------------------------------------------------------


def stretched(images):
    low = images.amin((1, 2, 3), keepdim=True).numpy()
    span = images.amax((1, 2, 3), keepdim=True).numpy() - low
    return (images.numpy() - low) / span, low, span


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.2])
def test_gamma(gamma):
    images, _ = batch(2, 3)
    unit, low, span = stretched(images)
    found = shade(images, AugmentSection(gamma=0.4), gamma=gamma)
    np.testing.assert_allclose(found, unit**gamma * span + low, atol=1e-5)


def test_gamma_above_one_darkens():
    images, _ = batch(2)
    assert shade(images, AugmentSection(gamma=0.4), gamma=2.0).mean() < images.mean() - 0.1


def test_brightness():
    images, _ = batch(2)
    _, _, span = stretched(images)
    found = shade(images, AugmentSection(brightness=0.2), brightness=0.25)
    np.testing.assert_allclose(found - images.numpy(), np.broadcast_to(0.25 * span, found.shape), atol=1e-5)


def test_illumination():
    images, _ = batch(2, 1, 20, 28)
    unit, low, span = stretched(images)
    found = shade(images, AugmentSection(illumination=0.2), across=0.3, down=-0.2)
    x, y = np.linspace(-1, 1, 28)[None, :], np.linspace(-1, 1, 20)[:, None]
    np.testing.assert_allclose(found, unit * (1 + 0.3 * x - 0.2 * y) * span + low, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("size", [(20, 28), (7, 5)], ids=str)
def test_blur(sigma, size):
    images, _ = batch(2, 3, *size)
    largest = 3.0
    found = shade(images, AugmentSection(blur=largest), sigma=sigma)
    for image, blurred in zip(images.numpy(), found, strict=True):
        for plane, result in zip(image, blurred, strict=True):
            evaluate = gaussian_filter(plane.astype(np.float64), sigma, mode="nearest", truncate=9 / sigma)
            np.testing.assert_allclose(result, evaluate, atol=1e-5)


def test_no_blur_with_sigma_zero():
    images, _ = batch()
    np.testing.assert_allclose(shade(images, AugmentSection(blur=3), sigma=0.0), images.numpy(), atol=1e-5)


def test_each_sample_has_its_own_blur():
    images, _ = batch(2, 2)
    options = AugmentSection(blur=3)
    drawn = draws(options, 2, 20, 28)
    for index, sigma in enumerate((0.7, 2.5)):
        drawn[index].intensity[6] = sigma
    out, _ = augment(images, torch.zeros(2, 20, 28, dtype=torch.uint8), drawn, options)
    for index, sigma in enumerate((0.7, 2.5)):
        evaluate = gaussian_filter(images[index].numpy(), (0, sigma, sigma), mode="nearest", truncate=9 / sigma)
        np.testing.assert_allclose(out[index].numpy(), evaluate, atol=1e-5)


def test_noise():
    images = torch.zeros(4, 1, 100, 100)
    images[:, :, ::2] = 2.0
    added = shade(images, AugmentSection(noise=0.3), noise=0.1) - images.numpy()
    for even, odd in ((added[:, :, ::2], added[:, :, 1::2]),):
        # A tenth of the image's span, wherever the image is.
        assert even.std() == pytest.approx(0.2, rel=0.03) and odd.std() == pytest.approx(0.2, rel=0.03)
    assert abs(added.mean()) < 0.01
    assert np.abs(np.corrcoef(added.reshape(4, -1)) - np.eye(4)).max() < 0.05


def test_speckle_is_multiplicative():
    images = torch.zeros(4, 1, 100, 100)
    images[:, :, ::2] = 2.0
    images[:, :, 1::4] = 1.0
    added = shade(images, AugmentSection(speckle=0.3), speckle=0.1) - images.numpy()
    assert added[:, :, ::2].std() == pytest.approx(0.2, rel=0.03)
    assert added[:, :, 1::4].std() == pytest.approx(0.1, rel=0.03)
    assert np.abs(added[:, :, 3::4]).max() < 1e-6


def test_speckle_and_noise_are_independent_fields():
    (drawn,) = draws(AugmentSection(speckle=0.1, noise=0.1), 1, 100, 100)
    assert drawn.fields.shape == (2, 100, 100)
    assert abs(np.corrcoef(drawn.fields[0].ravel(), drawn.fields[1].ravel())[0, 1]) < 0.05
    assert drawn.fields.std() == pytest.approx(1, rel=0.03)


def test_fields_are_drawn_only_where_needed():
    assert draws(AugmentSection(gamma=0.1), 1, 9, 9)[0].fields.size == 0
    assert draws(AugmentSection(noise=0.1), 1, 9, 7)[0].fields.shape == (2, 9, 7)
    assert draws(AugmentSection(speckle=0.1), 1, 9, 7)[0].fields.shape == (2, 9, 7)


def test_numbers_that_are_drawn():
    options = AugmentSection(gamma=0.4, brightness=0.1, illumination=0.2, speckle=0.3, noise=0.05, blur=2.0)
    numbers = np.stack([d.intensity for d in draws(options, 3000, 4, 4)])
    named = dict(zip(INTENSITY, numbers.T, strict=True))
    named["log gamma"] = np.log(named.pop("gamma"))
    for name, deviation in {"log gamma": 0.4, "brightness": 0.1, "across": 0.2, "down": 0.2}.items():
        assert named[name].std() == pytest.approx(deviation, rel=0.05), name
        assert abs(named[name].mean()) < 0.1 * deviation, name
    for name, largest in {"speckle": 0.3, "noise": 0.05, "sigma": 2.0}.items():
        assert named[name].min() >= 0 and named[name].max() <= largest, name
        assert named[name].mean() == pytest.approx(largest / 2, rel=0.05), name
    independent = np.corrcoef(np.stack(list(named.values())))
    assert np.abs(independent - np.eye(7)).max() < 0.07


def test_intensity_leaves_masks_alone():
    images, masks = batch()
    still = EVERYTHING.model_copy(update={"flip": [], "affine": None, "elastic": None, "zoom": None})
    out, moved = apply(images, masks, still)
    assert torch.equal(moved, masks) and not torch.allclose(out, images, atol=0.1)


def test_histogram_curve_rises_through_its_control_points_and_keeps_the_extremes():
    options = AugmentSection(histogram=3)
    ramp = torch.linspace(-2, 3, 256).reshape(1, 1, 16, 16)
    curves = []
    for key in range(20):
        (drawn,) = draws(options, 1, 16, 16, key=key)
        out, _ = augment(ramp, torch.zeros(1, 16, 16, dtype=torch.uint8), [drawn], options)
        curve = (out.flatten().numpy() + 2) / 5
        np.testing.assert_allclose(curve, drawn.curve, atol=1e-5)
        assert curve[0] == pytest.approx(0, abs=1e-6) and curve[-1] == pytest.approx(1, abs=1e-6)
        assert (np.diff(curve) > 0).all()
        # A quarter, half and three quarters of the way up lie in [0.1, 0.9], wherever the points were drawn.
        assert curve[63] >= 0.09 and curve[192] <= 0.91
        curves.append(curve)
    assert np.ptp([curve[128] for curve in curves]) > 0.2


def test_histogram_curve_of_each_image_is_its_own():
    options = AugmentSection(histogram=2)
    ramp = torch.linspace(0, 1, 400).reshape(1, 1, 20, 20).repeat(2, 1, 1, 1)
    out, _ = apply(ramp, torch.zeros(2, 20, 20, dtype=torch.uint8), options)
    alone, _ = augment(ramp[1:], torch.zeros(1, 20, 20, dtype=torch.uint8), draws(options, 2, 20, 20)[1:], options)
    assert not torch.equal(out[0], out[1])
    torch.testing.assert_close(out[1:], alone)


@pytest.mark.parametrize("name", ["speckle", "noise", "blur"])
def test_a_strength_is_drawn_up_to_a_number_or_between_two(name):
    place = INTENSITY.index({"blur": "sigma"}.get(name, name))
    for given, low, high in ((0.4, 0.0, 0.4), ((0.3, 0.4), 0.3, 0.4), ((0.4, 0.4), 0.4, 0.4)):
        drawn = np.array([each.intensity[place] for each in draws(AugmentSection(**{name: given}), 200, 4, 4)])
        assert (drawn >= np.float32(low)).all() and (drawn <= np.float32(high)).all()
        assert np.ptp(drawn) == pytest.approx(high - low, abs=0.05)
    with pytest.raises(ValueError, match="smaller number first"):
        AugmentSection(**{name: (0.4, 0.3)})
