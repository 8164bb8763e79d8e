"""The plan of the house: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src/pocketseg"

# Leaves beside the rooms, which everyone may use.
LEAVES = {"archives", "cards", "errors", "files", "memory", "names", "tables"}
MAY_USE = {
    "pipeline": set(),
    "metrics": set(),
    "recipes": set(),
    "nets": set(),
    "quant": set(),
    "data": {"pipeline"},
    "engine": set(),
    "predictors": {"pipeline", "engine"},
    "weights": set(),
    "training": {"recipes", "data", "pipeline", "metrics", "nets", "quant", "predictors", "weights"},
    "exporters": {"pipeline", "nets", "quant"},
    "packing": {"pipeline", "nets", "quant", "engine"},
    "evaluation": {"data", "metrics", "pipeline", "predictors"},
    "reporting": set(),
    "flows": {
        "pipeline", "metrics", "recipes", "nets", "quant", "data", "predictors",
        "training", "exporters", "packing", "engine", "evaluation", "reporting", "weights",
    },
    "cli": {"flows", "recipes"},
}  # fmt: skip
# Rooms that must stay light: they never import these, not even inside a function.
NO_TORCH = {"pipeline", "metrics", "recipes", "data", "engine", "predictors", "evaluation", "reporting", "cli"}


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


@pytest.mark.parametrize("name", sorted(MAY_USE))
def test_room_uses_only_its_neighbours(name):
    allowed = MAY_USE[name] | LEAVES | {name, "__version__"}
    edges = [
        f"{path.relative_to(SOURCE)} -> {target}"
        for path in sorted((SOURCE / name).rglob("*.py"))
        for target in imports(path)
        if target.startswith("pocketseg.") and room(target) not in allowed
    ]
    assert not edges, edges


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


def test_nothing_can_execute_a_file():
    """No pickle, torch.load, yaml.load without our loader, eval or exec anywhere (reliability S01)."""
    banned_calls = {
        ("torch", "load"),
        ("pickle", "load"),
        ("pickle", "loads"),
        ("yaml", "unsafe_load"),
        ("joblib", "load"),
    }
    hits = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                function = node.func
                if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                    if (function.value.id, function.attr) in banned_calls:
                        hits.append(f"{path.name}:{node.lineno}")
                    if (function.value.id, function.attr) == ("np", "load"):
                        given = {keyword.arg: keyword.value for keyword in node.keywords}
                        value = given.get("allow_pickle")
                        if not (isinstance(value, ast.Constant) and value.value is False):
                            hits.append(f"{path.name}:{node.lineno} np.load without allow_pickle=False")
                if isinstance(function, ast.Name) and function.id in ("eval", "exec"):
                    hits.append(f"{path.name}:{node.lineno}")
        hits += [
            f"{path.name} imports {name}"
            for name in imports(path)
            if name.split(".")[0] in ("pickle", "dill", "shelve")
        ]
    assert not hits
