"""`pocketseg fit` beside the recipe `thin-unet` for as long, on five real sets: Dice, bytes and time of both files.

`fit` gets nothing but what the data do not tell: which images show one patient. `thin-unet` gets the same split, and as
many epochs as take as long as `fit` took from its first look to its report. Both files are scored on the test cases,
which neither chose anything by, and timed in turns. Each set is a line of the JSON file, and is not run again; a set
that was stopped is gone on with. The machine should do nothing else meanwhile: it is a comparison by the clock.

    python benchmarks/fit.py --data ../shared/data --out runs/fit --sets busi hc18 --time 30min
    python benchmarks/fit.py --sets --markdown docs/fit.md
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tables import append_line, difference, points, put_table, read_lines

import pocketseg
from pocketseg.cli.console import log_to_terminal
from pocketseg.data import Split
from pocketseg.evaluation import Summary
from pocketseg.experiments.plan import pipeline_of
from pocketseg.recipes import load_recipe
from pocketseg.runs.folder import RunFolder
from pocketseg.search.budget import seconds
from pocketseg.search.costs import step_seconds
from pocketseg.search.shapes import Shape
from pocketseg.training.loop import steps_of_epoch

LINES = Path(__file__).parent / "results/fit.jsonl"
FIT, THIN = "fit", "thin-unet"
# Of the time of a training, what its steps take; the rest is for validation, rules and scores.
STEPS_SHARE = 0.85
TURNS = 10


@dataclass(frozen=True)
class Set:
    """A data set: its folder, what its files do not tell, and what only a recipe has to be told."""

    folder: str
    groups: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()


SETS = {
    "BUSI": Set("busi_gray256", ("data.group_csv=near_duplicate_clusters.csv", "data.group_column=cluster")),
    "HC18": Set("hc18_gray256", (r"data.group_regex=^(\d+)_",), ("data.classes=[head]",)),
    "nuclei": Set("dsb2018_96", (), ("data.mask.threshold=128", "data.classes=[nucleus]")),
    "ISBI": Set("isbi2012_membrane/data/membrane/train", (), ("data.classes=[cell]",)),
    "hippocampus": Set("msd_hippocampus/data/TrainingSet", (), (
        "data.classes=[anterior, posterior]", "stages.0.loss={ce: 1, dice: 1}", "augment.flip=[]",
    )),
}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Both ways on one set, and where their runs lie."""

    name: str
    data: Path
    out: Path
    time_s: float
    device: str

    @property
    def of(self) -> Set:
        return SETS[self.name]

    def measure(self) -> dict[str, Any]:
        """Run what is not run, and say what became of both."""
        self.out.mkdir(parents=True, exist_ok=True)
        with self.timed(FIT):
            folder = self.out / FIT
            pocketseg.fit(
                self.data, folder, time=self.time_s, overrides=self.of.groups, device=self.device,
                resume=folder.exists(),
            )  # fmt: skip
        with self.timed(THIN):
            self.train()
        files = {FIT: self.out / FIT / "model.pseg", THIN: RunFolder(self.out / THIN).packed_file(0)}
        split = self.out / FIT / "split.json"
        scored = {
            name: pocketseg.evaluate(file, self.data, split=split, part="test", out=self.out / f"{name}-test")
            for name, file in files.items()
        }
        timed = pocketseg.benchmark(list(files.values()), turns=TURNS).models
        manifest = RunFolder(self.out / THIN).manifest()
        return {
            "benchmark": "fit", "set": self.name, "test_cases": len(Split.read(split).fold(0).test),
            **{
                name: {
                    "dice": _mean(scored[name].summaries), "bytes": file.stat().st_size,
                    "ms": round(each.net.median_ms, 3), "minutes": round(self.spent(name) / 60, 1),
                }
                for (name, file), each in zip(files.items(), timed, strict=True)
            },
            "epochs": load_recipe(self.out / THIN / "recipe.yaml").stages[0].epochs,
            "difference": difference([self.out / f"{THIN}-test/cases.csv"], [self.out / f"{FIT}-test/cases.csv"]),
            "hardware": manifest["hardware"], "torch": manifest["libraries"]["torch"],
            "pocketseg": manifest["pocketseg"],
        }  # fmt: skip

    def train(self) -> None:
        """`thin-unet` on the split of `fit`, for as long as that took."""
        run, split = self.out / THIN, self.out / FIT / "split.json"
        settings = [*self.of.groups, *self.of.recipe, *self.tables(), "evaluate.parts=[test]"]
        if (run / "recipe.yaml").exists():
            settings.append(f"stages.0.epochs={load_recipe(run / 'recipe.yaml').stages[0].epochs}")
        else:
            settings.append(f"stages.0.epochs={self.epochs(settings, split)}")
        pocketseg.train(
            THIN, self.data, run, overrides=settings, split=split, device=self.device, resume=run.exists(),
            report=False,
        )  # fmt: skip

    def tables(self) -> list[str]:
        """Near-duplicates that `fit` found are in one group here too."""
        file = self.out / FIT / "groups.csv"
        return [f"data.group_csv={file.resolve()}", "data.group_column=group"] if file.exists() else []

    def epochs(self, settings: list[str], split: Path) -> int:
        """How many take as long as `fit` took, by the speed of a step."""
        recipe = load_recipe(THIN, [*settings, "data.channels=1"])
        net = recipe.stages[0].net.options
        shape = Shape(net["width"], net["blocks"], net["conv"], "int8")
        step_s = step_seconds(shape, pipeline_of(recipe), recipe, self.device)
        cases = len(Split.read(split).fold(0).train)
        steps = steps_of_epoch(cases * recipe.augment.copies, recipe.stages[0].batch)
        return max(1, round(STEPS_SHARE * self.spent(FIT) / (steps * step_s)))

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add what it takes to what it took before it was stopped; what is at its end takes no more."""
        began, before, done = time.monotonic(), self.spent(name), self.out / f"{name}.done"
        try:
            yield
        finally:
            took = 0.0 if done.exists() else time.monotonic() - began
            (self.out / f"{name}.seconds").write_text(f"{before + took:.1f}\n", encoding="utf-8")
        done.touch()

    def spent(self, name: str) -> float:
        file = self.out / f"{name}.seconds"
        return float(file.read_text(encoding="utf-8")) if file.exists() else 0.0


def _mean(summaries: list[Summary]) -> float:
    """The Dice over classes."""
    return round(sum(each.dice for each in summaries) / len(summaries), 4)


HEAD = (
    "set", "test cases", "Dice of fit", "KiB", "ms", "minutes", "Dice of thin-unet", "KiB", "ms", "minutes",
    "difference, points",
)  # fmt: skip


def table(lines: list[dict[str, Any]]) -> str:
    """A row a set: `fit`, then `thin-unet`, then their difference case by case; what was not run says so."""
    known = {line["set"]: line for line in lines}
    rows = [list(HEAD), ["---", *["---:"] * (len(HEAD) - 1)]]
    for name in SETS:
        line = known.get(name)
        if line is None:
            rows.append([name, *["not run"] * (len(HEAD) - 1)])
            continue
        figures = [
            text
            for each in (line[FIT], line[THIN])
            for text in (
                f"{each['dice']:.3f}", f"{each['bytes'] / 1024:.1f}", f"{each['ms']:.2f}", f"{each['minutes']:g}"
            )
        ]  # fmt: skip
        rows.append([name, str(line["test_cases"]), *figures, points(line["difference"])])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/fit"))
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--time", default="30min", help="of fit, on each set")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path, default=LINES, help="a line a set, read and appended to")
    parser.add_argument("--markdown", type=Path, help="write the table of that file between its two marks in this page")
    asked = parser.parse_args()
    log_to_terminal()
    known = {line["set"] for line in read_lines(asked.json)} if asked.json.exists() else set()
    for name in [each for each in asked.sets if each not in known]:
        place = asked.data / SETS[name].folder
        line = Comparison(name, place, asked.out / name, seconds(asked.time, "--time"), asked.device).measure()
        append_line(asked.json, line)
        print(json.dumps(line), flush=True)
    if asked.markdown:
        put_table(asked.markdown, table(read_lines(asked.json) if asked.json.exists() else []), "fit")


if __name__ == "__main__":
    main()
