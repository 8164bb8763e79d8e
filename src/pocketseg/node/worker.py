"""The process that decodes and segments: a line of JSON for each series in, a line with what was made out.

It logs nothing. What it cannot do it says without names of files, which are the node's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from pocketseg import memory
from pocketseg.data.readers import stem_of
from pocketseg.data.volumes import dicom_files, header_text
from pocketseg.data.volumes.base import canonical_image, canonical_labels
from pocketseg.errors import DataError, EnvironmentProblem, PocketsegError, Problem, missing_package
from pocketseg.flows.predict import Job, Predictions, Wanted, jobs_of, predict_jobs
from pocketseg.server.worker import Loaded, facts, loaded, speaker
from pocketseg.version import VERSION

MODEL = "model"
# When a series is worth another try: a few times at once, or whenever something of the machine changed.
SOON, LATER = "soon", "later"
# What the images of a model are that was trained on a file for each channel; series in DICOM have no such names.
CHANNELS = "takes its channels from several files, which DICOM series have no names for"


def segmented(model: Loaded, images: Path, out: Path) -> dict[str, Any]:
    """What was made of the images of a series: how many files and warnings, a problem for each that failed, and whether
    it is worth another try."""
    model.odd.clear()
    model.warned.clear()
    # With the same images, model and version the UIDs are the same, so that a second time replaces the first.
    wanted = Wanted(to="dicom-seg", keep_identity=True, uid_seed=f"{model.sha256} {VERSION}")
    try:
        found = predict_jobs(model.predictor, _jobs(images, out), out, wanted, model.odd)
    except PocketsegError as error:
        found = Predictions(problems=list(error.problems))
        return _answer(found, model, again=LATER if isinstance(error, EnvironmentProblem) else "")
    except Exception as error:
        if memory.ended(error):
            return _answer(Predictions(problems=list(memory.problem("series").problems)), model, again=SOON)
        what = f"cannot be segmented, by a fault of pocketseg ({type(error).__name__})"
        return _answer(Predictions(problems=[Problem("series", what, "report it")]), model)
    finally:
        canonical_image.cache_clear()
        canonical_labels.cache_clear()
    short = any(each.code == memory.CODE for each in found.problems)
    return _answer(found, model, again=SOON if short else "")


def _jobs(images: Path, out: Path) -> list[Job]:
    """One for the series; one for each image where they have no place in a patient, as those of ultrasound.

    DICOM segmentations can refer to several images only in one frame of reference.
    """
    files = dicom_files(images)
    if all(_is_placed(file) for file in files):
        return jobs_of([str(images)], out)
    return [Job(file, out / stem_of(file)) for file in files]


def _is_placed(file: Path) -> bool:
    """Whether it names a frame of reference; what cannot be read is left to those who say why."""
    try:
        return bool(header_text(file, "FrameOfReferenceUID"))
    except DataError:
        return True


def _answer(found: Predictions, model: Loaded, *, again: str = "") -> dict[str, Any]:
    problems = [{"what": each.what, "fix": each.fix} for each in found.problems]
    return {"made": len(found.written), "problems": problems, "warnings": len(model.warned), "again": again}


def main() -> None:
    """Load the model that the first line names, then answer each further line."""
    say = speaker()
    models = loaded({MODEL: json.loads(sys.stdin.readline())["model"]}, say, threads=0)
    if models is None:
        return
    model = models[MODEL]
    if model.predictor.pipeline.reading.channel_files:
        problem = {"where": "model", "what": CHANNELS, "fix": "train one on volumes"}
        say({"error": "DataError", "problems": [problem]})
        return
    try:
        import_module("highdicom")
    except Exception as error:
        problem = asdict(missing_package("highdicom", "dicom-node", error).problems[0])
        say({"error": "EnvironmentProblem", "problems": [problem]})
        return
    say({"model": facts(MODEL, model)})
    for line in sys.stdin:
        task: Mapping[str, str] = json.loads(line)
        say(segmented(model, Path(task["images"]), Path(task["out"])))


if __name__ == "__main__":
    main()
