"""Which model a path means: a run folder, that of a stage or of a search, or a file. It is decided here only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pocketseg.data.split import Split
from pocketseg.errors import RunError, near
from pocketseg.recipes import Recipe
from pocketseg.runs.folder import SEARCH, RunFolder
from pocketseg.runs.shipped import shipped_file
from pocketseg.training.stage_folder import BEST, StageFolder

WANTED = (
    f"give a run folder, {BEST}, packed.safetensors, a .pseg or an .onnx file, or a name that `pocketseg models` lists"
)


@dataclass(frozen=True)
class ModelSource:
    """A trained model on disk.

    Attributes:
        path: as it was given.
        weights: the best weights of a run or stage, which may not be there; a path that is a file, whatever it holds.
        folder: where what is made of the weights lies; of a model that ships the working folder.
        name: of what is made of them, without its ending.
        run: the run folder, where the path is one.
        fold: of the run.
    """

    path: Path
    weights: Path
    folder: Path
    name: str = "model"
    run: RunFolder | None = None
    fold: int = 0

    @classmethod
    def resolve(cls, path: str | Path, fold: int = 0, stage: str | None = None) -> ModelSource:
        """What a path means.

        Args:
            path: run folder, stage folder `RUN/fold-N/STAGE`, folder of `fit` (the file that it accepted), or file;
                where nothing is there, the name of a model that ships with the package.
            fold, stage: of a run folder; default the first fold's last stage.

        Raises:
            RunError: a folder that is none of these, a stage that the run does not have, or a search that accepted
                no file.
        """
        path = Path(path)
        if stage is None and fold == 0 and (path / SEARCH).is_file():
            path = _accepted(path)
        shipped = shipped_file(path)
        if shipped is not None and not path.exists() and stage is None:
            return cls(shipped, shipped, Path())
        if stage is None and not path.is_dir():
            return cls(path, path, path.parent)
        if stage is None and StageFolder(path).exists():
            return cls(path, StageFolder(path).best, path)
        return cls.of_run(RunFolder.existing(path), fold, stage)

    @classmethod
    def of_run(cls, run: RunFolder, fold: int = 0, stage: str | None = None) -> ModelSource:
        """The best model of a fold, of the named stage or the last.

        Raises:
            RunError: the run has no such fold or stage.
        """
        check_fold(run, fold)
        names = [section.name for section in run.recipe().stages]
        if stage is not None and stage not in names:
            raise RunError(str(run.path), f"has no stage {stage!r}", near(stage, names))
        return cls(run.path, run.stage(fold, stage or names[-1]).best, run.fold(fold), stage or "model", run, fold)

    def made(self, ending: str) -> Path:
        """The file of another form that is made of the weights, such as `.pseg`."""
        return self.folder / f"{self.name}{ending}"

    def trained(self) -> Path:
        """The weights, which are there.

        Raises:
            RunError: that fold of the run was not trained so far.
        """
        if self.run is not None and not self.weights.is_file():
            folds = ", ".join(map(str, self.run.folds())) or "none"
            what = f"does not exist (folds begun: {folds})"
            raise RunError(str(self.weights), what, "finish the training with --resume")
        return self.weights


def float_stage(recipe: Recipe, stage: str) -> str | None:
    """The stage without quantizers that a stage went on from; None where there is none in the recipe."""
    stages = {each.name: each for each in recipe.stages}
    at = stages[stage]
    while at.quant is not None:
        if at.init is None or at.init.run is not None or at.init.stage is None:
            return None
        at = stages[at.init.stage]
    return at.name


def _accepted(search: Path) -> Path:
    """Raises: RunError: the search accepted no file, or is not at its end."""
    model = search / "model.pseg"
    if not model.is_file():
        fix = "its report.html says why; go on with `pocketseg fit … --resume`, or name one of its run folders"
        raise RunError(str(search), "is the folder of a search that accepted no model so far", fix)
    return model


def check_fold(run: RunFolder, fold: int) -> None:
    """Raises: RunError: the run's split has no such fold."""
    if run.fold(fold).exists() or not run.split_file.exists():
        return
    folds = len(Split.read(run.split_file).folds)
    if not 0 <= fold < folds:
        have = f"folds 0 to {folds - 1}" if folds > 1 else "one fold, 0"
        raise RunError(str(run.path), f"has {have}, and no fold {fold}", "choose another --fold, or leave it out")
