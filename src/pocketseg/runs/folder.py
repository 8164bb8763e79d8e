"""The run folder: what lies where in it, who holds it, its log and its manifest."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketseg.data.layouts.listing import natural_key
from pocketseg.errors import EnvironmentProblem, PocketsegError, RunError
from pocketseg.files import PART, disk_problem, locked, make_folder, open_own, write_json
from pocketseg.names import printable
from pocketseg.recipes import Recipe, load_recipe
from pocketseg.training.stage_folder import StageFolder

log = logging.getLogger("pocketseg")

# Of a sweep: its run folders.
TRIALS = "trials"
# Of a search, what it decided before its first training; its winner is a run folder.
SEARCH, WINNER = "search.json", "winner"
# In the manifest of a run that is made of the weights of another program: where they came from.
IMPORTED = "imported"
# What a training has written before its manifest says that it has begun.
FIRST = ("log.txt", "recipe.yaml", "split.json")


@dataclass(frozen=True)
class RunFolder:
    """Names of everything in a run folder."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def manifest_file(self) -> Path:
        return self.path / "manifest.json"

    @property
    def split_file(self) -> Path:
        return self.path / "split.json"

    def fold(self, fold: int) -> Path:
        return self.path / f"fold-{fold}"

    def stage(self, fold: int, stage: str) -> StageFolder:
        return StageFolder(self.fold(fold) / stage)

    def scores_file(self, fold: int, part: str, stage: str | None = None) -> Path:
        """Of the last stage, or of an earlier one."""
        return self.fold(fold) / (stage or "") / f"cases-{part}.csv"

    def summary_file(self, fold: int, stage: str | None = None) -> Path:
        """Of the last stage, or of an earlier one."""
        return self.fold(fold) / (stage or "") / "summary.json"

    @property
    def ensemble(self) -> Path:
        """What all folds make together."""
        return self.path / "ensemble"

    @property
    def ensemble_scores_file(self) -> Path:
        """Of the cases that no fold has seen."""
        return self.ensemble / "cases-fixed_test.csv"

    @property
    def ensemble_summary_file(self) -> Path:
        return self.ensemble / "summary.json"

    def packed_file(self, fold: int, stage: str | None = None) -> Path:
        """Of the last stage, or of an earlier one."""
        return self.fold(fold) / f"{stage or 'model'}.pseg"

    def gate_file(self, fold: int) -> Path:
        """What the gate found, where the last stage is quantized."""
        return self.fold(fold) / "gate.json"

    def onnx_file(self, fold: int, stage: str | None = None) -> Path:
        """Of the last stage, or of an earlier one."""
        return self.fold(fold) / f"{stage or 'model'}.onnx"

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """A folder that holds a run.

        Raises:
            RunError: there is none.
        """
        folder = cls(Path(path))
        if (folder.path / TRIALS).is_dir():
            raise RunError(str(path), "is the folder of a sweep", f"give one of its runs, in {folder.path / TRIALS}")
        if (folder.path / SEARCH).is_file():
            raise RunError(str(path), "is the folder of a search", f"give its model.pseg, or {folder.path / WINNER}")
        if not folder.recipe_file.is_file() or not folder.manifest_file.is_file():
            raise RunError(
                str(path),
                "is not a run folder (it has no recipe.yaml and manifest.json)",
                "give the --out of a training",
            )
        return folder

    def recipe(self) -> Recipe:
        return load_recipe(self.recipe_file)

    def manifest(self) -> dict[str, Any]:
        """What is known of the run.

        Raises:
            RunError: the file is damaged.
        """
        try:
            content: dict[str, Any] = json.loads(self.manifest_file.read_text(encoding="utf-8"))
            missing = [name for name in ("pocketseg", "libraries", "data", "hardware") if not content.get(name)]
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise RunError(str(self.manifest_file), f"cannot be read ({error})", "restore it from a copy") from error
        if missing:
            what = f"does not say what it must ({', '.join(missing)})"
            raise RunError(str(self.manifest_file), what, "restore it from a copy")
        return content

    @property
    def is_imported(self) -> bool:
        """Whether it was made of weights alone, without any data: it has one fold, and no split."""
        return IMPORTED in self.manifest()

    @contextmanager
    def manifest_changed(self) -> Iterator[dict[str, Any]]:
        """The manifest, to be changed in place and written at the end; processes wait for one another.

        It is empty where there is none so far.
        """
        with locked(self.path / ".manifest.lock"):
            content = self.manifest() if self.manifest_file.exists() else {}
            yield content
            write_json(self.manifest_file, content)

    def folds(self) -> list[int]:
        """Folds that have been started."""
        names = [path.name for path in self.path.glob("fold-*")]
        return sorted(int(name.removeprefix("fold-")) for name in names if re.fullmatch(r"fold-[0-9]{1,9}", name))

    def evaluated(self) -> list[int]:
        """Folds that have been trained to the end and scored."""
        return [fold for fold in self.folds() if self.summary_file(fold).exists()]

    @contextmanager
    def held(self, fold: int | None = None) -> Iterator[None]:
        """Hold the folder for the length of a training, or one fold of it: folds may be trained side by side.

        The operating system's lock goes with the process, so a killed run leaves none behind.

        Raises:
            RunError: another process holds it; it is named.
        """
        with ExitStack() as locks:
            locks.enter_context(self._alone(".lock", shared=fold is not None))
            if fold is not None:
                locks.enter_context(self._alone(f".fold-{fold}.lock"))
            yield

    @contextmanager
    def led(self) -> Iterator[None]:
        """Hold the right to start trainings in this folder.

        Raises:
            RunError: another process has it; it is named.
        """
        with self._alone(".jobs.lock"):
            yield

    @contextmanager
    def _alone(self, name: str, *, shared: bool = False) -> Iterator[None]:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.path / name, wait=False, shared=shared))
            except BlockingIOError as error:
                what = f"is in use by {error.strerror}"
                raise RunError(str(self.path), what, "wait for it, or choose another --out") from None
            yield

    def is_empty(self) -> bool:
        """Whether there is nothing, or only what a training left that was ended before it began."""
        if not self.path.is_dir():
            return not os.path.lexists(self.path)
        names = [path.name for path in self.path.iterdir()]
        left = [name for name in names if not name.endswith((".lock", PART))]
        return not left or (self.was_begun() and set(left) <= set(FIRST))

    def was_begun(self) -> bool:
        """Whether a training has ever held this folder, whatever became of it."""
        return any(self.path.glob(".*.lock")) or (self.path / ".lock").exists()

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Everything that is logged meanwhile goes to `log.txt` too, details included.

        Raises:
            EnvironmentProblem: it cannot be written, at the beginning or later.
        """
        make_folder(self.path)
        handler = _LogFile(self.path / "log.txt")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("pocketseg")
        before = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
        try:
            yield
        except BaseException as error:
            with suppress(EnvironmentProblem):
                # Who catches it prints it too; below INFO it is for the file alone.
                logger.debug("%s %s", type(error).__name__, error, exc_info=not isinstance(error, PocketsegError))
            raise
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)
            handler.close()


class _LogFile(logging.Handler):
    """Lines at the end of a file, each written at once: several processes may, and nothing waits in a buffer."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        try:
            self.file = open_own(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise disk_problem(path, error) from error

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # What goes on in the next line is moved in: no name forges a record or steers the terminal.
            text = printable(self.format(record), keep="\n").replace("\n", "\n  ")
            line = memoryview(f"{text}\n".encode())
            while line:
                line = line[os.write(self.file, line) :]
        except OSError as error:
            raise disk_problem(self.path, error) from error

    def close(self) -> None:
        os.close(self.file)
        super().close()


def evaluated_runs(path: Path) -> list[Path]:
    """The runs of a sweep that have results, in natural order of their names; a run folder is its own only one."""
    if not (path / TRIALS).is_dir():
        return [path]
    found = sorted((path / TRIALS).iterdir(), key=lambda run: natural_key(run.name))
    return [run for run in found if RunFolder(run).evaluated()]
