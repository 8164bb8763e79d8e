"""Nets, and augmentation of training samples, that a Python file of the user defines.

Only a file that the user names is executed, never one that a recipe, a model or a data set names.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from pocketseg.errors import RecipeError, near
from pocketseg.files import read_file, resolved
from pocketseg.nets.catalog import Entry, add_own_nets, own_nets

FIRST = ["in_channels", "out_channels"]
AUGMENTS = ["image", "mask", "rng"]
MAX_BYTES = 10 * 2**20
# What was executed, for the processes that train beside this one: path -> SHA-256.
_allowed: dict[str, str] = {}
# FILE:NAME -> function (image, mask, rng) that gives a changed image and mask.
_augmentations: dict[str, Callable[..., Any]] = {}


def allow_code(path: str | Path) -> list[str]:
    """Execute a Python file, and offer the nets and augmentations that it defines as `FILE:NAME`.

    A net is a public function or class of the file with the arguments `in_channels, out_channels` and options behind
    them, each with a type and a default. It gives a module of images (n, in_channels, h, w) to logits
    (n, out_channels, h, w); out_channels is 1 for one class, classes + 1 for several.

    An augmentation is a public function with the arguments `image, mask, rng`, such as `augment.own` of a recipe names:
    float32 (h, w, c) from 0 to 1, uint8 (h, w) of class indices, and a NumPy generator; it gives image and mask.

    Returns:
        The names of nets, for `net.arch` of a recipe.

    Raises:
        RecipeError: the file is missing or raises, or nothing is found in it.
    """
    path = resolved(Path(path))
    where = str(path)
    try:
        content = read_file(path, MAX_BYTES)
    except OSError as error:
        raise RecipeError(where, f"cannot be read ({error.strerror or error})", "give a Python file") from None
    if path.suffix != ".py":
        raise RecipeError(where, "is not a Python file", "give a file that ends in .py")
    digest = hashlib.sha256(content).hexdigest()
    if _allowed.get(where) == digest:
        return own_nets(path.stem)
    module = _executed(path)
    public = {
        f"{path.stem}:{name}": value
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    }
    nets = {name: Entry(value, own=True) for name, value in public.items() if _is_net(value)}
    functions = {name: value for name, value in public.items() if _is_augmentation(value)}
    if not nets and not functions:
        fix = "define a function `name(in_channels, out_channels, *, width: int = 16)` that gives a torch.nn.Module"
        raise RecipeError(where, "defines no net", f"{fix}, or an augmentation `name(image, mask, rng)`")
    for name, entry in nets.items():
        _check_options(name, entry)
    add_own_nets(path.stem, nets)
    for name in [name for name in _augmentations if name.startswith(f"{path.stem}:")]:
        del _augmentations[name]
    _augmentations.update(functions)
    _allowed[where] = digest
    return list(nets)


def own_function(name: str) -> Callable[..., Any]:
    """The augmentation `FILE:NAME`.

    Raises:
        RecipeError: no file that was executed defines it.
    """
    if name in _augmentations:
        return _augmentations[name]
    file, colon, _ = name.partition(":")
    known = [each for each in _augmentations if each.startswith(f"{file}:")]
    if not colon or known:
        raise RecipeError("augment.own", f"{name!r} is not an augmentation", near(name, known or _augmentations))
    what, fix = (
        f"{name!r} is a function of a Python file",
        f"give the file with --allow-code {file}.py, if you trust it",
    )
    raise RecipeError("augment.own", what, fix)


def allowed_code() -> dict[str, str]:
    """Path -> SHA-256 of every file that was executed."""
    return dict(_allowed)


def _executed(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Where pickle and dataclasses look for it; a package of this name stays what it is.
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if before is None:
            del sys.modules[path.stem]
        else:
            sys.modules[path.stem] = before
        what = f"cannot be executed ({type(error).__name__}: {error})"
        raise RecipeError(str(path), what, "correct the file") from error
    return module


def _is_net(value: Any) -> bool:
    """Whether it can be called with a number of input channels and one of logits, by those names."""
    if not callable(value):
        return False
    try:
        return list(inspect.signature(value).parameters)[:2] == FIRST
    except (TypeError, ValueError):  # of what is written in C
        return False


def _is_augmentation(value: Any) -> bool:
    return inspect.isfunction(value) and list(inspect.signature(value).parameters) == AUGMENTS


def _check_options(name: str, entry: Entry) -> None:
    for each in list(inspect.signature(entry.function).parameters.values())[2:]:
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
            raise RecipeError(name, f"takes *{each.name}, whose options nobody can check", "name each option")
        if each.default is each.empty or each.annotation is each.empty:
            fix = f"write `{each.name}: int = 16`, with a type and a default"
            raise RecipeError(name, f"has an option {each.name!r} without a type or a default", fix)
