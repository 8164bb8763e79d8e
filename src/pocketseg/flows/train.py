"""`train`: from a recipe and data to a run folder."""

from __future__ import annotations

import hashlib
import logging
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from pocketseg.data import Case, Cases, CheckedData, Fold, Split, given, holdout, kfold
from pocketseg.errors import RecipeError, RunError
from pocketseg.evaluation import (
    Summary,
    choose_rules,
    read_summaries,
    score_cases,
    summarize,
    write_scores,
    write_summaries,
)
from pocketseg.files import write_atomically
from pocketseg.flows.inspect import inspect_model
from pocketseg.flows.loading import open_cases, reading_of, require_torch
from pocketseg.flows.pictures import draw_stage
from pocketseg.flows.run_folder import RunFolder, add_result
from pocketseg.flows.starting import Start, check_starts, start
from pocketseg.pipeline import Normalization, Pipeline, Postprocess
from pocketseg.pipeline.intensity import converts
from pocketseg.recipes import Recipe, StageSection, dump_recipe, load_recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pocketseg.training.loop import Listener, StopRequest
    from pocketseg.training.model import Model
    from pocketseg.training.samples import Samples

log = logging.getLogger("pocketseg")

LIBRARIES = ("accelerate", "numpy", "pillow", "pydantic", "safetensors", "torch")
# Told (what, done, of) while something long goes on that is no training.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrainResult:
    """Where the run lies and how it was judged, one summary for each fold, part and class."""

    run: Path
    summaries: dict[int, list[Summary]]


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
    listener: Listener | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Train a recipe's stages on a data set; the run folder has everything afterwards.

    Args:
        recipe: shipped name, YAML file, or mapping.
        data: folder or file of images and masks.
        out: run folder; new, or with `resume` one that a training left.
        overrides: `key=value`, as --set on the command line.
        fold: only this fold of a k-fold split; default all.
        split: a split file to use instead of the recipe's rule.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on where the run was left.
        listener: told about every step and epoch.
        progress: told about checking and judging.

    Raises:
        PocketsegError: bad input, told whole before anything is trained; or a signal, with the state saved.
    """
    require_torch()
    from pocketseg.flows.stages import check_stage
    from pocketseg.training.device import open_accelerator

    resolved = load_recipe(recipe, overrides, check_stage)
    run = RunFolder(Path(out))
    _check_out(run, resume)
    accelerator = open_accelerator(device)
    cases = open_cases(data, resolved.data)
    checked = cases.check(None if progress is None else lambda done, of: progress("reading", done, of))
    plan = _make_split(resolved, cases, split, run if resume else None)
    folds = {number: plan.fold(number) for number in (range(len(plan.folds)) if fold is None else [fold])}
    if resolved.data.drop_empty == "train":
        folds = {number: _without_empty(found, checked) for number, found in folds.items()}
    _check_channels(resolved, checked)
    check_starts(resolved, folds, plan.groups, checked.digest)
    main = accelerator.is_main_process
    with (
        run.held() if main else nullcontext(),
        run.logged() if main else nullcontext(),
        stop_on_signals() as stop,
    ):
        if main:
            _begin(run, resolved, cases, checked, plan, accelerator, resume)
        accelerator.wait_for_everyone()
        work = _Work(run, resolved, cases, accelerator, stop, checked.digest, resume, listener, progress)
        return work.all_folds(folds)


def _check_out(run: RunFolder, resume: bool) -> None:
    if resume:
        if not any(run.path.glob("fold-*/*/*last.safetensors")):
            raise RunError(
                str(run.path), "has no checkpoint to resume from", "check the path, or train without --resume"
            )
    elif run.path.is_file() or (run.path.is_dir() and any(p.name != ".lock" for p in run.path.iterdir())):
        what = "already holds a run" if run.recipe_file.exists() else "is not empty"
        raise RunError(str(run.path), what, "go on with --resume, or choose another --out")


def _check_channels(recipe: Recipe, checked: CheckedData) -> None:
    wanted = recipe.data.channels
    strange = [have for have in sorted(checked.channels) if not converts(have, wanted)]
    if strange:
        raise RecipeError(
            "data.channels",
            f"is {wanted}, but there are images with {' and '.join(map(str, strange))} channels",
            f"set data.channels={strange[-1]}",
        )


def _make_split(recipe: Recipe, cases: Cases, file: str | Path | None, resumed: RunFolder | None) -> Split:
    """The split of the resumed run, a given one, or the recipe's."""
    if resumed is not None and resumed.split_file.exists():
        return Split.read(resumed.split_file, cases)
    if file is not None:
        return Split.read(Path(file), cases)
    rule = recipe.split
    if rule.kind == "given":
        return given(cases)
    if rule.kind == "kfold":
        return kfold(cases, folds=rule.folds, validation=rule.validation, seed=rule.seed, contiguous=rule.contiguous)
    return holdout(cases, test=rule.test, validation=rule.validation, seed=rule.seed, contiguous=rule.contiguous)


def _without_empty(fold: Fold, checked: CheckedData) -> Fold:
    """The fold without blank images and empty masks in its training part; all are judged."""
    kept = tuple(name for name in fold.train if name not in checked.empty and name not in checked.blank)
    if not kept:
        what = "all training cases are blank or have an empty mask"
        raise RecipeError("data.drop_empty=train", what, "check the masks, or set data.drop_empty=null")
    return replace(fold, train=kept)


def _begin(
    run: RunFolder,
    recipe: Recipe,
    cases: Cases,
    checked: CheckedData,
    plan: Split,
    accelerator: Accelerator,
    resume: bool,
) -> None:
    """Write what is known before the first step, or hold a resumed run against it."""
    from pocketseg.training.device import hardware

    text = dump_recipe(recipe)
    if resume:
        _same_as_before(run, text, checked.digest)
        manifest = run.manifest()
        if manifest["hardware"]["threads"] != hardware(accelerator.device)["threads"]:
            log.warning("another number of threads than before: the result will not be the same to the byte")
        manifest.setdefault("resumed", []).append(_now())
        run.write_manifest(manifest)
        log.info("resuming %s", run.path)
        return
    write_atomically(run.recipe_file, text)
    plan.write(run.split_file)
    run.write_manifest(
        {
            "pocketseg": metadata.version("pocketseg"),
            "python": platform.python_version(),
            "libraries": {name: metadata.version(name) for name in LIBRARIES},
            "data": {
                "path": str(cases.root.resolve()),
                "layout": cases.layout,
                "cases": len(cases),
                "files": checked.files,
                "empty_masks": len(checked.empty),
                "sha256": checked.digest,
            },
            "recipe_sha256": hashlib.sha256(text.encode()).hexdigest(),
            "seed": recipe.seed,
            "processes": accelerator.num_processes,
            "hardware": hardware(accelerator.device),
            "determinism": determinism(accelerator),
            "started": _now(),
            "wall_time_s": 0.0,
        }
    )
    groups = len({case.group for case in cases})
    log.info("%d cases in %d groups, layout %s, from %s", len(cases), groups, cases.layout, cases.root)
    for note in checked.notes:
        log.warning("%s", note)


def _same_as_before(run: RunFolder, recipe: str, digest: str) -> None:
    if run.recipe_file.read_text(encoding="utf-8") != recipe:
        raise RunError(
            str(run.recipe_file),
            "differs from the recipe given now",
            "resume with the same recipe and --set values",
        )
    if run.manifest()["data"]["sha256"] != digest:
        raise RunError(str(run.path), "was trained on other data than this", "resume with the same data")


def determinism(accelerator: Accelerator) -> str:
    """What a repetition of this run can be expected to give."""
    if accelerator.device.type == "cpu" and accelerator.num_processes == 1:
        return (
            "equal bytes of weights and history on the same kind of CPU with the same library versions and number of "
            "threads, resumed or not"
        )
    return "equal data order and augmentation; sums on this device may be ordered differently from run to run"


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """SIGINT and SIGTERM ask training to save and stop; a second one ends the process at once."""
    from pocketseg.training.loop import StopRequest

    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, _: FrameType | None) -> None:
        stop.signal_number = number
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class _Work:
    """A training under way: all folds, all stages."""

    run: RunFolder
    recipe: Recipe
    cases: Cases
    accelerator: Accelerator
    stop: StopRequest
    data_digest: str
    resume: bool
    listener: Listener | None
    progress: Progress | None

    def all_folds(self, folds: dict[int, Fold]) -> TrainResult:
        began = time.monotonic()
        try:
            summaries = {number: self._fold(number, fold) for number, fold in folds.items()}
        finally:
            if self.accelerator.is_main_process:
                manifest = self.run.manifest()
                manifest["wall_time_s"] = round(manifest["wall_time_s"] + time.monotonic() - began, 1)
                self.run.write_manifest(manifest)
        if self.accelerator.is_main_process:
            self._finish()
        self.accelerator.wait_for_everyone()
        return TrainResult(self.run.path, summaries)

    def _fold(self, number: int, fold: Fold) -> list[Summary]:
        for stage in self.recipe.stages:
            self._stage(number, fold, stage)
        return self._judge(number, fold) if self.accelerator.is_main_process else []

    def _stage(self, number: int, fold: Fold, stage: StageSection) -> None:
        """Train a stage, choose its rules on validation, draw its pictures."""
        from pocketseg.training.device import choose_precision
        from pocketseg.training.loop import StageTraining
        from pocketseg.training.samples import Samples

        folder = self.run.stage(number, stage.name)
        folder.mkdir(parents=True, exist_ok=True)
        model, begin = self._start(number, fold, stage)
        precision, why = choose_precision(stage.precision, self.accelerator.device)
        part, validation = self.cases.named(fold.train), self.cases.named(fold.validation)
        seed = self.recipe.seed
        samples = Samples.of(self.cases, part, model.pipeline, seed)
        if stage.quant is not None:
            self._quantize(model, stage, samples, validation, folder)
        training = StageTraining(
            recipe=self.recipe,
            stage=stage,
            model=model,
            train=samples,
            validation=validation,
            folder=folder,
            accelerator=self.accelerator,
            precision=precision,
            seed=seed,
            stop=self.stop,
            listener=self.listener,
            identity=self._identity(number, stage, precision, begin),
        )
        begun = self.resume and training.resume()
        if self.accelerator.is_main_process and not begun:
            self._announce(number, fold, stage, model, begin, precision, why)
        if self.accelerator.is_main_process:
            inspect_model(model).save(folder, ("json", "svg"))
        training.run()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._choose(folder / "best.safetensors", training.position.best_epoch, stage, fold)
            draw_stage(folder, f"{stage.name}, fold {number}", self.cases, validation)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def _start(self, number: int, fold: Fold, stage: StageSection) -> tuple[Model, Start | None]:
        """A fresh model, or one that starts from what `init` says, and from which file."""
        from pocketseg.training.model import Model

        model = Model.fresh({"arch": stage.net.arch, **stage.net.options}, self._pipeline(fold), self.recipe.seed)
        if stage.batch == 1 and model.pipeline.net_size == (model.pipeline.multiple,) * 2:
            raise RecipeError(
                f"stage {stage.name!r}",
                "a batch of 1 whose deepest level is a single pixel gives the norms nothing to learn from",
                "use a larger batch or data.size, or fewer blocks",
            )
        if stage.init is None:
            return model, None
        earlier = self.run.best(number, stage.init.stage or "")
        return model, start(model.net, self.recipe, stage, number, earlier)

    def _quantize(
        self, model: Model, stage: StageSection, samples: Samples, validation: Sequence[Case], folder: Path
    ) -> None:
        """Put quantisers into a stage's net and calibrate them on its first training samples, not augmented."""
        from pocketseg.training.sensitivity import spare_layers

        assert stage.quant is not None
        options = stage.quant.model_dump()
        first = samples.order(0, copies=1, balanced=False)[: stage.quant.calibrate * stage.batch]
        batches = [samples.batch(first[at : at + stage.batch], 0, at)[0] for at in range(0, len(first), stage.batch)]
        if stage.quant.max_drop is not None:
            options, table = spare_layers(model, options, batches, self.cases, validation)
            if self.accelerator.is_main_process:
                write_atomically(folder / "sensitivity.csv", table)
                spared = [name for name, text in options["layers"].items() if text == "float"]
                log.info("stage %s: layers left in f32: %s", stage.name, ", ".join(spared) or "none")
        model.quantize(options, batches)

    def _pipeline(self, fold: Fold) -> Pipeline:
        from pocketseg.training.samples import learn_mean_std

        data, normalize = self.recipe.data, self.recipe.normalize
        pipeline = Pipeline(
            size=data.size,
            channels=data.channels,
            classes=tuple(data.classes),
            fit=data.fit,
            intensity_range=data.range,
            spacing_mm=data.spacing_mm,
            reading=reading_of(data),
            normalization=Normalization(normalize.kind, normalize.clip),
            postprocess=self._first_rules(),
        )
        if normalize.kind != "train-mean-std":
            return pipeline
        mean, std = learn_mean_std(self.cases, self.cases.named(fold.train), pipeline)
        return replace(pipeline, normalization=Normalization("train-mean-std", mean=mean, std=std))

    def _first_rules(self) -> Postprocess:
        """The recipe's rules, with the mildest where it leaves the choice to validation."""
        rules = self.recipe.postprocess
        return Postprocess(
            threshold=0.5 if rules.threshold == "auto" else rules.threshold,
            fill_holes=rules.fill_holes,
            min_peak=0.0 if rules.min_peak == "auto" else rules.min_peak,
            min_pixels=0 if rules.min_pixels == "auto" else rules.min_pixels,
            keep=rules.keep,
        )

    def _identity(self, number: int, stage: StageSection, precision: str, begin: Start | None) -> str:
        """What a checkpoint must agree with to be resumed: recipe, split, data, fold, stage, precision, start."""
        whole = hashlib.sha256()
        for part in (
            dump_recipe(self.recipe),
            self.run.split_file.read_text(encoding="utf-8"),
            self.data_digest,
            str(number),
            stage.name,
            precision,
            str(self.accelerator.num_processes),
            *(begin.identity(stage) if begin else []),
        ):
            whole.update(part.encode() + b"\0")
        return whole.hexdigest()

    def _announce(
        self, number: int, fold: Fold, stage: StageSection, model: Model, begin: Start | None, precision: str, why: str
    ) -> None:
        from pocketseg.nets import parameter_count

        count = parameter_count(model.net)
        log.info(
            "fold %d, stage %s: %s with %s parameters, %d epochs on %d cases, validation on %d",
            number, stage.name, stage.net.arch, f"{count:,}", stage.epochs, len(fold.train), len(fold.validation),
        )  # fmt: skip
        if begin:
            begin.tell()
        log.info("%s, channels last, in %s (%s)", self.accelerator.device, precision, why)
        if stage.batch > len(fold.train) * self.recipe.augment.copies:
            log.warning(
                "a batch of %d is more than all %d training cases: every step takes them all",
                stage.batch,
                len(fold.train),
            )
        manifest = self.run.manifest()
        manifest.setdefault("stages", {})[f"fold-{number}/{stage.name}"] = {
            "net": model.net_options,
            "parameters": count,
            "precision": precision,
        } | ({"start": begin.facts()} if begin else {})
        self.run.write_manifest(manifest)

    def _choose(self, best: Path, epoch: int, stage: StageSection, fold: Fold) -> None:
        """Choose what the recipe left to `auto` on validation cases, and store it in the model."""
        from pocketseg.training.model import Model

        rules = self.recipe.postprocess
        auto = [name for name in ("threshold", "min_peak", "min_pixels") if getattr(rules, name) == "auto"]
        model = Model.load(best)
        if not auto:
            self._pack(model, best)
            return
        # From the recipe's start values again, so that a resumed run chooses the same.
        start = self._first_rules()
        predictor = model.predictor(self.accelerator.device)
        validation = self.cases.named(fold.validation)
        pairs = (
            (predictor.predict(self.cases.image(case), case.spacing_mm), self.cases.mask(case)) for case in validation
        )
        chosen, dice = choose_rules(start, auto, pairs)
        model.pipeline = replace(model.pipeline, postprocess=chosen)
        model.net.cpu()
        model.save(best, model.facts)
        self._pack(model, best)
        log.info(
            "stage %s: best epoch %d (from 1); rules chosen on validation (mean Dice %.4f with empty masks): %s",
            stage.name, epoch + 1, dice, ", ".join(f"{name} {getattr(chosen, name):g}" for name in auto),
        )  # fmt: skip

    def _pack(self, model: Model, best: Path) -> None:
        """A quantised model is stored once more in the bits it needs."""
        if model.quant is not None:
            packed = best.with_name("packed.safetensors")
            model.save_packed(packed)
            log.info("%s: %s bytes", packed, f"{packed.stat().st_size:,}")

    def _judge(self, number: int, fold: Fold) -> list[Summary]:
        """Score the last stage's best model in f32 on the parts the recipe names."""
        from pocketseg.training.model import Model

        predictor = Model.load(self.run.best(number, self.recipe.stages[-1].name)).predictor(self.accelerator.device)
        summaries = []
        for part in self.recipe.evaluate.parts:
            chosen = self.cases.named(fold.part(part))
            if not chosen:
                continue
            rows = score_cases(
                self.cases,
                chosen,
                lambda case, image: predictor.mask(image, case.spacing_mm),
                self.recipe.data.classes,
                None if self.progress is None else _named(self.progress, f"judging {part}"),
            )
            write_scores(rows, self.run.scores_file(number, part))
            summaries += summarize(rows, part)
        write_summaries(summaries, self.run.summary_file(number))
        return summaries

    def _finish(self) -> None:
        manifest = self.run.manifest()
        manifest["finished"] = _now()
        self.run.write_manifest(manifest)
        row: dict[str, Any] = {
            "run": self.run.path.name,
            "recipe": self.recipe.description,
            "data": Path(manifest["data"]["path"]).name,
            "net": self.recipe.stages[-1].net.arch,
            "parameters": next(reversed(manifest["stages"].values()))["parameters"],
            "seed": self.recipe.seed,
            "wall_time_s": manifest["wall_time_s"],
        }
        # Folds that were trained in an earlier call keep their place in the row.
        for fold in self.run.judged():
            for summary in read_summaries(self.run.summary_file(fold)):
                prefix = f"fold-{fold} {summary.part} {summary.class_name}"
                row |= {
                    f"{prefix} dice": f"{summary.dice:.4f}",
                    f"{prefix} dice with empty": f"{summary.dice_all:.4f}",
                    f"{prefix} misses": summary.misses,
                    f"{prefix} false alarms": summary.false_alarms,
                }
        add_result(self.run.path.resolve().parent / "results.csv", row)


def _named(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, of: progress(what, done, of)
