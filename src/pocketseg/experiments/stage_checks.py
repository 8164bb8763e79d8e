"""What the rooms of nets and quantizers say of a recipe's stage before it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pocketseg.errors import Problem, RecipeError
from pocketseg.nets import check_net, skeleton
from pocketseg.quant import Scheme, check_quant, quantize_net
from pocketseg.training.parts import frozen_layers, rate_scales


def check_stage(stage: Mapping[str, Any], where: str) -> list[Problem]:
    """Everything wrong with a stage's net, its quantization and the layers it names; `where` is the stage's key."""
    net, quant = stage.get("net"), stage.get("quant")
    problems = check_net(net, f"{where}.net") if isinstance(net, Mapping) else []
    problems += check_quant(quant, f"{where}.quant") if isinstance(quant, Mapping) else []
    if problems or not isinstance(net, Mapping) or "arch" not in net:
        return problems
    try:
        core = skeleton(in_channels=1, out_channels=1, **net)
        frozen_layers(core, stage.get("freeze") or [])
        rate_scales(core, (stage.get("optimizer") or {}).get("lr_scale") or {})
        if isinstance(quant, Mapping):
            quantize_net(core, Scheme.of(quant))
    except RecipeError as error:
        return [replace(problem, where=f"{where}.{problem.where}") for problem in error.problems]
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # of a wrong type, which the recipe tells
    return []
