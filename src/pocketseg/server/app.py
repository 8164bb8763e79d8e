"""The routes, and what holds for all of them: who may ask, headers of answers, counts, and one line of the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pocketseg.server.monai import Monai
from pocketseg.server.openapi import document
from pocketseg.server.service import MAX_AT_ONCE, Segment, Service, problem, refusal, say
from pocketseg.server.task import Refused

log = logging.getLogger("pocketseg.server")

# Of every answer: no browser guesses its type, and nobody keeps it.
HEADERS = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]
UNKNOWN = "other"


def app_of(service: Service) -> ASGIApp:
    """The application."""
    monai = Monai(service)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def ready(_: Request) -> Response:
        able = service.pool.ready > 0 and not service.draining
        words = "ready" if able else "ending" if service.draining else "loading"
        return JSONResponse({"status": words}, 200 if able else 503, {} if able else {"retry-after": "1"})

    async def models(_: Request) -> Response:
        return JSONResponse({"models": service.pool.models})

    async def metrics(_: Request) -> Response:
        text = service.metrics.text(service.gauges())
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def openapi(_: Request) -> Response:
        return JSONResponse(document(service.settings))

    routes = [
        Route("/healthz", health),
        Route("/readyz", ready),
        Route("/metrics", metrics),
        Route("/openapi.json", openapi),
        Route("/v1/models", models),
        Route("/v1/segment", Segment(service), methods=["POST"]),
        *monai.routes(),
    ]
    return Around(Router(routes, redirect_slashes=False), service, {each.endpoint: each.path for each in routes})


class Around:
    """Everything goes through here."""

    def __init__(self, inner: ASGIApp, service: Service, paths: Mapping[Any, str]) -> None:
        self.inner, self.service, self.paths = inner, service, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["app"] = self  # so that the router raises what it cannot do
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, began, status = self.service, time.monotonic(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
                if service.draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        service.at_once += 1
        try:
            response = await self._inner(scope, receive, sending)
            if response is not None and not status:
                await response(scope, receive, sending)
        finally:
            service.at_once -= 1
            route = self.paths.get(scope.get("endpoint"), UNKNOWN)  # never what the client wrote
            seconds = time.monotonic() - began
            service.metrics.add(route, status, seconds)
            say("%s %s %s %.0f ms", _method(scope), route, status or "left", seconds * 1000)

    async def _inner(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """Let the routes answer; what they raise is the answer instead."""
        request = Request(scope, receive)
        try:
            if self.service.at_once > MAX_AT_ONCE:
                raise Refused(503, "too many requests at once", "come again")
            seconds = self.service.guard.check(request)
            if seconds:
                return refusal(Refused(429, "too many requests", "come again later"), seconds)
            await self.inner(scope, receive, send)
        except Refused as error:
            return refusal(error)
        except HTTPException as error:
            what = "there is no such route" if error.status_code == 404 else "the route has no such method"
            response = refusal(Refused(error.status_code, what, "see /openapi.json"))
            response.headers.update(error.headers or {})
            return response
        except ClientDisconnect:
            return None
        except Exception as error:
            frame = error.__traceback__
            while frame is not None and frame.tb_next is not None:
                frame = frame.tb_next
            where = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else "?"
            log.error("a request failed: %s in %s", type(error).__name__, where)
            return problem(500, [{"where": "service", "what": "failed", "fix": "report it"}])
        return None


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") else "?"
