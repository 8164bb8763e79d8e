"""Folds of a recipe, trained one by one so that a driver can be stopped at any time, and evaluated as they are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pocketseg
from pocketseg.cli.console import bars
from pocketseg.data import Split
from pocketseg.evaluation import Summary, read_summaries
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import open_cases

# No rule is chosen: a map is cut at a half.
RULES_OFF = "postprocess={threshold: 0.5, min_peak: 0, min_pixels: 0}"


@dataclass(frozen=True)
class Folds:
    """One recipe on one data set.

    Attributes:
        recipe: its name, or what it says.
        overrides: what is set in it.
        data: folder of the data.
        run: folder of the run; what is evaluated of fold N lies in `RUN.evaluated/fold-N`.
        split: file of the folds; None: the recipe's rule.
    """

    recipe: str | dict[str, Any]
    overrides: Sequence[str]
    data: Path
    run: Path
    split: Path | None = None

    def evaluated(self, fold: int) -> Path:
        return self.run.parent / f"{self.run.name}.evaluated" / f"fold-{fold}"

    def cases(self, folds: Sequence[int]) -> list[Path]:
        return [self.evaluated(fold) / "cases.csv" for fold in folds]

    def maps(self, folds: Sequence[int]) -> list[Path]:
        return [self.evaluated(fold) / "maps.npz" for fold in folds]

    def train(self, fold: int) -> list[Summary]:
        """Train (or take up, or only read) a fold, evaluate its test cases, and keep their maps of probabilities."""
        if not (self.run / f"fold-{fold}/summary.json").exists():
            with bars() as progress:
                pocketseg.train(
                    self.recipe, self.data, self.run, overrides=self.overrides, split=self.split, fold=fold,
                    resume=self.run.exists(), listener=progress, progress=progress, report=False,
                )  # fmt: skip
        out = self.evaluated(fold)
        if not (out / "maps.npz").exists():
            split = self.run / "split.json"
            pocketseg.evaluate(self.run, self.data, split=split, part="test", fold=fold, out=out)
            self._keep_maps(fold, out / "maps.npz")
        return read_summaries(out / "summary.json")

    def _keep_maps(self, fold: int, file: Path) -> None:
        """Probabilities (h, w, k) of every test case in 16 bits: rules can be tried on them without a net."""
        predictor = pocketseg.load(self.run, fold)
        cases = open_cases(self.data, RunFolder(self.run).recipe().data)
        test = set(Split.read(self.run / "split.json").folds[fold].test)
        np.savez_compressed(file, **{
            case.name: predictor.predict(cases.image(case), case.spacing_mm).astype(np.float16)
            for case in cases
            if case.name in test
        })  # fmt: skip


def evidence(file: Path) -> dict[str, float]:
    """The mean of the highest hundredth of each case's map: how sure a net is that something is there."""
    with np.load(file) as maps:
        ordered = {name: np.sort(maps[name].astype(np.float64), axis=None) for name in maps}
    return {name: float(values[-max(1, values.size // 100) :].mean()) for name, values in ordered.items()}


def presence(scores: Mapping[str, float], lesions: Collection[str]) -> dict[str, float]:
    """How well the evidence tells lesions from normals: area under the curve, and misses at 90 % specificity.

    Ties count half. The threshold keeps nine of ten normals clean in the same cases, so it is the same for every model.
    """
    with_lesion = np.array([score for name, score in scores.items() if name in lesions])
    without = np.array([score for name, score in scores.items() if name not in lesions])
    if not without.size:
        return {}
    above = (with_lesion[:, None] > without).mean() + (with_lesion[:, None] == without).mean() / 2
    threshold = np.quantile(without, 0.9, method="higher")
    return {"auc": round(float(above), 4), "missed_at_90": int((with_lesion <= threshold).sum())}
