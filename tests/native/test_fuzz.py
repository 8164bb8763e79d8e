"""libFuzzer feeds the reader and what runs behind it: no report of a sanitizer, no allocation out of bounds."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from builds import ROOT, built
from test_sanitizers import MODELS, packed

# What was found interesting stays, so that each run goes on where the last one ended.
CORPUS = ROOT / "build/fuzz-corpus"
# Of one allocation. A limit of the process would count what pytest once held: Linux passes the largest size on.
MOST_MIB = 128


@pytest.mark.parametrize("seconds", [30, pytest.param(600, marks=pytest.mark.slow)])
def test_fuzz(seconds, tmp_path):
    if shutil.which("clang++") is None:
        pytest.skip("missing tool: clang++ (scripts/system-packages installs it)")
    sanitizers = "-DPOCKETSEG_SANITIZE=fuzzer-no-link,address,undefined"
    folder = built(
        tmp_path / "build", "-DCMAKE_CXX_COMPILER=clang++", "-DPOCKETSEG_TOOLS=OFF", "-DPOCKETSEG_FUZZ=ON", sanitizers
    )
    seeds = tmp_path / "seeds"
    for place in (CORPUS, seeds):
        place.mkdir(parents=True, exist_ok=True)
    for index, model in enumerate(MODELS):
        (seeds / str(index)).write_bytes(packed(*model))
    options = [
        f"-max_total_time={seconds}",
        f"-malloc_limit_mb={MOST_MIB}",
        "-rss_limit_mb=0",
        "-timeout=20",
        "-max_len=20000",
        "-print_final_stats=1",
    ]
    done = subprocess.run([folder / "fuzz", *options, CORPUS, seeds], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = next(line for line in done.stderr.splitlines() if "number_of_executed_units" in line)
    assert int(runs.split()[-1]) > 1000, runs
