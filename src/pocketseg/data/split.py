"""Training, validation and test parts that never share a group."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pocketseg.data.case import Case
from pocketseg.errors import DataError, Problem
from pocketseg.files import read_text, write_json
from pocketseg.text import counted

PARTS = ("train", "validation", "test", "fixed_test")
# Where a split has none of these, its file does not name them.
OPTIONAL = ("fixed_test",)


@dataclass(frozen=True)
class Fold:
    """Case names of one fold's parts.

    Attributes:
        train, validation: what learns, and what chooses.
        test: what is held out of this fold; of k folds each holds out others.
        fixed_test: what no fold sees, the same in all of them.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    fixed_test: tuple[str, ...] = ()

    @property
    def unseen(self) -> tuple[str, ...]:
        """Cases that nothing of this fold learns from, neither weights nor rules."""
        return self.test + self.fixed_test

    def part(self, name: str) -> tuple[str, ...]:
        if name not in PARTS:
            raise DataError(f"part {name!r}", "does not exist", f"choose one of {', '.join(PARTS)}")
        names: tuple[str, ...] = getattr(self, name)
        return names


@dataclass(frozen=True)
class Split:
    """Folds, and the group of every case, so that a split file is enough to evaluate by group.

    Example:
        split = holdout(cases, test=0.2, validation=0.15, seed=0)
        split.folds[0].test
    """

    folds: tuple[Fold, ...]
    groups: Mapping[str, str]
    rule: Mapping[str, Any]

    @property
    def fixed_test(self) -> tuple[str, ...]:
        """Cases that no fold sees."""
        return self.folds[0].fixed_test

    def fold(self, number: int) -> Fold:
        """One fold by its number.

        Raises:
            DataError: there is no such fold.
        """
        if not 0 <= number < len(self.folds):
            raise DataError(f"--fold {number}", f"the split has folds 0 to {len(self.folds) - 1}", "choose one of them")
        return self.folds[number]

    def write(self, path: Path) -> None:
        folds = [
            {part: list(fold.part(part)) for part in PARTS if fold.part(part) or part not in OPTIONAL}
            for fold in self.folds
        ]
        content = {"rule": dict(self.rule), "folds": folds, "groups": dict(self.groups)}
        write_json(path, content)

    @classmethod
    def read(cls, path: Path, cases: Sequence[Case] | None = None) -> Split:
        """Read a split file; with cases, check it against them.

        Raises:
            DataError: not a split file; or, reported together: unknown cases, a case or a group in two parts, an empty
            part.
        """
        split = cls._parse(path)
        problems = list(split._problems(str(path), cases))
        if problems:
            raise DataError.of(problems)
        return split

    @classmethod
    def _parse(cls, path: Path) -> Split:
        try:
            content = json.loads(read_text(path))
            folds = tuple(Fold(**{part: _names(fold, part) for part in PARTS}) for fold in content["folds"])
            groups = {str(name): str(group) for name, group in content.get("groups", {}).items()}
            return cls(folds, groups, dict(content.get("rule", {})))
        except FileNotFoundError:
            raise DataError(str(path), "the split file does not exist", "check the path") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                str(path),
                f"is not a split file ({error})",
                'needed is {"folds": [{"train": […], "validation": […], "test": […]}]}',
            ) from error

    def _problems(self, where: str, cases: Sequence[Case] | None) -> list[Problem]:
        problems = [] if self.folds else [Problem(where, "has no folds", "write at least one")]
        groups = {case.name: case.group for case in cases} if cases is not None else dict(self.groups)
        for number, fold in enumerate(self.folds):
            problems += self._fold_problems(f"{where}, fold {number}", fold, groups, cases is not None)
        if len({frozenset(fold.fixed_test) for fold in self.folds}) > 1:
            what = "the fixed test cases differ between the folds, so that some fold may learn from them"
            problems.append(Problem(where, what, "give every fold the same fixed_test"))
        return problems

    def _fold_problems(self, where: str, fold: Fold, groups: Mapping[str, str], strict: bool) -> list[Problem]:
        problems = []
        counts = Counter(name for part in PARTS for name in fold.part(part))
        for name in (name for name, count in counts.items() if count > 1):
            problems.append(Problem(where, f"the case {name!r} appears {counts[name]} times", "keep it once"))
        if strict:
            for name in (name for name in counts if name not in groups):
                problems.append(Problem(where, f"the case {name!r} is not in the data", "remove it, or fix the name"))
        for part in ("train", "validation"):
            if not fold.part(part):
                problems.append(Problem(where, f"the {part} part is empty", "give it some cases"))
        parts_of: dict[str, set[str]] = defaultdict(set)
        for part in PARTS:
            for name in fold.part(part):
                parts_of[groups.get(name, name)].add(part)
        for group, parts in parts_of.items():
            if len(parts) > 1:
                what = f"the group {group!r} lies in {' and '.join(sorted(parts))}"
                problems.append(Problem(where, what, "keep a group in one part, or results look too good"))
        return problems


def _names(fold: Mapping[str, Any], part: str) -> tuple[str, ...]:
    names = fold.get(part, [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{part} is not a list of case names")
    return tuple(names)


def holdout(cases: Sequence[Case], *, test: float, validation: float, seed: int, contiguous: bool = False) -> Split:
    """One fold: the given fractions of the cases are test and validation, the rest trains."""
    fractions = {"train": 1 - test - validation, "validation": validation, "test": test}
    parts = _deal(cases, {part: share for part, share in fractions.items() if share > 0}, seed, contiguous)
    rule = {"kind": "holdout", "test": test, "validation": validation, "seed": seed, "contiguous": contiguous}
    return _checked(Split((_fold(cases, parts),), _groups(cases), rule), cases)


def kfold(
    cases: Sequence[Case],
    *,
    folds: int,
    validation: float,
    seed: int,
    contiguous: bool = False,
    fixed_test: float = 0,
) -> Split:
    """Every case is tested once; in each fold a share of the rest is validation.

    Args:
        cases: the data.
        folds, validation, seed, contiguous: see `SplitSection` of recipes.
        fixed_test: taken from the cases first, and tested by every fold: a share, or from 1 on their number, to which
            whole groups come near.
    """
    apart = _fixed(cases, fixed_test, seed, contiguous)
    dealing = [case for case in cases if case.name not in apart]
    # What is left of two folds is the other one, and that has to give a train and a validation part.
    least = 2 if folds == 2 else 1
    dealt = _deal(dealing, {str(number): 1 / folds for number in range(folds)}, seed, contiguous, least)
    result = []
    for number in range(folds):
        rest = [case for case in dealing if dealt[case.name] != str(number)]
        parts = _deal(rest, {"train": 1 - validation, "validation": validation}, seed, contiguous)
        parts |= {case.name: "test" for case in dealing if dealt[case.name] == str(number)}
        result.append(_fold(cases, parts | dict.fromkeys(apart, "fixed_test")))
    rule = {"kind": "kfold", "folds": folds, "validation": validation, "seed": seed, "contiguous": contiguous}
    rule |= {"fixed_test": fixed_test} if fixed_test else {}
    return _checked(Split(tuple(result), _groups(cases), rule), cases)


def _fixed(cases: Sequence[Case], wanted: float, seed: int, contiguous: bool) -> frozenset[str]:
    """Names of the cases that are kept out of all folds."""
    if not wanted:
        return frozenset()
    if wanted >= len(cases):
        what = f"{wanted:g} cases are to be kept out of the folds, and the data has {counted(len(cases), 'case')}"
        raise DataError("split.fixed_test", what, "take fewer, or a share such as 0.2")
    share = wanted / len(cases) if wanted >= 1 else wanted
    dealt = _deal(cases, {"folds": 1 - share, "fixed_test": share}, seed, contiguous)
    return frozenset(name for name, part in dealt.items() if part == "fixed_test")


def has_parts(cases: Sequence[Case]) -> bool:
    """Whether the data came in parts: every case lies in one, some train, and some do not."""
    parts = {case.part for case in cases}
    return None not in parts and "train" in parts and len(parts) > 1


def given(cases: Sequence[Case], *, validation: float = 0.15, seed: int = 0, contiguous: bool = False) -> Split:
    """One fold: the parts that the data came with, where they are folders of its layout.

    Where it has no validation part, a share of the training part becomes one.
    """
    parts = {case.name: case.part or "" for case in cases}
    if not all(parts.values()):
        raise DataError("split.kind=given", "the data's layout has no parts of its own", "use holdout or kfold")
    rule: dict[str, Any] = {"kind": "given"}
    if "validation" not in parts.values():
        train = [case for case in cases if parts[case.name] == "train"]
        parts |= _deal(train, {"train": 1 - validation, "validation": validation}, seed, contiguous)
        rule |= {"validation": validation, "seed": seed, "contiguous": contiguous}
    try:
        return _checked(Split((_fold(cases, parts),), _groups(cases), rule), cases)
    except DataError as error:
        fix = "move cases between the folders, or --set split.kind=holdout --set split.ignore_parts=true"
        raise DataError.of(
            [*error.problems, Problem("split", "these are the parts that the data came with", fix)]
        ) from None


def given_text(split: Split) -> str:
    """What is said of the parts that the data came with."""
    sizes = ", ".join(f"{len(split.folds[0].part(part))} {part}" for part in PARTS if part not in OPTIONAL)
    dealt = "; validation is taken from train" if "validation" in split.rule else ""
    fix = "--set split.ignore_parts=true divides the cases by the recipe"
    return f"the parts are those that the data came with ({sizes}{dealt}); {fix}"


def _groups(cases: Sequence[Case]) -> dict[str, str]:
    return {case.name: case.group for case in cases}


def _fold(cases: Sequence[Case], parts: Mapping[str, str]) -> Fold:
    return Fold(**{part: tuple(case.name for case in cases if parts[case.name] == part) for part in PARTS})


def _checked(split: Split, cases: Sequence[Case]) -> Split:
    problems = split._problems("split", cases)
    wants_test = split.rule.get("test", 1) != 0 and split.rule["kind"] != "given"
    if wants_test and any(not fold.test for fold in split.folds):
        problems.append(Problem("split", "the test part is empty", "give more cases, or a larger share"))
    if split.rule.get("fixed_test") and not split.fixed_test:
        problems.append(Problem("split", "the fixed test part is empty", "give more cases, or a larger share"))
    if problems:
        groups = len(set(split.groups.values()))
        hint = (
            f"the data has {counted(len(cases), 'case')} in {counted(groups, 'group')}; that is too few for this split"
        )
        raise DataError.of([*problems, Problem("split", hint, "take fewer folds or other fractions")])
    return split


def _deal(
    cases: Sequence[Case], fractions: Mapping[str, float], seed: int, contiguous: bool, least: int = 1
) -> dict[str, str]:
    """Part of every case: whole groups go, stratum by stratum, to the part that lacks most of its share.

    A group's stratum is the label most of its cases have. Large groups are dealt first, ties in seeded order, so
    that parts come out close to their fractions. `contiguous` deals the groups in natural order instead: neighboring
    slices of one volume stay in one part. The last groups go to parts that have fewer than `least`: beside one huge
    group a small share would otherwise stay empty.
    """
    members: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        members[case.group].append(case)
    strata: dict[str, list[str]] = defaultdict(list)
    for group, inside in members.items():
        strata[Counter(case.label or "" for case in inside).most_common(1)[0][0]].append(group)
    parts: dict[str, str] = {}
    lacking = dict.fromkeys(fractions, least)
    left = len(members)
    for number, (_, groups) in enumerate(sorted(strata.items())):
        order = groups if contiguous else _shuffled(groups, members, (seed, number))
        wanted = {part: share * sum(len(members[group]) for group in groups) for part, share in fractions.items()}
        for group in order:
            scarce = left <= sum(lacking.values())
            part = _next_part(wanted, fractions, contiguous, lacking, scarce)
            wanted[part] -= len(members[group])
            lacking[part] = max(0, lacking[part] - 1)
            left -= 1
            parts |= {case.name: part for case in members[group]}
    return parts


def _shuffled(groups: Sequence[str], members: Mapping[str, Sequence[Case]], seed: tuple[int, int]) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(groups))
    return sorted((groups[index] for index in order), key=lambda group: -len(members[group]))


def _next_part(
    wanted: Mapping[str, float],
    fractions: Mapping[str, float],
    contiguous: bool,
    lacking: Mapping[str, int],
    scarce: bool,
) -> str:
    open_to = [part for part in wanted if lacking[part]] if scarce else list(wanted)
    if contiguous:
        return next((part for part in open_to if wanted[part] >= 0.5 or lacking[part]), list(wanted)[-1])
    return max(open_to or wanted, key=lambda part: wanted[part] / fractions[part])
