"""The tests of the reader in C++ go through all of it, and each of its checks is missed where it is taken away."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builds import ROOT

from helpers.reader_cases import CASES, CORPUS, GOOD, MORE, resealed
from pocketseg.engine.container import HEADER, HEADER_BYTES

SOURCE = ROOT / "native/src"
READER = SOURCE / "reader.cpp"
# The plain kernels are enough to read by.
PARTS = [
    *(SOURCE / f"{name}.cpp" for name in ("epilogue", "fusion", "kernels", "plan", "pocketseg", "program", "sha256")),
    *sorted((SOURCE / "scalar").glob("*.cpp")),
    *sorted((SOURCE / "pipeline").glob("*.cpp")),
    ROOT / "native/tests/replay.cpp",
]
# All but that of a file of more than 2 GiB, which test_session pretends to have.
MIN_BRANCHES = 0.99
MIN_CAUGHT = 0.95
# All of them take minutes; else some.
CAMPAIGN = "POCKETSEG_CAMPAIGN" in os.environ
SAMPLE = 4
HEADERS = 16


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A file for each rule, good and bad, for each field of the header, and what the fuzzer kept."""
    folder = tmp_path_factory.mktemp("kinds")
    contents = [case() for case in (*GOOD.values(), *CASES.values(), *MORE.values())]
    contents += headers(contents[0])
    assert len(contents) == len(CASES) + len(GOOD) + len(MORE) + HEADERS
    contents += (resealed(file.read_bytes()) for file in sorted(CORPUS.iterdir()))
    made = []
    for index, content in enumerate(contents):
        made.append(folder / f"{index}.pseg")
        made[-1].write_bytes(content)
    return made


def headers(whole: bytes) -> Iterator[bytes]:
    """Headers that are wrong; where the digest covers them it is right."""
    import hashlib

    def sealed(*fields: int) -> bytes:
        head, body = HEADER.pack(whole[:8], *fields), whole[HEADER_BYTES:]
        return head + hashlib.sha256(head + body).digest() + body

    _, version, zero, length, *sizes = HEADER.unpack_from(whole)
    yield from (b"", whole[:7], b"x" + whole[1:], whole[:8], whole[:79], whole[:-1], whole + b"\0")
    yield from (sealed(0, zero, length, *sizes), sealed(3, zero, length, *sizes), sealed(version, 1, length, *sizes))
    yield from (sealed(version, zero, length + by, *sizes) for by in (-1, 1))
    yield sealed(version, zero, length, sizes[0], sizes[1], sizes[2] + 1)
    yield sealed(version, zero, length, sizes[0], sizes[1] - 1, sizes[2])
    yield sealed(version, zero, length, 2**64 - 1, 3, length)
    yield whole[:50] + bytes([whole[50] ^ 1]) + whole[51:]


def compiled(folder: Path, compiler: str, *options: str | Path) -> None:
    command = [compiler, "-std=c++17", "-O0", "-w", f"-I{ROOT / 'native/include'}", f"-I{SOURCE}", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow("builds the library once more, to count branches")
@pytest.mark.row("S11")
def test_branches_of_the_reader(tool, tmp_path, files):
    """Measured by clang: both ways of each condition."""
    covering = ["-fprofile-instr-generate", "-fcoverage-mapping"]
    compiled(tmp_path, tool("clang++"), *covering, *PARTS, READER, "-o", "replay")
    environment = {**os.environ, "LLVM_PROFILE_FILE": "raw"}
    subprocess.run(
        [tmp_path / "replay", "8", "1", *files], check=True, capture_output=True, cwd=tmp_path, env=environment,
        timeout=120,
    )  # fmt: skip
    subprocess.run([tool("llvm-profdata"), "merge", "raw", "-o", "merged"], check=True, cwd=tmp_path)
    told = subprocess.run(
        [tool("llvm-cov"), "export", "-instr-profile", "merged", "replay", str(READER)],
        check=True, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    (file,) = json.loads(told.stdout)["data"][0]["files"]
    missed = [
        f"line {branch[0]}: {branch[4]} true, {branch[5]} false" for branch in file["branches"] if 0 in branch[4:6]
    ]
    found = file["summary"]["branches"]
    print(f"{found['covered']} of {found['count']} branches", *missed, sep="\n")
    assert found["covered"] >= MIN_BRANCHES * found["count"], missed


def closing(text: str, at: int) -> int:
    """Where the parenthesis that opens at a place closes."""
    depth = 0
    for place in range(at, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise AssertionError(text[at : at + 50])


def operands(condition: str) -> list[str]:
    """What stands between && that are in no parentheses."""
    found, depth = [""], 0
    for part in re.split(r"(&&|\(|\))", condition):
        depth += {"(": 1, ")": -1}.get(part, 0)
        if part == "&&" and depth == 0:
            found.append("")
        else:
            found[-1] += part
    return found


def mutations(text: str) -> Iterator[tuple[str, str]]:
    """Each check of the reader taken away, and each part of those that have several: (what, the source)."""
    for match in re.finditer(r"^ +require\(|; require\(|\) require\(", text, re.M):
        begin = match.end() - 1
        end = closing(text, begin)
        line = text.count("\n", 0, begin) + 1
        inside = text[begin + 1 : end]
        condition, comma, what = inside.rpartition(",")
        yield f"line {line}: {what.strip()}", text[: begin + 1] + "true" + comma + what + text[end:]
        parts = operands(condition)
        for left in range(len(parts) if len(parts) > 1 else 0):
            kept = "&&".join(part for index, part in enumerate(parts) if index != left)
            name = f"line {line}: {' '.join(parts[left].split())}"
            yield name, text[: begin + 1] + kept + comma + what + text[end:]
    for match in re.finditer(r"if \(([^\n]*)\)\s+throw Fault", text):
        line = text.count("\n", 0, match.start()) + 1
        yield f"line {line}: if ({match[1]})", text[: match.start(1)] + "false" + text[match.end(1) :]


@pytest.mark.slow("compiles the reader again and again")
@pytest.mark.row("S12")
def test_each_check_is_missed_where_it_is_taken_away(tool, tmp_path, files):
    compiler = tool("clang++")
    for part in PARTS:
        compiled(tmp_path, compiler, "-c", part)
    objects = [f"{part.stem}.o" for part in PARTS]

    def statuses(source: str) -> list[str]:
        (tmp_path / "reader.cpp").write_text(source)
        compiled(tmp_path, compiler, "reader.cpp", *objects, "-o", "replay")
        try:
            done = subprocess.run([tmp_path / "replay", "8", "1", *files], capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return ["hangs"]
        if done.returncode:
            return ["crashes"]
        words = [line for line in done.stderr.splitlines() if line.split(":")[0] in worded]
        return [line.split()[1] for line in done.stdout.splitlines()] + words

    # Of these test_reader and test_damage ask for the words too.
    worded = {str(file) for file in files[: len(CASES) + len(GOOD) + len(MORE) + HEADERS]}
    text = READER.read_text()
    wanted, every = statuses(text), list(mutations(text))
    assert len(wanted) > len(files) + len(CASES) + len(MORE) and len(every) > 100
    tried = every if CAMPAIGN else random.SystemRandom().sample(every, SAMPLE)
    missed = [what for what, source in tried if statuses(source) == wanted]
    print(f"{len(tried) - len(missed)} of {len(tried)} mutants caught", *missed, sep="\n", file=sys.stderr)
    # Of a few none but those that a campaign knows of may be missed.
    assert len(missed) <= max(1, (1 - MIN_CAUGHT) * len(tried)), missed
