"""Cases and predictors to tables."""

from pocketseg.evaluation.choose import choose_rules
from pocketseg.evaluation.scores import (
    CaseScore,
    Summary,
    read_scores,
    read_summaries,
    score_cases,
    summarize,
    write_scores,
    write_summaries,
)

__all__ = [
    "CaseScore",
    "Summary",
    "choose_rules",
    "read_scores",
    "read_summaries",
    "score_cases",
    "summarize",
    "write_scores",
    "write_summaries",
]
