"""A model of weights that another program trained: the recipe that says how to use them, and the folder of the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pocketseg.errors import EnvironmentProblem, ModelFileError, RecipeError
from pocketseg.experiments.initialization import WeightFile
from pocketseg.experiments.manifest import begin_imported, check_out
from pocketseg.experiments.plan import channels_of, pipeline_of
from pocketseg.experiments.stage_checks import check_stage
from pocketseg.experiments.target import Target
from pocketseg.files import make_folder, resolved
from pocketseg.nets import skeleton
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.recipes import Recipe, load_recipe
from pocketseg.recipes.loading import overridden
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.inspection import inspect_model
from pocketseg.runs.packed import pack_model
from pocketseg.runs.source import ModelSource
from pocketseg.text import counted
from pocketseg.training.model import Model
from pocketseg.weights import ends_of, read_keras, read_weights
from pocketseg.weights.keras import KERAS_SUFFIXES
from pocketseg.weights.order import COUNTER, running_layers

log = logging.getLogger("pocketseg")

STAGE = "imported"
# What is taken of a recipe; its stages tell the net alone.
SECTIONS = ("data", "split", "normalize", "postprocess", "evaluate", "card", "seed")
DEFAULTS: dict[str, Any] = {"data": {"size": [256, 256]}, "normalize": {"kind": "unit-range"}}
# Of the stage, which --set may call by these names alone.
OF_STAGE = ("net.", "init.", "loss.")


def import_recipe(
    weights: Path, net: str | None, recipe: str | Path | Mapping[str, Any] | None, overrides: Sequence[str]
) -> Recipe:
    """The recipe of one stage without a training, which starts from a file of weights.

    What neither a recipe nor an override says is taken from the weights (image channels, number of classes) or is a
    default, and reported.

    Args:
        weights: of PyTorch, Keras, or ours.
        net: of the catalog; None: that of the recipe's last stage.
        recipe: its data, normalization and rules are taken.
        overrides: `KEY=VALUE` of the recipe; `net.`, `init.` and `loss.` are those of its stage.

    Raises:
        PocketsegError: a key or value that cannot be; no net; the weights cannot be read.
    """
    given = {} if recipe is None else overridden(dict(recipe) if isinstance(recipe, Mapping) else recipe, ())[1]
    values = {key: given[key] for key in SECTIONS if key in given} or DEFAULTS
    stages = given.get("stages") or [{}]
    layers = stages[-1].get("net", {}) if net is None else {"arch": net}
    if not layers.get("arch"):
        raise RecipeError("--net", "is missing: weights do not say of which net they are", "see `pocketseg nets`")
    init = {"weights": str(resolved(weights)), "match": "order"}
    stage = {"name": STAGE, "net": layers, "init": init, "epochs": 0}
    changes = [f"stages.0.{text}" if text.startswith(OF_STAGE) else text for text in overrides]
    wanted = {**values, "description": f"Weights of {weights.name}, not trained here.", "stages": [stage]}
    said = overridden(wanted, changes)[1]
    ends, by_name = _ends(weights, said["stages"][0]["net"])
    if by_name and said["stages"][0]["init"].get("match") == "order":
        init["match"] = "strict"
    data = wanted["data"] = dict(values.get("data", {}))
    if ends is not None and said.get("data", {}).get("channels", "auto") == "auto":
        data["channels"] = ends[0]
    multilabel = said.get("data", {}).get("multilabel") is True
    if ends is not None and "classes" not in said.get("data", {}):
        data["classes"] = _class_names(ends[1] + multilabel)
    if len(said.get("data", {}).get("classes", data.get("classes", []))) > 1 and not multilabel:
        stage["loss"] = {"ce": 1, "dice": 1}
    found = load_recipe(wanted, changes, check_stage)
    _tell(found, {text.partition("=")[0] for text in overrides}, recipe, None if ends is None else ends[1])
    return found


def _ends(weights: Path, net: Mapping[str, Any]) -> tuple[tuple[int, int] | None, bool]:
    """Image channels that the first convolution takes, and channels that the last one gives; None without any.

    And whether the file has the very names of the net: its order, which a safetensors file does not keep, is then ours.
    """
    if weights.suffix in KERAS_SUFFIXES:
        kernels = [kernel for layer in read_keras(weights) for kernel in layer.weights.values() if kernel.ndim == 4]
        return (int(kernels[0].shape[2]), int(kernels[-1].shape[3])) if kernels else None, False
    tensors = read_weights(weights)
    core = skeleton(in_channels=1, out_channels=1, **net)
    if not {name for name in core.state_dict() if not name.endswith(COUNTER)} <= tensors.keys():
        return ends_of(tensors), False
    names = {module: name for name, module in core.named_modules()}
    ours = [f"{names[module]}.weight" for module in running_layers(core, 1)]
    return ends_of({name: tensors[name] for name in ours}), True


def _class_names(outputs: int) -> list[str]:
    """One logit, or two with the background, are one class; more are one each behind the background."""
    if outputs <= 2:
        return ["foreground"]
    return [f"class-{number}" for number in range(1, outputs)]


def _tell(recipe: Recipe, given: set[str], source: object, outputs: int | None) -> None:
    """What nobody said and is assumed; wrong guesses make a model that runs and finds nonsense."""
    by = "the default" if source is None else "the recipe's"
    size = "×".join(map(str, recipe.data.size))
    threshold = recipe.postprocess.threshold
    lines = {
        "data.size": f"the net sees images of {size}, {recipe.data.fit} ({by})",
        "data.channels": f"images of {counted(channels_of(recipe.data), 'channel')}, as its first layer takes",
        "data.classes": f"classes {', '.join(recipe.data.classes)}, as its last layer gives"
        + (", whose two logits are background and foreground" if outputs == 2 and not recipe.data.multilabel else ""),
        "normalize.kind": f"values are scaled to 0 … 1, then {recipe.normalize.kind} ({by})",
        "postprocess.threshold": f"foreground where the probability is {threshold} or more ({by})",
    }
    for key, line in lines.items():
        if key not in given:
            log.info("%s; else --set %s=…", line, key)


def make_imported(
    recipe: Recipe, out: Path, mean: Sequence[float] = (), std: Sequence[float] = ()
) -> tuple[RunFolder, Model]:
    """A folder as a training leaves it, of a recipe of `import_recipe`, without any data.

    Args:
        recipe: of one stage.
        out: new folder.
        mean, std: for `normalize.kind: train-mean-std`, one number a channel, of images scaled to 0 … 1.

    Raises:
        PocketsegError: the weights do not fit the net, or a normalization that is not known.
    """
    run = RunFolder(out)
    check_out(run, resume=False)
    (stage,) = recipe.stages
    pipeline = _pipeline(recipe, mean, std)
    target = Target(stage, {"arch": stage.net.arch, **stage.net.options}, pipeline).with_stride()
    assert target.init.weights is not None
    start = WeightFile(target, Path(target.init.weights))
    start.check()
    model = Model.fresh(target.net, pipeline, recipe.seed)
    started = start.fill(model.net.core)
    model.net.eval()
    folder = run.stage(0, stage.name)
    make_folder(folder.path)
    inspected = inspect_model(model)
    with run.held(), run.logged():
        started.tell()
        model.save(folder.best, {"stage": stage.name, "epoch": 0})
        inspected.save(folder.path, ("json", "svg"))
        begin_imported(run, recipe, model, started)
        try:
            pack_model(ModelSource.of_run(run))
        except (EnvironmentProblem, ModelFileError) as error:
            log.warning("it is not packed, so that predicting needs torch: %s", error.problems[0])
    return run, model


def _pipeline(recipe: Recipe, mean: Sequence[float], std: Sequence[float]) -> Pipeline:
    """That of a recipe; nothing is known of the images that the weights were trained on."""
    pipeline = replace(pipeline_of(recipe), trained_on=None)
    auto = [name for name, value in recipe.postprocess if value == "auto"]
    presence = recipe.postprocess.presence
    if presence is not None and presence.evidence is None:
        log.warning("postprocess.presence: is chosen on images; without them there is none")
    if auto:
        log.warning("postprocess: %s is auto, which needs images; the mildest is taken", ", ".join(auto))
    if pipeline.normalization.kind != "train-mean-std":
        if mean or std:
            raise RecipeError(
                "--mean and --std", "are for normalize.kind=train-mean-std", "add --set normalize.kind=train-mean-std"
            )
        return pipeline
    if not len(mean) == len(std) == pipeline.channels:
        what = f"needs mean and std of the images that the net was trained on, {pipeline.channels} of each"
        raise RecipeError("normalize.kind", f"is train-mean-std, which {what}", "give --mean and --std, or --data")
    return replace(
        pipeline,
        normalization=Normalization("train-mean-std", mean=tuple(map(float, mean)), std=tuple(map(float, std))),
    )
