"""Programs that are written well and make no sense: each check of the readers, by the words of the native one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from helpers.reader_cases import CASES, GOOD, MORE, buffer, conv, made, step, view
from pocketseg.engine import program as p
from pocketseg.engine.codec import program_in
from pocketseg.engine.session import Session
from pocketseg.errors import DataError, ModelFileError


def opened(*parts, **options):
    return Session(made(*parts, **options), "here")


def test_the_least_net():
    session = opened([buffer()])
    image = np.arange(8, dtype=np.float32).reshape(1, 2, 2, 2)
    assert np.array_equal(session(image), image)


@pytest.mark.whole
@pytest.mark.parametrize("what", GOOD)
def test_taken(what):
    content = GOOD[what]()
    program_in(content, "here")
    Session(content, "here").arena_bytes(4, 4)


def words(error):
    """What the native reader says, without the file and what to do."""
    return error.problems[0].what.removeprefix("the file is damaged: ")


# By the names of MORE.
WORDS = json.loads(Path(__file__).with_name("refusals.json").read_text())


@pytest.mark.whole
@pytest.mark.row("S12")
@pytest.mark.parametrize("what", MORE)
def test_refused_besides(what):
    content = MORE[what]()
    with pytest.raises(ModelFileError) as native:
        Session(content, "here")
    assert words(native.value) == WORDS[what]
    with pytest.raises(ModelFileError):
        program_in(content, "here")


@pytest.mark.whole
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
        opened([buffer(), buffer()], step(operation)).arena_bytes(side, side)


def test_tensors_of_two_sizes_do_not_meet():
    large = step(p.Nearest((2, 2)))
    joined = opened([buffer(), buffer(4)], step(p.Copy(), write=view(1, 2)), dataclasses.replace(large), out=view(1))
    with pytest.raises(ModelFileError, match="puts tensors of two sizes together"):
        joined.arena_bytes(4, 4)
    added = opened([buffer(), buffer(), buffer()], large, step(p.Copy(), write=view(2), steps=[p.Add(view(1))]))
    with pytest.raises(ModelFileError, match="brings tensors of two sizes together"):
        added.arena_bytes(4, 4)
