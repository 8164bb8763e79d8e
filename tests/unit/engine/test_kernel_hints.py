"""Kernels that a file asks for: both readers and the writer, whole and damaged, and what the library makes of them."""

from __future__ import annotations

import dataclasses
import re

import pytest

from helpers.packed_models import asking, changed, packed
from pocketseg.engine.codec import encode, file_of, program_in
from pocketseg.engine.container import HEADER, read_container
from pocketseg.engine.library import kernel_names
from pocketseg.engine.program import KernelHints
from pocketseg.engine.session import Session
from pocketseg.errors import ModelFileError

MODEL = ("thin_unet_w32_n4_separable", "w8a8")
# The section begins with six counts.
START = 12
KERNELS = {1: "scalar/convolution_codes", 4: "scalar/convolution_wide", 2: "scalar/convolution_codes"}


def tuned(machine: str | None = None) -> bytes:
    return asking(packed(*MODEL), KERNELS, machine)


def block_bytes() -> int:
    """How much longer the section is for what is asked."""
    return len(read_container(tuned(), "here").program) - len(read_container(packed(*MODEL), "here").program)


def both(content: bytes) -> tuple[str | None, str | None]:
    """What the readers in Python and in C++ have against a file."""
    found: list[str | None] = []
    for reader in (program_in, Session):
        try:
            reader(content, "here")
            found.append(None)
        except ModelFileError as error:
            found.append(str(error))
    return found[0], found[1]


def with_block(block: bytes) -> bytes:
    """The tuned file with other bytes for what it asks."""
    program = read_container(tuned(), "here").program
    return changed(tuned(), program=program[:START] + block + program[START + block_bytes() :])


def names(*each: bytes) -> bytes:
    return b"".join(bytes([len(name)]) + name for name in each)


def instructions() -> int:
    return len(program_in(packed(*MODEL), "here")[0].instructions)


def test_there_and_back():
    plain, content = packed(*MODEL), tuned("abacus")
    program, container = program_in(content, "here")
    assert program.hints == KernelHints("abacus", KERNELS)
    assert file_of(program, container.card) == content
    assert file_of(dataclasses.replace(program, hints=None), container.card) == plain
    assert program_in(plain, "here")[0].hints is None


def test_a_file_that_asks_for_nothing_is_of_version_1():
    """What was packed before is read as ever, and what needs no new reader is written for the old ones."""
    assert [HEADER.unpack_from(content)[1] for content in (packed(*MODEL), tuned())] == [1, 2]
    assert read_container(tuned(), "here").version == 2


def test_the_block_is_small():
    used = sum(1 + len(name) for name in {Session(tuned(), "x").isa, *KERNELS.values()})
    assert block_bytes() == used + 1 + instructions()


def test_a_version_of_the_other_form_is_refused_by_both():
    for content, version in ((packed(*MODEL), 2), (tuned(), 1), (tuned(), 3), (packed(*MODEL), 0)):
        assert None not in both(changed(content, version=version)), version


def test_cut_at_every_length():
    program = read_container(tuned(), "here").program
    for length in range(START + block_bytes() + 40):
        assert None not in both(changed(tuned(), program=program[:length])), length


def test_both_readers_refuse_the_same_alterations():
    program = read_container(tuned(), "here").program
    refused = 0
    for place in range(START, START + block_bytes()):
        for value in (0, 1, 2, 3, 32, 33, 63, 64, 126, 127, 128, 255):
            altered = bytearray(program)
            altered[place] = value
            python, native = both(changed(tuned(), program=bytes(altered)))
            assert (python is None) == (native is None), (place, value, python, native)
            refused += python is not None
    assert refused > 200


@pytest.mark.parametrize(
    ("block", "what"),
    [
        (lambda n: names(b"avx2") + b"\0" + bytes(n), "no kernel is asked for"),
        (lambda n: names(b"avx2") + b"\1" + names(b"a") + b"\2" + bytes(n - 1), "a kernel that is not there"),
        (lambda n: names(b"avx2") + b"\1" + names(b"a") + bytes(n - 1) + b"\xff", "a kernel that is not there"),
        (lambda n: names(b"avx2") + b"\1" + names(b"") + bytes(n), "a name of no length"),
        (lambda n: names(b"") + b"\1" + names(b"a") + bytes(n), "a name of no length"),
        (lambda n: names(b"a" * 64) + b"\1" + names(b"a") + bytes(n), "a name of too many bytes"),
        (lambda n: names(b"avx2") + b"\1" + names(b"a b") + bytes(n), "cannot be read"),
        (lambda n: names(b"avx2") + b"\1" + names(b"a\x7f") + bytes(n), "cannot be read"),
        (lambda n: names(b"avx2") + b"\1" + names(b"\xe9") + bytes(n), "cannot be read"),
        (lambda n: names(b"a\0") + b"\1" + names(b"a") + bytes(n), "cannot be read"),
    ],
)
def test_what_is_wrong_is_reported(block, what):
    python, native = both(with_block(block(instructions())))
    assert python is not None and native is not None and what in native


def test_the_longest_name_and_the_most_names():
    many = [b"a" * 63, *(b"%d" % number for number in range(254))]
    content = with_block(names(b"z" * 63) + b"\xff" + names(*many) + b"\xff" * instructions())
    assert both(content) == (None, None)
    hints = program_in(content, "here")[0].hints
    assert hints is not None and set(hints.kernels.values()) == {"253"} and len(hints.kernels) == instructions()


@pytest.mark.parametrize(
    "hints",
    [
        KernelHints("avx2", {}), KernelHints("avx2", {10_000: "a"}),
        KernelHints("avx2", {-1: "a"}), KernelHints("", {0: "a"}),
        KernelHints("avx2", {0: ""}), KernelHints("avx2", {0: "a" * 64}),
        KernelHints("avx2", {0: "a b"}), KernelHints("avx2", {0: "é"}),
    ],
    ids=str,
)  # fmt: skip
def test_the_writer_refuses_what_no_reader_takes(hints):
    program, _ = program_in(packed(*MODEL), "here")
    with pytest.raises(ModelFileError, match="asks for"):
        encode(dataclasses.replace(program, hints=hints))


def test_more_names_than_a_byte_counts():
    program, _ = program_in(packed(*MODEL), "here")
    longer = program.instructions * 20
    many = KernelHints("avx2", {number: f"kernel{number}" for number in range(256)})
    with pytest.raises(ModelFileError, match="too large for this format"):
        encode(dataclasses.replace(program, instructions=longer, hints=many))


def test_names_are_a_set_and_a_kernel():
    found = kernel_names()
    assert len(set(found)) == len(found) > 10
    assert all(re.fullmatch(r"(amx|avx512|avxvnni|avx2|sse41|dotprod|neon|scalar)/[a-z0-9_]+", name) for name in found)
    assert found[-1].startswith("scalar/")


def test_the_kernel_that_is_asked_for_runs_alone():
    plain, session = Session(packed(*MODEL), "here"), Session(tuned(), "here")
    assert all(session.kernels[number] == name for number, name in KERNELS.items())
    assert session.kernels[3] != "scalar/convolution_codes"
    # What stands next to one that was asked for is joined with nothing either; all else stays.
    assert "" not in session.kernels[1:5]
    assert session.kernels[8:] == plain.kernels[8:]
    assert ("" in plain.kernels[1:5]) == (plain.isa != "scalar")


@pytest.mark.parametrize("behind", [0, 1])
def test_asking_for_what_would_run_anyway_is_not_to_be_joined(behind):
    """Either of two neighbors, each by the best kernel of its own."""
    plain = Session(packed(*MODEL), "here")
    joined = [number + behind for number, name in enumerate(plain.kernels) if not name]
    assert bool(joined) == (plain.isa != "scalar")
    for number in joined:
        tried = ((name, Session(asking(packed(*MODEL), {number: name}), "here")) for name in kernel_names())
        name, session = next(each for each in tried if each[1].kernels != plain.kernels)
        assert session.kernels[number] == name and name.startswith(f"{plain.isa}/")
        assert session.kernels[number - behind] != ""


def test_other_machines_choose_for_themselves():
    assert Session(tuned("abacus"), "here").kernels == Session(packed(*MODEL), "here").kernels


@pytest.mark.parametrize(
    "name", ["avx512/abacus", "abacus/convolution_codes", "scalar/max_pool", "scalar/convolution_code"]
)
def test_a_kernel_that_is_unknown_or_does_not_fit_is_not_taken(name):
    """Of a convolution."""
    plain = Session(packed(*MODEL), "here")
    convolutions = [n for n, kernel in enumerate(plain.kernels) if kernel.endswith(("codes", "")) and 0 < n < 5]
    assert Session(asking(packed(*MODEL), dict.fromkeys(convolutions, name)), "here").kernels == plain.kernels


def test_a_set_that_is_not_this_machines_is_not_taken(monkeypatch):
    """With POCKETSEG_ISA=scalar no other set runs, whatever a file asks for."""
    monkeypatch.setenv("POCKETSEG_ISA", "scalar")
    plain = Session(packed(*MODEL), "here")
    for name in kernel_names():
        if not name.startswith("scalar/"):
            content = asking(packed(*MODEL), dict.fromkeys(range(instructions()), name), "scalar")
            assert Session(content, "here").kernels == plain.kernels
