"""Programs next to each rule of the readers, on its good side and on its bad one, and what the fuzzer kept."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from pathlib import Path

import numpy as np

from helpers.hostile import WIDE, copies
from pocketseg.engine import program as p
from pocketseg.engine.codec import encode
from pocketseg.engine.container import HEADER, HEADER_BYTES, Container, read_container
from pocketseg.grids import BinaryPlanes, PowersOfTwo, Uniform

CORPUS = Path(__file__).parents[1] / "native/corpus"
BYTES = Uniform(0, 0, 255, 0.5, 2.0)
OTHER = Uniform(0, 0, 255, 0.25, 4.0)
BITS, PLANES = BinaryPlanes((1.0,)), BinaryPlanes((0.5, 0.25))
MOST = b"\xff\xff\x7f"
HUGE = Uniform(0, 0, 2**24, 1.0, 1.0)


def buffer(channels=2, grid=None):
    return p.Buffer(channels, grid)


def view(number, first=0, channels=2):
    return p.View(number, first, channels)


def conv(kind="f32", bits=32, planes=1, channels=2, groups=1, data=None, m=None, kernel=(1, 1), inside=2):
    count = channels * kernel[0] * kernel[1] * inside // groups
    data = bytes(planes * ((count * bits + 7) // 8)) if data is None else data
    window = p.Window(kernel)
    constants = np.zeros(channels, np.float32)
    return p.Convolution(window, groups, channels, p.Weights(kind, bits, planes, data), m, constants)


def made(buffers, *middle, out=None, multiple=1, channels=2):
    """The file of a net of two channels, or of others in front: image → buffer 0 → … → logits."""
    first = p.Instruction(p.Input(), (), (), (view(0, 0, channels),))
    last = p.Instruction(p.Output(), (out or view(len(buffers) - 1),), (), ())
    program = p.Program(channels, 2, multiple, tuple(buffers), (first, *middle, last))
    return Container({}, *encode(program)).to_bytes()


def step(operation, *, read=None, write=None, steps=()):
    return p.Instruction(operation, (read or view(0),), tuple(steps), (write or view(1),))


ones, scale = np.ones(2, np.float32), np.ones((1, 1, 2), np.float32)
CASES = {
    "read before it is written": lambda: made([buffer(), buffer()], step(p.Copy(), read=view(1), write=view(1))),
    "is read before": lambda: made([buffer(4), buffer()], step(p.Copy(), read=view(0, 1))),
    "written twice": lambda: made([buffer()], step(p.Copy(), write=view(0))),
    "tensor that is not there": lambda: made([buffer()], step(p.Copy(), write=view(5))),
    "channels that are not there": lambda: made([buffer(), buffer()], step(p.Copy(), write=view(1, 1))),
    "other channels": lambda: made([buffer(), buffer(3)], step(p.Copy(), write=view(1, 0, 3))),
    "bits within a byte": lambda: made([buffer(), buffer(16, BITS)], step(p.Copy(), write=view(1, 4))),
    "codes of two grids": lambda: made(
        [buffer(), buffer(2, BYTES), buffer(2, OTHER)], step(p.Copy()), step(p.Copy(), read=view(1), write=view(2))
    ),
    "a step on codes": lambda: made(
        [buffer(), buffer(2, BYTES), buffer(2, BYTES)],
        step(p.Copy()),
        step(p.Copy(), read=view(1), write=view(2), steps=[p.Relu()]),
    ),
    "an operation on codes": lambda: made(
        [buffer(), buffer(2, BYTES), buffer()],
        step(p.Copy()),
        step(p.Bilinear((1, 1), False), read=view(1), write=view(2)),
    ),
    "a pooling of planes": lambda: made(
        [buffer(), buffer(2, PLANES), buffer(2, PLANES)],
        step(p.Copy()),
        step(p.MaxPool(p.Window((1, 1))), read=view(1), write=view(2)),
    ),
    "padding only": lambda: made(
        [buffer(), buffer()], step(p.MaxPool(p.Window((2, 2), padding=(2, 0, 0, 0))))
    ),
    "average of padding": lambda: made(
        [buffer(), buffer()], step(p.AveragePool(p.Window((2, 2), padding=(1, 0, 0, 0))))
    ),
    "a resize by 0": lambda: made([buffer(), buffer()], step(p.Nearest((0, 1)))),
    "a window of size 0": lambda: made([buffer(), buffer()], step(p.MaxPool(p.Window((1, 1), (0, 1))))),
    "groups that divide": lambda: made(
        [buffer(), buffer()], step(dataclasses.replace(conv(), groups=3))
    ),
    "f32 weights over codes": lambda: made(
        [buffer(), buffer(2, BYTES), buffer()], step(p.Copy()), step(conv(), read=view(1), write=view(2))
    ),
    "too many planes": lambda: made(
        [buffer(), buffer()], step(conv("integers", 8, 2, m=np.ones((2, 1, 2), np.float32)))
    ),
    "too many bits": lambda: made([buffer(), buffer()], step(conv("integers", 25, m=scale))),
    "padding bits are set": lambda: made(
        [buffer(), buffer()], step(conv("signs", 1, data=b"\xff", m=scale))
    ),
    "a weight is nan or inf": lambda: made([buffer(), buffer()], step(conv("bf16", 16, data=b"\x80\x7f" * 4))),
    "a constant is nan or inf": lambda: made(
        [buffer(), buffer()], step(p.Copy(), steps=[p.Affine(ones * np.float32(np.nan), ones)])
    ),
    "without order": lambda: made([buffer(), buffer()], step(p.Copy(), steps=[p.Clip(1.0, 0.0)])),
    "two tensors that do not fit": lambda: made(
        [buffer(), buffer(3), buffer()],
        step(conv(channels=3), write=view(1, 0, 3)),
        step(p.Copy(), write=view(2), steps=[p.Add(view(1, 0, 3))]),
    ),
    "goes nowhere": lambda: made([buffer()], p.Instruction(p.Copy(), (view(0),), (), ())),
    "other inputs": lambda: made([buffer(), buffer()], p.Instruction(p.Copy(), (), (), (view(1),))),
    "an end in the middle": lambda: made([buffer()], p.Instruction(p.Output(), (view(0),), (), ())),
    "do not fit 53 bits": lambda: made(
        [buffer(), buffer(2, HUGE), buffer()],
        step(p.Copy()),
        step(
            conv("integers", 24, m=scale, kernel=(255, 255), data=MOST * 4 * 255**2),
            read=view(1),
            write=view(2),
        ),
    ),
    "more than 134217728 weights": lambda: made(
        [buffer(), buffer(65535)], step(conv(channels=65535, kernel=(255, 255), data=b""), write=view(1, 0, 65535))
    ),
    "more than 4194304 channels": lambda: made([buffer(), *[buffer(65535)] * 65]),
}  # fmt: skip


def transposed(kind="f32", bits=32, data=None):
    weights = conv(kind, bits, data=data).weights
    return p.Transposed(p.Window((1, 1)), (0, 0), 1, 2, weights, np.zeros(2, np.float32))


def section(*changes, version=1, card=b"{}", data=None):
    """The least net's file with bytes of its program changed: (place, bytes) each, or cut off there."""
    whole = read_container(made([buffer()]), "here")
    program = bytearray(whole.program)
    for place, new in changes:
        if new is None:
            del program[place:]
        else:
            program[place : place + len(new)] = new
    return Container({}, bytes(program), whole.data if data is None else data, version).to_bytes()


def asking(block, version=2):
    """The least net's file, with these bytes for the kernels that it asks for."""
    program = read_container(made([buffer()]), "here").program
    return Container({}, program[:12] + block + program[12:], b"", version).to_bytes()


def grid(form, *values):
    """The file of a net with a grid of these bytes, which nothing uses."""
    program = read_container(made([buffer()]), "here").program
    counts = struct.pack("<H", 1)
    return Container({}, program[:6] + counts + program[8:12] + struct.pack("<" + form, *values) + program[12:], b"")


def swapped(content, old, new, data=None):
    """A file with other bytes where its program has these."""
    whole = read_container(content, "here")
    assert whole.program.count(old) == 1
    program = whole.program.replace(old, new)
    return Container({}, program, whole.data if data is None else data, whole.version).to_bytes()


def constants(form, row):
    """A net whose only constants lie in this form, as these bytes."""
    plain = made([buffer(), buffer()], step(conv()))
    return swapped(plain, b"\x00\x20\x01\x01", bytes([0, 32, 1, form]), data=bytes(16) + row)


NAN, INFINITE = float("nan"), float("inf")
KERNEL = b"\x18scalar/convolution_codes"
# What is refused besides, in any words: one for each way that a condition may fail.
MORE = {
    "a part written twice, from behind": lambda: made(
        [buffer(), buffer(4), buffer()], step(p.Copy(), write=view(1)), step(p.Copy(), write=view(1, 1))
    ),
    "a part written twice, from before": lambda: made(
        [buffer(), buffer(4), buffer()], step(p.Copy(), write=view(1, 1)), step(p.Copy(), write=view(1))
    ),
    "bits that begin within a byte": lambda: made(
        [buffer(12), buffer(16, BITS)],
        step(p.Copy(), read=view(0, 0, 12), write=view(1, 4, 12)),
        channels=12,
        out=view(0),
    ),
    "bits that end within a byte": lambda: made([buffer(), buffer(16, BITS)], step(p.Copy(), write=view(1))),
    "groups that divide the result only": lambda: made(
        [buffer(), buffer(4)], step(dataclasses.replace(conv(channels=4), groups=4), write=view(1, 0, 4))
    ),
    "transposed, weights are codes": lambda: made([buffer(), buffer()], step(transposed("integers", 8))),
    "transposed, input is codes": lambda: made(
        [buffer(), buffer(2, BYTES), buffer()], step(p.Copy()), step(transposed(), read=view(1), write=view(2))
    ),
    "a sum with codes": lambda: made(
        [buffer(), buffer(2, BYTES), buffer()],
        step(p.Copy()),
        step(p.Copy(), write=view(2), steps=[p.Multiply(view(1))]),
    ),
    "codes as logits": lambda: made([buffer(), buffer(2, BYTES)], step(p.Copy())),
    "logits of too few channels": lambda: made([buffer()], out=view(0, 0, 1)),
    "logits of too many channels": lambda: made(
        [buffer(), buffer(3)], step(conv(channels=3), write=view(1, 0, 3)), out=view(1, 0, 3)
    ),
    "logits that are written": lambda: swapped(
        made([buffer(), buffer()], out=view(0)),
        b"\x01\x01\x00\x00" + struct.pack("<3H", 0, 0, 2),
        b"\x01\x01\x00\x01" + struct.pack("<6H", 0, 0, 2, 1, 0, 2),
    ),
    "no end": lambda: section((10, b"\x01"), (26, None)),
    "no instruction": lambda: section((10, b"\x00"), (16, None)),
    "no input channels": lambda: section((0, b"\0\0")),
    "no output channels": lambda: section((2, b"\0\0")),
    "multiple of 0": lambda: section((4, b"\0\0")),
    "no buffer channels": lambda: section((12, b"\0\0")),
    "a grid that is not there": lambda: section((14, b"\1\0")),
    "unknown operation": lambda: section((16, b"\x0b")),
    "a program that goes on": lambda: section((36, b"\0")),
    "data that nothing asks for": lambda: section(data=b"\0"),
    "asks, without a name of the machine": lambda: asking(b"\0\1" + KERNEL + bytes(2)),
    "asks for nothing": lambda: asking(b"\6scalar\0" + bytes(2)),
    "asks for a kernel without a name": lambda: asking(b"\6scalar\1\0" + bytes(2)),
    "asks by a name of 64 bytes": lambda: asking(b"\6scalar\1\x40" + b"a" * 64 + bytes(2)),
    "asks by a name with a space": lambda: asking(b"\6scalar\1\1 " + bytes(2)),
    "asks by a name that is no ASCII": lambda: asking(b"\6scalar\1\1\x7f" + bytes(2)),
    "asks by a name that is cut off": lambda: asking(b"\6scalar\1\x3fa"),
    "asks for the second of one": lambda: asking(b"\6scalar\1" + KERNEL + b"\0\2"),
    "a view of no channels": lambda: section((24, b"\0\0")),
    "uniform: the zero point is too low": lambda: grid("B3i2f", 1, -2, -1, 1, 1, 1).to_bytes(),
    "uniform: the zero point is too high": lambda: grid("B3i2f", 1, 2, -1, 1, 1, 1).to_bytes(),
    "uniform: too low": lambda: grid("B3i2f", 1, 0, -(2**24) - 1, 1, 1, 1).to_bytes(),
    "uniform: too high": lambda: grid("B3i2f", 1, 0, -1, 2**24 + 1, 1, 1).to_bytes(),
    "uniform: scale of 0": lambda: grid("B3i2f", 1, 0, -1, 1, 0, 1).to_bytes(),
    "uniform: inverse scale of 0": lambda: grid("B3i2f", 1, 0, -1, 1, 1, 0).to_bytes(),
    "uniform: inf": lambda: grid("B3i2f", 1, 0, -1, 1, INFINITE, 1).to_bytes(),
    "uniform: nan": lambda: grid("B3i2f", 1, 0, -1, 1, 1, NAN).to_bytes(),
    "powers: none": lambda: grid("3B", 2, 0, 0).to_bytes(),
    "powers: 17": lambda: grid("3B", 2, 9, 8).to_bytes(),
    "signs: none": lambda: grid("2B", 3, 0).to_bytes(),
    "signs: nine": lambda: grid("2B9f", 3, 9, *[1.0] * 9).to_bytes(),
    "signs: negative": lambda: grid("2Bf", 3, 1, -1).to_bytes(),
    "a grid of kind 0": lambda: grid("3B", 0, 0, 0).to_bytes(),
    "a grid of kind 4": lambda: grid("3B", 4, 0, 0).to_bytes(),
    "padding as wide as the window": lambda: made(
        [buffer(), buffer()], step(p.MaxPool(p.Window((2, 2), padding=(0, 2, 0, 0))))
    ),
    "padding as high as the window": lambda: made(
        [buffer(), buffer()], step(p.MaxPool(p.Window((2, 2), padding=(0, 0, 2, 0))))
    ),
    "padding as wide as the window, right": lambda: made(
        [buffer(), buffer()], step(p.MaxPool(p.Window((2, 2), padding=(0, 0, 0, 2))))
    ),
    "a spread average": lambda: made([buffer(), buffer()], step(p.AveragePool(p.Window((2, 2), dilation=(1, 2))))),
    "a tall spread average": lambda: made([buffer(), buffer()], step(p.AveragePool(p.Window((2, 2), dilation=(2, 1))))),
    "an average of codes": lambda: made(
        [buffer(), buffer(2, BYTES), buffer()],
        step(p.Copy()),
        step(p.AveragePool(p.Window((1, 1))), read=view(1), write=view(2)),
    ),
    "a mean of codes": lambda: made(
        [buffer(), buffer(2, BYTES), buffer()], step(p.Copy()), step(p.Mean(), read=view(1), write=view(2))
    ),
    "a kernel of 0": lambda: made([buffer(), buffer()], step(p.MaxPool(p.Window((0, 1))))),
    "a dilation of 0": lambda: made([buffer(), buffer()], step(p.MaxPool(p.Window((1, 1), dilation=(1, 0))))),
    "no groups": lambda: made([buffer(), buffer()], step(dataclasses.replace(conv(), groups=0))),
    "no channels of a result": lambda: made([buffer(), buffer()], step(dataclasses.replace(conv(), channels=0))),
    "groups that divide the input only": lambda: made(
        [buffer(), buffer(3)], step(dataclasses.replace(conv(channels=3), groups=2), write=view(1, 0, 3))
    ),
    "a resize of 0 columns": lambda: made([buffer(), buffer()], step(p.Nearest((1, 0)))),
    "bilinear by 0": lambda: made([buffer(), buffer()], step(p.Bilinear((0, 1), False))),
    "corners of 2": lambda: made([buffer(), buffer()], step(p.Bilinear((1, 1), 2))),
    "weights of kind 5": lambda: swapped(
        made([buffer(), buffer()], step(conv("integers", 8, m=scale))), b"\x02\x08\x01", b"\x05\x08\x01"
    ),
    "integers of one bit": lambda: made([buffer(), buffer()], step(conv("integers", 1, m=scale))),
    "powers of seven bits": lambda: made([buffer(), buffer()], step(conv("powers", 7, m=scale))),
    "signs of two bits": lambda: made([buffer(), buffer()], step(conv("signs", 2, m=scale))),
    "f32 of 31 bits": lambda: made([buffer(), buffer()], step(conv("f32", 31))),
    "bf16 of 17 bits": lambda: made([buffer(), buffer()], step(conv("bf16", 17, data=bytes(9)))),
    "signs of nine planes": lambda: made([buffer(), buffer()], step(conv("signs", 1, 9, m=np.ones((9, 1, 2), "f4")))),
    "weights of no plane": lambda: made([buffer(), buffer()], step(conv("signs", 1, 0, m=np.ones((1, 1, 2), "f4")))),
    "2 to the 16": lambda: made([buffer(), buffer()], step(conv("powers", 6, data=b"\x11\0\0", m=scale))),
    "minus 2 to the 16": lambda: made([buffer(), buffer()], step(conv("powers", 6, data=b"\x2e\0\0", m=scale))),
    "an f32 weight of nan": lambda: made(
        [buffer(), buffer()], step(conv(data=np.full(4, np.nan, np.float32).tobytes()))
    ),
    "constants of form 3": lambda: constants(3, b""),
    "half: inf": lambda: constants(2, struct.pack("<h2H", 0, 0x7C00, 0)),
    "half: nan": lambda: constants(2, struct.pack("<h2H", 0, 0, 0xFE00)),
    "half: too large": lambda: constants(2, struct.pack("<h2H", 200, 0, 0x7BFF)),
    "one: nan": lambda: constants(1, struct.pack("<f", NAN)),
    "too many constants": lambda: copies(2, WIDE, (p.Affine(np.ones(WIDE, "f4"), np.ones(WIDE, "f4")),) * 129),
    "clip: inf": lambda: made([buffer(), buffer()], step(p.Copy(), steps=[p.Clip(0.0, INFINITE)])),
    "clip: nan": lambda: made([buffer(), buffer()], step(p.Copy(), steps=[p.Clip(NAN, 0.0)])),
    "tanh: inf": lambda: made([buffer(), buffer()], step(p.Copy(), steps=[p.TernaryTanh(INFINITE)])),
    "an unknown step": lambda: swapped(
        made([buffer(), buffer()], step(p.Copy(), steps=[p.Relu()])),
        b"\x01" + struct.pack("<3H", 1, 0, 2) + b"\x01",
        b"\x09" + struct.pack("<3H", 1, 0, 2) + b"\x01",
    ),
    "a step without its grid": lambda: swapped(
        made([buffer(), buffer()], step(p.Copy(), steps=[p.Snap(BYTES)])), b"\x07\x01\x00", b"\x07\x00\x00"
    ),
    "a snap on a grid that is not there": lambda: swapped(
        made([buffer(), buffer()], step(p.Copy(), steps=[p.Snap(BYTES)])), b"\x07\x01\x00", b"\x07\x02\x00"
    ),
    "more than 16384 tensors": lambda: made([buffer()] * (2**14 + 1)),
}
# Both take these: what is next to each rule, on its good side.
GOOD = {
    "the least": lambda: made([buffer()]),
    "two halves, the second one first": lambda: made(
        [buffer(), buffer(4), buffer()],
        step(p.Copy(), write=view(1, 2)),
        step(p.Copy(), write=view(1)),
        step(conv(inside=4), read=view(1, 0, 4), write=view(2)),
    ),
    "three parts, the middle last": lambda: made(
        [buffer(), buffer(6), buffer()],
        step(p.Copy(), write=view(1, 4)),
        step(p.Copy(), write=view(1)),
        step(p.Copy(), write=view(1, 2)),
        step(conv(inside=6), read=view(1, 0, 6), write=view(2)),
    ),
    "transposed": lambda: made([buffer(), buffer()], step(transposed())),
    "each operation on f32": lambda: made(
        [buffer()] * 7,
        step(p.MaxPool(p.Window((1, 1)))),
        step(p.AveragePool(p.Window((1, 1))), write=view(2)),
        step(p.Nearest((1, 1)), write=view(3)),
        step(p.Bilinear((1, 1), True), write=view(4)),
        step(p.Pad((0, 0, 0, 0)), write=view(5)),
        step(p.Copy(), write=view(6), steps=[p.Affine(ones, ones / 3), p.Relu(), p.Clip(0, 1), p.Sigmoid()]),
    ),
    "each step": lambda: made(
        [buffer(), buffer(), buffer()],
        step(p.Mean()),
        step(
            p.Copy(),
            write=view(2),
            steps=[p.TernaryTanh(1), p.Add(view(1)), p.Multiply(view(0)), p.Snap(BITS), p.Softmax()],
        ),
    ),
    "codes of each operation": lambda: made(
        [buffer(), *[buffer(2, BYTES)] * 5, buffer()],
        step(p.Copy()),
        step(p.MaxPool(p.Window((1, 1))), read=view(1), write=view(2)),
        step(p.Nearest((1, 1)), read=view(2), write=view(3)),
        step(p.Pad((0, 0, 0, 0)), read=view(3), write=view(4)),
        step(p.Copy(), read=view(4), write=view(5)),
        step(conv("integers", 8, m=scale), read=view(5), write=view(6)),
    ),
    "signs": lambda: made(
        [buffer(), buffer(2, PLANES), buffer()],
        step(p.Copy()),
        step(conv("signs", 1, 2, m=np.ones((2, 2, 2), "f4")), read=view(1), write=view(2)),
    ),
    "powers": lambda: made(
        [buffer(), buffer(2, PowersOfTwo(8, 8)), buffer()],
        step(p.Copy()),
        step(conv("powers", 6, data=b"\x10\xfc\xff", m=scale), read=view(1), write=view(2)),
    ),
    "bf16": lambda: made([buffer(), buffer()], step(conv("bf16", 16, data=b"\x7f\x7f" * 4))),
    "asks for a kernel": lambda: asking(b"\6scalar\1" + KERNEL + b"\0\1"),
    "asks for one that nobody has": lambda: asking(b"\6scalar\1\1~\1\1"),
    "asks on another machine": lambda: asking(b"\6abacus\1" + KERNEL + b"\1\0"),
    "halves": lambda: constants(2, struct.pack("<h2H", -300, 0x0001, 0x8400)),
    "each": lambda: constants(0, struct.pack("<2f", 1, -0.0)),
}


def resealed(content: bytes) -> bytes:
    """With the digest put right, as the fuzzer's target does, and with a card that Python takes."""
    if len(content) < HEADER_BYTES:
        return content
    _, version, _, length, card, program, data = HEADER.unpack_from(content)
    head, body = content[: HEADER.size], content[HEADER_BYTES:]
    if length == len(content) == HEADER_BYTES + card + program + data and version in (1, 2):
        return Container({}, body[card : card + program], body[card + program :], version).to_bytes()
    return head + hashlib.sha256(head + body).digest() + body
