"""Ends a command at its k-th file operation, in every way a computer can: a process that forks from a warmed-up state.

It reads a line of JSON a command and answers with one:

    {"root": FOLDER, "args": [...], "act": "kill", "at": 7}  →  {"code": -9, "output": "...", "operations": [...]}

`act` is what happens at operation `at`: null (nothing), kill, cut (see `Cut`), the name of a signal or of an error.
Operations are all that change something below the root, counted from 1.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from typing import Any

import torch

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"}
# A full disk stays full and still lets files go; what may not be written to stays so altogether; others pass.
FULL, CLOSED = ("ENOSPC", "EDQUOT"), ("EACCES", "EROFS", "EPERM")
SECONDS = 120
WARM = (
    "accelerate.utils", "jinja2", "matplotlib.backends.backend_agg", "matplotlib.backends.backend_svg", "onnx",
    "onnxruntime", "onnxscript", "scipy.ndimage", "torch.onnx", "pocketseg.exporters",
    *(f"pocketseg.flows.{verb}" for verb in ("convert", "doctor", "evaluate", "phantom", "predict", "report", "train")),
)  # fmt: skip


class Cut:
    """The power goes: what was not synced is lost. Of a file its content, of a folder its latest names.

    Contents: a file whose last bytes were not synced is empty, or as long as it was synced if they were added to its
    end. Names: renamings since the last sync of their folder
    are undone, newest first, and so are new files and folders.
    """

    def __init__(self, root: Path) -> None:
        self.kept = Path(tempfile.mkdtemp(prefix="killer"))
        self.synced = {self.mark(path) for path in root.rglob("*") if path.is_file()}
        self.appended: set[Path] = set()
        self.root = root
        self.names: list[tuple[Path, Path | None, Path | None]] = []
        self.backups = 0

    @staticmethod
    def mark(path: Path) -> tuple[int, int, int]:
        found = path.stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    def fsync(self, handle: int) -> None:
        path = opened(handle)
        if path.is_dir():
            self.names = [entry for entry in self.names if entry[0].parent != path]
        elif path.exists():
            self.synced.add(self.mark(path))

    def made(self, path: Path) -> None:
        if not path.exists():
            self.names.append((path, None, None))

    def renamed(self, source: Path, target: Path) -> None:
        old = None
        if target.is_file():
            self.backups += 1
            old = self.kept / str(self.backups)
            os.link(target, old)
        self.names = [entry for entry in self.names if entry[0] != source]
        self.names.append((target, source, old))

    def fall(self) -> None:
        for path, source, old in reversed(self.names):
            if source is not None and path.exists():
                path.replace(source)
            elif path.is_file():
                path.unlink()
            if old is not None:
                os.link(old, path)
        for path in self.root.rglob("*"):
            if path.is_file() and self.mark(path) not in self.synced:
                lengths = [size for inode, size, _ in self.synced if inode == path.stat().st_ino]
                os.truncate(path, max(lengths, default=0) if path in self.appended else 0)


class Watch:
    """Counts operations below the root, and acts at one of them."""

    def __init__(self) -> None:
        self.root, self.act, self.at = Path(), None, 0
        self.done: list[str] = []
        self.active = False
        sys.addaudithook(self.hook)
        self.real = {name: getattr(os, name) for name in ("fsync", "write", "pwrite", "ftruncate")}
        for name in self.real:
            setattr(os, name, self.wrapped(name))

    def begin(self, root: Path, act: str | None, at: int) -> None:
        self.root, self.act, self.at, self.done = root, act, at, []
        self.cut = Cut(root) if act == "cut" else None
        self.active = True

    def wrapped(self, name: str) -> Any:
        def call(handle: int, *rest: Any) -> Any:
            if self.active and handle > 2 and self.below(path := opened(handle)):
                self.operation(name, path)
                if name == "fsync" and self.cut is not None:
                    self.cut.fsync(handle)
            return self.real[name](handle, *rest)

        return call

    def below(self, path: Any) -> bool:
        return isinstance(path, str | bytes | os.PathLike) and whole(path).is_relative_to(self.root)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.active or threading.current_thread() is not threading.main_thread():
            return
        if event == "open":
            path, _, flags = args
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and self.below(path):
                self.operation("open", whole(path))
                if self.cut is not None and flags & os.O_APPEND:
                    self.cut.appended.add(whole(path))
        elif event in CHANGES and any(map(self.below, args)):
            self.operation(event, *(whole(each) for each in args if not isinstance(each, int)))

    def operation(self, name: str, *paths: Path) -> None:
        self.active = False
        try:
            self.done.append(f"{name} {' '.join(os.path.relpath(path, self.root) for path in paths)}")
            reached = len(self.done) - self.at
            if self.act is not None and reached >= 0 and self.at > 0:
                self.happen(name, paths[0], first=reached == 0)
            if self.cut is not None and name == "os.rename":
                self.cut.renamed(*paths)
            elif self.cut is not None and name in ("open", "os.mkdir"):
                self.cut.made(paths[0])
        finally:
            self.active = True

    def happen(self, name: str, path: Path, *, first: bool) -> None:
        if str(self.act).startswith("SIG"):
            if first:
                os.kill(os.getpid(), getattr(signal, str(self.act)))
            return
        if self.act in ("kill", "cut"):
            if self.cut is not None:
                self.cut.fall()
            os.kill(os.getpid(), signal.SIGKILL)
        stays = (self.act in FULL and name not in ("os.remove", "os.rmdir", "ftruncate")) or self.act in CLOSED
        if first or stays:
            number = getattr(errno, str(self.act))
            raise OSError(number, os.strerror(number), str(path))


def opened(handle: int) -> Path:
    return Path(f"/proc/self/fd/{handle}").readlink()


def whole(path: Any) -> Path:
    """Absolute; links are left as they are, since it is they that are changed."""
    return Path.cwd() / os.fsdecode(path)


def warm_up() -> None:
    """Everything that the verbs import."""
    for name in WARM:
        importlib.import_module(name)
    torch.set_num_threads(1)
    # A report times the model for seconds; what it finds is not looked at here.
    asked = importlib.import_module("pocketseg.flows.report.measurements")
    asked.TURNS, asked.TURN_S, asked.SLOW_S = 1, 0.001, 0.01


def practice(root: Path, args: list[str]) -> None:
    """Train once in this process, and let torch make its ONNX program, so that the commands find all in memory.

    Nothing may start a thread here, which a fork would not have: nothing is packed, no runtime is asked.
    """
    from pocketseg.cli.verbs import app
    from pocketseg.experiments import run as training
    from pocketseg.exporters import export_onnx
    from pocketseg.training.model import Model

    os.chdir(root)
    pack, training.pack_model = training.pack_model, lambda *_, **__: None
    report = importlib.import_module("pocketseg.cli.train")
    tell, report._tell_run = report._tell_run, lambda _: None
    app(args, standalone_mode=False)
    training.pack_model, report._tell_run = pack, tell
    model = Model.load(Path(args[args.index("--out") + 1], "fold-0/float/best.safetensors"))
    kept: list[Any] = []
    export = torch.onnx.export

    def once(*given: Any, **options: Any) -> Any:
        if not kept:
            kept.append(export(*given, **options))
        return kept[0]

    torch.onnx.export = once
    export_onnx(model.integer_core(), model.pipeline, {}, root / "practice.onnx")
    (root / "practice.onnx").unlink()


def run(watch: Watch, root: str, args: list[str], act: str | None, at: int) -> dict[str, Any]:
    from pocketseg.cli.main import main

    said, told = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    child = os.fork()
    if child == 0:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        signal.alarm(SECONDS)
        os.chdir(root)
        sys.argv = ["pocketseg", *args]
        watch.begin(Path(root), act, at)
        code: Any = 99
        try:
            main()
        except SystemExit as error:
            code = error.code or 0
        watch.active = False
        sys.stdout.flush()
        sys.stderr.flush()
        told.write(json.dumps(watch.done).encode())
        told.flush()
        os._exit(code if isinstance(code, int) else 1)
    _, status = os.waitpid(child, 0)
    texts = []
    for file in (said, told):
        file.seek(0)
        texts.append(file.read().decode(errors="replace"))
        file.close()
    code = os.waitstatus_to_exitcode(status)
    return {"code": code, "output": texts[0], "operations": json.loads(texts[1] or "[]")}


def main() -> None:
    """Prediction until the input ends."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm_up()
    watch = Watch()
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("act") == "practice":
            practice(Path(asked["root"]), asked["args"])
            asked = {"root": asked["root"], "args": ["nets"]}
        print(json.dumps(run(watch, asked["root"], asked["args"], asked.get("act"), asked.get("at", 0))), file=answers)
        answers.flush()


if __name__ == "__main__":
    main()
