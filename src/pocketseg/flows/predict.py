"""`predict`: images in, masks of the same size and name out. A packed or ONNX model needs nothing of torch.

A volume comes back in its own format on its own grid: NIfTI as NIfTI, NRRD as a segmentation of 3D Slicer, MetaImage as
MetaImage, DICOM as a DICOM segmentation, TIFF as TIFF. The frames of a video become the pages of a TIFF file, and its
overlay a video.

What is done already is kept: the record of what was written tells of each image, by digests, what it was and what its
files were made by. Images may be shared among processes (`shards`), each of which runs this module.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from pocketseg import memory, notebook, shards
from pocketseg.data.case import ChannelSource, FileSource, Source
from pocketseg.data.layouts.expand import check_grid
from pocketseg.data.layouts.listing import (
    NO_IMAGES,
    has_pixels,
    image_files,
    kinds_text,
    of_other_formats,
    unread_files,
)
from pocketseg.data.readers import read_image, size_in_header, stem_of
from pocketseg.data.unread import ways_out
from pocketseg.data.video import CODECS, is_video, opened, writing, written_as
from pocketseg.data.volumes import (
    DETACHED,
    MAX_CONTRASTS,
    Dicom,
    Grid,
    MetaImage,
    Nifti,
    Nrrd,
    VolumeFile,
    detached_files,
    dicom_files,
    is_volume,
    open_volume,
    series_in,
    slices_of,
    write_metaimage,
    write_nifti,
    write_nrrd,
    write_segmentation,
    write_stack,
    writing_stack,
)
from pocketseg.errors import DataError, EnvironmentProblem, ModelFileError, PocketsegError, Problem, near
from pocketseg.files import by_parts, inside, resolved, sha256_of, try_folder, write_atomically
from pocketseg.layers import overlaps
from pocketseg.pipeline import OF_COLOR, Mirror, Pipeline, Reading
from pocketseg.pipeline.intensity import check_contrasts
from pocketseg.png import write_png
from pocketseg.predictors import Predictor
from pocketseg.predictors.frames import seen_frames
from pocketseg.predictors.segmentation import Segmentation
from pocketseg.reporting.overlay import enlarge, enlarge_mask, overlay
from pocketseg.runs.backends import Fold, allow_user_code, load_predictor
from pocketseg.tables import csv_text
from pocketseg.text import brief, counted
from pocketseg.version import VERSION
from pocketseg.written import Written

log = logging.getLogger("pocketseg")

# What a gray picture of one class takes at most, for each of its pixels: itself, probabilities, and components.
BYTES_A_PIXEL = 16
MEASUREMENTS = "measurements.csv"
# What masks are written as, for the check that none replaces an image.
ENDINGS = (".png", ".nii", ".nii.gz", ".seg.nrrd", ".mha", ".dcm", ".tif")
# What 3D Slicer saves beside an image, whose name a mask of it has too.
SEGMENTATION = ".seg.nrrd"
MAX_SMOOTH_S = 60.0
PAGE = re.compile(r"[0-9]{3,}(\.png)?")
MaskFormat = Literal["same", "nifti", "nrrd", "mha", "dicom-seg", "tiff", "png"]


class Measurement(NamedTuple):
    """A row of `measurements.csv`: an image, a slice of a volume or all of it (`all`), and a class."""

    image: str
    slice: int | str
    class_name: str
    area_px: int
    area_mm2: float | None
    volume_mm3: float | None
    objects: int | None
    largest_px: int | None
    highest_probability: float


# Records that some rows are written, in a block in which their image's files are.
Recorded = Callable[[Sequence[Measurement]], AbstractContextManager[None]]
COLUMNS = ["class" if name == "class_name" else name for name in Measurement._fields]


@dataclass(frozen=True)
class Wanted:
    """What is written for each image; the fields are the options of `predict`, and the seed of UIDs in DICOM."""

    with_overlay: bool = False
    probabilities: bool = False
    to: MaskFormat = "same"
    keep_identity: bool = False
    table: bool = False
    tint: float = 0.0
    uid_seed: str = ""
    smooth_s: float = 0.0


@dataclass(frozen=True)
class Job:
    """An image to be segmented.

    Attributes:
        source: what it is called: its file, its folder, or the first of its files.
        target: the mask file without its suffix.
        slices: the files of a DICOM series whose folder holds others beside.
        channels: the files that hold the channels of one image.
    """

    source: Path
    target: Path
    slices: tuple[Path, ...] = ()
    channels: tuple[Path, ...] = ()

    @property
    def volume(self) -> bool:
        return bool(self.slices) or is_volume(self.source)

    @property
    def video(self) -> bool:
        return is_video(self.source)


@dataclass(repr=False)
class Predictions:
    """What was written for how many images, and what could not be done.

    Attributes:
        written: all files.
        rows: of `measurements.csv`, where it was asked for.
        problems: one for each image that could not be done.
        images: how many are done.
        kept: how many of these were done before, and had nothing changed.
    """

    written: list[Path] = field(default_factory=list)
    rows: list[Measurement] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    images: int = 0
    kept: int = 0

    @property
    def text(self) -> str:
        """In words."""
        kept = f", {self.kept:,} of them before" if self.kept else ""
        failed = f", {counted(len(self.problems), 'problem')}" if self.problems else ""
        return f"{counted(self.images, 'image')} segmented ({counted(len(self.written), 'file')}){kept}{failed}"

    def __repr__(self) -> str:
        return brief(self, self.text)

    def _repr_html_(self) -> str:
        """What was written, and what could not be done, for notebooks."""
        rows = [[each.where, each.what, each.fix] for each in self.problems]
        problems = notebook.table(["image", "problem", "fix"], rows) if rows else ""
        files = notebook.table(["file"], [[path] for path in self.written]) if self.written else ""
        return notebook.paragraph(self.text) + problems + files

    def error(self) -> PocketsegError | None:
        """All problems in one; of the environment where memory was too small for a file."""
        if not self.problems:
            return None
        kind = EnvironmentProblem if any(each.code == memory.CODE for each in self.problems) else DataError
        return kind.of(self.problems)


def predict(
    model: str | Path | Sequence[str | Path],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    with_overlay: bool = False,
    probabilities: bool = False,
    to: MaskFormat = "same",
    keep_identity: bool = False,
    table: bool = False,
    tint: float = 0.0,
    smooth: float = 0.0,
    fold: Fold = 0,
    stage: str | None = None,
    backend: str | None = None,
    device: str = "cpu",
    tta: Sequence[Mirror] | None = None,
    jobs: int | None = None,
    again: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Segment images; those that are done already, by the same model and options, are kept.

    Args:
        model: packed model, ONNX file, checkpoint, or run folder; several are an ensemble, which answers with the mean
            of their probabilities.
        inputs: image files, folders (searched with everything below), or patterns such as `scans/*.png`. A folder
            of DICOM files is one series, or several by their SeriesInstanceUID, each called after its first file. For a
            model that was trained on one file a channel (NAME_0000, NAME_0001), such files are one image.
        out: folder for the masks, in which nothing is replaced but what an earlier `predict` wrote. In pictures one
            class is stored as 0 and 255, several as class indices; NIfTI, NRRD, MetaImage and DICOM always hold class
            indices. Classes that may overlap have a file each, `NAME_CLASS`; in NIfTI they are the fourth dimension of
            one file, in DICOM segments that overlap.
        with_overlay: also write `NAME_overlay.png`, the contour on the image; for a volume a folder of that name, for a
            video a video. Small images are enlarged.
        probabilities: also write `NAME_probability.png`, 16-bit gray, one file a class; for volumes floats in NIfTI,
            NRRD or MetaImage as the mask, or, beside TIFF, TIFF.
        to: the format of volumes' masks: `same` as the volume, `nifti`, `nrrd` (NAME.seg.nrrd, whose segments are the
            classes), `mha`, `dicom-seg` (for DICOM), `tiff`, or `png`, a folder of slices. Of videos `same` is `tiff`.
        keep_identity: copy the patient's name and identity from DICOM images into their segmentation, which an archive
            needs; without it they are left empty.
        table: also write `measurements.csv` into the folder: of each image and class the area, the number of objects,
            the largest, and the highest probability; of volumes for each slice, and of the whole with its volume.
        tint: 0 to 1, how strongly the overlay colors regions inside of their contours.
        smooth: time constant in seconds of a filter of the probabilities of a video, which looks back alone
            (`predictors.frames`); 0 takes each frame by itself.
        fold, stage: of a run folder; default the first fold's last stage. `all` is the ensemble of the run's folds.
        backend: torch, onnx, openvino or pseg; default: a run's packed model where there is one, else by the file.
        device: cpu; cuda, cuda:N or mps, for torch (which then runs a run) and ONNX; auto: a GPU where there is one.
        tta: directions of test-time mirroring (horizontal, vertical); each doubles the time. Default: the model's own.
        jobs: share the images among so many processes with one thread each; default: this process does them, with
            as many threads as pay. Files are the same. A process that is killed costs the image that it was at.
        again: do also what is done already.
        progress: called with (done, of).

    Returns:
        Files written, and a problem for each image that could not be done; the others are done all the same.

    Raises:
        DataError: nothing to do, two inputs would become one output, or a file is there that `predict` did not write.
    """
    if to not in get_args(MaskFormat):
        raise DataError(f"--to {to}", "is not a format of masks", near(to, get_args(MaskFormat)))
    if not 0 <= tint <= 1:
        raise DataError(f"--tint {tint:g}", "is not from 0 to 1", "0 shows contours alone, 1 covers the image")
    if tint and not with_overlay:
        raise DataError(f"--tint {tint:g}", "colors overlays, and none is asked for", "add --overlay")
    if not 0 <= smooth <= MAX_SMOOTH_S:
        raise DataError(f"--smooth {smooth:g}", "cannot be", f"give seconds from 0 to {MAX_SMOOTH_S:g}, such as 0.1")
    if jobs is not None and not 1 <= jobs <= shards.MAX_JOBS:
        raise DataError(f"--jobs {jobs}", "cannot be", f"give a whole number from 1 to {shards.MAX_JOBS}")
    wanted = Wanted(with_overlay, probabilities, to, keep_identity, table, tint, smooth_s=smooth)
    given = jobs_of([str(path) for path in inputs], Path(out))
    if smooth and not any(job.video for job in given):
        raise DataError(f"--smooth {smooth:g}", "is for videos, and none is given", "leave it out")
    odd: list[str] = []
    files: list[Path] = []
    options: dict[str, Any] = {"fold": fold, "stage": stage, "backend": backend, "device": device, "tta": tta}
    predictor = load_predictor(model, **options, warn=odd.append, opened=files.append)
    maker = _maker(predictor, files, wanted)
    if jobs is None:
        return predict_jobs(predictor, given, Path(out), wanted, odd, progress, maker=maker, again=again)
    models = [str(path) for path in ([model] if isinstance(model, str | Path) else model)]
    setup = {"model": models, "options": options, "code": _code(predictor), "wanted": asdict(wanted), "maker": maker}
    by = partial(_by_processes, setup, jobs)
    return predict_jobs(predictor, given, Path(out), wanted, odd, progress, maker=maker, again=again, by=by)


@dataclass
class Done:
    """What became of an image.

    Attributes:
        written, rows, problems: as in `Predictions`.
        odd: what is unusual about it.
        kept: whether it was done before.
        pace: of a video, how long it took.
    """

    written: list[Path] = field(default_factory=list)
    rows: list[Measurement] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    kept: bool = False
    pace: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "written": [str(path) for path in self.written], "rows": self.rows}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Done:
        problems = [Problem(**{**each, "files": tuple(each["files"])}) for each in said["problems"]]
        rows = [Measurement(*row) for row in said["rows"]]
        return cls(
            [Path(path) for path in said["written"]], rows, problems, list(said["odd"]), said["kept"], said["pace"]
        )


def predict_jobs(
    predictor: Predictor,
    given: Sequence[Job],
    out: Path,
    wanted: Wanted,
    odd: list[str],
    progress: Callable[[int, int], None] | None = None,
    *,
    maker: str = "",
    again: bool = False,
    by: Callable[[Path, Sequence[Job], Kept], Iterator[tuple[int, Done]]] | None = None,
) -> Predictions:
    """What `predict` does with a model that is loaded.

    Args:
        predictor: the model.
        given: what `jobs_of` found.
        out: folder for the masks.
        wanted: what is written for each image.
        odd: where the predictor puts its warnings; it is emptied after each image.
        progress: called with (done, of).
        maker: digest of all that files depend on but the image; without it nothing is kept.
        again: do also what is done already.
        by: does the jobs in other processes, in any order; each comes with its number.
    """
    jobs = with_channels(given, predictor.pipeline.reading.channel_files)
    _refuse_collisions(jobs, predictor.pipeline, wanted)
    additions = _additions(wanted, predictor.pipeline)
    table = inside(out, MEASUREMENTS)
    own = Written(out, "predict")
    own.refuse_others(path for job in jobs for path in _outputs(job, additions))
    own.refuse_others([table] * wanted.table)
    try_folder(out)
    kept = Kept(own, "" if again else maker)
    if by is None:
        worker = Worker(predictor, out, wanted, odd, maker, own)
        found: Iterator[tuple[int, Done]] = ((n, worker.done(job, kept.of(job))) for n, job in enumerate(jobs))
    else:
        found = by(out, jobs, kept)
    by_number: list[Done | None] = [None] * len(jobs)
    for count, (number, each) in enumerate(found, start=1):
        by_number[number] = each
        others = [text for text in each.odd if not text.startswith(OF_COLOR)]
        if others:
            parts = "frames" if jobs[number].video else "slices"
            several = f"{len(others)} {parts}; of the first, {others[0]}"
            log.warning("%s: %s", jobs[number].source, others[0] if len(others) == 1 else several)
        if each.pace:
            log.info("%s: %s", jobs[number].source, each.pace)
        if progress:
            progress(count, len(jobs))
    done = Predictions()
    colors: list[str] = []
    for one in filter(None, by_number):
        done.written += one.written
        done.rows += one.rows
        done.problems += one.problems
        done.images += not one.problems
        done.kept += one.kept
        colors += [text for text in one.odd if text.startswith(OF_COLOR)][:1]
    if wanted.table:
        text = csv_text([COLUMNS, *done.rows])
        with own.writing(lambda: [table]):
            write_atomically(table, text)
        done.written.append(table)
    if colors:
        log.warning(
            "%d of %s differ in color from those of training; of the first, %s",
            len(colors),
            counted(len(jobs), "image"),
            colors[0].removeprefix(OF_COLOR),
        )
    return done


@dataclass
class Worker:
    """Does one job after the other.

    Attributes:
        predictor, out, wanted, odd, maker: as in `predict_jobs`.
        own: the record of what is written.
    """

    predictor: Predictor
    out: Path
    wanted: Wanted
    odd: list[str]
    maker: str
    own: Written

    def done(self, job: Job, before: Mapping[str, Any] | None) -> Done:
        """Do a job, but for one that was done before as `before` tells, of the same image."""
        about = {"maker": self.maker, "image": _digest_of(job)} if self.maker else {}
        if before and about["image"] and before["image"] == about["image"]:
            with suppress(ValueError, KeyError, TypeError):  # a damaged record
                return _done_before(job, before)
        additions = _additions(self.wanted, self.predictor.pipeline)
        source = job.source
        found = Done()

        def recorded(rows: Sequence[Measurement]) -> AbstractContextManager[None]:
            def made() -> dict[str, Any]:
                return {**about, "rows": [row[1:] for row in rows], "odd": list(self.odd)}

            known = made if about.get("image") else None
            return self.own.writing(partial(_outputs, job, additions), _name(job, self.out), known)

        try:
            if job.video:
                found.written, found.rows, found.pace = _video(self.predictor, job, self.wanted, recorded)
            else:
                make = _volume if job.volume else _picture
                found.written, found.rows = make(self.predictor, job, self.wanted, recorded)
        except DataError as error:
            found.problems = error.about(str(source)).problems
        except Exception as error:
            if not memory.ended(error):
                raise
            found.problems = memory.problem(str(source), _needed(source), "free some, or cut it into parts").problems
        found.odd = list(self.odd)
        self.odd.clear()
        return found


@dataclass
class Kept:
    """What the record tells of jobs that are done.

    Attributes:
        own: the record.
        maker: by which they are to be done; empty: nothing is kept.
    """

    own: Written
    maker: str

    def of(self, job: Job) -> dict[str, Any] | None:
        """What the record says of the image and its results, where its files are there and were made by the same."""
        found = self.own.kept(_name(job, self.own.folder)) if self.maker else None
        if found is None or found[0].get("maker") != self.maker:
            return None
        return {"image": None, **found[0], "written": [str(path) for path in found[1]]}


def _done_before(job: Job, before: Mapping[str, Any]) -> Done:
    rows = [Measurement(job.source.as_posix(), *row) for row in before["rows"]]
    return Done([Path(path) for path in before["written"]], rows, [], [str(text) for text in before["odd"]], kept=True)


def _name(job: Job, out: Path) -> str:
    """How the record calls a job; no other one has the same target."""
    return job.target.relative_to(out).as_posix()


def _digest_of(job: Job) -> str:
    """What the files of an image hold, in the order of their names; empty where one cannot be read."""
    files: Sequence[Path] = job.channels or job.slices
    if not files:
        files = dicom_files(job.source) if job.source.is_dir() else [job.source]
    if job.source.name.lower().endswith(DETACHED):
        files = [*files, *(voxels for file in files for voxels in detached_files(file))]
    with suppress(PocketsegError):
        return _digest([(file.name, sha256_of(file)) for file in files])
    return ""


def _digest(said: Any) -> str:
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _maker(predictor: Predictor, files: Sequence[Path], wanted: Wanted) -> str:
    """A digest of all that masks depend on but their image: the model, what runs it, and the options."""
    if not files:
        return ""
    runtime = getattr(predictor, "runtime", "").partition(",")[0]  # behind it the kernels, which all give the same
    code = [sha256_of(Path(file)) for file in _code(predictor)]
    models = [sha256_of(file) for file in files]
    return _digest([VERSION, models, runtime, code, predictor.pipeline.to_json(), asdict(wanted)])


def _code(predictor: Predictor) -> list[str]:
    """Files of the user that were executed; only nets of torch may be theirs."""
    if "torch" not in getattr(predictor, "runtime", ""):
        return []
    from pocketseg.nets import allowed_code

    return list(allowed_code())


def _by_processes(
    setup: Mapping[str, Any], processes: int, out: Path, jobs: Sequence[Job], kept: Kept
) -> Iterator[tuple[int, Done]]:
    """Jobs done by processes of this machine, in any order."""

    def item(number: int) -> dict[str, Any]:
        job = jobs[number]
        said = {"source": str(job.source), "target": str(job.target)}
        files = {"slices": [str(path) for path in job.slices], "channels": [str(path) for path in job.channels]}
        return {**said, **files, "before": kept.of(job)}

    for number, answer in shards.shared(__name__, {**setup, "out": str(out)}, len(jobs), item, processes):
        if isinstance(answer, shards.Lost):
            what = f"its process ended at it {shards.TRIES} times ({answer})"
            fix = "free some memory, take fewer --jobs, or try this image alone"
            yield number, Done(problems=[Problem(str(jobs[number].source), what, fix)])
        else:
            yield number, Done.from_json(answer)


def _begin(setup: Mapping[str, Any]) -> Callable[[dict[str, Any]], Mapping[str, Any]]:
    """What a process of `_by_processes` does with a job."""
    if setup["code"]:
        allow_user_code([Path(file) for file in setup["code"]])
    odd: list[str] = []
    files: list[Path] = []
    wanted, out, model = Wanted(**setup["wanted"]), Path(setup["out"]), setup["model"]
    predictor = load_predictor(model, **setup["options"], threads=1, warn=odd.append, opened=files.append)
    if _maker(predictor, files, wanted) != setup["maker"]:
        raise ModelFileError(model[0], "was changed while images were segmented with it", "start again")
    worker = Worker(predictor, out, wanted, odd, setup["maker"], Written(out, "predict", read=False))

    def done(said: dict[str, Any]) -> Mapping[str, Any]:
        slices, channels = (tuple(map(Path, said[each])) for each in ("slices", "channels"))
        job = Job(Path(said["source"]), Path(said["target"]), slices, channels)
        return worker.done(job, said["before"]).to_json()

    return done


def jobs_of(inputs: Sequence[str], out: Path) -> list[Job]:
    """What is to be done for every input; folders keep their structure."""
    jobs: list[Job] = []
    for text in inputs:
        try:
            jobs += _jobs_in(text, out)
        except (OSError, ValueError) as error:  # a name that no system takes, a loop of links, a folder that is shut
            what = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise DataError(text, f"cannot be read ({what})", "check the path and its permissions") from None
    if not jobs:
        raise DataError(", ".join(inputs), "no images were found", "give image files, a folder, or a quoted pattern")
    return jobs


def _jobs_in(text: str, out: Path) -> list[Job]:
    path = Path(text)
    if "\0" in text:
        raise ValueError("a zero byte is not part of a name")
    if path.is_dir():
        strange = [file for file in of_other_formats(unread_files(path)) if not is_video(file)]
        if strange:
            log.warning(
                "%s: formats that are not read are left out: %s (%s)", path, kinds_text(strange), ways_out(strange)
            )
        if (path / "images").is_dir() and (path / "masks").is_dir():
            log.warning("%s: its masks are segmented too; to leave them out, give %s", path, path / "images")
        return [job for folder in (path, *_below(path, out)) for job in _in_folder(folder, path, out)]
    if path.is_file() and path.name.lower().endswith(NO_IMAGES):
        raise DataError(text, "is not an image", "give the images themselves, their folder, or a quoted pattern")
    if path.exists() or not glob.has_magic(text):
        return [Job(path, out / stem_of(path))]
    found = [Path(name) for name in sorted(glob.glob(text, recursive=True))]
    return [Job(file, out / stem_of(file)) for file in found if file.is_file() and (has_pixels(file) or is_video(file))]


def _in_folder(folder: Path, root: Path, out: Path) -> list[Job]:
    """What lies directly in a folder: images, and DICOM files by series."""
    place = inside(out, folder.relative_to(root))
    dicom = dicom_files(folder)
    series = series_in(dicom)
    slices = {file for files in series.values() for file in files}
    masks = set(dicom) - slices
    images = [
        file for file in image_files(folder) if file not in masks and not file.name.lower().endswith(SEGMENTATION)
    ]
    images += by_parts(file for file in folder.iterdir() if is_video(file) and not file.name.startswith("."))
    if len(slices) > len(series) == 1:
        jobs = [Job(folder, out / folder.name if folder == root else place)]
        return jobs + [Job(file, place / stem_of(file)) for file in images if file not in slices]
    if len(slices) > len(series):
        log.info("%s: holds %d series; the mask of each is called after its first file", folder, len(series))
    first = {files[0]: tuple(files) for files in series.values() if len(files) > 1}
    later = {file for files in first.values() for file in files[1:]}
    alone = (file for file in images if file not in later)
    return [Job(file, place / stem_of(file), slices=first.get(file, ())) for file in alone]


def with_channels(jobs: Sequence[Job], endings: Sequence[str]) -> list[Job]:
    """One job for the files that hold the channels of one image, for a model that was trained on such.

    Raises:
        DataError: a channel is missing, or a file is none.
    """
    if not endings:
        return list(jobs)
    problems: list[Problem] = []
    found: dict[Path, Job] = {}
    for job in jobs:
        stem = stem_of(job.source)
        ending = next((each for each in endings if stem.endswith(each) and stem != each), None)
        if ending is None:
            if not (job.volume and not job.slices and open_volume(job.source).contrasts):
                names = ", ".join(f"NAME{each}" for each in endings)
                what = f"is not one of the files {names} that hold the channels of an image"
                problems.append(Problem(str(job.source), what, "name it so; the model was trained on such files"))
            found[job.source] = job
            continue
        name, suffix = stem.removesuffix(ending), job.source.name[len(stem) :]
        parts = tuple(job.source.with_name(f"{name}{each}{suffix}") for each in endings)
        if parts[0] not in found:
            problems += [
                Problem(str(part), "is missing, and the model takes it as a channel", f"add it, beside {stem}{suffix}")
                for part in parts
                if not part.exists()
            ]
        found[parts[0]] = Job(parts[0], job.target.with_name(name), channels=parts)
    if problems:
        raise DataError.of(problems)
    return list(found.values())


def _below(folder: Path, out: Path) -> list[Path]:
    """Folders below one, without the output, which may lie inside."""
    below = by_parts(Path(place, name) for place, names, _ in os.walk(folder) for name in names)
    return [path for path in below if not resolved(path).is_relative_to(resolved(out))]


def _additions(wanted: Wanted, pipeline: Pipeline) -> list[str]:
    """What is added to an image's name in the names of what is written for it.

    Volumes of classes that may overlap have one file of the bare name, or one for each class.
    """
    masks = ["", *(_mask_names(pipeline.classes) if pipeline.multilabel else [])]
    probabilities = _probability_names(pipeline.classes) if wanted.probabilities else []
    return [*masks, *["_overlay"] * wanted.with_overlay, *probabilities]


def _refuse_collisions(jobs: Sequence[Job], pipeline: Pipeline, wanted: Wanted) -> None:
    masks = _mask_names(pipeline.classes) if pipeline.multilabel else []
    additions = _additions(wanted, pipeline)
    problems = list(_under_pages(jobs, wanted, ["", *masks]))
    by_target: dict[str, Path] = {}
    for source, target in ((job.source, job.target) for job in jobs):
        others = {by_target.setdefault(f"{target}{addition}", source) for addition in additions} - {source}
        problems += [
            Problem(str(source), f"would be written over what is made of {other}", "predict them into two folders")
            for other in sorted(others)
        ]
        masks_there = (path for path in (f"{target}{ending}" for ending in ENDINGS) if os.path.lexists(path))
        if any(resolved(Path(path)) == resolved(source) for path in masks_there):
            problems.append(Problem(str(source), "would be overwritten by its own mask", "choose another --out"))
    if problems:
        raise DataError.of(problems)


def _outputs(job: Job, additions: Sequence[str]) -> Iterator[Path]:
    """All files that may be written for an image; of pages of a volume, those that are there."""
    for addition in additions:
        endings = [".png"]
        if job.video:
            endings = [".tif", *(CODECS if addition == "_overlay" else ())]
            yield from _pages_at(job, addition)
        if job.volume:  # NRRD of a probability has not the ending of a mask
            endings = [*ENDINGS, *[".nrrd"] * addition.startswith("_probability")]
            yield from _pages_at(job, addition)
        yield from (Path(f"{job.target}{addition}{ending}") for ending in endings)


def _pages_at(job: Job, addition: str) -> Iterator[Path]:
    pages = by_parts(Path(f"{job.target}{addition}").glob("*.png"))
    yield from (page for page in pages if PAGE.fullmatch(page.name))


def _under_pages(jobs: Sequence[Job], wanted: Wanted, masks: Sequence[str]) -> Iterator[Problem]:
    """Images, and what they become, that would lie where pages of a volume are written."""
    endings = [*(masks if wanted.to == "png" else ()), *["_overlay"] * wanted.with_overlay]
    volumes = [job for job in jobs if job.volume or job.video] if endings else []
    folders = {resolved(Path(f"{job.target}{ending}")): job for job in volumes for ending in endings}
    for job in jobs if folders else ():
        for place, what in ((job.target, "its mask"), (job.source, "it")):
            other = folders.get(resolved(place.parent))
            if other is not None and PAGE.fullmatch(place.name):
                what = f"{what} would lie among the pages of {other.source}"
                yield Problem(str(job.source), what, "choose another --out for it")


def _picture(
    predictor: Predictor, job: Job, wanted: Wanted, recorded: Recorded
) -> tuple[list[Path], list[Measurement]]:
    """Segment one image; what was written while `recorded`, and the rows of the table."""
    files, rows = picture_files(predictor, job, wanted)
    places = {_beside(job.target, f"{suffix}.png"): pixels for suffix, pixels in files.items()}
    with recorded(rows):
        return [write_png(place, pixels) for place, pixels in places.items()], rows


def picture_files(predictor: Predictor, job: Job, wanted: Wanted) -> tuple[dict[str, NDArray[Any]], list[Measurement]]:
    """The pixels of each PNG file of a picture, by what is added to its name, and the rows of the table."""
    source = job.source
    if wanted.to not in ("same", "png"):
        raise DataError(str(source), f"is a picture, whose mask is no {wanted.to}", "leave out --to")
    channels = ChannelSource(tuple(FileSource(path) for path in job.channels))
    image = channels.image() if job.channels else read_image(source)
    mask, probability = predictor.both(image)
    classes = predictor.pipeline.classes
    planes = zip(_mask_names(classes), mask, strict=True) if overlaps(mask) else [("", mask)]
    files = {name: _shown(pixels, classes, planes=overlaps(mask)) for name, pixels in planes}
    if wanted.with_overlay:
        files["_overlay"] = _overlay(image, mask, len(classes), wanted.tint)
    if wanted.probabilities:
        for index, name in enumerate(_probability_names(classes)):
            files[name] = _sixteen_bits(probability[:, :, index])
    found = Segmentation(mask, probability, tuple(classes), image)
    rows = _measured(found, source.as_posix(), "") if wanted.table else []
    return files, rows


def _measured(found: Segmentation, image: str, place: int | str) -> list[Measurement]:
    """Rows of the table: an image, or a slice of it, and a class each."""
    return [
        Measurement(
            image, place, each.class_name, each.area_px, each.area_mm2, None, each.objects, each.largest_px, each.peak
        )
        for each in found.measures
    ]


def _of_whole(
    slices: Sequence[Measurement], classes: Sequence[str], voxel: Sequence[float] | None
) -> list[Measurement]:
    """Rows of a whole volume, from those of its slices; a slice without a place has no thickness."""
    voxel_mm3 = None if voxel is None or not np.isfinite(voxel).all() else math.prod(voxel)
    rows = []
    for name in classes:
        mine = [row for row in slices if row.class_name == name]
        voxels = sum(row.area_px for row in mine)
        volume = None if voxel_mm3 is None else voxels * voxel_mm3
        peak = max(row.highest_probability for row in mine)
        rows.append(Measurement(mine[0].image, "all", name, voxels, None, volume, None, None, peak))
    return rows


def _needed(source: Path) -> str:
    """What an image would take, as far as its header tells."""
    try:
        height, width = size_in_header(source)
    except (DataError, OSError):
        return ""
    return f"{height}×{width} pixels take about {height * width * BYTES_A_PIXEL / 2**30:.1g} GiB"


def _video(
    predictor: Predictor, job: Job, wanted: Wanted, recorded: Recorded
) -> tuple[list[Path], list[Measurement], str]:
    """Segment frame by frame, each written before the next one is read; files and rows, and how long it took."""
    source, classes = job.source, predictor.pipeline.classes
    if wanted.to not in ("same", "tiff", "png"):
        raise DataError(str(source), f"is a video, whose masks are not {wanted.to}", "take tiff or png")
    if wanted.probabilities:
        raise DataError(str(source), "is a video, whose probabilities are not written", "leave out --probabilities")
    began = time.monotonic()
    rows: list[Measurement] = []
    seconds = 0.0
    with opened(source) as clip, recorded(rows), ExitStack() as files:
        names = _mask_names(classes) if predictor.pipeline.multilabel else [""]
        masks = [_FrameWriter(_beside(job.target, name), files, pages=wanted.to == "png") for name in names]
        shown = _beside(job.target, f"_overlay{written_as(source)}")
        add = files.enter_context(writing(shown, clip.rate)) if wanted.with_overlay else None
        for frame, mask, probability in seen_frames(predictor, clip.frames(), wanted.smooth_s):
            planes = mask if overlaps(mask) else [mask]
            for writer, plane in zip(masks, planes, strict=True):
                writer.add(_shown(plane, classes, planes=overlaps(mask)))
            if add:
                picture, drawn = enlarge(frame.pixels), enlarge_mask(mask)
                add(overlay(picture, drawn, classes=len(classes), alpha=wanted.tint, stretched=False), frame.seconds)
            if wanted.table:
                found = Segmentation(mask, probability, tuple(classes), frame.pixels)
                rows += _measured(found, source.as_posix(), frame.number)
            count, seconds = frame.number + 1, frame.seconds + 1 / clip.rate
    took = time.monotonic() - began
    codec = f"; {shown.name} is {CODECS[shown.suffix][1]}" if add else ""
    pace = f"{counted(count, 'frame')}, {seconds:.1f} s, in {took:.1f} s: {seconds / took:.1f} times real time{codec}"
    return [*(path for writer in masks for path in writer.written), *([shown] if add else [])], rows, pace


class _FrameWriter:
    """Masks of frames, each written as it comes: pages of a TIFF file, or of a folder."""

    def __init__(self, target: Path, files: ExitStack, *, pages: bool) -> None:
        self.written = [] if pages else [_beside(target, ".tif")]
        self.folder = _beside(target, "")
        self.stack = None if pages else files.enter_context(writing_stack(self.written[0]))

    def add(self, mask: NDArray[np.uint8]) -> None:
        if self.stack:
            self.stack(mask)
        else:
            self.written.append(write_png(inside(self.folder, f"{len(self.written):03d}.png"), mask))


def _slices(job: Job, reading: Reading) -> tuple[VolumeFile, int, Sequence[Source]]:
    """The volume, the axis that it is cut across, and its slices, where it has channel files with all of them."""
    volumes = [open_volume(path) for path in job.channels] or [open_volume(job.source, files=job.slices)]
    for other in volumes[1:]:
        check_grid(other, volumes[0])
    slices = [slices_of(volume, reading) for volume in volumes]
    axis = slices[0][0].axis
    if len(volumes) == 1:
        return volumes[0], axis, slices[0]
    return volumes[0], axis, [ChannelSource(parts) for parts in zip(*slices, strict=True)]


def _volume(predictor: Predictor, job: Job, wanted: Wanted, recorded: Recorded) -> tuple[list[Path], list[Measurement]]:
    """Segment slice by slice, and put the slices together on the volume's own grid; files and rows as of a picture."""
    source, target = job.source, job.target
    volume, axis, slices = _slices(job, predictor.pipeline.reading)
    check_contrasts(volume.contrasts, predictor.pipeline.channels, str(source))
    spacing = volume.grid.plane_spacing(axis)
    classes = predictor.pipeline.classes
    masks: list[NDArray[np.uint8]] = []
    per_slice: list[NDArray[np.float32]] = []
    rows: list[Measurement] = []
    for number, each in enumerate(slices):
        image = each.image()
        mask, probability = predictor.both(image, spacing)
        masks.append(mask)
        if wanted.probabilities:
            per_slice.append(probability)
        if wanted.table:
            rows += _measured(
                Segmentation(masks[-1], probability, tuple(classes), image, spacing), source.as_posix(), number
            )
    if wanted.table:
        rows += _of_whole(rows, classes, volume.grid.spacing_mm)
    format_ = _own_format(volume) if wanted.to == "same" else wanted.to
    ending = ".nii" if source.name.lower().endswith(".nii") else ".nii.gz"
    written: list[Path] = []
    with recorded(rows):
        for part in _wholes(masks, classes, format_):
            place = _beside(target, part.addition)
            written += _write_whole(part, place, volume, axis, format_, ending, wanted)
        for index, name in enumerate(_probability_names(classes) if per_slice else []):
            whole = volume.grid.rebuild([each[:, :, index] for each in per_slice], axis)
            if format_ in ("tiff", "png"):
                written.append(write_stack(_beside(target, f"{name}.tif"), _sixteen_bits(whole)))
            elif format_ == "nrrd":
                written.append(write_nrrd(_beside(target, f"{name}.nrrd"), whole, volume.grid))
            elif format_ == "mha":
                written.append(write_metaimage(_beside(target, f"{name}.mha"), whole, volume.grid))
            else:
                written.append(write_nifti(_beside(target, f"{name}{ending}"), whole, volume))
        if wanted.with_overlay:
            written += _write_pages(_beside(target, "_overlay"), _overlays(slices, masks, len(classes), wanted.tint))
    return written, rows


@dataclass(frozen=True)
class _Whole:
    """What a file holds of a volume's masks, slice by slice.

    Attributes:
        addition: to the name of the file.
        slices: (h, w), class indices; or several of 0 and 1, one a class.
        classes: names of those in it.
        planes: whether it is a class, or classes, that may overlap with others.
    """

    addition: str
    slices: tuple[Sequence[NDArray[np.uint8]], ...]
    classes: Sequence[str]
    planes: bool

    def rebuilt(self, grid: Grid, axis: int) -> NDArray[Any]:
        """Voxels (i, j, k), or (i, j, k, classes) of several layers."""
        layers = [grid.rebuild(each, axis) for each in self.slices]
        return layers[0] if len(layers) == 1 else np.stack(layers, axis=-1)


def _wholes(masks: Sequence[NDArray[np.uint8]], classes: Sequence[str], format_: MaskFormat) -> list[_Whole]:
    """One file of all classes, or one for each of those that may overlap, where a file cannot hold them."""
    if not overlaps(masks[0]):
        return [_Whole("", (masks,), classes, planes=False)]
    layers = [[mask[index] for mask in masks] for index in range(len(classes))]
    if format_ == "dicom-seg" or (format_ == "nifti" and len(classes) <= MAX_CONTRASTS):
        return [_Whole("", tuple(layers), classes, planes=True)]
    each = zip(_mask_names(classes), layers, classes, strict=True)
    return [_Whole(addition, (slices,), [name], planes=True) for addition, slices, name in each]


def _write_whole(
    whole: _Whole, place: Path, volume: VolumeFile, axis: int, format_: MaskFormat, ending: str, wanted: Wanted
) -> list[Path]:
    """Write a mask of a volume on its own grid, beside `place`."""
    if format_ == "png":
        return _write_pages(place, [_shown(mask, whole.classes, planes=whole.planes) for mask in whole.slices[0]])
    voxels = whole.rebuilt(volume.grid, axis)
    if format_ == "tiff":
        return [write_stack(_beside(place, ".tif"), _shown(voxels, whole.classes, planes=whole.planes))]
    if format_ == "dicom-seg":
        file = _beside(place, ".dcm")
        identity, seed = wanted.keep_identity, wanted.uid_seed
        return [write_segmentation(file, voxels, volume, whole.classes, keep_identity=identity, uid_seed=seed)]
    if format_ == "nrrd":
        return [write_nrrd(_beside(place, SEGMENTATION), voxels, volume.grid, whole.classes)]
    if format_ == "mha":
        return [write_metaimage(_beside(place, ".mha"), voxels, volume.grid)]
    return [write_nifti(_beside(place, ending), voxels, volume)]


def _own_format(volume: VolumeFile) -> MaskFormat:
    if isinstance(volume, Dicom):
        return "dicom-seg"
    own: dict[type[VolumeFile], MaskFormat] = {Nifti: "nifti", Nrrd: "nrrd", MetaImage: "mha"}
    return own.get(type(volume), "tiff")


def _overlays(
    slices: Sequence[Source], masks: Sequence[NDArray[np.uint8]], classes: int, tint: float
) -> Iterator[NDArray[np.uint8]]:
    for each, mask in zip(slices, masks, strict=True):
        yield _overlay(each.image(), mask, classes, tint)


def _overlay(image: NDArray[Any], mask: NDArray[np.uint8], classes: int, tint: float) -> NDArray[np.uint8]:
    return overlay(enlarge(image), enlarge_mask(mask), classes=classes, alpha=tint)


def _write_pages(target: Path, pages: Sequence[NDArray[np.uint8]] | Iterator[NDArray[np.uint8]]) -> list[Path]:
    """One picture a slice in a folder; of a single slice a picture in its place."""
    whole = list(pages)
    if len(whole) == 1:
        return [write_png(_beside(target, ".png"), whole[0])]
    folder = _beside(target, "")
    return [write_png(inside(folder, f"{index:03d}.png"), page) for index, page in enumerate(whole)]


def _beside(target: Path, ending: str) -> Path:
    """A file that is called as its target and more, such as the name of a class."""
    return inside(target.parent, f"{target.name}{ending}")


def _shown(mask: NDArray[Any], classes: Sequence[str], *, planes: bool) -> NDArray[Any]:
    return mask * np.uint8(255) if len(classes) == 1 or planes else mask


def _mask_names(classes: Sequence[str]) -> list[str]:
    return [f"_{name}" for name in classes]


def _sixteen_bits(probability: NDArray[Any]) -> NDArray[np.uint16]:
    scaled: NDArray[np.uint16] = np.rint(probability * 65535).astype(np.uint16)
    return scaled


def _probability_names(classes: Sequence[str]) -> list[str]:
    return ["_probability"] if len(classes) == 1 else [f"_probability_{name}" for name in classes]


if __name__ == "__main__":
    shards.answer(_begin)
