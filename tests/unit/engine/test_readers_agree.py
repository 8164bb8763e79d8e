"""The reader in C++ and the one in Python take the same files and refuse the same."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator

import pytest

from helpers.packed_models import changed, packed
from helpers.reader_cases import CASES, CORPUS, GOOD, MORE, resealed
from pocketseg.engine.codec import program_in
from pocketseg.engine.container import Container, read_container
from pocketseg.engine.session import Session
from pocketseg.errors import PocketsegError

MODELS = [
    ("thin_unet", "w2a8"), ("mk_unet", "w4"), ("thin_unet", "residual w2a2"), ("mk_unet", "w1a1"),
    ("fixed_point_unet", "power-of-two Q1.8/Q4.4"), ("thin_unet", "fixed Q8.8/Q8.8", "f16"),
    ("mk_unet", "w8a8", "f16", "avx2/convolution_codes"),
]  # fmt: skip


def small_files() -> list[bytes]:
    """One for each rule and each way to break it."""
    made = [case() for case in (*GOOD.values(), *CASES.values(), *MORE.values())]
    return [content for content in made if len(content) < 2000]


def said(read: Callable[[bytes, str], object], content: bytes) -> str:
    """What a reader says; empty where it takes the file. Other errors than ours are not caught."""
    try:
        read(content, "here")
    except PocketsegError as error:
        return str(error)
    return ""


def agreed(content: bytes) -> bool:
    """Whether both take it."""
    python, native = said(program_in, content), said(Session, content)
    assert bool(python) == bool(native), f"Python says {python!r}, C++ {native!r}: {content.hex()}"
    return not python


def mutants(draw: random.Random, files: list[bytes]) -> Iterator[bytes]:
    """A byte or a few of a program or of its data are others; the digest is right."""
    whole = [read_container(file, "here") for file in files]
    while True:
        sections = draw.choice(whole)
        program, data = bytearray(sections.program), bytearray(sections.data)
        for _ in range(draw.choice([1, 1, 1, 2, 4])):
            section = data if data and draw.random() < 0.1 else program
            place = draw.randrange(len(section))
            section[place] = draw.choice([0, 1, 2, 127, 128, 255, draw.randrange(256), (section[place] + 1) % 256])
        if draw.random() < 0.05:
            # Bytes that belong to another field then.
            place = draw.randrange(len(program))
            program[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
        yield Container({}, bytes(program), bytes(data), sections.version).to_bytes()


@pytest.mark.parametrize("seconds", [8, pytest.param(90, marks=pytest.mark.slow("more of the same"))])
def test_on_mutants(seconds):
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    files = [packed(*model) for model in MODELS] + small_files()
    until, taken = time.monotonic() + seconds, [0, 0]
    for mutant in mutants(random.Random(seed), files):
        taken[agreed(mutant)] += 1
        if time.monotonic() > until:
            break
    assert min(taken) > 50, taken


@pytest.mark.parametrize("model", MODELS, ids=str)
def test_on_every_byte_of_a_program(model):
    """Each byte in turn, one more, and its highest bit turned."""
    whole = packed(*model)
    program = read_container(whole, "here").program
    draw = random.Random(3)
    for place in draw.sample(range(len(program)), min(len(program), 250)):
        for other in (program[place] ^ 0x80, (program[place] + 1) % 256):
            agreed(changed(whole, program=program[:place] + bytes([other]) + program[place + 1 :]))


def test_on_what_the_fuzzer_kept():
    taken = [agreed(resealed(file.read_bytes())) for file in sorted(CORPUS.iterdir())]
    assert any(taken) and not all(taken)
