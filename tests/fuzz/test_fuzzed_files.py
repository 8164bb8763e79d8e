"""Everything that Python reads, fuzzed; and what fuzzing found, held."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import CORPUS, outcome, ring
from targets import TARGETS

HERE = Path(__file__).parent

# Two dozen kinds, one after another.
SECONDS = float(os.environ.get("POCKETSEG_FUZZ_SECONDS", "3"))
MAX_CORPUS = 300_000


@pytest.mark.fuzz
@pytest.mark.row("S02", "S05", "S07")
@pytest.mark.parametrize("kind", TARGETS)
def test_only_answers_and_refusals(kind, tmp_path):
    """The same files in each run, unless a seed is given: `make fuzz` gives a new one."""
    seed = int(os.environ.get("POCKETSEG_FUZZ_SEED", "1"))
    told = subprocess.run(
        [sys.executable, str(HERE / "harness.py"), kind, "--seconds", str(SECONDS), "--seed", str(seed),
         "--failures", str(tmp_path)],
        capture_output=True, text=True, timeout=3 * SECONDS + 120, check=False,
    )  # fmt: skip
    assert told.returncode == 0, f"{kind}, seed {seed}: {told.stderr[-3000:]}"
    found = json.loads(told.stdout.splitlines()[-1])  # ONNX Runtime prints what it cannot open
    print(found)
    assert not found["failures"], f"{kind}, seed {seed}: " + "\n\n".join(found["failures"].values())
    assert found.get("read", 0) + found.get("refused", 0) > 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", TARGETS)
def test_the_corpus(kind):
    """Seeds are read; what was found once ends in an answer or a refusal."""
    numbers = (signal.SIGALRM, signal.SIGPROF)
    before = [signal.signal(number, ring) for number in numbers]
    try:
        for path in sorted((CORPUS / kind).iterdir()):
            told = outcome(TARGETS[kind], path)
            assert told == "read" if path.name.startswith("seed") else told in ("read", "refused"), (path, told)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def test_the_corpus_is_small():
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MAX_CORPUS
