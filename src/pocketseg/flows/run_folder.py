"""The run folder: what lies where in it, who holds it, its log and its manifest."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pocketseg.data.layouts.listing import natural_key
from pocketseg.errors import PocketsegError, RunError
from pocketseg.files import disk_problem, write_atomically
from pocketseg.recipes import Recipe, load_recipe

log = logging.getLogger("pocketseg")

# Of a sweep: its run folders.
TRIALS = "trials"


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

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    def fold(self, fold: int) -> Path:
        return self.path / f"fold-{fold}"

    def stage(self, fold: int, stage: str) -> Path:
        return self.fold(fold) / stage

    def best(self, fold: int, stage: str) -> Path:
        return self.stage(fold, stage) / "best.safetensors"

    def scores_file(self, fold: int, part: str, stage: str | None = None) -> Path:
        """Of the last stage, or of an earlier one."""
        return self.fold(fold) / (stage or "") / f"cases-{part}.csv"

    def summary_file(self, fold: int, stage: str | None = None) -> Path:
        """Of the last stage, or of an earlier one."""
        return self.fold(fold) / (stage or "") / "summary.json"

    def packed_file(self, fold: int) -> Path:
        return self.fold(fold) / "model.pseg"

    def onnx_file(self, fold: int, stage: str | None = None) -> Path:
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
        if not folder.recipe_file.is_file() or not folder.manifest_file.is_file():
            raise RunError(
                str(path),
                "is no run folder (it has no recipe.yaml and manifest.json)",
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
            return content
        except (OSError, ValueError) as error:
            raise RunError(str(self.manifest_file), f"cannot be read ({error})", "restore it from a copy") from error

    def write_manifest(self, content: Mapping[str, Any]) -> None:
        write_atomically(self.manifest_file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @contextmanager
    def manifest_changed(self) -> Iterator[dict[str, Any]]:
        """The manifest, to be changed in place and written at the end; processes wait for one another.

        It is empty where there is none so far.
        """
        with (self.path / ".manifest.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            content = self.manifest() if self.manifest_file.exists() else {}
            yield content
            self.write_manifest(content)

    def folds(self) -> list[int]:
        """Folds that have been started."""
        return sorted(int(path.name.removeprefix("fold-")) for path in self.path.glob("fold-*"))

    def judged(self) -> list[int]:
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
            locks.enter_context(self._locked(".lock", fcntl.LOCK_EX if fold is None else fcntl.LOCK_SH))
            if fold is not None:
                locks.enter_context(self._locked(f".fold-{fold}.lock", fcntl.LOCK_EX))
            yield

    @contextmanager
    def led(self) -> Iterator[None]:
        """Hold the right to start trainings in this folder.

        Raises:
            RunError: another process has it; it is named.
        """
        with self._locked(".jobs.lock", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, name: str, kind: int) -> Iterator[None]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / name).open("a+", encoding="utf-8")
        except OSError as error:
            raise disk_problem(self.path, error) from error
        with handle:
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
            except OSError:
                handle.seek(0)
                holder = handle.read().strip() or "another process"
                raise RunError(
                    str(self.path), f"is in use by {holder}", "wait for it, or choose another --out"
                ) from None
            handle.truncate(0)
            started = datetime.now(UTC).isoformat(timespec="seconds")
            handle.write(f"process {os.getpid()} on {socket.gethostname()} since {started}")
            handle.flush()
            yield

    def is_empty(self) -> bool:
        """Whether there is nothing but locks."""
        return not self.path.is_file() and (
            not self.path.is_dir() or all(path.name.endswith(".lock") for path in self.path.iterdir())
        )

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Everything that is logged meanwhile goes to `log.txt` too, details included."""
        handler = logging.FileHandler(self.path / "log.txt", encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger = logging.getLogger("pocketseg")
        before = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
        try:
            yield
        except BaseException as error:
            # Who catches it prints it too; below INFO it is for the file alone.
            logger.debug("%s %s", type(error).__name__, error, exc_info=not isinstance(error, PocketsegError))
            raise
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)
            handler.close()


def judged_runs(path: Path) -> list[Path]:
    """The runs of a sweep that have results, in natural order of their names; a run folder is its own only one."""
    if not (path / TRIALS).is_dir():
        return [path]
    found = sorted((path / TRIALS).iterdir(), key=lambda run: natural_key(run.name))
    return [run for run in found if RunFolder(run).judged()]


def add_result(path: Path, row: Mapping[str, Any]) -> None:
    """Add a run's row to the table beside the runs; a row of the same name is replaced, new columns are added.

    Runs that end at the same moment wait for one another.
    """
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows: list[Mapping[str, Any]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [old for old in csv.DictReader(file) if old.get("name") != row["name"]]
        write_table(path, [*rows, row])


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows as CSV; a column that only some of them have stands where it first comes, after its left neighbour."""
    columns: list[str] = []
    for row in rows:
        at = 0
        for key in row:
            if key not in columns:
                columns.insert(at, key)
            at = columns.index(key) + 1
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def read_table(path: Path) -> tuple[list[str], list[list[str]]]:
    """Columns and cells of what `write_table` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    return columns, rows
