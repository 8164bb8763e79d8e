"""What a recipe's sections mean for a data set: how it is opened, split, and measured."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from pocketseg.data import Cases, CasesOptions, Grouping, MaskCoding, Only, Split, given, holdout, kfold
from pocketseg.data.groups import tied
from pocketseg.data.split import has_parts
from pocketseg.errors import DataError, Problem, RunError
from pocketseg.evaluation import MetricConfig
from pocketseg.files import resolved
from pocketseg.pipeline import Pipeline, Reading
from pocketseg.recipes.schema import DataSection, EvaluateSection, SplitSection
from pocketseg.runs.folder import RunFolder

log = logging.getLogger("pocketseg")


def open_cases(path: str | Path, section: DataSection) -> Cases:
    """The data set at a path, read as a recipe's data section says."""
    return Cases.open(path, section.layout, **cases_options(section))


def cases_options(section: DataSection) -> CasesOptions:
    """How a recipe's data section says that data is opened."""
    coding = mask_coding(section)
    grouping = Grouping(section.group_csv, section.group_column, section.group_regex, section.group_folder)
    chosen = (None if value is None else tuple(value) for value in section.only.model_dump().values())
    return {
        "images": section.images,
        "masks": section.masks,
        "coding": coding,
        "names": () if section.mask.by_folder else tuple(section.classes),
        "grouping": grouping,
        "reading": reading_of(section),
        "raters": section.raters,
        "class_folders": tuple(section.classes) if section.mask.by_folder else (),
        "only": Only(*chosen),
        "follow_links": section.follow_links,
        "naming": section.mask.naming,
        "channels": None if section.channels == "auto" else section.channels,
    }


def run_around(path: Path) -> RunFolder | None:
    """The run that a path is, or lies in as a fold, a stage or a model does; None where there is none."""
    if RunFolder(path).recipe_file.exists():
        return RunFolder(path)
    above = map(RunFolder, list(resolved(path).parents)[:3])
    return next((run for run in above if run.recipe_file.exists() and run.manifest_file.exists()), None)


def mask_coding(section: DataSection) -> MaskCoding:
    """How stored mask values name classes, as a recipe's data section says."""
    values, colors = section.mask.values, section.mask.colors
    return MaskCoding(
        classes=1 if section.mask.by_folder else len(section.classes),
        values=None if values is None else tuple(values),
        invert=section.mask.invert,
        threshold=section.mask.threshold,
        colors=None if colors is None else tuple(colors),
        multilabel=section.multilabel,
        layers=None if section.mask.layers is None else tuple(map(tuple, section.mask.layers)),
    )


def grid_of(section: DataSection) -> Pipeline:
    """A pipeline that brings images to the net's grid as a recipe's data section says; else the default."""
    return Pipeline(size=section.size, fit=section.fit, spacing_mm=section.spacing_mm)


def make_split(
    rule: SplitSection,
    cases: Cases,
    duplicates: Sequence[Sequence[str]],
    file: str | Path | None = None,
    resumed: RunFolder | None = None,
) -> Split:
    """The split of the resumed run, a given one, the data's own parts, or one by the recipe's rule.

    A rule keeps equal images together. The data's own parts go before it, unless the recipe says `split.ignore_parts`.

    Raises:
        DataError: it does not fit the data.
        RunError: another split is given than that of the run.
    """
    if resumed is not None and resumed.split_file.exists():
        found = Split.read(resumed.split_file, cases)
        if file is not None and Split.read(Path(file), cases).folds != found.folds:
            what = f"differs from the split that {resumed.path} was begun with"
            raise RunError(str(file), what, "leave out --split, or begin a new run")
        return found
    if file is not None:
        return Split.read(Path(file), cases)
    if rule.kind == "kfold" and rule.test != SplitSection().test:
        what = f"is {rule.test:g} and for holdout; the folds of kfold hold out all cases, one after the other"
        log.warning("split.test: %s; --set split.fixed_test=%g keeps cases out of all folds", what, rule.test)
    if rule.kind == "given" or (has_parts(cases) and not rule.ignore_parts):
        return given(cases, validation=rule.validation, seed=rule.seed, contiguous=rule.contiguous)
    if len(cases) > 1 and len({case.group for case in cases}) == 1:
        said = [finding.problem for finding in cases.said if finding.code == "one-patient"]
        fix = "set data.group_regex or data.group_csv to tell patients apart"
        raise DataError.of(
            said or [Problem("split", f"all {len(cases)} cases are one group, which no rule divides", fix)]
        )
    deal = (
        partial(kfold, folds=rule.folds, fixed_test=rule.fixed_test)
        if rule.kind == "kfold"
        else partial(holdout, test=rule.test)
    )
    try:
        return deal(tied(cases, duplicates), validation=rule.validation, seed=rule.seed, contiguous=rule.contiguous)
    except DataError as error:
        if not duplicates:
            raise
        what = f"{sum(map(len, duplicates))} images show {len(duplicates)} different pictures; equal ones stay together"
        fix = "`pocketseg doctor DATA --fix OUT` keeps one of each"
        raise DataError.of([*error.problems, Problem("split", what, fix)]) from None


def metric_config(section: EvaluateSection) -> MetricConfig:
    """What a recipe's evaluate section wants measured; reported before anything is trained or predicted.

    Raises:
        RecipeError: a metric that is not known.
        EnvironmentProblem: one that needs SciPy, which is not installed.
    """
    config = MetricConfig(tuple(section.metrics), section.tolerance, section.lesion_iou)
    config.check_packages()
    return config


def reading_of(section: DataSection) -> Reading:
    """How volumes are cut into slices, as a recipe's data section says."""
    return Reading(section.axis, section.window, raw=section.range is not None)
