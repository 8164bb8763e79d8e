"""`import`: weights that another program trained become a model, without a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketseg import notebook
from pocketseg.errors import RecipeError
from pocketseg.flows.train import train
from pocketseg.packages import require_torch
from pocketseg.recipes import dump_recipe, parse_yaml
from pocketseg.runs.folder import RunFolder
from pocketseg.text import brief, counted


@dataclass(frozen=True, repr=False)
class Imported:
    """The run folder of the model.

    Attributes:
        run: the folder.
        parameters: of the net.
        dice: mean Dice of each class on the test part, where data was given.
    """

    run: Path
    parameters: int
    dice: Mapping[str, float]

    @property
    def text(self) -> str:
        """What it is, in words."""
        found = ", ".join(f"Dice of {name} {dice:.3f}" for name, dice in self.dice.items())
        return f"{counted(self.parameters, 'parameter')}{f'; {found}' if found else ''}"

    def __repr__(self) -> str:
        return brief(self, f"{self.run}: {self.text}")

    def _repr_html_(self) -> str:
        """What was made, for notebooks."""
        return notebook.facts({"run": self.run, "model": self.text})


def import_weights(
    weights: str | Path,
    out: str | Path,
    *,
    net: str | None = None,
    recipe: str | Path | Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    device: str = "auto",
) -> Imported:
    """Make a model of a file of weights: it predicts, is evaluated, packed, quantized, and trained on.

    Layers are matched in their order, since names differ between programs; where the file has the names of our net, by
    name. What an image goes through before the net is in no file of weights: say it, or what is assumed is reported.

    Args:
        weights: a `.pth` (state dict or whole module, of which nothing is executed), Keras' `.h5`, or our safetensors.
        out: run folder to make.
        net: of the catalog; default that of the recipe's last stage.
        recipe: name or file, whose data, normalization, rules and net are taken.
        data: images and masks: the run gets a split, is evaluated on it, and has a report. Without,
            nothing is measured.
        overrides: `KEY=VALUE` of the recipe, such as `data.size=[256,256]`; `net.KEY=VALUE` are options of the net.
        mean, std: for `normalize.kind=train-mean-std`, one number a channel; with data they are learned from it.
        device: auto, cpu, cuda, cuda:N or mps, where data is given.

    Raises:
        PocketsegError: the weights cannot be read or do not fit the net, or the recipe is not valid.
    """
    require_torch()
    from pocketseg.experiments.imported import import_recipe, make_imported
    from pocketseg.nets import parameter_count

    found = import_recipe(Path(weights), net, recipe, overrides)
    if data is None:
        run, model = make_imported(found, Path(out), mean, std)
        return Imported(run.path, parameter_count(model.net), {})
    if mean or std:
        raise RecipeError("--mean and --std", "are learned from --data", "leave out the one or the other")
    result = train(parse_yaml(dump_recipe(found), "recipe"), data, out, device=device)
    (stage,) = RunFolder(result.run).manifest()["stages"].values()
    dice = {each.class_name: each.dice for fold in result.summaries.values() for each in fold if each.part == "test"}
    return Imported(result.run, stage["parameters"], dice)
