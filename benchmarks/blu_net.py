"""The five stages of BLU-Net on membranes (ISBI 2012, EM): float U-Net, separable student, three binary planes.

The recipe `blu-net:quick` (width 16, 256×256) in one run; its evaluated stages are packed. Then the binary stage
once more from the same student with the published start of γ instead of the data's, for the first epochs. Every run
that is finished is only read again.

    python benchmarks/blu_net.py --data ../shared/data --out runs/blu-net --json benchmarks/results/blu_net.jsonl
    python benchmarks/blu_net.py --out runs/blu-net --json LINES --docs docs     # writes the tables, too
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

from tables import append_line, put_table, read_lines

import pocketseg
from pocketseg.cli.console import bars, log_to_terminal
from pocketseg.evaluation import read_summaries
from pocketseg.runs.folder import RunFolder

MEMBRANES = ["data.classes=[membrane]", "data.mask.invert=true", "split.validation=0.1"]
STAGES = ("unet", "encoder-hints", "decoder-hints", "student", "binary")
SHOWN = {"unet": "float U-Net", "student": "separable student", "binary": "three binary planes, M = 3"}
METRIC = "membrane_vrand"


def train(data: Path, run: Path, overrides: list[str]) -> None:
    """Train (or take up, or leave as it is) a run."""
    if (run / "fold-0/summary.json").exists():
        return
    with bars() as progress:
        pocketseg.train(
            "blu-net:quick", data / "isbi2012_membrane/data/membrane", run, overrides=[*MEMBRANES, *overrides],
            resume=any(run.glob("fold-*/*/last.safetensors")), listener=progress, progress=progress, report=False,
        )  # fmt: skip


def stage_line(run: Path, stage: str) -> dict[str, Any]:
    """What an evaluated stage scores on the test slices, and the size of its packed file."""
    folder = RunFolder(run)
    file = folder.summary_file(0, None if stage == STAGES[-1] else stage)
    (test,) = [one for one in read_summaries(file) if one.part == "test"]
    packed = run / f"fold-0/{stage}.pseg"
    size = packed.stat().st_size if packed.exists() else pocketseg.pack(run, stage=stage, out=packed).size_bytes
    manifest = folder.manifest()
    about = manifest["stages"][f"fold-0/{stage}"]
    return {
        "benchmark": "blu_net", "stage": stage, "net": about["net"], "parameters": about["parameters"],
        "epochs": {section.name: section.epochs for section in folder.recipe().stages},
        "test_cases": test.cases, "dice": round(test.dice, 4), "iou": round(test.iou, 4),
        "dice_interval": [round(test.dice_low, 4), round(test.dice_high, 4)],
        METRIC: round(test.metrics[METRIC].mean, 4), "packed_bytes": size,
        "wall_time_s": manifest["wall_time_s"], "precision": about["precision"], "hardware": manifest["hardware"],
        "torch": manifest["libraries"]["torch"], "pocketseg": manifest["pocketseg"],
    }  # fmt: skip


def binary(whole: Path, start: str, epochs: int) -> list[str]:
    """The binary stage alone, from the same student, at the learning rate of the first half of a longer training."""
    settings = [
        f"epochs={epochs}",
        "schedule={kind: constant}",
        f"quant.start={start}",
        f"init={{run: {whole}, stage: student}}",
    ]
    alone = [f"stages.{stage}=null" for stage in STAGES[:-1]]
    return [*(f"stages.binary.{setting}" for setting in settings), *alone, "evaluate.parts=[validation]"]


def start_line(start: str, begun: Path, trained: Path, epochs: int) -> dict[str, Any]:
    """Validation loss and Dice as the binary stage starts and in its first epochs."""
    rows = [*history(begun), *history(trained)[:epochs]]
    columns = {key: [round(float(row[key]), 4) for row in rows] for key in ("val_loss", "val_dice")}
    return {"benchmark": "blu_net", "start": start, **columns}


def history(run: Path) -> list[dict[str, str]]:
    with (run / "fold-0/binary/history.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def stage_table(lines: list[dict[str, Any]]) -> str:
    rows = ["| net | parameters | Dice | IoU | membrane V-Rand | packed, KiB |", "|---|" + "---:|" * 5]
    for line in lines:
        if "stage" in line:
            low, high = line["dice_interval"]
            rows.append(
                f"| {SHOWN[line['stage']]} | {line['parameters']:,} | {line['dice']:.3f} ({low:.3f} to {high:.3f}) "
                f"| {line['iou']:.3f} | {line[METRIC]:.3f} | {line['packed_bytes'] / 1024:,.0f} |"
            )
    return "\n".join(rows)


def start_table(lines: list[dict[str, Any]]) -> str:
    starts = [line for line in lines if "start" in line]
    epochs = range(1, min(len(line["val_dice"]) for line in starts))
    rows = [f"| start of γ | validation | as it starts | {' | '.join(f'epoch {epoch}' for epoch in epochs)} |"]
    rows.append("|---|---|---:|" + "---:|" * len(epochs))
    for line in starts:
        for key, shown in (("val_dice", "Dice"), ("val_loss", "loss")):
            numbers = " | ".join(f"{value:.3f}" for value in line[key][: len(epochs) + 1])
            rows.append(f"| `{line['start']}` | {shown} | {numbers} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=10, help="of each stage")
    parser.add_argument("--first", type=int, default=5, help="epochs that the two starts of γ are compared in")
    parser.add_argument("--json", type=Path, help="append a line a stage and start to this file")
    parser.add_argument("--docs", type=Path, help="write the tables of that file in the pages of this folder")
    asked = parser.parse_args()
    log_to_terminal()
    whole = asked.out / "stages"
    train(
        asked.data, whole, [f"stages.*.epochs={asked.epochs}", f"evaluate.metrics=[{METRIC}]", "evaluate.parts=[test]"]
    )
    lines = [stage_line(whole, stage) for stage in SHOWN]
    for start in ("data", "source"):
        begun = asked.out / f"{start}-0"
        train(asked.data, begun, binary(whole, start, 0))
        if start == "source":
            train(asked.data, asked.out / start, binary(whole, start, asked.first))
        lines.append(start_line(start, begun, whole if start == "data" else asked.out / start, asked.first))
    for line in lines:
        print(line, flush=True)
        if asked.json:
            append_line(asked.json, line)
    if asked.json and asked.docs:
        found = read_lines(asked.json)
        put_table(asked.docs / "distillation.md", stage_table(found), "blu-net")
        put_table(asked.docs / "quantization.md", start_table(found), "gamma")


if __name__ == "__main__":
    main()
