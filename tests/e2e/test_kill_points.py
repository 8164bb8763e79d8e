"""Every command, ended at each of its file operations: no file is half written, and another try gives the same bytes.

A sample runs with all tests; POCKETSEG_KILLS=1 (`make kills`) takes every operation of every command, POCKETSEG_KILLS=N
each N-th.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import pocketseg
from helpers.commands import overrides
from pocketseg.files import PART

STEP = int(os.environ.get("POCKETSEG_KILLS", "0"))
SAMPLE, SLOW_SAMPLE = 3, 14
TINY = overrides(
    "data.size=[16, 16]", "stages.0.net.width=4", "stages.0.net.blocks=2", "stages.0.epochs=2", "stages.0.batch=4",
)  # fmt: skip

VERBS = {
    "train": ["train", "demo", "--data", "data", "--out", "new", "--device", "cpu", *TINY],
    "predict": ["predict", "run", "data/images/*view-1.png", "--out", "masks", "--overlay", "--probabilities"],
    "pack": ["pack", "run", "--out", "model.pseg"],
    "export": ["export", "run", "--to", "onnx"],
    "convert": ["data", "convert", "auto", "data", "converted"],
    "report": ["report", "run"],
    "fix": ["doctor", "data", "--fix", "fixed"],
    "evaluate": ["evaluate", "run", "data", "--out", "evaluation"],
    "phantom": ["phantom", "--cases", "3", "--size", "32", "ph"],
}
TRAIN = pytest.param("train", marks=pytest.mark.slow("a training for each kill; the same is tried with other verbs"))
# Results of before, which a command that is ended may leave as they were.
BEFORE = [
    ["pack", "run", "--weights", "bf16", "--out", "model.pseg"],
    ["predict", "run/fold-0/model.pseg", "data/masks/*view-1.png", "--out", "masks", "--overlay"],
    ["evaluate", "run", "data", "--out", "evaluation", "--set", "evaluate.metrics=[dice, lesion_f1]"],
]
# Times, dates and chance stand in these, the log ends where the disk did, and a signal saves once more.
VARYING = (
    "manifest.json",
    "previous.last.safetensors",
    "timings.csv",
    "report.html",
    "results.csv",
    "case-ids.csv",
    "log.txt",
)
RECORD = ".pocketseg-predict.jsonl"
APPENDED = ("log.txt", RECORD)
# These make a folder whole or not at all, and refuse one that is there.
WHOLE = ("convert", "fix", "phantom")


class Killer:
    """The process of `killer.py`."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("killer.py"))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "POCKETSEG_THREADS": "1", "MPLBACKEND": "agg"},
        )  # fmt: skip

    def __call__(self, root: Path, args: list[str], act: str | None = None, at: int = 0) -> dict:
        self.process.stdin.write(json.dumps({"root": str(root), "args": args, "act": act, "at": at}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def killer() -> Iterator[Killer]:
    server = Killer()
    yield server
    server.process.communicate(timeout=60)
    assert server.process.returncode == 0


@pytest.fixture(scope="module")
def template(killer, tmp_path_factory) -> Path:
    """A data set and a trained run."""
    root = tmp_path_factory.mktemp("template")
    pocketseg.phantom(root / "data", cases=14, size=32, seed=3)
    arguments = ["run" if word == "new" else word for word in VERBS["train"]]
    killer(root, [*arguments[:5], "practice", *arguments[6:]], "practice")
    shutil.rmtree(root / "practice")
    for each in (arguments, *BEFORE):
        done = killer(root, each)
        assert done["code"] == 0, done["output"]
    return root


@dataclass
class Clean:
    """A command that nobody disturbed: what was there, what it made, by which operations."""

    before: dict[str, str]
    after: dict[str, str]
    operations: list[str]


@dataclass
class Campaign:
    """One command, ended again and again."""

    killer: Killer
    template: Path
    root: Path
    verb: str
    tries: int = 0
    faults: list[str] = field(default_factory=list)

    def fresh(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.template, self.root)

    def clean(self) -> Clean:
        self.fresh()
        before = digests(self.root)
        done = self.killer(self.root, VERBS[self.verb])
        assert done["code"] == 0, done["output"]
        assert len(done["operations"]) > 3
        return Clean(before, digests(self.root), done["operations"])

    def end(self, clean: Clean, act: str, at: int) -> None:
        """End the command at an operation, look, run it again, and look."""
        self.fresh()
        self.tries += 1
        place = f"{self.verb}, {act} at {at} of {len(clean.operations)} ({clean.operations[at - 1]})"
        first = self.killer(self.root, VERBS[self.verb], act, at)
        if act in ("kill", "cut"):
            self.fault(first["code"] == -9, place, f"code {first['code']}: {first['output'][-300:]}")
        elif act in SIGNALS:
            # The last moments of a command are not interrupted any more.
            good = first["code"] in (0, SIGNALS[act]) and "Traceback" not in first["output"]
            self.fault(good, place, f"code {first['code']}: {first['output'][-300:]}")
            parts = [name for name in digests(self.root) if PART in name]
            self.fault(not parts, place, f"left: {parts}")
        else:
            told = "Traceback" not in first["output"] and "Logging error" not in first["output"]
            named = first["code"] == 0 or "EnvironmentProblem" in first["output"]
            self.fault(
                first["code"] in (0, 3) and told and named, place, f"code {first['code']}: {first['output'][-300:]}"
            )
        self.whole(clean, place, act)
        if first["code"] != 0 and not self.done():
            again = self.again(at)
            self.fault(again["code"] == 0, place, f"again: code {again['code']}: {again['output'][-300:]}")
        found = digests(self.root)
        differ = [name for name in clean.after if name in found and found[name] != clean.after[name]]
        differ = [name for name in differ if not varies(name)]
        missing = [name for name in clean.after if name not in found]
        extra = [name for name in found if name not in clean.after and not name.endswith((".lock", ".torn"))]
        self.fault(not differ and not missing and not extra, place, f"again: {differ=} {missing=} {extra=}")

    def done(self) -> bool:
        """Whether it was ended when the folder that it makes as a whole had its name already."""
        return self.verb in WHOLE and (self.root / VERBS[self.verb][-1]).exists()

    def again(self, at: int) -> dict:
        """The same command; a training that has begun is resumed, and one that was ended before takes either."""
        new = self.root / "new"
        begun = (new / "manifest.json").exists() or (at % 2 and any(new.glob(".lock")))
        return self.killer(self.root, [*VERBS[self.verb], *(["--resume"] if self.verb == "train" and begun else [])])

    def whole(self, clean: Clean, place: str, act: str) -> None:
        """Under a final name lies the file of before, the new one, or nothing."""
        for name, digest in digests(self.root).items():
            if name.endswith(".lock") or PART in name:
                continue
            if name in clean.after and not varies(name) and not name.endswith(APPENDED):
                good = digest in (clean.before.get(name), clean.after[name]) or passing(name)
            else:
                good = name.endswith(APPENDED) or readable(self.root / name)
            self.fault(good, place, f"torn: {name}")

    def fault(self, good: bool, place: str, what: str) -> None:
        if not good:
            self.faults.append(f"{place}: {what}")


def varies(name: str) -> bool:
    return name.endswith((*VARYING, ".lock"))


def passing(name: str) -> bool:
    """What a training changes on its way; that each state is whole is seen by going on from it."""
    return name.startswith("new/fold-0/float/") and not name.endswith((".png", ".svg"))


def readable(path: Path) -> bool:
    content = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".json":
        return isinstance(json.loads(content), dict | list)
    if path.suffix == ".html":
        return content.rstrip().endswith("</html>")
    if path.suffix == ".csv":
        rows = list(csv.reader(content.splitlines()))
        return content.endswith("\n") and len({len(row) for row in rows}) == 1
    return path.stat().st_size > 0


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(content(path)).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def content(path: Path) -> bytes:
    """The bytes of a file; of the record of what was written, what it says in the end, however often it was told."""
    if path.name != RECORD:
        return path.read_bytes()
    said: dict[str, str] = {}
    for line in path.read_bytes().split(b"\n"):
        with suppress(ValueError):  # what a kill cut short
            said |= json.loads(line)
    return json.dumps(said, sort_keys=True).encode()


@pytest.fixture
def campaign(killer, template, tmp_path, request) -> Iterator[Callable[..., None]]:
    def run(verb: str, acts: list[str], sample: int) -> None:
        work = Campaign(killer, template, tmp_path / "root", verb)
        clean = work.clean()
        places = range(1, len(clean.operations) + 1)
        rng = random.Random(f"{verb} {acts}")
        for act in acts:
            chosen = places[::STEP] if STEP else sorted(rng.sample(places, min(sample, len(places))))
            for at in chosen:
                work.end(clean, act, at)
        print(f"{verb}: {work.tries} times ended at {len(clean.operations)} operations, by {', '.join(acts)}")
        assert not work.faults, "\n".join([f"{len(work.faults)} faults of {work.tries}", *work.faults[:40]])

    return run


SIGNALS = {"SIGTERM": 143, "SIGHUP": 129, "SIGINT": 130, "SIGUSR1": 138}
KILLS, FAULTS = ["kill", "cut"], ["ENOSPC", "EDQUOT", "EIO", "EMFILE", "EACCES", "EROFS"]


@pytest.mark.row("F01", "F02", "F03", "F04")
@pytest.mark.parametrize("verb", [TRAIN, *(verb for verb in VERBS if verb != "train")])
def test_killed_or_without_power(campaign, verb):
    campaign(verb, KILLS, SAMPLE)


@pytest.mark.row("F08", "F09", "F10")
@pytest.mark.parametrize("verb", VERBS)
def test_what_the_disk_refuses(campaign, verb):
    campaign(verb, FAULTS if STEP else random.Random(verb).sample(FAULTS, 2), SAMPLE - 1)


@pytest.mark.row("F05", "S24")
@pytest.mark.parametrize("verb", VERBS)
def test_signals(campaign, verb):
    campaign(verb, list(SIGNALS) if STEP or verb == "train" else random.Random(verb).sample([*SIGNALS], 1), SAMPLE - 1)


@pytest.mark.row("F10")
@pytest.mark.parametrize("act", ["EROFS", "EACCES", "ENOSPC"])
def test_a_training_that_cannot_write_ends_before_its_first_epoch(killer, template, tmp_path, act):
    root = tmp_path / "root"
    shutil.copytree(template, root)
    done = killer(root, VERBS["train"], act, 1)
    assert done["code"] == 3 and "EnvironmentProblem new" in done["output"] and "epoch 1/" not in done["output"]


@pytest.mark.slow("more of the same")
@pytest.mark.row("F01", "F02", "F03", "F04", "F08", "F09")
@pytest.mark.parametrize("verb", ["train", "predict", "evaluate"])
def test_more_of_each(campaign, verb):
    campaign(verb, [*KILLS, "ENOSPC"], SLOW_SAMPLE)
