"""The pipeline of classes that may overlap: a sigmoid, a threshold and component rules for each."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from pocketseg.errors import ModelFileError
from pocketseg.pipeline import Pipeline, Postprocess, to_probabilities
from pocketseg.pipeline.components import label_components
from pocketseg.pipeline.geometry import resize_labels
from pocketseg.pipeline.postprocess import threshold_or_argmax

PIPELINE = Pipeline((16, 16), classes=("organ", "tumor"), multilabel=True)


def test_probabilities_are_sigmoids_of_each_logit():
    logits = np.random.default_rng(0).normal(0, 5, (2, 3, 4, 5)).astype(np.float32)
    found = to_probabilities(logits, multilabel=True)
    assert found.dtype == np.float32 and found.shape == logits.shape
    for index in np.ndindex(logits.shape):
        assert found[index] == pytest.approx(1 / (1 + np.exp(-float(logits[index]))), abs=1e-6)
    for plane in range(3):  # to the bit what a net of this class alone gives
        np.testing.assert_array_equal(found[:, plane : plane + 1], to_probabilities(logits[:, plane : plane + 1]))


def test_a_net_gives_as_many_logits_as_there_are_classes():
    assert PIPELINE.logits == 2 and replace(PIPELINE, multilabel=False).logits == 3
    image = np.full((16, 16), 128, np.uint8)
    with pytest.raises(ModelFileError, match="2 classes need"):
        PIPELINE.predict(image, lambda batch: np.zeros((len(batch), 3, 16, 16), np.float32))


@pytest.mark.parametrize("fit", ["resize", "tile"])
def test_masks_are_those_of_each_class_alone(fit):
    """Two classes that overlap are two nets of one class that share their work."""
    image = (np.random.default_rng(0).random((21, 18)) * 255).astype(np.uint8)

    def forward(batch):
        return np.concatenate([8 * (batch - 0.5), 8 * (0.6 - batch)], 1).astype(np.float32)

    rules = Postprocess(thresholds=(0.3, 0.7), min_pixels=3, fill_holes=True, keep="largest")
    both = replace(PIPELINE, fit=fit, postprocess=rules)
    mask = both.mask(both.predict(image, forward))
    assert mask.shape == (2, 21, 18) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert (mask.sum(0) > 1).any()
    for index, limit in enumerate(rules.thresholds):
        single = Pipeline((16, 16), fit=fit, postprocess=replace(rules, threshold=limit, thresholds=()))
        alone = single.predict(image, lambda batch, at=index: forward(batch)[:, at : at + 1])
        np.testing.assert_array_equal(mask[index], single.mask(alone))


def test_holes_are_filled_whatever_other_classes_are_there():
    ring = np.ones((7, 7), np.float32)
    ring[3, 3] = 0
    inside = np.zeros((7, 7), np.float32)
    inside[3, 3] = 1
    probabilities = np.stack([ring, inside], axis=-1)
    mask = Postprocess(fill_holes=True)(probabilities, multilabel=True)
    assert mask[0].all() and mask[1].sum() == 1
    exclusive = Postprocess(fill_holes=True)(probabilities * np.float32(0.9))
    assert exclusive[3, 3] == 2


def test_components_are_dropped_class_by_class():
    probabilities = np.zeros((6, 9, 2), np.float32)
    probabilities[1:5, 1:5, 0] = 0.8
    probabilities[1, 7, 0] = 0.9  # touches nothing of its class
    probabilities[2:4, 4:8, 1] = 0.7
    mask = Postprocess(min_pixels=2)(probabilities, multilabel=True)
    assert mask[0].sum() == 16 and mask[1].sum() == 8
    assert Postprocess(min_peak=0.75)(probabilities, multilabel=True)[1].sum() == 0
    assert label_components(mask[0] > 0)[1] == 1


def test_a_threshold_for_each_class():
    probabilities = np.random.default_rng(0).random((5, 4, 3)).astype(np.float32)
    found = threshold_or_argmax(probabilities, (0.2, 0.5, 0.9), multilabel=True)
    for index, limit in enumerate((0.2, 0.5, 0.9)):
        np.testing.assert_array_equal(found[index], probabilities[:, :, index] >= np.float32(limit))


def test_model_files_say_it_and_others_stay_as_they_were():
    stored = replace(PIPELINE, postprocess=Postprocess(thresholds=(0.4, 0.6)))
    fields = stored.to_dict()
    assert fields["multilabel"] is True and list(fields["postprocess"]["thresholds"]) == [0.4, 0.6]
    assert Pipeline.from_dict(fields, "file") == stored
    exclusive = Pipeline((16, 16), classes=("a", "b")).to_dict()
    assert "multilabel" not in exclusive and "thresholds" not in exclusive["postprocess"]
    assert not Pipeline.from_dict(exclusive, "file").multilabel


@pytest.mark.parametrize(("changes", "told"), [
    ({"classes": ("a",)}, "one class overlaps with none"),
    ({"multilabel": False, "postprocess": {**asdict(Postprocess()), "thresholds": (0.4, 0.6)}}, "do not overlap"),
    ({"postprocess": {**asdict(Postprocess()), "thresholds": (0.4,)}}, "1 thresholds of 2 classes"),
    ({"multilabel": "yes"}, "multilabel"),
])  # fmt: skip
def test_contradictions_in_files_are_refused(changes, told):
    with pytest.raises(ModelFileError, match=told):
        Pipeline.from_dict(PIPELINE.to_dict() | changes, "file")


@pytest.mark.parametrize("fit", ["resize", "letterbox", "pad", "crop", "tile"])
def test_masks_come_to_the_grid_plane_by_plane(fit):
    rng = np.random.default_rng(1)
    planes = (rng.random((2, 13, 11)) < 0.5).astype(np.uint8)
    pipeline = replace(PIPELINE, fit=fit)
    single = Pipeline((16, 16), fit=fit)
    fitted, shares = pipeline.fit_mask(planes), pipeline.mask_shares(planes)
    for index in range(2):
        np.testing.assert_array_equal(fitted[index], single.fit_mask(planes[index]))
        np.testing.assert_array_equal(shares[index], single.mask_shares(planes[index])[0])
    np.testing.assert_array_equal(resize_labels(planes, (5, 4), 2)[1], resize_labels(planes[1], (5, 4), 1))
    assert pipeline.empty_mask((3, 4)).shape == (2, 3, 4) and single.empty_mask((3, 4)).shape == (3, 4)
