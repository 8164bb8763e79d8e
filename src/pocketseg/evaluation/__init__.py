"""Cases and predictors to tables."""

from pocketseg.evaluation.choose import choose_rules
from pocketseg.evaluation.compare import Comparison, compare_scores, compare_seeds
from pocketseg.evaluation.limits import choose_presence, evidence_in, evidence_of
from pocketseg.evaluation.measures import METRICS, MetricConfig
from pocketseg.evaluation.scores import (
    CaseScore,
    MetricSummary,
    Prediction,
    Respond,
    Summary,
    asking,
    class_means,
    metric_means,
    read_scores,
    read_summaries,
    score_case,
    score_cases,
    scores_in,
    summarize,
    write_scores,
    write_summaries,
    write_table,
)
from pocketseg.evaluation.strata import by_group, by_size, free_response_table, object_table

__all__ = [
    "METRICS",
    "CaseScore",
    "Comparison",
    "MetricConfig",
    "MetricSummary",
    "Prediction",
    "Respond",
    "Summary",
    "asking",
    "by_group",
    "by_size",
    "choose_presence",
    "choose_rules",
    "class_means",
    "compare_scores",
    "compare_seeds",
    "evidence_in",
    "evidence_of",
    "free_response_table",
    "metric_means",
    "object_table",
    "read_scores",
    "read_summaries",
    "score_case",
    "score_cases",
    "scores_in",
    "summarize",
    "write_scores",
    "write_summaries",
    "write_table",
]
