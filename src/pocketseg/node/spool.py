"""What the node has to do, as folders on a disk.

    receiving/KEY/images    a series that still comes; KEY follows from its SeriesInstanceUID
    waiting/ID              a complete one, to be segmented, oldest first; then also ID/made, its segmentations
    sending/ID              segmentations to be sent; those that were are called .sent
    failed/ID               what could not be segmented or sent, and why
    done/ID                 what was sent, where it is kept
    work                    what is being made, and worth nothing after a kill

A step is one rename, after what it needs is on the disk. So a kill leaves every series in one of these places, and
the next start goes on there. Between sending and the name .sent lies the one gap: after a kill in it the same bytes are
sent once more, under the same SOP Instance UID, which an archive takes as what it has.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pocketseg.errors import DataError, EnvironmentProblem, Problem
from pocketseg.files import disk_problem, locked, make_folder, remove, rename_file, whole_file, write_json

RECEIVING, WAITING, SENDING, FAILED, DONE, WORK = "receiving", "waiting", "sending", "failed", "done", "work"
LOCK = "lock"
IMAGES, MADE, WHY = "images", "made", "why.json"
SEG, SENT = ".dcm", ".sent"
COPIED_AT_ONCE = 2**20
# Characters of a key that the log shows.
SHOWN = 12


def key_of(uid: str) -> str:
    """A name for what a UID names: it leads nowhere, whatever a client wrote.

    Example:
        >>> key_of("1.2.3")[:8]
        'c47f5b18'
    """
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def shown(series: Path) -> str:
    """What the log calls a series.

    Example:
        >>> shown(Path("waiting/00012-c47f5b18b8a430e698b9fd15e51f6119"))
        'series c47f5b18b8a4'
    """
    return f"series {series.name.rpartition('-')[2][:SHOWN]}"


class Spool:
    """The folders of a node, which has them for itself."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._sizes: dict[Path, tuple[int, float]] = {}  # of what is received, and since when it has that

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Hold the folder, in which nobody but this user may read, for the length of the block.

        Raises:
            DataError: it holds something else.
            EnvironmentProblem: another node holds it, or it cannot be written.
        """
        if self.place.is_dir() and not (self.place / LOCK).exists() and any(self.place.iterdir()):
            raise DataError(str(self.place), "holds something else", "give a --spool that is new or empty")
        make_folder(self.place, private=True)
        try:
            with locked(self.place / LOCK, wait=False):
                remove(self.place / WORK)
                for name in (RECEIVING, WAITING, SENDING, WORK):
                    make_folder(self.place / name)
                yield
        except BlockingIOError as error:
            what = f"is in use by {error.strerror}"
            raise EnvironmentProblem(str(self.place), what, "give each node a --spool of its own") from None

    def free(self) -> int:
        """Bytes on the disk.

        Raises:
            EnvironmentProblem: the folder is not there any more.
        """
        try:
            return shutil.disk_usage(self.place).free
        except OSError as error:
            raise disk_problem(self.place, error) from error

    def store(self, key: str, instance: str, file: Path) -> None:
        """Copy an instance into its series; when this returns it is on the disk.

        Raises:
            EnvironmentProblem: it cannot be written.
        """
        target = self.place / RECEIVING / key / IMAGES / f"{instance}{SEG}"
        with whole_file(target, file.stat().st_size) as part, file.open("rb") as source, part.open("wb") as copy:
            shutil.copyfileobj(source, copy, COPIED_AT_ONCE)

    def receiving(self) -> list[str]:
        """Keys of series that came before this start."""
        return sorted(path.name for path in (self.place / RECEIVING).iterdir())

    def complete(self, key: str) -> Path | None:
        """What came of a series is all: it waits for its segmentation. None where nothing of it could be stored."""
        series = self.place / RECEIVING / key
        if not images_of(series):
            remove(series)
            return None
        return self._to(series, WAITING, f"{time.time_ns():020d}-{key}")

    def waiting(self) -> list[Path]:
        return sorted((self.place / WAITING).iterdir())

    def sending(self) -> list[Path]:
        return sorted((self.place / SENDING).iterdir())

    def new_work(self) -> Path:
        """A path for what is being made."""
        return self.place / WORK / secrets.token_hex(8)

    def made(self, series: Path, work: Path, problems: Sequence[Problem] = ()) -> Path:
        """The segmentations of a series are made, but for some problems: it waits to be sent."""
        self._explain(series, problems)
        rename_file(work, series / MADE)
        return self.to_send(series)

    def to_send(self, series: Path) -> Path:
        """The same, where its segmentations lie beside its images already."""
        return self._to(series, SENDING)

    def unsent(self, series: Path) -> list[Path]:
        """Its segmentations that were not sent yet."""
        return sorted((series / MADE).glob(f"*{SEG}"))

    def sent(self, file: Path) -> None:
        """A segmentation was sent."""
        rename_file(file, file.with_suffix(SENT))

    def fail(self, series: Path, problems: Sequence[Problem]) -> Path:
        """Move a series aside, with the reasons."""
        self._explain(series, problems)
        return self._to(series, FAILED)

    def finish(self, series: Path, *, keep: bool) -> Path | None:
        """All of a series is sent: it goes, or is kept, or moved aside where a part of it could not be segmented."""
        if (series / WHY).exists():
            return self._to(series, FAILED)
        if keep:
            return self._to(series, DONE)
        gone = self.new_work()
        rename_file(series, gone)  # at once: what is half removed would look like a series
        remove(gone)
        return None

    def tidy(self, seconds: float) -> None:
        """Remove what associations that broke left in the work folder, once nothing was added to it for so long."""
        now, before = time.monotonic(), self._sizes
        self._sizes = {}
        for path in (self.place / WORK).glob(f"*{SEG}"):
            with suppress(FileNotFoundError):  # one that has become whole meanwhile
                size = path.stat().st_size
                seen, since = before.get(path, (size, now))
                since = since if seen == size else now
                if now - since >= seconds:
                    remove(path)
                else:
                    self._sizes[path] = (size, since)

    def _explain(self, series: Path, problems: Sequence[Problem]) -> None:
        """Say why, or, where there are no problems, forget those of an earlier try."""
        if not problems:
            remove(series / WHY)
            return
        write_json(series / WHY, [{"what": each.what, "fix": each.fix} for each in problems])

    def _to(self, series: Path, where: str, name: str = "") -> Path:
        make_folder(self.place / where)
        target = self.place / where / (name or series.name)
        rename_file(series, target)
        return target


def images_of(series: Path) -> list[Path]:
    """The files that came of a series."""
    return sorted((series / IMAGES).glob(f"*{SEG}"))
