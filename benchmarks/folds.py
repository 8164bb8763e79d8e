"""Folds of a recipe, trained one by one so that a driver can be stopped at any time, and evaluated as they are."""

from __future__ import annotations

from collections.abc import Sequence
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
        """Probabilities (h, w, k) of every test case: rules can be tried on them without a net."""
        predictor = pocketseg.load(self.run, fold)
        cases = open_cases(self.data, RunFolder(self.run).recipe().data)
        test = set(Split.read(self.run / "split.json").folds[fold].test)
        np.savez_compressed(file, **{
            case.name: predictor.predict(cases.image(case), case.spacing_mm)
            for case in cases
            if case.name in test
        })  # fmt: skip
