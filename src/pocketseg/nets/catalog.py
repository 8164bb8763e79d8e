"""The catalog of nets: names, options checked against the functions that build them, building by seed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Annotated, Any, get_type_hints

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from torch import nn

from pocketseg.errors import ModelFileError, Problem, RecipeError, near
from pocketseg.nets.blocks import AnySize, BlockOptions
from pocketseg.nets.cmunext import cmunext
from pocketseg.nets.encoder_unet import encoder_unet, mobile_unet
from pocketseg.nets.fixed_point_unet import fixed_point_unet
from pocketseg.nets.light_unet import light_unet, light_unet_baseline, lighter_unet
from pocketseg.nets.mk_unet import mk_unet
from pocketseg.nets.own import with_stride
from pocketseg.nets.simple_unet import simple_unet
from pocketseg.nets.thin_unet import thin_unet
from pocketseg.nets.tiny_unet import tiny_unet
from pocketseg.nets.unet import separable_unet, unet
from pocketseg.nets.xtiny_unet import xtiny_unet


@dataclass(frozen=True)
class Entry:
    """A net of the catalog: the function that builds it, and the options that make it this one.

    `own` are nets of a user's file, which know neither `BlockOptions` nor their stride.
    """

    function: Callable[..., nn.Module]
    options: Mapping[str, Any] = field(default_factory=dict)
    own: bool = False


# Keras' norms and start, and the dropout of Vaze et al. 2020. Keras' momentum of 0.99 is not among them: running
# variances forget their start at 1 after a thousand steps only, and a few hundred images do not make so many. It
# changes no weight that is learned.
_VAZE = {"norm": "block", "norm_eps": 1e-3, "init": "glorot", "input_dropout": 0.2, "deepest_dropout": 0.5}


def _thin(blocks: int) -> dict[str, Entry]:
    name, options = f"thin_unet_w32_n{blocks}", {**_VAZE, "blocks": blocks}
    separable = {**options, "conv": "separable"}
    return {
        name: Entry(thin_unet, options),
        f"{name}_separable": Entry(thin_unet, separable),
        f"{name}_student": Entry(thin_unet, {**separable, "extra_convs": 1}),
    }


NETS: dict[str, Entry] = {
    "thin_unet": Entry(thin_unet),
    **_thin(4),
    **_thin(5),
    **_thin(6),
    "thin_unet_w16_n6_separable": Entry(
        thin_unet, {**_VAZE, "width": 16, "blocks": 6, "conv": "separable", "output_width": 32}
    ),
    "unet": Entry(unet),
    "unet_vaze2020": Entry(unet, _VAZE),
    "unet_blu_net": Entry(unet, {"norm": "none"}),
    "separable_unet": Entry(separable_unet),
    "separable_unet_m2": Entry(separable_unet, {"multiplier": 2}),
    "light_unet_baseline": Entry(light_unet_baseline),
    "light_unet": Entry(light_unet),
    "lighter_unet": Entry(lighter_unet),
    **{f"lighter_unet_{2**n}": Entry(lighter_unet, {"group_channels": 2**n}) for n in range(11)},
    "light_unet_baseline_transposed": Entry(light_unet_baseline, {"up": "transposed"}),
    "light_unet_transposed": Entry(light_unet, {"up": "transposed"}),
    "lighter_unet_transposed": Entry(lighter_unet, {"up": "transposed"}),
    "fixed_point_unet": Entry(fixed_point_unet),
    "encoder_unet": Entry(encoder_unet),
    "resnet18_unet": Entry(encoder_unet, {"encoder_name": "resnet18"}),
    "resnet34_unet": Entry(encoder_unet, {"encoder_name": "resnet34"}),
    "resnet50_unet": Entry(encoder_unet, {"encoder_name": "resnet50"}),
    "densenet121_unet": Entry(encoder_unet, {"encoder_name": "densenet121"}),
    "efficientnet_lite0_unet": Entry(mobile_unet, {"encoder_name": "efficientnet_lite0", "width": 32}),
    "mobilenet_v1_025_unet": Entry(mobile_unet, {"encoder_blocks": 7}),
    "mobilenet_v1_050_unet": Entry(mobile_unet, {"encoder_name": "mobilenet_v1_050", "encoder_blocks": 7}),
    "mk_unet": Entry(mk_unet),
    "mk_unet_tiny": Entry(mk_unet, {"width": 4}),
    "tiny_unet": Entry(tiny_unet),
    "cmunext": Entry(cmunext),
    "simple_unet": Entry(simple_unet),
    "xtiny_unet": Entry(xtiny_unet),
}

# What the numbers of any net may be; a net with 4096 channels or 12 poolings is a slip of the pen.
LIMITS = {
    "width": (1, 4096),
    "output_width": (1, 4096),
    "blocks": (1, 10),
    "levels": (1, 10),
    "extra_convs": (0, 8),
    "encoder_blocks": (1, 16),
    "multiplier": (1, 8),
    "group_channels": (1, 4096),
    "norm_eps": (1e-8, 0.1),
    "norm_momentum": (1e-4, 1.0),
    "input_dropout": (0.0, 0.9),
    "block_dropout": (0.0, 0.9),
    "deepest_dropout": (0.0, 0.9),
}
# Nets whose layout ends sooner.
LEVELS = {encoder_unet: 5, mobile_unet: 5, mk_unet: 4, cmunext: 4}


def own_nets(file: str) -> list[str]:
    """Names of the nets that came from a file, given without its suffix."""
    return [name for name in NETS if name.startswith(f"{file}:")]


def add_own_nets(file: str, nets: Mapping[str, Entry]) -> None:
    """Put the nets of a file into the catalog, in place of those that it had before."""
    for name in own_nets(file):
        del NETS[name]
    NETS.update(nets)
    _options.cache_clear()


def default_options(arch: str) -> dict[str, Any]:
    """Every option of a net of the catalog with its value, the style's among them."""
    entry = NETS[arch]
    # The first two are the channels.
    own = {name: p.default for name, p in list(inspect.signature(entry.function).parameters.items())[2:]}
    if entry.own:
        return own
    style: BlockOptions = own.pop("style")
    return {**own, **{each.name: getattr(style, each.name) for each in fields(BlockOptions)}, **entry.options}


@cache
def _options(arch: str) -> type[BaseModel]:
    """A model of the net's options, read from its signature and the style."""
    entry = NETS[arch]
    function = entry.function
    given = inspect.signature(function, eval_str=True).parameters
    hints = {**get_type_hints(BlockOptions), **{name: each.annotation for name, each in given.items()}}
    known: dict[str, Any] = {}
    for name, default in default_options(arch).items():
        low, high = (None, None) if entry.own else LIMITS.get(name, (None, None))
        if name == "levels":
            high = LEVELS.get(function, high)
        known[name] = (hints[name] if low is None else Annotated[hints[name], Field(ge=low, le=high)], default)
    return create_model(arch, __config__=ConfigDict(extra="forbid", strict=True), **known)


def check_net(net: Mapping[str, Any], where: str) -> list[Problem]:
    """Everything wrong with `{arch: NAME, option: value, …}`; `where` is its key in the recipe."""
    options = dict(net)
    arch = options.pop("arch", None)
    if arch is None:
        return []  # the recipe itself says that it is missing
    try:
        _check_options(arch, options)
        # Numbers that are good one by one may not fit together, which the net itself says.
        with torch.device("meta"):
            _core(arch, 1, 1, options)
    except RecipeError as error:
        return [replace(problem, where=problem.where.replace("net", where, 1)) for problem in error.problems]
    return []


def _check_options(arch: str, options: Mapping[str, Any]) -> None:
    if arch not in NETS:
        raise RecipeError("net.arch", *_unknown(str(arch)))
    try:
        _options(arch)(**options)
    except ValidationError as error:
        raise RecipeError.of([_problem(fault, arch, "net") for fault in error.errors()]) from None


def _unknown(arch: str) -> tuple[str, str]:
    """What is wrong with the name of a net, and what to do."""
    file, colon, _ = arch.partition(":")
    if not colon:
        return f"there is no net {arch!r}", near(arch, NETS)
    if known := own_nets(file):
        return f"there is no net {arch!r}", near(arch, known)
    return f"{arch!r} is a net of a Python file", f"give the file with --allow-code {file}.py, if you trust it"


def _problem(fault: Any, arch: str, where: str) -> Problem:
    name = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return Problem(f"{where}.{name}", f"is not an option of {arch}", near(name, _options(arch).model_fields))
    return Problem(f"{where}.{name}", f"{fault['msg'].lower()} (given: {fault['input']!r})")


def build(arch: str, in_channels: int, out_channels: int, *, seed: int = 0, **options: Any) -> AnySize:
    """A net with freshly drawn weights; the same seed gives the same weights, whatever was drawn before.

    Args:
        arch: name in the catalog.
        in_channels: image channels.
        out_channels: 1 for one class, classes + 1 for several.
        seed: of the initial weights.
        options: the net's own, and those of `BlockOptions`.

    Raises:
        RecipeError: no such net or option.
    """
    _check_options(arch, options)
    with torch.random.fork_rng(devices=[]):
        # The CPU's generator only; torch.manual_seed would reseed every GPU as well, outside of the fork.
        torch.default_generator.manual_seed(seed)
        return AnySize(_core(arch, in_channels, out_channels, options))


def skeleton(arch: str, in_channels: int, out_channels: int, **options: Any) -> nn.Module:
    """The core of a net without its weights, for those who only want to know its layers: all tensors are on `meta`.

    Args and errors: as `build`.
    """
    _check_options(arch, options)
    with torch.device("meta"):
        return _core(arch, in_channels, out_channels, options)


def _core(arch: str, in_channels: int, out_channels: int, options: Mapping[str, Any]) -> nn.Module:
    entry = NETS[arch]
    given = {**entry.options, **options}
    if entry.own:
        return _own_core(arch, entry, in_channels, out_channels, given)
    default: BlockOptions = inspect.signature(entry.function).parameters["style"].default
    style = replace(default, **{each.name: given.pop(each.name) for each in fields(BlockOptions) if each.name in given})
    return entry.function(in_channels, out_channels, style=style, **given)


def _own_core(arch: str, entry: Entry, in_channels: int, out_channels: int, options: Mapping[str, Any]) -> nn.Module:
    try:
        return with_stride(entry.function(in_channels, out_channels, **options), in_channels, out_channels)
    except ModelFileError as error:
        raise RecipeError("net.arch", f"{arch} {error.problems[0].what}", error.problems[0].fix) from None
    except Exception as error:  # whatever the user's code raises
        what = f"{arch} cannot be built ({type(error).__name__}: {error})"
        raise RecipeError("net.arch", what, "correct its file, or its options") from error


def parameter_count(net: nn.Module) -> int:
    """Trainable numbers; running statistics of norms are not among them."""
    return sum(parameter.numel() for parameter in net.parameters() if parameter.requires_grad)
