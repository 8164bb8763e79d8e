"""Every command and every Python block of README and docs runs, page by page, on a small data set.

Trainings get one epoch on 32×32 pixels and phantoms few cases; nothing else is changed. README runs in
`make test`, all pages in `make test-all`.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from blocks import Block, blocks, pages

import pocketseg
from pocketseg.cli.verbs import app

# Those that begin with a training.
FIRST_PAGES = (
    "README.md",
    "docs/tutorials/breast-ultrasound.md",
    "docs/tutorials/ct-volumes.md",
    "docs/tutorials/microscopy.md",
)
# Of the kinds of phantoms that are larger, fewer; CT is not so small that its slices would be cut another way.
PHANTOMS = {"microscopy": ["--cases", "24", "--size", "64"], "ct": ["--cases", "12", "--size", "96"]}
SMALL = ("data.size=[32,32]", "stages.*.epochs=1", "stages.*.batch=8", "stages.*.precision=f32")
# What commands get besides, so that they end in seconds; the last of two options counts.
ADDED = {
    "phantom": ["--cases", "24", "--size", "40"],
    "benchmark": ["--turns", "1", "--turn-seconds", "0.02"],
    "train": [part for value in SMALL for part in ("--set", value)],
}
# Commands of the shell that are run; others (make, python benchmarks/…) are checked by `test_what_docs_say.py`.
SHELL = {"cp", "head"}


@pytest.fixture(autouse=True)
def a_weak_net_may_lose_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one epoch a net finds so little that eight bits cost it more than `pack` allows."""
    monkeypatch.setattr("pocketseg.runs.packed.MAX_DROP", 1.0)


def runnable(page: str) -> list[Block]:
    return [block for block in blocks(page) if block.language in ("sh", "python") and not block.not_run]


PAGES = [
    pytest.param(page, marks=[] if page == "README.md" else pytest.mark.slow("trainings of all pages"))
    for page in pages()
    if runnable(page)
]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every page takes for granted: images with masks, and new images."""
    folder = tmp_path_factory.mktemp("images")
    pocketseg.phantom(folder / "scans", cases=24, size=40, seed=1)
    shutil.copytree(folder / "scans/images", folder / "new_scans")
    shutil.copy(next((folder / "scans/images").glob("*.png")), folder / "scan.png")
    return folder


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a finished run, for pages that do not begin with a training."""
    folder = tmp_path_factory.mktemp("trained") / "reader"
    shutil.copytree(images, folder)
    train(folder, "runs/first")
    return folder


def train(folder: Path, run: str, *overrides: str) -> None:
    pocketseg.train(
        "thin-unet", folder / "scans", folder / run, device="cpu", overrides=[*SMALL, *overrides], report=False
    )


def packed(folder: Path) -> None:
    shutil.copy(folder / "runs/first/fold-0/model.pseg", folder / "model.pseg")


def model_files(folder: Path) -> None:
    packed(folder)
    shutil.copy(folder / "model.pseg", folder / "float.pseg")
    run_verb(["pack", f"{folder}/runs/first", "--calibrate", f"{folder}/scans/images", "--out", f"{folder}/int8.pseg"])
    shutil.copy(pocketseg.export(folder / "runs/first").file, folder / "model.onnx")


def other_runs(folder: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(folder / "runs/first", folder / "runs" / name)
    train(folder, "runs/pocket", "stages.0.name=teacher")
    train(folder, "runs/widths", "sweep.stages.0.net.width=[4, 8]")


def masks(folder: Path) -> None:
    shutil.copytree(folder / "scans/masks", folder / "masks")


# What some pages need besides.
NEEDS: dict[str, Sequence[Callable[[Path], None]]] = {
    "docs/benchmark.md": [model_files],
    "docs/engine.md": [packed],
    "docs/metrics.md": [model_files, masks],
    "docs/report.md": [other_runs],
}


@pytest.mark.parametrize("page", PAGES)
def test_every_block_runs(
    page: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(request.getfixturevalue("images" if page in FIRST_PAGES else "trained"), folder)
    for make in NEEDS.get(page, ()):
        make(folder)
    monkeypatch.chdir(folder)
    for block in runnable(page):
        try:
            run(block)
        except Exception as error:
            error.add_note(f"in {block}")
            raise


def run(block: Block) -> None:
    if block.language == "python":
        for out in re.findall(r'out="(.*?)"', block.text):
            shutil.rmtree(out, ignore_errors=True)
        exec(compile(made_small(block.text), str(block), "exec"), {})
        return
    for command in block.commands:
        words = shlex.split(command)
        if words[0] == "pocketseg":
            run_verb(words[1:])
        elif words[0] in SHELL:
            subprocess.run(words, check=True)


def run_verb(words: list[str]) -> None:
    """A command of pocketseg, in this process; `> FILE` works."""
    to = Path(words.pop()) if ">" in words else None
    words = [word for word in words if word != ">"]
    if words[0] == "phantom":
        shutil.rmtree(words[1], ignore_errors=True)
    if words[0] == "train" and "--resume" not in words:
        shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        app([*sampled(words), *added(words)], standalone_mode=False)
    if to:
        to.write_text(printed.getvalue())


def added(words: Sequence[str]) -> list[str]:
    kind = words[words.index("--kind") + 1] if "--kind" in words else ""
    return PHANTOMS.get(kind) or ADDED.get(words[0], [])


def sampled(words: Sequence[str]) -> Iterator[str]:
    """Of each list of a sweep the first value."""
    for word in words:
        yield re.sub(r"=\[([^,\]]+),[^\]]*\]$", r"=[\1]", word) if word.startswith("sweep.") else word


def made_small(source: str) -> str:
    """A training in Python with the same settings as one on the command line."""
    return re.sub(r"overrides=\[.*?\]", f"overrides={list(SMALL)!r}", source)
