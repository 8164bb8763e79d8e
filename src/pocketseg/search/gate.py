"""The gate: a quantized file is accepted only if it loses less than a margin, is no slower, and keeps to the budget."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases, Split
from pocketseg.engine.session import Session
from pocketseg.evaluation import CaseScore, Summary, asking, score_cases, summarize
from pocketseg.files import remove, write_atomically
from pocketseg.metrics import PairedDifference, paired_difference
from pocketseg.predictors import default_threads, load_packed, load_pseg, read_pseg
from pocketseg.runs.opening import metric_config, open_cases
from pocketseg.runs.packed import pack_model
from pocketseg.runs.source import ModelSource
from pocketseg.search.begin import forms
from pocketseg.search.rounds import case_dice
from pocketseg.search.shapes import Shape
from pocketseg.search.state import Search, SearchFolder
from pocketseg.text import counted
from pocketseg.timing import in_turns

log = logging.getLogger("pocketseg")

FLOAT = "float"
# A file is slower where its time is more than this of that of the float file, in three of four turns.
SLOWER = 1.05
TURNS, TURN_S = 8, 0.05


@dataclass(frozen=True)
class Verdict:
    """One file of the winner, and what was found.

    Attributes:
        bits: float, int8, int4 or ternary.
        file: of the packed model.
        size_bytes, arena_bytes, ms: what it costs.
        dice: on validation cases, the mean with empty masks.
        change, low, high: against the float file, with its 95 % interval over groups; in Dice.
        ratio: of its time to that of the float file.
        refused: why it is not accepted; empty where it is.
        needs: the options that would have accepted it as it is; empty where it is accepted, or none would have.
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


@dataclass(frozen=True)
class Gated:
    """All verdicts, the float file first, and the accepted one; None where none keeps to everything."""

    verdicts: tuple[Verdict, ...]
    accepted: Verdict | None
    cases: int
    groups: int


@dataclass(frozen=True)
class _Packed:
    bits: str
    content: bytes
    session: Session
    rows: list[CaseScore]


def pass_gate(folder: SearchFolder, search: Search, shape: Shape, data: str | Path, max_drop: float) -> Gated:
    """Pack the winner in every form, compare on validation cases, and write the accepted file.

    Args:
        max_drop: the margin, in Dice.
    """
    run, recipe = folder.winner, folder.winner.recipe()
    cases = open_cases(data, recipe.data)
    split = Split.read(run.split_file)
    part = cases.named(split.fold(0).validation)
    groups = [split.groups.get(case.name, case.group) for case in part]
    how = metric_config(recipe.evaluate.model_copy(update={"metrics": ["dice"]}))
    packed, verdicts = list[_Packed](), list[Verdict]()
    for bits in (FLOAT, *forms(search, shape)):
        target = folder.float_model if bits == FLOAT else run.fold(0) / f"{bits}.pseg"
        pack_model(ModelSource.of_run(run, 0, bits), target)
        predictor = load_pseg(target)
        rows = score_cases(cases, part, asking(predictor), recipe.data.classes, config=how)
        content = read_pseg(target)
        packed.append(_Packed(bits, content, Session(content, str(target), default_threads()), rows))
    height, width = load_packed(packed[0].content, folder.float_model).pipeline.net_size
    image = np.zeros((1, packed[0].session.in_channels, height, width), np.float32)
    timings = in_turns({each.bits: _call(each.session, image) for each in packed}, turns=TURNS, turn_s=TURN_S)
    plain = case_dice(packed[0].rows)
    for each in packed:
        ours = case_dice(each.rows)
        names = list(plain)
        difference = paired_difference([plain[name] for name in names], [ours[name] for name in names], groups)
        ratio, (quick, _) = timings[each.bits].ratio(timings[FLOAT])
        cost = len(each.content), each.session.arena_bytes(height, width), timings[each.bits].median_ms
        why, needs, hopeless = [search.budget.excess(*cost)], search.budget.needed(*cost), False
        if each.bits != FLOAT:
            if not difference.non_inferior(max_drop):
                why.append(
                    f"not shown to lose less than {100 * max_drop:g} points: {100 * difference.mean:+.2f} "
                    f"({100 * difference.low:+.2f} to {100 * difference.high:+.2f}; "
                    f"{counted(difference.groups, 'group')})"
                )
                margin = margin_of(difference)
                needs, hopeless = [*needs, f"--max-drop {margin:g}"], margin >= 100
            if quick > SLOWER:
                hopeless = True
                why.append(f"{ratio:.2f} times as slow as the float file")
        verdicts.append(
            Verdict(
                each.bits, folder.float_model if each.bits == FLOAT else run.fold(0) / f"{each.bits}.pseg", *cost,
                float(np.mean(list(ours.values()))), difference.mean, difference.low, difference.high, ratio,
                "; ".join(text for text in why if text), () if hopeless else tuple(needs),
            )
        )  # fmt: skip
    order = [FLOAT, *forms(search, shape)]
    verdicts.sort(key=lambda verdict: order.index(verdict.bits))
    accepted = best_of(verdicts)
    if accepted is None:
        remove(folder.model)
    else:
        write_atomically(folder.model, next(each.content for each in packed if each.bits == accepted.bits))
    return Gated(tuple(verdicts), accepted, len(part), len(set(groups)))


def _call(session: Session, image: NDArray[np.float32]) -> Callable[[], object]:
    return lambda: session(image)


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


def tested(folder: SearchFolder, data: str | Path) -> list[Summary]:
    """What the accepted file scores on the test part, which nothing was chosen by."""
    recipe, split = folder.winner.recipe(), Split.read(folder.winner.split_file)
    cases: Cases = open_cases(data, recipe.data)
    part: Sequence[Case] = cases.named(split.fold(0).test)
    if not part:
        return []
    rows = score_cases(
        cases, part, asking(load_pseg(folder.model)), recipe.data.classes, config=metric_config(recipe.evaluate)
    )
    return summarize(rows, "test")
