"""The numbers of a report: models side by side, differences, strata, cases."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pocketseg.evaluation import CaseScore, Comparison, Summary, by_size, class_means, compare_scores
from pocketseg.evaluation.cells import metric_name
from pocketseg.evaluation.scores import MIXED
from pocketseg.flows.report.evaluated import EvaluatedModel
from pocketseg.flows.report.measurements import Speed
from pocketseg.flows.report.names import Pseudonyms
from pocketseg.metrics import seed_spread
from pocketseg.reporting import Cell, Chart, Column, Interval, Rated, Table, trade_off
from pocketseg.runs.gate import read_gate
from pocketseg.runs.results import ensemble_summaries, fixed_test_spread, stage_summaries
from pocketseg.text import counted, number

DIFFERENCE = "difference to {}"


@dataclass(frozen=True)
class Measured:
    """An evaluated model with its summaries, its costs, and how it differs from the baseline."""

    model: EvaluatedModel
    summaries: list[Summary]
    differences: list[Comparison]
    kib: float
    form: str
    macs: int | None
    speed: Speed

    def dice(self) -> tuple[float, Interval]:
        """Mean Dice and its interval; of several classes the mean of their means, which has no interval."""
        if len(self.summaries) == 1:
            one = self.summaries[0]
            return one.dice, Interval(one.dice_low, one.dice_high)
        known = [one.dice for one in self.summaries if not math.isnan(one.dice)]
        return (statistics.fmean(known) if known else math.nan), Interval(math.nan, math.nan)


def measure(models: Sequence[EvaluatedModel], baseline: EvaluatedModel, speed: dict[str, Speed]) -> list[Measured]:
    """Put together what is known of each model.

    Raises:
        DataError: references of a case differ between models.
    """
    found = []
    for model in models:
        form, size = model.size()
        inspection = model.inspection()
        differences = [] if model is baseline else compare_scores(baseline.rows, model.rows, model.name)
        macs = None if inspection is None else int(inspection.totals["macs"])
        found.append(Measured(model, model.summaries, differences, size / 1024, form, macs, speed[model.name]))
    return found


def model_table(models: Sequence[Measured], baseline: str, runtime: str) -> Table:
    """A row for each model and class: score, distance, difference, size, work, time."""
    classes = len(models[0].summaries) > 1
    compared = len(models) > 1
    unit = _unit(models, "hd95")
    columns = [
        Column("model"), *[Column("class")] * classes, Column("Dice"), Column("95 % interval"),
        *[Column(DIFFERENCE.format(baseline), signed=True), Column("95 % interval of it", signed=True)] * compared,
        Column(f"HD95 [{unit}]" if unit else "HD95", 1), Column("KiB", 1), Column("MACs [M]", 1), Column("ms", 1),
        Column("misses"), Column("false alarms"), Column("Dice, rules off"), Column("misses, rules off"),
        Column("false alarms, rules off"), Column("cases"), Column("groups"), Column("parameters"),
        Column("precision"), Column("file"),
    ]  # fmt: skip
    rows = []
    for one in models:
        for summary in one.summaries:
            rows.append([
                one.model.name, *[summary.class_name] * classes, summary.dice,
                Interval(summary.dice_low, summary.dice_high), *_difference(one, summary.class_name)[: 2 * compared],
                _metric(summary, "hd95"), one.kib, None if one.macs is None else one.macs / 1e6, one.speed.ms,
                summary.misses, summary.false_alarms, *_rules_off(summary), summary.cases, summary.groups,
                one.model.metadata.get("parameters"), one.model.precision, one.form,
            ])  # fmt: skip
    note = (
        "Intervals: 95 %, BCa bootstrap over groups. HD95: over cases with foreground; a miss counts the diagonal. "
        "Rules off: at a threshold of 0.5, without component rules. "
        f"KiB: the file named last. MACs: multiply-accumulates for one image of the net's size. ms: {runtime}."
    )
    return Table("Models", columns, rows, note)


def _rules_off(summary: Summary) -> list[Cell]:
    """Dice, misses and false alarms with the rules off, as far as they are known."""
    off = summary.off
    return [None] * 3 if off is None else [off.dice, off.misses, off.false_alarms]


def _difference(one: Measured, class_name: str) -> list[Cell]:
    for each in one.differences:
        if (each.metric, each.class_name) == ("dice", class_name):
            return [each.difference.mean, Interval(each.difference.low, each.difference.high)]
    return [None, None]


def _metric(summary: Summary, name: str) -> float | None:
    return summary.metrics[name].mean if name in summary.metrics else None


def _unit(models: Sequence[Measured], name: str) -> str:
    units = {one.metrics[name].unit for each in models for one in each.summaries if name in one.metrics}
    return units.pop() if len(units) == 1 else MIXED if units else ""


def trade_offs(models: Sequence[Measured], runtime: str) -> list[Chart]:
    """Dice against bytes and against time, with the Pareto front."""
    costs: list[tuple[str, str, Callable[[Measured], float]]] = [
        ("Dice against size", "KiB", lambda one: one.kib),
        ("Dice against time", f"ms per image ({runtime})", lambda one: one.speed.ms),
    ]
    found = []
    for title, label, cost in costs:
        rated = [Rated(one.model.name, cost(one), *one.dice()) for one in models]
        found.append(trade_off(title, label, rated))
    return [chart for chart in found if chart is not None]


def difference_table(models: Sequence[Measured], baseline: str) -> Table | None:
    """Every metric of every model against the baseline, on the same cases."""
    columns = [
        Column("model"), Column("class"), Column("metric"), Column("unit"), Column("cases"), Column("groups"),
        Column("difference", signed=True), Column("95 % interval", signed=True), Column("Wilcoxon p", least=0.001),
        Column("effect", 2, signed=True),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            one.model.name, each.class_name, metric_name(each), each.unit or "–", each.difference.cases,
            each.difference.groups, each.difference.mean, Interval(each.difference.low, each.difference.high),
            *(None if math.isnan(value) else value for value in (each.difference.p_value, each.difference.effect)),
        ]
        for one in models
        for each in one.differences
    ]  # fmt: skip
    note = (
        f"Each model minus {baseline}, case by case on the same cases. The test takes one number a group; with many "
        "comparisons some p are small by chance, so one metric is the primary one, stated before: the Dice with the "
        "rules off; and one that of safety: what is missed where each model leaves 90 % of the cases without an object "
        "clean, at a threshold of its own, which the interval takes into account. "
        "Effect: rank-biserial correlation, 1 where every group gains."
    )
    return Table(f"Paired differences to {baseline}", columns, rows, note) if rows else None


def metric_table(models: Sequence[Measured]) -> Table | None:
    """Every metric that was measured, with its spread."""
    columns = [
        Column("model"), Column("class"), Column("metric"), Column("unit"), Column("cases"), Column("mean"),
        Column("95 % interval"), Column("median"), Column("quartiles"), Column("mean without misses"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for one in models:
        name = one.model.name
        rows += [
            [
                name, summary.class_name, metric, each.unit or "–", each.count, each.mean,
                Interval(each.low, each.high), each.median, Interval(each.lower_quartile, each.upper_quartile),
                each.mean_found,
            ]
            for summary in one.summaries
            for metric, each in summary.metrics.items()
        ]  # fmt: skip
        rows += [
            [name, f"mean of {row['classes']}", row["metric"], row["unit"] or "–", None, row["mean"], *[None] * 4]
            for row in class_means(one.summaries)
        ]
    return Table("Every metric", columns, rows, "docs/metrics.md has every formula.") if rows else None


def file_table(
    models: Sequence[EvaluatedModel], speed: dict[tuple[str, str], Speed], runtimes: dict[str, str]
) -> Table:
    """Every form of every model: bytes, and time where something here runs it."""
    columns = [
        Column("model"), Column("form"), Column("bytes"), Column("KiB", 1), Column("runtime"), Column("ms", 1),
        Column("fastest to slowest", 1), Column("calls"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for model in models:
        for form, path in model.files(model.folds[0]).items():
            size = path.stat().st_size
            runtime = runtimes.get(form, "")
            found = speed.get((model.name, runtime))
            time: list[Cell] = [None, None, None]
            if found is not None:
                time = [found.ms, Interval(found.fastest, found.slowest), found.calls]
            rows.append([model.name, form, size, size / 1024, runtime or "–", *time])
    note = (
        "Median time from a decoded image to its mask, one image at a time, on the machine that wrote this report. "
        "PyTorch runs in f32; quantized models are emulated on integers there, which takes longer than elsewhere."
    )
    return Table("Files and speed", columns, rows, note)


def gate_table(model: EvaluatedModel) -> Table | None:
    """What the gate found at the end of the training, where the last stage is quantized."""
    columns = [
        Column("fold"), Column("stage"), Column("KiB", 1), Column("ms", 2), Column("time to float", 2),
        Column("validation Dice", 4), Column("points to float", 2, signed=True), Column("95 %", 2, signed=True),
        Column("verdict"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    margin = 0.0
    for fold in model.folds:
        found = read_gate(model.run, fold)
        if found is None:
            continue
        margin = found["margin"]
        for at, (stage, each) in enumerate(found["files"].items()):
            apart: list[Cell] = [None, None]
            if at:
                apart = [100 * each["change"], Interval(100 * each["low"], 100 * each["high"])]
            said = f"refused: {each['refused']}" if each["refused"] else "passes" if at else "the float net"
            rows.append([fold, stage, each["size_bytes"] / 1024, each["ms"], each["ratio"], each["dice"], *apart, said])
    note = (
        f"A quantized net passes where its Dice on validation cases is shown to be less than {100 * margin:g} points "
        "below that of the float net it went on from, and it is not slower on the machine that trained. One that is "
        "refused stays the model of the run, as the recipe asks; the float one lies beside it."
    )
    return Table("Gate", columns, rows, note) if rows else None


def part_table(model: EvaluatedModel) -> Table:
    """Every fold, stage and part of a run."""
    columns = [
        Column("stage"), Column("fold"), Column("part"), Column("class"), Column("cases"), Column("groups"),
        Column("Dice"), Column("95 % interval"), Column("median"), Column("IoU"), Column("precision"),
        Column("recall"), Column("misses"), Column("with foreground"), Column("false alarms"), Column("without"),
        Column("Dice with empty"), Column("95 % interval of it"), Column("Dice, rules off"),
        Column("misses, rules off"), Column("false alarms, rules off"),
    ]  # fmt: skip
    together: list[tuple[Cell, str, Summary]] = [("all", *each) for each in ensemble_summaries(model.run)]
    rows: list[list[Cell]] = [
        [
            stage, fold, s.part, s.class_name, s.cases, s.groups, s.dice, Interval(s.dice_low, s.dice_high),
            s.dice_median, s.iou, s.precision, s.recall, s.misses, s.positive, s.false_alarms, s.negative, s.dice_all,
            Interval(s.dice_all_low, s.dice_all_high), *_rules_off(s),
        ]
        for fold, stage, s in [*stage_summaries(model.run), *together]
    ]  # fmt: skip
    return Table("Every stage, fold and part", columns, rows, " ".join([_spread(model), *_fixed_test(model)]))


def _fixed_test(model: EvaluatedModel) -> list[str]:
    """What the folds reach on the cases that none of them has seen, each for itself and all together."""
    return [
        f"Fixed test, {one.class_name}, {counted(one.cases, 'case')} that no fold has seen: mean Dice of the nets of "
        f"{counted(found.seeds, 'fold')} {number(found.mean)}, standard deviation "
        f"{number(found.standard_deviation)}; of their ensemble (fold “all”, the mean of their "
        f"probabilities) {number(one.dice)}."
        for _, one in ensemble_summaries(model.run)
        if (found := fixed_test_spread(model.run, one.class_name))
    ]


def _spread(model: EvaluatedModel) -> str:
    dice = [s.dice for _, stage, s in stage_summaries(model.run) if (stage, s.part) == (model.stage.name, model.part)]
    known = [value for value in dice if not math.isnan(value)]
    if len(model.folds) < 2 or len(model.recipe.data.classes) > 1:
        return "Best epoch of each stage; a quantized one is evaluated on integers."
    found = seed_spread(known)
    return (
        f"Dice of {model.stage.name} over {counted(found.seeds, 'fold')}: mean {found.mean:.3f}, standard deviation "
        f"{found.standard_deviation:.3f}, {found.lowest:.3f} to {found.highest:.3f}."
    )


def size_table(models: Sequence[EvaluatedModel]) -> Table | None:
    """Small, medium and large objects."""
    columns = [
        Column("model"), Column("class"), Column("size"), Column("from", 0), Column("to", 0), Column("unit"),
        Column("cases"), Column("groups"), Column("Dice"), Column("95 % interval"), Column("misses"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            model.name, row["class_name"], row["size"], row["smallest"], row["largest"], row["area_unit"],
            row["cases"], row["groups"], row["dice"], Interval(row["dice_low"], row["dice_high"]), row["misses"],
        ]
        for model in models
        for row in by_size(model.rows)
    ]  # fmt: skip
    note = "Thirds of the cases with foreground by the area of their reference; equal areas stay together."
    return Table("By size", columns, rows, note) if rows else None


def folder_table(models: Sequence[EvaluatedModel], names: Pseudonyms) -> Table | None:
    """Results by class folder; none where there are no folders."""
    shown = models[0].recipe.card.folders
    columns = [
        Column("model"), Column("folder"), Column("cases"), Column("Dice"), Column("misses"), Column("with foreground"),
        Column("false alarms"), Column("without"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for model in models:
        labels = sorted({row.label for row in model.rows} - {""})
        for name, label in sorted((names.folder(label, shown), label) for label in labels):
            inside = [row for row in model.rows if row.label == label]
            positive = [row.dice for row in inside if row.outcome in ("scored", "miss")]
            rows.append([
                model.name, name, len({row.case for row in inside}), statistics.fmean(positive) if positive else None,
                sum(row.outcome == "miss" for row in inside), len(positive),
                sum(row.outcome == "false alarm" for row in inside), len(inside) - len(positive),
            ])  # fmt: skip
    note = "Folders are numbered unless the recipe's card.folders names them: they may be called like patients."
    return Table("By class folder", columns, rows, note) if rows else None


def case_table(models: Sequence[EvaluatedModel], order: Sequence[str], names: Pseudonyms) -> Table:
    """A row for each case and class, worst first; of one model every metric, of several their Dice."""
    first = models[0]
    shown = first.recipe.card.folders
    rows_of = [{(row.case, row.class_name): row for row in model.rows} for model in models]
    place = {name: number for number, name in enumerate(order)}
    rows = sorted(first.rows, key=lambda row: (place.get(row.case, len(place)), names.case(row.case)))
    labels, classes = any(row.label for row in rows), len(first.recipe.data.classes) > 1
    more = list(rows[0].more) if len(models) == 1 else []
    columns = [
        Column("case"), Column("group"), *[Column("folder")] * labels, *[Column("class")] * classes,
        Column("reference px"),
        *(Column(name) for name in ("outcome", "Dice", "IoU", "precision", "recall", "predicted px", *more, "unit")),
    ]  # fmt: skip
    if len(models) > 1:
        cut = 3 + labels + classes
        columns = [*columns[:cut], *(Column(f"Dice {model.name}") for model in models)]
    cells: list[list[Cell]] = []
    for row in rows:
        head: list[Cell] = [names.case(row.case), names.group(row.group)]
        head += [names.folder(row.label, shown) if row.label else ""] * labels + [row.class_name] * classes
        head.append(row.reference_pixels)
        cells.append(head + (_numbers(row) if len(models) == 1 else _dice(row, rows_of)))
    part = f"Cases of the {first.part} part"
    return Table(part, columns, cells, "Worst first. The key to the ids stays with whoever wrote this report.")


def _numbers(row: CaseScore) -> list[Cell]:
    return [
        row.outcome, row.dice, row.iou, row.precision, row.recall, row.predicted_pixels, *row.more.values(), row.unit,
    ]  # fmt: skip


def _dice(row: CaseScore, rows_of: Sequence[dict[tuple[str, str], CaseScore]]) -> list[Cell]:
    """The Dice of each model."""
    found = [rows[row.case, row.class_name] for rows in rows_of]
    return [None if one.outcome == "true negative" else one.dice for one in found]
