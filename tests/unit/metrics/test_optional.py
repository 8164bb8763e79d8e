"""What works without SciPy, and what is said where it does not."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pocketseg.errors import EnvironmentProblem
from pocketseg.evaluation import MetricConfig
from pocketseg.metrics import detect, paired_difference, surface_distances

MASK = np.eye(9, dtype=bool)
FAR = np.fliplr(MASK) & (np.arange(9) > 6)


@pytest.fixture
def no_scipy(monkeypatch):
    for name in ("scipy", "scipy.ndimage", "scipy.spatial", "scipy.sparse", "scipy.stats"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    "measure",
    [
        lambda: surface_distances(MASK, FAR),
        lambda: detect(MASK, MASK),
        lambda: paired_difference([0.5], [0.6], ["a"]),
        lambda: MetricConfig().check_packages(),
    ],
)
def test_what_needs_it_says_how_to_install_it(no_scipy, measure):
    with pytest.raises(EnvironmentProblem, match=r"pocketseg\[report\]"):
        measure()


def test_overlap_needs_none(no_scipy):
    MetricConfig(("dice", "iou", "precision", "recall", "specificity", "brier")).check_packages()


def test_predicting_and_evaluating_import_none():
    code = (
        "import sys, pocketseg.flows.predict, pocketseg.flows.evaluate, pocketseg.metrics\n"
        "assert not {'scipy', 'torch'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
