"""Which number of a map tells best whether there is a lesion, on cases that the net has not learned from.

Single numbers, and a logistic regression on four of them that is fitted on four fifths of the cases and asked about the
rest, five times over. The maps are those that `ablations.py` keeps, of which none is of the committed test part.

    python benchmarks/evidence.py runs/ablations/shipped.evaluated/fold-0 --json benchmarks/results/evidence.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tables import append_line

from pocketseg.evaluation import read_scores
from pocketseg.metrics import presence
from pocketseg.pipeline.components import label_components

Numbers = NDArray[np.float64]
NAMES = ("highest", "highest thousandth", "highest hundredth", "mean", "largest component")
REPEATS, PARTS = 5, 5


def numbers_of(probability: Numbers) -> list[float]:
    """Those of NAMES, the last the mean of the largest component of p ≥ 0.5 times the root of its share of the area."""
    falling = np.sort(probability, axis=None)[::-1]
    labels, count = label_components(probability >= 0.5)
    component = 0.0
    if count:
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        largest = labels == sizes.argmax() + 1
        component = float(probability[largest].mean() * np.sqrt(largest.mean()))
    tops = [falling[: max(1, falling.size // share)].mean() for share in (1000, 100)]
    return [float(falling[0]), *map(float, tops), float(falling.mean()), component]


def logistic(values: Numbers, positive: NDArray[np.bool_]) -> Numbers:
    """The score of each case from fits without it, summed over repetitions; ridge of 1 on scaled values."""
    logit = np.log(values[:, [0, 2]].clip(1e-5, 1 - 1e-5) / (1 - values[:, [0, 2]].clip(1e-5, 1 - 1e-5)))
    used = np.column_stack([logit, np.log(values[:, 3] + 1e-4), values[:, 4]])
    used = np.column_stack([(used - used.mean(0)) / used.std(0), np.ones(len(used))])
    ridge = np.diag([1.0] * 4 + [1e-6])
    found = np.zeros(len(used))
    rng = np.random.default_rng(0)
    for _ in range(REPEATS):
        part = rng.permutation(len(used)) % PARTS
        for number in range(PARTS):
            own, weights = part != number, np.zeros(5)
            for _ in range(50):
                chance = 1 / (1 + np.exp(-used @ weights))
                curve = (used[own].T * (chance * (1 - chance))[own]) @ used[own] + ridge
                weights -= np.linalg.solve(curve, used[own].T @ (chance - positive)[own] + ridge @ weights)
            found[~own] += used[~own] @ weights
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="with cases.csv and maps.npz")
    parser.add_argument("--json", type=Path, help="append a line to this file")
    asked = parser.parse_args()
    values, kinds = [], []
    for folder in asked.folders:
        kind = {row.case: row.reference_pixels > 0 for row in read_scores(folder / "cases.csv")}
        with np.load(folder / "maps.npz") as maps:
            for name in maps:
                values.append(numbers_of(maps[name][:, :, 0].astype(np.float64)))
                kinds.append(kind[name])
    table, positive = np.array(values), np.array(kinds)
    scores = dict(zip(NAMES, table.T, strict=True)) | {"logistic regression": logistic(table, positive)}
    line = {
        "benchmark": "evidence", "maps": [f"{folder.parent.name}/{folder.name}" for folder in asked.folders],
        "positive": int(positive.sum()), "negative": int((~positive).sum()),
    } | {
        name: {"auc": round(found.auc, 3), "missed_at_90": found.missed}
        for name, found in ((name, presence(score.tolist(), kinds)) for name, score in scores.items())
        if found is not None
    }  # fmt: skip
    print(json.dumps(line))
    if asked.json:
        append_line(asked.json, line)


if __name__ == "__main__":
    main()
