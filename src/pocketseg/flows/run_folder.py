"""The run folder: what lies where in it, who holds it, its log and its manifest."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pocketseg.errors import RunError
from pocketseg.files import disk_problem, write_atomically
from pocketseg.recipes import Recipe, load_recipe

log = logging.getLogger("pocketseg")


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

    def scores_file(self, fold: int, part: str) -> Path:
        return self.fold(fold) / f"cases-{part}.csv"

    def summary_file(self, fold: int) -> Path:
        return self.fold(fold) / "summary.json"

    def onnx_file(self, fold: int, stage: str | None = None) -> Path:
        return self.fold(fold) / f"{stage or 'model'}.onnx"

    @classmethod
    def existing(cls, path: str | Path) -> RunFolder:
        """A folder that holds a run.

        Raises:
            RunError: there is none.
        """
        folder = cls(Path(path))
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

    def folds(self) -> list[int]:
        """Folds that have been started."""
        return sorted(int(path.name.removeprefix("fold-")) for path in self.path.glob("fold-*"))

    def judged(self) -> list[int]:
        """Folds that have been trained to the end and scored."""
        return [fold for fold in self.folds() if self.summary_file(fold).exists()]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for the length of a training.

        The operating system's lock goes with the process, so a killed run leaves none behind.

        Raises:
            RunError: another process holds it; it is named.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise disk_problem(self.path, error) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)
            handler.close()


def add_result(path: Path, row: Mapping[str, Any]) -> None:
    """Add a run's row to the table beside the runs; a row of the same run is replaced, new columns are added.

    Runs that end at the same moment wait for one another.
    """
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        rows: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        rows = [old for old in rows if old.get("run") != row["run"]] + [dict(row)]
        columns = list(dict.fromkeys(key for each in rows for key in each))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(path, text.getvalue())
