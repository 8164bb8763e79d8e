"""The training of one stage: epochs, validation, checkpoints, and stopping in good order.

Everything random derives from (seed, epoch, position), and all that training knows between two steps is a
`TrainingState` and the tensors of net and optimizer. So a stage can be left after any step and taken up
again with the same bytes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor

from pocketseg.data import Case
from pocketseg.errors import Interrupted, ModelFileError, NotFiniteError, RunError, TrainingError
from pocketseg.files import rename_file, write_atomically
from pocketseg.layers import grid_of, overlaps
from pocketseg.metrics import class_overlaps, with_empty
from pocketseg.nets import skeleton
from pocketseg.nets.taps import place_shapes
from pocketseg.pipeline import Forward
from pocketseg.pipeline.postprocess import threshold_or_argmax
from pocketseg.quant import TernaryTanhActivation
from pocketseg.recipes import StageSection
from pocketseg.recipes.schema import AugmentSection, LossSection
from pocketseg.tables import csv_text
from pocketseg.text import counted
from pocketseg.training.augment import augment, draw, move_maps, sample_generator
from pocketseg.training.average import WeightAverage
from pocketseg.training.checkpoint import (
    pack_optimizer,
    previous,
    read_checkpoint,
    rotate_checkpoint,
    unpack_optimizer,
    write_checkpoint,
)
from pocketseg.training.collapse import CAUSES, collapse
from pocketseg.training.deep import Supervised, deep_places, supervised_loss
from pocketseg.training.device import Precision, autocast
from pocketseg.training.hints import Student
from pocketseg.training.losses import segmentation_loss
from pocketseg.training.mixing import Gift, blend, draw_gift, opacity, replace
from pocketseg.training.model import Model, torch_forward
from pocketseg.training.objective import DistillationObjective, Inputs, labels_loss
from pocketseg.training.optim import add_kernel_l2, make_optimizer, rate_factor, should_stop
from pocketseg.training.own_augment import OwnAugmentation
from pocketseg.training.parts import freeze, hold, rate_scales
from pocketseg.training.samples import AUGMENT, DROPOUT, MIX, OWN, Samples
from pocketseg.training.stage_folder import StageFolder

log = logging.getLogger("pocketseg")

# A long epoch is also saved in the middle.
SECONDS_BETWEEN_SAVES = 600
TIMINGS = "epoch,train_s,validation_s,images_per_s"
# Added to the position of a sample: that of the sample it takes a part of, which no sample of an epoch has.
GIVER = 2**40
VALIDATION_BATCH = 16
# Of a sample, in calls of the net on one: forward, and twice as much backward.
COST_OF_TRAINING = 3
# Columns of history.csv; the parts of the loss stand between them, by name.
FIRST, LAST = ("epoch", "lr", "loss"), ("val_loss", "val_dice", "val_iou", "val_hint")
# These are means over all samples, the labels' parts over those that have a mask.
OVER_ALL = ("loss", "soft", "hint")


class Listener(Protocol):
    """Who wants to know how a stage is doing; all calls come from the main process."""

    def stage_begins(self, stage: str, epoch: int, epochs: int, steps: int) -> None: ...
    def step_ends(
        self, epoch: int, step: int, images: int, loss: float, parts: Mapping[str, float], rate: float
    ) -> None: ...
    def epoch_ends(self, row: Mapping[str, float]) -> None: ...


class Measure(Protocol):
    """What else is measured on validation cases each `every` epochs (0: never)."""

    @property
    def every(self) -> int: ...
    def of_case(
        self, case: Case, reference: NDArray[np.uint8], mask: NDArray[np.uint8], probability: NDArray[np.float32]
    ) -> list[Any]: ...
    def means(self, rows: Sequence[Any]) -> dict[str, float]: ...


@dataclass
class StopRequest:
    """Set by a signal handler, obeyed after the current step."""

    signal_number: int = 0


def steps_of_epoch(images: int, batch: int) -> int:
    """Batches of an epoch; a single image left over joins the batch before, since a norm cannot learn from one pixel.

    Example:
        >>> [steps_of_epoch(images, 4) for images in (1, 4, 5, 6)]
        [1, 1, 1, 2]
    """
    whole, rest = divmod(images, batch)
    return max(1, whole + (rest > 1 or (batch == 1 and rest > 0)))


@dataclass
class TrainingState:
    """Where a stage stands, in plain numbers; JSON keeps Python floats exactly.

    Attributes:
        epoch, step: how many epochs are done, and how many steps of the next.
        steps: of all epochs.
        sums: over the images of these steps.
        history: a row an epoch, whose `epoch` counts from 1; 0 is the net as it starts.
        best_epoch: the one whose weights are kept, counted as in the history; -1 before any.
        best_score: the highest of those that were validated.
    """

    epoch: int = 0
    step: int = 0
    steps: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = -1
    best_score: float = -math.inf

    def scores(self, best_by: str, after: int = 0) -> list[float]:
        """The validation score of each epoch behind the first `after` that has one, higher is better."""
        sign = -1 if best_by in ("loss", "hint") else 1
        return [sign * row[f"val_{best_by}"] for row in self.history[after:] if f"val_{best_by}" in row]


@dataclass
class Views:
    """Augmented samples on the device, all of them planes of one size.

    Attributes:
        images: (n, c, h, w).
        masks: class indices (n, h, w), or planes (n, k, h, w).
        empty: which samples had no foreground before they were augmented; asked for `paste` alone.
        maps: the teacher's probabilities (n, k, h, w), where they come from files.
        weights: of pixels (n, 1, h, w), where the loss has some.
        shares: what each class covers (n, k, h, w), where masks are soft.
    """

    images: Tensor
    masks: Tensor
    empty: list[bool]
    maps: Tensor | None
    weights: Tensor | None
    shares: Tensor | None

    def take(self, others: Views, rows: Sequence[int], gifts: Sequence[Gift]) -> None:
        """Put parts of other samples into those of the given rows, in place."""
        pairs: list[tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Tensor | None, Tensor | None]] = [
            (blend, self.images, others.images),
            (replace, self.masks, others.masks),
            (blend, self.maps, others.maps),
            (blend, self.weights, others.weights),
            (replace, self.shares, others.shares),
        ]
        for at, (row, gift) in enumerate(zip(rows, gifts, strict=True)):
            taken = opacity(gift, others.masks[at])
            for merge, ours, theirs in pairs:
                if ours is not None and theirs is not None:
                    ours[row] = merge(ours[row], theirs[at], taken)


@dataclass
class StageTraining:
    """One stage of one fold.

    Attributes:
        stage, augment: what to do.
        model: net and pipeline, freshly made or taken from an earlier stage.
        train: where batches come from.
        validation: cases that decide which epoch is best.
        folder: where checkpoints and history go.
        accelerator: device and processes.
        precision: of the forward pass.
        listener: informed about progress, or None.
        stop: asked after each step.
        identity: what a checkpoint must agree with to be resumed from.
        objective: what it learns from a teacher, or None.
        measure: what is measured beside loss, Dice and IoU, or None.
        own: the user's function that changes samples first, or None.
    """

    stage: StageSection
    augment: AugmentSection
    model: Model
    train: Samples
    validation: Sequence[Case]
    folder: Path
    accelerator: Accelerator
    precision: Precision
    seed: int
    stop: StopRequest
    listener: Listener | None = None
    identity: str = ""
    objective: DistillationObjective | None = None
    measure: Measure | None = None
    own: OwnAugmentation | None = None

    def __post_init__(self) -> None:
        device = self.accelerator.device
        self.frozen = freeze(self.model.net.core, self.stage.freeze)
        self.student = self._student()
        self.deep = self._supervised()
        whole = self.student or self.deep or self.model.net
        # Without it the processes would wait for gradients that never come: behind the last hint, of frozen layers.
        unused = self.student is not None and not self.student.logits_learn
        unused = unused or any(each.epochs is not None for each in self.frozen)
        self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=unused)
        whole.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        scales = rate_scales(self.model.net.core, self.stage.optimizer.lr_scale)
        optimizer = make_optimizer(whole, self.stage.optimizer, scales)
        self.net, self.optimizer = self.accelerator.prepare(whole, optimizer)
        self.inner_optimizer: torch.optim.Optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        average = self.stage.average
        self.average = None if average is None else WeightAverage(self.model.net.core, average.decay)
        self.position = TrainingState()
        self.batch: Sequence[Case] = ()
        self.warned = False
        self.saved_at = time.monotonic()

    def _student(self) -> Student | None:
        """The net with its hints, where the stage has some."""
        if self.objective is None or self.objective.hints is None:
            return None
        learns = self.stage.loss is not None or self.objective.soft is not None
        return Student(self.model.net, self.objective.hints, self.seed, logits_learn=learns)

    def _supervised(self) -> Supervised | None:
        """The net with heads on its decoder, where the stage has some."""
        section, pipeline = self.stage.deep_supervision, self.model.pipeline
        if section is None:
            return None
        # Of the float net, whose layers have the names of the quantized ones.
        core = skeleton(in_channels=pipeline.channels, out_channels=pipeline.logits, **self.model.net_options)
        places = deep_places(core, section.levels)
        shapes = place_shapes(core, places, (pipeline.channels, *pipeline.net_size))
        channels = [shapes[place][0] for place in places]
        return Supervised(self.model.net, places, channels, pipeline.logits, self.seed)

    @cached_property
    def validate_every(self) -> int:
        """Epochs between two validations; left to us, so many that training takes at least as much work."""
        if self.stage.validate_every != "auto":
            return self.stage.validate_every
        calls = sum(map(self.train.calls, self.validation))
        samples = self.train.length(self.augment.copies)
        every = max(1, math.ceil(calls / (COST_OF_TRAINING * samples)))
        log.info(
            "stage %s: an epoch trains on %s, validation takes %s of the net: every %s",
            self.stage.name, counted(samples, "sample"), counted(calls, "call"),
            "epoch is validated" if every == 1 else f"{every} epochs one is validated",
        )  # fmt: skip
        return every

    @property
    def last(self) -> Path:
        return StageFolder(self.folder).last

    @property
    def best(self) -> Path:
        return StageFolder(self.folder).best

    def run(self) -> None:
        """Train to the end, or until it shall stop.

        Raises:
            Interrupted: a signal came; the state is saved.
            TrainingError: the loss is not finite; the last good state is kept.
        """
        images = self.train.length(self.augment.copies)
        steps = steps_of_epoch(images, self.stage.batch)
        if self.listener and self.accelerator.is_main_process:
            self.listener.stage_begins(self.stage.name, self.position.epoch, self.stage.epochs, steps)
        resumed_at = self.position.epoch
        if self.stage.epochs == 0 and not self.position.history:
            found = self.validate()
            self._record({"epoch": 0.0, "lr": 0.0, "loss": found["val_loss"], **found})
        while not self._finished():
            began = time.perf_counter()
            self._epoch(steps)
            trained = time.perf_counter()
            self._end_epoch(began, trained, images, steps)
        self._warn(ended=True)
        if self.position.epoch < self.stage.epochs and self.accelerator.is_main_process:
            log.info(
                "stage %s was stopped after epoch %d of %d, since validation no longer improves (early_stop)",
                self.stage.name, self.position.epoch, self.stage.epochs,
            )  # fmt: skip
        if 0 < self.position.best_epoch <= resumed_at < self.position.epoch and self.accelerator.is_main_process:
            self._say_best_is_old(resumed_at)

    def _say_best_is_old(self, resumed_at: int) -> None:
        """A training that went on, or for longer, and found nothing better, has the model that it had."""
        first, last = resumed_at + 1, self.position.epoch
        since = f"epoch {last} is" if first == last else f"epochs {first} to {last} are"
        log.info(
            "stage %s: %s not better on validation (%s) than epoch %d, whose net remains the stage's model",
            self.stage.name, since, self.stage.best_by, self.position.best_epoch,
        )  # fmt: skip

    def _finished(self) -> bool:
        scores = self.position.scores(self.stage.best_by, self.stage.ignore_epochs)
        return self.position.epoch >= self.stage.epochs or should_stop(scores, self.stage.early_stop)

    def _epoch(self, steps: int) -> None:
        """The steps of an epoch that are not done yet."""
        self.net.train()
        epoch = self.position.epoch
        hold(self.frozen, epoch)
        for module in self.net.modules():
            if isinstance(module, TernaryTanhActivation):
                module.begin_epoch(epoch, self.stage.epochs)
        order = self.train.order(epoch, copies=self.augment.copies, balanced=self.stage.sampling == "balanced")
        for step in range(self.position.step, steps):
            first = step * self.stage.batch
            last = len(order) if step == steps - 1 else first + self.stage.batch
            self._step(order[first:last], first, step / steps)
            self.position.step = step + 1
            if signal_number := self._asked_to_stop():
                self.save()
                raise Interrupted(
                    signal_number,
                    str(self.folder),
                    "stopped; the state is saved",
                    "go on with the same command and --resume",
                )
            if time.monotonic() - self.saved_at > SECONDS_BETWEEN_SAVES:
                self.save()

    def _asked_to_stop(self) -> int:
        """The signal that came, to any of the processes: all of them stop after the same step."""
        if self.accelerator.num_processes == 1:
            return self.stop.signal_number
        here = torch.tensor([self.stop.signal_number], device=self.accelerator.device)
        return int(self.accelerator.gather(here).max())

    def _step(self, batch: Sequence[Case], first: int, progress: float) -> None:
        rate = self._rate(progress)
        for group in self.inner_optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self.batch = batch
        inputs = self._inputs(batch, first)
        self._seed_dropout(first)
        loss, parts = self._objective(inputs)
        self._count(batch, first, loss, parts)
        self.accelerator.backward(loss)
        if self.stage.optimizer.l2_kernel:
            add_kernel_l2(self.inner_optimizer, self.stage.optimizer.l2_kernel)
        if self.stage.optimizer.clip_norm:
            self.accelerator.clip_grad_norm_(self.net.parameters(), self.stage.optimizer.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.position.steps += 1
        if self.average:
            self.average.update(self.position.steps)

    def _objective(self, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimized, and its parts before their weights."""
        with autocast(self.accelerator.device, self.precision):
            out = self.net(inputs.images)
        if self.objective is None:
            assert self.stage.loss is not None
            if self.deep is not None and self.stage.deep_supervision is not None:
                logits, others = out
                return supervised_loss(logits, others, inputs, self.stage.loss, self.stage.deep_supervision)
            return labels_loss(out, inputs, self.stage.loss)
        logits, maps = out if self.student else (out, [])
        return self.objective.loss(logits, maps, inputs, self.stage.loss)

    def _rate(self, progress: float) -> float:
        """The learning rate at a share of the present epoch."""
        position = self.position
        factor = rate_factor(
            self.stage.schedule,
            epoch=position.epoch,
            progress=progress,
            epochs=self.stage.epochs,
            scores=position.scores(self.stage.best_by),
        )
        return self.stage.optimizer.lr * factor

    def _inputs(self, batch: Sequence[Case], first: int) -> Inputs:
        """This process's share of a batch, augmented, on the device."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        whole = list(batch)
        # Every process needs equally many samples; the first ones stand in for what is missing.
        whole += whole[: -len(whole) % world] if len(whole) >= world else whole[:1] * (world - len(whole))
        at = range(rank, len(whole), world)
        cases, positions = [whole[index] for index in at], [first + index for index in at]
        views = self._views(cases, positions)
        if self.augment.cutmix or self.augment.paste:
            self._mix(views, cases, positions)
        labelled = [row for row, case in enumerate(cases) if case.masks]
        here, everywhere = len(labelled) / len(cases), sum(bool(case.masks) for case in whole) / len(whole)
        share = here / everywhere if everywhere else 1.0
        return Inputs(
            views.images.contiguous(memory_format=torch.channels_last), views.masks, labelled, share,
            views.maps, None if views.weights is None else views.weights[:, 0], views.shares,
        )  # fmt: skip

    def _views(self, cases: Sequence[Case], positions: Sequence[int]) -> Views:
        """Cases as samples at their positions of the epoch, augmented."""
        epoch, device = self.position.epoch, self.accelerator.device
        each = list(zip(cases, positions, strict=True))
        pairs = [self._sample(case, position) for case, position in each]
        images = torch.cat([image for image, _ in pairs]).to(device)
        masks = torch.cat([mask for _, mask in pairs]).to(device)
        height, width = images.shape[2:]
        drawn = [
            draw(sample_generator(AUGMENT, self.seed, epoch, position), self.augment, height, width)
            for position in positions
        ]

        def moved(planes: Callable[[Sequence[Case], int, int], Tensor]) -> Tensor:
            found = [planes([case], epoch, position) for case, position in each]
            return move_maps(torch.cat(found).to(device), drawn, self.augment)

        empty = (masks == 0).flatten(1).all(1).tolist() if self.augment.paste else [False] * len(masks)
        images, masks = augment(images, masks, drawn, self.augment)
        return Views(
            images, masks, empty,
            maps=None if self.train.maps is None else moved(self.train.teacher_maps),
            weights=None if self.train.weighting is None else moved(self.train.pixel_weights),
            shares=moved(self.train.shares) if self.stage.soft_masks else None,
        )  # fmt: skip

    def _mix(self, views: Views, cases: Sequence[Case], positions: Sequence[int]) -> None:
        """Let samples take parts of others, in place; what has no mask neither takes nor gives."""
        size = (views.masks.shape[-2], views.masks.shape[-1])
        taken = []
        for row, (case, position) in enumerate(zip(cases, positions, strict=True)):
            if case.masks:
                rng = sample_generator(MIX, self.seed, self.position.epoch, position)
                gift = draw_gift(
                    rng, self.augment, self.train.part, self.train.with_objects, empty=views.empty[row], size=size
                )
                if gift is not None:
                    taken.append((row, gift, position))
        if taken:
            givers = [gift.giver for _, gift, _ in taken]
            others = self._views(givers, [position + GIVER for *_, position in taken])
            views.take(others, [row for row, *_ in taken], [gift for _, gift, _ in taken])

    def _sample(self, case: Case, position: int) -> tuple[Tensor, Tensor]:
        """Image (1, c, h, w) and mask (1, [k, ]h, w) of a case, changed by the user's function where there is one."""
        images, masks = self.train.batch([case], self.position.epoch, position)
        if self.own is None:
            return images, masks
        rng = sample_generator(OWN, self.seed, self.position.epoch, position)
        image, mask = self.own(images[0].numpy(), masks[0].numpy(), rng, case.image.where)
        return torch.from_numpy(image)[None], torch.from_numpy(mask)[None]

    def _seed_dropout(self, first: int) -> None:
        key = (DROPOUT, self.seed, self.position.epoch, first, self.accelerator.process_index)
        torch.manual_seed(int(sample_generator(*key).integers(2**62)))

    def _count(self, batch: Sequence[Case], first: int, loss: Tensor, parts: Mapping[str, Tensor]) -> None:
        """Add the losses of a step to the epoch's sums; stop where one is not finite."""
        names = ["loss", *parts]
        values = torch.stack([loss, *parts.values()]).detach()
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, "mean")
        numbers = values.tolist()
        if not all(map(math.isfinite, numbers)):
            raise self._not_finite(", ".join(f"{name}={value}" for name, value in zip(names, numbers, strict=True)))
        counts = {"images": len(batch), "labelled": sum(bool(case.masks) for case in batch)}
        for name, value in zip(names, numbers, strict=True):
            count = counts["images" if name in OVER_ALL else "labelled"]
            self.position.sums[name] = self.position.sums.get(name, 0.0) + value * count
        for name, count in counts.items():
            self.position.sums[name] = self.position.sums.get(name, 0.0) + count
        if self.listener and self.accelerator.is_main_process:
            step, rate = first // self.stage.batch + 1, self.inner_optimizer.param_groups[0]["lr"]
            shown = dict(zip(parts, numbers[1:], strict=True))
            self.listener.step_ends(self.position.epoch, step, len(batch), numbers[0], shown, rate)

    def _not_finite(self, shown: str) -> TrainingError:
        """The error that names the files of the batch in which training broke; nothing of it is saved."""
        files = ", ".join(case.image.where for case in self.batch)
        return TrainingError(
            f"stage {self.stage.name}, epoch {self.position.epoch + 1}, batch of {files}",
            f"the loss is not finite ({shown})",
            "lower optimizer.lr or set optimizer.clip_norm=1, and look at these files",
        )

    def _end_epoch(self, began: float, trained: float, images: int, steps: int) -> None:
        """Validate, and keep what was found."""
        position = self.position
        sums = dict(position.sums)
        count, labelled = sums.pop("images"), sums.pop("labelled")
        row = {"epoch": position.epoch + 1.0, "lr": self._rate((steps - 1) / steps)}
        row |= {name: total / (count if name in OVER_ALL else labelled) for name, total in sums.items()}
        epoch = position.epoch + 1
        try:
            if epoch % self.validate_every == 0 or epoch == self.stage.epochs:
                row |= self.validate(measured=self._measures(epoch))
        except NotFiniteError:
            raise self._not_finite("a validation image gives NaN, after the last step of the epoch") from None
        for name in ("val_loss", "val_hint"):
            if not math.isfinite(row.get(name, 0.0)):
                raise self._not_finite(f"{name}={row[name]}, after the last step of the epoch")
        self._record(row)
        if self.accelerator.is_main_process:
            self._write_timing(int(row["epoch"]), trained - began, time.perf_counter() - trained, images)

    def _record(self, row: dict[str, float]) -> None:
        """Keep an epoch: in the history, as the stage's model where it is to be kept, and in the checkpoint."""
        position = self.position
        position.history.append(row)
        early = 0 < row["epoch"] <= self.stage.ignore_epochs
        validated = f"val_{self.stage.best_by}" in row and not early
        score = position.scores(self.stage.best_by)[-1] if validated else -math.inf
        kept = self.stage.keep == "last" or (validated and (score > position.best_score or position.best_epoch < 0))
        position.best_score = max(position.best_score, score)
        if kept:
            position.best_epoch = int(row["epoch"])
        position.epoch, position.step, position.sums = position.epoch + 1, 0, {}
        self._warn()
        if not self.accelerator.is_main_process:
            return
        if kept:
            metadata = {
                "stage": self.stage.name,
                "epoch": position.best_epoch,
                **({"score": score} if validated else {}),
                "best_by": self.stage.best_by,
            }
            with self._averaged():
                self.model.save(self.best, metadata)
        self.save()
        self._write_history()
        if self.listener:
            self.listener.epoch_ends(row)

    def _warn(self, *, ended: bool = False) -> None:
        """Tell once that the training comes to nothing; of what learns no labels, masks tell nothing."""
        found = "" if self.stage.loss is None else collapse(self.position.history, ended=ended)
        if found and not self.warned and self.accelerator.is_main_process:
            log.warning("stage %s, epoch %d: %s; %s", self.stage.name, self.position.epoch, found, CAUSES)
        self.warned = self.warned or bool(found)

    def _averaged(self) -> AbstractContextManager[None]:
        """The net has its averaged weights within the block, where the stage averages."""
        return self.average.in_place() if self.average else nullcontext()

    def _measures(self, epoch: int) -> bool:
        """Whether all metrics are measured after this epoch, counted from 1."""
        every = 0 if self.measure is None else self.measure.every
        return every > 0 and (epoch % every == 0 or epoch == self.stage.epochs)

    def validate(self, *, measured: bool = False) -> dict[str, float]:
        """Mean loss, Dice and IoU over the validation cases on their own grids, at threshold 0.5, no component rules.

        An empty mask that stays empty counts 1, a false alarm and a miss count 0. Processes share the cases. With hints
        their loss on the images as the net sees them comes along; without labels' loss it stands in for that.

        Args:
            measured: whether `measure` is asked too.
        """
        forward = torch_forward(self.model.net, self.accelerator.device, self.precision)
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        cases = list(self.validation)[rank::world]
        with self._averaged():
            rows = [
                row
                for first in range(0, len(cases), VALIDATION_BATCH)
                for row in self._evaluate(cases[first : first + VALIDATION_BATCH], forward, measured)
            ]
        if world > 1:
            rows = gather_object(rows)
            # Gathered process by process: back to the order of the cases.
            rows.sort(key=lambda row: row[0])
        means = np.array([values for _, values, _ in rows], np.float64).mean(axis=0).tolist()
        found = dict(zip(LAST[: len(means)], means, strict=True))
        more = [each for *_, measures in rows for each in measures]
        return found | (self.measure.means(more) if self.measure is not None and more else {})

    def _evaluate(
        self, cases: Sequence[Case], forward: Forward, measured: bool
    ) -> Iterator[tuple[str, tuple[float, ...], list[Any]]]:
        """Name and (loss, Dice, IoU) of each case, its hint loss where there are hints, and what else is measured."""
        references = [self.train.cases.mask(case) for case in cases]
        prepared = [self.train.prepared(case)[0] for case in cases]
        pipeline = self.model.pipeline
        places = [
            pipeline.placement(grid_of(reference), case.spacing_mm)
            for reference, case in zip(references, cases, strict=True)
        ]
        found = pipeline.predict_batch(prepared, places, forward)
        hints = self._hint_losses(prepared)
        for case, reference, probability, hint in zip(cases, references, found, hints, strict=True):
            mask = threshold_or_argmax(probability, 0.5, multilabel=pipeline.multilabel)
            overlaps = class_overlaps(mask, reference, probability.shape[2])
            dice = float(np.mean([with_empty(each.dice) for each in overlaps]))
            iou = float(np.mean([with_empty(each.iou) for each in overlaps]))
            loss = hint[0] if self.stage.loss is None else self._loss(probability, reference, self.stage.loss)
            more = self.measure.of_case(case, reference, mask, probability) if self.measure and measured else []
            yield case.name, (loss, dice, iou, *hint), more

    def _hint_losses(self, prepared: Sequence[NDArray[np.float32]]) -> list[tuple[float, ...]]:
        """The hint loss of each image, in inference; nothing for each where there are no hints."""
        if self.objective is None or self.student is None:
            return [()] * len(prepared)
        training, device = self.student.training, self.accelerator.device
        self.student.eval()
        with torch.inference_mode(), autocast(device, self.precision):
            found = self.objective.hint_losses(self.student, prepared, self.model.pipeline, device)
        self.student.train(training)
        return [(value,) for value in found]

    @staticmethod
    def _loss(probability: NDArray[np.float32], reference: NDArray[np.uint8], weights: LossSection) -> float:
        """The recipe's loss from probabilities on the image's grid."""
        p = torch.from_numpy(probability).movedim(-1, 0).unsqueeze(0).clamp(1e-6, 1 - 1e-6)
        exclusive = p.shape[1] > 1 and not overlaps(reference)
        if exclusive:
            p = torch.cat([(1 - p.sum(1, keepdim=True)).clamp_min(1e-6), p], 1)
        logits = torch.log(p) if exclusive else torch.logit(p)
        loss, _ = segmentation_loss(logits, torch.from_numpy(reference).unsqueeze(0), **weights.arguments())
        return float(loss)

    def save(self) -> None:
        """Write the whole state of this moment; the one before is kept beside it."""
        self.saved_at = time.monotonic()
        if not self.accelerator.is_main_process:
            return
        parts = {"net": self.model.net.core} | self._beside
        tensors = {f"{part}.{name}": value for part in parts for name, value in parts[part].state_dict().items()}
        if self.average:
            tensors |= {f"average.{name}": value for name, value in self.average.tensors.items()}
        tensors |= pack_optimizer(self.inner_optimizer)
        state = {"kind": "training", "identity": self.identity, "position": asdict(self.position)}
        rotate_checkpoint(self.last)
        write_checkpoint(self.last, tensors, state)

    @property
    def _beside(self) -> dict[str, torch.nn.Module]:
        """What trains with the net and is kept to go on, but is not part of the model."""
        found: dict[str, torch.nn.Module] = {}
        if self.student is not None:
            found["regressors"] = self.student.regressors
        if self.deep is not None:
            found["heads"] = self.deep.heads
        return found

    def resume(self) -> bool:
        """Take up the last state that is whole; False where there is none."""
        for path in (self.last, previous(self.last)):
            if not path.exists():
                continue
            try:
                tensors, state = read_checkpoint(path)
            except ModelFileError as error:
                log.warning("%s; trying the one before", error)
                if self.accelerator.is_main_process:
                    # Out of the way: the next save must not rotate it over the good one.
                    rename_file(path, path.with_suffix(".torn"))
                continue
            self._restore(path, tensors, state)
            log.info("resumed from %s: epoch %d, step %d", path, self.position.epoch + 1, self.position.step)
            return True
        return False

    def _restore(self, path: Path, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        if state.get("kind") != "training" or state.get("identity") != self.identity:
            raise RunError(
                str(path),
                "belongs to another recipe, split or data",
                "resume with the same ones, or start a new folder",
            )
        self.position = TrainingState(**state["position"])

        def part(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        self.model.net.core.load_state_dict(part("net."))
        for name, module in self._beside.items():
            module.load_state_dict(part(f"{name}."))
        if self.average:
            self.average.load(part("average."))
        unpack_optimizer(self.inner_optimizer, tensors)
        self.warned = bool(collapse(self.position.history))
        if self.accelerator.is_main_process and self.position.history:
            self._write_history()

    def _write_history(self) -> None:
        rows = self.position.history
        # Not the order of the rows' keys: those that come back from a checkpoint are sorted.
        found = {key for row in rows for key in row}
        more = sorted(found - {*FIRST, *LAST})
        measured = [name for name in more if name.startswith("val_")]
        parts = [name for name in more if name not in measured]
        columns = [*FIRST, *parts, *(name for name in LAST if name in found), *measured]
        cells = ([{**row, "epoch": int(row["epoch"])}.get(column, "") for column in columns] for row in rows)
        write_atomically(StageFolder(self.folder).history, csv_text([columns, *cells]))

    def _write_timing(self, epoch: int, train_s: float, validation_s: float, images: int) -> None:
        """Times stay out of history.csv, so that equal runs are equal bytes; a repeated epoch is listed again."""
        path = StageFolder(self.folder).timings
        before = path.read_text(encoding="utf-8").rpartition("\n")[0] if path.exists() else TIMINGS
        write_atomically(path, f"{before}\n{epoch},{train_s:.3f},{validation_s:.3f},{images / train_s:.2f}\n")
