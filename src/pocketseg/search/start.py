"""`fit --start-from`: a trained net whose weights candidates of the same shape start from, and what it has seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pocketseg.data import Split
from pocketseg.errors import ModelFileError, RecipeError, RunError
from pocketseg.experiments.target import Target
from pocketseg.files import resolved, sha256_of
from pocketseg.pipeline import Pipeline
from pocketseg.recipes import StageSection
from pocketseg.runs.folder import SEARCH, RunFolder
from pocketseg.runs.opening import run_around
from pocketseg.runs.shipped import weights_file
from pocketseg.runs.source import ModelSource, float_stage
from pocketseg.search.shapes import Shape
from pocketseg.search.state import SearchFolder
from pocketseg.text import counted

OPTION = "--start-from"


@dataclass(frozen=True)
class Trained:
    """A net of ours without quantizers.

    Attributes:
        weights: its file.
        net: {"arch": …} and its options.
        pipeline: that it was trained with.
        seen: cases that it learned from; None where nobody knows.
    """

    weights: Path
    net: Mapping[str, Any]
    pipeline: Pipeline
    seen: frozenset[str] | None

    @property
    def digest(self) -> str:
        return sha256_of(self.weights)

    @property
    def said(self) -> str:
        """The net, without its path, which may hold a name."""
        options = ", ".join(f"{key} {value}" for key, value in self.net.items() if key != "arch")
        return f"{self.net['arch']}{f' with {options}' if options else ''}"

    def fits(self, shape: Shape, stage: StageSection, pipeline: Pipeline) -> bool:
        """Whether all its weights are those of this shape, layer by layer."""
        if (self.pipeline.channels, self.pipeline.logits) != (pipeline.channels, pipeline.logits):
            return False
        ours, theirs = Target(stage, shape.net, pipeline), Target(stage, self.net, pipeline)
        return self.net["arch"] == shape.net["arch"] and repr(ours.skeleton()) == repr(theirs.skeleton())


def open_start(given: str | Path) -> Trained:
    """The net of a run folder, a folder of `fit`, a file of weights of one, or a model that ships.

    Raises:
        PocketsegError: it is none of these, or has no net without quantizers.
    """
    from pocketseg.training.model import Model

    try:
        weights, run = _weights(weights_file(str(given)))
    except RecipeError as error:
        problem = error.problems[0]
        raise RecipeError(f"{OPTION} {given}", problem.what, problem.fix) from None
    model = Model.load(weights)
    if model.quant is not None:
        what = f"is a net of {model.quant['scheme']}"
        raise ModelFileError(f"{OPTION} {given}", what, "give the float stage that it went on from")
    seen = None
    if run is not None and not run.is_imported:
        at = weights.parent.parent.name.removeprefix("fold-")
        seen = frozenset(Split.read(run.split_file).fold(int(at)).train) if at.isdecimal() else None
    return Trained(resolved(weights), model.net_options, model.pipeline, seen)


def _weights(path: Path) -> tuple[Path, RunFolder | None]:
    """The file of weights that a path means, and the run that it is of."""
    if path.suffix == ".pseg":
        home = next((each for each in (path.parent, path.parent.parent) if _is_run(each)), None)
        if home is None:
            fix = "give the run folder, or the folder of fit, that it was packed in"
            raise ModelFileError(f"{OPTION} {path}", "is packed: it has no weights to go on from", fix)
        path = home
    if (path / SEARCH).is_file():
        path = _accepted(SearchFolder(path)).path
    if not path.is_dir():
        return path, run_around(path)
    source = ModelSource.resolve(path)
    if source.run is None:
        return source.trained(), run_around(path)
    name = float_stage(source.run.recipe(), source.weights.parent.name)
    if name is None:
        what = "has quantizers in every stage that its model went on from"
        raise RunError(f"{OPTION} {path}", what, "give a run with a float stage, or its folder")
    return ModelSource.of_run(source.run, 0, name).trained(), source.run


def _is_run(folder: Path) -> bool:
    return (folder / SEARCH).is_file() or (folder / "manifest.json").is_file()


def _accepted(folder: SearchFolder) -> RunFolder:
    """The run whose file was accepted, where another than the winner was trained too."""
    second = folder.second.fold(0) / "float.pseg"
    if second.is_file() and folder.float_model.is_file() and second.read_bytes() == folder.float_model.read_bytes():
        return folder.second
    return folder.winner


def refuse_seen(trained: Trained, held: Sequence[str], groups: Mapping[str, str]) -> None:
    """Weights that learned from cases which choices and results rest on make both too good.

    Args:
        trained: the start.
        held: validation and test cases.
        groups: case -> group.

    Raises:
        RunError: it has seen some of them, or others of their groups.
    """
    leaked = common(trained, held, groups)
    if leaked:
        what = (
            f"learned from {len(leaked)} of the {counted(len(held), 'case')} that are held out here for validation and "
            f"test, or from others of their groups (first: {leaked[0]})"
        )
        fix = (
            "start from a run with the same split (what fit made of the same data has it); where the names mean other "
            "images, copy its best.safetensors to another folder and give that"
        )
        raise RunError(OPTION, what, fix)


def common(trained: Trained, cases: Iterable[str], groups: Mapping[str, str]) -> list[str]:
    """The cases that a net has seen, or others of their groups."""
    seen = trained.seen or frozenset()
    its = {groups[name] for name in seen if name in groups}
    return [name for name in cases if name in seen or groups.get(name) in its]
