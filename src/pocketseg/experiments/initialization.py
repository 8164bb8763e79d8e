"""Where a stage starts from: an earlier stage, another run, or a weight file; all checked before training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketseg.data import Fold, Split
from pocketseg.errors import RecipeError, RunError
from pocketseg.files import sha256_of
from pocketseg.recipes import Recipe, StageSection
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.source import ModelSource

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pocketseg.nets import AnySize
    from pocketseg.weights import Taken

log = logging.getLogger("pocketseg")

IMAGENET = "imagenet"
# The section of a stage that names another run.
Key = Literal["init", "teacher"]


@dataclass(frozen=True)
class Start:
    """A file whose weights a stage starts from, and what was taken from it."""

    stage: str
    file: Path
    sha256: str
    taken: Taken

    def identity(self, stage: StageSection) -> list[str]:
        """What a resumed training must find again. An earlier stage of the same recipe is known by the recipe."""
        external = stage.init is not None and (stage.init.run is not None or stage.init.weights is not None)
        return [self.sha256] if external else []

    def tell(self) -> None:
        """The counts and the names of what was not taken for everybody; the rest for the run's log."""
        taken = self.taken
        log.info(
            "stage %s starts from %s: %d tensors taken; %d missing there, %d left over, %d of another shape",
            self.stage, self.file, len(taken.names), len(taken.missing), len(taken.left_over), len(taken.other_shape),
        )  # fmt: skip
        lists = {
            "taken": taken.names,
            "missing there": taken.missing,
            "left over": taken.left_over,
            "of another shape": [name for name, _, _ in taken.other_shape],
        }
        for what, names in lists.items():
            if names:
                # What was taken is long and as expected; what was not is what one wants to know.
                level = logging.DEBUG if what == "taken" else logging.INFO
                log.log(level, "stage %s, %s: %s", self.stage, what, ", ".join(map(ascii, names)))

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {"file": str(self.file), "sha256": self.sha256, "taken": len(self.taken.names)}


def check_starts(recipe: Recipe, folds: Mapping[int, Fold], groups: Mapping[str, str], data_digest: str) -> None:
    """Try every start on a net that is thrown away, so that nothing is trained in vain.

    Raises:
        PocketsegError: a file that is missing or does not fit, a net that cannot start so, or leaked test cases.
    """
    sections = {stage.name: stage for stage in recipe.stages}
    for stage in recipe.stages:
        if stage.init is None:
            continue
        if stage.init.run is not None:
            for number, fold in folds.items():
                if not stage.init.allow_leak:
                    refuse_leak(stage, "init", stage.init.run, number, fold, groups, data_digest)
                start(_net(recipe, stage), recipe, stage, number, Path())
        elif stage.init.weights is not None:
            start(_net(recipe, stage), recipe, stage, 0, Path())
        else:
            earlier = sections[stage.init.stage or ""]
            where = f"stage {earlier.name!r}"
            options = {"arch": earlier.net.arch, **earlier.net.options}
            _same_arch(stage, options, where)
            _take(_net(recipe, stage).core, _net(recipe, earlier).core.state_dict(), stage, where)


def start(net: AnySize, recipe: Recipe, stage: StageSection, fold: int, earlier: Path) -> Start:
    """Put into a fresh net what its stage's `init` says.

    Args:
        net: of the stage; is changed.
        recipe: for classes and channels.
        stage: whose `init` is not None.
        fold: number of the fold, for `init.run`.
        earlier: best weights of the earlier stage, for `init.stage`.

    Raises:
        PocketsegError: as `check_starts`.
    """
    from pocketseg.weights import Taken, put_keras, read_keras, read_weights
    from pocketseg.weights.keras import KERAS_SUFFIXES

    init = stage.init
    assert init is not None
    if init.weights is None:
        path = best_of("init", init.run, fold, init.stage) if init.run is not None else earlier
        taken = _take(net.core, _model_tensors(recipe, stage, path), stage, str(path))
        return Start(stage.name, path, sha256_of(path), taken)
    path = _published(net.core, stage) if init.weights == IMAGENET else Path(init.weights)
    if path.suffix in KERAS_SUFFIXES:
        if init.match == "name":
            what = "is name, but the layers of a Keras file have other names than ours; they are matched by order"
            raise RecipeError(f"stage {stage.name!r}: init.match", what, "remove it")
        filled = put_keras(net.core, read_keras(path), channels=recipe.data.channels, where=str(path))
        taken = Taken(names=filled)
    else:
        target, tensors = _place(net.core, read_weights(path))
        taken = _take(target, tensors, stage, str(path))
    return Start(stage.name, path, sha256_of(path), taken)


def _net(recipe: Recipe, stage: StageSection) -> AnySize:
    from pocketseg.nets import build
    from pocketseg.training.model import logit_count

    return build(
        stage.net.arch, recipe.data.channels, logit_count(len(recipe.data.classes)), **stage.net.options
    )  # fmt: skip


def _take(net: nn.Module, tensors: Mapping[str, Tensor], stage: StageSection, where: str) -> Taken:
    from pocketseg.weights import take

    return take(net, tensors, strict=stage.init is None or stage.init.match == "strict", where=where)


def best_of(key: Key, run: str, fold: int, stage: str | None) -> Path:
    """The best weights of a fold of another run, of the named stage or the last; `key` is what asks for them."""
    path = ModelSource.of_run(RunFolder.existing(run), fold, stage).weights
    if not path.is_file():
        raise RunError(
            run,
            f"has no best weights of fold {fold}, stage {path.parent.name!r} ({path} is missing)",
            f"train that fold there, or name another stage with {key}.stage"
            + (", or give a file as init.weights" if key == "init" else ""),
        )
    return path


def _model_tensors(recipe: Recipe, stage: StageSection, path: Path) -> Mapping[str, Tensor]:
    """Weights of a model of ours, which must be of the same kind where all is to fit."""
    from pocketseg.quant import latent_weights
    from pocketseg.training.model import Model

    model = Model.load(path)
    if stage.init is not None and stage.init.match == "strict":
        _same_arch(stage, model.net_options, str(path))
        theirs, ours = model.pipeline, recipe.data
        for what, there, here in (
            ("classes", len(theirs.classes), len(ours.classes)),
            ("image channels", theirs.channels, ours.channels),
        ):
            if there != here:
                raise RunError(
                    f"stage {stage.name!r}",
                    f"starts from {path}, whose net has {there} {what}, not {here}",
                    "start from a net of the same kind, or take what fits with init.match=name",
                )
    # A quantised net has the weights of a float one, and the grids of its quantisers beside them.
    return latent_weights(model.net.core)


def _same_arch(stage: StageSection, theirs: Mapping[str, Any], where: str) -> None:
    """Another architecture is an error; other options are told, since their weights may fit and mean another thing."""
    if stage.init is None or stage.init.match == "name":
        return
    ours = {"arch": stage.net.arch, **stage.net.options}
    if theirs["arch"] != ours["arch"]:
        raise RunError(
            f"stage {stage.name!r}",
            f"starts from {where}, whose net is {theirs['arch']}, not {ours['arch']}",
            "give both the same net, or take what fits with init.match=name",
        )
    differ = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    if differ:
        told = ", ".join(f"{name} {theirs.get(name, 'as it is')} → {ours.get(name, 'as it is')}" for name in differ)
        log.warning("stage %s starts from %s, whose net has other options: %s", stage.name, where, told)


def _published(core: nn.Module, stage: StageSection) -> Path:
    from pocketseg.weights import fetch

    name = getattr(getattr(core, "encoder", None), "published", None)
    if name is None:
        raise RecipeError(
            f"stage {stage.name!r}: init.weights",
            f"is imagenet, for which {stage.net.arch} with these options has no published encoder",
            "take a net with one (encoder_unet with resnet18, resnet34, resnet50 or densenet121), or init: null",
        )
    return fetch(name)


def _place(core: nn.Module, tensors: dict[str, Tensor]) -> tuple[nn.Module, Mapping[str, Tensor]]:
    """The encoder where the file's names are its own, else the whole net."""
    encoder: Any = getattr(core, "encoder", None)
    if not hasattr(encoder, "translate"):
        return core, tensors
    own = {name for name in encoder.state_dict() if not name.endswith("num_batches_tracked")}
    translated = encoder.translate(tensors)
    return (core, tensors) if own.isdisjoint(translated) else (encoder, translated)


def refuse_leak(
    stage: StageSection, key: Key, run: str, number: int, fold: Fold, groups: Mapping[str, str], data_digest: str
) -> None:
    """Weights, or a teacher, that have seen the test cases flatter the result.

    Names are compared, and groups, even if the data differ: a data set that grew keeps its names.
    """
    other = RunFolder.existing(run)
    plan = Split.read(other.split_file)
    if number >= len(plan.folds):
        raise RunError(run, f"has no fold {number}", "take a run with the same split")
    seen = set(plan.fold(number).train)
    seen_groups = {groups[name] for name in seen if name in groups}
    leaked = [name for name in fold.test if name in seen or groups.get(name) in seen_groups]
    if not leaked:
        return
    same = other.manifest().get("data", {}).get("sha256") == data_digest
    raise RunError(
        f"stage {stage.name!r}",
        f"{'starts' if key == 'init' else 'learns'} from {run}, which was trained on {len(leaked)} of the "
        f"{len(fold.test)} test cases of fold {number}, "
        f"or on others of their groups{'' if same else '; its data differ, but not these names'} (first: {leaked[0]})",
        f"train with --split {other.split_file}, or set {key}.allow_leak=true where names mean other images",
    )
