"""The weights that a stage starts from: of an earlier stage, another run, or a file; all checked before training."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pocketseg.data import Fold, Split
from pocketseg.errors import RecipeError, RunError
from pocketseg.experiments.target import Target
from pocketseg.files import sha256_of
from pocketseg.recipes import StageSection
from pocketseg.recipes.schema import IMAGENET
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.shipped import weights_file
from pocketseg.runs.source import ModelSource
from pocketseg.text import counted

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pocketseg.weights import KerasLayer, Taken

log = logging.getLogger("pocketseg")

TFLITE_SUFFIX = ".tflite"
# The section of a stage that names another run.
Key = Literal["init", "teacher"]


@dataclass(frozen=True)
class Start:
    """A file whose weights a stage started from, and what was taken from it.

    Attributes:
        stage: that starts.
        identity: what a resumed training must find again; nothing of an earlier stage, which the recipe describes.
    """

    stage: str
    file: Path
    sha256: str
    taken: Taken
    identity: tuple[str, ...]

    def tell(self) -> None:
        """The counts and the names of what was not taken for everybody; the rest for the run's log."""
        taken = self.taken
        log.info(
            "stage %s starts from %s: loaded %d of %d tensors",
            self.stage, self.file, len(taken.names), len(taken.names) + len(taken.missing) + len(taken.other_shape),
        )  # fmt: skip
        if taken.zeros:
            of = counted(len(taken.zeros), "[bias|biases]")
            log.info("stage %s: %s of the net set to 0, since the file has none", self.stage, of)
        lists = {
            "taken": taken.names,
            "missing in the file": taken.missing,
            "not used": taken.left_over,
            "of another shape": [name for name, _, _ in taken.other_shape],
            "0, as the file has none": taken.zeros,
        }
        for what, names in lists.items():
            if names:
                # What was taken is long and as expected; what was not is what one wants to know.
                level = logging.DEBUG if names in (taken.names, taken.zeros) else logging.INFO
                log.log(level, "stage %s, %s: %s", self.stage, what, ", ".join(map(ascii, names)))

    def metadata(self) -> dict[str, Any]:
        """For the manifest."""
        return {"file": str(self.file), "sha256": self.sha256, "taken": len(self.taken.names)}


@dataclass(frozen=True)
class EarlierStage:
    """The best weights of an earlier stage of the same recipe, which is trained by then."""

    target: Target
    name: str
    net: Mapping[str, Any]
    file: Path

    def check(self) -> None:
        where = f"stage {self.name!r}"
        self.target.same_arch(self.net, where)
        theirs = replace(self.target, net=self.net).skeleton()
        self.target.take(self.target.skeleton(), theirs.state_dict(), where)

    def fill(self, core: nn.Module) -> Start:
        taken = self.target.take(core, _model_tensors(self.target, self.file), str(self.file))
        return Start(self.target.stage.name, self.file, sha256_of(self.file), taken, ())


@dataclass(frozen=True)
class TrainedRun:
    """The best weights of another run."""

    target: Target
    file: Path

    @cached_property
    def content(self) -> tuple[str, Mapping[str, Tensor]]:
        """The file's digest and its weights, read at one moment, which is that of the plan."""
        tensors = _model_tensors(self.target, self.file)
        return sha256_of(self.file), tensors

    def check(self) -> None:
        self._put(self.target.skeleton())

    def fill(self, core: nn.Module) -> Start:
        digest, _ = self.content
        return Start(self.target.stage.name, self.file, digest, self._put(core), (digest,))

    def _put(self, core: nn.Module) -> Taken:
        _, tensors = self.content
        return self.target.take(core, tensors, str(self.file))


@dataclass(frozen=True)
class WeightFile:
    """A file of weights: of ours, of PyTorch, of Keras, or published ones of an encoder. All folds start from it."""

    target: Target
    file: Path

    @cached_property
    def content(self) -> tuple[str, Mapping[str, Tensor] | Sequence[KerasLayer]]:
        """The file's digest and its weights, read at one moment, which is that of the plan."""
        from pocketseg.weights import read_in_order, read_keras, read_weights
        from pocketseg.weights.keras import KERAS_SUFFIXES

        if self.of_mobilenet:
            tensors = _mobilenet(self.file)
            return sha256_of(self.file), tensors
        if self.file.suffix == TFLITE_SUFFIX:
            what = "is a TensorFlow Lite file, which is read for encoders of MobileNetV1"
            raise RecipeError(f"{self.target.where}: init.weights", what, "take net.arch=mobilenet_v1_025_unet")
        if self.file.suffix not in KERAS_SUFFIXES:
            weights = (read_in_order if self.target.init.match == "order" else read_weights)(self.file)
            return sha256_of(self.file), weights
        if self.target.init.match == "name":
            what = "is name, but the layers of a Keras file have other names than ours; they are matched by order"
            raise RecipeError(f"{self.target.where}: init.match", what, "remove it")
        layers = read_keras(self.file)
        return sha256_of(self.file), layers

    @cached_property
    def of_mobilenet(self) -> bool:
        """Whether the file is a classifier of Keras or TensorFlow Lite, and the net has such an encoder."""
        from pocketseg.nets.mobile_encoders import MobileNetV1
        from pocketseg.weights.keras import KERAS_SUFFIXES

        if self.file.suffix not in (*KERAS_SUFFIXES, TFLITE_SUFFIX):
            return False
        return isinstance(getattr(self.target.skeleton(), "encoder", None), MobileNetV1)

    def check(self) -> None:
        self._put(self.target.skeleton())

    def fill(self, core: nn.Module) -> Start:
        digest, _ = self.content
        return Start(self.target.stage.name, self.file, digest, self._put(core), (digest,))

    def _put(self, core: nn.Module) -> Taken:
        from pocketseg.weights import Taken, put_keras, take_in_order

        (_, weights), channels, where = self.content, self.target.pipeline.channels, str(self.file)
        if not isinstance(weights, Mapping):
            return Taken(names=put_keras(core, weights, channels=channels, where=where))
        if self.target.init.match == "order" and not self.of_mobilenet:
            return take_in_order(core, weights, channels=channels, where=where)
        part, tensors = _part(core, dict(weights))
        return self.target.take(part, tensors, where)


# Where a stage's weights come from. Each can `check` before training whether they fit, on a net without memory, and
# `fill` a fresh net with them.
Initialization = EarlierStage | TrainedRun | WeightFile


def weight_file(target: Target) -> WeightFile | None:
    """The file that a stage's weights come from in all folds, checked; None where they come from elsewhere.

    Raises:
        PocketsegError: it is missing or does not fit, or there are no published weights for the net.
    """
    init = target.stage.init
    if init is None or init.weights is None:
        return None
    found = WeightFile(target, _published(target) if init.weights == IMAGENET else weights_file(init.weights))
    found.check()
    return found


def trained_weights(
    target: Target, fold: int, run: RunFolder, earlier: Mapping[str, Mapping[str, Any]]
) -> TrainedRun | EarlierStage:
    """The trained model that a stage's weights come from in one fold, checked as far as can be now.

    Args:
        target: the stage's net, whose `init` names a run or a stage.
        fold: number of the fold.
        run: its run folder.
        earlier: the nets of the recipe's stages by name.

    Raises:
        PocketsegError: it is missing or does not fit.
    """
    init = target.init
    found: TrainedRun | EarlierStage
    if init.run is not None:
        found = TrainedRun(target, best_of("init", init.run, fold, init.stage))
    else:
        assert init.stage is not None
        found = EarlierStage(target, init.stage, earlier[init.stage], run.stage(fold, init.stage).best)
    found.check()
    return found


def best_of(key: Key, run: str, fold: int, stage: str | None) -> Path:
    """The best weights of a fold of another run, of the named stage or the last; `key` is what asks for them."""
    folder = RunFolder.existing(run)
    path = ModelSource.of_run(folder, 0 if folder.is_imported else fold, stage).weights
    if not path.is_file():
        raise RunError(
            run,
            f"has no best weights of fold {fold}, stage {path.parent.name!r} ({path} is missing)",
            f"train that fold there, or name another stage with {key}.stage"
            + (", or give a file as init.weights" if key == "init" else ""),
        )
    return path


def _model_tensors(target: Target, path: Path) -> Mapping[str, Tensor]:
    """Weights of a model of ours, which must be of the same kind where all is to fit."""
    from pocketseg.quant import latent_weights
    from pocketseg.training.model import Model

    model = Model.load(path)
    if target.init.match == "strict":
        target.same_arch(model.net_options, str(path))
        theirs, ours = model.pipeline, target.pipeline
        for what, there, here in (
            ("classes", len(theirs.classes), len(ours.classes)),
            ("image channels", theirs.channels, ours.channels),
            ("logits (data.multilabel)", theirs.logits, ours.logits),
        ):
            if there != here:
                raise RunError(
                    target.where,
                    f"starts from {path}, whose net has {there} {what}, not {here}",
                    "start from a net of the same kind, or take what fits with init.match=name",
                )
    # A quantized net has the weights of a float one, and the grids of its quantizers beside them.
    return latent_weights(model.net.core)


def _published(target: Target) -> Path:
    from pocketseg.weights import fetch, packaged

    encoder: Any = getattr(target.skeleton(), "encoder", None)
    name: str | None = getattr(encoder, "published", None)
    if name is None:
        raise RecipeError(
            f"{target.where}: init.weights",
            f"is imagenet, for which {target.net['arch']} with these options has no published encoder",
            "take a net with one (efficientnet_lite0_unet, or encoder_unet with resnet18, resnet34, resnet50 or "
            "densenet121), give a file, or init: null",
        )
    if encoder.package is None:
        return fetch(name)
    package, extra = encoder.package
    return packaged(package, name, extra)


def _mobilenet(file: Path) -> Mapping[str, Tensor]:
    """The tensors of a classifier under the names of our encoder."""
    from pocketseg.weights import mobilenet_of_keras, mobilenet_of_tflite, read_keras, read_tflite

    if file.suffix == TFLITE_SUFFIX:
        return mobilenet_of_tflite(read_tflite(file), str(file))
    return mobilenet_of_keras(read_keras(file), str(file))


def _part(core: nn.Module, tensors: dict[str, Tensor]) -> tuple[nn.Module, Mapping[str, Tensor]]:
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
    """Weights, or a teacher, that have seen the test cases bias the result upwards.

    Names are compared, and groups, even if the data differ: a data set that grew keeps its names.
    """
    other = RunFolder.existing(run)
    if other.is_imported:
        said = "stage %r: nobody knows which images the weights of %s were trained on; test cases may be among them"
        log.warning(said, stage.name, run)
        return
    plan = Split.read(other.split_file)
    if number >= len(plan.folds):
        raise RunError(run, f"has no fold {number}", "take a run with the same split")
    seen = set(plan.fold(number).train)
    seen_groups = {groups[name] for name in seen if name in groups}
    leaked = [name for name in fold.unseen if name in seen or groups.get(name) in seen_groups]
    if not leaked:
        return
    same = other.manifest().get("data", {}).get("sha256") == data_digest
    raise RunError(
        f"stage {stage.name!r}",
        f"{'starts' if key == 'init' else 'learns'} from {run}, which was trained on {len(leaked)} of the "
        f"{len(fold.unseen)} test cases of fold {number}, "
        f"or on others of their groups{'' if same else '; its data differ, but not these names'} (first: {leaked[0]})",
        f"train with --split {other.split_file}, or set {key}.allow_leak=true where names mean other images",
    )
