"""`train`: from a recipe and data to a run folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketseg.experiments.listeners import check_logs
from pocketseg.experiments.plan import Progress
from pocketseg.experiments.run import TrainResult, train_run
from pocketseg.flows.report import report as write_report
from pocketseg.live import watched
from pocketseg.packages import require_report, require_torch
from pocketseg.recipes import load_sweep
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import metric_config
from pocketseg.training.own_augment import Function

if TYPE_CHECKING:
    from pocketseg.training.loop import Listener

log = logging.getLogger("pocketseg")


def train(
    recipe: str | Path | dict[str, Any],
    data: str | Path,
    out: str | Path,
    *,
    overrides: Sequence[str] = (),
    fold: int | None = None,
    split: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    allow_changed: bool = False,
    jobs: int | None = None,
    cluster: str | None = None,
    augment: Function | None = None,
    logs: Sequence[str] = (),
    report: bool = True,
    quiet: bool = False,
    listener: Listener | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a recipe's stages on a data set; the run folder has everything afterwards, and a report of it.

    A recipe with `sweep` makes one run for each combination, in `out/trials`, with a table and a plot in `out`.

    How far it is shows a table in a terminal or a notebook; elsewhere a line on standard error tells of each epoch, or
    wherever the program sends the log `pocketseg`.

    Args:
        recipe: shipped name, YAML file, or mapping.
        data: folder or file of images and masks.
        out: run folder, or folder of a sweep; new, or with `resume` one that a training left.
        overrides: `key=value`, as --set on the command line.
        fold: only this fold of a k-fold split; default all.
        split: a split file to use instead of the recipe's rule.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on where the run was left; a sweep trains what is not finished.
        allow_changed: resume though the data, or the versions of pocketseg, torch or NumPy, are not those that the run
            was begun with; the manifest lists what changed.
        jobs: trials and folds that run side by side, each in a process of its own; default 1, on a cluster all.
        cluster: `local` or `ray://HOST:PORT`; its machines must see data and out under the same paths.
        augment: a function (image, mask, generator) that gives a changed image and mask, before the augmentation of the
            recipe: float32 (h, w, c) from 0 to 1 and uint8 (h, w) of class indices on the net's grid, and a NumPy
            generator, the only source of chance for a training that can be repeated. The manifest has its name; a
            training that goes on (`resume`) needs it again.
        logs: further records of the training: `tensorboard`.
        report: write `report.html` at the end; a sweep has none, and `pocketseg.report` writes it at any time.
        quiet: show nothing.
        listener: informed about every step and epoch of trainings in this process, instead of showing them.
        progress: informed about checking, evaluating and the report, instead of showing it.

    Raises:
        PocketsegError: bad input, reported whole before anything is trained; or a signal, with the state saved. A trial
            that fails is reported in the result and in results.csv.
    """
    require_torch()
    require_report()  # of the pictures of stages, too
    from pocketseg.experiments.stage_checks import check_stage
    from pocketseg.experiments.sweep import train_many

    sweep = load_sweep(recipe, overrides, check_stage)
    check_logs(logs)
    for variant in sweep.variants:
        metric_config(variant.recipe.evaluate)
    with ExitStack() as stack:
        if not quiet and listener is None and progress is None:
            listener = progress = stack.enter_context(watched())
        if sweep.keys or cluster is not None or (jobs or 1) > 1:
            result = train_many(
                sweep, data, Path(out), fold=fold, split=split, device=device, resume=resume,
                allow_changed=allow_changed, jobs=jobs, cluster=cluster, augment=augment, logs=logs, listener=listener,
                progress=progress,
            )  # fmt: skip
        else:
            result = train_run(
                sweep.variants[0].recipe, data, Path(out), fold=fold, split=split, device=device, resume=resume,
                allow_changed=allow_changed, augment=augment, logs=logs, listener=listener, progress=progress,
            )  # fmt: skip
        # A sweep has no scores of its own, and of several processes only the first one has any.
        if any(result.summaries.values()):
            _gated(result, data)
        return _reported(result, progress) if report and any(result.summaries.values()) else result


def _gated(result: TrainResult, data: str | Path) -> None:
    """Say what the quantized last stage of a recipe loses, and whether it is slower."""
    from pocketseg.search.run_gate import gate_fold

    run = RunFolder(result.run)
    with run.logged():
        for fold in result.summaries:
            gate_fold(run, fold, data)


def _reported(result: TrainResult, progress: Progress | None) -> TrainResult:
    """The result, with its report in the run folder."""
    with RunFolder(result.run).logged():
        page = write_report(result.run, progress=None if progress is None else partial(progress, "report"))
    return replace(result, report=page)
