"""A search on disk: what was decided before the first training, written once. The rest is in its run folders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pocketseg.errors import RunError
from pocketseg.files import write_json
from pocketseg.runs.folder import SEARCH, WINNER, RunFolder
from pocketseg.search.halving import Schedule
from pocketseg.search.plan import Choice, Plan, Start
from pocketseg.search.profile import Profile
from pocketseg.search.shapes import Budget, Cost, Shape


@dataclass(frozen=True)
class SearchFolder:
    """Names of everything in the folder of a search."""

    path: Path

    @property
    def state_file(self) -> Path:
        """What was decided; while it is not there, nothing was trained."""
        return self.path / SEARCH

    @property
    def split_file(self) -> Path:
        """Of the winner; its test part is in no other split."""
        return self.path / "split.json"

    @property
    def search_split_file(self) -> Path:
        """Of the candidates."""
        return self.path / "search-split.json"

    @property
    def groups_file(self) -> Path:
        return self.path / "groups.csv"

    @property
    def plan_recipe(self) -> Path:
        return self.path / "plan.yaml"

    @property
    def plan_text(self) -> Path:
        return self.path / "plan.md"

    @property
    def table(self) -> Path:
        return self.path / "candidates.csv"

    @property
    def winner(self) -> RunFolder:
        return RunFolder(self.path / WINNER)

    @property
    def second(self) -> RunFolder:
        """Of the shape that was trained where no file of the winner was accepted."""
        return RunFolder(self.path / "second")

    @property
    def model(self) -> Path:
        """What was accepted."""
        return self.path / "model.pseg"

    @property
    def float_model(self) -> Path:
        return self.path / "model-f32.pseg"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def round(self, number: int) -> RunFolder:
        """The sweep of a round, counted from 1."""
        return RunFolder(self.path / f"round-{number}")

    def outcome(self, number: int) -> Path:
        """What a round found; while it is not there, the round is not at its end."""
        return self.path / f"round-{number}.json"


@dataclass(frozen=True)
class Search:
    """What was decided before the first training.

    Attributes:
        asked: by the user, but for what may change when a search goes on.
        plan: how the data are read and nets trained.
        budget: of the file.
        schedule: of candidates and steps.
        costs: of all shapes of the ladder.
        taken: those that are trained.
        left: why each of the others is not.
        epoch_steps: of an epoch of the candidates, and of the winner.
        folds: that each candidate is trained in.
        overrides: `key=value` of the recipe.
        profile: of the machine that the milliseconds are those of; None: the one that searches.
    """

    asked: Mapping[str, Any]
    plan: Plan
    budget: Budget
    schedule: Schedule
    costs: Mapping[Shape, Cost]
    taken: tuple[Shape, ...]
    left: Mapping[Shape, str]
    epoch_steps: tuple[int, int]
    folds: int = 1
    overrides: tuple[str, ...] = field(default=())
    profile: Profile | None = None

    @property
    def where(self) -> str:
        """Where its milliseconds are those of."""
        return "here" if self.profile is None else "by the device profile"

    @property
    def timed_on(self) -> str:
        return (
            "this machine, by the engine"
            if self.profile is None
            else f"another machine, by estimates of its profile: {self.profile.said}"
        )

    def write(self, path: Path) -> None:
        content = {
            "asked": dict(self.asked),
            "overrides": list(self.overrides),
            "plan": asdict(self.plan),
            "budget": asdict(self.budget),
            "schedule": asdict(self.schedule),
            "costs": {shape.name: asdict(cost) for shape, cost in self.costs.items()},
            "taken": [shape.name for shape in self.taken],
            "left": {shape.name: why for shape, why in self.left.items()},
            "epoch_steps": list(self.epoch_steps),
            "folds": self.folds,
            "profile": None if self.profile is None else json.loads(self.profile.text()),
        }
        write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> Search:
        """What `write` wrote.

        Raises:
            RunError: it is damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            plan = content["plan"]
            rounds = tuple((int(count), int(steps)) for count, steps in content["schedule"]["rounds"])
            first, full = content["epoch_steps"]
            return cls(
                content["asked"],
                Plan(
                    tuple(Choice(**each) for each in plan["choices"]), tuple(plan["notes"]), _start(plan.get("start"))
                ),
                Budget(**content["budget"]),
                Schedule(rounds, content["schedule"]["full_steps"]),
                {Shape.named(name): Cost(**cost) for name, cost in content["costs"].items()},
                tuple(map(Shape.named, content["taken"])),
                {Shape.named(name): why for name, why in content["left"].items()},
                (first, full),
                content["folds"],
                tuple(content["overrides"]),
                None if content.get("profile") is None else Profile.of(content["profile"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            fix = "restore it from a copy, or begin again in another folder"
            raise RunError(str(path), f"is damaged ({type(error).__name__}: {error})", fix) from error

    def refuse_other(self, asked: Mapping[str, Any], where: str) -> None:
        """Hold what is asked now against what was asked when the search began.

        Raises:
            RunError: it differs.
        """
        changed = [f"{key} {self.asked.get(key)} → {asked[key]}" for key in asked if asked[key] != self.asked.get(key)]
        if changed:
            what = f"was begun with something else: {', '.join(changed)}"
            raise RunError(where, what, "go on with the same options, or choose another --out")


def _start(content: Mapping[str, Any] | None) -> Start | None:
    return None if content is None else Start(content["weights"], content["net"], tuple(content["shapes"]))


def names(shapes: Sequence[Shape]) -> list[str]:
    return [shape.name for shape in shapes]
