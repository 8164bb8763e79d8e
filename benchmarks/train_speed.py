"""Training speed: pocketseg beside a plain PyTorch f32 loop, on the same decoded data with the same augmentation.

Both train the plain thin net (width 32, 5 blocks) on the same batches of a phantom, in turns, so that a machine whose
speed drifts treats both alike. Prints images a second, the ratio, and where a step's time goes.

    python benchmarks/train_speed.py --steps 8 --rounds 5 --json benchmarks/results/train_speed.jsonl
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

import pocketseg
from pocketseg.data import Cases
from pocketseg.nets import build
from pocketseg.pipeline import Pipeline
from pocketseg.recipes import load_recipe
from pocketseg.training.augment import augment, draw, sample_generator
from pocketseg.training.device import choose_precision, open_accelerator
from pocketseg.training.loop import StageTraining, StopRequest
from pocketseg.training.losses import segmentation_loss
from pocketseg.training.model import Model
from pocketseg.training.samples import Samples

NET = {"arch": "thin_unet", "width": 32, "blocks": 5}


class Plain:
    """What one writes first: f32, contiguous, AdamW, the same samples, augmentation and loss."""

    def __init__(self, samples: Samples, recipe) -> None:
        self.samples, self.recipe, self.stage = samples, recipe, recipe.stages[0]
        self.net: nn.Module = build(in_channels=1, out_channels=1, seed=0, **NET).train()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=self.stage.optimizer.lr)

    def step(self, number: int) -> None:
        images, masks = self.samples.batch(self.samples.part[: self.stage.batch], 0, number)
        size = images.shape[2:]
        drawn = [draw(sample_generator(3, 0, 0, number + i), self.recipe.augment, *size) for i in range(len(images))]
        images, masks = augment(images, masks, drawn, self.recipe.augment)
        loss, _ = segmentation_loss(self.net(images), masks, self.stage.loss)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def seconds(step: Callable[[int], None], steps: int) -> float:
    began = time.perf_counter()
    for number in range(steps):
        step(number)
    return (time.perf_counter() - began) / steps


def parts_of_a_step(training: StageTraining, batch) -> dict[str, float]:
    """Milliseconds of each part of a step, each measured by itself; medians of five."""
    images, masks = training._inputs(batch, 0)
    times: dict[str, list[float]] = {
        "samples and augmentation": [],
        "forward and loss": [],
        "backward": [],
        "optimizer": [],
    }
    for _ in range(5):
        marks = [time.perf_counter()]
        training._inputs(batch, 0)
        marks.append(time.perf_counter())
        with torch.autocast("cpu", torch.bfloat16, enabled=training.precision == "bf16"):
            logits = training.net(images)
        loss, _ = segmentation_loss(logits, masks, training.stage.loss)
        marks.append(time.perf_counter())
        loss.backward()
        marks.append(time.perf_counter())
        training.optimizer.step()
        training.optimizer.zero_grad()
        marks.append(time.perf_counter())
        for name, (a, b) in zip(times, itertools.pairwise(marks), strict=True):
            times[name].append(1000 * (b - a))
    return {name: round(statistics.median(values), 1) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="steps a turn")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", type=Path, help="append a line to this file")
    options = parser.parse_args()
    changes = [f"stages.0.batch={options.batch}", "stages.0.net.norm=conv", "data.group_csv=null"]
    recipe = load_recipe("thin-unet", changes)
    with tempfile.TemporaryDirectory() as folder:
        data = pocketseg.phantom(Path(folder) / "data", cases=options.batch, size=128)
        cases = Cases.open(data)
        model = Model.fresh(NET, Pipeline(size=(128, 128), classes=("lesion",)), seed=0)
        samples = Samples.of(cases, list(cases), model.pipeline, 0)
        accelerator = open_accelerator("cpu")
        precision, why = choose_precision("auto", accelerator.device)
        ours = StageTraining(
            recipe, recipe.stages[0], model, samples, [], Path(folder), accelerator, precision, 0, StopRequest()
        )
        ours.net.train()
        plain = Plain(samples, recipe)
        rivals = {"pocketseg": lambda n: ours._step(samples.part, n * options.batch, 0.5), "plain f32": plain.step}
        for step in rivals.values():
            seconds(step, 2)
        took: dict[str, list[float]] = {name: [] for name in rivals}
        for _ in range(options.rounds):
            for name, step in rivals.items():
                took[name].append(seconds(step, options.steps))
        parts = parts_of_a_step(ours, samples.part)
    speed = {name: options.batch / statistics.median(values) for name, values in took.items()}
    ratios = [b / a for a, b in zip(took["pocketseg"], took["plain f32"], strict=True)]
    line = {
        "benchmark": "train_speed",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "net": NET,
        "size": [128, 128],
        "batch": options.batch,
        "precision": f"{precision} ({why})",
        "images_per_s": {name: round(value, 1) for name, value in speed.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "step_ms": parts,
        "threads": torch.get_num_threads(),
        "rounds": options.rounds,
        "torch": torch.__version__,
        "pocketseg": pocketseg.__version__,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    for name, value in speed.items():
        print(f"{name:<12}{value:8.1f} images/s")
    print(f"ratio {line['ratio']} (from {line['ratio_range'][0]} to {line['ratio_range'][1]}), {line['precision']}")
    for name, value in parts.items():
        print(f"  {name:<26}{value:8.1f} ms a step")
    if options.json:
        with options.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
