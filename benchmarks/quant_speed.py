"""What a training step with quantizers costs, beside the float step of the same net, in turns.

python benchmarks/quant_speed.py --json benchmarks/results/quant_speed.jsonl
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch.nn import functional as F

import pocketseg
from pocketseg.nets import build
from pocketseg.quant import Scheme, calibrate, quantize_net
from pocketseg.training.device import autocast, choose_precision

CPU = torch.device("cpu")
SCHEMES = {
    "float": None,
    "w8a8": Scheme("w8a8"),
    "w4a8": Scheme("w4a8"),
    "w2a8": Scheme("w2a8"),
    "w4a8, learned ranges": Scheme("w4a8", rule="learned"),
    "fixed Q0.4/Q6.0": Scheme("fixed Q0.4/Q6.0"),
    "w1a1": Scheme("w1a1"),
    "residual w3a3": Scheme("residual w3a3"),
}


def make_step(net_name: str, scheme: Scheme | None, images: torch.Tensor, precision: str) -> Callable[[], None]:
    net = build(net_name, 1, 1).to(memory_format=torch.channels_last)
    if scheme is not None:
        quantize_net(net.core, scheme)
        calibrate(net.core, [images])
    net.train()
    target = (images > 0).float()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)

    def step() -> None:
        with autocast(CPU, precision):
            logits = net(images)
        F.binary_cross_entropy_with_logits(logits.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", default=["thin_unet", "thin_unet_w32_n5_separable", "fixed_point_unet"])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="append a line for each net to this file")
    options = parser.parse_args()
    precision, why = choose_precision("auto", CPU)
    shape = (options.batch, 1, options.size, options.size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    for name in options.nets:
        steps = {text: make_step(name, scheme, images, precision) for text, scheme in SCHEMES.items()}
        took: dict[str, list[float]] = {text: [] for text in steps}
        for number in range(options.rounds + 1):
            for text, step in steps.items():
                began = time.perf_counter()
                step()
                if number:  # the first turn warms up
                    took[text].append(time.perf_counter() - began)
        ratios = {
            text: round(statistics.median(a / b for a, b in zip(values, took["float"], strict=True)), 2)
            for text, values in took.items()
        }
        line = {
            "benchmark": "quant_speed",
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "net": name,
            "float_step_ms": round(1000 * min(took["float"]), 1),
            "times_the_float_step": ratios,
            "size": options.size,
            "batch": options.batch,
            "rounds": options.rounds,
            "precision": f"{precision} ({why})",
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "pocketseg": pocketseg.__version__,
            "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        }
        print(name, f"{line['float_step_ms']} ms", ratios, flush=True)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
