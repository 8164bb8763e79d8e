"""Summaries and costs as cells, for the terminal and for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pocketseg.evaluation import Comparison, Summary, class_means
from pocketseg.flows.benchmark import Benchmark, Measured
from pocketseg.flows.timing import Timing

RESULT_COLUMNS = [
    "fold", "part", "class", "cases", "groups", "Dice", "95 % interval", "median", "IoU", "precision", "recall",
    "misses", "false alarms", "Dice with empty", "95 % interval (with empty)",
]  # fmt: skip


def result_row(summary: Summary) -> list[str]:
    """A summary as the cells of RESULT_COLUMNS, without the fold."""
    s = summary
    return [
        s.part, s.class_name, str(s.cases), str(s.groups), number(s.dice), interval(s.dice_low, s.dice_high),
        number(s.dice_median), number(s.iou), number(s.precision), number(s.recall), f"{s.misses} of {s.positive}",
        f"{s.false_alarms} of {s.negative}", number(s.dice_all), interval(s.dice_all_low, s.dice_all_high),
    ]  # fmt: skip


SHORT_COLUMNS = [
    "part",
    "class",
    "cases",
    "Dice",
    "95 % interval",
    "IoU",
    "misses",
    "false alarms",
    "Dice with empty",
]


def short_row(summary: Summary) -> list[str]:
    """The cells of SHORT_COLUMNS, for a terminal."""
    s = summary
    return [
        s.part, s.class_name, str(s.cases), number(s.dice), interval(s.dice_low, s.dice_high), number(s.iou),
        f"{s.misses} of {s.positive}", f"{s.false_alarms} of {s.negative}", number(s.dice_all),
    ]  # fmt: skip


METRIC_COLUMNS = [
    "part", "class", "metric", "unit", "cases", "mean", "95 % interval", "median", "quartiles", "mean without misses",
]  # fmt: skip


def metric_rows(summaries: Sequence[Summary]) -> list[list[str]]:
    """The cells of METRIC_COLUMNS, one row a class and metric, and then the means of several classes."""
    means = [
        [row["part"], f"mean of {row['classes']} classes", row["metric"], row["unit"] or "–", "–", number(row["mean"])]
        for row in class_means(summaries)
    ]
    blank = ["–"] * 4
    return [row for summary in summaries for row in _metric_rows(summary)] + [[*row, *blank] for row in means]


def _metric_rows(summary: Summary) -> list[list[str]]:
    return [
        [
            summary.part, summary.class_name, name, each.unit or "–", str(each.count), number(each.mean),
            interval(each.low, each.high), number(each.median), interval(each.lower_quartile, each.upper_quartile),
            number(each.mean_found),
        ]
        for name, each in summary.metrics.items()
    ]  # fmt: skip


def metric_cells(summary: Summary) -> list[tuple[str, str]]:
    """Title and mean of each metric that a summary has besides Dice, for the table beside the runs."""
    return [
        (f"{name} [{each.unit}]" if each.unit else name, "" if math.isnan(each.mean) else f"{each.mean:.4f}")
        for name, each in summary.metrics.items()
        if name != "dice"
    ]


COMPARISON_COLUMNS = [
    "class", "metric", "unit", "cases", "groups", "difference", "95 % interval", "Wilcoxon p", "effect",
]  # fmt: skip


def comparison_row(found: Comparison) -> list[str]:
    """The cells of COMPARISON_COLUMNS."""
    d = found.difference
    return [
        found.class_name, found.metric, found.unit or "–", str(d.cases), str(d.groups), number(d.mean),
        interval(d.low, d.high), number(d.p_value), number(d.effect),
    ]  # fmt: skip


NET_COLUMNS = ["net", "parameters", "buffers", "MACs", "receptive field", "largest activation", "peak", "weights"]


def net_row(row: Mapping[str, Any]) -> list[str]:
    """The costs of a net as the cells of NET_COLUMNS."""
    return [
        row["name"], f"{row['parameters']:,}", f"{row['buffers']:,}", si(row["macs"]),
        pixels_text(row["receptive_field"]), bytes_text(row["largest_activation_bytes"]),
        bytes_text(row["peak_bytes"]), bytes_text(row["bytes"]),
    ]  # fmt: skip


LAYER_COLUMNS = ["layer", "kind", "shape", "parameters", "MACs", "bits", "weights"]
QUANT_COLUMNS = ["levels", "zeros", "packed", "floats"]


def layer_table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of a net's layers; what a layer has not is a dash. A quantised net has more columns."""
    quantised = any("levels" in row for row in rows)
    return LAYER_COLUMNS + QUANT_COLUMNS * quantised, [_layer_row(row, quantised) for row in rows]


def _layer_row(row: Mapping[str, Any], quantised: bool) -> list[str]:
    cells = [
        row["name"], row["kind"], "×".join(map(str, row["shape"])),
        f"{row['parameters']:,}" if row["parameters"] else "–", si(row["macs"]) if row["macs"] else "–",
        str(row["bits"] or "–"), bytes_text(row["bytes"]) if row["bytes"] else "–",
    ]  # fmt: skip
    if "levels" in row:
        cells += [str(row["levels"]), f"{row['zeros']:.1%}", bytes_text(row["packed_bytes"]), f"{row['floats']:,}"]
    return cells + ["–"] * (len(LAYER_COLUMNS) + len(QUANT_COLUMNS) * quantised - len(cells))


def totals(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The costs of a whole net, each with its name."""
    return [
        ("input", "×".join(map(str, row["input_shape"]))), ("parameters", f"{row['parameters']:,}"),
        ("buffers", f"{row['buffers']:,}"), ("MACs", f"{row['macs']:,}"),
        ("receptive field", pixels_text(row["receptive_field"])),
        ("largest activation", bytes_text(row["largest_activation_bytes"])),
        ("peak of activations", bytes_text(row["peak_bytes"])),
        ("weights", bytes_text(row["bytes"])),
    ]  # fmt: skip


def pixels_text(pixels: int | None) -> str:
    return "whole image" if pixels is None else f"{pixels} px"


def si(count: int) -> str:
    """A number with three digits that count.

    Example:
        >>> si(54_534_000_000), si(492_000_000), si(999)
        ('54.5 G', '492 M', '999')
    """
    for power, letter in ((9, "G"), (6, "M"), (3, "k")):
        if count >= 10**power:
            return f"{count / 10**power:.3g} {letter}"
    return str(count)


def bytes_text(count: int) -> str:
    """Bytes as a reader wants them.

    Example:
        >>> bytes_text(512), bytes_text(1536), bytes_text(33_816_576)
        ('512 B', '1.5 KiB', '32.2 MiB')
    """
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 2**20 else f"{count / 2**20:.1f} MiB"


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def interval(low: float, high: float) -> str:
    return "–" if math.isnan(low) else f"{low:.3f} to {high:.3f}"


BENCHMARK_COLUMNS = [
    "model", "runs on", "bits", "KiB", "input", "load ms", "first ms", "net ms", "quartiles", "a second", "ratio",
    "file to mask ms", "quartiles ", "a second ", "ratio ", "mask",
]  # fmt: skip


def benchmark_row(number: int, found: Benchmark) -> list[str]:
    """The cells of BENCHMARK_COLUMNS for one of the models."""
    each, first = found.models[number], found.models[0]
    return [
        each.model, each.runtime, each.precision, f"{each.size_bytes / 1024:,.0f}", "×".join(map(str, each.input)),
        f"{each.load_ms:.1f}", f"{each.first_ms:.1f}", *_timing_cells(each.net, first.net),
        *_timing_cells(each.whole, first.whole), _agreement(each, found),
    ]  # fmt: skip


def _timing_cells(timing: Timing, first: Timing) -> list[str]:
    low, high = timing.quartiles_ms
    return [
        f"{timing.median_ms:.2f}", f"{low:.2f} to {high:.2f}", f"{1000 / timing.median_ms:.1f}",
        f"{timing.ratio(first)[0]:.2f}",
    ]  # fmt: skip


def _agreement(each: Measured, found: Benchmark) -> str:
    agreement = each.agreement
    if agreement is None:
        return "–"
    other = found.models[agreement.other].runtime
    if not agreement.pixels:
        return f"that of {other}"
    return f"{agreement.pixels} pixels ({agreement.share:.2%}) other than {other}"
