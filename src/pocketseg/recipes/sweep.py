"""`sweep:` in a recipe: one recipe for each combination of values, or for each one of a list."""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketseg.errors import Problem, RecipeError
from pocketseg.recipes.loading import SWEEP, StageCheck, dump_values, overridden, set_key, validated
from pocketseg.recipes.schema import Recipe

MAX_TRIALS = 10_000
LONGEST_NAME = 100
SHAPE = "write KEY: [VALUE, …] for a grid, or a list of {KEY: VALUE, …}; for example {seed: [0, 1, 2]}"


@dataclass(frozen=True)
class Variant:
    """One recipe of a sweep.

    Attributes:
        name: readable, and safe as the name of a folder; empty where nothing is varied.
        values: dotted key -> value of what is varied.
        recipe: the ordinary recipe.
    """

    name: str
    values: Mapping[str, Any]
    recipe: Recipe


@dataclass(frozen=True)
class Sweep:
    """The recipes of a sweep.

    Attributes:
        text: the whole as YAML, with `sweep`.
        keys: what is varied, in the order of the recipe.
        variants: one for each combination; a recipe without `sweep` is the only one.
    """

    text: str
    keys: tuple[str, ...]
    variants: tuple[Variant, ...]

    @property
    def columns(self) -> dict[str, str]:
        """Short name of each key: as much of its end as sets it apart.

        Example:
            >>> Sweep("", ("stages.0.net.width", "stages.1.net.width", "seed"), ()).columns
            {'stages.0.net.width': '0.net.width', 'stages.1.net.width': '1.net.width', 'seed': 'seed'}
        """
        return {key: _short(key, self.keys) for key in self.keys}


def load_sweep(
    source: str | Path | dict[str, Any], overrides: Sequence[str] = (), check_stage: StageCheck | None = None
) -> Sweep:
    """The recipes that a recipe with `sweep` stands for; without, the recipe itself.

    Args:
        source, overrides, check_stage: as in `load_recipe`; `sweep.KEY=[VALUE, …]` adds to the sweep.

    Raises:
        RecipeError: every fault of every recipe, together; what all of them share is reported once.
    """
    where, values, problems = overridden(source, overrides)
    section = values.pop(SWEEP, None)
    if section is None:
        return Sweep("", (), (Variant("", {}, validated(values, where, problems, check_stage)),))
    combinations = _combinations(section)
    keys = tuple(dict.fromkeys(key for combination in combinations for key in combination))
    problems += _set_twice(keys, overrides)
    if problems:
        raise RecipeError.of(problems)
    names = _names(combinations, keys)
    faults: dict[Problem, list[str]] = {}
    variants = []
    for name, combination in zip(names, combinations, strict=True):
        try:
            variants.append(Variant(name, combination, _variant(values, combination, where, check_stage)))
        except RecipeError as error:
            for problem in error.problems:
                faults.setdefault(problem, []).append(name)
    if faults:
        raise RecipeError.of([_labeled(problem, found, len(names)) for problem, found in faults.items()])
    return Sweep(dump_values({**values, SWEEP: section}), keys, tuple(variants))


def _variant(
    values: dict[str, Any], combination: Mapping[str, Any], where: str, check_stage: StageCheck | None
) -> Recipe:
    own = copy.deepcopy(values)
    problems = [
        problem
        for key, value in combination.items()
        for problem in set_key(own, key, copy.deepcopy(value), f"{SWEEP}.{key}")
    ]
    return validated(own, where, problems, check_stage)


def _labeled(problem: Problem, trials: Sequence[str], of: int) -> Problem:
    """A fault with the trial it is in, unless all trials have it."""
    if len(trials) == of:
        return problem
    more = f" and {len(trials) - 1} more" if len(trials) > 1 else ""
    return Problem(f"{trials[0]}{more}: {problem.where}", problem.what, problem.fix)


def _combinations(section: Any) -> list[dict[str, Any]]:
    """What is set in each recipe: the grid's every combination, the last key fastest, or the list as it is."""
    if isinstance(section, Mapping):
        grid = dict(_axes(section, ""))
        count = 1
        for values in grid.values():
            count *= len(values)
        _refuse_many(count)
        found = [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]
    elif isinstance(section, list) and section and all(isinstance(one, Mapping) and one for one in section):
        _refuse_many(len(section))
        found = [{str(key): value for key, value in one.items()} for one in section]
    else:
        raise RecipeError(SWEEP, "is neither a grid nor a list of combinations", SHAPE)
    twice = next((one for at, one in enumerate(found) if one in found[:at]), None)
    if twice is not None:
        shown = ", ".join(f"{key}={value}" for key, value in twice.items())
        raise RecipeError(SWEEP, f"has {shown} twice", "keep it once; repetitions are seeds: {seed: [0, 1, 2]}")
    return found


def _axes(section: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, list[Any]]]:
    """(dotted key, values) of a grid, whether its keys are dotted or nested."""
    if not section:
        raise RecipeError(prefix.rstrip(".") or SWEEP, "varies nothing", SHAPE)
    for part, values in section.items():
        key = f"{prefix}{part}"
        if isinstance(values, Mapping):
            yield from _axes(values, f"{key}.")
        elif isinstance(values, list) and values:
            yield key, values
        else:
            raise RecipeError(f"{SWEEP}.{key}", f"is {values!r}, which is not a list of values", SHAPE)


def _refuse_many(count: int) -> None:
    if count > MAX_TRIALS:
        raise RecipeError(SWEEP, f"makes {count:,} trainings, more than {MAX_TRIALS:,}", "vary less at a time")


def _set_twice(keys: Sequence[str], overrides: Sequence[str]) -> list[Problem]:
    """An override of what is varied would be without effect."""
    given = {override.partition("=")[0]: override for override in overrides}
    fix = "remove one of the two"
    return [Problem(f"--set {given[key]}", "is varied by the sweep", fix) for key in keys if key in given]


def _names(combinations: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[str]:
    """One name a combination; file systems that ignore case tell them apart too."""
    names: list[str] = []
    taken: set[str] = set()
    for combination in combinations:
        plain = ",".join(f"{_short(key, keys)}={_safe(value)}" for key, value in combination.items())[:LONGEST_NAME]
        tries = itertools.chain([plain], (f"{plain}~{number}" for number in itertools.count(2)))
        name = next(name for name in tries if name.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def _safe(value: Any) -> str:
    """A value as part of a folder's name.

    Example:
        >>> _safe(1e-3), _safe({"arch": "unet", "width": 8}), _safe([64, 64]), _safe("../x"), _safe(None)
        ('0.001', 'arch-unet-width-8', '64-64', 'x', 'null')
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return re.sub(r"[^\w.+]+", "-", text, flags=re.ASCII).strip("-.") or "-"


def _short(key: str, keys: Sequence[str]) -> str:
    parts = key.split(".")
    for count in range(1, len(parts) + 1):
        tail = parts[-count:]
        if sum(other.split(".")[-count:] == tail for other in keys) == 1:
            return ".".join(tail)
    return key
