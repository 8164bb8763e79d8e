"""The routes of MONAI Label that its plug-in for 3D Slicer needs to segment: info, upload, session, infer.

The plug-in sends a volume once (`PUT /datastore/?image=ID`, or `PUT /session/`) and then asks a model for its mask
(`POST /infer/MODEL?image=ID`). Volumes are kept for a while, in a bounded number, under names of our own.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pocketseg.server.multipart import form_of, parts_of
from pocketseg.server.service import Endpoint, Service, file_response, folder_in, problem
from pocketseg.server.task import ANSWER, BODY, Refused, Task
from pocketseg.version import VERSION

KEPT, KEPT_SECONDS = 8, 3600
MAX_ID, MAX_PARAMS = 500, 2**16
# By the ending that the plug-in asks for (`result_extension`); it reads NIfTI where it says nothing.
FORMATS = {".nii.gz": "nifti", ".nii": "nifti", ".nrrd": "nrrd", ".seg.nrrd": "nrrd", ".mha": "mha"}
OUTPUTS = ("", "all", "image", "json", "dicom_seg")


@dataclass(frozen=True)
class Kept:
    """A volume of a client.

    Attributes:
        folder: that holds the form as it came.
        form: its Content-Type.
        field: the part with the volume.
    """

    folder: Path
    form: str
    field: str


class Monai:
    """These routes, and the volumes that they keep."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()

    def routes(self) -> list[Route]:
        return [
            Route("/info/", self.info),
            Route("/auth/", self.auth),
            Route("/datastore/", self.put_image, methods=["PUT"]),
            Route("/session/", self.put_session, methods=["PUT"]),
            Route("/session/{id}", self.session, methods=["GET", "DELETE"]),
            Route("/infer/{model}", Infer(self), methods=["POST"]),
        ]

    async def info(self, _: Request) -> Response:
        """What the plug-in lists: models, and the names of their classes."""
        models = {
            each["name"]: {
                "type": "segmentation",
                "labels": {name: index for index, name in enumerate(each["classes"], start=1)},
                "dimension": 3,
                "description": f"pocketseg, {each['precision']}",
                "config": {"result_extension": [".nrrd", ".nii.gz"]},
            }
            for each in self.service.pool.models
        }
        labels = list(dict.fromkeys(name for each in self.service.pool.models for name in each["classes"]))
        return JSONResponse({
            "name": "pocketseg", "description": "pocketseg serve", "version": VERSION, "labels": labels,
            "models": models, "trainers": {}, "strategies": {}, "scoring": {}, "train_stats": {}, "datastore": {},
            "config": {},
        })  # fmt: skip

    async def auth(self, _: Request) -> Response:
        """The plug-in's own way of logging in is not there; it then asks without."""
        return JSONResponse({"enabled": False})

    async def put_image(self, request: Request) -> Response:
        image = request.query_params.get("image") or secrets.token_hex(8)
        if len(image) > MAX_ID:
            raise Refused(400, "the name of the image is too long", "give a shorter one")
        await self._keep(request, ("image", image), "file")
        return JSONResponse({"image": image})

    async def put_session(self, request: Request) -> Response:
        session = secrets.token_hex(16)
        await self._keep(request, ("session", session), "files")
        return JSONResponse({"session_id": session})

    async def session(self, request: Request) -> Response:
        key = ("session", request.path_params["id"])
        if self.kept(key) is None:
            raise Refused(404, "there is no such session", "upload the image again")
        if request.method == "DELETE":
            self._remove(key)
        return JSONResponse({"session_id": key[1]})

    async def _keep(self, request: Request, key: tuple[str, str], field: str) -> None:
        if self.service.pool.full:
            raise Refused(503, "as many requests wait as may", "come again")
        with folder_in(self.service) as coming:
            await self.service.receive(request, coming / BODY)
            form = request.headers.get("content-type", "")
            if field not in (await run_in_threadpool(parts_of, coming / BODY, form) or {}):
                raise Refused(400, "the body is not a form with an image", f"send the image as part {field}")
            folder = self.service.folders.new()
            (coming / BODY).rename(folder / BODY)
        self._remove(key)
        self._kept[key] = kept = Kept(folder, form, field)
        asyncio.get_running_loop().call_later(KEPT_SECONDS, self._forget, key, kept)
        while len(self._kept) > KEPT:
            self._remove(next(iter(self._kept)))

    def kept(self, key: tuple[str, str]) -> Kept | None:
        """What is kept under a name."""
        return self._kept.get(key)

    def _forget(self, key: tuple[str, str], kept: Kept) -> None:
        """Its time is over, unless another came under its name."""
        if self._kept.get(key) is kept:
            self._remove(key)

    def _remove(self, key: tuple[str, str]) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            shutil.rmtree(found.folder, ignore_errors=True)


class Infer(Endpoint):
    """`POST /infer/MODEL`: a form with `params`, and the image as `file`, or one that is kept."""

    def __init__(self, monai: Monai) -> None:
        super().__init__(monai.service)
        self.monai = monai

    async def answer(self, request: Request, folder: Path) -> Response:
        query = request.query_params
        model = self.service.model(request.path_params["model"])
        output = query.get("output", "")
        if output not in OUTPUTS:
            raise Refused(400, "output= is not known", f"known: {', '.join(OUTPUTS[1:])}")
        if self.service.pool.full:
            raise Refused(503, "as many requests wait as may", "come again")
        body, form, field = folder / BODY, request.headers.get("content-type", ""), "file"
        await self.service.receive(request, body)
        parts = await run_in_threadpool(parts_of, body, form) if body.stat().st_size else {}
        if parts is None:
            raise Refused(400, "the form cannot be read", "send multipart/form-data of at most 16 parts")
        params = _params(body, parts.get("params"))
        if field not in parts:
            kept = self._kept(query.get("session_id"), query.get("image"))
            body.unlink()
            body.hardlink_to(kept.folder / BODY)
            form, field = kept.form, kept.field
        extension = params.get("result_extension")
        to = "dicom-seg" if output == "dicom_seg" else FORMATS.get(str(extension), "nifti")
        answer = await self.service.made(request, Task(str(folder), model, to, form=form, part=field))
        if answer["status"] != 200:
            return problem(answer["status"], answer["problems"])
        return await self._form(answer, folder, output, model)

    def _kept(self, session: str | None, image: str | None) -> Kept:
        found = self.monai.kept(("session", session)) if session else None
        found = found or (self.monai.kept(("image", image)) if image else None)
        if found is None:
            raise Refused(404, "the image is not here, or no longer", "upload it again, or send it as part file")
        return found

    async def _form(self, answer: dict[str, Any], folder: Path, output: str, model: str) -> Response:
        names = next(each["classes"] for each in self.service.pool.models if each["name"] == model)
        params = {"label_names": {name: index for index, name in enumerate(names, start=1)}}
        if output == "json":
            return JSONResponse(params)
        headers = {"model-sha256": answer["sha256"]}
        if output in ("image", "dicom_seg"):
            return file_response(folder / ANSWER, answer["type"], headers)
        content = await asyncio.to_thread((folder / ANSWER).read_bytes)
        type_, body = form_of({"params": json.dumps(params)}, {"image": (answer["name"], answer["type"], content)})
        return Response(body, media_type=type_, headers=headers)


def _params(body: Path, place: tuple[int, int] | None) -> dict[str, Any]:
    """What the plug-in says of the answer that it wants; what does not concern us is left alone."""
    if place is None or place[1] == place[0]:
        return {}
    first, last = place
    if last - first > MAX_PARAMS:
        raise Refused(413, "params are too long", "send less")
    with body.open("rb") as file:
        file.seek(first)
        text = file.read(last - first)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Refused(400, "params are not JSON", "send a JSON object") from None
    if not isinstance(found, dict | None):
        raise Refused(400, "params are not a JSON object", "send a JSON object")
    return found or {}
