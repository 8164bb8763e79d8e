"""What a teacher is worth: the same small student with and without one, on breast ultrasound, several seeds.

A teacher is trained once for each seed, then its student alone, with its soft targets, and with hints too; and, if
asked for, with the soft targets of all teachers together (`ensemble`), asked once for every image. All on one split by
near-duplicate cluster, by the recipe `pocket`. Every run that is finished is only read again, so the script can be
stopped at any time.

    python benchmarks/distilled.py --data ../shared/data --out runs/distilled --json benchmarks/results/distilled.jsonl
    python benchmarks/distilled.py --out runs/distilled --teachers runs/busi/seed-{seed} --kinds teacher alone soft
    python benchmarks/distilled.py --out runs/distilled --seeds --json LINES --markdown PAGE  # only writes the table
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from tables import append_line, difference, points, put_table, read_lines

import pocketseg
from pocketseg.cli.console import bars, log_to_terminal
from pocketseg.evaluation import Summary, read_summaries
from pocketseg.nets import parameter_count, skeleton
from pocketseg.recipes import load_recipe
from pocketseg.runs.folder import RunFolder

SPLIT = Path(__file__).parent / "results/busi_split.json"
GROUPS = ["data.group_csv=near_duplicate_clusters.csv", "data.group_column=cluster"]
OTHERS = ["stages.int8=null", "stages.ternary=null"]


class Runs:
    """Where the runs and what was evaluated of them lie."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked

    def folder(self, kind: str, seed: int) -> Path:
        if kind == "teacher" and self.asked.teachers:
            return Path(self.asked.teachers.format(seed=seed))
        return self.asked.out / f"{kind}-{seed}"

    def evaluated(self, kind: str, seed: int) -> Path:
        return self.asked.out / f"{kind}-{seed}.evaluated"

    def cases(self, kind: str) -> list[Path]:
        return [self.evaluated(kind, seed) / "cases.csv" for seed in self.asked.seeds]

    def overrides(self, kind: str, seed: int) -> list[str]:
        """What a run of `pocket` sets: the teacher alone, or the student with that teacher or with nobody."""
        asked = self.asked
        common = [*GROUPS, *OTHERS, f"seed={seed}", "evaluate.parts=[validation]"]
        if kind == "teacher":
            common += [f"stages.teacher.net.width={asked.teacher_width}"]
            return [*common, f"stages.teacher.epochs={asked.teacher_epochs}", "stages.student=null"]
        common += [f"stages.student.epochs={asked.epochs}", *asked.changes]
        if kind == "alone":
            common += [f"stages.student.{key}=null" for key in ("teacher", "distil", "hints")]
        elif kind == "ensemble":
            teachers = ", ".join(str(self.folder("teacher", each)) for each in asked.seeds)
            common += [f"stages.student.teacher={{runs: [{teachers}], outputs: cached}}", "stages.student.hints=null"]
        else:
            common += [f"stages.student.teacher={{run: {self.folder('teacher', seed)}}}"]
            common += ["stages.student.hints=null"] if kind == "soft" else []
        return [*common, "stages.teacher=null"]

    def train(self, kind: str, seed: int) -> None:
        """Train (or take up, or leave as it is) a run, and evaluate it."""
        run, data = self.folder(kind, seed), self.asked.data / "busi_gray256"
        if not (run / "fold-0/summary.json").exists():
            with bars() as progress:
                pocketseg.train(
                    "pocket", data, run, overrides=self.overrides(kind, seed), split=SPLIT,
                    resume=any(run.glob("fold-*/*/last.safetensors")), listener=progress, progress=progress,
                    report=False,
                )  # fmt: skip
        if not (self.evaluated(kind, seed) / "summary.json").exists():
            pocketseg.evaluate(run, data, split=SPLIT, part="test", out=self.evaluated(kind, seed))

    def line(self, kind: str, seed: int) -> dict[str, Any]:
        """What became of one run."""
        run = self.folder(kind, seed)
        recipe, manifest = load_recipe(run / "recipe.yaml"), RunFolder(run).manifest()
        (stage,) = recipe.stages
        test = self.summary(kind, seed)
        return {
            "benchmark": "distilled", "kind": kind, "seed": seed,
            "net": stage.net.arch, "options": stage.net.options, "size": recipe.data.size, "epochs": stage.epochs,
            "parameters": parameter_count(skeleton(stage.net.arch, recipe.data.channels, 1, **stage.net.options)),
            "dice": round(test.dice, 4), "dice_interval": [round(test.dice_low, 4), round(test.dice_high, 4)],
            "misses": test.misses, "false_alarms": test.false_alarms,
            "wall_time_s": manifest["wall_time_s"], "hardware": manifest["hardware"],
            "torch": manifest["libraries"]["torch"], "pocketseg": manifest["pocketseg"],
        }  # fmt: skip

    def summary(self, kind: str, seed: int) -> Summary:
        (found,) = read_summaries(self.evaluated(kind, seed) / "summary.json")
        return found

    def over_seeds(self, kind: str) -> dict[str, Any]:
        """All seeds of a kind together: differences between means over seeds, case by case."""
        found = [self.summary(kind, seed) for seed in self.asked.seeds]
        line: dict[str, Any] = {
            "benchmark": "distilled", "kind": kind, "seeds": self.asked.seeds,
            "dice": round(statistics.fmean(one.dice for one in found), 4),
            "misses": sum(one.misses for one in found), "positive": sum(one.positive for one in found),
            "false_alarms": sum(one.false_alarms for one in found), "negative": sum(one.negative for one in found),
        }  # fmt: skip
        for other in ("teacher", "alone"):
            if kind not in ("teacher", other) and other in self.asked.kinds:
                line[f"to_{other}"] = difference(self.cases(other), self.cases(kind))
        return line


def table(lines: list[dict[str, Any]]) -> str:
    """A row a kind: Dice of each seed, their mean, and how far from the teacher and from the student alone."""
    runs = {(line["kind"], line["seed"]): line for line in lines if "seed" in line}
    together = {line["kind"]: line for line in lines if "seeds" in line}
    seeds = sorted({seed for _, seed in runs})
    head = ["net", "parameters", *(f"seed {seed}" for seed in seeds), "mean", "misses", "false alarms"]
    rows = [[*head, "to the teacher, points", "to the student alone, points"], ["---", *["---:"] * (len(head) + 1)]]
    for kind, whole in together.items():
        dice = {seed: f"{runs[kind, seed]['dice']:.3f}" for seed in seeds if (kind, seed) in runs}
        rows.append([
            kind, f"{runs[kind, seeds[0]]['parameters']:,}", *(dice.get(seed, "") for seed in seeds),
            f"{whole['dice']:.3f}", f"{whole['misses']} of {whole['positive']}",
            f"{whole['false_alarms']} of {whole['negative']}",
            points(whole.get("to_teacher")), points(whole.get("to_alone")),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="*", default=["teacher", "alone", "soft", "hints"])
    parser.add_argument("--teachers", help="finished runs to learn from; {seed} in the path stands for the seed")
    parser.add_argument("--teacher-width", type=int, default=32)
    parser.add_argument("--teacher-epochs", type=int, default=55)
    parser.add_argument("--epochs", type=int, default=55, help="of the students")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="KEY=VALUE of the students")
    parser.add_argument("--json", type=Path, help="append a line a run, and one a kind, to this file")
    parser.add_argument("--markdown", type=Path, help="write the table of that file between its two marks in this page")
    asked = parser.parse_args()
    log_to_terminal()
    runs = Runs(asked)
    lines = []
    for seed in asked.seeds:
        for kind in asked.kinds:
            runs.train(kind, seed)
            lines.append(runs.line(kind, seed))
            print(json.dumps({key: lines[-1][key] for key in ("kind", "seed", "parameters", "dice")}), flush=True)
    for kind in asked.kinds if asked.seeds else []:
        lines.append(runs.over_seeds(kind))
        print(json.dumps(lines[-1]), flush=True)
    if asked.json:
        for line in lines:
            append_line(asked.json, line)
        if asked.markdown:
            put_table(asked.markdown, table(read_lines(asked.json)))


if __name__ == "__main__":
    main()
