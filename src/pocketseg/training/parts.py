"""Parts of a net by patterns of names: which are frozen, for how long, and which learn at another rate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from pocketseg.errors import RecipeError, near
from pocketseg.training.hints import fits_name


def fitting_layers(core: nn.Module, pattern: str, key: str) -> list[nn.Module]:
    """Layers whose names have a pattern; `key` is the recipe's, for the error.

    Raises:
        RecipeError: there are none.
    """
    found = [module for name, module in core.named_modules() if name and fits_name(name, pattern)]
    if not found:
        names = [name for name, _ in core.named_modules() if name]
        raise RecipeError(key, f"{pattern!r} fits no layer", near(pattern, names))
    return found


def frozen_layers(core: nn.Module, patterns: Iterable[str]) -> list[nn.Module]:
    """Layers that the patterns of `freeze` fit; what is inside of them is meant too.

    Raises:
        RecipeError: a pattern fits nothing, or nothing is left to train.
    """
    found = [layer for pattern in patterns for layer in fitting_layers(core, pattern, "freeze")]
    held = {id(parameter) for module in found for parameter in module.parameters()}
    if found and all(id(parameter) in held for parameter in core.parameters()):
        raise RecipeError("freeze", "leaves nothing to train", "freeze fewer layers")
    return found


def rate_scales(core: nn.Module, lr_scale: Mapping[str, float]) -> dict[int, float]:
    """id of a parameter -> factor of its learning rate; those that no pattern fits are left out.

    Raises:
        RecipeError: a pattern fits nothing.
    """
    found: dict[int, float] = {}
    for pattern, factor in lr_scale.items():
        for layer in fitting_layers(core, pattern, "optimizer.lr_scale"):
            for parameter in layer.parameters():
                found.setdefault(id(parameter), factor)
    return found


@dataclass(frozen=True)
class Frozen:
    """A layer that is not trained for some epochs, or never where `epochs` is None."""

    layer: nn.Module
    epochs: int | None
    trainable: list[nn.Parameter]

    def held(self, epoch: int) -> bool:
        """Whether it is frozen in an epoch, counted from 0."""
        return self.epochs is None or epoch < self.epochs


def freeze(core: nn.Module, patterns: Sequence[str] | Mapping[str, int]) -> list[Frozen]:
    """Freeze layers for good, and note those that are trained later."""
    frozen_layers(core, patterns)
    found = [
        Frozen(layer, patterns[pattern] if isinstance(patterns, Mapping) else None, _trainable(layer))
        for pattern in patterns
        for layer in fitting_layers(core, pattern, "freeze")
    ]
    for each in found:
        if each.epochs is None:
            each.layer.requires_grad_(False)
    return found


def _trainable(layer: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


def hold(frozen: Sequence[Frozen], epoch: int) -> None:
    """Freeze what is frozen in an epoch, in a net that trains, and let go of the rest; a layer held twice stays."""
    for each in frozen:
        if not each.held(epoch):
            for parameter in each.trainable:
                parameter.requires_grad_(True)
    for each in frozen:
        if each.held(epoch):
            each.layer.requires_grad_(False)
            each.layer.eval()
