"""The beginning of a search: look at the data, plan, count what fits, and write it down before anything is trained."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pocketseg.data import Case, Fold, Split, kfold
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.groups import tied
from pocketseg.errors import DataError, RecipeError, RunError
from pocketseg.experiments.plan import pipeline_of
from pocketseg.files import make_folder, resolved, write_atomically
from pocketseg.pipeline import Pipeline
from pocketseg.recipes import Recipe, dump_recipe
from pocketseg.runs.opening import make_split
from pocketseg.search.halving import (
    QUANT_SHARE,
    USEFUL_STEPS,
    Schedule,
    Side,
    fitted,
    lasting,
    most_candidates,
    schedule,
)
from pocketseg.search.plan import FEW_GROUPS, Choice, Plan, Start, make_plan, plan_text
from pocketseg.search.profile import Profile
from pocketseg.search.shapes import Budget, Cost, Shape, chosen, ladder
from pocketseg.search.start import Trained, common, refuse_seen
from pocketseg.search.state import Search, SearchFolder
from pocketseg.search.survey import Survey, notable, survey
from pocketseg.tables import csv_text
from pocketseg.text import bytes_text, counted

log = logging.getLogger("pocketseg")

Progress = Callable[[str, int, int], None]
# Of the time that looking, counting and packing leave, what trainings get; the rest is for what they wait for.
TRAINING_SHARE = 0.85
# Of the time, what measuring the speed of training takes, but for the first shape.
MEASURING_SHARE = 0.05
# Packing and comparing the winner's files, and the pages.
ENDING_S = 20.0
SCHEMES = 2  # that a winner is usually quantized by
# What takes longer than asked for by more than this is said.
SLACK = 1.15
SEARCH_FOLDS = 3
SEARCHED = re.compile(r"stages\.[^.]+(\.(net|quant|epochs|init|name|keep)\b|=)|stages=|sweep\b|presets\b")


@dataclass(frozen=True)
class Wishes:
    """What a user asks for.

    Attributes:
        budget: of the file.
        seconds: that all may take.
        steps: of the winner, instead of what the time carries: then no clock decides anything but the latency.
        overrides: `key=value` of the recipe.
        device: that trains.
        jobs: trainings side by side.
        start: a trained net that candidates of its shape start from.
        profile: of the machine that the budget's milliseconds are those of; None: this one.
        began: when the clock of `seconds` did, by `time.monotonic`.
    """

    budget: Budget
    seconds: float = 1800.0
    steps: int | None = None
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    jobs: int = 1
    profile: Profile | None = None
    start: Trained | None = None
    began: float = field(default_factory=time.monotonic, compare=False)

    @property
    def asked(self) -> dict[str, Any]:
        """What a search that goes on must be asked for again."""
        found = {"size": self.budget.size_bytes, "latency": self.budget.latency_ms, "memory": self.budget.memory_bytes}
        more = {
            "profile": self.profile.digest if self.profile else None,
            "start": self.start.digest if self.start else None,
        }
        return {**found, "time": self.seconds, "steps": self.steps, "set": list(self.overrides), **more}


@dataclass(frozen=True)
class Beginning:
    """What is to be written: the search, its splits, and the text of its plan."""

    search: Search
    split: Split
    search_split: Split
    groups: Mapping[str, str] | None
    recipe: Recipe
    text: str


def begin(data: str | Path, folder: SearchFolder, wishes: Wishes, progress: Progress | None = None) -> Beginning:
    """Decide everything that is decided before a training; nothing is written.

    Raises:
        DataError: the data cannot be used.
        RecipeError: what the user sets makes no sense, or nothing is as small or as fast as asked for.
    """
    from pocketseg.training.loop import steps_of_epoch

    searched = [text for text in wishes.overrides if SEARCHED.match(text)]
    if searched:
        fix = "leave it out, or train the recipe: `pocketseg train OUT/plan.yaml --data DATA --out RUN --set …`"
        raise RecipeError(f"--set {searched[0]}", "is what fit finds out", fix)
    log.info("looking at the data in %s", data)
    looked = survey(data, [text for text in wishes.overrides if text.startswith("data.")], progress)
    given = tuple(override.partition("=")[0] for override in wishes.overrides)
    names = [case.name for case in looked.cases]
    drafted = _with_groups(make_plan(looked.summary(names), given), looked, folder)
    first = ladder((128, 128))[0]
    rule = drafted.recipe(first, {"float": 1}, wishes.overrides).split
    split = make_split(rule, looked.cases, looked.found.duplicates)
    split = replace(split, folds=split.folds[:1])  # one winner, also where the user sets split.kind=kfold
    fold = split.fold(0)
    summary = looked.summary([*fold.train, *fold.validation])
    plan = _with_groups(make_plan(summary, given), looked, folder)
    plan = replace(plan, notes=(*plan.notes, *map(_said, notable(looked.found))))
    recipe = plan.recipe(first, {"float": 1}, wishes.overrides)
    warm = wishes.start is not None and _checked_start(wishes.start, split)
    search_split = _search_split(split, looked.cases.cases, alone=warm)
    if warm:
        plan = _with_reason(plan, "the start has learned from some of the others, so shapes are compared on it alone.")
    pipeline = pipeline_of(recipe)
    shapes = ladder(recipe.data.size)
    log.info("%s; counting what %d shapes cost", counted(len(looked.cases), "case"), len(shapes))
    costs = _costs(shapes, pipeline, wishes.profile, progress)
    if wishes.profile is not None:
        plan = replace(plan, notes=(*plan.notes, f"times are estimates for another machine: {wishes.profile.said}"))
    first_epoch, full_epoch = (
        steps_of_epoch(len(each.fold(0).train) * recipe.augment.copies, recipe.stages[0].batch)
        for each in (search_split, split)
    )
    left = {shape: why for shape in shapes if (why := excess(wishes.budget, costs[shape]))}
    fitting = {shape: costs[shape] for shape in shapes if shape not in left}
    if not fitting:
        raise _nothing_fits(costs, wishes.budget, "there" if wishes.profile else "here")
    folds, epochs = len(search_split.folds), (first_epoch, full_epoch)
    timed, notes = _scheduled(fitting, wishes, recipe, pipeline, folds, epochs)
    taken = chosen(fitting, timed.candidates)
    if wishes.start is not None:
        plan, taken = _started(plan, wishes.start, taken, fitting, recipe, pipeline)
    near = "a shape near to it is" if timed.rounds else "one is, the largest that fits"
    left |= {shape: f"fits, and is not trained: {near}" for shape in fitting if shape not in taken}
    if not timed.rounds:
        plan = _with_reason(plan, "one shape is trained, so no shapes are compared; its files are compared on it.")
    plan = replace(plan, notes=(*plan.notes, *notes))
    search = Search(
        wishes.asked, plan, wishes.budget, timed, costs, tuple(taken), left, epochs, folds, wishes.overrides,
        wishes.profile,
    )  # fmt: skip
    groups = {case.name: case.group for case in looked.cases} if looked.regrouped else None
    text = plan_text(plan, search_choices(search))
    return Beginning(search, split, search_split, groups, winner_recipe(search, taken[0]), text)


def write(folder: SearchFolder, found: Beginning) -> Search:
    """Write what was decided; the file that says that the search has begun comes last."""
    make_folder(folder.path)
    if found.groups is not None:
        write_atomically(folder.groups_file, csv_text([["case", "group"], *found.groups.items()]))
    found.split.write(folder.split_file)
    found.search_split.write(folder.search_split_file)
    write_atomically(folder.plan_recipe, dump_recipe(found.recipe))
    write_atomically(folder.plan_text, found.text)
    found.search.write(folder.state_file)
    return Search.read(folder.state_file)


def go_on(folder: SearchFolder, wishes: Wishes) -> Search | None:
    """The search of a folder that was begun; None where it was ended before it began.

    Raises:
        RunError: none was, or it was begun with other options.
    """
    if folder.state_file.exists():
        found = Search.read(folder.state_file)
        found.refuse_other(wishes.asked, str(folder.path))
        return found
    if not any(folder.path.glob(".*.lock")):
        raise RunError(str(folder.path), "holds no search to resume", "check the path, or leave out --resume")
    return None


# --- parts ----------------------------------------------------------------------------------------------------------


def _with_groups(plan: Plan, looked: Survey, folder: SearchFolder) -> Plan:
    """The plan with the table of groups that holds near-duplicates together, where one is needed."""
    if not looked.regrouped:
        return plan
    why = "images that are alike stay in one part: the doctor's clusters as groups."
    more = (
        Choice("data.group_csv", str(resolved(folder.groups_file)), why),
        Choice("data.group_column", "group", why),
    )
    return replace(plan, choices=(*plan.choices, *more))


def _said(finding: Finding) -> str:
    """A finding of the doctor, without names of files, which may be those of patients."""
    return f"the doctor finds {finding.code} in {counted(len(finding.files), 'file')}: {finding.why}"


def _too_short(steps: int, epoch_steps: int) -> str:
    return (
        f"an epoch is {counted(epoch_steps, 'step')}, more than the {counted(steps, 'step')} that were asked for or "
        "that the time allows; one is trained all the same"
    )


def _search_split(split: Split, cases: Sequence[Case], *, alone: bool = False) -> Split:
    """What candidates are trained and compared on: no test case is in it.

    Few groups are compared out of fold, so that every case counts; enough of them on the validation part, or where that
    alone may be used.
    """
    fold = split.fold(0)
    inside = {*fold.train, *fold.validation}
    kept = [case for case in cases if case.name in inside]
    groups = {case.name: case.group for case in kept}
    if not alone and len({case.group for case in cases}) < FEW_GROUPS:
        try:
            dealt = kfold(tied(kept, ()), folds=SEARCH_FOLDS, validation=0.2, seed=0)
        except DataError:
            pass  # too few for folds
        else:
            folds = tuple(Fold(each.train + each.validation, each.test, ()) for each in dealt.folds)
            return Split(folds, groups, {"kind": "kfold", "folds": SEARCH_FOLDS, "test": 0})
    return Split((Fold(fold.train, fold.validation, ()),), groups, {**split.rule, "test": 0})


def _checked_start(trained: Trained, split: Split) -> bool:
    """Whether a start has learned from cases that candidates train on here.

    Raises:
        RunError: it has seen what is held out.
    """
    fold = split.fold(0)
    refuse_seen(trained, list(dict.fromkeys([*fold.validation, *fold.unseen])), split.groups)
    return bool(common(trained, fold.train, split.groups))


def _started(
    plan: Plan,
    trained: Trained,
    taken: Sequence[Shape],
    fitting: Mapping[Shape, Cost],
    recipe: Recipe,
    pipeline: Pipeline,
) -> tuple[Plan, list[Shape]]:
    """The plan with the start, and the candidates: one at least is of its shape, where one such keeps to the budget."""
    of_it = [shape for shape in fitting if trained.fits(shape, recipe.stages[0], pipeline)]
    if of_it and not set(of_it) & set(taken):
        taken = [*taken[:-1], max(of_it, key=lambda shape: fitting[shape].size_bytes)]
    notes = list(plan.notes)
    if not of_it:
        notes.append(
            f"--start-from changes nothing: no shape that keeps to the budget is {trained.said} for "
            f"{counted(pipeline.channels, 'channel')} and {counted(len(pipeline.classes), '[class|classes]')}"
        )
    elif trained.seen is None:
        notes.append(
            "nobody knows which images the start has learned from: figures are too good if some of these are among them"
        )
    start = Start(str(trained.weights), trained.said, tuple(shape.name for shape in of_it))
    return replace(plan, notes=tuple(notes), start=start), list(taken)


def _costs(
    shapes: Sequence[Shape], pipeline: Pipeline, profile: Profile | None, progress: Progress | None
) -> dict[Shape, Cost]:
    from pocketseg.search.costs import costs

    tell = None if progress is None else lambda done, of: progress("packing", done, of)
    if profile is not None:
        estimates = {
            shape: profile.estimate(shape, pipeline.size, pipeline.channels, pipeline.logits) for shape in shapes
        }
        return {shape: replace(cost, ms=estimates[shape]) for shape, cost in costs(shapes, pipeline, tell)}
    return dict(costs(shapes, pipeline, tell))


def _scheduled(
    fitting: Mapping[Shape, Cost],
    wishes: Wishes,
    recipe: Recipe,
    pipeline: Pipeline,
    folds: int,
    epochs: tuple[int, int],
) -> tuple[Schedule, list[str]]:
    """How many shapes are trained, and for how long, with what is to be known of it.

    Args:
        fitting: the shapes that keep to the budget.
        epochs: steps of an epoch of the candidates, and of the winner.
    """
    first, full = epochs
    if (steps := wishes.steps) is not None:
        timed = most_candidates(len(fitting), lambda _: steps, first)
        return timed, [_too_short(steps, full)] if steps < full else []
    times, slower = _step_times(chosen(dict(fitting), min(4, len(fitting))), wishes, recipe, pipeline)
    side = Side(wishes.jobs, slower)
    spent = time.monotonic() - wishes.began
    training, step_s = TRAINING_SHARE * (wishes.seconds - spent - ENDING_S), sum(times) / len(times)
    timed = fitted(training, step_s, folds, SCHEMES, len(fitting), first, side)
    if not timed.rounds:  # the first shape alone is trained
        step_s = times[0]
        timed = fitted(training, step_s, folds, SCHEMES, 1, first)

    def all_of_it(plan: Schedule) -> float:
        return spent + ENDING_S + lasting(plan, step_s, folds, SCHEMES, epochs, side) / TRAINING_SHARE

    expected = all_of_it(timed)
    log.info(
        "looking and counting took %.0f s, a training step takes %.0f ms here%s: about %.1f min in all",
        spent, 1000 * step_s, f", {slower:.1f} times that with {side.jobs} side by side" if side.jobs > 1 else "",
        expected / 60,
    )  # fmt: skip
    notes = [_too_short(timed.full_steps, full)] if timed.full_steps < full else []
    if expected > SLACK * wishes.seconds or timed.full_steps < USEFUL_STEPS:
        notes.append(_little_time(wishes.seconds, expected, timed.full_steps, all_of_it(schedule(1, USEFUL_STEPS))))
    return timed, notes


def _step_times(
    shapes: Sequence[Shape], wishes: Wishes, recipe: Recipe, pipeline: Pipeline
) -> tuple[list[float], float]:
    """Seconds of a training step of each shape; of fewer where little time is left to measure, of the first always.

    And how much longer a step of the first takes where so many are trained side by side as the user wants.
    """
    from pocketseg.search.costs import side_by_side, step_seconds

    ends, found = time.monotonic() + MEASURING_SHARE * wishes.seconds, list[float]()
    for shape in shapes:
        if not found or time.monotonic() < ends:
            found.append(step_seconds(shape, pipeline, recipe, wishes.device))
    if wishes.jobs == 1:
        return found, 1.0
    with side_by_side(wishes.jobs, wishes.device) as shared:
        alone = step_seconds(shapes[0], pipeline, recipe, wishes.device)
    return found, max(1.0, shared * alone / found[0])


def _little_time(asked: float, expected: float, steps: int, useful: float) -> str:
    """What a time that is too short means, and which is not."""
    takes = f", and all takes about {minutes(expected)}" if expected > SLACK * asked else ""
    return (
        f"--time {minutes(asked)} is little here: it carries {counted(steps, 'step')} of training, where a net that is "
        f"worth using takes {USEFUL_STEPS} and more{takes}; --time {minutes(useful)} carries {USEFUL_STEPS}"
    )


def minutes(seconds: float) -> str:
    """A time as `--time` takes it: seconds where these are few, else minutes, rounded up.

    Example:
        >>> minutes(61.5), minutes(120), minutes(301)
        ('62s', '2min', '6min')
    """
    return f"{math.ceil(seconds)}s" if seconds < 120 else f"{math.ceil(seconds / 60)}min"


def _with_reason(plan: Plan, why: str) -> Plan:
    """The plan with another reason for its validation part."""
    return replace(
        plan,
        choices=tuple(
            replace(choice, reason=why) if choice.key == "split.validation" else choice for choice in plan.choices
        ),
    )


def _nothing_fits(costs: Mapping[Shape, Cost], budget: Budget, where: str) -> RecipeError:
    smallest = min(costs, key=lambda shape: costs[shape].size_bytes)
    fastest = min(costs, key=lambda shape: costs[shape].ms)
    least = min(costs, key=lambda shape: costs[shape].arena_bytes)
    asked = [
        f"--{name}"
        for name, limit in (
            ("size", budget.size_bytes),
            ("latency", budget.latency_ms),
            ("memory", budget.memory_bytes),
        )
        if limit is not None
    ]
    what = (
        f"no shape keeps to all of it: the smallest possible is {bytes_text(costs[smallest].size_bytes)} "
        f"({smallest.name}), the fastest {costs[fastest].ms:.2f} ms {where} ({fastest.name}), the least memory "
        f"{bytes_text(costs[least].arena_bytes)} ({least.name})"
    )
    return RecipeError(", ".join(asked), what, "allow more, or set a smaller data.size (--set 'data.size=[64,64]')")


def excess(budget: Budget, cost: Cost) -> str:
    """By what a shape is above the budget, in words; empty where it is not."""
    return budget.excess(cost.size_bytes, cost.arena_bytes, cost.ms)


# --- what follows from a search ---------------------------------------------------------------------------------------


def epochs_of(search: Search, steps: int, *, winner: bool) -> int:
    """The whole epochs nearest to so many steps."""
    return max(1, round(steps / search.epoch_steps[winner]))


def trial_values(search: Search, shape: Shape, steps: int) -> dict[str, Any]:
    """The recipe of a candidate: a stage in floats, and the bits that its file has."""
    epochs = epochs_of(search, steps, winner=False)
    return search.plan.values(shape, {"float": epochs, shape.bits: max(1, round(epochs * QUANT_SHARE))})


def winner_recipe(search: Search, shape: Shape) -> Recipe:
    """The whole training: in floats, then by the bits of the shape and by more of them, as the budget holds them."""
    epochs = epochs_of(search, search.schedule.full_steps, winner=True)
    stages = {"float": epochs} | dict.fromkeys(forms(search, shape), max(1, round(epochs * QUANT_SHARE)))
    return search.plan.recipe(shape, stages, search.overrides)


def forms(search: Search, shape: Shape) -> list[str]:
    """The bits that a winner's files have, the most first; its own last."""
    of_net = [each for each in search.costs if replace(each, bits=shape.bits) == shape]
    costs, least = search.costs, search.costs[shape].size_bytes
    allowed = [
        each
        for each in of_net
        if each == shape or (costs[each].size_bytes > least and not excess(search.budget, costs[each]))
    ]
    return [each.bits for each in sorted(allowed, key=lambda each: -costs[each].size_bytes)]


def _why_one(fit: int) -> str:
    return "only one fits" if fit == 1 else "the time or the steps carry one training"


def search_choices(search: Search) -> list[Choice]:
    """The search as choices of the plan."""
    limits = search.budget
    asked = [
        f"{bytes_text(limits.size_bytes)} of file" if limits.size_bytes is not None else "",
        f"{limits.latency_ms:g} ms" if limits.latency_ms is not None else "",
        f"{bytes_text(limits.memory_bytes)} of memory" if limits.memory_bytes is not None else "",
    ]
    said = ", ".join(each for each in asked if each) or "no limit of bytes, milliseconds or memory"
    trained = [shape.name for shape in search.taken]
    fit = len(search.costs) - sum("above" in why for why in search.left.values())
    which = (
        "these are the widest of each kind and some smaller ones"
        if search.schedule.rounds
        else f"{_why_one(fit)}, so this one is trained without a comparison: the largest that fits"
    )
    of = f"{said}: {fit} of {counted(len(search.costs), 'shape')} fit"
    found = [Choice("search.candidates", trained, f"{of}; {which}.")]
    if (start := search.plan.start) is not None:
        warm = [name for name in trained if name in start.shapes]
        rest = "all others start" if warm else "no candidate is one, so all start"
        found.append(
            Choice("search.start", warm, f"their nets are that of --start-from, {start.net}; {rest} at random.")
        )
    for number, (count, steps) in enumerate(search.schedule.rounds, start=1):
        of = f"{counted(count, 'candidate')}, {counted(search.folds, 'fold')}, each for {counted(steps, 'step')}"
        found.append(Choice(f"search.round-{number}", count, f"{of}; the better half goes on."))
    epochs = epochs_of(search, search.schedule.full_steps, winner=True)
    which = "the winner" if search.schedule.rounds else "it"
    why = f"{which} is trained for {counted(search.schedule.full_steps, 'step')}, {counted(epochs, 'epoch')}."
    return [*found, Choice("search.steps", search.schedule.full_steps, why)]
