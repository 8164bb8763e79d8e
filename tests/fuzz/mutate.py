"""Files with random faults in them: bytes, and what lies below a packing or a check sum."""

from __future__ import annotations

import copy
import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

ODD_BYTES = (0, 1, 127, 128, 255)
ODD_NUMBERS = (0, 1, -1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1)
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e-300, 1e30, 1e400, -1e400, float("nan"), 2**31, 2**63, 2**70, 10**30, "",
    "a", "../x", "/etc/x", "x" * 300, "\x1b[31m", "\ud800", "nan", "1e3", [], [0], [[]], {}, {"a": 1}, [1] * 50,
)  # fmt: skip
PNG_MARK = b"\x89PNG\r\n\x1a\n"

Mutator = Callable[[bytes, random.Random], bytes]


def raw(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, put in or moved; half of the time near the head."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not out:
            out = bytearray(b"x")
        at = rng.randrange(min(len(out), 600) if rng.random() < 0.5 else len(out))
        match rng.randrange(12):
            case 0 | 1 | 2 | 3:
                out[at] = rng.choice((*ODD_BYTES, rng.randrange(256)))
            case 4:
                out[at] ^= 1 << rng.randrange(8)
            case 5 | 6:
                number = rng.choice(ODD_NUMBERS) & 0xFFFFFFFF
                form = rng.choice(("<I", ">I", "<H", ">H"))
                out[at : at + struct.calcsize(form)] = struct.pack(
                    form, number & (2 ** (8 * struct.calcsize(form)) - 1)
                )
            case 7:
                out[at : at + 4] = struct.pack(
                    rng.choice("<>") + "f", rng.choice((0.0, -1.0, 1e30, 1e-30, float("nan")))
                )
            case 8:
                del out[at : at + rng.randrange(1, 20)]
            case 9:
                out[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 10:
                other = rng.randrange(len(out))
                out[at : at + 8] = out[other : other + 8]
            case _:
                if rng.random() < 0.3:
                    del out[at:]
    return bytes(out)


def text(content: bytes, rng: random.Random) -> bytes:
    """Lines and words of a text exchanged, or its bytes."""
    if rng.random() < 0.4:
        return raw(content, rng)
    lines = content.split(b"\n")
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                lines[at] = rng.choice(lines)
            case 1:
                lines.insert(at, rng.choice(lines))
            case 2 if len(lines) > 1:
                del lines[at]
            case _:
                words = lines[at].replace(b",", b" ").split(b" ")
                odd = str(rng.choice(ODD_VALUES)).encode("utf-8", "surrogatepass")
                lines[at] = lines[at].replace(rng.choice(words) or b":", odd, 1)
    return b"\n".join(lines)


def of_json(content: bytes, rng: random.Random) -> bytes:
    """Values of a JSON text exchanged, removed, nested, or its bytes changed."""
    if rng.random() < 0.2:
        return raw(content, rng)
    whole = [json.loads(content)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        places = list(_places(whole))
        parent, key = rng.choice(places)
        if rng.random() < 0.15 and isinstance(parent, dict):
            del parent[key]
        elif rng.random() < 0.02:
            parent[key] = json.loads("[" * 200 + "]" * 200)
        elif rng.random() < 0.2:
            source, other = rng.choice(places)
            parent[key] = json.loads(json.dumps(source[other]))
        else:
            parent[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return json.dumps(whole[0]).encode()


def _places(value: Any) -> Any:
    """Every (container, key) below a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def below_gzip(content: bytes, rng: random.Random) -> bytes:
    """What a gzip file holds is changed, not its packing."""
    return gzip.compress(raw(gzip.decompress(content), rng), 1)


def below_zip(content: bytes, rng: random.Random) -> bytes:
    """A member of an archive is changed, and its check sum with it."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w") as target:
        chosen = rng.randrange(len(source.infolist()))
        for number, entry in enumerate(source.infolist()):
            inside = source.read(entry)
            target.writestr(entry, raw(inside, rng) if number == chosen else inside, entry.compress_type)
    return out.getvalue()


def below_png(content: bytes, rng: random.Random) -> bytes:
    """A chunk of a PNG is changed, or what it unpacks to, and its check sum with it."""
    chunks, at = [], len(PNG_MARK)
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(chunks))
    kind, data = chunks[number]
    if kind == b"IDAT" and rng.random() < 0.5:
        chunks[number] = kind, zlib.compress(raw(zlib.decompress(data), rng))
    else:
        chunks[number] = kind, raw(data or b"x", rng)
    return PNG_MARK + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
