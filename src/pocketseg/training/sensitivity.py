"""Post-training quantization: which layers lose most, and which of them go back to f32."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from pocketseg.data import Case, Cases
from pocketseg.metrics import class_overlaps, with_empty
from pocketseg.pipeline.postprocess import threshold_or_argmax
from pocketseg.quant.apply import convolutions
from pocketseg.tables import csv_text
from pocketseg.training.model import Model


def mean_dice(model: Model, cases: Cases, chosen: Sequence[Case]) -> float:
    """Mean Dice over cases and classes at threshold 0.5 on the images' own grids; an empty mask left empty counts 1."""
    predictor = model.predictor()
    found = []
    for case in chosen:
        probability, reference = predictor.predict(cases.image(case), case.spacing_mm), cases.mask(case)
        mask = threshold_or_argmax(probability, 0.5, multilabel=model.pipeline.multilabel)
        found += [with_empty(each.dice) for each in class_overlaps(mask, reference, probability.shape[2])]
    return float(np.mean(found))


def spare_layers(
    model: Model, options: Mapping[str, Any], batches: Sequence[Tensor], cases: Cases, chosen: Sequence[Case]
) -> tuple[dict[str, Any], str]:
    """Leave in f32 the layers whose quantization costs most, until no more than `max_drop` of the Dice is lost.

    Every layer is quantized by itself first, on a copy; the loss of Dice on the chosen cases is its sensitivity. Then
    all are quantized, and the most sensitive ones go back, one after the other.

    Args:
        model: in f32; is not changed.
        options: of the quantization, with `max_drop`.
        batches: for calibration.
        cases: the data set.
        chosen: its validation part.

    Returns:
        The options with the spared layers, and a table (CSV) of sensitivities and of the way to the result.
    """
    names = [name for name, _, _ in convolutions(model.net.core)]
    exact = mean_dice(model, cases, chosen)

    def dice(layers: Mapping[str, str]) -> float:
        tried = copy.deepcopy(model)
        tried.quantize({**options, "layers": {**options["layers"], **layers}}, batches)
        return mean_dice(tried, cases, chosen)

    alone = {name: exact - dice(dict.fromkeys((other for other in names if other != name), "float")) for name in names}
    ranked = sorted(names, key=lambda name: -alone[name])
    spared: dict[str, str] = {}
    way = [(0, "", dice(spared))]
    while exact - way[-1][2] > options["max_drop"] and len(spared) < len(names) - 1:
        name = ranked[len(spared)]
        spared[name] = "float"
        way.append((len(spared), name, dice(spared)))
    table = csv_text(
        [
            ["layer", "dice_lost_alone", "spared"],
            *([name, f"{alone[name]:.6f}", "yes" if name in spared else ""] for name in ranked),
            ["", "", ""],
            ["layers_spared", "last", "dice"],
            ["all in f32", "", f"{exact:.6f}"],
            *([count, name, f"{value:.6f}"] for count, name, value in way),
        ]
    )
    return {**options, "layers": {**options["layers"], **spared}}, table
