"""libFuzzer feeds the reader, and the pipeline with images and cards: no report of a sanitizer, no large allocation, no
second lost.

What a run finds interesting lies in build/fuzz-corpus, so that the next one goes on there. To keep it for all, with the
program that the test builds: `fuzz -merge=1 -set_cover_merge=1 -use_counters=0 tests/native/corpus build/fuzz-corpus`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from builds import ROOT, built
from models import MODELS

from helpers.packed_models import packed
from helpers.random_pipelines import some_segment_file

CORPUS = Path(__file__).with_name("corpus")
FOUND = ROOT / "build/fuzz-corpus"
SECONDS = int(os.environ.get("POCKETSEG_FUZZ_SECONDS", "5"))
# Of one allocation. A limit of the process would count what pytest once held: Linux passes the largest size on.
MAX_MIB = 128
# To open, plan and, where that is little work, run a file.
MAX_SECONDS = 1


@pytest.mark.slow("builds the library once more, for libFuzzer; tests/fuzz mutates files too")
@pytest.mark.fuzz
@pytest.mark.row("S10")
def test_fuzz(tmp_path):
    if shutil.which("clang++") is None:
        pytest.skip("missing tool: clang++ (scripts/system-packages installs it)")
    sanitizers = "-DPOCKETSEG_SANITIZE=fuzzer-no-link,address,undefined"
    folder = built(
        tmp_path / "build", "-DCMAKE_CXX_COMPILER=clang++", "-DPOCKETSEG_TOOLS=OFF", "-DPOCKETSEG_FUZZ=ON", sanitizers
    )
    seeds, images = tmp_path / "seeds", tmp_path / "images"
    for place in (FOUND, seeds, images):
        place.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    for index, model in enumerate(MODELS):
        (seeds / str(index)).write_bytes(packed(*model))
        for number in range(4):
            (images / f"{index}-{number}").write_bytes(some_segment_file(random).to_bytes())
    options = [
        f"-max_total_time={SECONDS}",
        f"-malloc_limit_mb={MAX_MIB}",
        "-rss_limit_mb=0",
        f"-timeout={MAX_SECONDS}",
        "-max_len=20000",
        "-print_final_stats=1",
    ]
    for target, corpora, least in (("fuzz", [FOUND, CORPUS, seeds], 500), ("fuzz_segment", [images], 100)):
        done = subprocess.run(
            [folder / target, *options, *corpora], capture_output=True, text=True, cwd=tmp_path,
            timeout=SECONDS + 300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-4000:]
        runs = next(line for line in done.stderr.splitlines() if "number_of_executed_units" in line)
        assert int(runs.split()[-1]) > least, runs
