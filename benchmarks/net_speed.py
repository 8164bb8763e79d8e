"""Images per second of every net of the catalog, training and inference, beside a plain PyTorch f32 loop.

Both take the same batch through the same net: here in channels-last and the precision that training chooses (bf16
where the CPU has it), there in f32 and the default layout. They run in turns, so that a machine whose speed drifts
treats both alike: images a second are those of the fastest turn, because other work only ever slows, the ratio is the
median. Also says where the training step's time goes.

    python benchmarks/net_speed.py --json benchmarks/results/net_speed.jsonl
    python benchmarks/net_speed.py thin_unet mk_unet --rounds 7
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

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # the profiler tells every start

import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import pocketseg
from pocketseg.nets import NETS, build, parameter_count
from pocketseg.training.device import autocast, choose_precision

CPU = torch.device("cpu")


def make_step(name: str, images: torch.Tensor, ours: bool, train: bool) -> Callable[[], None]:
    """One training step (forward, loss, backward, AdamW) or one forward pass."""
    precision = choose_precision("auto", CPU)[0] if ours else "f32"
    net = build(name, 1, 1).train(train)
    if ours:
        net = net.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    target = (images > 0).float()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4)

    def training() -> None:
        with autocast(CPU, precision):
            logits = net(images)
        F.binary_cross_entropy_with_logits(logits.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    def inference() -> None:
        with torch.inference_mode(), autocast(CPU, precision):
            net(images)

    return training if train else inference


def seconds(step: Callable[[], None], least: float) -> float:
    """Mean of as many calls as take `least` seconds."""
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < least or not calls:
        step()
        calls += 1
    return (time.perf_counter() - began) / calls


def where_time_goes(step: Callable[[], None]) -> dict[str, float]:
    """Shares of a step of the five longest operations."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    longest = sorted(times, key=lambda name: -times[name])[:5]
    return {name: round(times[name] / sum(times.values()), 2) for name in longest}


def measure(name: str, size: int, batch: int, rounds: int, least: float) -> dict[str, object]:
    images = torch.randn(batch, 1, size, size, generator=torch.Generator().manual_seed(0))
    line: dict[str, object] = {"net": name, "parameters": parameter_count(build(name, 1, 1))}
    for what, train in (("training", True), ("inference", False)):
        steps = {"ours": make_step(name, images, True, train), "plain": make_step(name, images, False, train)}
        for step in steps.values():
            step()
        took: dict[str, list[float]] = {who: [] for who in steps}
        for _ in range(rounds):
            for who, step in steps.items():
                took[who].append(seconds(step, least))
        ratios = [b / a for a, b in zip(took["ours"], took["plain"], strict=True)]
        line[what] = {
            **{f"{who}_images_per_s": round(batch / min(values), 2) for who, values in took.items()},
            "ratio": round(statistics.median(ratios), 2),
            "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
        }
        if train:
            line["training_time"] = where_time_goes(steps["ours"])
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", help="names of the catalog; default all")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--seconds", type=float, default=0.5, help="least length of a turn")
    parser.add_argument("--json", type=Path, help="append a line for each net to this file")
    options = parser.parse_args()
    precision, why = choose_precision("auto", CPU)
    print(f"{precision} ({why}), {torch.get_num_threads()} threads, {options.batch} images of {options.size}²")
    print(f"{'images/s':<32}{'training':>10}{'plain':>8}{'ratio':>7}{'inference':>11}{'plain':>8}{'ratio':>7}")
    for name in options.nets or NETS:
        line = measure(name, options.size, options.batch, options.rounds, options.seconds)
        figures = [
            line[what][key]
            for what in ("training", "inference")
            for key in ("ours_images_per_s", "plain_images_per_s", "ratio")
        ]  # type: ignore[index]
        print("{:<32}{:>10}{:>8}{:>7}{:>11}{:>8}{:>7}".format(name, *figures), flush=True)
        print(f"  {line['training_time']}", flush=True)
        if options.json:
            whole = {
                "benchmark": "net_speed",
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                **line,
                "size": options.size,
                "batch": options.batch,
                "rounds": options.rounds,
                "precision": precision,
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "pocketseg": pocketseg.__version__,
                "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
            }
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(whole) + "\n")


if __name__ == "__main__":
    main()
