"""`recipes convert`: a configuration file of the fixed-point study becomes a recipe, with what to run next."""

from __future__ import annotations

import logging
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketseg.errors import RecipeError
from pocketseg.files import write_atomically
from pocketseg.recipes import load_recipe
from pocketseg.recipes.importers.fixed_point import EXPERIMENTS, Converted, experiment, from_fixed_point, is_fixed_point
from pocketseg.recipes.loading import read_values, recipe_text

log = logging.getLogger("pocketseg")

OURS = (".safetensors", ".onnx")


@dataclass(frozen=True)
class Conversion:
    """The recipe's text, and the command that does what the file's operation mode says."""

    text: str
    next: str


def convert_config(
    config: str | Path | None = None, *, name: str | None = None, out: str | Path | None = None
) -> Conversion:
    """A recipe from a file of the study, or from one of its experiments by name. What changes meaning is logged.

    Args:
        config: YAML file with the mapping `UNET`.
        name: of an experiment, instead of a file.
        out: new file for the recipe.

    Raises:
        RecipeError: every fault of the file, together; no such experiment; or `out` exists.
    """
    if (config is None) == (name is None):
        raise RecipeError("recipes convert", "needs a file or --experiment, one of them", "see --list for experiments")
    if out is not None and Path(out).exists():
        raise RecipeError(str(out), "already exists", "choose another name for the recipe")
    where, values = (f"experiment {name}", experiment(name)) if name is not None else read_values(str(config))
    if not is_fixed_point(values):
        raise RecipeError(where, "has no mapping UNET, so it is not a file of the study", "give its config.yaml")
    found = from_fixed_point(values)
    load_recipe(found.values)
    for note in found.notes:
        log.warning("%s", note)
    text = recipe_text(found.values, _head(found, where))
    if out is not None:
        write_atomically(Path(out), text)
    return Conversion(text, _next(found, str(out or "recipe.yaml")))


def listed() -> list[tuple[str, str]]:
    """Name and description of every experiment of the study."""
    return [(name, from_fixed_point(experiment(name)).values["description"]) for name in EXPERIMENTS]


def _head(found: Converted, where: str) -> Iterator[str]:
    source = Path(where).name if Path(where).is_file() else where
    yield f"From {source} of the fixed-point study (AskariHemmat et al. 2019)."
    for title, lines in (("Corrected:", found.corrected), ("Chosen:", found.chosen), ("Of the file:", found.notes)):
        if lines:
            yield from ("", title, *_points(lines))


def _points(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(
            f"- {line}", 110, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )  # fmt: skip


def _next(found: Converted, recipe: str) -> str:
    run = Path(found.folder or "runs") / found.name
    model = found.weights if found.weights and found.weights.endswith(OURS) else str(run)
    match found.mode:
        case "inference":
            words = ["evaluate", model, "DATA"]
        case "visualize":
            words = ["inspect", model, "--weights", f"{found.name}.pdf"]
        case _:
            words = ["train", recipe, "--data", "DATA", "--out", str(run)]
    return shlex.join(["pocketseg", *words])
