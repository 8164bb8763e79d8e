"""Programs that are written well and make no sense: each check of the readers, by the words of the native one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pocketseg.engine import program as p
from pocketseg.engine.codec import encode, program_in
from pocketseg.engine.container import Container
from pocketseg.engine.session import Session
from pocketseg.errors import DataError, ModelFileError

BYTES = p.Uniform(0, 0, 255, 0.5, 2.0)
OTHER = p.Uniform(0, 0, 255, 0.25, 4.0)
BITS, PLANES = p.Signs((1.0,)), p.Signs((0.5, 0.25))
MOST = b"\xff\xff\x7f"
HUGE = p.Uniform(0, 0, 2**24, 1.0, 1.0)


def storage(channels=2, grid=None):
    return p.Storage(channels, grid)


def view(number, first=0, channels=2):
    return p.View(number, first, channels)


def conv(kind="f32", bits=32, planes=1, channels=2, groups=1, data=None, m=None, kernel=(1, 1), inside=2):
    count = channels * kernel[0] * kernel[1] * inside // groups
    data = bytes(planes * ((count * bits + 7) // 8)) if data is None else data
    window = p.Window(kernel)
    constants = np.zeros(channels, np.float32)
    return p.Convolution(window, groups, channels, p.Weights(kind, bits, planes, data), m, constants)


def opened(*parts, **options):
    return Session(made(*parts, **options), "here")


def made(storages, *middle, out=None, multiple=1):
    """The file of a net of two channels: image → storage 0 → … → logits."""
    first = p.Instruction(p.Input(), (), (), (view(0),))
    last = p.Instruction(p.Output(), (out or view(len(storages) - 1),), (), ())
    program = p.Program(2, 2, multiple, tuple(storages), (first, *middle, last))
    return Container({}, *encode(program)).to_bytes()


def step(operation, *, read=None, write=None, steps=()):
    return p.Instruction(operation, (read or view(0),), tuple(steps), (write or view(1),))


def test_the_least_net():
    session = opened([storage()])
    image = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    assert np.array_equal(session(image), image)


ones, scale = np.ones(2, np.float32), np.ones((1, 1, 2), np.float32)
CASES = {
    "read before it is written": lambda: made([storage(), storage()], step(p.Copy(), read=view(1), write=view(1))),
    "is read before": lambda: made([storage(4), storage()], step(p.Copy(), read=view(0, 1))),
    "written twice": lambda: made([storage()], step(p.Copy(), write=view(0))),
    "tensor that is not there": lambda: made([storage()], step(p.Copy(), write=view(5))),
    "channels that are not there": lambda: made([storage(), storage()], step(p.Copy(), write=view(1, 1))),
    "other channels": lambda: made([storage(), storage(3)], step(p.Copy(), write=view(1, 0, 3))),
    "bits within a byte": lambda: made([storage(), storage(16, BITS)], step(p.Copy(), write=view(1, 4))),
    "codes of two grids": lambda: made(
        [storage(), storage(2, BYTES), storage(2, OTHER)], step(p.Copy()), step(p.Copy(), read=view(1), write=view(2))
    ),
    "a step on codes": lambda: made(
        [storage(), storage(2, BYTES), storage(2, BYTES)],
        step(p.Copy()),
        step(p.Copy(), read=view(1), write=view(2), steps=[p.Relu()]),
    ),
    "an operation on codes": lambda: made(
        [storage(), storage(2, BYTES), storage()],
        step(p.Copy()),
        step(p.Bilinear((1, 1), False), read=view(1), write=view(2)),
    ),
    "a pooling of planes": lambda: made(
        [storage(), storage(2, PLANES), storage(2, PLANES)],
        step(p.Copy()),
        step(p.MaxPool(p.Window((1, 1))), read=view(1), write=view(2)),
    ),
    "padding only": lambda: made(
        [storage(), storage()], step(p.MaxPool(p.Window((2, 2), padding=(2, 0, 0, 0))))
    ),
    "average of padding": lambda: made(
        [storage(), storage()], step(p.AveragePool(p.Window((2, 2), padding=(1, 0, 0, 0))))
    ),
    "a resize by 0": lambda: made([storage(), storage()], step(p.Nearest((0, 1)))),
    "a window of size 0": lambda: made([storage(), storage()], step(p.MaxPool(p.Window((1, 1), (0, 1))))),
    "groups that divide": lambda: made(
        [storage(), storage()], step(dataclasses.replace(conv(), groups=3))
    ),
    "f32 weights over codes": lambda: made(
        [storage(), storage(2, BYTES), storage()], step(p.Copy()), step(conv(), read=view(1), write=view(2))
    ),
    "too many planes": lambda: made(
        [storage(), storage()], step(conv("integers", 8, 2, m=np.ones((2, 1, 2), np.float32)))
    ),
    "too many bits": lambda: made([storage(), storage()], step(conv("integers", 25, m=scale))),
    "padding bits are set": lambda: made(
        [storage(), storage()], step(conv("signs", 1, data=b"\xff", m=scale))
    ),
    "a weight is nan or inf": lambda: made([storage(), storage()], step(conv("bf16", 16, data=b"\x80\x7f" * 4))),
    "a constant is nan or inf": lambda: made(
        [storage(), storage()], step(p.Copy(), steps=[p.Affine(ones * np.float32(np.nan), ones)])
    ),
    "without order": lambda: made([storage(), storage()], step(p.Copy(), steps=[p.Clip(1.0, 0.0)])),
    "two tensors that do not fit": lambda: made(
        [storage(), storage(3), storage()],
        step(conv(channels=3), write=view(1, 0, 3)),
        step(p.Copy(), write=view(2), steps=[p.Add(view(1, 0, 3))]),
    ),
    "goes nowhere": lambda: made([storage()], p.Instruction(p.Copy(), (view(0),), (), ())),
    "other inputs": lambda: made([storage(), storage()], p.Instruction(p.Copy(), (), (), (view(1),))),
    "an end in the middle": lambda: made([storage()], p.Instruction(p.Output(), (view(0),), (), ())),
    "do not fit 53 bits": lambda: made(
        [storage(), storage(2, HUGE), storage()],
        step(p.Copy()),
        step(
            conv("integers", 24, m=scale, kernel=(255, 255), data=MOST * 4 * 255**2),
            read=view(1),
            write=view(2),
        ),
    ),
    "more than 134217728 weights": lambda: made(
        [storage(), storage(65535)], step(conv(channels=65535, kernel=(255, 255), data=b""), write=view(1, 0, 65535))
    ),
    "more than 4194304 channels": lambda: made([storage(), *[storage(65535)] * 65]),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_refused(what):
    """By both readers; here are the words of the native one."""
    content = CASES[what]()
    with pytest.raises(ModelFileError, match=what):
        Session(content, "here")
    with pytest.raises(ModelFileError, match="no valid program"):
        program_in(content, "here")


@pytest.mark.parametrize(
    ("operation", "what", "error"),
    [
        (p.Nearest((2, 1)), "logits of 8×4 for an image of 4×4", ModelFileError),
        (conv(kernel=(5, 5)), "a side of 0", DataError),
        (p.Nearest((255, 1)), "a side of 66300", DataError),
    ],
    ids=str,
)  # fmt: skip
def test_sizes_that_do_not_fit(operation, what, error):
    side = 260 if "66300" in what else 4
    with pytest.raises(error, match=what):
        opened([storage(), storage()], step(operation)).arena_bytes(side, side)


def test_tensors_of_two_sizes_do_not_meet():
    large = step(p.Nearest((2, 2)))
    joined = opened([storage(), storage(4)], step(p.Copy(), write=view(1, 2)), dataclasses.replace(large), out=view(1))
    with pytest.raises(ModelFileError, match="puts tensors of two sizes together"):
        joined.arena_bytes(4, 4)
    added = opened([storage(), storage(), storage()], large, step(p.Copy(), write=view(2), steps=[p.Add(view(1))]))
    with pytest.raises(ModelFileError, match="brings tensors of two sizes together"):
        added.arena_bytes(4, 4)
