"""What happens to data sets by accident, one thing at a time, and what is right afterwards.

A mutation changes files and says what may be read then: `right` makes the cases that are, from those before. Where
that is None, or `told` is set, a finding or an error must name one of `names`; an error that does is always right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pocketseg.data import Cases
from pocketseg.data.doctor.checkup import checkup
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.readers import stem_of
from pocketseg.errors import PocketsegError

PICTURES = (".png", ".tif", ".bmp", ".jpg")
OTHER_GROUPS = "other groups"


@dataclass(frozen=True)
class Seen:
    """A case as it is read."""

    name: str
    image: Any
    mask: Any
    group: str
    part: str | None
    spacing: tuple[float, float] | None
    files: tuple[Path, ...]
    masks: tuple[Path, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What two readings of one case have in common; gray stored as color is gray."""
        image = self.image.astype(np.uint8) if self.image.dtype == bool else self.image  # whose bytes may be 1 or 255
        if image.ndim == 3 and image.shape[2] == 3 and (image == image[:, :, :1]).all():
            image = image[:, :, 0]
        spacing = None if self.spacing is None else tuple(round(float(size), 5) for size in self.spacing)
        pixels = (image.shape, self.image.dtype.name, image.tobytes(), self.mask.shape, self.mask.tobytes())
        return *pixels, self.part, spacing


State = list[Seen]


@dataclass(frozen=True)
class Mutation:
    """One accident that has happened.

    Attributes:
        what: it was, for people.
        names: one of which an error or finding must contain, where there has to be one.
        right: the cases that may be read now, of those before; None: none of them may be missing or changed in silence.
        told: whether a finding must say it beside.
        refused: whether an error is right as well.
        root: the data set's new place, where it has one.
    """

    what: str
    names: tuple[str, ...]
    right: Callable[[State], State] | None
    told: bool = False
    refused: bool = True
    root: Path | None = None


@dataclass(frozen=True)
class Place:
    """A copy of a valid data set that something happens to."""

    root: Path
    kind: str
    state: State
    random: np.random.Generator

    @property
    def folder(self) -> Path:
        return self.root if self.root.is_dir() else self.root.parent

    @property
    def listed(self) -> bool:
        """Whether something in the set names its files."""
        return any((self.folder / name).exists() for name in ("cases.csv", "annotations.json"))

    def images(self) -> list[Path]:
        return sorted({file for case in self.state for file in case.files})

    def masks(self) -> list[Path]:
        return sorted({file for case in self.state for file in case.masks})

    def one(self, files: Sequence[Path], *endings: str) -> Path | None:
        fitting = [file for file in files if file.name.lower().endswith(endings)] if endings else list(files)
        return fitting[int(self.random.integers(len(fitting)))] if fitting else None

    def any(self) -> Path | None:
        return self.one([*self.images(), *self.masks()])

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def names(self, path: Path) -> tuple[str, ...]:
        """What may be said of a file: its stem, its case's files, the folder of its series."""
        told = {stem_of(path), *([f"1 {path.suffix}"] if path.suffix == ".json" else [])}
        for case in self.state:
            if path in (*case.files, *case.masks):
                told |= {stem_of(file) for file in (*case.files, *case.masks)}
                told |= {str(file.parent.relative_to(self.folder)) for file in case.files if self.kind == "dicom"}
        return tuple(told)


Operator = Callable[[Place], Mutation | None]
OPERATORS: dict[str, tuple[Operator, int]] = {}


def operator(weight: int = 1) -> Callable[[Operator], Operator]:
    """Add a mutation, which is drawn so many times as often as others."""

    def keep(make: Operator) -> Operator:
        OPERATORS[make.__name__] = make, weight
        return make

    return keep


def read(root: Path, options: dict[str, Any]) -> tuple[State, list[str]]:
    """Every case of a data set, and the findings of a check."""
    cases = Cases.open(root, **options)
    findings = texts(cases.check().findings)
    raw = "reading" in options  # numbers of a file's own unit, whatever their type
    seen = [
        Seen(
            case.name,
            cases.image(case).astype(np.float64) if raw else cases.image(case),
            cases.mask(case),
            case.group,
            case.part,
            case.spacing_mm,
            case.image.files,
            tuple(file for mask in case.masks for file in mask.files),
        )
        for case in cases
    ]
    return seen, findings


def texts(findings: Sequence[Finding]) -> list[str]:
    """All that a reader sees of each."""
    return [f"{finding.code} {' '.join(finding.files)}: {finding.what} {finding.fix}" for finding in findings]


def diagnosed(root: Path, options: dict[str, Any]) -> list[str]:
    """What the doctor says, who looks longer."""
    return texts(checkup(Cases.open(root, **options)).findings)


def verdict(mutation: Mutation, place: Place, options: dict[str, Any], before: Sequence[str]) -> str:
    """`as before`, `as it should`, `told` or `refused`; AssertionError where the outcome is none of them."""
    root = mutation.root or place.root
    try:
        state, findings = read(root, options)
    except PocketsegError as error:
        text = "\n".join(str(each) for problem in error.problems for each in (*problem.files, problem))
        text = text.replace(str(place.folder), "")
        assert error.exit_code == 2, text
        assert mutation.refused, f"refused: {text}"
        assert any(name in text for name in mutation.names), f"the error names none of {mutation.names}: {text}"
        return "refused"
    new = [finding.replace(str(place.folder), "") for finding in findings if finding not in before]
    told = any(name in finding for finding in new for name in mutation.names)
    if not told and (mutation.right is None or mutation.told):
        new = [finding.replace(str(place.folder), "") for finding in diagnosed(root, options)]
        told = any(name in finding for finding in new for name in mutation.names)
    if mutation.right is None:
        assert told, f"no finding names one of {mutation.names}: {new}; {difference(place.state, state)}"
        return "told"
    right = mutation.right(place.state)
    wrong = difference(right, state)
    if wrong == OTHER_GROUPS and any("is not used" in finding for finding in new):
        return "told"
    assert not wrong, f"{wrong}; findings {new}"
    assert told or not mutation.told, f"no finding names one of {mutation.names}: {new}"
    return "told" if mutation.told else "as before" if not difference(place.state, right) else "as it should"


def difference(right: State, state: State) -> str:
    """What is wrong with cases; names are free, what is of one group before is so after."""
    ours, theirs = sorted(map(fingerprint, right)), sorted(map(fingerprint, state))
    if len(ours) != len(theirs):
        return f"{len(theirs)} cases instead of {len(ours)}"
    if ours != theirs:
        keys = {fingerprint(case) for case in right}
        shown = [case.name for case in state if fingerprint(case) not in keys]
        return f"other pixels, part or pixel size: {', '.join(shown)}"
    return "" if partition(right) == partition(state) else OTHER_GROUPS


def fingerprint(case: Seen) -> str:
    return repr(case.key)


def partition(state: State) -> set[frozenset[str]]:
    groups: dict[str, set[str]] = {}
    for case in state:
        groups.setdefault(case.group or case.name, set()).add(fingerprint(case))
    return set(map(frozenset, groups.values()))


def happens(place: Place) -> Mutation:
    """One of the accidents that can happen to this data set."""
    names = [name for name, (_, weight) in OPERATORS.items() for _ in range(weight)]
    while True:
        done = OPERATORS[place.pick(*names)][0](place)
        if done is not None:
            return done


# What is right.


def same(state: State) -> State:
    return state


def without(*paths: Path) -> Callable[[State], State]:
    return lambda state: [case for case in state if not set(paths) & {*case.files, *case.masks}]


def with_images(path: Path, change: Callable[[Any], Any]) -> Callable[[State], State]:
    return lambda state: [
        replace(case, image=np.ascontiguousarray(change(case.image))) if path in case.files else case for case in state
    ]


def with_masks(path: Path, change: Callable[[Any], Any]) -> Callable[[State], State]:
    return lambda state: [
        replace(case, mask=np.ascontiguousarray(change(case.mask))) if path in case.masks else case for case in state
    ]
