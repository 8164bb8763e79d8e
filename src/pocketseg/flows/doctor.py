"""`doctor`: what is wrong or suspicious about a data set, and a repaired copy of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pocketseg import notebook
from pocketseg.data import BoundedCache, Cases
from pocketseg.data.doctor.checkup import Checkup, checkup
from pocketseg.data.doctor.finding import LEVELS, Finding
from pocketseg.data.doctor.repair import Repaired, check_out, repair
from pocketseg.data.doctor.sets import split_findings
from pocketseg.data.split import given_text
from pocketseg.errors import DataError, named
from pocketseg.recipes import load_data_recipe
from pocketseg.recipes.schema import SplitSection
from pocketseg.runs.opening import cases_options, grid_of, make_split
from pocketseg.text import brief, counted

# Cases are looked at once, one after the other; only pairs are looked at again.
CACHE_BYTES = 64 * 2**20
# What a declared range of values settles.
OF_RANGE = ("few-bits", "float-range", "mixed-depth")


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """What the doctor found, and the repaired copy where one was asked for."""

    found: Checkup
    repaired: Repaired | None = None

    @property
    def healthy(self) -> bool:
        """Whether a training could begin."""
        return not self.found.errors

    def kinds(self) -> dict[str, list[Finding]]:
        """Findings by code, the worst first."""
        found: dict[str, list[Finding]] = {}
        for finding in self.found.findings:
            found.setdefault(finding.code, []).append(finding)
        return found

    def counts(self) -> dict[str, int]:
        """How many findings there are of each level."""
        return {level: sum(finding.level == level for finding in self.found.findings) for level in LEVELS}

    @property
    def title(self) -> str:
        """What was examined, in a line."""
        found = self.found
        groups = counted(len({case.group for case in found.cases}), "group")
        return f"{found.root}: {counted(len(found.cases), 'case')} in {groups}, layout {found.layout or '(none)'}"

    @property
    def verdict(self) -> str:
        """How many findings there are of each level, in words."""
        counts = [counted(count, level) for level, count in self.counts().items()]
        return ", ".join(counts) if self.found.findings else "nothing found"

    def __repr__(self) -> str:
        return brief(self, f"{self.title}; {self.verdict}")

    def _repr_html_(self) -> str:
        """Every kind of finding, for notebooks."""
        rows = [
            [same[0].level, code, len(same), named([finding.where for finding in same]), same[0].what, same[0].fix]
            for code, same in self.kinds().items()
        ]
        columns = ["level", "code", "findings", "where", "what", "fix"]
        found = notebook.table(columns, rows) if rows else ""
        copy = "" if self.repaired is None else notebook.paragraph(str(self.repaired))
        return f"{notebook.paragraph(f'{self.title}; {self.verdict}')}{found}{copy}"

    def as_json(self) -> str:
        """One object: `problems`, `near_duplicates` (clusters of case names), and what was repaired.

        Bytes of file names that are not UTF-8 are written as lone surrogates, which JSON allows.
        """
        found = self.found
        content: dict[str, Any] = {
            "data": str(found.root),
            "layout": found.layout,
            "cases": len(found.cases),
            "groups": len({case.group for case in found.cases}),
            "problems": [_plain(finding) for finding in found.findings],
            "near_duplicates": found.clusters,
            "duplicates": found.duplicates,
        }
        if self.repaired is not None:
            content["repaired"] = asdict(self.repaired)
        return json.dumps(content, indent=1, default=str)


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "level": finding.level,
        "files": list(finding.files),
        "message": finding.what,
        "why": finding.why,
        "fix": finding.fix,
    }


def doctor(
    data: str | Path,
    *,
    recipe: str | Path = "thin-unet",
    overrides: Sequence[str] = (),
    split: str | Path | None = None,
    fix: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Diagnosis:
    """Examine a data set in one pass; nothing in it is changed.

    Args:
        data: folder, or `.npz` file.
        recipe: whose data and split sections say how the data is read and dealt.
        overrides: `key=value` of it, as --set on the command line.
        split: a split file to examine instead of the recipe's rule.
        fix: new folder for a repaired copy.
        progress: informed about reading and copying.

    Raises:
        RecipeError: a recipe or an override that makes no sense.
        DataError: `fix` is not a place for a copy.
    """
    loaded = load_data_recipe(recipe, overrides)
    root = Path(data)
    if fix is not None:
        check_out(root, Path(fix))
    options = cases_options(loaded.data)
    try:
        cases, problems = Cases.found(root, loaded.data.layout, **options)
    except DataError as error:
        return Diagnosis(Checkup(root, findings=[Finding.of(problem) for problem in error.problems]))
    cases.cache = BoundedCache(CACHE_BYTES)
    given = bool(options["grouping"])
    found = checkup(
        cases, problems, progress=_bar(progress, "reading"), groups_given=given, pipeline=grid_of(loaded.data)
    )
    if loaded.data.range is not None:
        found.findings = [finding for finding in found.findings if finding.code not in OF_RANGE]
    found.add(_of_split(loaded.split, cases, found, split))
    repaired = repair(cases, found, Path(fix), _bar(progress, "copying")) if fix is not None else None
    return Diagnosis(found, repaired)


def _of_split(rule: SplitSection, cases: Cases, found: Checkup, file: str | Path | None) -> list[Finding]:
    """What is wrong with a split file, or with the recipe's split of this data."""
    if not cases.cases:
        return []
    where = "the recipe's split" if file is None else str(file)
    try:
        plan = make_split(rule, cases, found.duplicates, file)
    except DataError as error:
        return [Finding.of(problem) for problem in error.coded("split").problems]
    kept = (
        [Finding("given-parts", ("the data's own parts",), given_text(plan))]
        if plan.rule.get("kind") == "given"
        else []
    )
    return [*kept, *split_findings(plan, found.duplicates, found.clusters, where)]


def _bar(progress: Callable[[str, int, int], None] | None, what: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, of: progress(what, done, of)
