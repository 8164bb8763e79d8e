"""The page of a search: what was found, what was refused, every candidate, and the reasons of the plan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pocketseg.evaluation import Summary
from pocketseg.reporting import (
    Axis,
    Cell,
    Chart,
    Code,
    Column,
    Highlights,
    Notes,
    Properties,
    Report,
    Section,
    Series,
    Table,
)
from pocketseg.search.accept import Gated
from pocketseg.search.begin import search_choices
from pocketseg.search.gate import Verdict
from pocketseg.search.plan import shown_value
from pocketseg.search.rounds import Round
from pocketseg.search.shapes import FLOAT, Shape
from pocketseg.search.state import Search
from pocketseg.text import bytes_text, counted, interval, number

FORMS = {FLOAT: "f32", "int8": "8 bits", "int4": "4-bit weights", "ternary": "ternary weights"}
# Points of Dice that are worth saying.
WORTH_SAYING = 0.5


@dataclass(frozen=True)
class Found:
    """All that a search found.

    Attributes:
        search: what was decided.
        rounds: what they scored.
        gated: the winner and its files.
        tested: the accepted one on the test part; empty where none was accepted, or there is no such part.
        others: shapes that were trained in full, none of whose files was accepted.
    """

    search: Search
    rounds: Sequence[Round]
    gated: Gated
    tested: Sequence[Summary]
    others: Sequence[Gated] = ()

    @property
    def shape(self) -> Shape:
        return self.gated.shape


def first_line(found: Found) -> str:
    """The result in a sentence, with what the data cannot carry before it."""
    notes = [note for note in found.search.plan.notes if "cannot carry a claim" in note]
    accepted, margin = found.gated.accepted, ""
    if accepted is None:
        said = "No file keeps to all that was asked for; below is what each one lacks"
    else:
        said = (
            f"{found.shape.name}: {bytes_text(accepted.size_bytes)}, {accepted.ms:.2f} ms {found.search.where}, "
            f"validation Dice {number(accepted.dice)} in {FORMS[accepted.bits]}"
        )
        refused = [each for each in found.gated.verdicts if each.refused and each.bits != FLOAT]
        if accepted.bits == FLOAT and refused:
            margin = "; no quantized file was accepted"
    return ". ".join([*notes, said + margin]) + "."


def page(found: Found, max_drop: float, name: str) -> Report:
    """The report."""
    sections = [
        Section(
            "result",
            "Result",
            [
                *_highlights(found),
                *(_verdicts(found, each, max_drop) for each in (found.gated, *found.others)),
                *_more(found),
            ],
            first_line(found),
        ),
        Section("front", "Size, time and Dice", _charts(found)),
        Section("candidates", "Candidates", [candidate_table(found)], _shown_rounds(found.search)),
        Section("plan", "Plan", [_plan(found.search)], "Every choice that was made before a training, and why."),
        Section("use", "Use and limits", _card(found)),
        Section(
            "reproduce",
            "Reproduce",
            [Code("Commands", _commands(found.gated.run.path.name))],
            "DATA is the folder with images and masks.",
        ),
    ]
    return Report(name, "What pocketseg fit found", sections, "fit")


def _highlights(found: Found) -> list[Highlights]:
    accepted = found.gated.accepted
    if accepted is None:
        return []
    entries = [
        ("Size", bytes_text(accepted.size_bytes), FORMS[accepted.bits]),
        ("Time", f"{accepted.ms:.2f} ms", f"the net, one image, {found.search.where}"),
        ("Memory", bytes_text(accepted.arena_bytes), "for one image, weights apart"),
    ]
    tests = [
        (
            f"Test Dice of {each.class_name}" if len(found.tested) > 1 else "Test Dice",
            number(each.dice),
            f"95 % {interval(each.dice_low, each.dice_high)}, {counted(each.cases, 'case')} of "
            f"{counted(each.groups, 'group')}, {each.misses} missed, {counted(each.false_alarms, 'false alarm')}",
        )
        for each in found.tested
    ]
    return [Highlights([*tests, *entries])]


def _verdicts(found: Found, gated: Gated, max_drop: float) -> Table:
    columns = [
        Column("file"), Column("KiB", 1), Column("memory, MiB", 2), Column("ms", 2), Column("time to f32", 2),
        Column("validation Dice", 4), Column("points to f32", 2, signed=True), Column("95 %", 2, signed=True),
        Column("verdict"),
    ]  # fmt: skip
    rows = [[FORMS[each.bits], *_figures(each), _verdict(each, gated.accepted)] for each in gated.verdicts]
    said = (
        f"A quantized file is accepted where its Dice on {counted(gated.cases, 'validation case')} of "
        f"{counted(gated.groups, 'group')} is shown to be less than {100 * max_drop:g} points below that of the "
        f"f32 file (the lower end of the 95 % interval), it is not slower {found.search.where}, "
        "and it keeps to the budget."
    )
    title = "Files of the winner" if gated is found.gated else f"Files of {gated.shape.name}, which was trained too"
    return Table(title, columns, rows, said)


def _figures(each: Verdict) -> list[Cell]:
    from pocketseg.reporting import Interval

    apart = (None, None) if each.bits == FLOAT else (100 * each.change, Interval(100 * each.low, 100 * each.high))
    return [each.size_bytes / 1024, each.arena_bytes / 2**20, each.ms, each.ratio, each.dice, *apart]


def _verdict(each: Verdict, accepted: Verdict | None) -> str:
    if each.refused:
        return "refused"
    return (
        "accepted: model.pseg"
        if each == accepted
        else "accepted; another was taken"
        if each.bits != FLOAT
        else "the float file"
    )


def _more(found: Found) -> list[Notes]:
    """What a larger budget would buy, as far as the candidates tell."""
    lines = [line for line in (_of_bytes(found), _of_time(found)) if line]
    notes = [Notes("What a larger budget would buy", lines)] if lines else []
    known = list(found.search.plan.notes)
    refused = [
        f"{f'{one.shape.name}, ' if found.others else ''}{FORMS[each.bits]}: {each.refused}."
        for one in (found.gated, *found.others)
        for each in one.verdicts
        if each.refused
    ]
    notes = [*([Notes("Why files were refused", refused)] if refused else []), *notes]
    return [*([Notes("Know first", [f"{note[:1].upper()}{note[1:]}." for note in known])] if known else []), *notes]


def _of_bytes(found: Found) -> str:
    first = found.rounds[0] if found.rounds else None
    scored = [] if first is None else [shape for shape in found.search.taken if math.isfinite(first.scores[shape.name])]
    if first is None or len(scored) < 4:
        return ""
    by_size = sorted(scored, key=lambda shape: found.search.costs[shape].size_bytes)
    half = len(by_size) // 2
    small, large = (max(first.scores[each.name] for each in part) for part in (by_size[:half], by_size[half:]))
    points = 100 * (large - small)
    edge = bytes_text(found.search.costs[by_size[half]].size_bytes)
    said = "a larger file may help" if points > WORTH_SAYING else "more bytes would buy nothing that can be seen here"
    where = f"{abs(points):.1f} points {'above' if points > 0 else 'below'} the best of the smaller ones"
    return f"Bytes: in round 1 the best of the files from {edge} on lies {where}; {said}."


def _of_time(found: Found) -> str:
    seen = [(each.steps, each.scores[found.shape.name]) for each in found.rounds if found.shape.name in each.scores]
    if len(seen) < 2:
        return ""
    (before, low), (after, high) = seen[-2:]
    gained = 100 * (high - low)
    said = "more time may help" if gained > WORTH_SAYING else "more time would change little"
    return f"Time: from {before:,} to {after:,} steps the winner went from {low:.4f} to {high:.4f}; {said}."


def _charts(found: Found) -> list[Chart]:
    if not found.rounds:
        return []
    first, costs = found.rounds[0], found.search.costs
    scored = [shape for shape in found.search.taken if math.isfinite(first.scores[shape.name])]
    charts = []
    for label, unit, of in (
        ("Size", "KiB", {shape: costs[shape].size_bytes / 1024 for shape in scored}),
        ("Time", "ms for an image", {shape: costs[shape].ms for shape in scored}),
    ):
        points = [(of[shape], first.scores[shape.name]) for shape in scored]
        dots = Series("candidates", points, "dots", [shape.name for shape in scored])
        line = Series("Pareto front", front(points), "front")
        said = (
            f"Dice of {counted(len(scored), 'candidate')} after round 1 against {unit}: the best has "
            f"{max(score for _, score in points):.3f}."
        )
        note = f"All after {first.steps:,} steps, on validation cases; trained longer, all are better."
        charts.append(Chart(f"{label} and Dice", said, Axis(unit, log=True), Axis("Dice"), [dots, line], note=note))
    return charts


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both: less of x and more of y.

    Example:
        >>> front([(10, 0.8), (20, 0.7), (30, 0.9)])
        [(10, 0.8), (30, 0.9)]
    """
    best, found = -math.inf, list[tuple[float, float]]()
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if y > best:
            best = y
            found.append((x, y))
    return found


def candidate_table(found: Found) -> Table:
    """Every shape of the ladder, what it costs, what it scored, and why it left."""
    numbers = [each.number for each in found.rounds]
    columns = [
        Column("shape"), Column("KiB", 1), Column("memory, MiB", 2), Column("ms", 2),
        *(Column(f"round {each}", 4) for each in numbers), Column("why it left"),
    ]  # fmt: skip
    order = sorted(
        found.search.costs, key=lambda shape: (-reached(found, shape), -found.search.costs[shape].size_bytes)
    )
    rows: list[list[Cell]] = []
    for shape in order:
        cost = found.search.costs[shape]
        scores: list[Cell] = [each.scores.get(shape.name) for each in found.rounds]
        rows.append(
            [shape.name, cost.size_bytes / 1024, cost.arena_bytes / 2**20, cost.ms, *scores, left_because(found, shape)]
        )
    return Table("All shapes", columns, rows, "Bytes, memory and milliseconds were known before any training.")


def reached(found: Found, shape: Shape) -> float:
    """The last round that a shape was in; the winner comes first."""
    if shape == found.shape:
        return math.inf
    return max((each.number for each in found.rounds if shape.name in each.scores), default=0)


def left_because(found: Found, shape: Shape) -> str:
    """Why a shape is not the winner."""
    if shape == found.shape:
        return "won" if found.rounds else "taken without a comparison"
    if shape in found.search.left:
        return found.search.left[shape]
    if any(shape == each.shape for each in found.others):
        return "was trained in full, and none of its files was accepted"
    last = max(found.rounds, key=lambda each: each.number if shape.name in each.scores else 0)
    if shape.name in last.errors:
        return f"its training failed in round {last.number} (see log.txt)"
    return f"not of the better half of round {last.number}"


def _shown_rounds(search: Search) -> str:
    said = ", ".join(
        f"{counted(count, 'candidate')} for {counted(steps, 'step')}" for count, steps in search.schedule.rounds
    )
    folds = f" in {search.folds} folds, scored out of fold" if search.folds > 1 else ", scored on validation cases"
    if not said:
        return "One shape was trained, the largest that fits: no shapes were compared."
    return (
        f"Rounds: {said}{folds}; by Dice with empty masks, a file of half the bytes being worth a quarter of a point. "
        "No test case was seen by any of them."
    )


def _plan(search: Search) -> Properties:
    """The choices; paths are left out, since they may hold names."""
    choices = [*search.plan.choices, *search_choices(search)]
    entries = [
        (each.key, each.reason if each.key == "data.group_csv" else f"{shown_value(each.value)} – {each.reason}")
        for each in choices
    ]
    own = [(key, "you set it.") for key, _, _ in (text.partition("=") for text in search.overrides)]
    return Properties("Choices", [*entries, *own])


def _card(found: Found) -> list[Properties | Notes]:
    plan = found.search.plan
    entries = [
        (
            "Model",
            f"thin U-Net {found.shape.name}, {counted(found.shape.width, 'channel')}, {found.shape.blocks} levels",
        ),
        ("Classes", ", ".join(plan.value("data.classes")) if _has(found, "data.classes") else "as you set them"),
        ("Timed on", found.search.timed_on),
        ("Chosen by", f"{counted(found.gated.cases, 'validation case')} of {counted(found.gated.groups, 'group')}"),
        ("All of it", f"{found.gated.run.path.name}/report.html: cases, calibration, limits, digests, model card"),
    ]
    lines = [
        "Not a medical device. It was made for images like those it learned from, and was not tried on others.",
        f"{'Shape and file were' if found.rounds else 'The file was'} chosen on validation cases, so figures there are "
        "a little too good; the test part chose nothing.",
    ]
    return [Properties("Model", entries), Notes("Limits", lines)]


def _has(found: Found, key: str) -> bool:
    return any(choice.key == key for choice in found.search.plan.choices)


def _commands(run: str) -> str:
    lines = [
        "pocketseg predict model.pseg IMAGES --out masks --overlay",
        "pocketseg evaluate model.pseg DATA --split split.json --part test",
        f"pocketseg train {run}/recipe.yaml --data DATA --split split.json --out AGAIN",
        "pocketseg train plan.yaml --data DATA --out PLAN",
    ]
    return "\n".join(lines) + "\n"
