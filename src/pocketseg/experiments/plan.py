"""What a training does, decided before it begins: every fault is found here, and what trains looks at the plan only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pocketseg.data import Cases, CheckedData, Fold, Split
from pocketseg.data.case import ChannelSource
from pocketseg.data.doctor.fits import misfits
from pocketseg.data.doctor.sets import split_findings
from pocketseg.data.split import PARTS
from pocketseg.errors import DataError, RecipeError
from pocketseg.evaluation import scores_in
from pocketseg.experiments.distillation import (
    DistillationPlan,
    in_stage,
    model_teacher,
    refuse_test_images,
    runs_of,
    shared_teacher,
    unlabelled_cases,
)
from pocketseg.experiments.initialization import Initialization, Key, refuse_leak, trained_weights, weight_file
from pocketseg.experiments.target import Target
from pocketseg.pipeline import Normalization, Pipeline, Postprocess, TrainedOn
from pocketseg.pipeline.intensity import Numbers, converts, numbers_of
from pocketseg.recipes import Recipe, StageSection
from pocketseg.recipes.schema import DataSection, PostprocessSection
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import make_split, open_cases, reading_of
from pocketseg.text import counted
from pocketseg.training.own_augment import Function, OwnAugmentation, own_augmentation

# Called with (what, done, of) while something long goes on that is not a training.
Progress = Callable[[str, int, int], None]
Stamps = Mapping[Path, tuple[int, int]]


@dataclass(frozen=True)
class OpenedData:
    """A data set that has been read through once.

    Attributes:
        cases: of it.
        checked: what reading them found.
        stamps: size and time of change of every file, as they were before.
    """

    cases: Cases
    checked: CheckedData
    stamps: Stamps


@dataclass(frozen=True)
class StagePlan:
    """A stage in one fold.

    Attributes:
        section: how it is trained.
        net: {"arch": …} and its options.
        initialization: where its weights come from; None: random ones.
        distillation: who teaches it, or None.
    """

    section: StageSection
    net: Mapping[str, Any]
    initialization: Initialization | None
    distillation: DistillationPlan | None


@dataclass(frozen=True)
class FoldPlan:
    """A fold: its number, the names of its cases, and its stages in order."""

    number: int
    cases: Fold
    stages: tuple[StagePlan, ...]


@dataclass(frozen=True)
class RunPlan:
    """A run, or some folds of it.

    Attributes:
        recipe: what the run folder keeps, and what all stages share.
        data: the data set.
        split: of all folds.
        pipeline: of all stages, but for what the training images teach.
        folds: those to be trained.
        augmentation: the user's function, or None.
    """

    recipe: Recipe
    data: OpenedData
    split: Split
    pipeline: Pipeline
    folds: tuple[FoldPlan, ...]
    augmentation: OwnAugmentation | None = None


def open_data(path: str | Path, section: DataSection, progress: Progress | None = None) -> OpenedData:
    """Read a data set through, with a digest of all its files.

    Raises:
        DataError: what cannot be read or does not fit together, all of it.
    """
    cases = open_cases(path, section)
    stamps = file_stamps(cases)
    checked = cases.check(None if progress is None else lambda done, of: progress("reading", done, of))
    return OpenedData(cases, checked, stamps)


def file_stamps(cases: Cases) -> dict[Path, tuple[int, int]]:
    """Size and time of change of every file; those that are gone are left out."""
    found = {}
    for path in cases.files():
        with suppress(OSError):
            status = path.stat()
            found[path] = status.st_size, status.st_mtime_ns
    return found


def plan_run(
    recipe: Recipe,
    data: OpenedData,
    run: RunFolder,
    *,
    begun: bool = False,
    split: str | Path | None = None,
    fold: int | None = None,
    augment: Function | None = None,
) -> RunPlan:
    """Decide what is trained, and check all that can be before training.

    Args:
        recipe: what to do.
        data: on what.
        run: the run folder; nothing is written.
        begun: whether the run has begun, so that its split holds.
        split: a split file instead of the recipe's rule.
        fold: only this one.
        augment: the user's function that changes training samples.

    Raises:
        PocketsegError: a split, channels, weights, starts or teachers that do not fit.
    """
    cases, checked = data.cases, data.checked
    recipe = with_channels(recipe, checked)
    whole = make_split(recipe.split, cases, checked.duplicates, split, run if begun else None)
    folds = {number: whole.fold(number) for number in (range(len(whole.folds)) if fold is None else [fold])}
    split_groups = [finding.problem for finding in split_findings(whole, checked.duplicates, (), "the split")]
    if split_groups:
        raise DataError.of(split_groups)
    if not all(stage.teacher for stage in recipe.stages):
        for found in folds.values():
            _check_foreground(found, data)
    if recipe.data.drop_empty == "train":
        folds = {number: _without_empty(found, checked) for number, found in folds.items()}
    _check_channels(recipe.data, checked)
    _check_pixel_weights(recipe, data, folds)
    augmentation = own_augmentation(recipe.augment.own, augment, len(recipe.data.classes))
    if augmentation is not None:
        _check_maps(recipe, augmentation)
    for file in recipe.postprocess.presence.out_of_fold if recipe.postprocess.presence else ():
        scores_in(Path(file))
    pipeline = pipeline_of(recipe, _numbers(recipe.data, checked))
    pipeline = replace(pipeline, reading=replace(pipeline.reading, channel_files=_channel_files(cases)))
    _check_fit(data, folds, pipeline)
    planner = _Planner(recipe, data, run, whole, pipeline)
    plans = tuple(planner.fold(number, found) for number, found in folds.items())
    return RunPlan(recipe, data, whole, planner.pipeline, plans, augmentation)


def with_channels(recipe: Recipe, checked: CheckedData) -> Recipe:
    """The recipe with the channels of its images, where it leaves them to the data."""
    if recipe.data.channels != "auto":
        return recipe
    data = recipe.data.model_copy(update={"channels": checked.fitting_channels})
    return recipe.model_copy(update={"data": data})


def pipeline_of(recipe: Recipe, numbers: Numbers | None = None) -> Pipeline:
    """The pipeline of a recipe's stages, but for what the training images teach and the stride of the net."""
    data, normalize = recipe.data, recipe.normalize
    return Pipeline(
        size=data.size,
        channels=channels_of(data),
        classes=tuple(data.classes),
        multilabel=data.multilabel,
        fit=data.fit,
        intensity_range=data.range,
        spacing_mm=data.spacing_mm,
        paint_out_calipers=data.paint_out_calipers,
        tta=tuple(recipe.tta),
        reading=reading_of(data),
        normalization=Normalization(normalize.kind, normalize.clip),
        postprocess=mildest_rules(recipe.postprocess),
        trained_on=TrainedOn(numbers),
    )


def channels_of(section: DataSection) -> int:
    """The number of channels; one where it was left to data that nobody has seen."""
    return 1 if section.channels == "auto" else section.channels


def mildest_rules(rules: PostprocessSection) -> Postprocess:
    """The recipe's rules, with the mildest where it leaves the choice to validation."""
    return Postprocess(
        threshold=rules.threshold if isinstance(rules.threshold, float) else 0.5,
        thresholds=tuple(rules.threshold) if isinstance(rules.threshold, list) else (),
        fill_holes=rules.fill_holes,
        min_peak=0.0 if rules.min_peak == "auto" else rules.min_peak,
        min_pixels=0 if rules.min_pixels == "auto" else rules.min_pixels,
        keep=rules.keep,
        presence=() if rules.presence is None else tuple(rules.presence.evidence or ()),
    )


class _Planner:
    """What the plans of a run's folds share: nets, and what is read once for all of them."""

    def __init__(self, recipe: Recipe, data: OpenedData, run: RunFolder, split: Split, pipeline: Pipeline) -> None:
        self.data, self.run, self.split, self.pipeline = data, run, split, pipeline
        self.nets = {stage.name: {"arch": stage.net.arch, **stage.net.options} for stage in recipe.stages}
        self.targets = [Target(stage, self.nets[stage.name], pipeline).with_stride() for stage in recipe.stages]
        for target in self.targets:
            _check_batch(target)
            _check_deep(target)
        self.weight_files = [weight_file(target) for target in self.targets]
        self.teachers = [shared_teacher(target) for target in self.targets]
        self.unlabelled = [
            [] if stage.teacher is None else unlabelled_cases(stage.teacher, pipeline.channels)
            for stage in recipe.stages
        ]

    def fold(self, number: int, fold: Fold) -> FoldPlan:
        stages = (
            StagePlan(target.stage, target.net, self.initialized(at, number, fold), self.taught(at, number, fold))
            for at, target in enumerate(self.targets)
        )
        return FoldPlan(number, fold, tuple(stages))

    def initialized(self, at: int, number: int, fold: Fold) -> Initialization | None:
        """Where the weights of a stage come from."""
        target, init = self.targets[at], self.targets[at].stage.init
        if init is None or init.weights is not None:
            return self.weight_files[at]
        if init.run is not None and not init.allow_leak:
            self.refuse_leak(target.stage, "init", init.run, number, fold)
        return trained_weights(target, number, self.run, self.nets)

    def taught(self, at: int, number: int, fold: Fold) -> DistillationPlan | None:
        """Who teaches a stage, if anybody does."""
        target, section, cases = self.targets[at], self.targets[at].stage.teacher, self.data.cases
        if section is None:
            return None
        joining = self.unlabelled[at]
        if not section.allow_leak:
            for run in runs_of(section):
                self.refuse_leak(target.stage, "teacher", run, number, fold)
            refuse_test_images(joining, cases.named(fold.unseen))
        with in_stage(at):
            source = self.teachers[at] or model_teacher(target, number, self.run, self.nets)
            source.check([*cases.named(fold.train), *joining])
        return DistillationPlan(target, source, joining)

    def refuse_leak(self, stage: StageSection, key: Key, run: str, number: int, fold: Fold) -> None:
        refuse_leak(stage, key, run, number, fold, self.split.groups, self.data.checked.digest)


def _check_batch(target: Target) -> None:
    if target.stage.batch == 1 and target.pipeline.net_size == (target.pipeline.multiple,) * 2:
        raise RecipeError(
            target.where,
            "a batch of 1 whose deepest level is a single pixel gives the norms nothing to learn from",
            "use a larger batch or data.size, or fewer blocks",
        )


def _check_deep(target: Target) -> None:
    if target.stage.deep_supervision is not None:
        from pocketseg.training.deep import deep_places

        deep_places(target.skeleton(), target.stage.deep_supervision.levels, target.where)


def _check_channels(section: DataSection, checked: CheckedData) -> None:
    wanted = channels_of(section)
    strange = [have for have in sorted(checked.channels) if not converts(have, wanted, have in checked.contrasts)]
    if strange:
        raise RecipeError(
            "data.channels",
            f"is {wanted}, but there are images with {' and '.join(map(str, strange))} channels",
            f"set data.channels={strange[-1]}",
        )


def _channel_files(cases: Cases) -> tuple[str, ...]:
    """How the files are called that hold the channels of one image, where they are several."""
    return next((case.image.endings for case in cases if isinstance(case.image, ChannelSource)), ())


def _check_fit(data: OpenedData, folds: Mapping[int, Fold], pipeline: Pipeline) -> None:
    """Refuse images that cannot come to the net's grid."""
    names = {name for fold in folds.values() for part in PARTS for name in fold.part(part)}
    chosen = [case for case in data.cases if case.name in names]
    if problems := list(misfits(chosen, data.checked.shapes, pipeline)):
        raise DataError.of(problems)


def _numbers(section: DataSection, checked: CheckedData) -> Numbers | None:
    """What kind of numbers the images hold, where no declared range says what they mean."""
    return None if section.range is not None else numbers_of(checked.stored)


def _check_pixel_weights(recipe: Recipe, data: OpenedData, folds: Mapping[int, Fold]) -> None:
    from pocketseg.training.samples import no_weights

    if any(stage.loss is not None and stage.loss.pixel_weights == "files" for stage in recipe.stages):
        train = [case for found in folds.values() for case in data.cases.named(found.train)]
        problems = [problem for case in train if case.weights is None for problem in no_weights(case).problems]
        if problems:
            raise DataError.of(problems)


def _check_maps(recipe: Recipe, augmentation: OwnAugmentation) -> None:
    """Refuse maps that lie on images and would not move with them: nobody knows what the function does."""
    for stage in recipe.stages:
        where = f"stage {stage.name!r}"
        if stage.loss is not None and stage.loss.pixel_weights is not None:
            what = f"has weights of pixels, which {augmentation.name} does not move with the image"
            raise RecipeError(where, what, "set loss.pixel_weights=null, or leave out the function")
        if stage.soft_masks:
            what = f"has soft masks, which {augmentation.name} does not move with the image"
            raise RecipeError(where, what, "set soft_masks=false, or leave out the function")
        if stage.distil is not None and stage.teacher is not None and stage.teacher.outputs != "live":
            what = f"may learn from stored answers, which {augmentation.name} does not move with the image"
            raise RecipeError(where, what, "set teacher.outputs=live, or leave out the function")


def _check_foreground(fold: Fold, data: OpenedData) -> None:
    """Refuse a training part from which nothing can be learned; a teacher may know more than the masks."""
    if data.checked.empty.issuperset(fold.train):
        what = (
            f"all masks of the training part ({counted(len(fold.train), 'case')}) are empty: there is nothing to learn"
        )
        fix = "look at them (`pocketseg data preview DATA --out page.html`), and say what is foreground by data.mask"
        raise DataError(str(data.cases.root), what, fix)


def _without_empty(fold: Fold, checked: CheckedData) -> Fold:
    """The fold without blank images and empty masks in its training part; all are scored."""
    kept = tuple(name for name in fold.train if name not in checked.empty and name not in checked.blank)
    if not kept:
        what = "all training cases are blank or have an empty mask"
        raise RecipeError("data.drop_empty=train", what, "check the masks, or set data.drop_empty=null")
    return replace(fold, train=kept)
