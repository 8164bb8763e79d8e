"""`pocketseg listen`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    model: Annotated[Path, typer.Argument(help=".pseg or .onnx file, or run folder.", metavar="MODEL")],
    ae: Annotated[
        str, typer.Option(help="AE title of this node, which those that send have to call.", metavar="TITLE")
    ],
    port: Annotated[int, typer.Option(help="Port; 0 is a free one, which the log names.")] = 11112,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own needs --allow or TLS.")
    ] = ("127.0.0.1"),
    to: Annotated[
        str, typer.Option(help="Node that the segmentations are sent to.", metavar="AE@HOST:PORT", show_default=False)
    ] = "",
    out: Annotated[Path | None, typer.Option(help="Folder that the segmentations are written into.")] = None,
    spool: Annotated[Path, typer.Option(help="Folder for what is not done yet.")] = Path("dicom-spool"),
    quiet_seconds: Annotated[
        float, typer.Option(help="A series is complete when so long no image of it came; 0: when its sender releases.")
    ] = 30,
    allow: Annotated[
        list[str] | None, typer.Option(help="AE title that may send; can be repeated. Default: all.", metavar="AE")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate of this node, PEM; it then takes TLS alone.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="Who signs the certificates that others have to have, PEM.")
    ] = None,
    to_tls: Annotated[bool, typer.Option("--to-tls", help="Send with TLS, too.")] = False,
    max_mib: Annotated[float, typer.Option(help="Largest instance, MiB.")] = 1024,
    min_free_mib: Annotated[float, typer.Option(help="What stays free on the disk of the spool, MiB.")] = 1024,
    associations: Annotated[int, typer.Option(help="Associations at once.")] = 16,
    seconds: Annotated[float, typer.Option(help="Most that the segmentation of a series may take.")] = 600,
    grace: Annotated[float, typer.Option(help="Seconds that work in progress may take to end after SIGTERM.")] = 30,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep images and segmentations in the spool's folder done.")
    ] = False,
) -> None:
    """Be a DICOM node: series in by C-STORE, DICOM SEG out to a node, a folder or both.

    An image is on the disk before it is answered, and what was killed goes on at the next start. Segmentations carry
    name and identity of the patient, as their images do. A series that cannot be segmented is moved to the spool's
    folder failed, with the reason. Nothing of an image or its header is logged.

    Examples:

        pocketseg listen model.pseg --ae POCKETSEG --to ARCHIVE@127.0.0.1:4242

        pocketseg listen model.pseg --ae POCKETSEG --host 0.0.0.0 --allow CT1 --allow ARCHIVE --out masks
    """
    from pocketseg.cli.console import log_lines
    from pocketseg.errors import DataError
    from pocketseg.node import Peer, Settings, Tls, listen
    from pocketseg.server.settings import limit

    if (tls_cert is None) != (tls_key is None) or (tls_ca is not None and tls_cert is None):
        raise DataError("TLS", "needs a certificate and its key", "give both --tls-cert and --tls-key")
    tls = Tls(tls_cert, tls_key, tls_ca) if tls_cert is not None and tls_key is not None else None
    settings = Settings(
        model, ae, host, port, Peer.parse(to) if to else None, out, spool, quiet_seconds, tuple(allow or ()), tls,
        to_tls, limit("--max-mib", max_mib, 0.001, 2**20), limit("--min-free-mib", min_free_mib, 0, 2**20),
        associations, seconds, grace, keep,
    )  # fmt: skip
    log_lines()
    listen(settings)
