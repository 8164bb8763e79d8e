"""Knowledge distillation of a stage: who teaches it, found and checked before training, and what it learns.

A teacher is one of three: models of ours, an exported ONNX file, or a folder of probability maps.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pocketseg.data import Case
from pocketseg.data.case import FileSource
from pocketseg.data.layouts.listing import image_files
from pocketseg.errors import DataError, Problem, RecipeError
from pocketseg.experiments.initialization import best_of
from pocketseg.experiments.target import Target
from pocketseg.files import by_parts, sha256_of, write_atomically
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.geometry import place
from pocketseg.pipeline.intensity import converts
from pocketseg.predictors import load_onnx
from pocketseg.recipes.schema import AugmentSection, TeacherSection
from pocketseg.runs.folder import RunFolder
from pocketseg.text import counted
from pocketseg.training.stage_folder import StageFolder

if TYPE_CHECKING:
    import torch

    from pocketseg.predictors import NetPredictor
    from pocketseg.training.device import Precision
    from pocketseg.training.hints import Hints
    from pocketseg.training.model import Model
    from pocketseg.training.objective import DistillationObjective
    from pocketseg.training.samples import Samples
    from pocketseg.training.teachers import MapFolder, Teacher

log = logging.getLogger("pocketseg")

# Batches by which a teacher that runs is compared with probabilities that are read.
MEASURED = 3


# --- who teaches ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelTeacher:
    """Trained models of ours; several answer with the mean of their probabilities.

    Attributes:
        student: the stage that learns.
        files: `best.safetensors` of each.
        external: whether they are of other runs; an earlier stage of this recipe is described by the recipe.
        net: of an earlier stage, which may not be trained so far.
    """

    student: Target
    files: list[Path]
    external: bool
    net: Mapping[str, Any] | None = None
    # Whether one can tell which cases it was trained on.
    verifiable: ClassVar[bool] = True

    @cached_property
    def opened(self) -> tuple[list[str], list[Model]]:
        """The files' digests and the models, read at one moment."""
        from pocketseg.training.model import Model

        models = [Model.load(path) for path in self.files]
        return [sha256_of(path) for path in self.files], models

    def check(self, taught: Sequence[Case]) -> None:
        from pocketseg.training.teachers import check_translation

        if self.net is not None:
            self.hints_from(self.net, replace(self.student, net=self.net).with_stride().pipeline)
            return
        _, models = self.opened
        for path, model in zip(self.files, models, strict=True):
            check_translation(self.student.pipeline, model.pipeline, f"teacher {path}")
            self.hints_from(model.net_options, model.pipeline)

    def identity(self, taught: Sequence[Case]) -> list[str]:
        return self.opened[0] if self.external else []

    def taken(self) -> list[Model]:
        """The models, which the plan then holds no longer: they go to the training's device."""
        digests, models = self.opened
        self.__dict__["opened"] = digests, []
        return models

    def hints_from(self, net: Mapping[str, Any], theirs: Pipeline) -> Hints | None:
        """The hints from a teacher of this net and pipeline."""
        from pocketseg.training.hints import choose_hints

        ours = self.student.pipeline
        if self.student.stage.hints is None:
            return None
        seen = replace(theirs, size=ours.size) if theirs.fit == "tile" else theirs
        return choose_hints(
            self.student.stage.hints,
            self.student.skeleton(),
            replace(self.student, net=net, pipeline=replace(ours, channels=theirs.channels)).skeleton(),
            (ours.channels, *ours.net_size),
            (theirs.channels, *seen.net_size),
        )


@dataclass(frozen=True)
class OnnxFile:
    """A model that `pocketseg export` wrote."""

    student: Target
    file: Path
    verifiable: ClassVar[bool] = False

    @property
    def files(self) -> list[Path]:
        return [self.file]

    @cached_property
    def opened(self) -> tuple[list[str], NetPredictor]:
        """The file's digest and what runs it, read at one moment."""
        predictor = load_onnx(self.file)
        return [sha256_of(self.file)], predictor

    def check(self, taught: Sequence[Case]) -> None:
        from pocketseg.training.teachers import OnnxTeacher, check_translation

        _, predictor = self.opened
        check_translation(self.student.pipeline, predictor.pipeline, f"teacher.onnx {self.file}")
        OnnxTeacher(predictor, self.student.pipeline)

    def identity(self, taught: Sequence[Case]) -> list[str]:
        return self.opened[0]


@dataclass(frozen=True)
class ProbabilityMaps:
    """A folder of probability maps, made by any program."""

    student: Target
    folder: Path
    verifiable: ClassVar[bool] = False

    @property
    def files(self) -> list[Path]:
        return [self.folder]

    @cached_property
    def maps(self) -> MapFolder:
        from pocketseg.training.teachers import MapFolder

        return MapFolder(self.folder, self.student.pipeline.classes)

    def check(self, taught: Sequence[Case]) -> None:
        fit = self.student.pipeline.fit
        if fit not in ("resize", "tile"):
            what = f"lie on the images' grid, which data.fit={fit} does not keep"
            raise RecipeError("teacher.maps", what, "set data.fit to resize or tile, or give the teacher as a run")
        self.maps.check(taught)

    def identity(self, taught: Sequence[Case]) -> list[str]:
        return [self.maps.digest(taught)]


# Who teaches. Each can `check` before training whether it can teach some cases, and has an `identity`: digests that a
# resumed training must find again.
TeacherSource = ModelTeacher | OnnxFile | ProbabilityMaps


@dataclass(frozen=True)
class DistillationPlan:
    """Who teaches a stage in one fold.

    Attributes:
        student: the stage that learns.
        source: the teacher.
        unlabelled: images without masks that join the training cases.
    """

    student: Target
    source: TeacherSource
    unlabelled: Sequence[Case]


def shared_teacher(student: Target) -> OnnxFile | ProbabilityMaps | None:
    """The file or folder that teaches a stage in all folds; None where models of ours teach it, or nobody."""
    section = student.stage.teacher
    if section is None:
        return None
    if section.maps is not None:
        return ProbabilityMaps(student, Path(section.maps))
    return None if section.onnx is None else OnnxFile(student, Path(section.onnx))


def model_teacher(student: Target, fold: int, run: RunFolder, earlier: Mapping[str, Mapping[str, Any]]) -> ModelTeacher:
    """The models of ours that teach a stage in one fold.

    Args:
        student: the stage that learns, whose `teacher` names runs or a stage.
        fold: number of the fold.
        run: its run folder.
        earlier: the nets of the recipe's stages by name.

    Raises:
        PocketsegError: a run that is missing, or not trained.
    """
    section = student.teacher
    if runs := runs_of(section):
        stage = section.stage if section.run else None
        return ModelTeacher(student, [best_of("teacher", each, fold, stage) for each in runs], external=True)
    assert section.stage is not None
    return ModelTeacher(student, [run.stage(fold, section.stage).best], external=False, net=earlier[section.stage])


def runs_of(section: TeacherSection) -> list[str]:
    """The run folders that teach."""
    return [section.run] if section.run is not None else section.runs or []


@contextmanager
def in_stage(index: int) -> Iterator[None]:
    """Gives the keys in errors of a stage the place of the stage."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError.of(
            [replace(problem, where=f"stages.{index}.{problem.where}") for problem in error.problems]
        ) from None


# --- unlabelled images ------------------------------------------------------------------------------------------


def unlabelled_cases(section: TeacherSection, channels: int) -> list[Case]:
    """Cases without masks, all of them read once.

    Raises:
        DataError: no image, one that cannot be read, or another number of channels; all reported together.
    """
    from pocketseg.training.teachers import UNLABELLED

    if section.unlabelled is None:
        return []
    root = Path(section.unlabelled)
    files = image_files(root) + [
        file for folder in by_parts(root.rglob("*")) if folder.is_dir() for file in image_files(folder)
    ]
    problems: list[Problem] = []
    found: dict[str, Case] = {}
    for file in files:
        # A name that no case with a mask has.
        name = f"{UNLABELLED}{file.relative_to(root).with_suffix('').as_posix()}"
        if name in found:
            problems.append(Problem(str(file), f"has the name of {found[name].image.where}", "rename one of them"))
        found[name] = Case(name, FileSource(file), ())
        try:
            image = found[name].image.image()
            have = 1 if image.ndim == 2 else image.shape[2]
            if not converts(have, channels):
                problems.append(
                    Problem(str(file), f"has {counted(have, 'channel')}, the net takes {channels}", "convert it")
                )
        except DataError as error:
            problems += error.problems
    if not found:
        problems.append(Problem(str(root), "holds no images", "check teacher.unlabelled"))
    if problems:
        raise DataError.of(problems)
    return list(found.values())


def refuse_test_images(joining: Sequence[Case], test: Sequence[Case]) -> None:
    """Images that will evaluate a net are not to train it, not even without their masks."""
    if not joining:
        return
    evaluated = {sha256_of(case.image.path): case.name for case in test}
    for case in joining:
        name = evaluated.get(sha256_of(case.image.path))
        if name is not None:
            raise DataError(
                case.image.where,
                f"is the image of the test case {name!r}",
                "leave test cases out of teacher.unlabelled, or set teacher.allow_leak=true",
            )


# --- what is learned --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distillation:
    """What a stage learns from its teacher, what a resumed training must find again, and what is said of it."""

    stage: str
    objective: DistillationObjective
    identity: list[str]
    metadata: dict[str, Any]
    why: str
    verifiable: bool

    def tell(self) -> None:
        """Who teaches, how, and what could not be checked."""
        log.info("stage %s learns from %s; %s", self.stage, ", ".join(self.metadata["files"]), self.why)
        if not self.verifiable:
            log.warning(
                "stage %s: nobody can tell which cases %s learned from; if the test cases are among them, the result "
                "will be too optimistic", self.stage, self.metadata["files"][0],
            )  # fmt: skip
        if self.objective.unlabelled:
            log.info("stage %s: %d unlabelled images join", self.stage, len(self.objective.unlabelled))
        if self.objective.hints is not None:
            each = self.objective.hints.each
            heaviest = max(each, key=lambda hint: hint.weight)
            log.info(
                "stage %s: %d hints (%s), the heaviest %s from %s with %.2f of %.2f",
                self.stage, len(each), self.objective.hints.kind, heaviest.student, heaviest.teacher, heaviest.weight,
                sum(hint.weight for hint in each),
            )  # fmt: skip
            for hint in each:
                log.debug("stage %s: hint %s from %s, weight %.4g", self.stage, hint.student, hint.teacher, hint.weight)


def prepare_distillation(
    plan: DistillationPlan,
    augment: AugmentSection,
    samples: Samples,
    folder: StageFolder,
    device: torch.device,
    precision: Precision,
) -> Distillation:
    """What a stage learns in one fold.

    Args:
        plan: who teaches.
        augment: how the samples change from epoch to epoch.
        samples: of the student.
        folder: of its stage.
        device, precision: where and in what the teacher runs.
    """
    from pocketseg.training.objective import DistillationObjective

    source, joining = plan.source, plan.unlabelled
    taught = [*samples.part, *joining]
    digests = source.identity(taught)
    hints, teacher, planes, chosen, why = None, None, None, "maps", "its probability maps are read"
    if isinstance(source, ProbabilityMaps):
        planes = source.maps.planes
    else:
        teacher, hints = _running(source, samples.pipeline, device, precision)
        chosen, why = _outputs(plan, augment, teacher, samples, folder, device)
        if chosen == "cached":
            planes = _cached(teacher, samples, taught, folder, device).planes
            teacher = None
    metadata = {
        "files": [path.as_posix() for path in source.files],
        "sha256": digests or [sha256_of(path) for path in source.files],
        "outputs": chosen,
        "unlabelled": len(joining),
        "hints": [[hint.student, hint.teacher, hint.weight] for hint in hints.each] if hints else [],
    }
    objective = DistillationObjective(teacher, planes, plan.student.stage.distil, hints, joining)
    identity = ([_digest(joining)] if joining else []) + digests
    return Distillation(plan.student.stage.name, objective, identity, metadata, why, source.verifiable)


def _running(
    source: ModelTeacher | OnnxFile, ours: Pipeline, device: torch.device, precision: Precision
) -> tuple[Teacher, Hints | None]:
    """The teacher as it answers batches, and what is learned of its layers."""
    from pocketseg.training.teachers import Ensemble, NetTeacher, OnnxTeacher

    if isinstance(source, OnnxFile):
        return OnnxTeacher(source.opened[1], ours), None
    models = source.taken()
    hints = source.hints_from(models[0].net_options, models[0].pipeline)
    places = [hint.teacher for hint in hints.each] if hints else []
    members = [NetTeacher(model, ours, device, precision, places) for model in models]
    return (members[0] if len(members) == 1 else Ensemble(members)), hints


def _digest(cases: Sequence[Case]) -> str:
    whole = hashlib.sha256()
    for case in cases:
        whole.update(f"{case.name}\0{sha256_of(case.image.path)}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _outputs(
    plan: DistillationPlan,
    augment: AugmentSection,
    teacher: Teacher,
    samples: Samples,
    folder: StageFolder,
    device: torch.device,
) -> tuple[str, str]:
    """`live` or `cached`, and why.

    Left to itself, a choice must not change what is taught: only where no sample ever changes are cached answers those
    that the teacher would give. There the faster way is taken, as measured on a few batches.
    """
    stage, wanted = plan.student.stage, plan.student.teacher.outputs
    if wanted != "auto":
        return wanted, f"{wanted}, as the recipe says"
    if stage.hints is not None:
        return "live", "live, since hints need the teacher itself"
    unchanging = AugmentSection(copies=augment.copies, border=augment.border)
    if augment != unchanging or samples.pipeline.fit == "tile":
        return "live", "live, since the samples change from epoch to epoch"
    # What was measured once holds for a resumed training, and for the other processes.
    kept = folder.teacher_choice
    if kept.exists():
        chosen = json.loads(kept.read_text(encoding="utf-8"))["outputs"]
        return chosen, f"{chosen}, as measured before"
    few = list(samples.part[: stage.batch])
    maps = _cached(teacher, samples, few, folder, device)
    size = samples.pipeline.size
    live = _seconds(lambda: _predict(teacher, samples, few, device))
    read = _seconds(lambda: [maps.planes(case, size) for case in few])
    chosen = "cached" if read < live else "live"
    per = 1000 / len(few)
    write_atomically(kept, json.dumps({"outputs": chosen, "live_ms": live * per, "cached_ms": read * per}) + "\n")
    return (
        chosen,
        f"{chosen}: no sample changes, and an answer takes {live * per:.2f} ms live, {read * per:.2f} ms cached",
    )


def _seconds(work: Any) -> float:
    """The shortest of a few times."""
    found = []
    for _ in range(MEASURED):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def _predict(teacher: Teacher, samples: Samples, cases: Sequence[Case], device: torch.device) -> None:
    import numpy as np
    import torch

    images = torch.from_numpy(np.stack([samples.prepared(case)[0] for case in cases])).to(device)
    teacher.predict(images)[0].cpu()  # waits for the device


def _cached(
    teacher: Teacher, samples: Samples, cases: Sequence[Case], folder: StageFolder, device: torch.device
) -> MapFolder:
    """Ask the teacher about every case that is not in the cache, as the student sees it before augmentation."""
    import torch

    from pocketseg.training.teachers import MapFolder, probabilities_of, write_map

    ours = samples.pipeline

    def forward(batch: Any) -> Any:
        return teacher.predict(torch.from_numpy(batch).to(device))[0].cpu().numpy()

    for case in cases:
        if (folder.teacher / f"{case.name}.npy").exists():
            continue
        prepared = samples.prepared(case)[0]
        if ours.fit != "tile":
            found = probabilities_of(torch.from_numpy(forward(prepared[None])))[0].movedim(0, -1).numpy()
        else:
            grid = (prepared.shape[1], prepared.shape[2])
            found = ours.predict_prepared(prepared, place(grid, ours.size, "tile"), forward)
        write_map(folder.teacher, case, found)
    return MapFolder(folder.teacher, ours.classes)
