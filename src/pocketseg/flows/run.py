"""`run`: a file of the fixed-point study is obeyed: trained, retrained, evaluated, or its weights drawn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pocketseg import notebook
from pocketseg.errors import RecipeError
from pocketseg.files import make_folder
from pocketseg.flows.draw_weights import draw_weights
from pocketseg.flows.evaluate import evaluate
from pocketseg.flows.import_weights import import_weights
from pocketseg.flows.train import train
from pocketseg.packages import require_torch
from pocketseg.recipes.importers.fixed_point import (
    FOREIGN_WEIGHTS,
    SECTION,
    Converted,
    from_fixed_point,
    is_fixed_point,
    start_from,
)
from pocketseg.recipes.loading import read_values
from pocketseg.runs.folder import RunFolder
from pocketseg.text import brief

log = logging.getLogger("pocketseg")


@dataclass(frozen=True, repr=False)
class RunResult:
    """What a file asked for, and where it is.

    Attributes:
        mode: normal, retrain, inference or visualize.
        place: run folder, folder of an evaluation, or PDF.
    """

    mode: str
    place: Path

    def __repr__(self) -> str:
        return brief(self, f"{self.mode}: {self.place}")

    def _repr_html_(self) -> str:
        """What was done, for notebooks."""
        return notebook.facts({"mode": self.mode, "result": self.place})


def run(
    config: str | Path,
    data: str | Path | None = None,
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
) -> RunResult:
    """Do what the `operation_mode` of a file of the fixed-point study (AskariHemmat et al. 2019) says.

    `normal` trains; `retrain` trains from `trained_model`; `inference` evaluates it and trains nothing; `visualize`
    draws its weights before and after quantization. `trained_model` is a state dict of the study, a run folder, or a
    model of ours; where the file names none, it is the run that `normal` made.

    Args:
        config: its YAML file, with the mapping `UNET`.
        data: images and masks; not needed to draw weights.
        out: run folder, for `inference` the folder of the scores or of the run that is made of a state dict, for
            `visualize` the PDF; default: named after `experiment_name`, in `log_output_dir`.
        overrides: `KEY=VALUE` of the recipe that the file is.
        resume: go on with a training.
        device: auto, cpu, cuda, cuda:N or mps, where something is trained.

    Raises:
        PocketsegError: the file is none of the study or has faults; no data or no trained model where the mode needs
            one; or what the verb of the mode reports.
    """
    require_torch()
    where, values = read_values(config)
    if not is_fixed_point(values):
        fix = "give a config.yaml of the fixed-point study; a recipe is trained with `pocketseg train`"
        raise RecipeError(where, f"has no mapping {SECTION}", fix)
    found = from_fixed_point(values)
    for note in found.notes:
        log.warning("%s: %s", where, note)
    home = Path(found.folder or "runs") / found.name
    if data is None and found.mode != "visualize":
        raise RecipeError(f"operation_mode {found.mode}", "needs images and masks", "add --data FOLDER")
    if resume and found.mode not in ("normal", "retrain"):
        raise RecipeError("--resume", f"is for trainings, and operation_mode is {found.mode}", "leave it out")
    log.info("operation_mode is %s", found.mode)
    match found.mode:
        case "inference":
            assert data is not None
            return RunResult(found.mode, _evaluated(found, data, home, out, overrides, device))
        case "visualize":
            return RunResult(found.mode, _drawn(found, data, home, out, overrides, device))
        case _:
            assert data is not None
            result = train(found.values, data, out or home, overrides=overrides, resume=resume, device=device)
            return RunResult(found.mode, result.run)


def _model(found: Converted, home: Path) -> Path:
    """The file's trained model, or the run that `normal` left.

    Raises:
        RecipeError: neither is there.
    """
    if found.weights is not None and Path(found.weights).exists():
        return Path(found.weights)
    if not RunFolder(home).manifest_file.is_file():
        what = f"is {found.weights or 'not given'}, and neither that nor a run in {home} is there"
        raise RecipeError(f"{SECTION}.trained_model", what, "correct it, or run with operation_mode: normal first")
    if found.weights is not None:
        log.warning("trained_model %s is not there; the model is that of the run %s", found.weights, home)
    return home


def _evaluated(
    found: Converted, data: str | Path, home: Path, out: str | Path | None, overrides: Sequence[str], device: str
) -> Path:
    """The folder of the scores."""
    model = _model(found, home)
    if _is_foreign(model):
        return _made(found, model, data, out or home, overrides, device)
    return evaluate(model, data, out=out, overrides=overrides).out


def _drawn(
    found: Converted,
    data: str | Path | None,
    home: Path,
    out: str | Path | None,
    overrides: Sequence[str],
    device: str,
) -> Path:
    """The PDF with the weights."""
    model, pdf = _model(found, home), Path(out) if out is not None else home.parent / f"{found.name}.pdf"
    if _is_foreign(model):
        model = _made(found, model, data, home, overrides, device)
    elif overrides:
        raise RecipeError(f"--set {overrides[0]}", "changes nothing of a model that is made", "leave it out")
    make_folder(pdf.parent)
    return draw_weights(model, pdf)


def _made(
    found: Converted, weights: Path, data: str | Path | None, out: str | Path, overrides: Sequence[str], device: str
) -> Path:
    """A run of no epochs, made of a state dict of the study.

    Raises:
        RecipeError: it is to be quantized, and there is no data to take the ranges of activations from.
    """
    (stage,) = found.values["stages"]
    stage = {**stage, "init": start_from(str(weights)), "epochs": 0}
    if data is not None:
        return train({**found.values, "stages": [stage]}, data, out, overrides=overrides, device=device).run
    if "quant" in stage:
        what = "is quantized with ranges of activations, which a state dict does not have"
        raise RecipeError(str(weights), what, "add --data FOLDER, from which they are taken")
    return import_weights(weights, out, recipe={**found.values, "stages": [stage]}, overrides=overrides).run


def _is_foreign(model: Path) -> bool:
    return model.suffix.lower() in FOREIGN_WEIGHTS
