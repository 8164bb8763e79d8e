"""Small nets beside large ones on several data sets: folds by group, all trained alike, without rules behind the net.

One training for each set, net and fold. What became of it is one line of the JSON file, with the scores of every test
case: the table is made of these lines alone, so that trainings can be spread over days and machines. A fold that has
its line is not trained again. The most telling rows stand first; what is not trained is named behind the table.

    python benchmarks/leaderboard.py --data ../shared/data --out runs/leaderboard --sets busi --rows thin-unet unet-w32
    python benchmarks/leaderboard.py --sets --markdown PAGE
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from folds import RULES_OFF, Folds
from tables import append_line, points, put_table, read_lines

from pocketseg.cli.console import log_to_terminal
from pocketseg.evaluation import CaseScore, read_scores
from pocketseg.metrics import bootstrap_interval, paired_difference, presence
from pocketseg.runs.folder import RunFolder

LINES = Path(__file__).parent / "results/leaderboard.jsonl"
# The row that every other one is compared with.
LARGE = "unet-w32"
# Outcomes of cases that have something to find.
FOUND = ("scored", "miss")


@dataclass(frozen=True)
class Set:
    """A data set: its folder, how it is read, divided and augmented, how long nets train on it, what is measured."""

    folder: str
    epochs: int
    settings: tuple[str, ...]
    more: tuple[str, ...] = ()
    folds: int = 5


@dataclass(frozen=True)
class Row:
    """A net and its training; `length` is the share of a set's epochs that each of its stages trains for."""

    recipe: str
    settings: tuple[str, ...] = ()
    length: tuple[float, ...] = (1,)


SETS = {
    "busi": Set("busi_gray256", 110, (
        "data.group_csv=near_duplicate_clusters.csv", "data.group_column=cluster", "data.classes=[lesion]",
    )),
    "nuclei": Set("dsb2018_96", 60, (
        "data.mask.threshold=128", "data.channels=3", "data.size=[96, 96]", "data.classes=[nucleus]",
        "augment.flip=[horizontal, vertical]",
    ), ("lesion_f1",)),
    "hc18": Set("hc18_gray256", 60, (
        r"data.group_regex=^(\d+)_", "data.classes=[head]", "augment.flip=[horizontal, vertical]",
    )),
}  # fmt: skip
# What all rows are trained with: what the ablations of docs/training.md chose, on cases that are no test cases there.
CRAFT = (
    "stages.0.batch=8", "stages.0.keep=last", "stages.0.validate_every=10", "stages.0.average={}",
    "stages.0.loss={bce: 1, dice: 1, dice_smoothing: 300}",
)  # fmt: skip
ROWS = {
    "thin-w16": Row("thin-unet", (*CRAFT, "stages.0.net.width=16")),
    "thin-unet": Row("thin-unet", CRAFT),
    # Wide nets learn in fewer steps; half of the epochs take them three times as long as all of them take thin-unet.
    LARGE: Row("thin-unet", (*CRAFT, "stages.0.net={arch: unet, width: 32}", "stages.0.optimizer.lr=1e-3"), (0.5,)),
    "lite0": Row("thin-unet", (
        *CRAFT, "stages.0.net={arch: efficientnet_lite0_unet}", "stages.0.init={weights: imagenet}",
        "stages.0.optimizer={kind: adamw, lr: 1e-3, weight_decay: 1e-2, lr_scale: {encoder: 0.1}}",
    ), (0.5,)),
    # A stage in f32, then a quarter of its epochs with ternary weights; the recipes hold what CRAFT says.
    "tiny-40k": Row("tiny-40k", ("stages.*.validate_every=10",), (1, 0.25)),
    "tiny-16k": Row("tiny-16k", ("stages.*.validate_every=10",), (1, 0.25)),
}  # fmt: skip


@dataclass(frozen=True)
class Board:
    """Where the data are, and where runs lie."""

    data: Path
    out: Path

    def measure(self, name: str, row: str, fold: int) -> dict[str, Any]:
        """Train a fold, or take it up, and say what became of it."""
        of, net = SETS[name], ROWS[row]
        epochs = [round(of.epochs * share) for share in net.length]
        settings = [
            *of.settings, f"split={{kind: kfold, folds: {of.folds}, validation: 0.1, seed: 0}}", RULES_OFF,
            f"evaluate.metrics=[{', '.join(('dice', 'hd95', *of.more))}]", "evaluate.parts=[test]",
            *net.settings, *(f"stages.{stage}.epochs={number}" for stage, number in enumerate(epochs)),
        ]  # fmt: skip
        mine = Folds(net.recipe, settings, self.data / of.folder, self.out / name / row)
        mine.train(fold)
        run = RunFolder(mine.run)
        manifest = run.manifest()
        scores = read_scores(mine.cases([fold])[0])
        return {
            "benchmark": "leaderboard", "set": name, "row": row, "fold": fold, "of": of.folds, "epochs": sum(epochs),
            "parameters": list(manifest["stages"].values())[-1]["parameters"],
            "bytes": run.packed_file(fold).stat().st_size,
            "hardware": manifest["hardware"], "torch": manifest["libraries"]["torch"],
            "pocketseg": manifest["pocketseg"],
            "cases": {
                "case": [score.case for score in scores], "group": [score.group for score in scores],
                "outcome": [score.outcome for score in scores],
                **{each: [_number(score, each) for score in scores] for each in ("dice", "hd95", *of.more)},
                "evidence": [score.evidence for score in scores],
            },
        }  # fmt: skip


def _number(score: CaseScore, name: str) -> float | None:
    value = score.values[name]
    return None if math.isnan(value) else round(value, 5)


@dataclass(frozen=True)
class Result:
    """The folds of a row that are trained, their test cases together."""

    lines: list[dict[str, Any]]

    def column(self, name: str) -> list[Any]:
        return [value for line in self.lines for value in line["cases"].get(name, [])]

    def numbers(self, name: str) -> list[float]:
        return [math.nan if value is None else value for value in self.column(name)]

    def mean(self, name: str) -> float | None:
        """Over the cases that have something to find; None where it is not measured."""
        values = [value for value in self.where_found(name) if not math.isnan(value)]
        return statistics.fmean(values) if values else None

    def count(self, *outcomes: str) -> int:
        return sum(each in outcomes for each in self.column("outcome"))

    def where_found(self, name: str) -> list[float]:
        """Numbers of the cases that have something to find, nan for the others."""
        pairs = zip(self.numbers(name), self.column("outcome"), strict=False)
        return [value if outcome in FOUND else math.nan for value, outcome in pairs]

    def row(self, large: Result | None) -> list[str]:
        line = self.lines[-1]
        low, high = bootstrap_interval(self.where_found("dice"), self.column("group"))
        dice, hd95, objects = (self.mean(name) for name in ("dice", "hd95", "lesion_f1"))
        found = presence(self.column("evidence"), [outcome in FOUND for outcome in self.column("outcome")])
        return [
            f"{line['parameters']:,}", f"{line['bytes'] / 1024:,.0f}", f"{len(self.lines)} of {line['of']}",
            f"{dice:.3f} ({low:.3f} to {high:.3f})", "" if large is None else points(self.difference(large)),
            f"{hd95:.1f}", "" if objects is None else f"{objects:.3f}",
            f"{self.count('miss')} of {self.count(*FOUND)}",
            f"{self.count('false alarm')} of {self.count('false alarm', 'true negative')}",
            "" if found is None else str(found.missed), str(line["epochs"]),
        ]  # fmt: skip

    def difference(self, large: Result) -> list[float] | None:
        """Mean of the Dice differences to a large net over the folds that both have, with its 95 % interval."""
        both = {line["fold"] for line in self.lines} & {line["fold"] for line in large.lines}
        if not both:
            return None
        mine, other = (Result([line for line in each.lines if line["fold"] in both]) for each in (self, large))
        if mine.column("case") != other.column("case"):
            raise SystemExit("folds of two rows have other cases")
        found = paired_difference(other.where_found("dice"), mine.where_found("dice"), mine.column("group"))
        return [found.mean, found.low, found.high]


HEAD = (
    "set", "net", "parameters", "KiB", "folds", "Dice, rules off", f"to {LARGE}, points", "HD95", "object F1",
    "missed", "false alarms", "missed at 90 % specificity", "epochs",
)  # fmt: skip


def table(lines: list[dict[str, Any]]) -> str:
    """A row a set and net, of its folds that are trained; behind the table what is not."""
    missing = []
    rows = [list(HEAD), ["---", "---", *["---:"] * (len(HEAD) - 2)]]
    for name in SETS:
        results = {row: Result([line for line in lines if (line["set"], line["row"]) == (name, row)]) for row in ROWS}
        for row, result in results.items():
            if result.lines:
                rows.append([name, row, *result.row(results[LARGE] if row != LARGE else None)])
        if absent := [row for row, result in results.items() if not result.lines]:
            missing.append(f"{name}: {', '.join(absent)}")
    written = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"{written}\n\nNot run yet: {'; '.join(missing)}." if missing else written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/leaderboard"))
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--folds", nargs="*", type=int, help="all of them where not given")
    parser.add_argument("--json", type=Path, default=LINES, help="a line a training, read and appended to")
    parser.add_argument("--markdown", type=Path, help="write the table of that file between its two marks in this page")
    asked = parser.parse_args()
    log_to_terminal()
    board = Board(asked.data, asked.out)
    lines = read_lines(asked.json) if asked.json.exists() else []
    known = {(line["set"], line["row"], line["fold"]) for line in lines}
    for fold in range(max(each.folds for each in SETS.values())) if asked.folds is None else asked.folds:
        for name in asked.sets:
            for row in asked.rows:
                if fold < SETS[name].folds and (name, row, fold) not in known:
                    append_line(asked.json, board.measure(name, row, fold))
    if asked.markdown:
        put_table(asked.markdown, table(sorted(read_lines(asked.json), key=lambda line: line["fold"])), "leaderboard")
    else:
        for line in read_lines(asked.json):
            print(json.dumps({key: value for key, value in line.items() if key != "cases"}))


if __name__ == "__main__":
    main()
