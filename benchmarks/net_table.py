"""The table of docs/nets.md: what every net of the catalog costs, how long a frame takes, and how well it learns.

A frame is one gray image of 256×256 through ONNX Runtime in f32: the fastest of some, because other work on a machine
only ever slows. Each net is timed in turns with `thin_unet`; the ratio is the median of the turns. Accuracy comes
from `busi.py --nets`, images a second from `net_speed.py`.

    python benchmarks/net_table.py --json benchmarks/results/net_table.jsonl
    python benchmarks/net_table.py --nets --markdown docs/nets.md     # only writes the table again
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from tables import append_line, put_table, read_lines

import pocketseg
from pocketseg.exporters.onnx import export_onnx
from pocketseg.flows.nets import nets as costs
from pocketseg.nets import NETS
from pocketseg.pipeline import Pipeline
from pocketseg.training.model import Model

RESULTS = Path(__file__).parent / "results"
SIZE = (256, 256)
REFERENCE = "thin_unet"


def session(name: str, folder: Path) -> onnxruntime.InferenceSession:
    model = Model.fresh({"arch": name}, Pipeline(size=SIZE, classes=("lesion",)), seed=0)
    path = folder / f"{name}.onnx"
    export_onnx(model.net.core, model.pipeline, {}, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def frame_ms(run: onnxruntime.InferenceSession) -> float:
    """One forward pass of one image."""
    (entry,) = run.get_inputs()
    image = np.zeros((1, 1, *entry.shape[2:]), np.float32)
    began = time.perf_counter()
    run.run(None, {entry.name: image})
    return 1000 * (time.perf_counter() - began)


def measure(name: str, reference: onnxruntime.InferenceSession, rounds: int) -> dict[str, object]:
    (cost,) = costs([name], size=SIZE)
    with tempfile.TemporaryDirectory() as folder:
        rivals = {name: session(name, Path(folder)), "reference": reference}
        for run in rivals.values():
            frame_ms(run)
        took: dict[str, list[float]] = {who: [] for who in rivals}
        for _ in range(rounds):
            for who, run in rivals.items():
                took[who].append(frame_ms(run))
        onnx_bytes = (Path(folder) / f"{name}.onnx").stat().st_size
    ratios = [a / b for a, b in zip(took[name], took["reference"], strict=True)]
    return {
        "benchmark": "net_table",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **cost,
        "onnx_bytes": onnx_bytes,
        "frame_ms": round(min(took[name]), 2),
        "frame_ratio": round(statistics.median(ratios), 3),
        "reference": REFERENCE,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "pocketseg": pocketseg.__version__,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }


def read(name: str) -> dict[str, dict]:
    """The last line of each net in a file of results."""
    path = RESULTS / name
    lines = read_lines(path) if path.exists() else []
    return {line.get("name") or line["net"]: line for line in lines}


def table() -> str:
    accuracy, speed = read("busi_nets.jsonl"), read("net_speed.jsonl")
    head = (
        "| net | parameters | GMAC | KiB | peak, MiB | receptive field | ms a frame | ratio | trains, images/s | Dice |"
    )
    rows = [head, "|---|" + "---:|" * 9]
    for name, line in read("net_table.jsonl").items():
        field = line["receptive_field"]
        trained = speed.get(name, {}).get("training", {}).get("ours_images_per_s", "")
        found = accuracy.get(name)
        dice = (
            f"{found['dice']:.3f} ({found['dice_interval'][0]:.3f} to {found['dice_interval'][1]:.3f})" if found else ""
        )
        cells = [
            f"`{name}`", f"{line['parameters']:,}", f"{line['macs'] / 1e9:.2f}", f"{line['bytes'] / 1024:,.0f}",
            f"{line['peak_bytes'] / 2**20:.1f}", "whole image" if field is None else str(field),
            f"{line['frame_ms']:.1f}", f"{line['frame_ratio']:.2f}", str(trained), dice,
        ]  # fmt: skip
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="*", default=list(NETS), help="names of the catalog; default all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="append a line for each net to this file")
    parser.add_argument("--markdown", type=Path, help="write the table between its two marks in this page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        reference = session(REFERENCE, Path(folder)) if options.nets else None
    for name in options.nets:
        line = measure(name, reference, options.rounds)
        print(f"{name:<32}{line['frame_ms']:>9} ms  ratio {line['frame_ratio']}", flush=True)
        if options.json:
            append_line(options.json, line)
    if options.markdown:
        put_table(options.markdown, table())


if __name__ == "__main__":
    main()
