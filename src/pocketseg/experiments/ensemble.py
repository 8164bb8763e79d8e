"""What the folds of a run make together: their ensemble, evaluated on the cases that no fold has seen."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pocketseg.data import Cases, Split
from pocketseg.evaluation import Summary, asking, score_cases, summarize, write_scores, write_summaries
from pocketseg.files import make_folder
from pocketseg.predictors import Ensemble
from pocketseg.runs.folder import RunFolder
from pocketseg.runs.opening import metric_config
from pocketseg.runs.results import fixed_test_spread
from pocketseg.runs.source import ModelSource
from pocketseg.text import counted, number

log = logging.getLogger("pocketseg")

PART = "fixed_test"


def evaluate_ensemble(
    run: RunFolder, cases: Cases, device: str, progress: Callable[[int, int], None] | None = None
) -> list[Summary]:
    """Evaluate all folds together in f32, once the last of them is trained; nothing where no case is kept apart.

    Args:
        run: whose folds are evaluated.
        cases: its data.
        device: that runs the nets.
        progress: called with (done, of).
    """
    recipe, split = run.recipe(), Split.read(run.split_file)
    folds = run.evaluated()
    if not split.fixed_test or "test" not in recipe.evaluate.parts or len(folds) < len(split.folds):
        return []
    from pocketseg.training.device import torch_device
    from pocketseg.training.model import Model

    files = [ModelSource.of_run(run, fold).trained() for fold in folds]
    members = [Model.load(file).predictor(torch_device(device)) for file in files]
    together = Ensemble.of(members, [str(file) for file in files])
    config = metric_config(recipe.evaluate)
    chosen = cases.named(split.fixed_test)
    rows = score_cases(cases, chosen, asking(together), together.pipeline.classes, progress, config)
    make_folder(run.ensemble)
    write_scores(rows, run.ensemble_scores_file)
    summaries = summarize(rows, PART)
    write_summaries(summaries, run.ensemble_summary_file)
    for one in summaries:
        if found := fixed_test_spread(run, one.class_name):
            log.info(
                "fixed test, %s, %s: mean Dice of the nets of %s %s (standard deviation %s), of their ensemble %s",
                one.class_name, counted(one.cases, "case"), counted(found.seeds, "fold"), number(found.mean),
                number(found.standard_deviation), number(one.dice),
            )  # fmt: skip
    return summaries
