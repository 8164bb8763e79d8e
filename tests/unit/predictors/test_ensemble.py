"""Several models as one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pocketseg.errors import ModelFileError
from pocketseg.pipeline import Pipeline, Postprocess
from pocketseg.pipeline.reading import Reading
from pocketseg.predictors import Ensemble, NetPredictor

PIPELINE = Pipeline(size=(16, 16), classes=("lesion",))


def net(logit: float, pipeline: Pipeline = PIPELINE, **card) -> NetPredictor:
    """One that gives the same logit everywhere."""

    def forward(batch):
        return np.full((len(batch), pipeline.logits, *batch.shape[2:]), logit, np.float32)

    return NetPredictor(pipeline, forward, card=card)


def together(*members: NetPredictor) -> Ensemble:
    return Ensemble.of(members, [f"model{index}" for index in range(len(members))])


IMAGE = np.arange(400, dtype=np.uint8).reshape(20, 20)


def test_probabilities_are_averaged_not_logits():
    found = together(net(0.0), net(np.log(9.0)), net(-50.0)).predict(IMAGE)
    assert found.shape == (20, 20, 1) and found.dtype == np.float32
    assert np.allclose(found, (0.5 + 0.9 + 0.0) / 3, atol=1e-6)


def test_members_keep_their_own_grids():
    other = net(0.0, replace(PIPELINE, size=(8, 32), fit="letterbox"))
    assert np.allclose(together(net(0.0), other).predict(IMAGE), 0.5)


def test_rules_that_validation_chose_are_averaged():
    rules = [
        Postprocess(threshold=t, min_pixels=n, min_peak=p) for t, n, p in ((0.2, 0, 0), (0.4, 9, 0), (0.9, 5, 0.3))
    ]
    found = together(*(net(0.0, replace(PIPELINE, postprocess=rule)) for rule in rules))
    assert found.pipeline.postprocess == Postprocess(
        threshold=pytest.approx(0.5), min_pixels=5, min_peak=pytest.approx(0.1)
    )
    assert found.mask(IMAGE).all()  # 0.5 is above the mean of the thresholds, though not above the highest


def test_what_it_costs_is_said():
    found = together(net(0.0, precision="w8a8", parameters=7), net(0.0, precision="f32", parameters=5))
    assert (found.name, found.precision, found.card["parameters"]) == ("ensemble of 2", "w8a8, f32", 12)
    assert "2 nets, one after the other" in repr(found)


def test_a_segmentation_of_it():
    found = together(net(3.0), net(1.0)).segment(IMAGE)
    assert found.mask.all() and found.objects[0].area_px == 400


@pytest.mark.whole
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ("tumor",)}, "has other classes than model0"),
        ({"channels": 3}, "has other channels than model0"),
        ({"reading": Reading("axial")}, "has other reading than model0"),
        ({"intensity_range": (0.0, 1.0)}, "has other intensity_range than model0"),
        ({"postprocess": Postprocess(keep="largest")}, "has other rule keep than model0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_models_that_do_not_agree_are_refused(change, said):
    with pytest.raises(ModelFileError, match=f"model1: {said}"):
        together(net(0.0), net(0.0, replace(PIPELINE, **change)))
