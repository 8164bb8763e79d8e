"""The plan of the house: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src/pocketseg"

# Leaves beside the rooms, which everyone may use.
LEAVES = {
    "archives", "cards", "errors", "files", "grids", "halves", "layers", "live", "locks", "memory", "names",
    "notebook", "packages", "png", "shards", "signals", "tables", "terminal", "text", "timing", "version", "written",
}  # fmt: skip
MAY_USE = {
    "pipeline": set(),
    "metrics": set(),
    "recipes": set(),
    "nets": set(),
    "quant": set(),
    "data": {"pipeline"},
    "engine": set(),
    "predictors": {"pipeline", "engine", "data", "reporting"},
    "weights": set(),
    "training": {"recipes", "data", "pipeline", "metrics", "nets", "quant", "predictors", "weights"},
    "exporters": {"pipeline", "nets", "quant", "engine"},
    "packing": {"pipeline", "nets", "quant", "engine"},
    "evaluation": {"data", "metrics", "pipeline", "predictors"},
    "reporting": set(),
    "runs": {
        "pipeline", "metrics", "recipes", "nets", "quant", "data", "predictors",
        "training", "exporters", "packing", "engine", "evaluation", "reporting",
    },
    "experiments": {
        "pipeline", "metrics", "recipes", "nets", "quant", "data", "predictors",
        "training", "engine", "evaluation", "reporting", "weights", "runs",
    },
    "search": {
        "pipeline", "metrics", "recipes", "data", "predictors", "training", "packing", "engine", "evaluation",
        "reporting", "runs", "experiments",
    },
    "flows": {
        "pipeline", "metrics", "recipes", "nets", "quant", "data", "predictors",
        "training", "exporters", "engine", "evaluation", "reporting", "runs", "experiments", "search",
    },
    "server": {"pipeline", "data", "predictors", "runs", "flows"},
    "node": {"data", "flows", "server"},
    "cli": {"flows", "recipes", "runs", "evaluation", "experiments", "engine", "server", "node"},
}  # fmt: skip
# Rooms that must stay light: they never import these, not even inside a function.
NO_TORCH = {
    "pipeline",
    "metrics",
    "recipes",
    "data",
    "engine",
    "predictors",
    "evaluation",
    "reporting",
    "server",
    "node",
    "cli",
}


def imports(path: Path) -> set[str]:
    """Everything a file imports, with full names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(name: str) -> str:
    return name.split(".")[1]


@pytest.mark.whole
@pytest.mark.parametrize("name", sorted(MAY_USE))
def test_room_uses_only_its_neighbors(name):
    allowed = MAY_USE[name] | LEAVES | {name}
    edges = [
        f"{path.relative_to(SOURCE)} -> {target}"
        for path in sorted((SOURCE / name).rglob("*.py"))
        for target in imports(path)
        if target.startswith("pocketseg.") and room(target) not in allowed
    ]
    assert not edges, edges


@pytest.mark.whole
@pytest.mark.parametrize("path", sorted((SOURCE / "flows").iterdir()), ids=lambda path: path.stem)
def test_a_flow_is_one_command(path):
    """Every file of `flows` holds the public function of its own name; what commands share lies in other rooms."""
    if path.stem.startswith("__"):
        return
    file = path / "__init__.py" if path.is_dir() else path
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    names |= {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert path.stem in names


def test_no_files_import_each_other_in_a_circle():
    """Imports inside of functions and those for types only count too."""
    files = {
        ".".join(("pocketseg", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in SOURCE.rglob("*.py")
    }
    uses = {
        name: {target if target in files else target.rpartition(".")[0] for target in imports(path)}
        & set(files) - {name}
        for name, path in files.items()
    }
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for target in sorted(uses[name]):
                visit(target, (*way, name))
            done.add(name)

    for name in sorted(uses):
        visit(name, ())


def test_every_room_is_on_the_plan():
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert rooms == set(MAY_USE)


def test_the_plan_has_no_circle():
    def reaches(start: str, goal: str, seen: frozenset[str] = frozenset()) -> bool:
        return any(step == goal or (step not in seen and reaches(step, goal, seen | {step})) for step in MAY_USE[start])

    assert not [name for name in MAY_USE if reaches(name, name)]


@pytest.mark.parametrize("name", sorted(NO_TORCH))
def test_light_rooms_never_import_torch(name):
    heavy = [
        f"{path.relative_to(SOURCE)} -> {target}"
        for path in (SOURCE / name).rglob("*.py")
        for target in imports(path)
        if target.split(".")[0] in ("torch", "accelerate", "safetensors")
    ]
    assert not heavy


# --- what no file may do ------------------------------------------------------------------------------------

# Modules that run what they read, or unpack it wherever it says; nobody imports them.
NEVER = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "tarfile", "code", "runpy",
}  # fmt: skip
# Modules for a few, who have to say why.
ONLY = {
    "urllib": {"weights/download.py"},  # the one download, of published weights
    "http": {"weights/download.py"},
    "socket": {"files.py"},  # the name of this machine, for locks
    # our own: trials of a sweep, shards of a list of images, the reader of HDF5, the worker of the DICOM node, how they
    # are ended
    "subprocess": {"experiments/workers.py", "node/segmenting.py", "shards.py", "weights/hdf5.py", "signals.py"},
    "xml": {"data/annotations/reading.py"},  # CVAT's files; a document type, and so every entity, is refused
    # Members are read, none is extracted; the service writes those of a request under checked names, and an answer.
    "zipfile": {
        "archives.py",
        "data/case.py",
        "data/rois.py",
        "server/images.py",
        "server/worker.py",
        "weights/pth.py",
    },
}
CALLS = {"eval", "exec", "compile", "torch.load", "torch.jit.load", "torch.hub.load", "os.system", "os.popen",
         "yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.load_all"}  # fmt: skip
# Whatever they are called on: they write files where an archive says.
METHODS = {"extract", "extractall", "unpack_archive"}
# What must be given, and as what: the text of the argument.
NEEDED = {
    "numpy.load": ("allow_pickle", {"False"}),
    "yaml.load": ("Loader", {"_Loader"}),
    "PIL.Image.open": ("formats", {"FORMATS", "['TIFF']"}),
}


def full_names(tree: ast.AST) -> dict[str, str]:
    """What a name in a file stands for."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {each.asname or each.name.split(".")[0]: each.name if each.asname else each.name.split(".")[0]
                      for each in node.names}  # fmt: skip
        elif isinstance(node, ast.ImportFrom):
            names |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return names


def offences(text: str, where: str) -> list[str]:
    """What a file does that none may; `where` is its path in the package."""
    tree = ast.parse(text)
    names = full_names(tree)
    found = [f"{where} imports {name}" for name in names.values() if name.split(".")[0] in NEVER]
    found += [
        f"{where} imports {name}"
        for name in names.values()
        if name.split(".")[0] in ONLY and where not in ONLY[name.split(".")[0]]
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        given = {each.arg: ast.unparse(each.value) for each in node.keywords}
        first, _, rest = ast.unparse(node.func).partition(".")
        name = names.get(first, first) + (f".{rest}" if rest else "")
        keyword, allowed = NEEDED.get(name, ("", {""}))
        wrong = name in CALLS or name.rpartition(".")[2] in METHODS or "weights_only" in given
        wrong |= given.get(keyword, "") not in allowed or given.get("allow_pickle", "False") != "False"
        if wrong:
            found.append(f"{where}:{node.lineno} {ast.unparse(node)}")
    return found


@pytest.mark.row("S01", "S03", "S06", "S08")
def test_nothing_can_execute_a_file():
    """No pickle, no loader that runs what it reads, no extraction of archives, no image format that is not allowed."""
    paths = sorted(SOURCE.rglob("*.py"))
    found = [each for path in paths for each in offences(path.read_text("utf-8"), path.relative_to(SOURCE).as_posix())]
    assert not found


@pytest.mark.whole
@pytest.mark.row("S01", "S03", "S06", "S08")
@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "import dill as d", "from joblib import load", "import marshal",
        "import torch\ntorch.load('x')", "import torch as t\nt.load('x')", "from torch import load\nload('x')",
        "import yaml\nyaml.load(x)", "import yaml\nyaml.load(x, Loader=yaml.Loader)", "import yaml\nyaml.full_load(x)",
        "import numpy as np\nnp.load(x)", "import numpy as np\nnp.load(x, allow_pickle=True)",
        "read(x, allow_pickle=flag)", "read(x, weights_only=False)", "import tarfile", "import zipfile",
        "archive.extractall(x)", "archive.extract(x)", "import shutil\nshutil.unpack_archive(x, y)", "eval('1')",
        "def f():\n    exec(x)", "from PIL import Image\nImage.open(x)",
        "from PIL import Image as I\nI.open(x, formats=None)",
        "import urllib.request", "from socket import create_connection", "import os\nos.system(x)", "import subprocess",
        "import xml.etree.ElementTree as ET",
    ],
)  # fmt: skip
def test_offences_are_seen(text):
    assert offences(text, "room/file.py")
