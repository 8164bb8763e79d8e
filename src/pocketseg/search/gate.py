"""The gate: a quantized file is accepted only if it loses less than a margin, is no slower, and keeps to the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases, Split
from pocketseg.engine.session import Session
from pocketseg.evaluation import asking, score_cases
from pocketseg.metrics import PairedDifference, paired_difference
from pocketseg.predictors import default_threads, load_packed, load_pseg, read_pseg
from pocketseg.recipes import Recipe
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import metric_config, open_cases
from pocketseg.search.rounds import case_dice
from pocketseg.search.shapes import FLOAT, Budget
from pocketseg.text import counted
from pocketseg.timing import in_turns

# A file is slower where its time is more than this of that of the float file, in three of four turns.
SLOWER = 1.05
TURNS, TURN_S = 8, 0.05
UNLIMITED = Budget()


@dataclass(frozen=True)
class Verdict:
    """One file of a net, and what was found.

    Attributes:
        bits: float, int8, int4 or ternary; of a recipe's stages their names.
        file: of the packed model.
        size_bytes, arena_bytes, ms: what it costs.
        dice: on validation cases, the mean with empty masks.
        change, low, high: against the float file, with its 95 % interval over groups; in Dice.
        ratio: of its time to that of the float file.
        refused: why it is not accepted; empty where it is.
        needs: the options that would have accepted it as it is; empty where it is accepted, or none would have.
        unproven: whether it is refused only because so few cases cannot show that it loses so little.
    """

    bits: str
    file: Path
    size_bytes: int = 0
    arena_bytes: int = 0
    ms: float = float("nan")
    dice: float = float("nan")
    change: float = 0.0
    low: float = 0.0
    high: float = 0.0
    ratio: float = 1.0
    refused: str = ""
    needs: tuple[str, ...] = ()
    unproven: bool = False


@dataclass(frozen=True)
class Pace:
    """How fast a file is: milliseconds, times as slow as the float file, and so many times at the least."""

    ms: float
    ratio: float = 1.0
    at_least: float = 1.0


# Sessions by name, the float one first, and the image that they are given -> how fast each is.
Clock = Callable[[Mapping[str, Session], NDArray[np.float32]], Mapping[str, Pace]]


def this_machine(sessions: Mapping[str, Session], image: NDArray[np.float32]) -> dict[str, Pace]:
    """In turns, so that a machine whose speed drifts treats all alike."""
    first = next(iter(sessions))
    calls = {name: partial(session, image) for name, session in sessions.items()}
    timings = in_turns(calls, turns=TURNS, turn_s=TURN_S)
    found = {}
    for name, timing in timings.items():
        ratio, (quick, _) = timing.ratio(timings[first])
        found[name] = Pace(timing.median_ms, ratio, quick)
    return found


@dataclass(frozen=True)
class Validation:
    """The validation cases of a fold of a run, and how they are scored."""

    recipe: Recipe
    cases: Cases
    part: Sequence[Case]
    groups: Sequence[str]

    @classmethod
    def of(cls, run: RunFolder, fold: int, data: str | Path) -> Validation:
        recipe, split = run.recipe(), Split.read(run.split_file)
        cases = open_cases(data, recipe.data)
        part = cases.named(split.fold(fold).validation)
        return cls(recipe, cases, part, [split.groups.get(case.name, case.group) for case in part])

    def dice(self, file: Path) -> dict[str, float]:
        """Of each case, by a packed model; an empty mask left empty counts 1."""
        how = metric_config(self.recipe.evaluate.model_copy(update={"metrics": ["dice"]}))
        rows = score_cases(self.cases, self.part, asking(load_pseg(file)), self.recipe.data.classes, config=how)
        return case_dice(rows)


def compared(
    files: Mapping[str, Path],
    on: Validation,
    max_drop: float,
    budget: Budget = UNLIMITED,
    clock: Clock = this_machine,
) -> tuple[Verdict, ...]:
    """Every file with its figures, and why it is refused.

    Args:
        files: packed models by name; the first is the float one, which the others are held against.
        on: the cases.
        max_drop: the margin, in Dice.
        budget: that all keep to.
        clock: that says how fast they are.
    """
    contents = {name: read_pseg(file) for name, file in files.items()}
    sessions = {name: Session(content, str(files[name]), default_threads()) for name, content in contents.items()}
    first = next(iter(files))
    height, width = load_packed(contents[first], files[first]).pipeline.net_size
    paces = clock(sessions, np.zeros((1, sessions[first].in_channels, height, width), np.float32))
    plain = on.dice(files[first])
    verdicts = list[Verdict]()
    for name, file in files.items():
        ours = plain if name == first else on.dice(file)
        difference = paired_difference(list(plain.values()), [ours[case] for case in plain], on.groups)
        pace = paces[name]
        cost = len(contents[name]), sessions[name].arena_bytes(height, width), pace.ms
        why, needs, hopeless, unproven = [budget.excess(*cost)], budget.needed(*cost), False, False
        if name != first and not difference.non_inferior(max_drop):
            unproven = not needs and difference.mean > -max_drop
            why.append(
                f"not shown to lose less than {100 * max_drop:g} points: {100 * difference.mean:+.2f} "
                f"({100 * difference.low:+.2f} to {100 * difference.high:+.2f}; "
                f"{counted(difference.groups, 'group')})"
            )
            margin = margin_of(difference)
            needs, hopeless = [*needs, f"--max-drop {margin:g}"], margin >= 100
        if name != first and pace.at_least > SLOWER:
            hopeless, unproven = True, False
            why.append(f"{pace.ratio:.2f} times as slow as the float file")
        verdicts.append(
            Verdict(
                name, file, *cost, float(np.mean(list(ours.values()))), difference.mean, difference.low,
                difference.high, pace.ratio, "; ".join(text for text in why if text),
                () if hopeless else tuple(needs), unproven,
            )
        )  # fmt: skip
    return tuple(verdicts)


def margin_of(difference: PairedDifference) -> float:
    """The smallest --max-drop, in tenths of a point, that accepts what was measured; inf where no margin does."""
    tenths = math.floor(-1000 * difference.low + 1e-9) + 1
    return tenths / 10 if difference.non_inferior(tenths / 1000) else math.inf


def advice(verdicts: Sequence[Verdict]) -> str:
    """What to give so that a file is accepted, where none was.

    Example:
        >>> four = Verdict("int4", Path("a"), refused="lost", needs=("--max-drop 1.3",))
        >>> whole = Verdict("float", Path("b"), refused="too large", needs=("--size 140KB",))
        >>> advice([whole, four])
        '--resume --max-drop 1.3 accepts the int4 file without a training; --size 140KB in a new --out the float file'
    """
    order = sorted((each for each in verdicts if each.needs), key=lambda each: (len(each.needs), each.bits == FLOAT))
    by_accuracy = [each for each in order if all(need.startswith("--max-drop") for need in each.needs)]
    said = [f"--resume {each.needs[0]} accepts the {each.bits} file without a training" for each in by_accuracy[:1]]
    for each in [each for each in order if each not in by_accuracy][:1]:
        said.append(f"{' '.join(each.needs)} in a new --out {'' if said else 'accepts '}the {each.bits} file")
    return "; ".join(said) or "give more --time in a new --out, or more validation cases"


def best_of(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The smallest accepted quantized file, else the float one where it is accepted, else none."""
    passed = [verdict for verdict in verdicts if not verdict.refused]
    quantized = [verdict for verdict in passed if verdict.bits != FLOAT]
    return min(quantized or passed, key=lambda verdict: verdict.size_bytes, default=None)
