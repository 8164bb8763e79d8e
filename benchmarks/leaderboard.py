"""Small nets beside large ones on several data sets: folds by group, all trained alike, without rules behind the net.

One row a net and set, each of its folds a training; every fold that is finished is only read again, so the script can
be stopped at any time, and the most telling rows stand first. What is not trained is "not run" in the table.

    python benchmarks/leaderboard.py --data ../shared/data --out runs/leaderboard --sets busi --rows thin-unet unet-w32
    python benchmarks/leaderboard.py --out runs/leaderboard --sets --json LINES --markdown docs/leaderboard.md
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folds import RULES_OFF, Folds, presence
from tables import append_line, put_table, read_lines

from pocketseg.cli.console import log_to_terminal
from pocketseg.evaluation import CaseScore, read_scores
from pocketseg.metrics import bootstrap_interval
from pocketseg.runs.folder import RunFolder

METRICS = "evaluate.metrics=[dice, iou, hd95, lesion_f1]"


@dataclass(frozen=True)
class Set:
    """A data set: its folder, and how it is read, divided and augmented."""

    folder: str
    settings: tuple[str, ...]
    folds: int = 5


@dataclass(frozen=True)
class Row:
    """A net and its training; `once` is for nets that are too slow for all folds."""

    recipe: str
    settings: tuple[str, ...] = ()
    once: bool = False


SETS = {
    "busi": Set("busi_gray256", (
        "data.group_csv=near_duplicate_clusters.csv", "data.group_column=cluster", "data.classes=[lesion]",
    )),
    "hc18": Set("hc18_gray256", (
        r"data.group_regex=^(\d+)_", "data.classes=[head]", "augment.flip=[horizontal, vertical]",
    )),
    "nuclei": Set("dsb2018_96", (
        "data.mask.threshold=128", "data.channels=3", "data.size=[96, 96]", "data.classes=[nucleus]",
        "augment.flip=[horizontal, vertical]",
    )),
}  # fmt: skip
# What all rows are trained with: what the ablations of docs/training.md chose, on cases that are no test cases there.
CRAFT = (
    "stages.*.batch=8", "stages.*.keep=last", "stages.*.validate_every=10", "stages.*.average={}",
    "stages.*.loss={bce: 1, dice: 1, dice_smoothing: 300}",
)  # fmt: skip
FLOAT = ("stages.0.epochs=110",)
ROWS = {
    "thin-unet": Row("thin-unet", FLOAT),
    "unet-w32": Row("thin-unet", ("stages.0.net={arch: unet, width: 32}", "stages.0.optimizer.lr=1e-3", *FLOAT)),
    "unet-31m": Row("thin-unet", ("stages.0.net={arch: unet}", "stages.0.optimizer.lr=5e-4", *FLOAT), once=True),
}


class Board:
    """The rows on the sets, and where their runs lie."""

    def __init__(self, data: Path, out: Path) -> None:
        self.data, self.out = data, out

    def folds(self, name: str, row: str) -> Folds:
        of, net = SETS[name], ROWS[row]
        settings = [
            *of.settings, f"split={{kind: kfold, folds: {of.folds}, validation: 0.1, seed: 0}}", RULES_OFF, METRICS,
            "evaluate.parts=[test]", *CRAFT, *net.settings,
        ]  # fmt: skip
        return Folds(net.recipe, settings, self.data / of.folder, self.out / name / row)

    def numbers(self, name: str, row: str) -> list[int]:
        return [0] if ROWS[row].once else list(range(SETS[name].folds))

    def line(self, name: str, row: str) -> dict[str, Any] | None:
        """What became of a row on a set, over the folds that are trained; None where there are none."""
        mine = self.folds(name, row)
        done = [fold for fold in self.numbers(name, row) if mine.cases([fold])[0].exists()]
        if not done:
            return None
        scores = [score for table in mine.cases(done) for score in read_scores(table)]
        run = RunFolder(mine.run)
        manifest = run.manifest()
        found = [score for score in scores if score.reference_pixels]
        packed = [run.packed_file(fold).stat().st_size for fold in done if run.packed_file(fold).exists()]
        return {
            "benchmark": "leaderboard", "set": name, "row": row, "folds": done, "of": SETS[name].folds,
            "cases": len(scores), "parameters": list(manifest["stages"].values())[-1]["parameters"],
            "bytes": round(statistics.fmean(packed)) if packed else None,
            "dice": _mean(found, "dice"), "dice_interval": _interval(found, "dice"),
            "hd95": _mean(found, "hd95"), "lesion_f1": _mean(found, "lesion_f1"),
            "misses": sum(score.outcome == "miss" for score in scores), "positive": len(found),
            "false_alarms": sum(score.outcome == "false alarm" for score in scores),
            "negative": len(scores) - len(found),
            "presence": presence(mine.maps(done), {score.case for score in found}),
            "minutes": round(manifest["wall_time_s"] / 60 / len(done), 1), "hardware": manifest["hardware"],
            "torch": manifest["libraries"]["torch"], "pocketseg": manifest["pocketseg"],
        }  # fmt: skip


def _values(scores: list[CaseScore], name: str) -> list[float]:
    return [score.values.get(name, math.nan) for score in scores]


def _mean(scores: list[CaseScore], name: str) -> float | None:
    known = [value for value in _values(scores, name) if not math.isnan(value)]
    return round(statistics.fmean(known), 4) if known else None


def _interval(scores: list[CaseScore], name: str) -> list[float]:
    return [round(end, 4) for end in bootstrap_interval(_values(scores, name), [score.group for score in scores])]


HEAD = (
    "set", "net", "parameters", "KiB", "folds", "Dice, rules off", "HD95", "missed", "false alarms",
    "missed at 90 % specificity", "minutes a fold",
)  # fmt: skip


def table(lines: list[dict[str, Any]]) -> str:
    """A row a set and net, the last line of each; sets in the order above."""
    latest = {(line["set"], line["row"]): line for line in lines}
    rows = [list(HEAD), ["---", "---", *["---:"] * (len(HEAD) - 2)]]
    for name in SETS:
        for row in ROWS:
            line = latest.get((name, row))
            if line is None:
                rows.append([name, row, *["not run"] * (len(HEAD) - 2)])
                continue
            low, high = line["dice_interval"]
            rows.append([
                name, row, f"{line['parameters']:,}", "" if line["bytes"] is None else f"{line['bytes'] / 1024:,.0f}",
                f"{len(line['folds'])} of {line['of']}", f"{line['dice']:.3f} ({low:.3f} to {high:.3f})",
                "" if line["hd95"] is None else f"{line['hd95']:.1f}", f"{line['misses']} of {line['positive']}",
                f"{line['false_alarms']} of {line['negative']}", str(line["presence"].get("missed_at_90", "")),
                f"{line['minutes']:.0f}",
            ])  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--json", type=Path, help="append a line a row and set to this file")
    parser.add_argument("--markdown", type=Path, help="write the table of that file between its two marks in this page")
    asked = parser.parse_args()
    log_to_terminal()
    board = Board(asked.data, asked.out)
    for fold in range(max(each.folds for each in SETS.values())):
        for name in asked.sets:
            for row in asked.rows:
                if fold in board.numbers(name, row):
                    board.folds(name, row).train(fold)
    for name in asked.sets:
        for row in asked.rows:
            line = board.line(name, row)
            if line is not None:
                print(json.dumps(line), flush=True)
                if asked.json:
                    append_line(asked.json, line)
    if asked.json and asked.markdown:
        put_table(asked.markdown, table(read_lines(asked.json)), "leaderboard")


if __name__ == "__main__":
    main()
