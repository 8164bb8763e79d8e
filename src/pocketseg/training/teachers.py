"""Who teaches: nets that are asked about every batch, and folders of probability maps."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pocketseg.data import Case
from pocketseg.data.case import array_names, open_array
from pocketseg.data.readers import SUFFIXES, read_image
from pocketseg.errors import DataError, Problem, RecipeError
from pocketseg.files import by_parts, inside, sha256_of, write_atomically
from pocketseg.nets.taps import tapped
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.geometry import pad_to_multiple, pad_to_size, resize
from pocketseg.pipeline.intensity import LUMA, MIN_STD, converts, stored_fractions
from pocketseg.predictors import NetPredictor
from pocketseg.text import counted
from pocketseg.training.device import Precision, autocast
from pocketseg.training.distil import logits_of
from pocketseg.training.hints import keep_outputs
from pocketseg.training.model import Model

ARRAYS = (".npz", ".npy")


class Teacher(Protocol):
    """One method, the student's input in, what the teacher says of it out."""

    def predict(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits on the student's grid, f32 (n, k', h, w), and what its hinted layers say, without gradients."""


# --- the student's input as a teacher's -------------------------------------------------------------------------


def check_translation(student: Pipeline, teacher: Pipeline, where: str) -> None:
    """Whether a teacher's input can be made from a student's.

    Raises:
        RecipeError: it cannot, or the two segment other classes.
    """
    problems: list[Problem] = []

    def refuse(what: str, fix: str) -> None:
        problems.append(Problem(where, what, fix))

    if len(student.classes) != len(teacher.classes) or (
        len(student.classes) > 1 and student.classes != teacher.classes
    ):
        refuse(
            f"the teacher's classes are {', '.join(teacher.classes)}, the student's {', '.join(student.classes)}",
            "take a teacher of the same classes in the same order",
        )
    if student.multilabel or teacher.multilabel:
        what = "classes that may overlap (data.multilabel) are not learned from teachers"
        refuse(what, "train without a teacher, or with classes that exclude each other")
    if student.fit != teacher.fit:
        refuse(
            f"the teacher was trained with data.fit={teacher.fit}, the student is with {student.fit}",
            "take the same fit, or cache its probabilities with `pocketseg predict --probabilities` as teacher.maps",
        )
    if student.fit not in ("resize", "tile") and student.size != teacher.size:
        refuse(
            f"the teacher's data.size is {teacher.size}, the student's {student.size}, and {student.fit} keeps shapes",
            "give both the same data.size",
        )
    if student.spacing_mm != teacher.spacing_mm:
        refuse(
            f"the teacher works at data.spacing_mm={teacher.spacing_mm}, the student at {student.spacing_mm}",
            "give both the same pixel size",
        )
    if not converts(student.channels, teacher.channels):
        refuse(
            f"the teacher takes {counted(teacher.channels, 'channel')}, the student {student.channels}",
            "take the same channels",
        )
    ours, theirs = student.normalization, teacher.normalization
    undone = ours.kind in ("unit-range", "train-mean-std")
    # What is normalized by an image's own numbers does not feel that it was scaled before.
    free = theirs.kind in ("min-max", "z-score")
    if not (ours == theirs or undone or (free and ours.clip is None)):
        refuse(
            f"images are normalized by {ours.kind}, which cannot be undone for a teacher with {theirs.kind}",
            "give the student normalize.kind=train-mean-std or unit-range",
        )
    declared = student.intensity_range is not None and teacher.intensity_range is not None
    if student.intensity_range != teacher.intensity_range and not (free or declared):
        refuse(
            f"the teacher's images are scaled by data.range={teacher.intensity_range}, "
            f"the student's by {student.intensity_range}",
            "give both the same data.range",
        )
    if problems:
        raise RecipeError.of(problems)


def translate(images: Tensor, student: Pipeline, teacher: Pipeline) -> Tensor:
    """A student's input (n, c, h, w) as a teacher's: normalization undone and done again, gray or color, resized."""
    ours, theirs = student.normalization, teacher.normalization
    scaled_alike = ours == theirs and student.intensity_range == teacher.intensity_range
    if not (scaled_alike and student.channels == teacher.channels):
        if ours.kind == "train-mean-std":
            images = images * _per_channel(ours.std, images) + _per_channel(ours.mean, images)
        if student.intensity_range and teacher.intensity_range:
            (low, high), (other_low, other_high) = student.intensity_range, teacher.intensity_range
            images = (images * (high - low) + low - other_low) / max(other_high - other_low, MIN_STD)
        if (student.channels, teacher.channels) == (3, 1):
            images = (images * _per_channel(tuple(LUMA.tolist()), images)).sum(1, keepdim=True)
        elif student.channels != teacher.channels:
            images = images.expand(-1, teacher.channels, -1, -1)
        images = _normalized(images, teacher)
    if student.fit == "resize" and student.size != teacher.size:
        images = F.interpolate(images, teacher.size, mode="bilinear", antialias=True)
    return images.contiguous(memory_format=torch.channels_last)


def _per_channel(values: Sequence[float], like: Tensor) -> Tensor:
    return like.new_tensor(values)[:, None, None]


def _normalized(images: Tensor, pipeline: Pipeline) -> Tensor:
    """As `pipeline.intensity.Normalization`, for a batch."""
    rule = pipeline.normalization
    match rule.kind:
        case "min-max":
            low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
            return (images - low) / (high - low).clamp_min(MIN_STD)
        case "z-score":
            centered = images - images.mean((1, 2, 3), keepdim=True)
            out = centered / centered.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(MIN_STD)
            return out if rule.clip is None else out.clamp(-rule.clip, rule.clip)
        case "train-mean-std":
            return (images - _per_channel(rule.mean, images)) / _per_channel(rule.std, images)
    return images


def _back(logits: Tensor, images: Tensor) -> Tensor:
    """Logits on the grid of the student's images."""
    shape = images.shape[2:]
    return logits if logits.shape[2:] == shape else F.interpolate(logits, shape, mode="bilinear", antialias=True)


# --- nets -------------------------------------------------------------------------------------------------------


class NetTeacher:
    """A net of ours, float or quantized, in inference mode and the stage's precision.

    Args:
        model: the teacher.
        student: the pipeline whose input it is given.
        device, precision: where and in what it runs.
        places: layers whose output is hinted.
    """

    def __init__(
        self, model: Model, student: Pipeline, device: torch.device, precision: Precision, places: Sequence[str] = ()
    ) -> None:
        self.pipeline, self.student, self.places = model.pipeline, student, list(dict.fromkeys(places))
        self.wanted = list(places)
        self.device, self.precision = device, precision
        self.net = model.net.to(device).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.net.requires_grad_(False)
        if self.places:
            keep_outputs(self.net.core, self.places)

    def predict(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        # Not inference_mode, whose tensors cannot enter a gradient's graph.
        with torch.no_grad(), autocast(self.device, self.precision):
            with tapped(self.net.core, self.places) as seen:
                logits = self.net(translate(images, self.student, self.pipeline))
            logits = _back(logits.float(), images)
        return logits, [seen[place] for place in self.wanted]


class OnnxTeacher:
    """An exported file, run by onnxruntime on the CPU; its height and width are fixed."""

    def __init__(self, predictor: NetPredictor, student: Pipeline) -> None:
        self.predictor, self.student = predictor, student
        theirs = predictor.pipeline
        if theirs.fit == "tile" and any(a > b for a, b in zip(student.size, theirs.net_size, strict=True)):
            raise RecipeError(
                f"teacher.onnx: {predictor.name}",
                f"takes tiles of at most {theirs.net_size[0]}×{theirs.net_size[1]}, the student's are larger",
                "take the run it was exported from, or a smaller data.size",
            )

    def predict(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        theirs = self.predictor.pipeline
        batch = translate(images, self.student, theirs).cpu().contiguous().numpy()
        height, width = batch.shape[2:]
        padded = [pad_to_multiple(pad_to_size(planes, theirs.size), theirs.multiple) for planes in batch]
        logits = self.predictor.forward(np.stack(padded))[:, :, :height, :width]
        return _back(torch.from_numpy(np.ascontiguousarray(logits)).to(images.device), images), []


@dataclass(frozen=True)
class Ensemble:
    """Several teachers as one: the mean of their probabilities."""

    members: Sequence[Teacher]

    def predict(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        found = torch.stack([probabilities_of(member.predict(images)[0]) for member in self.members])
        return logits_of(found.mean(0)), []


def probabilities_of(logits: Tensor) -> Tensor:
    """Foreground probabilities (n, k, h, w) of logits."""
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, 1)[:, 1:]


# --- probability maps -------------------------------------------------------------------------------------------


# How the names of images begin that a stage has beside the data, and of which only what follows is a name.
UNLABELLED = "unlabelled/"


@dataclass
class MapFolder:
    """Probability maps of cases, by name: `NAME` or `NAME_probability` as PNG, TIFF, NPY or NPZ.

    The map of a case in a folder of the data lies in a folder of that name or in none; that of any other case anywhere,
    if no second file is called so. No file is the map of two cases.

    uint8 and uint16 are divided by their maximum, other integers refused. A file has one class (h, w), or all in their
    order (h, w, k); several classes may also come as one file a class, `NAME_probability_CLASS`, as `pocketseg predict`
    writes them.
    """

    folder: Path
    classes: tuple[str, ...]
    files: dict[str, Path] = field(default_factory=dict)
    stems: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise DataError(str(self.folder), "is not a folder of probability maps", "check teacher.maps")
        paths = by_parts(path for path in self.folder.rglob("*") if path.suffix.lower() in {*SUFFIXES, *ARRAYS})
        self.files = {path.relative_to(self.folder).with_suffix("").as_posix(): path for path in paths}
        times = Counter(path.stem for path in paths)
        self.stems = {path.stem: path for path in paths if times[path.stem] == 1}

    def paths(self, case: Case) -> list[Path]:
        """The file of a case, or one for each class.

        Raises:
            DataError: there is none.
        """
        own = case.name.removeprefix(UNLABELLED)
        bare = Path(own).name
        places = ((case.name, self.files), (own, self.files), (bare, self.files if bare != own else self.stems))
        for name, files in places:
            for key in (name, f"{name}_probability"):
                if key in files:
                    return [files[key]]
            keys = [f"{name}_probability_{each}" for each in self.classes]
            if all(key in files for key in keys):
                return [files[key] for key in keys]
        raise DataError(str(self.folder), f"has no probability map of {case.name!r}", f"add {case.name}.png or .npz")

    def planes(self, case: Case, shape: tuple[int, int]) -> NDArray[np.float32]:
        """Probabilities (k, h, w) of a case, resized to (h, w)."""
        paths = self.paths(case)
        found = np.concatenate([_probabilities(path) for path in paths])
        if found.shape[0] != len(self.classes):
            raise DataError(
                str(paths[0]),
                f"has {counted(found.shape[0], 'map')} for {counted(len(self.classes), '[class|classes]')}",
                "store one for each class",
            )
        return resize(found, shape)

    def check(self, cases: Iterable[Case]) -> None:
        """Read every map once and tell every fault together."""
        problems: list[Problem] = []
        used: dict[Path, str] = {}
        for case in cases:
            try:
                for path in self.paths(case):
                    if used.setdefault(path, case.name) != case.name:
                        what = f"would be the map of {case.name!r} and of {used[path]!r}"
                        raise DataError(str(path), what, "give each a map in a folder called as its own")
                self.planes(case, (8, 8))
            except DataError as error:
                problems += error.problems
        if problems:
            raise DataError.of(problems)

    def digest(self, cases: Iterable[Case]) -> str:
        """SHA-256 over the files of these cases."""
        whole = hashlib.sha256()
        for path in (path for case in cases for path in self.paths(case)):
            whole.update(f"{sha256_of(path)}\n".encode())
        return whole.hexdigest()


def _probabilities(path: Path) -> NDArray[np.float32]:
    """(k, h, w) of a file."""
    if path.suffix.lower() in ARRAYS:
        values = _array(path)
    else:
        values = read_image(path)
        if values.ndim == 3 and not (values == values[:, :, :1]).all():
            raise DataError(str(path), "is colored, so it is not a map of one probability", "save it as gray")
        values = values if values.ndim == 2 else values[:, :, :1]  # a gray picture stored in color
    if values.ndim not in (2, 3):
        what = f"holds no probabilities from 0 to 1 of shape (h, w) or (h, w, classes): {values.shape}"
        raise DataError(str(path), what, "store floats from 0 to 1, or 8 or 16-bit gray")
    try:
        shares = stored_fractions(values)
    except DataError as error:
        raise error.about(str(path)) from None
    return np.ascontiguousarray(shares[None] if shares.ndim == 2 else np.moveaxis(shares, -1, 0))


def _array(path: Path) -> NDArray[np.generic]:
    if path.suffix.lower() == ".npy":
        return np.asarray(open_array(path, None))
    names = sorted(array_names(path))
    if len(names) != 1:
        what = f"is not an NPZ file of one array, but of {len(names)}"
        raise DataError(str(path), what, "save it with numpy.savez")
    return open_array(path, names[0])


def write_map(folder: Path, case: Case, probabilities: NDArray[np.float32]) -> None:
    """Keep probabilities (h, w, k) as 16-bit numbers where `MapFolder` finds them."""
    content = io.BytesIO()
    np.save(content, np.rint(probabilities * 65535).astype(np.uint16), allow_pickle=False)
    write_atomically(inside(folder, f"{case.name}.npy"), content.getvalue())
