"""Who is informed about a training: the log, TensorBoard, and whoever called."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pocketseg.errors import EnvironmentProblem, missing_package, near
from pocketseg.experiments.tensorboard import Examples, TensorBoard

if TYPE_CHECKING:
    from pocketseg.training.loop import Listener

# A child of the package's log, so that a terminal with a live table can leave its lines out.
log = logging.getLogger("pocketseg.epochs")

LOGS = ("tensorboard",)


def check_logs(logs: Sequence[str]) -> None:
    """Refuse records that cannot be written, before anything is trained.

    Raises:
        EnvironmentProblem: an unknown name, or a package that is not installed.
    """
    for name in logs:
        if name not in LOGS:
            raise EnvironmentProblem(f"--log {name}", "is not a record", near(name, LOGS))
        try:
            import torch.utils.tensorboard  # noqa: F401
        except ImportError as error:
            raise missing_package("tensorboard", "tensorboard", error) from error


class EpochLines:
    """A line of the log for each epoch."""

    def __init__(self, fold: int) -> None:
        self.fold = fold

    def stage_begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        self.stage, self.epochs = stage, epochs

    def step_ends(
        self, epoch: int, step: int, images: int, loss: float, parts: Mapping[str, float], rate: float
    ) -> None:
        pass

    def epoch_ends(self, row: Mapping[str, float]) -> None:
        when = f"epoch {int(row['epoch'])}/{self.epochs}" if self.epochs else "as it starts"
        numbers = "  ".join(f"{key} {value:.4g}" for key, value in row.items() if key != "epoch")
        log.info("fold %d, stage %s, %s  %s", self.fold, self.stage, when, numbers)


class Several:
    """Listeners that are called one after another."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def stage_begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        for listener in self.listeners:
            listener.stage_begins(stage, epoch, epochs, steps)

    def step_ends(
        self, epoch: int, step: int, images: int, loss: float, parts: Mapping[str, float], rate: float
    ) -> None:
        for listener in self.listeners:
            listener.step_ends(epoch, step, images, loss, parts, rate)

    def epoch_ends(self, row: Mapping[str, float]) -> None:
        for listener in self.listeners:
            listener.epoch_ends(row)


class Labelled(Several):
    """A listener that is informed what a stage belongs to."""

    def __init__(self, label: str, listener: Listener) -> None:
        super().__init__(listener)
        self.label = label

    def stage_begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        super().stage_begins(f"{self.label}, {stage}", epoch, epochs, steps)


@contextmanager
def listeners(
    fold: int, folder: Path, logs: Sequence[str], examples: Examples, listener: Listener | None
) -> Iterator[Listener]:
    """Everybody who is informed about the training of a stage.

    Args:
        fold: its number.
        folder: of the stage.
        logs: see `LOGS`.
        examples: draws example cases with the present net.
        listener: of the caller.
    """
    with ExitStack() as open_records:
        listeners: list[Listener] = [EpochLines(fold)]
        if "tensorboard" in logs:
            board = TensorBoard(folder / "tensorboard", examples)
            open_records.callback(board.close)
            listeners.append(board)
        if listener is not None:
            listeners.append(listener)
        yield Several(*listeners)
