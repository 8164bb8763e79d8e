"""`predict`: images in, masks of the same size and name out. A packed or ONNX model needs nothing of torch."""

from __future__ import annotations

import glob
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pocketseg.data.layouts.listing import image_files
from pocketseg.data.readers import SUFFIXES, read_image
from pocketseg.errors import DataError, Problem
from pocketseg.files import write_atomically
from pocketseg.flows.loading import load_predictor
from pocketseg.predictors import Predictor
from pocketseg.reporting.overlay import overlay


@dataclass
class Predictions:
    """What was written, and what could not be read."""

    written: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def predict(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    with_overlay: bool = False,
    probabilities: bool = False,
    fold: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Segment images.

    Args:
        model: packed model, ONNX file, checkpoint, or run folder.
        inputs: image files, folders (searched with everything below), or patterns such as `scans/*.png`.
        out: folder for the masks. One class is stored as 0 and 255, several as class indices.
        with_overlay: also write `NAME_overlay.png`, the contour on the image.
        probabilities: also write `NAME_probability.png`, 16-bit grey, one file a class.
        fold: of a run folder.
        progress: called with (done, of).

    Returns:
        Files written, and a problem for each image that could not be done; the others are done all the same.

    Raises:
        DataError: nothing to do, or two inputs would become one output.
    """
    jobs = _jobs([str(path) for path in inputs], Path(out))
    predictor = load_predictor(model, fold)
    done = Predictions()
    for number, (source, target) in enumerate(jobs, start=1):
        try:
            done.written += _one(predictor, source, target, with_overlay, probabilities)
        except DataError as error:
            done.problems += [
                Problem(str(source), problem.what, problem.fix) if problem.where == "image" else problem
                for problem in error.problems
            ]
        if progress:
            progress(number, len(jobs))
    return done


def _jobs(inputs: Sequence[str], out: Path) -> list[tuple[Path, Path]]:
    """(image, mask file without its suffix) for every input; folders keep their structure."""
    jobs: list[tuple[Path, Path]] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found = [file for folder in (path, *_below(path, out)) for file in image_files(folder)]
            jobs += [(file, out / file.relative_to(path).with_suffix("")) for file in found]
        elif path.exists() or not glob.has_magic(text):
            jobs.append((path, out / path.stem))
        else:
            found = [Path(name) for name in sorted(glob.glob(text, recursive=True)) if Path(name).is_file()]
            jobs += [(file, out / file.stem) for file in found if file.suffix.lower() in SUFFIXES]
    if not jobs:
        raise DataError(", ".join(inputs), "no images were found", "give image files, a folder, or a quoted pattern")
    _refuse_collisions(jobs)
    return jobs


def _below(folder: Path, out: Path) -> list[Path]:
    """Folders below one, without the output, which may lie inside."""
    inside = sorted(path for path in folder.rglob("*") if path.is_dir())
    return [path for path in inside if not path.resolve().is_relative_to(out.resolve())]


def _refuse_collisions(jobs: Sequence[tuple[Path, Path]]) -> None:
    problems = []
    by_target: dict[Path, Path] = {}
    for source, target in jobs:
        other = by_target.setdefault(target, source)
        if other != source:
            problems.append(
                Problem(str(source), f"would be written over the mask of {other}", "predict them into two folders")
            )
        if (
            target.with_suffix(".png").resolve() == source.resolve()
            or Path(f"{target}.png").resolve() == source.resolve()
        ):
            problems.append(Problem(str(source), "would be overwritten by its own mask", "choose another --out"))
    if problems:
        raise DataError.of(problems)


def _one(predictor: Predictor, source: Path, target: Path, with_overlay: bool, probabilities: bool) -> list[Path]:
    image = read_image(source)
    probability = predictor.predict(image)
    mask = predictor.pipeline.mask(probability)
    classes = predictor.pipeline.classes
    files = {"": mask * np.uint8(255) if len(classes) == 1 else mask}
    if with_overlay:
        files["_overlay"] = overlay(image, mask, classes=len(classes))
    if probabilities:
        names = ["_probability"] if len(classes) == 1 else [f"_probability_{name}" for name in classes]
        for index, name in enumerate(names):
            files[name] = np.rint(probability[:, :, index] * 65535).astype(np.uint16)
    return [_write_png(Path(f"{target}{suffix}.png"), pixels) for suffix, pixels in files.items()]


def _write_png(path: Path, pixels: NDArray[np.generic]) -> Path:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="PNG")
    write_atomically(path, content.getvalue())
    return path
