"""Starting and ending the service: the socket, the signals, the workers."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pocketseg.errors import EnvironmentProblem, PocketsegError, missing_package
from pocketseg.server.pool import Pool
from pocketseg.server.scratch import scratch
from pocketseg.server.settings import Settings

log = logging.getLogger("pocketseg.server")

BACKLOG = 128
# An idle connection is kept for so many seconds.
KEEP_ALIVE = 5


def serve(settings: Settings) -> None:
    """Answer requests until SIGTERM or SIGINT, after which those that came are answered.

    SIGHUP loads the model files again, without a pause.

    Raises:
        PocketsegError: a model cannot be loaded, or the address not be listened on.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except Exception as error:
        raise missing_package("starlette and uvicorn", "serve", error) from error
    with scratch() as folder:
        asyncio.run(_run(settings, folder))


async def _run(settings: Settings, folder: Path) -> None:
    import uvicorn

    from pocketseg.server.app import app_of
    from pocketseg.server.protocol import Protocol
    from pocketseg.server.service import Service

    class Server(uvicorn.Server):
        """uvicorn's, whose signals are ours."""

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    logging.getLogger("uvicorn").disabled = True
    logging.getLogger("uvicorn.error").disabled = True
    pool = Pool(settings)
    service = Service(settings, pool, folder)
    config = uvicorn.Config(
        app_of(service), settings.host, settings.port, http=Protocol, ws="none", lifespan="off", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, backlog=BACKLOG, timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.grace)),
    )  # fmt: skip
    server = Server(config)
    tasks: list[asyncio.Task[None]] = []

    async def end() -> None:
        """Say that no more should come, take what comes all the same, and stop."""
        service.draining = True
        await asyncio.sleep(settings.drain)
        server.should_exit = True

    async def reload() -> None:
        try:
            await pool.reload()
            log.info("models loaded again: %s", _digests(pool))
        except PocketsegError as error:
            log.error("models stay as they were: %s", error)

    def asked(work: Callable[[], Coroutine[None, None, None]]) -> None:
        if not (service.draining and work is end):
            tasks.append(asyncio.create_task(work()))

    _on("SIGTERM", lambda: asked(end))
    _on("SIGINT", lambda: asked(end))
    _on("SIGHUP", lambda: asked(reload))

    async def serve_all() -> None:
        with suppress(SystemExit):  # of a socket that cannot be had
            await server.serve()

    serving = asyncio.create_task(serve_all())
    starting = asyncio.create_task(_start(server, pool, settings))
    try:
        await asyncio.wait([serving, starting], return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            starting.cancel()
            if not server.started:
                what = "cannot be listened on: it is taken, or not of this machine"
                raise EnvironmentProblem(f"{settings.host}:{settings.port}", what, "choose another --port or --host")
        elif starting.exception() is not None:
            server.should_exit = True
            await serving
            await starting  # raises what it found
        await serving
        log.info("ended")
    finally:
        await pool.close()


async def _start(server: object, pool: Pool, settings: Settings) -> None:
    """Load the models while the socket is open already: `/readyz` tells which of both is done."""
    while not getattr(server, "started", False):
        await asyncio.sleep(0.01)
    sockets = [each for one in server.servers for each in one.sockets]  # type: ignore[attr-defined]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{sockets[0].getsockname()[1]}"
    log.info("listening on %s, loading models in %d processes", address, settings.workers)
    await pool.start()
    log.info("ready on %s: %s", address, _digests(pool))


def _digests(pool: Pool) -> str:
    return ", ".join(f"{each['name']} ({each['sha256'][:12]})" for each in pool.models)


def _on(name: str, work: Callable[[], None]) -> None:
    number = getattr(signal, name, None)
    if number is None:
        return
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, work)
    except NotImplementedError:  # Windows
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(work))
