"""The files of a winner pass the gate, or do not; the accepted one is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketseg.data import Case, Cases, Split
from pocketseg.evaluation import Summary, asking, score_cases, summarize
from pocketseg.files import remove, write_atomically
from pocketseg.predictors import load_pseg, read_pseg
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import metric_config, open_cases
from pocketseg.runs.packed import pack_model
from pocketseg.runs.source import ModelSource
from pocketseg.search.begin import forms
from pocketseg.search.gate import FLOAT, Validation, Verdict, best_of, judged
from pocketseg.search.shapes import Shape
from pocketseg.search.state import Search, SearchFolder


@dataclass(frozen=True)
class Gated:
    """All verdicts on the files of a shape, the float one first, and the accepted one; None where none keeps to all."""

    shape: Shape
    verdicts: tuple[Verdict, ...]
    accepted: Verdict | None
    cases: int
    groups: int


def pass_gate(
    folder: SearchFolder, search: Search, shape: Shape, run: RunFolder, data: str | Path, max_drop: float
) -> Gated:
    """Pack a trained shape in every form, compare on validation cases, and write the accepted file.

    Args:
        run: where it was trained.
        max_drop: the margin, in Dice.
    """
    files = {}
    for bits in (FLOAT, *forms(search, shape)):
        files[bits] = folder.float_model if bits == FLOAT else run.fold(0) / f"{bits}.pseg"
        pack_model(ModelSource.of_run(run, 0, bits), files[bits])
    on = Validation.of(run, 0, data)
    verdicts = judged(files, on, max_drop, search.budget)
    accepted = best_of(verdicts)
    if accepted is None:
        remove(folder.model)
    else:
        write_atomically(folder.model, read_pseg(accepted.file))
    return Gated(shape, verdicts, accepted, len(on.part), len(set(on.groups)))


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
