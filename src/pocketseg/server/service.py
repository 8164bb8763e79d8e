"""From a request to its answer: the body becomes a file in a folder, and a worker makes the answer there."""

from __future__ import annotations

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pocketseg.names import printable
from pocketseg.server.guard import Guard, too_long
from pocketseg.server.metrics import Metrics
from pocketseg.server.pool import Busy, Died, Pool, TooSlow
from pocketseg.server.scratch import Folders
from pocketseg.server.settings import READ_SECONDS, SLOWEST_BYTES_A_SECOND, SPOOLED, Settings
from pocketseg.server.task import ANSWER, BODY, NO_ROOM, TYPES, Refused, Task, is_full

log = logging.getLogger("pocketseg.server")

PIECE = 2**18
# Of all requests at once, those that are still sent included.
MAX_AT_ONCE = 512
OPTIONS = {"overlay": "with_overlay", "probabilities": "probabilities", "keep_identity": "keep_identity"}
WORDS = {"true": True, "1": True, "false": False, "0": False}
# Further names of types that clients know.
OTHER_TYPES = {
    "application/nifti": "nifti", "application/gzip": "nifti", "application/x-gzip": "nifti", "image/*": "png",
    "application/octet-stream": "same", "application/*": "same", "*/*": "same",
}  # fmt: skip


class Service:
    """What all routes share.

    Attributes:
        settings: the options of the command.
        pool: the workers.
        folders: where requests lie.
        draining: whether the end has been asked for.
    """

    def __init__(self, settings: Settings, pool: Pool, folder: Path) -> None:
        self.settings, self.pool, self.folders = settings, pool, Folders(folder)
        self.guard, self.metrics = Guard(settings), Metrics()
        self.draining = False
        self.at_once = 0
        self._spooled = 0

    async def receive(self, request: Request, file: Path) -> int:
        """Write the body of a request into a file, within its limits; how many bytes came.

        Raises:
            Refused: it is too long or too slow, or there is no room for it.
            ClientDisconnect: the client left.
        """
        began, size = time.monotonic(), 0
        try:
            with file.open("xb") as out:
                async for piece in request.stream():
                    size += len(piece)
                    self._spooled += len(piece)
                    if size > self.settings.max_body:
                        raise too_long(self.settings.max_body)
                    if self._spooled > SPOOLED * self.settings.max_body:
                        raise Refused(503, "too many bodies wait already", "come again")
                    late = time.monotonic() - began - READ_SECONDS
                    if late > 0 and size < late * SLOWEST_BYTES_A_SECOND:
                        raise Refused(408, "the body comes too slowly", "send it faster, or in parts")
                    out.write(piece)
        except OSError as error:
            raise no_room(error) from None
        finally:
            self._spooled -= size
        return size

    async def made(self, request: Request, task: Task) -> dict[str, Any]:
        """A worker's answer to a task.

        Raises:
            Refused: too many wait, or the work failed.
        """
        if await request.is_disconnected():
            raise ClientDisconnect
        try:
            answer = await self.pool.ask(task)
        except Busy:
            raise Refused(503, "as many requests wait as may", "come again") from None
        except TooSlow:
            what = f"the image took longer than {self.settings.seconds:g} seconds"
            raise Refused(504, what, "send a smaller one, or start the service with more --seconds") from None
        except Died:
            log.error("a worker ended in the middle of a request and is replaced")
            raise Refused(
                500, "the process that worked on the image ended", "try once more, then another image"
            ) from None
        if "bug" in answer:
            log.error("a request failed: %s", answer["bug"])
        self.metrics.frames += answer.get("frames", 0)
        return answer

    def model(self, name: str | None) -> str:
        """The name of a model that is there; the only one needs none.

        Raises:
            Refused: there is no such model.
        """
        known = list(self.settings.models)
        if name is None and len(known) == 1:
            return known[0]
        if name not in known:
            what = "no model is named" if name is None else "there is no model with that name"
            raise Refused(404 if name else 400, what, f"ask with ?model=, one of {', '.join(known)}")
        return name

    def gauges(self) -> dict[str, float]:
        return {
            "queue_waiting": self.pool.waiting,
            "workers_ready": self.pool.ready,
            "workers_busy": self.pool.busy,
            "worker_restarts_total": self.pool.restarts,
            "requests_open": self.at_once,
        }


class Endpoint(ABC):
    """A route whose requests have a folder of their own until they are answered."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        with folder_in(self.service) as folder:
            response = await self.answer(request, folder)
            await response(scope, receive, send)

    @abstractmethod
    async def answer(self, request: Request, folder: Path) -> Response:
        """What is sent; its file is in the folder."""


class Segment(Endpoint):
    """`POST /v1/segment`: the body is an image, the answer its mask."""

    async def answer(self, request: Request, folder: Path) -> Response:
        query = request.query_params
        unknown = sorted(set(query) - {"model", "to", *OPTIONS})
        if unknown:
            raise Refused(400, "there is an option that is not known", f"known: model, to, {', '.join(OPTIONS)}")
        model = self.service.model(query.get("model"))
        to, masks = wanted(query.get("to"), request.headers.get("accept"))
        options = {OPTIONS[name]: _word(name, query[name]) for name in OPTIONS if name in query}
        if to not in ("zip", "json") and (options.get("with_overlay") or options.get("probabilities")):
            to = "zip" if to == "same" else to
        if self.service.pool.full:
            raise Refused(503, "as many requests wait as may", "come again")
        await self.service.receive(request, folder / BODY)
        answer = await self.service.made(request, Task(str(folder), model, to, masks, options=options))
        return respond(answer, folder)


@contextmanager
def folder_in(service: Service) -> Any:
    """A folder for one request.

    Raises:
        Refused: the disk has no room.
    """
    try:
        with service.folders.one() as folder:
            yield folder
    except OSError as error:
        raise no_room(error) from None


def no_room(error: OSError) -> Refused:
    """The disk is full, or not there: nothing that a client can change."""
    log.error("requests cannot be written: %s", error.strerror)
    return Refused(503, NO_ROOM if is_full(error) else "the request cannot be kept", "come again")


def wanted(to: str | None, accept: str | None) -> tuple[str, str]:
    """What the answer is, a key of `TYPES` or same, and where it is a zip, what the masks of volumes in it are.

    Raises:
        Refused: nothing that can be.

    Example:
        >>> wanted(None, "text/html, image/png;q=0.9, */*;q=0.1"), wanted("nifti", "*/*"), wanted(None, None)
        (('png', 'same'), ('nifti', 'same'), ('same', 'same'))
        >>> wanted("nifti", "application/zip")
        ('zip', 'nifti')
    """
    if to is not None and to not in ("same", *TYPES):
        raise Refused(400, "to= is not a known format", f"known: same, {', '.join(TYPES)}")
    by_type = {**OTHER_TYPES, **{type_: name for name, type_ in TYPES.items()}}
    asked = [each.split(";") for each in (accept or "*/*").lower().split(",")]
    known = [(-_quality(parts), at, parts[0].strip()) for at, parts in enumerate(asked) if parts[0].strip() in by_type]
    first = by_type[min(known)[2]] if known and min(known)[0] < 0 else None
    if to is not None:
        return (to, "same") if first != "zip" or to in ("json", "zip") else ("zip", to)
    if first is None:
        raise Refused(406, "none of the types in Accept can be sent", f"accept one of {', '.join(TYPES.values())}")
    return first, "same"


def _quality(parts: list[str]) -> float:
    for part in parts[1:]:
        name, _, value = part.strip().partition("=")
        if name == "q":
            try:
                found = float(value)
            except ValueError:
                return 0
            return found if math.isfinite(found) else 0
    return 1


def _word(name: str, text: str) -> bool:
    if text not in WORDS:
        raise Refused(400, f"{name} is neither true nor false", "give true or false")
    return WORDS[text]


def respond(answer: Mapping[str, Any], folder: Path) -> Response:
    """The answer of a worker as one of HTTP."""
    if answer["status"] != 200:
        return problem(answer["status"], answer["problems"])
    headers = {
        "content-disposition": f'attachment; filename="{header_text(answer["name"]).replace(chr(34), "")}"',
        "model-sha256": answer["sha256"],
    }
    if answer["warnings"]:
        headers["pocketseg-warning"] = header_text("; ".join(answer["warnings"]))
    if answer.get("problems"):
        headers["pocketseg-problems"] = str(len(answer["problems"]))
    return file_response(folder / ANSWER, answer["type"], headers)


def file_response(file: Path, type_: str, headers: Mapping[str, str]) -> Response:
    """A file, piece by piece, as a whole: ranges are not looked at."""
    length = str(file.stat().st_size)
    return StreamingResponse(_pieces(file), media_type=type_, headers={**headers, "content-length": length})


async def _pieces(file: Path) -> AsyncIterator[bytes]:
    with file.open("rb") as source:
        while piece := source.read(PIECE):
            yield piece


def header_text(text: str, most: int = 500) -> str:
    """Text that a header may hold.

    Example:
        >>> header_text("12×3")
        '12?3'
    """
    return printable(text)[:most].encode("ascii", "replace").decode()


def problem(status: int, problems: Any, retry: float = 1) -> Response:
    """An error, in three parts as those of the command line."""
    headers = {}
    if status in (429, 503):
        headers["retry-after"] = str(max(1, math.ceil(retry)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"problems": problems}, status, headers)


def refusal(error: Refused, retry: float = 1) -> Response:
    return problem(error.status, [{"where": "request", "what": error.what, "fix": error.fix}], retry)


def say(line: str, *values: Any) -> None:
    """A line of the log, which may not be writable: the service goes on."""
    try:
        log.info(line, *values)
    except (OSError, ValueError):
        return
