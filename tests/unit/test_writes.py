"""What is written is written whole, by `files.py`, which knows full disks and kills: nothing goes past it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src/pocketseg"

# Methods of paths, files and modules that change a disk, whatever they are called on.
WRITES = {
    "write_text", "write_bytes", "touch", "mkdir", "makedirs", "unlink", "remove_tree", "rmdir", "rmtree", "rename",
    "renames", "symlink_to", "hardlink_to", "symlink", "link", "chmod", "truncate", "ftruncate", "tofile", "to_csv",
    "copyfile", "copy2", "copytree", "copymode", "move", "mkstemp", "mkdtemp", "NamedTemporaryFile",
    "TemporaryDirectory", "extractall", "extract", "unpack_archive", "save_file", "memmap",
}  # fmt: skip
# These write to memory as well: only to a BytesIO of the same function.
SAVES = {"save", "savez", "savez_compressed", "savefig", "savetxt", "PdfPages", "dump"}
MODES = set("wax+")

# Calls that may stand where they are, and why.
ALLOWED = {
    "files.py": "the place itself",
    "training/loop.py: self.model.save": "ours, writes atomically",
    "training/loop.py: self.save": "ours, writes atomically",
    "experiments/run.py: model.save": "ours, writes atomically",
    "experiments/imported.py: model.save": "ours, writes atomically",
    "experiments/imported.py: inspected.save": "ours, writes atomically",
    "experiments/run.py: inspected.save": "ours, writes atomically",
    "flows/report/write.py: names.save": "ours, writes atomically",
    "cli/inspect.py: found.save": "ours, writes atomically",
    "experiments/workers.py: tempfile.TemporaryFile": "what a child says; it has no name",
    "reporting/weights.py: pdf.savefig": "a page of a PDF in memory",
    "training/checkpoint.py: safetensors.torch.save": "gives bytes",
    "cli/main.py: os.open": "nowhere",
    **dict.fromkeys(
        ("server/images.py", "server/monai.py", "server/scratch.py", "server/service.py", "server/worker.py"),
        "in the folder of a request, which goes with it",
    ),
    "flows/benchmark.py: tempfile.TemporaryDirectory": "goes with its block",
    "search/run_gate.py: TemporaryDirectory": "goes with its block",
    "data/video.py: tempfile.TemporaryDirectory": "goes with its block",
    "data/video.py: shutil.copyfile": "into a part that becomes whole",
    "shards.py: tempfile.TemporaryFile": "what a child says; it has no name",
}


def calls(tree: ast.AST, memory: frozenset[str] = frozenset()) -> Iterator[tuple[ast.Call, frozenset[str]]]:
    """Every call, and the names that stand there for memory or for a part that becomes whole."""
    if isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef):
        memory = frozenset(bound(tree))
    if isinstance(tree, ast.Call):
        yield tree, memory
    for child in ast.iter_child_nodes(tree):
        yield from calls(child, memory)


def bound(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in ("io.BytesIO()", "BytesIO()"):
            yield from (ast.unparse(target) for target in node.targets)
        if isinstance(node, ast.With):
            for item in node.items:
                if item.optional_vars is not None and "whole_file(" in ast.unparse(item.context_expr):
                    yield ast.unparse(item.optional_vars)


def is_write(call: ast.Call, memory: frozenset[str]) -> bool:
    function = call.func
    name = (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )
    first = ast.unparse(call.args[0]) if call.args else ""
    owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
    if name in SAVES:
        return first not in memory and owner != "yaml"
    if name == "replace":  # texts and data classes take more
        return isinstance(function, ast.Attribute) and len(call.args) == 1 and not call.keywords
    if name in ("remove", "TemporaryFile"):
        return owner in ("os", "tempfile")
    if name == "open":
        return owner == "os" or (owner not in memory and bool(MODES & set(mode_of(call, owner))))
    return name in WRITES and owner not in memory


def mode_of(call: ast.Call, owner: str) -> str:
    """What a file is opened for; `owner.open(mode)` of a path, `open(path, mode)` of a module or by itself."""
    place = 1 if owner in ("", "gzip", "io", "tarfile", "zipfile", "bz2", "lzma") else 0
    given = [word.value for word in call.keywords if word.arg == "mode"] or call.args[place : place + 1]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else ""


def writes(path: Path) -> Iterator[tuple[int, str]]:
    for call, memory in calls(ast.parse(path.read_text(encoding="utf-8"))):
        if is_write(call, memory):
            yield call.lineno, ast.unparse(call.func)


@pytest.mark.row("F08", "F09")
def test_everything_is_written_by_files_py():
    found = [
        f"{file}:{line}: {call}"
        for path in sorted(SOURCE.rglob("*.py"))
        for file in [path.relative_to(SOURCE).as_posix()]
        for line, call in writes(path)
        if file not in ALLOWED and f"{file}: {call}" not in ALLOWED
    ]
    assert not found, "use pocketseg.files instead:\n" + "\n".join(found)


def test_what_is_allowed_is_there():
    there = {
        f"{path.relative_to(SOURCE).as_posix()}: {call}" for path in SOURCE.rglob("*.py") for _, call in writes(path)
    }
    assert not [entry for entry in ALLOWED if ":" in entry and entry not in there]


@pytest.mark.whole
@pytest.mark.parametrize(
    "line",
    [
        "path.write_text('a')", "path.open('w')", "open(path, 'ab')", "path.open(mode='r+')", "os.open(path, flags)",
        "path.replace(other)", "os.remove(path)", "shutil.rmtree(path)", "image.save(path)", "np.save(path, a)",
        "figure.savefig(path)", "path.mkdir(parents=True)", "gzip.open(path, 'wb')", "os.replace(a, b) or a.rename(b)",
        "json.dump(a, file)", "tempfile.mkdtemp()",
    ],
)  # fmt: skip
def test_writes_are_recognized(tmp_path, line):
    (tmp_path / "a.py").write_text(f"def f():\n    {line}\n")
    assert list(writes(tmp_path / "a.py"))


@pytest.mark.parametrize(
    "line",
    [
        "content = io.BytesIO(); image.save(content)", "path.open()", "open(path)", "path.open('rb')",
        "text.replace('a', 'b')", "replace(a, b=1)", "yaml.dump(a)", "names.remove(a)",
        "with whole_file(p) as part: part.open('wb')",
    ],
)  # fmt: skip
def test_what_is_no_write(tmp_path, line):
    (tmp_path / "a.py").write_text(f"def f():\n    {line}\n")
    assert not list(writes(tmp_path / "a.py"))
