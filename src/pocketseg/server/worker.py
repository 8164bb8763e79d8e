"""A worker process: it loads the models, then answers a line of JSON with a line of JSON, until its input ends.

Images and answers are files in the folder of their request; no pixel passes through the pipe. It logs nothing: names in
requests may be of patients.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import traceback
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pocketseg import memory
from pocketseg.data.volumes.base import canonical_image, canonical_labels
from pocketseg.errors import EnvironmentProblem, PocketsegError, Problem
from pocketseg.files import remove, sha256_of
from pocketseg.flows.predict import (
    COLUMNS,
    Job,
    Predictions,
    Wanted,
    jobs_of,
    picture_files,
    predict_jobs,
    with_channels,
)
from pocketseg.flows.verify import verify
from pocketseg.png import png_bytes
from pocketseg.predictors import NetPredictor
from pocketseg.runs.backends import open_model
from pocketseg.server.images import START_BYTES, ZIP, check_sizes, suffix_of, unpack
from pocketseg.server.multipart import is_form, parts_of
from pocketseg.server.task import ANSWER, BODY, GIVEN, MADE, NO_ROOM, TYPES, Limits, Refused, Task, is_full

TYPE_OF_SUFFIX = {
    ".png": "png", ".tif": "tiff", ".dcm": "dicom-seg", ".nii": "nifti", ".gz": "nifti", ".nrrd": "nrrd", ".mha": "mha",
}  # fmt: skip
MAX_PROBLEMS = 50
# Files in a zip for each slice that it may hold: each may be one, with some others beside.
MOST_FILES = 4


@dataclass
class Loaded:
    """A model, its digest, and what it warned of in the image at hand."""

    predictor: NetPredictor
    sha256: str
    odd: list[str]
    warned: list[str]


def load(path: Path, threads: int = 1) -> Loaded:
    """A model with some threads, verified where its file has what it takes; the digest is that of the file that runs.

    Raises:
        PocketsegError: it cannot be loaded, or computes here what it did not where it was packed.
    """
    while True:
        predictor, file = open_model(path, threads=threads)
        digest = sha256_of(file)
        if "verification" in predictor.card:
            verify(file)
        again, _ = open_model(path, threads=threads)
        if digest == sha256_of(file):  # nobody replaced it meanwhile
            break
    odd: list[str] = []
    warned: list[str] = []

    def warn(text: str) -> None:
        odd.append(text)
        warned.append(text)

    return Loaded(replace(again, warn=warn), digest, odd, warned)


def facts(name: str, loaded: Loaded) -> dict[str, Any]:
    """What clients learn of a model."""
    pipeline, card = loaded.predictor.pipeline, loaded.predictor.card
    return {
        "name": name,
        "classes": list(pipeline.classes),
        "size": list(pipeline.size),
        "channels": pipeline.channels,
        "precision": loaded.predictor.precision,
        "parameters": card.get("parameters") if isinstance(card.get("parameters"), int) else None,
        "sha256": loaded.sha256,
    }


def done(task: Task, models: Mapping[str, Loaded], limits: Limits) -> dict[str, Any]:
    """The answer to a task: status, and a file, or problems."""
    folder, loaded = Path(task.folder), models[task.model]
    loaded.odd.clear()
    loaded.warned.clear()
    clean = partial(cleaned, folder=folder, models=models)
    try:
        given = _given(task, folder, limits)
        return {"sha256": loaded.sha256, **_answer(task, given, loaded, limits, clean)}
    except Refused as error:
        return {"status": error.status, "problems": _problems([Problem("request", error.what, error.fix)], clean)}
    except PocketsegError as error:
        status = 503 if isinstance(error, EnvironmentProblem) else 422
        return {"status": status, "problems": _problems(error.problems, clean)}
    except Exception as error:
        if memory.ended(error):
            return {"status": 503, "problems": _problems(memory.problem("image").problems, clean)}
        if is_full(error):
            return {"status": 503, "problems": _problems([Problem("request", NO_ROOM, "come again")], clean)}
        # Where it is, without what it says: that may cite the image.
        last = traceback.extract_tb(error.__traceback__)[-1]
        bug = f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
        return {"status": 500, "problems": _problems([Problem("service", "failed", "report it")], clean), "bug": bug}
    finally:
        canonical_image.cache_clear()
        canonical_labels.cache_clear()


def cleaned(text: str, folder: Path, models: Mapping[str, Loaded]) -> str:
    """A text without the paths of this machine."""
    for part in (f"{folder / GIVEN}/", f"{folder / MADE}/", f"{folder}/", str(folder)):
        text = text.replace(part, "")
    for name, loaded in models.items():
        where = getattr(loaded.predictor.forward, "where", None)
        if isinstance(where, str):
            text = text.replace(where, name)
    return text


def _problems(problems: Sequence[Problem], clean: Any) -> list[dict[str, Any]]:
    shown = problems[:MAX_PROBLEMS]
    return [{"where": clean(each.where), "what": clean(each.what), "fix": clean(each.fix)} for each in shown]


def _given(task: Task, folder: Path, limits: Limits) -> Path:
    """The image, or the folder of those of a zip, under a name that says what it is."""
    body = folder / BODY
    if task.form:
        _take_part(task, body)
    with body.open("rb") as file:
        start = file.read(START_BYTES)
    if not start:
        raise Refused(422, "the body is empty", "send an image as the body")
    suffix = suffix_of(start)
    if suffix is None:
        if is_form(start):
            fix = "send the file itself as the body: curl --data-binary @FILE"
            raise Refused(415, "the body is a form, or what one left of a file, and no image", fix)
        known = "PNG, JPEG, TIFF, BMP, GIF, WebP, JPEG 2000, DICOM, NIfTI, NRRD, MetaImage, or a zip of such"
        raise Refused(
            415, "the body is not an image of a known format, whatever its Content-Type says", f"send {known}"
        )
    if suffix == ZIP:
        images = folder / GIVEN / "images"
        images.mkdir(parents=True)
        unpack(body, images, limits.max_unpacked, MOST_FILES * limits.max_frames)
        return images
    return body.rename(folder / f"image{suffix}")


def _take_part(task: Task, body: Path) -> None:
    """The image out of a form, in place of the form."""
    parts = parts_of(body, task.form)
    if parts is None:
        raise Refused(400, "the form cannot be read", "send multipart/form-data of at most 16 parts")
    if task.part not in parts:
        raise Refused(400, f"the form has no part {task.part}", "send the image as a file of that name")
    first, last = parts[task.part]
    whole = body.rename(body.with_name("form"))
    with whole.open("rb") as source, body.open("xb") as target:
        source.seek(first)
        while first < last and (piece := source.read(min(2**20, last - first))):
            first += len(piece)
            target.write(piece)
    remove(whole)


def _answer(task: Task, given: Path, loaded: Loaded, limits: Limits, clean: Any) -> dict[str, Any]:
    folder = Path(task.folder)
    made = folder / MADE
    predictor = loaded.predictor
    to: Any = task.masks if task.to in ("json", "zip") else task.to
    options: Mapping[str, Any] = task.options
    wanted = Wanted(to=to, table=task.to == "json", **options)
    found_jobs = jobs_of([str(given)], made)
    if any(job.video for job in found_jobs):
        raise Refused(415, "there is a video in the zip", "segment it with `pocketseg predict`")
    jobs = with_channels(found_jobs, predictor.pipeline.reading.channel_files)
    frames = check_sizes(jobs, predictor.pipeline.reading, limits.max_pixels, limits.max_frames)
    many = len(jobs) > 1 or bool(task.options.get("with_overlay") or task.options.get("probabilities"))
    if many and task.to not in ("same", "zip", "json"):
        raise Refused(406, "the answer is several files", "accept application/zip, with to= for their format")
    picture = jobs[0] if len(jobs) == 1 and not jobs[0].volume and not many and task.to != "zip" else None
    if picture and to not in ("same", "png"):
        raise Refused(406, f"the image is a picture, whose mask cannot be {to}", "accept image/png")
    if picture:  # beside its image: no folder is made for it
        picture = replace(picture, target=folder / f"mask-{picture.target.name}")
    found = _picture(predictor, picture, wanted) if picture else _files(loaded, jobs, made, wanted)
    if found.problems and not found.images:
        raise _error(found)
    said = {"status": 200, "frames": frames, "warnings": [clean(text) for text in dict.fromkeys(loaded.warned)]}
    problems = _problems(found.problems, clean)
    if task.to == "json":
        content = {
            "model": task.model,
            "sha256": loaded.sha256,
            "measurements": [dict(zip(COLUMNS, (clean(str(row[0])), *row[1:]), strict=True)) for row in found.rows],
            "warnings": said["warnings"],
            "problems": problems,
        }
        (folder / ANSWER).write_text(json.dumps(content, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        return {**said, "type": TYPES["json"], "name": "measurements.json"}
    masks = [path for path in found.written if not (path.parent == made and path.name == "measurements.csv")]
    if task.to == "zip" or len(masks) != 1 or problems:
        if task.to not in ("zip", "same"):
            raise Refused(406, f"the answer is {len(masks)} files", "accept application/zip, with to= for their format")
        # What is called as we call it loses that; names in a zip are its own.
        series = given.is_dir() and jobs[0].source == given
        place, ours = (folder, "mask-") if picture else (made, f"{given.name}/" if series else "")
        _pack(
            folder / ANSWER, {path.relative_to(place).as_posix().removeprefix(ours): path for path in masks}, problems
        )
        return {**said, "type": TYPES["zip"], "name": "masks.zip", "problems": problems}
    masks[0].rename(folder / ANSWER)
    name = masks[0].name.replace("mask-", "", 1).replace("image", "mask", 1)
    kind = TYPE_OF_SUFFIX[Path(name).suffix]
    return {**said, "type": TYPES[kind], "name": name}


def _picture(predictor: NetPredictor, job: Job, wanted: Wanted) -> Predictions:
    """Masks of a picture, whose bytes are those of the files that `predict` writes; they need not outlive a crash."""
    files, rows = picture_files(predictor, job, wanted)
    masks = {job.target.with_name(f"{job.target.name}{suffix}.png"): pixels for suffix, pixels in files.items()}
    for path, pixels in masks.items():
        path.write_bytes(png_bytes(pixels))
    return Predictions([*masks], rows, [], 1)


def _files(loaded: Loaded, jobs: Sequence[Job], made: Path, wanted: Wanted) -> Predictions:
    return predict_jobs(loaded.predictor, jobs, made, wanted, loaded.odd)


def _error(found: Predictions) -> PocketsegError:
    error = found.error()
    assert error is not None
    return error


def _pack(archive: Path, files: Mapping[str, Path], problems: list[dict[str, Any]]) -> None:
    """A zip of files by their names in it; they are compressed where their format did not."""
    with zipfile.ZipFile(archive, "x", zipfile.ZIP_DEFLATED) as out:
        for name, path in files.items():
            entry = zipfile.ZipInfo(name)  # equal requests are equal bytes: no time of a file
            entry.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(entry, path.read_bytes())
        if problems:
            out.writestr(zipfile.ZipInfo("problems.json"), json.dumps(problems, indent=1, ensure_ascii=False))


def speaker() -> Callable[[Mapping[str, Any]], None]:
    """What writes a line of JSON to the process that started this one, which alone ends it; nothing else is said."""
    # What the terminal sends to the whole group is for the front process, which closes our input when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logging.getLogger("pocketseg").addHandler(logging.NullHandler())
    logging.getLogger("pocketseg").propagate = False
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is not an answer

    def say(value: Mapping[str, Any]) -> None:
        out.write(json.dumps(value) + "\n")
        out.flush()

    return say


def loaded(
    models: Mapping[str, str], say: Callable[[Mapping[str, Any]], None], threads: int = 1
) -> dict[str, Loaded] | None:
    """Models by name; None where one cannot be loaded, which is said."""
    try:
        return {name: load(Path(path), threads) for name, path in models.items()}
    except PocketsegError as error:
        say({"error": type(error).__name__, "problems": [asdict(each) for each in error.problems]})
    except Exception as error:  # no request is read yet: what it says is of this installation
        problem = Problem(
            "worker", f"cannot load its models ({type(error).__name__}: {error})", "try `pocketseg verify`"
        )
        say({"error": "EnvironmentProblem", "problems": [asdict(problem)]})
    return None


def main() -> None:
    """Load the models that the first line names, then answer each further line."""
    say = speaker()
    first = json.loads(sys.stdin.readline())
    limits = Limits(**first["limits"])
    models = loaded(first["models"], say)
    if models is None:
        return
    say({"models": [facts(name, each) for name, each in models.items()]})
    for line in sys.stdin:
        say(done(Task(**json.loads(line)), models, limits))


if __name__ == "__main__":
    main()
