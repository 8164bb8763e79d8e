"""What low bits cost: float nets fine-tuned with every scheme, on membranes (EM) and breast ultrasound.

Two data sets, two nets each: the thin net, and the fixed-point net at half width. Each net is trained once in float;
each scheme starts from it and is fine-tuned, and so is the float net of the table, for as long. Evaluated on integers,
on the test part of one split. Every run that is finished is only read again, so the script can be stopped at any time.

    python benchmarks/quantized.py --data ../shared/data --out runs/low --json benchmarks/results/quantized.jsonl
    python benchmarks/quantized.py --data ../shared/data --out runs/low --sets busi --nets thin --schemes w8a8 w2a8
    python benchmarks/quantized.py --out runs/low --schemes --json LINES --markdown docs/quantization.md  # table only
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tables import append_line, difference, points, put_table, read_lines

import pocketseg
from pocketseg.cli.console import bars, log_to_terminal
from pocketseg.runs.folder import RunFolder

SPLIT = Path(__file__).parent / "results/busi_split.json"
SCHEMES = [
    "float", "w8a8", "w4a8", "w2a8", "fixed Q0.4/Q6.0", "w1a1", "residual w2a2", "residual w3a3",
]  # fmt: skip

NETS: dict[str, dict[str, Any]] = {
    "thin": {"arch": "thin_unet", "width": 32, "blocks": 4, "norm": "block"},
    "fixed-point, half width": {"arch": "fixed_point_unet", "width": 32, "init": "he"},
}
SETS: dict[str, dict[str, Any]] = {
    "busi": {
        "folder": "busi_gray256",
        "data": {
            "size": [96, 96], "classes": ["lesion"],
            "group_csv": "near_duplicate_clusters.csv", "group_column": "cluster",
        },
        "split": {"test": 0.2, "validation": 0.15},
        "augment": {
            "flip": ["horizontal"], "affine": {"degrees": 15, "scale": [0.8, 1.25], "translate": 0.08},
            "gamma": 0.25, "brightness": 0.1,
        },
        "split_file": SPLIT,
        "epochs": (25, 6),
    },
    "isbi": {
        "folder": "isbi2012_membrane/data/membrane",
        "data": {"size": [128, 128], "classes": ["membrane"], "fit": "tile", "mask": {"invert": True}},
        "split": {"test": 0.2, "validation": 0.15, "contiguous": True},
        "augment": {"flip": ["horizontal", "vertical"], "rotate90": True, "copies": 16},
        "split_file": None,
        "epochs": (16, 4),
    },
}  # fmt: skip


def recipe(name: str, net: str, scheme: str | None, start: Path | None) -> dict[str, Any]:
    """The first training of a set and net, in float, or the fine-tuning from it."""
    settings = SETS[name]
    whole, tuning = settings["epochs"]
    stage: dict[str, Any] = {
        "name": "start", "net": NETS[net], "loss": {"bce": 1, "dice": 1}, "batch": 16, "epochs": whole,
        "optimizer": {"kind": "adamw", "lr": 2e-3, "weight_decay": 1e-2},
        "schedule": {"kind": "cosine", "warmup": 0.05},
    }  # fmt: skip
    if scheme is not None:
        lr = 1e-3 if scheme.startswith(("w1a1", "residual", "fixed")) else 5e-4
        stage |= {
            "name": "tuned", "init": {"run": str(start)}, "epochs": tuning, "optimizer": {"kind": "adamw", "lr": lr},
        }  # fmt: skip
        if scheme != "float":
            stage["quant"] = {"scheme": scheme}
    sections = {key: settings[key] for key in ("data", "split", "augment")}
    rules = {"threshold": "auto", "min_peak": "auto", "min_pixels": "auto"} if name == "busi" else {}
    return {"description": f"{name}, {net}, {scheme or 'start'}", **sections, "stages": [stage], "postprocess": rules}


def one_run(data: Path, out: Path, name: str, net: str, scheme: str | None) -> dict[str, Any]:
    """Train (or take up, or only read) one row of the table, or the start of all of them."""
    folder = out / name / net.replace(", ", "-").replace(" ", "-")
    run = folder / (scheme or "start").replace(" ", "-").replace("/", "-")
    settings = SETS[name]
    if not (run / "fold-0/summary.json").exists():
        with bars() as progress:
            pocketseg.train(
                recipe(name, net, scheme, folder / "start" if scheme else None), data / settings["folder"], run,
                split=settings["split_file"], resume=any(run.glob("fold-*/*/last.safetensors")),
                listener=progress, progress=progress, report=False,
            )  # fmt: skip
    rows = json.loads((run / "fold-0/summary.json").read_text(encoding="utf-8"))
    test = next(row for row in rows if row["part"] == "test")
    manifest = RunFolder(run).manifest()
    packed = run / "fold-0/tuned/packed.safetensors"
    evaluated = ([each / "fold-0/cases-test.csv"] for each in (folder / "float", run))
    return {
        "benchmark": "quantized", "set": name, "net": net, "scheme": scheme or "start",
        "parameters": next(iter(manifest["stages"].values()))["parameters"],
        "dice": round(test["dice"], 4), "dice_interval": [round(test["dice_low"], 4), round(test["dice_high"], 4)],
        "difference": None if scheme in (None, "float") else difference(*evaluated),
        "misses": test["misses"], "false_alarms": test["false_alarms"],
        "bytes": packed.stat().st_size if packed.exists() else pocketseg.inspect(run).totals["bytes"],
        "epochs": SETS[name]["epochs"][scheme is not None], "wall_time_s": manifest["wall_time_s"],
        "precision": next(iter(manifest["stages"].values()))["precision"], "hardware": manifest["hardware"],
        "torch": manifest["libraries"]["torch"], "pocketseg": manifest["pocketseg"],
    }  # fmt: skip


def table(lines: list[dict[str, Any]]) -> str:
    """Rows of schemes; for every set and net Dice, what it is more or less than in float in points, and the size."""
    found = {(line["set"], line["net"], line["scheme"]): line for line in lines}
    columns = list(dict.fromkeys((line["set"], line["net"]) for line in lines))
    head = "| scheme | " + " | ".join(f"{name}, {net}: Dice | to float | KiB" for name, net in columns) + " |"
    rows = [head, "|---|" + "---:|" * (3 * len(columns))]
    for scheme in dict.fromkeys(line["scheme"] for line in lines if line["scheme"] != "start"):
        cells = []
        for name, net in columns:
            line = found.get((name, net, scheme))
            cells += ["", "", ""] if line is None else [
                f"{line['dice']:.3f}", points(line["difference"]), f"{line['bytes'] / 1024:,.0f}"
            ]  # fmt: skip
        rows.append(f"| `{scheme}` | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--nets", nargs="*", default=list(NETS))
    parser.add_argument("--schemes", nargs="*", default=SCHEMES)
    parser.add_argument("--json", type=Path, help="append a line a run to this file")
    parser.add_argument("--markdown", type=Path, help="write the table between its two marks in this page")
    options = parser.parse_args()
    log_to_terminal()
    for name in options.sets if options.schemes else []:
        for net in options.nets:
            for scheme in (None, *options.schemes):
                line = one_run(options.data, options.out, name, net, scheme)
                print(
                    {key: line[key] for key in ("set", "net", "scheme", "dice", "dice_interval", "bytes")}, flush=True
                )
                if options.json:
                    append_line(options.json, line)
    if options.markdown and options.json:
        put_table(options.markdown, table(read_lines(options.json)))


if __name__ == "__main__":
    main()
