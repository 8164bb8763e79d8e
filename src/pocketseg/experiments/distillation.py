"""Who teaches a stage, checked before anything is trained, and what the stage learns from it."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pocketseg.data import Case, Cases, Fold
from pocketseg.data.case import FileSource
from pocketseg.data.layouts.listing import image_files
from pocketseg.errors import DataError, Problem, RecipeError
from pocketseg.experiments.initialization import best_of, refuse_leak
from pocketseg.files import sha256_of, write_atomically
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.pipeline.geometry import place
from pocketseg.pipeline.intensity import converts
from pocketseg.predictors import load_onnx
from pocketseg.recipes import Recipe, StageSection
from pocketseg.recipes.schema import AugmentSection, TeacherSection
from pocketseg.runs.folder import RunFolder
from pocketseg.training.stage_folder import StageFolder

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pocketseg.training.device import Precision
    from pocketseg.training.hints import Hints
    from pocketseg.training.lesson import Lesson
    from pocketseg.training.samples import Samples
    from pocketseg.training.teachers import MapFolder, Teacher

log = logging.getLogger("pocketseg")

# Batches by which a teacher that is asked is compared with answers that are read.
MEASURED = 3


@dataclass(frozen=True)
class Teaching:
    """A stage's lesson, what a resumed training must find again, and what log and manifest say of it."""

    stage: str
    lesson: Lesson
    identity: list[str]
    facts: dict[str, Any]
    why: str
    unchecked: bool

    def tell(self) -> None:
        """Who teaches, how, and what could not be checked."""
        log.info("stage %s learns from %s; %s", self.stage, ", ".join(self.facts["files"]), self.why)
        if self.unchecked:
            log.warning(
                "stage %s: nobody can tell which cases %s learned from; if the test cases are among them, the result "
                "will flatter", self.stage, self.facts["files"][0],
            )  # fmt: skip
        if self.lesson.unlabelled:
            log.info("stage %s: %d unlabelled images join", self.stage, len(self.lesson.unlabelled))
        if self.lesson.hints is not None:
            each = self.lesson.hints.each
            heaviest = max(each, key=lambda hint: hint.weight)
            log.info(
                "stage %s: %d hints (%s), the heaviest %s from %s with %.2f of %.2f",
                self.stage, len(each), self.lesson.hints.kind, heaviest.student, heaviest.teacher, heaviest.weight,
                sum(hint.weight for hint in each),
            )  # fmt: skip
            for hint in each:
                log.debug("stage %s: hint %s from %s, weight %.4g", self.stage, hint.student, hint.teacher, hint.weight)


def check_teachers(
    recipe: Recipe, folds: Mapping[int, Fold], groups: Mapping[str, str], data_digest: str, cases: Cases
) -> None:
    """Find every teacher and pair every hint, so that nothing is trained in vain.

    Raises:
        PocketsegError: a teacher that is missing, does not fit or has seen test cases, or a hint that is impossible.
    """
    for index, stage in enumerate(recipe.stages):
        section = stage.teacher
        if section is None:
            continue
        joining = _unlabelled(recipe, section)
        for number, fold in folds.items():
            for run in _runs(section) if not section.allow_leak else []:
                refuse_leak(stage, "teacher", run, number, fold, groups, data_digest)
            if not section.allow_leak:
                _refuse_test_images(stage, joining, cases.named(fold.test))
            with _in_stage(index):
                _check_teacher(recipe, stage, number, [*cases.named(fold.train), *joining])


@contextmanager
def _in_stage(index: int) -> Iterator[None]:
    """Gives the keys in errors of a stage the place of the stage."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError.of(
            [replace(problem, where=f"stages.{index}.{problem.where}") for problem in error.problems]
        ) from None


def _check_teacher(recipe: Recipe, stage: StageSection, number: int, taught: Sequence[Case]) -> None:
    from pocketseg.training.model import Model
    from pocketseg.training.teachers import OnnxTeacher, check_translation

    section = stage.teacher
    assert section is not None
    student = _pipeline(recipe, stage)
    if section.maps is not None:
        if recipe.data.fit not in ("resize", "tile"):
            what = f"lie on the images' grid, which data.fit={recipe.data.fit} does not keep"
            raise RecipeError("teacher.maps", what, "set data.fit to resize or tile, or give the teacher as a run")
        return _maps(recipe, section.maps).check(taught)
    if section.onnx is not None:
        predictor = load_onnx(Path(section.onnx))
        check_translation(student, predictor.pipeline, f"teacher.onnx {section.onnx}")
        OnnxTeacher(predictor, student)
        return None
    if section.run is None and section.runs is None:
        options = _net_options(next(each for each in recipe.stages if each.name == section.stage))
        _hints(recipe, stage, options, _pipeline(recipe, stage, options))
        return None
    for path in _files(section, number, RunFolder(Path())):
        model = Model.load(path)
        check_translation(student, model.pipeline, f"teacher {path}")
        _hints(recipe, stage, model.net_options, model.pipeline)
    return None


def _net_options(stage: StageSection) -> dict[str, Any]:
    return {"arch": stage.net.arch, **stage.net.options}


def _pipeline(recipe: Recipe, stage: StageSection, options: Mapping[str, Any] | None = None) -> Pipeline:
    """What is known of a stage's pipeline before the training part was looked at."""
    data = recipe.data
    return Pipeline(
        size=data.size,
        channels=data.channels,
        classes=tuple(data.classes),
        fit=data.fit,
        multiple=int(_skeleton(recipe, options or _net_options(stage)).stride),  # type: ignore[arg-type]
        spacing_mm=data.spacing_mm,
        intensity_range=data.range,
        normalization=Normalization(recipe.normalize.kind, recipe.normalize.clip),
    )


def _skeleton(recipe: Recipe, options: Mapping[str, Any], channels: int | None = None) -> nn.Module:
    from pocketseg.nets import skeleton
    from pocketseg.training.model import logit_count

    return skeleton(
        in_channels=channels or recipe.data.channels, out_channels=logit_count(len(recipe.data.classes)), **options
    )


def _hints(recipe: Recipe, stage: StageSection, options: Mapping[str, Any], theirs: Pipeline) -> Hints | None:
    """The hints of a stage from a teacher of these options and this pipeline."""
    from pocketseg.training.hints import choose_hints

    if stage.hints is None:
        return None
    ours = _pipeline(recipe, stage)
    seen = replace(theirs, size=ours.size) if theirs.fit == "tile" else theirs
    return choose_hints(
        stage.hints,
        _skeleton(recipe, _net_options(stage)),
        _skeleton(recipe, options, theirs.channels),
        (ours.channels, *ours.net_size),
        (theirs.channels, *seen.net_size),
    )


def _runs(section: TeacherSection) -> list[str]:
    return [section.run] if section.run is not None else section.runs or []


def _files(section: TeacherSection, number: int, run: RunFolder) -> list[Path]:
    """The model files of a teacher; of an earlier stage those of this run."""
    if section.onnx is not None:
        return [Path(section.onnx)]
    found = [best_of("teacher", run, number, section.stage if section.run else None) for run in _runs(section)]
    return found or [run.stage(number, section.stage or "").best]


def _maps(recipe: Recipe, folder: str) -> MapFolder:
    from pocketseg.training.teachers import MapFolder

    return MapFolder(Path(folder), tuple(recipe.data.classes))


# --- unlabelled images ------------------------------------------------------------------------------------------


def _unlabelled(recipe: Recipe, section: TeacherSection) -> list[Case]:
    """Cases without masks, all of them read once.

    Raises:
        DataError: no image, one that cannot be read, or another number of channels; all told together.
    """
    from pocketseg.training.teachers import UNLABELLED

    if section.unlabelled is None:
        return []
    root = Path(section.unlabelled)
    files = image_files(root) + [
        file for folder in sorted(root.rglob("*")) if folder.is_dir() for file in image_files(folder)
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
            if not converts(have, recipe.data.channels):
                problems.append(
                    Problem(str(file), f"has {have} channels, the net takes {recipe.data.channels}", "convert it")
                )
        except DataError as error:
            problems += error.problems
    if not found:
        problems.append(Problem(str(root), "holds no images", "check teacher.unlabelled"))
    if problems:
        raise DataError.of(problems)
    return list(found.values())


def _refuse_test_images(stage: StageSection, joining: Sequence[Case], test: Sequence[Case]) -> None:
    """Images that will judge a net are not to train it, not even without their masks."""
    if not joining:
        return
    judged = {sha256_of(case.image.path): case.name for case in test}
    for case in joining:
        name = judged.get(sha256_of(case.image.path))
        if name is not None:
            raise DataError(
                case.image.where,
                f"is the image of the test case {name!r}",
                "leave test cases out of teacher.unlabelled, or set teacher.allow_leak=true",
            )


# --- the lesson of one fold -------------------------------------------------------------------------------------


def prepare(
    recipe: Recipe,
    stage: StageSection,
    number: int,
    samples: Samples,
    run: RunFolder,
    device: torch.device,
    precision: Precision,
) -> Teaching | None:
    """The lesson of a stage in one fold, or None where nobody teaches.

    Args:
        recipe, stage, number: what is trained, in which fold.
        samples: of the student.
        run: the run folder.
        device, precision: where and in what the teacher runs.
    """
    from pocketseg.training.lesson import Lesson
    from pocketseg.training.model import Model
    from pocketseg.training.teachers import Ensemble, NetTeacher, OnnxTeacher

    section = stage.teacher
    if section is None:
        return None
    joining, ours = _unlabelled(recipe, section), samples.pipeline
    files = [] if section.maps else _files(section, number, run)
    identity = [_digest(joining)] if joining else []
    hints, teacher, planes, chosen, why = None, None, None, "maps", "its probability maps are read"
    if section.maps is not None:
        folder = _maps(recipe, section.maps)
        identity.append(folder.digest([*samples.part, *joining]))
        planes = folder.planes
    else:
        external = [sha256_of(path) for path in files]
        identity += external if section.stage is None or section.run else []
        members: list[Teacher]
        if section.onnx is not None:
            members = [OnnxTeacher(load_onnx(files[0]), ours)]
        else:
            models = [Model.load(path) for path in files]
            hints = _hints(recipe, stage, models[0].net_options, models[0].pipeline)
            places = [hint.teacher for hint in hints.each] if hints else []
            members = [NetTeacher(model, ours, device, precision, places) for model in models]
        teacher = members[0] if len(members) == 1 else Ensemble(members)
        cache = run.stage(number, stage.name)
        chosen, why = _outputs(recipe, stage, teacher, samples, cache, device)
        if chosen == "cached":
            planes = _cached(recipe, teacher, samples, [*samples.part, *joining], cache, device).planes
            teacher = None
    facts = {
        "files": [section.maps] if section.maps else [str(path) for path in files],
        "sha256": identity if section.maps else [sha256_of(path) for path in files],
        "outputs": chosen,
        "unlabelled": len(joining),
        "hints": [[hint.student, hint.teacher, hint.weight] for hint in hints.each] if hints else [],
    }
    lesson = Lesson(teacher, planes, stage.distil, hints, joining)
    return Teaching(stage.name, lesson, identity, facts, why, bool(section.maps or section.onnx))


def _digest(cases: Sequence[Case]) -> str:
    whole = hashlib.sha256()
    for case in cases:
        whole.update(f"{case.name}\0{sha256_of(case.image.path)}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def _outputs(
    recipe: Recipe, stage: StageSection, teacher: Teacher, samples: Samples, cache: StageFolder, device: torch.device
) -> tuple[str, str]:
    """`live` or `cached`, and why.

    Left to itself, a choice must not change what is taught: only where no sample ever changes are cached answers those
    that the teacher would give. There the faster way is taken, as measured on a few batches.
    """
    assert stage.teacher is not None
    if stage.teacher.outputs != "auto":
        return stage.teacher.outputs, f"{stage.teacher.outputs}, as the recipe says"
    if stage.hints is not None:
        return "live", "live, since hints need the teacher itself"
    unchanging = AugmentSection(copies=recipe.augment.copies, border=recipe.augment.border)
    if recipe.augment != unchanging or samples.pipeline.fit == "tile":
        return "live", "live, since the samples change from epoch to epoch"
    # What was measured once holds for a resumed training, and for the other processes.
    kept = cache.teacher_choice
    if kept.exists():
        chosen = json.loads(kept.read_text(encoding="utf-8"))["outputs"]
        return chosen, f"{chosen}, as measured before"
    few = list(samples.part[: stage.batch])
    maps = _cached(recipe, teacher, samples, few, cache, device)
    size = samples.pipeline.size
    asked = _seconds(lambda: _ask(teacher, samples, few, device))
    read = _seconds(lambda: [maps.planes(case, size) for case in few])
    chosen = "cached" if read < asked else "live"
    per = 1000 / len(few)
    write_atomically(kept, json.dumps({"outputs": chosen, "live_ms": asked * per, "cached_ms": read * per}) + "\n")
    return (
        chosen,
        f"{chosen}: no sample changes, and an answer takes {asked * per:.2f} ms live, {read * per:.2f} ms cached",
    )


def _seconds(work: Any) -> float:
    """The shortest of a few times."""
    found = []
    for _ in range(MEASURED):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def _ask(teacher: Teacher, samples: Samples, cases: Sequence[Case], device: torch.device) -> None:
    import numpy as np
    import torch

    images = torch.from_numpy(np.stack([samples.prepared(case)[0] for case in cases])).to(device)
    teacher.answer(images)[0].cpu()  # waits for the device


def _cached(
    recipe: Recipe, teacher: Teacher, samples: Samples, cases: Sequence[Case], cache: StageFolder, device: torch.device
) -> MapFolder:
    """Ask the teacher about every case that is not in the cache, as the student sees it before augmentation."""
    import torch

    from pocketseg.training.teachers import probabilities_of, write_map

    ours = samples.pipeline

    def forward(batch: Any) -> Any:
        return teacher.answer(torch.from_numpy(batch).to(device))[0].cpu().numpy()

    for case in cases:
        if (cache.teacher / f"{case.name}.npy").exists():
            continue
        prepared = samples.prepared(case)[0]
        if ours.fit != "tile":
            found = probabilities_of(torch.from_numpy(forward(prepared[None])))[0].movedim(0, -1).numpy()
        else:
            grid = (prepared.shape[1], prepared.shape[2])
            found = ours.predict_prepared(prepared, place(grid, ours.size, "tile"), forward)
        write_map(cache.teacher, case, found)
    return _maps(recipe, str(cache.teacher))
