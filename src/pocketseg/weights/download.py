"""Published weight files: fetched once, checked, and kept in the user's cache."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from pocketseg.errors import EnvironmentProblem, ModelFileError
from pocketseg.files import sha256_of, whole_file

log = logging.getLogger("pocketseg")

TORCHVISION = "https://download.pytorch.org/models"
# Nobody should wait long to learn that there is no network.
PATIENCE_S = 4.0
CHUNK = 1 << 20
LARGEST = 4 << 30


def cache_folder() -> Path:
    """`POCKETSEG_CACHE`, or `pocketseg` in the user's cache."""
    given = os.environ.get("POCKETSEG_CACHE")
    if given:
        return Path(given)
    user = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(user) if user else Path.home() / ".cache") / "pocketseg"
    except RuntimeError as error:  # neither HOME nor an account says where it is
        raise EnvironmentProblem("POCKETSEG_CACHE", f"is not set ({error})", "set it to a folder") from None


def fetch(file_name: str, *, base_url: str = TORCHVISION, sha256_prefix: str | None = None) -> Path:
    """Where a published file lies on this machine; it is downloaded if it does not yet.

    Nobody ever sees half a file: it gets its name when it is whole and its digest is right.

    Args:
        file_name: for example resnet18-f37072fd.pth.
        base_url: the folder it is in; `POCKETSEG_WEIGHTS_URL` is used instead, if set.
        sha256_prefix: first digits of its SHA-256; default those in the name.

    Raises:
        EnvironmentProblem: no network, refused, not there, or no space.
        ModelFileError: the digest is wrong.
    """
    digits = sha256_prefix or digits_in(file_name)
    path = cache_folder() / file_name
    if path.exists():
        check_digest(path, sha256_of(path), digits, "remove it, and it is downloaded again")
        return path
    base = os.environ.get("POCKETSEG_WEIGHTS_URL") or base_url
    url = f"{base.rstrip('/')}/{file_name}"
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise EnvironmentProblem(
            url, "is not an address of a download", "set POCKETSEG_WEIGHTS_URL to https://… or file://…"
        )
    with whole_file(path) as temporary:
        with temporary.open("wb") as file:
            digest = _download(url, file, path)
        check_digest(Path(url), digest, digits, _advice(path), shown=url)
    return path


def digits_in(file_name: str) -> str:
    found = re.fullmatch(r"[A-Za-z0-9_.-]+-([0-9a-f]{8,64})\.[a-z]+", file_name)
    if not found:
        raise ModelFileError(file_name, "has no digest in its name", "the form is NAME-DIGITS.pth")
    return found[1]


def _advice(path: Path) -> str:
    return (
        f"put the file at {path} yourself, set POCKETSEG_WEIGHTS_URL to a mirror, or train without: "
        "--set stages.0.init=null"
    )


def _download(url: str, file: Any, path: Path) -> str:
    """Write the address's content to an open file; its SHA-256."""
    try:
        with _open(url) as response:
            length = int(response.headers.get("Content-Length") or 0)
            log.info("downloading %s%s", url, f" ({length / 1e6:.1f} MB)" if length else "")
            digest, done = hashlib.sha256(), 0
            while chunk := _receive(response):
                done += len(chunk)
                if done > LARGEST:
                    raise EnvironmentProblem(url, f"is larger than {LARGEST:,} bytes", _advice(path))
                digest.update(chunk)
                file.write(chunk)
    except (_NoResponseError, ValueError) as error:
        raise EnvironmentProblem(url, f"cannot be downloaded ({error})", _advice(path)) from None
    if length and done != length:
        raise EnvironmentProblem(url, f"broke off after {done:,} of {length:,} bytes", _advice(path))
    return digest.hexdigest()


class _NoResponseError(Exception):
    """The network's fault, not the disk's: both are OSErrors otherwise."""


def _receive(response: Any) -> bytes:
    try:
        chunk: bytes = response.read(CHUNK)
        return chunk
    except (OSError, http.client.HTTPException) as error:
        raise _NoResponseError(str(error) or type(error).__name__) from None


def _open(url: str) -> Any:
    """An open response. The look-up of the host's name has no time limit of its own, so it runs in a thread."""
    replies: list[Any] = []

    def ask() -> None:
        try:
            replies.append(urllib.request.urlopen(url, timeout=PATIENCE_S))
        except Exception as error:  # whatever it is, the one who waits wants to know
            replies.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    response = replies[0] if replies else TimeoutError(f"no response within {PATIENCE_S:g} seconds")
    if isinstance(response, urllib.error.URLError) and not isinstance(response, urllib.error.HTTPError):
        response = _NoResponseError(str(response.reason))
    if isinstance(response, Exception):
        if isinstance(response, urllib.error.HTTPError):
            response.close()
        raise _NoResponseError(str(response)) from None
    return response


def check_digest(path: Path, digest: str, digits: str, fix: str, shown: str | None = None) -> None:
    if not digest.startswith(digits):
        what = f"is not the published file: its SHA-256 begins with {digest[: len(digits)]}, not {digits}"
        raise ModelFileError(shown or str(path), what, fix)
