"""Losses evaluated by a slow NumPy version in f64."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from pocketseg.recipes.schema import LossSection
from pocketseg.training.losses import (
    boundary_loss,
    cross_entropy,
    dice_loss,
    foreground,
    object_rims,
    segmentation_loss,
    soft_cross_entropy,
    soft_dice_loss,
    total_variation,
)

S = 1.0


def problem(batch, classes, *, seed=0, scale=2.0, share=None):
    """Logits and targets of all classes; one logit for one class, background and classes for several."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (batch, 1 if classes == 1 else classes + 1, 5, 7)).astype(np.float32)
    target = rng.integers(0, classes + 1, (batch, 5, 7)).astype(np.uint8)
    if share is not None:
        target[rng.random(target.shape) > share] = 0
    return logits, target


def slow_probabilities(logits):
    """All classes with background first, (n, classes + 1, h, w), pixel by pixel."""
    logits = logits.astype(np.float64)
    if logits.shape[1] == 1:
        p = 1 / (1 + np.exp(-logits))
        return np.concatenate([1 - p, p], 1)
    powers = np.exp(logits)
    return powers / powers.sum(1, keepdims=True)


def slow_cross_entropy(logits, target, weights=None):
    probability = slow_probabilities(logits)
    losses = []
    for n in range(target.shape[0]):
        for y in range(target.shape[1]):
            for x in range(target.shape[2]):
                label = target[n, y, x]
                losses.append(-np.log(probability[n, label, y, x]) * (1 if weights is None else weights[label]))
    return np.mean(losses)


def slow_dice(logits, target, *, over_batch, smoothing=S):
    probability = slow_probabilities(logits)
    losses = []
    for k in range(1, probability.shape[1]):
        pieces = [slice(None)] if over_batch else [slice(n, n + 1) for n in range(len(target))]
        for piece in pieces:
            p, t = probability[piece, k], target[piece] == k
            losses.append(1 - (2 * (p * t).sum() + smoothing) / (p.sum() + t.sum() + smoothing))
    return np.mean(losses)


def slow_total_variation(logits):
    probability = slow_probabilities(logits)
    sums = []
    for planes in probability:
        of_classes = 0.0
        for p in planes[1:]:
            squares = 0.0
            for y in range(p.shape[0]):
                for x in range(p.shape[1]):
                    squares += (p[y + 1, x] - p[y, x]) ** 2 if y + 1 < p.shape[0] else 0
                    squares += (p[y, x + 1] - p[y, x]) ** 2 if x + 1 < p.shape[1] else 0
            of_classes += np.sqrt(squares)
        sums.append(of_classes)
    return np.mean(sums)


def slow_rims(reference):
    """Of one bool image (h, w)."""
    height, width = reference.shape
    rims = np.zeros(reference.shape)
    for y in range(height):
        for x in range(width):
            for i, j in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= i < height and 0 <= j < width and reference[i, j] != reference[y, x]:
                    rims[y, x] = 1 if reference[y, x] else -1
    return rims


def slow_boundary(logits, target):
    probability = slow_probabilities(logits)
    losses = []
    for k in range(1, probability.shape[1]):
        both = squares = 0.0
        for n in range(len(target)):
            p, b = probability[n, k], slow_rims(target[n] == k)
            both += (p * b).sum()
            squares += (b**2).sum() + (p**2).sum()
        losses.append(-both / (np.sqrt(squares) + 0.01))
    return np.mean(losses)


def measured(logits, target, **weights):
    return segmentation_loss(torch.from_numpy(logits), torch.from_numpy(target), **weights)


CASES = [(1, 1), (4, 1), (1, 3), (3, 2), (2, 5)]


@pytest.mark.parametrize(("batch", "classes"), CASES)
def test_parts_agree_with_the_slow_version(batch, classes):
    logits, target = problem(batch, classes, seed=batch)
    entropy = "bce" if classes == 1 else "ce"
    weights = {entropy: 1.0, "dice": 1.0, "batch_dice": 1.0, "tv": 1.0, "boundary": 1.0}
    _, parts = measured(logits, target, **weights)
    expected = {
        entropy: slow_cross_entropy(logits, target),
        "dice": slow_dice(logits, target, over_batch=False),
        "batch_dice": slow_dice(logits, target, over_batch=True),
        "tv": slow_total_variation(logits),
        "boundary": slow_boundary(logits, target),
    }
    assert set(parts) == set(expected)
    for name, value in expected.items():
        assert parts[name].item() == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize(("batch", "classes"), CASES)
def test_class_weights(batch, classes):
    logits, target = problem(batch, classes, seed=9)
    entropy = "bce" if classes == 1 else "ce"
    weights = [0.5 + 1.5 * index for index in range(classes + 1)]
    _, parts = measured(logits, target, **{entropy: 1.0, "class_weights": weights})
    assert parts[entropy].item() == pytest.approx(slow_cross_entropy(logits, target, weights), rel=1e-5)
    _, plain = measured(logits, target, **{entropy: 1.0})
    assert parts[entropy].item() != pytest.approx(plain[entropy].item(), rel=1e-3)


def test_class_weights_leave_dice_alone():
    logits, target = problem(2, 2)
    _, plain = measured(logits, target, ce=1, dice=1, batch_dice=1)
    _, weighed = measured(logits, target, ce=1, dice=1, batch_dice=1, class_weights=[1, 5, 9])
    assert plain["dice"] == weighed["dice"] and plain["batch_dice"] == weighed["batch_dice"]


def test_the_sum_is_weighted_and_the_parts_are_not():
    logits, target = problem(3, 1)
    total, parts = measured(logits, target, bce=0.25, dice=2.0, batch_dice=7.0, tv=0.5, boundary=3.0)
    _, plain = measured(logits, target, bce=1.0, dice=1.0, batch_dice=1.0, tv=1.0, boundary=1.0)
    assert parts == plain
    expected = 0.25 * parts["bce"] + 2.0 * parts["dice"] + 7.0 * parts["batch_dice"]
    expected = expected + 0.5 * parts["tv"] + 3.0 * parts["boundary"]
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("part", ["bce", "dice", "batch_dice"])
def test_a_part_without_weight_is_absent(part):
    logits, target = problem(2, 1)
    total, parts = measured(logits, target, **{part: 3.0})
    assert list(parts) == [part]
    assert total.item() == pytest.approx(3 * parts[part].item(), rel=1e-6)


def test_batch_dice_is_no_mean_of_dice():
    """A small object weighs less over the batch: here the large one is right, and the small one is missed."""
    logits = np.full((2, 1, 10, 10), -20, np.float32)
    target = np.zeros((2, 10, 10), np.uint8)
    target[0, :8] = 1
    logits[0, 0, :8] = 20
    target[1, 0, 0] = 1
    _, parts = measured(logits, target, dice=1, batch_dice=1)
    assert parts["dice"].item() == pytest.approx((0 + 0.5) / 2, abs=1e-4)
    assert parts["batch_dice"].item() == pytest.approx(1 - 161 / 162, abs=1e-4)


@pytest.mark.parametrize("classes", [1, 3])
def test_the_reference_costs_nothing_and_its_opposite_most(classes):
    _, target = problem(2, classes, seed=3)
    reference = np.stack([target == k for k in range(classes + 1)], 1)
    logits = np.where(reference, 40, -40).astype(np.float32)
    logits = logits[:, 1:] if classes == 1 else logits
    weights = {"bce" if classes == 1 else "ce": 1, "dice": 1, "batch_dice": 1}
    good, _ = measured(logits, target, **weights)
    bad, parts = measured(-logits, target, **weights)
    assert 0 <= good.item() < 1e-5
    assert bad.item() > 20 and parts["dice"] > 0.5


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("batch", [1, 3])
def test_all_empty(batch, classes):
    logits, target = problem(batch, classes, share=0.0)
    assert not target.any()
    entropy = "bce" if classes == 1 else "ce"
    _, parts = measured(logits, target, **{entropy: 1, "dice": 1, "batch_dice": 1})
    assert parts["dice"].item() == pytest.approx(slow_dice(logits, target, over_batch=False), rel=1e-5)
    assert parts["batch_dice"].item() == pytest.approx(slow_dice(logits, target, over_batch=True), rel=1e-5)
    # An empty prediction of an empty mask costs nothing.
    logits[:] = -60
    logits[:, : logits.shape[1] - classes] = 60 if classes > 1 else -60
    total, _ = measured(logits, target, **{entropy: 1, "dice": 1, "batch_dice": 1})
    assert total.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("value", [-100.0, 0.0, 100.0])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("filled", [False, True])
def test_gradients_are_finite(value, classes, filled):
    channels = 1 if classes == 1 else classes + 1
    logits = torch.full((2, channels, 4, 4), value)
    logits[:, 1:] *= -1
    logits.requires_grad_(True)
    target = torch.full((2, 4, 4), classes if filled else 0, dtype=torch.uint8)
    weights = {"bce" if classes == 1 else "ce": 1, "dice": 1, "batch_dice": 1, "tv": 1, "boundary": 1}
    total, _ = segmentation_loss(logits, target, **weights)
    total.backward()
    assert total.isfinite() and logits.grad.isfinite().all()
    if value == 0:
        assert logits.grad.any()


@pytest.mark.parametrize("classes", [1, 2])
def test_a_step_against_the_gradient_makes_it_better(classes):
    logits, target = problem(3, classes, seed=4)
    weights = {"bce" if classes == 1 else "ce": 1, "dice": 1, "batch_dice": 1}
    for part in ("bce" if classes == 1 else "ce", "dice", "batch_dice"):
        alone = {part: weights[part]}
        x = torch.from_numpy(logits).clone().requires_grad_(True)
        before, _ = segmentation_loss(x, torch.from_numpy(target), **alone)
        before.backward()
        after, _ = segmentation_loss(x.detach() - x.grad, torch.from_numpy(target), **alone)
        assert after < before


@pytest.mark.parametrize("classes", [1, 3])
def test_bf16_logits_are_computed_with_in_f32(classes):
    logits, target = problem(2, classes)
    rounded = torch.from_numpy(logits).bfloat16()
    weights = {"bce" if classes == 1 else "ce": 1, "dice": 1, "batch_dice": 1, "tv": 1, "boundary": 1}
    total, parts = segmentation_loss(rounded, torch.from_numpy(target), **weights)
    expected, _ = segmentation_loss(rounded.float(), torch.from_numpy(target), **weights)
    assert total.dtype == torch.float32 and all(part.dtype == torch.float32 for part in parts.values())
    assert torch.equal(total, expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_any_integer_target(dtype):
    for classes, entropy in ((1, "bce"), (3, "ce")):
        logits, target = problem(2, classes)
        weights = {entropy: 1, "dice": 1, "class_weights": [1.0] * classes + [2.0]}
        expected, _ = segmentation_loss(torch.from_numpy(logits), torch.from_numpy(target), **weights)
        found, _ = segmentation_loss(torch.from_numpy(logits), torch.from_numpy(target).to(dtype), **weights)
        assert torch.equal(found, expected)


def test_255_classes():
    logits = torch.zeros(1, 256, 2, 2)
    target = torch.full((1, 2, 2), 255, dtype=torch.uint8)
    assert cross_entropy(logits, target.long()).item() == pytest.approx(np.log(256))
    probability, reference = foreground(logits, target.long())
    assert probability.shape == reference.shape == (1, 255, 2, 2)
    assert reference[:, 254].all() and not reference[:, :254].any()


def test_dice_of_known_numbers():
    probability = torch.tensor([[[[0.5, 1.0]]]])
    reference = torch.tensor([[[[1.0, 1.0]]]])
    assert dice_loss(probability, reference, (2, 3)).item() == pytest.approx(1 - (2 * 1.5 + 1) / (1.5 + 2 + 1))


@pytest.mark.parametrize("smoothing", [1e-4, 0.01, 1.0])
@pytest.mark.parametrize("share", [0.0, 0.1, None])
def test_dice_smoothing(smoothing, share):
    logits, target = problem(3, 2, seed=5, share=share)
    _, parts = measured(logits, target, ce=1, dice=1, batch_dice=1, dice_smoothing=smoothing)
    for part, over_batch in (("dice", False), ("batch_dice", True)):
        expected = slow_dice(logits, target, over_batch=over_batch, smoothing=smoothing)
        assert parts[part].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [{"tv": 1}, {"boundary": 1}, {"tv": 1, "boundary": 1}])
def test_a_part_that_only_adds_does_not_stand_alone(weights):
    with pytest.raises(ValueError, match="none of bce, ce, dice and batch_dice has a weight"):
        LossSection(**weights)


def test_total_variation_of_known_numbers():
    """One pixel of 1 in a corner differs from two neighbors, in the middle from four; images are averaged."""
    probability = torch.zeros(2, 1, 3, 3)
    probability[0, 0, 0, 0] = probability[1, 0, 1, 1] = 1
    assert total_variation(probability[:1]).item() == pytest.approx(np.sqrt(2))
    assert total_variation(probability).item() == pytest.approx((np.sqrt(2) + 2) / 2)
    # Classes are added.
    assert total_variation(probability.movedim(0, 1)).item() == pytest.approx(np.sqrt(2) + 2)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (3, 9)])
def test_total_variation_of_any_size(shape):
    flat = torch.full((2, 1, *shape), 0.3, requires_grad=True)
    variation = total_variation(flat)
    variation.backward()
    assert variation == 0 and not flat.grad.any()
    ramp = torch.arange(shape[0] * shape[1]).reshape(1, 1, *shape) / 10
    steps = (shape[0] - 1) * shape[1] * shape[1] ** 2 + shape[0] * (shape[1] - 1)
    assert total_variation(ramp).item() == pytest.approx(np.sqrt(steps) / 10)


def test_the_smooth_loss_of_light_unet():
    logits, target = problem(4, 1, seed=2)
    total, _ = measured(logits, target, bce=0.995, tv=0.005)
    expected = 0.995 * slow_cross_entropy(logits, target) + 0.005 * slow_total_variation(logits)
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_rims_of_a_square_and_of_one_that_the_border_cuts_off():
    picture = """
        . - - . . . . - #
        - # # - . . . - #
        - # # - . . - # 0
        . - - . . . - # 0
    """
    values = {".": 0, "-": -1, "#": 1, "0": 0}
    expected = np.array([[values[sign] for sign in line.split()] for line in picture.strip().splitlines()])
    reference = np.zeros((4, 9))
    reference[1:3, 1:3] = reference[:, 8] = reference[2:, 7] = 1
    found = object_rims(torch.from_numpy(reference)[None, None])[0, 0].numpy()
    assert np.array_equal(found, expected)
    assert np.array_equal(slow_rims(reference.astype(bool)), expected)


def test_rims_evaluated_by_scipy():
    """Dilation − erosion with a cross: the same pixels, without the sign."""
    rng = np.random.default_rng(1)
    reference = ndimage.binary_opening(rng.random((40, 50)) < 0.7)
    cross = ndimage.generate_binary_structure(2, 1)
    gradient = ndimage.grey_dilation(reference.astype(int), footprint=cross, mode="nearest")
    gradient -= ndimage.grey_erosion(reference.astype(int), footprint=cross, mode="nearest")
    found = object_rims(torch.from_numpy(reference[None, None].astype(np.float32)))[0, 0].numpy()
    assert 100 < gradient.sum() < reference.size
    assert np.array_equal(np.abs(found), gradient) and np.array_equal(found > 0, (gradient == 1) & reference)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_no_boundary_in_an_empty_or_full_mask(value):
    reference = torch.full((2, 1, 6, 6), value)
    assert not object_rims(reference).any()
    probability = torch.zeros(2, 1, 6, 6, requires_grad=True)
    loss = boundary_loss(probability, reference)
    loss.backward()
    assert loss == 0 and not probability.grad.any()


def test_the_boundary_part_wants_sharp_rims():
    reference = torch.zeros(1, 1, 16, 16)
    reference[:, :, 4:12, 4:12] = 1
    inner = int((object_rims(reference) == 1).sum())
    rims = int(object_rims(reference).abs().sum())
    exact = boundary_loss(reference, reference).item()
    assert exact == pytest.approx(-inner / (np.sqrt(rims + reference.sum().item()) + 0.01))
    blurred = boundary_loss(torch.nn.functional.avg_pool2d(reference, 5, 1, 2), reference).item()
    assert exact < blurred < 0 < boundary_loss(1 - reference, reference).item()


def test_the_boundary_part_sums_over_the_batch():
    logits, target = problem(2, 1, seed=8, share=0.3)
    _, whole = measured(logits, target, bce=1, boundary=1)
    alone = [measured(logits[n : n + 1], target[n : n + 1], bce=1, boundary=1)[1]["boundary"].item() for n in (0, 1)]
    assert whole["boundary"].item() != pytest.approx(np.mean(alone), rel=1e-2)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("share", [0.0, None])
def test_gradients_agree_with_differences(classes, batch, share):
    rng = np.random.default_rng(6)
    logits = torch.from_numpy(rng.normal(0, 2, (batch, classes, 4, 5))).requires_grad_(True)
    reference = torch.from_numpy((rng.random((batch, classes, 4, 5)) < 0.4).astype(np.float64))
    reference = reference * 0 if share == 0.0 else reference
    losses = [
        lambda x: total_variation(torch.sigmoid(x)),
        lambda x: boundary_loss(torch.sigmoid(x), reference),
        lambda x: dice_loss(torch.sigmoid(x), reference, (2, 3), smoothing=1e-4),
        lambda x: dice_loss(torch.sigmoid(x), reference, (0, 2, 3), smoothing=0.01),
    ]
    for loss in losses:
        assert torch.autograd.gradcheck(loss, logits)


# --- soft masks -------------------------------------------------------------------------------------------


def shares_of(batch, classes, *, seed=1):
    """What each foreground class covers of each pixel; some pixels are of one class alone."""
    rng = np.random.default_rng(seed)
    whole = rng.dirichlet(np.full(classes + 1, 0.4), (batch, 5, 7)).transpose(0, 3, 1, 2)
    sharp = rng.random((batch, 1, 5, 7)) < 0.4
    whole = np.where(sharp, whole == whole.max(1, keepdims=True), whole)
    return whole[:, 1:].astype(np.float32)


def slow_soft_cross_entropy(logits, shares, class_weights, pixel_weights):
    probability = slow_probabilities(logits)
    total = 0.0
    for n, y, x in np.ndindex(len(shares), 5, 7):
        parts = [1 - shares[n, :, y, x].astype(np.float64).sum(), *shares[n, :, y, x].astype(np.float64)]
        own = [w * t * -np.log(p) for w, t, p in zip(class_weights, parts, probability[n, :, y, x], strict=True)]
        total += pixel_weights[n, y, x] * sum(own)
    return total / shares[:, 0].size


def slow_soft_dice(logits, shares, *, over_batch, smoothing):
    probability = slow_probabilities(logits)[:, 1:]
    losses = []
    for k in range(shares.shape[1]):
        for piece in [range(len(shares))] if over_batch else [[n] for n in range(len(shares))]:
            both = either = 0.0
            for n, y, x in ((n, y, x) for n in piece for y, x in np.ndindex(5, 7)):
                both += min(probability[n, k, y, x], float(shares[n, k, y, x]))
                either += probability[n, k, y, x] + float(shares[n, k, y, x])
            losses.append(1 - (2 * both + smoothing) / (either + smoothing))
    return np.mean(losses)


@pytest.mark.parametrize("classes", [1, 3])
def test_soft_masks_by_hand(classes):
    logits, target = problem(3, classes)
    shares = shares_of(3, classes)
    assert 0.2 < ((shares > 0) & (shares < 1)).mean() < 0.9
    weights = [0.5, 2.0, 1.5, 3.0][: classes + 1]
    pixels = np.random.default_rng(3).random((3, 5, 7)).astype(np.float32)
    entropy = "bce" if classes == 1 else "ce"
    _, parts = segmentation_loss(
        torch.from_numpy(logits), torch.from_numpy(target), **{entropy: 1.0}, dice=1.0, batch_dice=1.0,
        dice_smoothing=0.5, class_weights=weights, pixel_weights=torch.from_numpy(pixels),
        shares=torch.from_numpy(shares),
    )  # fmt: skip
    assert parts[entropy].item() == pytest.approx(slow_soft_cross_entropy(logits, shares, weights, pixels), rel=1e-5)
    for name, over_batch in (("dice", False), ("batch_dice", True)):
        expected = slow_soft_dice(logits, shares, over_batch=over_batch, smoothing=0.5)
        assert parts[name].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
def test_soft_masks_of_whole_pixels_are_hard_ones(classes):
    logits, target = (torch.from_numpy(each) for each in problem(2, classes))
    _, shares = foreground(logits, target.long())
    options = {"dice": 1.0, "batch_dice": 0.5, "tv": 0.1, "boundary": 0.2, "bce" if classes == 1 else "ce": 1.0}
    hard, parts = segmentation_loss(logits, target, **options)
    soft, others = segmentation_loss(logits, target, **options, shares=shares)
    torch.testing.assert_close(soft, hard)
    assert list(parts) == list(others)
    assert all(torch.equal(parts[name], others[name]) for name in ("tv", "boundary"))


def test_the_best_answer_to_a_soft_mask_is_the_mask():
    """Of the product in its place, 1 where the share is above a bound and 0 elsewhere would be the best."""
    shares = torch.from_numpy(shares_of(2, 1))
    assert soft_dice_loss(shares, shares, dims=(2, 3)).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(shares, shares, dims=(2, 3)).item() > 0.05
    logits = torch.logit(shares.clamp(1e-4, 1 - 1e-4)).requires_grad_()
    soft_cross_entropy(logits, shares).backward()
    assert logits.grad.abs().max() < 1e-4
