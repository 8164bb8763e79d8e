"""A stage's training as TensorBoard shows it: scalars of steps and epochs, and how some cases come out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# So many times in a training the examples are drawn.
DRAWINGS = 10

# Names and RGB pictures, uint8 (h, w, 3).
Examples = Callable[[], Iterator[tuple[str, NDArray[np.uint8]]]]


class TensorBoard:
    """A listener that writes event files.

    `step/…` counts steps over all epochs, `epoch/…` and the pictures count epochs from 1. What a resumed training does
    again has the same values, and so falls on the same points.

    Args:
        folder: of the event files.
        examples: draws the example cases with the present net.
    """

    def __init__(self, folder: Path, examples: Examples) -> None:
        self.folder, self.examples = folder, examples
        self.writer: Any = None

    def stage_begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.epochs, self.steps = epochs, steps
        self.writer = SummaryWriter(self.folder)
        self.images, self.began = 0, time.perf_counter()

    def step_ends(
        self, epoch: int, step: int, images: int, loss: float, parts: Mapping[str, float], rate: float
    ) -> None:
        self.images += images
        at = epoch * self.steps + step
        for name, value in {"loss": loss, **parts, "lr": rate}.items():
            self.writer.add_scalar(f"step/{name}", value, at)

    def epoch_ends(self, row: Mapping[str, float]) -> None:
        epoch = int(row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(f"epoch/{name}", value, epoch)
        self.writer.add_scalar("epoch/images_per_s", self.images / (time.perf_counter() - self.began), epoch)
        if epoch % max(1, self.epochs // DRAWINGS) == 0 or epoch >= self.epochs:
            for name, picture in self.examples():
                self.writer.add_image(f"examples/{name}", picture, epoch, dataformats="HWC")
        self.writer.flush()
        self.images, self.began = 0, time.perf_counter()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
