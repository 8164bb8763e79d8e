"""The file around a program: a header of fixed size, then three sections back to back. See docs/format.md."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pocketseg.cards import json_object
from pocketseg.errors import ModelFileError

MAGIC = b"\x89pseg\r\n\x1a"
# The newest that is read; what an older one can say is written as that.
VERSION = 2
# magic, version, 0, file length, card length, program length, data length; the digest follows.
HEADER = struct.Struct("<8sIIQQQQ")
DIGEST_BYTES = 32
HEADER_BYTES = HEADER.size + DIGEST_BYTES
AGAIN = "pack the model again"


@dataclass(frozen=True)
class Container:
    """The sections of a file.

    Attributes:
        card: what Python reads: pipeline, model card, verification. The engine skips it.
        program: instructions.
        data: weights and constants, in the order in which the program names them.
        version: of the program section.
    """

    card: Mapping[str, Any]
    program: bytes
    data: bytes
    version: int = 1

    def to_bytes(self) -> bytes:
        card = json.dumps(self.card, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        body = card + self.program + self.data
        lengths = (len(card), len(self.program), len(self.data))
        head = HEADER.pack(MAGIC, self.version, 0, HEADER_BYTES + len(body), *lengths)
        return head + _digest(head, body) + body


def read_container(content: bytes, where: str) -> Container:
    """The sections of a file whose lengths and digest are right.

    Args:
        content: the whole file.
        where: what errors call it.

    Raises:
        ModelFileError: truncated, altered, of another kind, or too new.
    """
    if content[: len(MAGIC)] != MAGIC[: len(content)] or not content:
        raise ModelFileError(where, "is not a packed model", "make one with `pocketseg pack`")
    if len(content) < HEADER_BYTES:
        raise ModelFileError(where, f"is truncated: {len(content)} bytes are not a whole header", AGAIN)
    _, version, zero, length, *lengths = HEADER.unpack_from(content)
    if version > VERSION:
        raise ModelFileError(where, f"is of version {version}, newer than {VERSION}", "upgrade pocketseg")
    if version < 1 or zero:
        raise ModelFileError(where, "has a damaged header", AGAIN)
    if length != len(content) or HEADER_BYTES + sum(lengths) != length:
        raise ModelFileError(where, f"is truncated: its header says {length} bytes, it has {len(content)}", AGAIN)
    body = content[HEADER_BYTES:]
    if content[HEADER.size : HEADER_BYTES] != _digest(content[: HEADER.size], body):
        raise ModelFileError(where, "was altered: its digest is wrong", AGAIN)
    card_end, program_end = lengths[0], lengths[0] + lengths[1]
    try:
        card = json_object(body[:card_end])
    except ValueError as error:
        raise ModelFileError(where, f"its card cannot be read ({error})", AGAIN) from None
    return Container(card, body[card_end:program_end], body[program_end:], version)


def _digest(head: bytes, body: bytes) -> bytes:
    """SHA-256 of everything but the digest itself."""
    whole = hashlib.sha256(head)
    whole.update(body)
    return whole.digest()
