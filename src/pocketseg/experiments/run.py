"""One training: the run folder it begins or resumes, and all folds and stages."""

from __future__ import annotations

import hashlib
import logging
import math
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketseg import memory
from pocketseg.data import Case, Cases, CheckedData, Fold, Split
from pocketseg.engine.library import library
from pocketseg.errors import EnvironmentProblem, Interrupted, ModelFileError, RecipeError, RunError, named
from pocketseg.evaluation import (
    Summary,
    asking,
    choose_rules,
    score_cases,
    summarize,
    write_scores,
    write_summaries,
)
from pocketseg.experiments.distillation import Teaching, prepare
from pocketseg.experiments.initialization import Start, start
from pocketseg.experiments.listeners import Labelled, told
from pocketseg.experiments.stage_figures import draw_examples, draw_stage
from pocketseg.files import make_folder, resolved, write_atomically
from pocketseg.pipeline import Normalization, Pipeline, Postprocess, TrainedOn
from pocketseg.pipeline.intensity import Numbers
from pocketseg.recipes import Recipe, StageSection, dump_recipe
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.inspection import Inspection, inspect_model
from pocketseg.runs.opening import make_split, metric_choice, open_cases, reading_of
from pocketseg.runs.packed import pack_model
from pocketseg.runs.results import can_list, list_run
from pocketseg.runs.source import ModelSource
from pocketseg.text import bytes_text
from pocketseg.version import VERSION

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pocketseg.training.device import Precision
    from pocketseg.training.loop import Listener, StopRequest
    from pocketseg.training.model import Model
    from pocketseg.training.samples import Samples
from pocketseg.experiments.checks import check_out, check_run, known_numbers, refuse_begun
from pocketseg.experiments.stopping import stop_on_signals
from pocketseg.training.stage_folder import StageFolder

log = logging.getLogger("pocketseg")

LIBRARIES = ("accelerate", "numpy", "pillow", "pydantic", "safetensors", "torch")


# Of other versions of these a resumed training would not end in the same bytes.
COMPUTE = ("numpy", "torch")


# Told (what, done, of) while something long goes on that is no training.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trial:
    """One run of a sweep.

    Attributes:
        name: of its folder in `trials`.
        values: dotted key -> value of what is varied.
        run: its folder, a run folder like any other.
        error: why it failed; empty where it is finished.
        summaries: of the folds that are judged.
    """

    name: str
    values: Mapping[str, Any]
    run: Path
    error: str
    summaries: dict[int, list[Summary]]


@dataclass(frozen=True)
class TrainResult:
    """Where the run lies and how it was judged, one summary for each fold, part and class.

    A sweep has no summaries of its own but trials, failed ones included.
    """

    run: Path
    summaries: dict[int, list[Summary]]
    trials: tuple[Trial, ...] = ()


def train_run(
    recipe: Recipe,
    data: str | Path,
    out: Path,
    *,
    fold: int | None = None,
    split: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    allow_changed: bool = False,
    trial: bool = False,
    logs: Sequence[str] = (),
    listener: Listener | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """One run, or a fold of it.

    Args:
        trial: one of several trainings that something else started and lists: `fold` begins or resumes, as its folder
            is, and leaves the others to others.
    """
    from pocketseg.training.device import open_accelerator

    run = RunFolder(out)
    if trial:
        resume = any(run.fold(fold or 0).glob("*/*last.safetensors"))
    else:
        check_out(run, resume)
    accelerator = open_accelerator(device)
    cases = open_cases(data, recipe.data)
    found = _stamps(cases)
    checked = cases.check(None if progress is None else lambda done, of: progress("reading", done, of))
    begun = trial or (resume and run.manifest_file.exists())
    plan = make_split(recipe, cases, checked.twins, split, run if begun else None)
    folds = check_run(recipe, plan, cases, checked, fold)
    main = accelerator.is_main_process
    with (
        run.held(fold) if main else nullcontext(),
        run.logged() if main else nullcontext(),
        stop_on_signals() as stop,
    ):
        listed = main and not trial and can_list(run)
        if main and not trial:
            refuse_begun(run, fold, resume)
        if main:
            _begin(run, recipe, cases, checked, plan, accelerator, resume, allow_changed)
        accelerator.wait_for_everyone()
        begun_with = run.manifest()["data"]["sha256"]
        work = _Work(
            run,
            recipe,
            cases,
            accelerator,
            stop,
            begun_with,
            known_numbers(recipe, checked),
            resume,
            logs,
            listener,
            progress,
        )
        result = work.all_folds(folds)
        if main:
            _finish(run, cases, found, checked.digest)
        if listed:
            list_run(run)
    return result


def _begin(
    run: RunFolder,
    recipe: Recipe,
    cases: Cases,
    checked: CheckedData,
    plan: Split,
    accelerator: Accelerator,
    resume: bool,
    allow_changed: bool,
) -> None:
    """Write what is known before the first step, or hold a resumed run against it. The manifest comes last."""
    from pocketseg.training.device import hardware

    text = dump_recipe(recipe)
    with run.manifest_changed() as manifest:
        if manifest:
            changed = changed_since(run, recipe, checked, allow_changed)
            if changed or resume:
                manifest.setdefault("resumed", []).append(
                    ": ".join([_now(), *([", ".join(changed)] if changed else [])])
                )
            if changed:
                log.warning("what changed since the run began: %s", ", ".join(changed))
            if plan.folds != Split.read(run.split_file).folds:
                what = "was begun with another split"
                raise RunError(str(run.path), what, "give the same --split, or choose another --out")
            if not resume:
                return  # another fold has begun the run
            if manifest["hardware"]["threads"] != hardware(accelerator.device)["threads"]:
                log.warning("another number of threads than before: the result will not be the same to the byte")
            log.info("resuming %s", run.path)
            return
        write_atomically(run.recipe_file, text)
        plan.write(run.split_file)
        manifest |= {
            "pocketseg": VERSION,
            "python": platform.python_version(),
            "libraries": {name: metadata.version(name) for name in LIBRARIES},
            "data": {
                "path": str(resolved(cases.root)),
                "layout": cases.layout,
                "cases": len(cases),
                "files": checked.files,
                "empty_masks": len(checked.empty),
                "sha256": checked.digest,
            },
            "doctor": _findings(checked),
            "recipe_sha256": hashlib.sha256(_bytes(text)).hexdigest(),
            "seed": recipe.seed,
            "processes": accelerator.num_processes,
            "hardware": hardware(accelerator.device),
            "determinism": determinism(accelerator),
            "started": _now(),
            "wall_time_s": 0.0,
        }
    groups = len({case.group for case in cases})
    log.info("%d cases in %d groups, layout %s, from %s", len(cases), groups, cases.layout, cases.root)
    for note in checked.notes:
        log.warning("%s", note)


def _findings(checked: CheckedData) -> list[dict[str, Any]]:
    """What the check of the data found, kind by kind, without names of files."""
    by_code: dict[str, dict[str, Any]] = {}
    for found in checked.findings:
        kind = by_code.setdefault(found.code, {"code": found.code, "level": found.level, "why": found.why, "files": 0})
        kind["files"] += len(found.files)
    return list(by_code.values())


def changed_since(run: RunFolder, recipe: Recipe, checked: CheckedData, allowed: bool) -> list[str]:
    """What is not as it was when the run began: data, and versions of what computes.

    Raises:
        RunError: another recipe; or a change that is not allowed.
    """
    if run.recipe_file.read_text(encoding="utf-8") != dump_recipe(recipe):
        raise RunError(
            str(run.recipe_file),
            "differs from the recipe given now",
            "resume with the same recipe and --set values",
        )
    manifest = run.manifest()
    then = {"pocketseg": manifest["pocketseg"], **{name: manifest["libraries"].get(name) for name in COMPUTE}}
    now = {"pocketseg": VERSION, **{name: metadata.version(name) for name in COMPUTE}}
    changed = [f"{name} {then[name]} → {now[name]}" for name in then if then[name] != now[name]]
    if manifest["data"]["sha256"] != checked.digest:
        changed.append(f"other data (SHA-256 {manifest['data']['sha256'][:12]}… → {checked.digest[:12]}…)")
    if changed and not allowed:
        what = f"was begun with something else: {', '.join(changed)}"
        raise RunError(str(run.path), what, "resume with the same; or with --allow-changed, and the manifest tells")
    return changed


def _stamps(cases: Cases) -> dict[Path, tuple[int, int]]:
    """Size and time of change of every file; those that are gone are left out."""
    found = {}
    for path in cases.files():
        with suppress(OSError):
            status = path.stat()
            found[path] = status.st_size, status.st_mtime_ns
    return found


def _finish(run: RunFolder, cases: Cases, found: Mapping[Path, tuple[int, int]], digest: str) -> None:
    """Tell of data that changed while it was trained on: nobody knows which of its states the run has seen."""
    now = _stamps(cases)
    touched = [str(path) for path in cases.files() if now.get(path) != found.get(path)]
    seen: str | None = digest
    if touched:
        try:
            seen = cases.digest()
        except OSError:
            seen = None  # a file is gone
    with run.manifest_changed() as manifest:
        if seen != digest:
            manifest["data"]["changed_while_training"] = {"files": len(touched), "sha256": seen}
            log.warning(
                "the data changed while it was trained on: %s; train again to know what was learned", named(touched)
            )
        manifest["finished"] = _now()


def determinism(accelerator: Accelerator) -> str:
    """What a repetition of this run can be expected to give."""
    if accelerator.device.type == "cpu" and accelerator.num_processes == 1:
        return (
            "equal bytes of weights and history on the same kind of CPU with the same library versions and number of "
            "threads, resumed or not"
        )
    return "equal data order and augmentation; sums on this device may be ordered differently from run to run"


def _bytes(text: str) -> bytes:
    """Text with names of files in it, which may be no UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _warn_of_memory(stage: StageSection, net: Inspection) -> None:
    """Say so where the memory is too small for a step, since the system may end the process without a word.

    Every layer's output is kept for the way back, and a weight has a gradient and two averages beside it.
    """
    outputs = 4 * sum(math.prod(layer["shape"]) for layer in net.layers)
    needed = stage.batch * outputs + 4 * int(net.totals["bytes"])
    free = memory.free_bytes()
    if free is not None and needed > free:
        log.warning(
            "stage %s: a step needs about %s, and %s of memory are free, so the system may end it; a smaller batch, "
            "data.size or net needs less", stage.name, bytes_text(needed), bytes_text(free),
        )  # fmt: skip


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
    numbers: Numbers | None
    resume: bool
    logs: Sequence[str]
    listener: Listener | None
    progress: Progress | None
    several: bool = False

    def all_folds(self, folds: dict[int, Fold]) -> TrainResult:
        began = time.monotonic()
        self.several = len(folds) > 1
        try:
            summaries = {number: self._fold(number, fold) for number, fold in folds.items()}
        finally:
            if self.accelerator.is_main_process:
                with self.run.manifest_changed() as manifest:
                    manifest["wall_time_s"] = round(manifest["wall_time_s"] + time.monotonic() - began, 1)
        self.accelerator.wait_for_everyone()
        return TrainResult(self.run.path, summaries)

    def _fold(self, number: int, fold: Fold) -> list[Summary]:
        pipeline = self._pipeline(fold)
        for stage in self.recipe.stages:
            self._obey()
            self._stage(number, fold, stage, pipeline)
        if not self.accelerator.is_main_process:
            return []
        self._obey()
        self._pack_fold(number)
        # The last that is written of a fold: where it is judged, nothing of it is left to do.
        return self._judge(number, fold)

    def _obey(self) -> None:
        """Stop where a signal asked to, between two things that are kept.

        Raises:
            Interrupted: it did.
        """
        if self.stop.signal_number and self.accelerator.num_processes == 1:
            what, fix = "stopped; the state is saved", "go on with the same command and --resume"
            raise Interrupted(self.stop.signal_number, str(self.run.path), what, fix)

    def _progress(self, what: str) -> Callable[[int, int], None]:
        """Tells how far something is, and stops there where a signal asked to."""

        def tell(done: int, of: int) -> None:
            self._obey()
            if self.progress is not None:
                self.progress(what, done, of)

        return tell

    def _pack_fold(self, number: int) -> None:
        """The fold's last model as `model.pseg`, which then stands for the run wherever it predicts."""
        try:
            library()
        except EnvironmentProblem as error:
            log.warning("fold %d is not packed, so that predicting needs torch: %s", number, error.problems[0])
            return
        try:
            pack_model(ModelSource.resolve(self.run.path, number))
        except ModelFileError as error:
            log.warning("fold %d is not packed, so that predicting needs torch: %s", number, error.problems[0])

    def _stage(self, number: int, fold: Fold, stage: StageSection, pipeline: Pipeline) -> None:
        """Train a stage, choose its rules on validation, draw its pictures."""
        from pocketseg.training.device import choose_precision
        from pocketseg.training.loop import StageTraining
        from pocketseg.training.samples import Samples

        folder = self.run.stage(number, stage.name)
        make_folder(folder.path)
        model, begin = self._start(number, stage, pipeline)
        precision, why = choose_precision(stage.precision, self.accelerator.device)
        part, validation = self.cases.named(fold.train), self.cases.named(fold.validation)
        seed = self.recipe.seed
        samples = Samples.of(self.cases, part, model.pipeline, seed)
        samples.weighting = None if stage.loss is None else stage.loss.pixel_weights
        if stage.quant is not None:
            self._quantize(model, stage, samples, validation, folder)
        teaching = self._teaching(number, stage, samples, precision)
        training = StageTraining(
            recipe=self.recipe,
            stage=stage,
            model=model,
            train=samples,
            validation=validation,
            folder=folder.path,
            accelerator=self.accelerator,
            precision=precision,
            seed=seed,
            stop=self.stop,
            identity=self._identity(number, stage, precision, begin, teaching),
            lesson=teaching.lesson if teaching else None,
        )
        begun = self.resume and training.resume()
        if self.accelerator.is_main_process and not begun:
            self._announce(number, fold, stage, model, begin, teaching, precision, why)
        if self.accelerator.is_main_process:
            inspected = inspect_model(model)
            inspected.save(folder.path, ("json", "svg"))
            _warn_of_memory(stage, inspected)
        examples = partial(draw_examples, self.cases, validation, model, self.accelerator.device)
        listener = Labelled(f"fold {number}", self.listener) if self.listener and self.several else self.listener
        with told(number, folder.path, self.logs, examples, listener) as training.listener, memory.named(
            f"stage {stage.name!r}", "a batch of {} at {}×{}".format(stage.batch, *model.pipeline.size),
            f"--set stages.*.batch={max(1, stage.batch // 2)}, or a smaller data.size or net",
        ):  # fmt: skip
            training.run()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._choose(folder.best, training.position.best_epoch, stage, fold)
            draw_stage(folder, f"{stage.name}, fold {number}", self.cases, validation)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def _start(self, number: int, stage: StageSection, pipeline: Pipeline) -> tuple[Model, Start | None]:
        """A fresh model, or one that starts from what `init` says, and from which file."""
        from pocketseg.training.model import Model

        model = Model.fresh({"arch": stage.net.arch, **stage.net.options}, pipeline, self.recipe.seed)
        if stage.batch == 1 and model.pipeline.net_size == (model.pipeline.multiple,) * 2:
            raise RecipeError(
                f"stage {stage.name!r}",
                "a batch of 1 whose deepest level is a single pixel gives the norms nothing to learn from",
                "use a larger batch or data.size, or fewer blocks",
            )
        if stage.init is None:
            return model, None
        earlier = self.run.stage(number, stage.init.stage or "").best
        return model, start(model.net, self.recipe, stage, number, earlier)

    def _quantize(
        self, model: Model, stage: StageSection, samples: Samples, validation: Sequence[Case], folder: StageFolder
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
                write_atomically(folder.sensitivity, table)
                spared = [name for name, text in options["layers"].items() if text == "float"]
                log.info("stage %s: layers left in f32: %s", stage.name, ", ".join(spared) or "none")
        model.quantize(options, batches)

    def _teaching(self, number: int, stage: StageSection, samples: Samples, precision: Precision) -> Teaching | None:
        """What the stage learns from a teacher; its unlabelled images and stored answers join the samples."""
        with self.accelerator.main_process_first():
            device = self.accelerator.device
            teaching = prepare(self.recipe, stage, number, samples, self.run, device, precision)
        if teaching is not None:
            samples.unlabelled, samples.maps = teaching.lesson.unlabelled, teaching.lesson.planes
        return teaching

    def _pipeline(self, fold: Fold) -> Pipeline:
        """That of all stages of a fold, with what it learns from the training images."""
        from pocketseg.training.samples import learn_intensities, learn_mean_std

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
            trained_on=TrainedOn(self.numbers),
        )
        part = self.cases.named(fold.train)
        pipeline = replace(pipeline, trained_on=learn_intensities(self.cases, part, pipeline))
        if normalize.kind != "train-mean-std":
            return pipeline
        mean, std = learn_mean_std(self.cases, part, pipeline)
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

    def _identity(
        self, number: int, stage: StageSection, precision: str, begin: Start | None, teaching: Teaching | None
    ) -> str:
        """What a resumed checkpoint must agree with: recipe, split, data, fold, stage, precision, start, teacher."""
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
            *(teaching.identity if teaching else []),
        ):
            whole.update(_bytes(part) + b"\0")
        return whole.hexdigest()

    def _announce(
        self,
        number: int,
        fold: Fold,
        stage: StageSection,
        model: Model,
        begin: Start | None,
        teaching: Teaching | None,
        precision: str,
        why: str,
    ) -> None:
        count = sum(parameter.numel() for parameter in model.net.parameters())  # the frozen ones too
        log.info(
            "fold %d, stage %s: %s with %s parameters, %d epochs on %d cases, validation on %d",
            number, stage.name, stage.net.arch, f"{count:,}", stage.epochs, len(fold.train), len(fold.validation),
        )  # fmt: skip
        if begin:
            begin.tell()
        if teaching:
            teaching.tell()
        log.info("%s, channels last, in %s (%s)", self.accelerator.device, precision, why)
        if stage.batch > len(fold.train) * self.recipe.augment.copies:
            log.warning(
                "a batch of %d is more than all %d training cases: every step takes them all",
                stage.batch,
                len(fold.train),
            )
        with self.run.manifest_changed() as manifest:
            manifest.setdefault("stages", {})[f"fold-{number}/{stage.name}"] = (
                {"net": model.net_options, "parameters": count, "precision": precision}
                | ({"start": begin.facts()} if begin else {})
                | ({"teacher": teaching.facts} if teaching else {})
            )

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
            "stage %s: best epoch %d; rules chosen on validation (mean Dice %.4f with empty masks): %s",
            stage.name, epoch, dice, ", ".join(f"{name} {getattr(chosen, name):g}" for name in auto),
        )  # fmt: skip

    def _pack(self, model: Model, best: Path) -> None:
        """A quantised model is stored once more in the bits it needs."""
        if model.quant is not None:
            packed = StageFolder(best.parent).packed
            model.save_packed(packed)
            log.info("%s: %s bytes", packed, f"{packed.stat().st_size:,}")

    def _judge(self, number: int, fold: Fold) -> list[Summary]:
        """Score every stage that learned to segment; what the last one found is the fold's result."""
        *earlier, last = self.recipe.stages
        for stage in earlier:
            if stage.loss is not None:
                self._score(number, fold, stage, stage.name)
        return self._score(number, fold, last)

    def _score(self, number: int, fold: Fold, stage: StageSection, place: str | None = None) -> list[Summary]:
        """Score a stage's best model in f32 on the parts the recipe names."""
        from pocketseg.training.model import Model

        predictor = Model.load(self.run.stage(number, stage.name).best).predictor(self.accelerator.device)
        summaries = []
        for part in self.recipe.evaluate.parts:
            chosen = self.cases.named(fold.part(part))
            if not chosen:
                continue
            rows = score_cases(
                self.cases,
                chosen,
                asking(predictor),
                self.recipe.data.classes,
                self._progress(f"judging {stage.name}, {part}"),
                metric_choice(self.recipe.evaluate),
            )
            write_scores(rows, self.run.scores_file(number, part, place))
            summaries += summarize(rows, part)
        write_summaries(summaries, self.run.summary_file(number, place))
        return summaries
