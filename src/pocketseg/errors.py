"""The exception tree. Every message says where, what is wrong, and what to do.

Exit codes: 0 done, 2 the user's input, 3 the environment, 4 our bug, 130/143 interrupted with the state saved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Self

from pocketseg.names import printable

SHOWN_PROBLEMS = 50
NAMED = 3
# What differs between problems of one kind: lists of colors, numbers, paths, names in quotes.
VARYING = re.compile(r"'[^']*'|#[0-9a-f]{6}[^;]*|\S*/\S+|\d+")
# Where a problem is that an image has which came without a name.
IMAGE = "image"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        where: file name as given, recipe key, or option.
        what: what is wrong, with the values found and needed.
        fix: what to do about it.
        code: the kind of problem, for programs; the doctor lists them.
        files: all that it is about, where `where` names the first of several.
    """

    where: str
    what: str
    fix: str = ""
    code: str = field(default="", compare=False)
    files: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def at(cls, files: Sequence[str], what: str, fix: str = "", code: str = "") -> Problem:
        """One problem that several files have."""
        return cls(named(files), what, fix, code, tuple(files))

    @property
    def places(self) -> tuple[str, ...]:
        """Everything that it is about."""
        return self.files or (self.where,)

    def __str__(self) -> str:
        return printable(f"{self.where}: {self.what}" + (f" → {self.fix}" if self.fix else ""))


def named(places: Sequence[str]) -> str:
    """Places in one line, the first few by name.

    Example:
        >>> named(["a", "b", "c", "d", "e"])
        'a, b, c and 2 more'
    """
    hidden = len(places) - NAMED
    return ", ".join(places[:NAMED]) + (f" and {hidden} more" if hidden > 0 else "")


def together(problems: Sequence[Problem], fewest: int = 2) -> list[Problem]:
    """Problems that differ only in where they are, or in numbers and paths, become one, from so many on.

    Example:
        >>> [str(problem) for problem in together([Problem("a", "is empty"), Problem("b", "is empty")])]
        ['a, b: is empty']
        >>> [str(problem) for problem in together([Problem("a", "is 5×6"), Problem("b", "is 7×9")])]
        ['a, b: is 5×6 (the first; 2 of the kind)']
    """
    kinds: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        kinds.setdefault((VARYING.sub("#", problem.what), VARYING.sub("#", problem.fix)), []).append(problem)
    return [problem for same in kinds.values() for problem in ([_summed(same)] if len(same) >= fewest else same)]


def _summed(same: Sequence[Problem]) -> Problem:
    first = same[0]
    if len(same) == 1:
        return first
    alike = all((each.what, each.fix) == (first.what, first.fix) for each in same)
    what = first.what if alike else f"{first.what} (the first; {len(same):,} of the kind)"
    places = list(dict.fromkeys(place for each in same for place in each.places))
    return Problem.at(places, what, first.fix, first.code)


def lines(problems: Sequence[Problem], most: int) -> list[str]:
    """A line for each problem, or for each kind where there are more than a few of it, and how many are hidden then."""
    shown = together(problems, fewest=NAMED + 1)
    if len(shown) > most:
        shown = together(problems)
    hidden = len(shown) - most
    return [str(problem) for problem in shown[:most]] + ([f"… and {hidden} more"] if hidden > 0 else [])


class PocketsegError(Exception):
    """Base of all errors that pocketseg raises on purpose; carries one or many `Problem`s.

    Example:
        >>> str(DataError("a.png", "the file is empty", "remove it"))
        'a.png: the file is empty → remove it'
    """

    exit_code = 4

    def __init__(self, where: str, what: str, fix: str = "") -> None:
        self.problems: list[Problem] = [Problem(where, what, fix)]
        super().__init__(str(self.problems[0]))

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> PocketsegError:
        """One error that tells all problems at once."""
        error = cls(problems[0].where, problems[0].what, problems[0].fix)
        error.problems = list(problems)
        error.args = (str(error),)
        return error

    def coded(self, code: str) -> Self:
        """This error, its problems of the given kind where they have none so far."""
        self.problems = [replace(problem, code=problem.code or code) for problem in self.problems]
        return self

    def about(self, image: str) -> Self:
        """This error, what it says of "image", as one that is given without a name is called, said of this one."""
        self.problems = [replace(each, where=image) if each.where == IMAGE else each for each in self.problems]
        self.args = (str(self),)
        return self

    def __str__(self) -> str:
        return "\n".join(lines(self.problems, SHOWN_PROBLEMS))


class DataError(PocketsegError):
    """Images, masks, groups or splits that cannot be used."""

    exit_code = 2


class NotFiniteError(DataError):
    """An image for which a net gives NaN or infinite numbers."""


class RecipeError(PocketsegError):
    """A recipe, or an option that sets a key of it, that makes no sense."""

    exit_code = 2


class ModelFileError(PocketsegError):
    """A model or checkpoint file that is truncated, altered, of another kind, or too new."""

    exit_code = 2


class RunError(PocketsegError):
    """A run folder that cannot be used the way it was asked for."""

    exit_code = 2


class TrainingError(PocketsegError):
    """Training cannot go on, for example because the loss is not finite."""

    exit_code = 2


class EnvironmentProblem(PocketsegError):  # noqa: N818
    """Something outside of the user's input: a missing package, no disk space, no permission."""

    exit_code = 3


class Interrupted(PocketsegError):  # noqa: N818
    """SIGINT or SIGTERM arrived and the state was saved."""

    def __init__(self, signal_number: int, where: str, what: str, fix: str = "") -> None:
        super().__init__(where, what, fix)
        self.exit_code = 128 + signal_number


def near(name: str, known: Iterable[str]) -> str:
    """A hint that lists the known names nearest to a wrong one.

    Example:
        >>> near("epoch", ["epochs", "batch"])
        'did you mean epochs?'
        >>> near("zzz", ["epochs", "batch"])
        'known: batch, epochs'
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"


def missing_package(package: str, extra: str, error: Exception) -> EnvironmentProblem:
    """The error for an optional package that is absent or broken."""
    return EnvironmentProblem(
        package, f"cannot be imported ({error})", f"install it with: pip install 'pocketseg[{extra}]'"
    )
