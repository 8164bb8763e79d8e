"""What the surface metrics of a pair of masks cost: HD95, ASSD and surface Dice together, checked, then timed.

python benchmarks/metrics_speed.py --json benchmarks/results/metrics_speed.jsonl

Three kinds of pairs: one large lesion, cells all over the image with a prediction that resembles them, and noise in
every pixel, which is the worst case. Beside it, in turns, the same three from whole distance transforms of SciPy, one
for each mask and not cropped. `ms` is processor time, one thread: on a shared machine the clock on the wall says how
much others had to do (`wall_ms`, `load`).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

import pocketseg
from pocketseg.metrics import surface_distances

Mask = NDArray[np.bool_]
TOLERANCE = 2.0
TARGET_MS = {512: 15, 1000: 60}


def lesion(size: int, seed: int) -> Mask:
    """A rough disc that covers two fifths of the image."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5
    angle = np.arctan2(y, x)
    waves = [0.02 * rng.normal() * np.cos(k * angle + rng.uniform(0, 6)) for k in range(2, 8)]
    return np.hypot(y, x) < 0.35 + sum(waves)


def cells(size: int, seed: int) -> Mask:
    """Half of the image in irregular patches some 30 pixels wide; those of two seeds have a Dice of about 0.9."""
    same, other = (gaussian_filter(np.random.default_rng(n).normal(size=(size, size)), 8) for n in (0, seed))
    field = same + 0.3 * other
    return field > np.median(field)


def noise(size: int, seed: int) -> Mask:
    """Every pixel drawn by itself."""
    return np.random.default_rng(seed).random((size, size)) < 0.5


def ours(prediction: Mask, reference: Mask) -> tuple[float, float, float]:
    found = surface_distances(prediction, reference)
    return found.hd95, found.assd, found.surface_dice(TOLERANCE)


def whole_transforms(prediction: Mask, reference: Mask) -> tuple[float, float, float]:
    surfaces = [mask & ~binary_erosion(mask) for mask in (prediction, reference)]
    forth, back = (distance_transform_edt(~surfaces[1 - n])[surfaces[n]] for n in (0, 1))
    both = np.concatenate([forth, back])
    hd95 = max(np.percentile(forth, 95), np.percentile(back, 95))
    return float(hd95), float(both.mean()), float((both <= TOLERANCE).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="append a line for each pair to this file")
    options = parser.parse_args()
    rivals: dict[str, Callable[[Mask, Mask], tuple[float, float, float]]] = {
        "ours": ours,
        "whole transforms": whole_transforms,
    }
    for size in TARGET_MS:
        for make in (lesion, cells, noise):
            pair = make(size, 1), make(size, 2)
            results = [function(*pair) for function in rivals.values()]  # warms up too
            np.testing.assert_allclose(results[0], results[1], atol=1e-9)
            took: dict[str, list[float]] = {name: [] for name in rivals}
            passed: dict[str, list[float]] = {name: [] for name in rivals}
            for _ in range(options.rounds):
                for name, function in rivals.items():
                    began = time.process_time(), time.perf_counter()
                    function(*pair)
                    took[name].append(1000 * (time.process_time() - began[0]))
                    passed[name].append(1000 * (time.perf_counter() - began[1]))
            quartiles = {name: [round(q, 2) for q in statistics.quantiles(each, n=4)] for name, each in took.items()}
            line = {
                "benchmark": "metrics_speed",
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "measured": f"HD95, ASSD and surface Dice of a {size}×{size} pair",
                "pair": make.__name__,
                "ms": {name: each[1] for name, each in quartiles.items()},
                "ms_quartiles": {name: [each[0], each[2]] for name, each in quartiles.items()},
                "ms_best": {name: round(min(each), 2) for name, each in took.items()},
                "wall_ms": {name: round(statistics.median(each), 2) for name, each in passed.items()},
                "load": round(os.getloadavg()[0], 1),
                "times_faster": round(statistics.median(
                    b / a for a, b in zip(took["ours"], took["whole transforms"], strict=True)
                ), 2),
                "target_ms": TARGET_MS[size],
                "rounds": options.rounds,
                "threads": 1,
                "numpy": np.__version__,
                "scipy": scipy.__version__,
                "pocketseg": pocketseg.__version__,
                "machine": platform.machine(),
            }  # fmt: skip
            print(size, make.__name__, line["ms"], "best", line["ms_best"], "wall", line["wall_ms"], flush=True)
            if options.json:
                with options.json.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
