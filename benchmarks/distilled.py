"""What a teacher is worth: the same small student with and without one, on breast ultrasound, several seeds.

A teacher is trained once for each seed, then its student alone, with its soft targets, and with hints too; all on one
split by near-duplicate cluster, by the recipe `pocket`. Every run that is finished is only read again, so the script
can be stopped at any time.

    python benchmarks/distilled.py --data ../shared/data --out runs/distilled --json benchmarks/results/distilled.jsonl
    python benchmarks/distilled.py --out runs/distilled --json LINES --markdown docs/distillation.md    # table only
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from tables import append_line, difference, put_table

import pocketseg
from pocketseg.cli.console import bars, log_to_terminal
from pocketseg.flows.run_folder import RunFolder
from pocketseg.nets import parameter_count, skeleton
from pocketseg.recipes import load_recipe

SPLIT = Path(__file__).parent / "results/busi_split.json"
GROUPS = ["data.group_csv=near_duplicate_clusters.csv", "data.group_column=cluster"]
OTHERS = ["stages.int8=null", "stages.ternary=null"]


def overrides(kind: str, out: Path, seed: int, asked: argparse.Namespace) -> list[str]:
    """What a run of `pocket` sets: the teacher alone, or the student with that teacher or with nobody."""
    common = [*GROUPS, *OTHERS, f"seed={seed}", f"stages.teacher.net.width={asked.teacher_width}"]
    if kind == "teacher":
        return [*common, "stages.student=null", f"stages.teacher.epochs={asked.teacher_epochs}"]
    common += [f"stages.student.epochs={asked.epochs}"]
    if kind == "alone":
        common += [f"stages.student.{key}=null" for key in ("teacher", "distil", "hints")]
    else:
        common += [f"stages.student.teacher={{run: {folder(out, 'teacher', seed)}}}"]
        common += ["stages.student.hints=null"] if kind == "soft" else []
    return [*common, "stages.teacher=null"]


def folder(out: Path, kind: str, seed: int) -> Path:
    return out / f"{kind}-{seed}"


def one_run(kind: str, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Train (or take up, or only read) one run."""
    run = folder(asked.out, kind, seed)
    if not (run / "fold-0/summary.json").exists():
        with bars() as progress:
            pocketseg.train(
                "pocket", asked.data / "busi_gray256", run, overrides=overrides(kind, asked.out, seed, asked),
                split=SPLIT, resume=any(run.glob("fold-*/*/last.safetensors")), listener=progress, progress=progress,
            )  # fmt: skip
    rows = json.loads((run / "fold-0/summary.json").read_text(encoding="utf-8"))
    test = next(row for row in rows if row["part"] == "test")
    recipe, manifest = load_recipe(run / "recipe.yaml"), RunFolder(run).manifest()
    (stage,) = recipe.stages
    return {
        "benchmark": "distilled", "kind": kind, "seed": seed,
        "net": stage.net.arch, "options": stage.net.options, "epochs": stage.epochs,
        "parameters": parameter_count(skeleton(stage.net.arch, recipe.data.channels, 1, **stage.net.options)),
        "dice": round(test["dice"], 4), "dice_interval": [round(test["dice_low"], 4), round(test["dice_high"], 4)],
        "misses": test["misses"], "false_alarms": test["false_alarms"],
        "to_teacher": difference(folder(asked.out, "teacher", seed), run),
        "wall_time_s": manifest["wall_time_s"], "hardware": manifest["hardware"],
        "torch": manifest["libraries"]["torch"], "pocketseg": manifest["pocketseg"],
    }  # fmt: skip


def table(lines: list[dict[str, Any]]) -> str:
    """A row a kind: Dice of each seed, their mean, and what is lost to the teacher of the same seed."""
    found = {(line["kind"], line["seed"]): line for line in lines}
    seeds = sorted({line["seed"] for line in lines})
    head = "| net | parameters | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean | to its teacher, points |"
    rows = [head, "|---|---:|" + "---:|" * (len(seeds) + 2)]
    for kind in dict.fromkeys(line["kind"] for line in lines):
        mine = [found[kind, seed] for seed in seeds if (kind, seed) in found]
        cells = [f"{found[kind, seed]['dice']:.3f}" if (kind, seed) in found else "" for seed in seeds]
        lost = "" if kind == "teacher" else ", ".join(f"{100 * line['to_teacher'][0]:+.1f}" for line in mine)
        mean = statistics.fmean(line["dice"] for line in mine)
        rows.append(f"| {kind} | {mine[0]['parameters']:,} | {' | '.join(cells)} | {mean:.3f} | {lost} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="*", default=["teacher", "alone", "soft", "hints"])
    parser.add_argument("--teacher-width", type=int, default=32)
    parser.add_argument("--teacher-epochs", type=int, default=55)
    parser.add_argument("--epochs", type=int, default=55, help="of the students")
    parser.add_argument("--json", type=Path, help="append a line a run to this file")
    parser.add_argument("--markdown", type=Path, help="write the table between its two marks in this page")
    asked = parser.parse_args()
    log_to_terminal()
    lines = []
    for seed in asked.seeds:
        for kind in asked.kinds:
            lines.append(one_run(kind, seed, asked))
            print({key: lines[-1][key] for key in ("kind", "seed", "parameters", "dice", "to_teacher")}, flush=True)
            if asked.json:
                append_line(asked.json, lines[-1])
    if asked.markdown:
        put_table(asked.markdown, table(lines))


if __name__ == "__main__":
    main()
