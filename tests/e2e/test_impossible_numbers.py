"""Numbers that no one means, wherever the command line or the engine takes a whole number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from places import Arguments, a_mask, an_image, here

from pocketseg.engine.session import Session
from pocketseg.errors import PocketsegError

NUMBERS = ("-1", "0", str(2**31), str(2**63), "1e400", "nan", "true", "")
QUICK = ("--turns", "1", "--turn-seconds", "0.01", "--size", "32", "32")

TAKERS: dict[str, Callable[[str, Path, Path, Path], Arguments]] = {
    "benchmark --threads": lambda value, data, run, out: ["benchmark", run, *QUICK, "--threads", value],
    "benchmark --size": lambda value, data, run, out: ["benchmark", run, *QUICK, "--size", value, "32"],
    "benchmark --fold": lambda value, data, run, out: ["benchmark", run, *QUICK, "--fold", value],
    "inspect --size": lambda value, data, run, out: ["inspect", "thin_unet", "--size", value, value],
    "inspect --classes": lambda value, data, run, out: ["inspect", "thin_unet", "--classes", value],
    "inspect --in-channels": lambda value, data, run, out: ["inspect", "thin_unet", "--in-channels", value],
    "predict --fold": lambda value, data, run, out: ["predict", run, an_image(data), "--out", out, "--fold", value],
    "pack --fold": lambda value, data, run, out: ["pack", run, "--out", out, "--fold", value],
    "overlay --slice": lambda value, data, run, out: [
        "overlay", an_image(data), "--reference", a_mask(data), "--out", out, "--slice", value
    ],
    "convert --size": lambda value, data, run, out: ["data", "convert", "auto", data, out, "--size", value, "32"],
    "convert --classes": lambda value, data, run, out: ["data", "convert", "auto", data, out, "--classes", value],
    "convert --min-pixels": lambda value, data, run, out: ["data", "convert", "auto", data, out, "--min-pixels", value],
}  # fmt: skip
# Nothing of the kind: no fold, side, class or thread; there are pictures without a slice and thresholds above all.
NEVER = {"1e400", "nan", "true", ""}


@pytest.mark.row("S14")
@pytest.mark.parametrize("taker", TAKERS)
def test_a_number_is_used_or_refused(taker, phantom_data, trained_run, tmp_path):
    for number, value in enumerate(NUMBERS):
        out = tmp_path / f"{number}"
        code, said = here(*TAKERS[taker](value, phantom_data, trained_run, out))
        assert code in (0, 2) and "Traceback" not in said, f"{value}: {said}"
        assert code == 2 or value not in NEVER, f"{value} was taken"
        if "--size" in taker or "--fold" in taker:
            assert code == 2 or (value == "0" and "--fold" in taker), f"{value} was taken"


@pytest.mark.row("S14")
@pytest.mark.parametrize("threads", [-1, 0, 257, 2**31, 2**63, 2**64 + 1])
def test_threads_of_a_session(trained_run, threads):
    content = (trained_run / "fold-0/model.pseg").read_bytes()
    with pytest.raises(PocketsegError, match="take 1 to 256"):
        Session(content, "here", threads)


@pytest.mark.row("S14")
@pytest.mark.parametrize("side", [-(2**63), -1, 0, 1, 2**31, 2**32, 2**32 + 32, 2**63, 2**64 + 32])
def test_sizes_for_a_session(trained_run, side):
    session = Session((trained_run / "fold-0/model.pseg").read_bytes(), "here")
    for size in ((side, 32), (32, side)):
        with pytest.raises(PocketsegError):
            session.arena_bytes(*size)
    assert session(np.zeros((1, 1, 32, 32), np.float32)).shape == (1, 1, 32, 32)
