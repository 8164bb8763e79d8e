"""Files that are valid and made to take long: small on the disk, large in what they name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pocketseg.engine import program as p
from pocketseg.engine.codec import encode
from pocketseg.engine.container import Container

WIDE = 65535
MAX_TENSORS = 2**14


def view(buffer: int, channels: int) -> p.View:
    return p.View(buffer, 0, channels)


def file_with(buffers: list[p.Buffer], *middle: p.Instruction, last: int = 0) -> bytes:
    """A net of as many channels as its first buffer has: image → buffer 0 → … → the last → logits."""
    channels = buffers[0].channels
    first = p.Instruction(p.Input(), (), (), (view(0, channels),))
    end = p.Instruction(p.Output(), (view(last, channels),), (), ())
    program = p.Program(channels, channels, 1, tuple(buffers), (first, *middle, end))
    return Container({}, *encode(program)).to_bytes()


def copies(buffers: int, channels: int, steps: tuple[p.Step, ...] = ()) -> bytes:
    """Buffer to buffer, one after the other."""
    made = [
        p.Instruction(p.Copy(), (view(number - 1, channels),), steps, (view(number, channels),))
        for number in range(1, buffers)
    ]
    return file_with([p.Buffer(channels)] * buffers, *made, last=buffers - 1)


def additions() -> bytes:
    """255 steps of an instruction each look at 65,535 channels; 110 KB."""
    return copies(60, WIDE, (p.Add(view(0, WIDE)),) * 255)


def tensors_at_once(count: int = MAX_TENSORS) -> bytes:
    """All are written first and read last, so that none may take another's place; 0.4 MB."""
    made = [p.Instruction(p.Copy(), (view(0, 1),), (), (view(number, 1),)) for number in range(1, count - 64)]
    for number in range(64):
        others = range(1 + 255 * number, min(256 + 255 * number, count - 64))
        steps = tuple(p.Add(view(other, 1)) for other in others)
        made.append(p.Instruction(p.Copy(), (view(0, 1),), steps, (view(count - 64 + number, 1),)))
    return file_with([p.Buffer(1)] * count, *made)


def turns_that_never_fit() -> bytes:
    """Every instruction might be done together with the fifteen behind it, and with fourteen, …; 0.3 MB."""
    return copies(MAX_TENSORS, 200)


def steps_that_do_nothing() -> bytes:
    """A step takes one byte; 1 MB."""
    return copies(3700, 1, (p.Relu(),) * 255)


def constants_by_the_row() -> bytes:
    """An f32 stands for 65,535 of them, as often as the limit allows."""
    row = np.ones(WIDE, np.float32)
    return copies(2, WIDE, (p.Affine(row, row),) * 127)


def bits_of_one_output() -> bytes:
    """Kernels lay each bit out as 64 bytes; 1 MB."""
    data = bytes(-(-128 * 255 * 255 // 8))
    weights = p.Weights("signs", 1, 1, data)
    ones = np.ones(1, np.float32)
    conv = p.Convolution(p.Window((255, 255), padding=(127,) * 4), 1, 1, weights, ones.reshape(1, 1, 1), ones)
    step = p.Instruction(conv, (view(0, 128),), (), (p.View(1, 0, 1),))
    return file_with([p.Buffer(128), p.Buffer(1)], step)


def readers_of_everything() -> bytes:
    """Fifteen instructions read what the sixteenth wrote, 255 times each; 1 MB."""
    made: list[p.Instruction] = []
    for number in range(1, 560):
        source = number // 16 * 16
        made.append(
            p.Instruction(p.Copy(), (view(source, 1),), (p.Add(view(source, 1)),) * 255, (view(number, 1),))
        ) if source != number else made.append(p.Instruction(p.Copy(), (view(0, 1),), (), (view(number, 1),)))
    return file_with([p.Buffer(1)] * 560, *made)


FILES: dict[str, Callable[[], bytes]] = {
    "additions": additions,
    "tensors at once": tensors_at_once,
    "turns that never fit": turns_that_never_fit,
    "steps that do nothing": steps_that_do_nothing,
    "constants by the row": constants_by_the_row,
    "bits of one output": bits_of_one_output,
    "readers of everything": readers_of_everything,
}
