"""What each part of the training craft gives: `thin-unet` at half its width with and without it, on breast ultrasound.

The cases are those that train and validate in the committed split: its test part is seen by no choice. They are dealt
into folds by near-duplicate cluster, and every fold's net is evaluated on the cases it did not see, at a threshold of
0.5 and without component rules. Validation cases are few, for the curves: nothing is chosen by them but the best epoch
of the arms that keep it. Resumable run by run.

    python benchmarks/ablations.py --data ../shared/data --out runs/ablations --arms shipped longer averaged --folds 0 1
    python benchmarks/ablations.py --out runs/ablations --folds 0 1 --json LINES --markdown docs/training.md
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from folds import RULES_OFF, Folds
from tables import append_line, difference, points, put_table, read_lines

from pocketseg.cli.console import log_to_terminal
from pocketseg.data import Split, kfold
from pocketseg.evaluation import read_scores
from pocketseg.metrics import presence
from pocketseg.recipes import load_recipe
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import open_cases

SPLIT = Path(__file__).parent / "results/busi_split.json"
FOLDS, VALIDATION = 4, 0.1
SET = "busi_gray256"
COMMON = [
    "data.group_csv=near_duplicate_clusters.csv", "data.group_column=cluster",
    RULES_OFF, "evaluate.parts=[validation, test]", "stages.0.net.width=16",
]  # fmt: skip

LONGER = ["stages.0.epochs=110", "stages.0.batch=8", "stages.0.keep=last", "stages.0.validate_every=10"]
AVERAGED = [*LONGER, "stages.0.average={}"]
SMOOTHED = [*AVERAGED, "stages.0.loss.dice_smoothing=300"]
# Each arm with the one it is compared with.
ARMS: dict[str, tuple[str | None, list[str]]] = {
    "shipped": (None, []),
    "longer": ("shipped", LONGER),
    "averaged": ("longer", AVERAGED),
    "smoothed": ("averaged", SMOOTHED),
    "batch-dice": ("averaged", [*AVERAGED, "stages.0.loss={bce: 1, batch_dice: 1}"]),
    "norm-conv": ("smoothed", [*SMOOTHED, "stages.0.net.norm=conv"]),
    "soft": ("smoothed", [*SMOOTHED, "stages.0.soft_masks=true"]),
    "chance": ("smoothed", [*SMOOTHED, "augment.probability=0.5"]),
    "strong": ("smoothed", [*SMOOTHED, "augment={strength: strong, flip: [horizontal]}"]),
    "paste": ("smoothed", [*SMOOTHED, "augment.paste=0.3"]),
    "empty": ("smoothed", [*SMOOTHED, "stages.0.sampling={empty: 1.5}"]),
}


class Arms:
    """The arms on the folds, and where their runs lie."""

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out = data / SET, out

    def folds(self, arm: str) -> Folds:
        return Folds("thin-unet", [*COMMON, *ARMS[arm][1]], self.data, self.out / arm, self.split())

    def split(self) -> Path:
        """The file of the folds, which hold no case of the committed test part."""
        file = self.out / "split.json"
        if not file.exists():
            untouched = set(Split.read(SPLIT).folds[0].test)
            cases = open_cases(self.data, load_recipe("thin-unet", COMMON).data)
            rest = [case for case in cases if case.name not in untouched]
            self.out.mkdir(parents=True, exist_ok=True)
            kfold(rest, folds=FOLDS, validation=VALIDATION, seed=0).write(file)
        return file

    def train(self, arm: str, fold: int) -> dict[str, Any]:
        """What became of one fold of an arm."""
        (summary,) = self.folds(arm).train(fold)
        manifest = RunFolder(self.out / arm).manifest()
        return {
            "benchmark": "ablations", "arm": arm, "fold": fold, "dice": round(summary.dice, 4),
            "misses": summary.misses, "positive": summary.positive,
            "false_alarms": summary.false_alarms, "negative": summary.negative,
            "minutes": round(manifest["wall_time_s"] / 60, 1), "hardware": manifest["hardware"],
            "torch": manifest["libraries"]["torch"], "pocketseg": manifest["pocketseg"],
        }  # fmt: skip

    def together(self, arm: str, folds: list[int]) -> dict[str, Any]:
        """All folds of an arm, and its difference case by case to the arm it is compared with."""
        mine, (beside, _) = self.folds(arm), ARMS[arm]
        rows = [row for table in mine.cases(folds) for row in read_scores(table)]
        lesions = [row for row in rows if row.reference_pixels]
        found = presence([row.evidence for row in rows], [row.reference_pixels > 0 for row in rows])
        line: dict[str, Any] = {
            "benchmark": "ablations", "arm": arm, "folds": folds, "to": beside,
            "dice": round(statistics.fmean(row.dice for row in lesions), 4),
            "misses": sum(row.outcome == "miss" for row in rows), "positive": len(lesions),
            "false_alarms": sum(row.outcome == "false alarm" for row in rows), "negative": len(rows) - len(lesions),
            "auc": found and round(found.auc, 4), "missed_at_90": found and found.missed,
        }  # fmt: skip
        if beside is not None and all(table.exists() for table in self.folds(beside).cases(folds)):
            line["difference"] = difference(self.folds(beside).cases(folds), mine.cases(folds))
        return line


def table(lines: list[dict[str, Any]]) -> str:
    """A row an arm: Dice of lesions, misses and false alarms, and what it gives beside the arm before it."""
    head = ["arm", "Dice of lesions", "missed", "false alarms", "missed at 90 % specificity", "presence AUC", "beside"]
    rows = [[*head, "difference, points"], ["---", *["---:"] * (len(head) - 2), "---", "---:"]]
    for line in {line["arm"]: line for line in lines if "folds" in line}.values():
        rows.append([
            line["arm"], f"{line['dice']:.3f}", f"{line['misses']} of {line['positive']}",
            f"{line['false_alarms']} of {line['negative']}", str(line["missed_at_90"]),
            f"{line['auc']:.3f}", line["to"] or "", points(line.get("difference")),
        ])  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--json", type=Path, help="append a line a run, and one an arm, to this file")
    parser.add_argument("--markdown", type=Path, help="write the table of that file between its two marks in this page")
    asked = parser.parse_args()
    log_to_terminal()
    arms = Arms(asked.data, asked.out)
    lines = [arms.train(arm, fold) for fold in asked.folds for arm in asked.arms]
    lines += [arms.together(arm, asked.folds) for arm in asked.arms]
    for line in lines:
        print(json.dumps(line), flush=True)
        if asked.json:
            append_line(asked.json, line)
    if asked.json and asked.markdown:
        put_table(asked.markdown, table(read_lines(asked.json)), "ablations")


if __name__ == "__main__":
    main()
