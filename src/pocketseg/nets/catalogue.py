"""The catalogue of nets: names, options checked against the functions that build them, building by seed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from torch import nn

from pocketseg.errors import Problem, RecipeError, near
from pocketseg.nets.blocks import AnySize, UNet
from pocketseg.nets.thin_unet import thin_unet
from pocketseg.nets.unet import unet

NETS: dict[str, Callable[..., UNet]] = {"thin_unet": thin_unet, "unet": unet}

# What the numbers of any net may be; a net with 4096 channels or 12 poolings is a slip of the pen.
LIMITS = {"width": (1, 4096), "output_width": (1, 4096), "blocks": (1, 10), "levels": (1, 10)}


@cache
def _options(arch: str) -> type[BaseModel]:
    """A model of the net's keyword options, read from its signature."""
    function = NETS[arch]
    hints = get_type_hints(function)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            low, high = LIMITS.get(name, (None, None))
            fields[name] = (
                Annotated[hints[name], Field(ge=low, le=high)] if low else hints[name],
                parameter.default,
            )
    return create_model(arch, __config__=ConfigDict(extra="forbid", strict=True), **fields)


def check_net(net: Mapping[str, Any], where: str) -> list[Problem]:
    """Everything wrong with `{arch: NAME, option: value, …}`; `where` is its key in the recipe."""
    options = dict(net)
    arch = options.pop("arch", None)
    if arch is None:
        return []  # the recipe itself says that it is missing
    if arch not in NETS:
        return [Problem(f"{where}.arch", f"there is no net {arch!r}", near(str(arch), NETS))]
    try:
        _options(arch)(**options)
    except ValidationError as error:
        return [_problem(fault, arch, where) for fault in error.errors()]
    return []


def _problem(fault: Any, arch: str, where: str) -> Problem:
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return Problem(f"{where}.{name}", f"is no option of {arch}", near(name, _options(arch).model_fields))
    return Problem(f"{where}.{name}", f"{fault['msg'].lower()} (given: {fault['input']!r})")


def build(arch: str, in_channels: int, out_channels: int, *, seed: int = 0, **options: Any) -> AnySize:
    """A net with freshly drawn weights; the same seed gives the same weights, whatever was drawn before.

    Args:
        arch: name in the catalogue.
        in_channels: image channels.
        out_channels: 1 for one class, classes + 1 for several.
        seed: of the initial weights.
        options: the net's own.

    Raises:
        RecipeError: no such net or option.
    """
    problems = check_net({"arch": arch, **options}, "net")
    if problems:
        raise RecipeError.of(problems)
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator only; torch.manual_seed would reseed every GPU as well, outside of the fork.
        torch.default_generator.manual_seed(seed)
        net = NETS[arch](in_channels, out_channels, **options)
        net.apply(_initialise)
    return AnySize(net)


def _initialise(module: nn.Module) -> None:
    """He-normal kernels and zero biases (He et al. 2015)."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def parameter_count(net: nn.Module) -> int:
    """Trainable numbers; running statistics of norms are not among them."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
