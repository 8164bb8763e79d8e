"""Several models as one: the mean of their probabilities."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg.errors import ModelFileError, Problem
from pocketseg.pipeline import Pipeline, Postprocess
from pocketseg.pipeline.geometry import Spacing
from pocketseg.predictors.base import NetPredictor, Segmenter
from pocketseg.text import counted

# What an image is and what comes out has to be the same for all. Each brings the image to its own grid and back.
SHARED = ("classes", "multilabel", "channels", "reading", "intensity_range")
RULES = ("keep", "fill_holes")


@dataclass(repr=False)
class Ensemble(Segmenter):
    """Models that segment an image each, on its own grid; their probabilities are averaged there.

    The numbers of the rules after that are the means of theirs (of `min_pixels` the median), since each chose them on
    other validation cases. An image takes the time of all of them.

    Attributes:
        members: the models.
        pipeline: of the first, with the common rules; `mask` uses nothing but these.
        name: how tables call it.
    """

    members: tuple[NetPredictor, ...]
    name: str = field(init=False)
    runtime: str = field(init=False)
    card: Mapping[str, Any] = field(init=False)
    pipeline: Pipeline = field(init=False)

    def __post_init__(self) -> None:
        first, count = self.members[0], len(self.members)
        self.name = f"ensemble of {count}"
        self.runtime = f"{counted(count, 'net')}, one after the other, {first.runtime}"
        self.card = _together([each.card for each in self.members])
        self.pipeline = replace(
            first.pipeline,
            postprocess=_common_rules(
                [each.pipeline.postprocess for each in self.members], len(first.pipeline.classes)
            ),
        )

    @classmethod
    def of(cls, members: Sequence[NetPredictor], names: Sequence[str]) -> Ensemble:
        """Models under these names, which errors tell.

        Raises:
            ModelFileError: they do not see the same images, or do not find the same classes.
        """
        problems = [
            Problem(name, f"has other {key} than {names[0]} ({theirs} and {ours})", "an ensemble needs the same")
            for each, name in zip(members[1:], names[1:], strict=True)
            for key, theirs, ours in _differences(members[0].pipeline, each.pipeline)
        ]
        if problems:
            raise ModelFileError.of(problems)
        return cls(tuple(members))

    def predict(self, image: Any, spacing_mm: Spacing | None = None) -> NDArray[np.float32]:
        total = self.members[0].predict(image, spacing_mm).astype(np.float64)
        for each in self.members[1:]:
            total += each.predict(image, spacing_mm)
        mean: NDArray[np.float32] = (total / len(self.members)).astype(np.float32)
        return mean


def _together(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Precision and parameters of all nets, as far as their files tell."""
    precisions = dict.fromkeys(str(card.get("precision", "unknown")) for card in cards)
    parameters = [card.get("parameters") for card in cards]
    known = [count for count in parameters if isinstance(count, int)]
    return {"precision": ", ".join(precisions)} | ({"parameters": sum(known)} if len(known) == len(cards) else {})


def _differences(ours: Pipeline, theirs: Pipeline) -> list[tuple[str, Any, Any]]:
    """Name and values of what has to be the same and is not."""
    found = [(key, getattr(theirs, key), getattr(ours, key)) for key in SHARED]
    found += [(f"rule {key}", getattr(theirs.postprocess, key), getattr(ours.postprocess, key)) for key in RULES]
    return [(key, theirs, ours) for key, theirs, ours in found if theirs != ours]


def _common_rules(rules: Sequence[Postprocess], classes: int) -> Postprocess:
    limits = [each.limits(classes) for each in rules]
    apart = any(each.thresholds for each in rules)
    return replace(
        rules[0],
        threshold=statistics.fmean(each.threshold for each in rules),
        min_peak=statistics.fmean(each.min_peak for each in rules),
        min_pixels=int(statistics.median(each.min_pixels for each in rules)),
        thresholds=tuple(map(statistics.fmean, zip(*limits, strict=True))) if apart else (),
        presence=_common_limits([each.presence for each in rules]),
    )


def _common_limits(limits: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """The mean of each class; who has no such rule has limits of 0."""
    count = max(map(len, limits))
    return tuple(map(statistics.fmean, zip(*(each or (0.0,) * count for each in limits), strict=True)))
