"""`pocketseg serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    models: Annotated[
        list[str], typer.Argument(help=".pseg or .onnx files or run folders, or NAME=PATH.", metavar="MODEL...")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port; 0 is a free one, which the log names.")] = 8000,
    workers: Annotated[int, typer.Option(help="Processes, with one thread each; 0 is one for each core.")] = 0,
    token_file: Annotated[Path | None, typer.Option(help="File with the token that requests have to bring.")] = None,
    max_mib: Annotated[float, typer.Option(help="Largest body, MiB.")] = 256,
    max_megapixels: Annotated[float, typer.Option(help="Largest image or slice, millions of pixels.")] = 64,
    max_frames: Annotated[int, typer.Option(help="Most slices and images of one request.")] = 2048,
    queue: Annotated[int, typer.Option(help="Requests that may wait for a worker.")] = 16,
    seconds: Annotated[float, typer.Option(help="Most that one request may take in a worker.")] = 60,
    rate: Annotated[float, typer.Option(help="Requests a second of one client; 0 is any.")] = 0,
    grace: Annotated[float, typer.Option(help="Seconds that requests may take to end after SIGTERM.")] = 30,
    drain: Annotated[float, typer.Option(help="Seconds that requests are still taken after SIGTERM.")] = 1,
) -> None:
    """Serve models over HTTP: images in, masks out, the same bytes as of `predict`.

    POST /v1/segment takes a picture, a volume or a zip of such and answers with the mask in the format that Accept
    names; /openapi.json describes all routes. The plug-in of MONAI Label in 3D Slicer can use it too. Nothing of an
    image, its name or its header is logged. SIGTERM lets it end what it has; SIGHUP loads the model files again.

    Examples:

        pocketseg serve model.pseg

        pocketseg serve lesion=runs/first heart=heart.onnx --port 8080 --workers 4

        pocketseg serve model.pseg --host 0.0.0.0 --token-file token.txt
    """
    from pocketseg.cli.console import log_lines
    from pocketseg.server import Settings, serve
    from pocketseg.server.settings import cores, limit, named, read_token

    settings = Settings(
        named(models), host, port, read_token(token_file) if token_file else "", workers or cores(),
        limit("--max-mib", max_mib, 0.001, 2**20), limit("--max-megapixels", max_megapixels, 0.001, 10**6), max_frames,
        queue, seconds, grace, drain, rate,
    )  # fmt: skip
    log_lines()
    serve(settings)
