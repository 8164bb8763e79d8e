"""One training: the run folder it begins or resumes, and all folds and stages."""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketseg import memory, notebook
from pocketseg.data import Case, Cases, Fold
from pocketseg.engine.library import library
from pocketseg.errors import EnvironmentProblem, Interrupted, ModelFileError
from pocketseg.evaluation import (
    Summary,
    asking,
    choose_presence,
    choose_rules,
    evidence_in,
    evidence_of,
    score_cases,
    scores_in,
    summarize,
    write_scores,
    write_summaries,
)
from pocketseg.evaluation.cells import SHORT_COLUMNS, short_row
from pocketseg.evaluation.choose import Choice
from pocketseg.evaluation.limits import PresenceChoice
from pocketseg.experiments.distillation import Distillation, prepare_distillation
from pocketseg.experiments.ensemble import evaluate_ensemble
from pocketseg.experiments.initialization import Start
from pocketseg.experiments.listeners import Labelled, listeners
from pocketseg.experiments.manifest import begin_run, check_out, finish_run, path_bytes, refuse_begun
from pocketseg.experiments.measuring import Measuring
from pocketseg.experiments.plan import FoldPlan, OpenedData, Progress, RunPlan, StagePlan, open_data, plan_run
from pocketseg.experiments.stage_figures import draw_examples, draw_stage
from pocketseg.experiments.stopping import stop_on_signals
from pocketseg.files import make_folder, write_atomically
from pocketseg.pipeline import Normalization, Pipeline, Postprocess
from pocketseg.recipes import Recipe, StageSection, dump_recipe
from pocketseg.recipes.schema import SamplingSection
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.inspection import Inspection, inspect_model
from pocketseg.runs.opening import metric_config
from pocketseg.runs.packed import pack_model
from pocketseg.runs.results import can_list, list_run
from pocketseg.runs.source import ModelSource
from pocketseg.text import brief, bytes_text, counted, number
from pocketseg.training.own_augment import Function
from pocketseg.training.stage_folder import StageFolder

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray

    from pocketseg.training.device import Precision
    from pocketseg.training.loop import Listener, StopRequest
    from pocketseg.training.model import Model
    from pocketseg.training.samples import Samples

log = logging.getLogger("pocketseg")


@dataclass(frozen=True, repr=False)
class Trial:
    """One run of a sweep.

    Attributes:
        name: of its folder in `trials`.
        values: dotted key -> value of what is varied.
        run: its folder, a run folder like any other.
        error: why it failed; empty where it is finished.
        summaries: of the folds that are evaluated.
    """

    name: str
    values: Mapping[str, Any]
    run: Path
    error: str
    summaries: dict[int, list[Summary]]

    def __repr__(self) -> str:
        return brief(self, f"{self.name}: {self.error or _dice(self.summaries)}")


@dataclass(frozen=True, repr=False)
class TrainResult:
    """Where the run lies and how it was evaluated.

    Attributes:
        run: its folder.
        summaries: of each fold, one for each part and class; a sweep has none of its own.
        trials: of a sweep, failed ones included.
        report: the page, where one was written.
    """

    run: Path
    summaries: dict[int, list[Summary]]
    trials: tuple[Trial, ...] = ()
    report: Path | None = None

    def __repr__(self) -> str:
        failed = sum(bool(trial.error) for trial in self.trials)
        found = f"{counted(len(self.trials), 'trial')}, {failed} failed" if self.trials else _dice(self.summaries)
        return brief(self, f"{self.run}: {found}")

    def _repr_html_(self) -> str:
        """The scores, for notebooks."""
        if self.trials:
            rows = [[trial.name, trial.error or _dice(trial.summaries)] for trial in self.trials]
            return notebook.paragraph(str(self.run)) + notebook.table(["trial", "result"], rows)
        scores = [[fold, *short_row(each)] for fold, found in self.summaries.items() for each in found]
        places = notebook.facts({"run": self.run, "report": self.report or ""})
        return places + notebook.table(["fold", *SHORT_COLUMNS], scores)


def _dice(summaries: Mapping[int, Sequence[Summary]]) -> str:
    """The Dice of every fold, part and class, in a line."""
    several = len(summaries) > 1
    return ", ".join(
        f"{f'fold {fold}, ' if several else ''}{each.part} Dice of {each.class_name} {number(each.dice)}"
        for fold, found in summaries.items()
        for each in found
    )


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
    opened: OpenedData | None = None,
    augment: Function | None = None,
    logs: Sequence[str] = (),
    listener: Listener | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """One run, or a fold of it.

    Args:
        opened: the data, where it was read already; default: it is read here.
        trial: one of several trainings that something else started and lists: `fold` begins or resumes, as its folder
            is, and leaves the others to others.
        augment: the user's function that changes training samples.
    """
    from pocketseg.training.device import open_accelerator

    run = RunFolder(out)
    if trial:
        resume = any(run.fold(fold or 0).glob("*/*last.safetensors"))
    else:
        check_out(run, resume)
    accelerator = open_accelerator(device)
    opened = opened or open_data(data, recipe.data, progress)
    begun = trial or (resume and run.manifest_file.exists())
    plan = plan_run(recipe, opened, run, begun=begun, split=split, fold=fold, augment=augment)
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
            begin_run(run, plan, accelerator, resume, allow_changed)
        accelerator.wait_for_everyone()
        begun_with = run.manifest()["data"]["sha256"]
        training = RunTraining(run, plan, accelerator, stop, begun_with, resume, logs, listener, progress)
        result = training.all_folds()
        if main and not trial:
            evaluate_ensemble(run, opened.cases, device, training.progress_of("evaluating the ensemble"))
        if main:
            finish_run(run, opened)
        if listed:
            list_run(run)
    return result


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


def _tell_rules(stage: str, epoch: int, values: Mapping[str, float], choice: Choice) -> None:
    chosen = [f"{name} {value:g}" for name, value in values.items() if name not in choice.left]
    if chosen:
        log.info(
            "stage %s: weights of epoch %d; post-processing tuned on validation (mean Dice %.4f with empty masks, "
            "%.4f with the mildest rules): %s", stage, epoch, choice.dice, choice.mildest_dice, ", ".join(chosen),
        )  # fmt: skip
    for why in dict.fromkeys(choice.left.values()):
        stay = [f"{name} {value:g}" for name, value in values.items() if choice.left.get(name) == why]
        log.warning(
            "stage %s: rules that stay mild, since validation cannot carry their choice: %s (%s)",
            stage, ", ".join(stay), why,
        )  # fmt: skip


@dataclass
class RunTraining:
    """A training under way: all folds of a plan, all stages."""

    run: RunFolder
    plan: RunPlan
    accelerator: Accelerator
    stop: StopRequest
    data_digest: str
    resume: bool
    logs: Sequence[str]
    listener: Listener | None
    progress: Progress | None

    @property
    def recipe(self) -> Recipe:
        """What all stages share: seed, augmentation, rules, metrics."""
        return self.plan.recipe

    @property
    def cases(self) -> Cases:
        return self.plan.data.cases

    def all_folds(self) -> TrainResult:
        began = time.monotonic()
        try:
            summaries = {fold.number: self._fold(fold) for fold in self.plan.folds}
        finally:
            if self.accelerator.is_main_process:
                with self.run.manifest_changed() as manifest:
                    manifest["wall_time_s"] = round(manifest["wall_time_s"] + time.monotonic() - began, 1)
        self.accelerator.wait_for_everyone()
        return TrainResult(self.run.path, summaries)

    def _fold(self, fold: FoldPlan) -> list[Summary]:
        pipeline = self._pipeline(fold.cases)
        for stage in fold.stages:
            self._obey()
            self._stage(fold.number, fold.cases, stage, pipeline)
        if not self.accelerator.is_main_process:
            return []
        self._obey()
        self._pack_fold(fold.number)
        # The last that is written of a fold: where it is evaluated, nothing of it is left to do.
        return self._evaluate(fold)

    def _obey(self) -> None:
        """Stop where a signal asked to, between two things that are kept.

        Raises:
            Interrupted: it did.
        """
        if self.stop.signal_number and self.accelerator.num_processes == 1:
            what, fix = "stopped; the state is saved", "go on with the same command and --resume"
            raise Interrupted(self.stop.signal_number, str(self.run.path), what, fix)

    def progress_of(self, what: str) -> Callable[[int, int], None]:
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
            pack_model(ModelSource.of_run(self.run, number))
        except ModelFileError as error:
            log.warning("fold %d is not packed, so that predicting needs torch: %s", number, error.problems[0])

    def _stage(self, number: int, fold: Fold, plan: StagePlan, pipeline: Pipeline) -> None:
        """Train a stage, choose its rules on validation, draw its pictures."""
        from pocketseg.training.device import choose_precision
        from pocketseg.training.loop import StageTraining
        from pocketseg.training.model import Model
        from pocketseg.training.samples import Samples

        stage = plan.section
        folder = self.run.stage(number, stage.name)
        make_folder(folder.path)
        model = Model.fresh(plan.net, pipeline, self.recipe.seed)
        start = plan.initialization.fill(model.net.core) if plan.initialization else None
        precision, why = choose_precision(stage.precision, self.accelerator.device)
        evaluated = self.recipe.evaluate
        part, validation = self.cases.named(fold.train), self.cases.named(fold.validation)
        seed = self.recipe.seed
        samples = Samples.of(self.cases, part, model.pipeline, seed)
        samples.weighting = None if stage.loss is None else stage.loss.pixel_weights
        if isinstance(stage.sampling, SamplingSection):
            samples.sampling = stage.sampling
        if stage.quant is not None:
            self._quantize(model, stage, samples, validation, folder)
        distillation = self._distillation(plan, samples, folder, precision)
        training = StageTraining(
            stage=stage,
            augment=self.recipe.augment,
            model=model,
            train=samples,
            validation=validation,
            folder=folder.path,
            accelerator=self.accelerator,
            precision=precision,
            seed=seed,
            stop=self.stop,
            identity=self._identity(number, stage, precision, start, distillation),
            objective=distillation.objective if distillation else None,
            own=self.plan.augmentation,
            measure=Measuring(evaluated.every, model.pipeline.classes, metric_config(evaluated)),
        )
        begun = self.resume and training.resume()
        if self.accelerator.is_main_process and not begun:
            self._announce(number, fold, stage, model, start, distillation, precision, why)
        if self.accelerator.is_main_process:
            inspected = inspect_model(model)
            inspected.save(folder.path)
            _warn_of_memory(stage, inspected)
        examples = partial(draw_examples, self.cases, validation, model, self.accelerator.device)
        listener = (
            Labelled(f"fold {number}", self.listener) if self.listener and len(self.plan.folds) > 1 else self.listener
        )
        with listeners(number, folder.path, self.logs, examples, listener) as training.listener, memory.named(
            f"stage {stage.name!r}", "a batch of {} at {}×{}".format(stage.batch, *model.pipeline.size),
            f"--set 'stages.*.batch={max(1, stage.batch // 2)}', or a smaller data.size or net",
        ):  # fmt: skip
            training.run()
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self._choose(number, folder.best, training.position.best_epoch, stage, fold)
            draw_stage(folder, f"{stage.name}, fold {number}", self.cases, validation, stage.ignore_epochs)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()

    def _quantize(
        self, model: Model, stage: StageSection, samples: Samples, validation: Sequence[Case], folder: StageFolder
    ) -> None:
        """Put quantizers into a stage's net and calibrate them on its first training samples, not augmented."""
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

    def _distillation(
        self, plan: StagePlan, samples: Samples, folder: StageFolder, precision: Precision
    ) -> Distillation | None:
        """What the stage learns from a teacher; its unlabelled images and cached answers join the samples."""
        if plan.distillation is None:
            return None
        with self.accelerator.main_process_first():
            device = self.accelerator.device
            found = prepare_distillation(plan.distillation, self.recipe.augment, samples, folder, device, precision)
        samples.unlabelled, samples.maps = found.objective.unlabelled, found.objective.planes
        return found

    def _pipeline(self, fold: Fold) -> Pipeline:
        """That of all stages of a fold, with what it learns from the training images."""
        from pocketseg.training.samples import learn_intensities, learn_mean_std

        pipeline = self.plan.pipeline
        part = self.cases.named(fold.train)
        pipeline = replace(pipeline, trained_on=learn_intensities(self.cases, part, pipeline))
        if pipeline.normalization.kind != "train-mean-std":
            return pipeline
        mean, std = learn_mean_std(self.cases, part, pipeline)
        return replace(pipeline, normalization=Normalization("train-mean-std", mean=mean, std=std))

    def _identity(
        self, number: int, stage: StageSection, precision: str, start: Start | None, distillation: Distillation | None
    ) -> str:
        """What a resumed checkpoint must agree with: recipe, split, data, fold, stage, precision, start, teacher.

        Not the epochs: a training may go on for longer.
        """
        stages = [each.model_copy(update={"epochs": 0}) for each in self.recipe.stages]
        whole = hashlib.sha256()
        for part in (
            dump_recipe(self.recipe.model_copy(update={"stages": stages})),
            self.run.split_file.read_text(encoding="utf-8"),
            self.data_digest,
            str(number),
            stage.name,
            precision,
            str(self.accelerator.num_processes),
            *([self.plan.augmentation.name] if self.plan.augmentation else []),
            *(start.identity if start else []),
            *(distillation.identity if distillation else []),
        ):
            whole.update(path_bytes(part) + b"\0")
        return whole.hexdigest()

    def _announce(
        self,
        number: int,
        fold: Fold,
        stage: StageSection,
        model: Model,
        start: Start | None,
        distillation: Distillation | None,
        precision: str,
        why: str,
    ) -> None:
        count = sum(parameter.numel() for parameter in model.net.parameters())  # the frozen ones too
        log.info(
            "fold %d, stage %s: %s with %s, %s on %s, validation on %d",
            number, stage.name, stage.net.arch, counted(count, "parameter"), counted(stage.epochs, "epoch"),
            counted(len(fold.train), "case"), len(fold.validation),
        )  # fmt: skip
        if start:
            start.tell()
        if distillation:
            distillation.tell()
        log.info("%s, channels last, in %s (%s)", self.accelerator.device, precision, why)
        if stage.batch > len(fold.train) * self.recipe.augment.copies:
            log.warning(
                "a batch of %d is more than all %s: every step takes them all",
                stage.batch,
                counted(len(fold.train), "training case"),
            )
        without = self.plan.data.checked.empty
        if self.recipe.augment.paste and self.recipe.data.fit != "tile" and without.isdisjoint(fold.train):
            log.warning("augment.paste: every training case has foreground, so nothing is pasted")
        with self.run.manifest_changed() as manifest:
            manifest.setdefault("stages", {})[f"fold-{number}/{stage.name}"] = (
                {"net": model.net_options, "parameters": count, "precision": precision}
                | ({"start": start.metadata()} if start else {})
                | ({"teacher": distillation.metadata} if distillation else {})
            )

    def _choose(self, number: int, best: Path, epoch: int, stage: StageSection, fold: Fold) -> None:
        """Choose what the recipe left to `auto` on validation cases, and store it in the model."""
        from pocketseg.training.model import Model

        rules = self.recipe.postprocess
        auto = [name for name in ("threshold", "min_peak", "min_pixels") if getattr(rules, name) == "auto"]
        model = Model.load(best)
        by_presence = rules.presence is not None and rules.presence.specificity is not None
        if not auto and not by_presence:
            self._pack(model, best)
            return
        # From the recipe's start values again, so that a resumed run chooses the same.
        start = self.plan.pipeline.postprocess
        left: dict[str, str] = {}
        if by_presence:
            chosen = self._presence(stage, fold, self._maps(model, fold))
            start = replace(start, presence=chosen.limits if chosen.found else ())
            left |= {f"presence of {name}": why for name, why in chosen.left.items()}
        pipeline, choice = model.pipeline, None
        if auto:
            maps = self._maps(model, fold)
            choice = choose_rules(start, auto, maps, pipeline.classes, multilabel=pipeline.multilabel)
        model.pipeline = replace(model.pipeline, postprocess=start if choice is None else choice.rules)
        model.net.cpu()
        model.save(best, model.metadata)
        self._pack(model, best)
        if choice is not None:
            values = _values(choice.rules, auto, pipeline.classes if pipeline.multilabel else ())
            _tell_rules(stage.name, epoch, values, choice)
            left |= choice.left
        with self.run.manifest_changed() as manifest:
            about = manifest.setdefault("stages", {}).setdefault(f"fold-{number}/{stage.name}", {})
            about["rules left"] = left

    def _maps(self, model: Model, fold: Fold) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.uint8]]]:
        """Group, probabilities and mask of every validation case."""
        predictor = model.predictor(self.accelerator.device)
        for case in self.cases.named(fold.validation):
            yield case.group, predictor.predict(self.cases.image(case), case.spacing_mm), self.cases.mask(case)

    def _presence(
        self, stage: StageSection, fold: Fold, maps: Iterable[tuple[str, NDArray[np.float32], NDArray[np.uint8]]]
    ) -> PresenceChoice:
        """From which evidence on anything is there, on validation cases and what other folds' nets said of others."""
        section, classes = self.recipe.postprocess.presence, self.plan.pipeline.classes
        assert section is not None and section.specificity is not None
        known = evidence_of(maps, classes)
        groups = {case.name: case.group for case in self.cases.named(fold.train)}
        for file in section.out_of_fold:
            found = evidence_in(scores_in(Path(file)), groups)
            log.info("%s: %s of training cases here, which its net has to have learned nothing from", file,
                     counted(len(found), "row"))  # fmt: skip
            known += found
        choice = choose_presence(known, classes, section.specificity)
        for name, one in choice.found.items():
            log.info(
                "stage %s: %s is there where the evidence is above %.9g, which leaves %d of %d cases without it empty "
                "and misses %d of %d with it", stage.name, name, one.threshold, one.negative - one.false_alarms,
                one.negative, one.missed, one.positive,
            )  # fmt: skip
        for name, why in choice.left.items():
            log.warning("stage %s: no limit of presence for %s (%s)", stage.name, name, why)
        return choice

    def _pack(self, model: Model, best: Path) -> None:
        """A quantized model is stored once more in the bits it needs."""
        if model.quant is not None:
            packed = StageFolder(best.parent).packed
            model.save_packed(packed)
            log.info("%s: %s", packed, counted(packed.stat().st_size, "byte"))

    def _evaluate(self, fold: FoldPlan) -> list[Summary]:
        """Score every stage that learned to segment; what the last one found is the fold's result."""
        *earlier, last = (plan.section for plan in fold.stages)
        for stage in earlier:
            if stage.loss is not None:
                self._score(fold.number, fold.cases, stage, stage.name)
        return self._score(fold.number, fold.cases, last)

    def _score(self, number: int, fold: Fold, stage: StageSection, place: str | None = None) -> list[Summary]:
        """Score a stage's best model in f32 on the parts the recipe names."""
        from pocketseg.training.model import Model

        predictor = Model.load(self.run.stage(number, stage.name).best).predictor(self.accelerator.device)
        summaries = []
        asked = self.recipe.evaluate.parts
        for part in [*asked, *(["fixed_test"] if "test" in asked else [])]:
            chosen = self.cases.named(fold.part(part))
            if not chosen:
                continue
            rows = score_cases(
                self.cases,
                chosen,
                asking(predictor),
                self.plan.pipeline.classes,
                self.progress_of(f"evaluating {stage.name}, {part}"),
                metric_config(self.recipe.evaluate),
            )
            write_scores(rows, self.run.scores_file(number, part, place))
            summaries += summarize(rows, part)
        write_summaries(summaries, self.run.summary_file(number, place))
        return summaries


def _values(rules: Postprocess, names: Sequence[str], overlapping: Sequence[str]) -> dict[str, float]:
    """Rules by name; of classes that overlap each has a threshold."""
    found: dict[str, float] = {}
    for name in names:
        if name == "threshold" and overlapping:
            limits = zip(overlapping, rules.limits(len(overlapping)), strict=True)
            found |= {f"threshold of {each}": limit for each, limit in limits}
        else:
            found[name] = getattr(rules, name)
    return found
