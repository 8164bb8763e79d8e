"""Accuracy on breast ultrasound: a recipe, some seeds and nets, one split; the ONNX file beside the checkpoint.

Resumable run by run: a seed that is finished is only evaluated again.

    python benchmarks/busi.py --data ../shared/data/busi_gray256 --out runs/busi --json benchmarks/results/busi.jsonl
    python benchmarks/busi.py --data ../shared/data/busi_gray256 --out runs/nets --nets thin_unet mk_unet --seeds 0 \\
        --set "data.size=[96, 96]" --set stages.0.epochs=15 --json benchmarks/results/busi_nets.jsonl
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import pocketseg
from pocketseg.cli.console import bars, log_to_terminal
from pocketseg.runs.folder import RunFolder

GROUPS = ("data.group_csv=near_duplicate_clusters.csv", "data.group_column=cluster")
SHOWN = ("net", "seed", "dice", "misses", "false_alarms", "dice_with_empty", "onnx_dice", "rules")
SPLIT = Path(__file__).parent / "results/busi_split.json"


def one_run(recipe: str, data: Path, out: Path, seed: int, changes: Sequence[str]) -> dict:
    """Train (or take up) a seed, export it, evaluate both forms on the test part."""
    run = out / f"seed-{seed}"
    begun = any(run.glob("fold-*/*/last.safetensors"))
    with bars() as progress:
        pocketseg.train(
            recipe, data, run,
            overrides=(*GROUPS, *changes, f"seed={seed}"),
            split=SPLIT, resume=begun, listener=progress, progress=progress, report=False,
        )  # fmt: skip
    exported = pocketseg.export(run)
    split = run / "split.json"
    options = {"split": split, "part": "test"}
    torch = pocketseg.evaluate(run, data, backend="torch", out=out / f"torch-{seed}", **options).summaries[0]
    onnx = pocketseg.evaluate(exported.file, data, out=out / f"onnx-{seed}", **options).summaries[0]
    manifest = RunFolder(run).manifest()
    rules = pocketseg.load(exported.file).pipeline.postprocess
    return {
        "benchmark": "busi",
        "recipe": recipe,
        "changes": list(changes),
        "net": RunFolder(run).recipe().stages[-1].net.arch,
        "seed": seed,
        "parameters": next(iter(manifest["stages"].values()))["parameters"],
        "onnx_bytes": exported.size_bytes,
        "test_cases": torch.cases,
        "dice": round(torch.dice, 4),
        "dice_interval": [round(torch.dice_low, 4), round(torch.dice_high, 4)],
        "dice_median": round(torch.dice_median, 4),
        "iou": round(torch.iou, 4),
        "misses": f"{torch.misses} of {torch.positive}",
        "false_alarms": f"{torch.false_alarms} of {torch.negative}",
        "dice_with_empty": round(torch.dice_all, 4),
        "onnx_dice": round(onnx.dice, 4),
        "onnx_largest_difference": exported.parity.largest,
        "rules": {"threshold": rules.threshold, "min_peak": rules.min_peak, "min_pixels": rules.min_pixels},
        "wall_time_s": manifest["wall_time_s"],
        "precision": next(iter(manifest["stages"].values()))["precision"],
        "hardware": manifest["hardware"],
        "torch": manifest["libraries"]["torch"],
        "pocketseg": manifest["pocketseg"],
        "data_sha256": manifest["data"]["sha256"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", default="thin-unet")
    parser.add_argument("--nets", nargs="+", default=[], help="names of the catalog in place of the recipe's net")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="KEY=VALUE of the recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path, help="write one line a seed to this file")
    options = parser.parse_args()
    log_to_terminal()
    lines = []
    for net in options.nets or [None]:
        changes = [*options.changes, *([f"stages.0.net={{arch: {net}}}"] if net else [])]
        out = options.out / net if net else options.out
        found = [one_run(options.recipe, options.data, out, seed, changes) for seed in options.seeds]
        for line in found:
            print({key: line[key] for key in SHOWN})
        print(
            f"mean test Dice on cases with a lesion: {statistics.mean(line['dice'] for line in found):.4f}", flush=True
        )
        lines += found
        if options.json:
            options.json.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
