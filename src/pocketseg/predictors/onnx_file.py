"""What is looked at in an ONNX file before a runtime opens it, without the onnx package.

Protocol Buffers are fields of (number, kind, value), nested; only the fields that lead to constants and to the metadata
are followed (onnx.proto of the ONNX project has their numbers).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pocketseg.cards import json_object, newer
from pocketseg.errors import ModelFileError
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.pipeline import FORMAT_VERSION, METADATA_KEY
from pocketseg.predictors.reading import read_model

# The first field of every ONNX file is a number, the version of its form; such files have no longer magic.
BEGIN = b"\x08"
# Protocol Buffers hold no more.
MAX_BYTES = 2**31 - 1
# Message -> field -> the message that it holds.
INSIDE = {
    "model": {7: "graph", 14: "entry", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "branch", 10: "tensor", 11: "branch", 22: "sparse"},
    "sparse": {1: "tensor"},
}
VARINT, EIGHT_BYTES, LENGTH, FOUR_BYTES = 0, 1, 2, 5
# Of a tensor: its type, its values by type, those of every type as bytes, and where values of other files lie.
DATA_TYPE, FLOATS, INTEGERS, DOUBLES, RAW, EXTERNAL = 2, 4, 5, 10, 9, 13
FLOAT, HALF, DOUBLE, BFLOAT = 1, 10, 11, 16
AGAIN = "export it again"


def read_onnx(path: Path) -> tuple[bytes, dict[str, Any], Pipeline]:
    """The bytes of an ONNX file that pocketseg exported, its card, and its pipeline.

    Raises:
        ModelFileError: missing, damaged, without a pipeline or with one that is not valid, too new, with constants that
            are nan or infinite, or that lie in other files; or with loops or conditions.
    """
    content = read_model(path, BEGIN, MAX_BYTES, "cannot be opened as ONNX (it is another file)", AGAIN)
    try:
        metadata: dict[bytes, bytes] = {}
        for kind, message in _messages(memoryview(content), "model"):
            if kind == "tensor":
                _check_tensor(path, message)
            elif kind == "branch":  # of a condition or a loop, which need not end
                raise ModelFileError(str(path), "holds loops or conditions, which no net of pocketseg has", AGAIN)
            elif kind == "entry":
                fields = {number: bytes(value) for number, wire, value in _fields(message) if wire == LENGTH}
                metadata[fields.get(1, b"")] = fields.get(2, b"")
    except (ValueError, IndexError, RecursionError, struct.error) as error:
        raise ModelFileError(str(path), f"cannot be opened as ONNX ({error})", AGAIN) from None
    card = _card(path, metadata.get(METADATA_KEY.encode()))
    return content, card, Pipeline.from_dict(card.get("pipeline"), str(path))


def check_input(path: Path, pipeline: Pipeline, shape: tuple[Any, ...]) -> None:
    """Hold the shape (n, c, h, w) of the net's input against the pipeline.

    Raises:
        ModelFileError: they do not fit.
    """
    if tuple(shape[1:]) != (pipeline.channels, *pipeline.net_size):
        raise ModelFileError(str(path), "has a net and a pipeline that do not fit each other", AGAIN)


def _card(path: Path, metadata: bytes | None) -> dict[str, Any]:
    if metadata is None:
        fix = "export it with `pocketseg export RUN --to onnx`"
        raise ModelFileError(str(path), "holds no pocketseg pipeline in its metadata", fix)
    try:
        card = json_object(metadata)
    except ValueError as error:
        raise ModelFileError(str(path), f"its metadata is damaged ({error})", AGAIN) from None
    if newer(card.get("version"), FORMAT_VERSION):
        what = f"is of version {card.get('version')!r}, newer than {FORMAT_VERSION}"
        raise ModelFileError(str(path), what, "upgrade pocketseg")
    return card


def _messages(content: memoryview, kind: str) -> Iterator[tuple[str, memoryview]]:
    """A message and everything inside it that is followed."""
    yield kind, content
    inside = INSIDE.get(kind)
    if inside:
        for number, wire, value in _fields(content):
            if wire == LENGTH and number in inside:
                yield from _messages(value, inside[number])


def _fields(content: memoryview) -> Iterator[tuple[int, int, Any]]:
    """(number, kind, value) of a message: integers, or the bytes of everything else."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(content, at)
            yield number, wire, value
            continue
        if wire == LENGTH:
            size, at = _varint(content, at)
        elif wire in (EIGHT_BYTES, FOUR_BYTES):
            size = 8 if wire == EIGHT_BYTES else 4
        else:
            raise ValueError(f"a field of kind {wire}")
        if size > len(content) - at:
            raise ValueError("cut off")
        yield number, wire, content[at : at + size]
        at += size


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """An integer in 7 bits a byte, lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without end")


def _check_tensor(path: Path, tensor: memoryview) -> None:
    """Constants that are nan or infinite make masks empty, often without a sign of it in what a runtime gives."""
    fields = list(_fields(tensor))
    if any(number == EXTERNAL for number, _, _ in fields):
        raise ModelFileError(str(path), "keeps weights in other files", "export it with pocketseg, as one file")
    kind = next((value for number, _, value in reversed(fields) if number == DATA_TYPE), None)
    for number, wire, value in fields:
        if number == RAW and kind in (FLOAT, HALF, DOUBLE, BFLOAT):
            finite = _finite(value, kind)
        elif number == INTEGERS and kind in (HALF, BFLOAT):  # their bits as integers
            bits = np.array(list(_integers(value)) if wire == LENGTH else [value], np.uint64)
            finite = _finite(memoryview(bits.astype("<u2").tobytes()), kind)
        elif number in (FLOATS, DOUBLES):
            finite = _finite(value, FLOAT if number == FLOATS else DOUBLE)
        else:
            continue
        if not finite:
            what = "holds weights that are NaN or infinite"
            raise ModelFileError(str(path), what, "export a checkpoint from before the training went wrong")


def _integers(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def _finite(values: memoryview, kind: int) -> bool:
    if kind == BFLOAT:  # the upper halves of f32: infinite or nan where all bits of the exponent are set
        return bool(((np.frombuffer(values, "<u2") & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(np.frombuffer(values, {FLOAT: "<f4", HALF: "<f2", DOUBLE: "<f8"}[kind])).all())
