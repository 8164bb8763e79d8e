"""The files of a winner pass the gate, or do not; the accepted one is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketseg.data import Case, Cases, Split
from pocketseg.engine.session import Session
from pocketseg.evaluation import Summary, asking, score_cases, summarize
from pocketseg.files import remove, write_atomically
from pocketseg.predictors import load_pseg, read_pseg
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import metric_config, open_cases
from pocketseg.runs.packed import pack_model
from pocketseg.runs.source import ModelSource
from pocketseg.search.begin import forms
from pocketseg.search.gate import Clock, Pace, Validation, Verdict, best_of, compared, this_machine
from pocketseg.search.shapes import FLOAT, Shape
from pocketseg.search.state import Search, SearchFolder


@dataclass(frozen=True)
class Gated:
    """All verdicts on the files of a shape, the float one first, and the accepted one; None where none keeps to all.

    Attributes:
        run: where the shape was trained.
        cases, groups: that they were compared on.
    """

    shape: Shape
    run: RunFolder
    verdicts: tuple[Verdict, ...]
    accepted: Verdict | None
    cases: int
    groups: int

    @property
    def another_may_pass(self) -> bool:
        """Whether nothing was accepted, and not for want of cases alone, which would be wanting for any shape."""
        refused = [each for each in self.verdicts if each.bits != FLOAT and each.refused]
        return self.accepted is None and not all(each.unproven for each in refused)


def pass_gate(search: Search, shape: Shape, run: RunFolder, data: str | Path, max_drop: float) -> Gated:
    """Pack a trained shape in every form, and compare on validation cases.

    Args:
        run: where it was trained.
        max_drop: the margin, in Dice.
    """
    files = {}
    for bits in (FLOAT, *forms(search, shape)):
        files[bits] = run.fold(0) / f"{bits}.pseg"
        pack_model(ModelSource.of_run(run, 0, bits), files[bits])
    on = Validation.of(run, 0, data)
    verdicts = compared(files, on, max_drop, search.budget, _clock(search, shape))
    return Gated(shape, run, verdicts, best_of(verdicts), len(on.part), len(set(on.groups)))


def publish(folder: SearchFolder, gated: Gated) -> None:
    """Write the accepted file, and the float one beside it."""
    write_atomically(folder.float_model, read_pseg(gated.verdicts[0].file))
    if gated.accepted is None:
        remove(folder.model)
    else:
        write_atomically(folder.model, read_pseg(gated.accepted.file))


def _clock(search: Search, shape: Shape) -> Clock:
    """This machine, or what a profile tells of another: there a file is slower only if that is beyond its error."""
    profile = search.profile
    if profile is None:
        return this_machine

    def estimated(sessions: Mapping[str, Session], image: NDArray[np.float32]) -> dict[str, Pace]:
        ms = {
            bits: profile.estimate(replace(shape, bits=bits), image.shape[2:], each.in_channels, each.out_channels)
            for bits, each in sessions.items()
        }
        ratios = {bits: each / ms[FLOAT] for bits, each in ms.items()}
        return {bits: Pace(ms[bits], ratio, ratio / (1 + profile.typical_error)) for bits, ratio in ratios.items()}

    return estimated


def tested(folder: SearchFolder, run: RunFolder, data: str | Path) -> list[Summary]:
    """What the accepted file scores on the test part, which nothing was chosen by."""
    recipe, split = run.recipe(), Split.read(run.split_file)
    cases: Cases = open_cases(data, recipe.data)
    part: Sequence[Case] = cases.named(split.fold(0).test)
    if not part:
        return []
    rows = score_cases(
        cases, part, asking(load_pseg(folder.model)), recipe.data.classes, config=metric_config(recipe.evaluate)
    )
    return summarize(rows, "test")
