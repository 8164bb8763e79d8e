"""Quantizing a net: in place for training, calibrated on a few batches, and as integers for evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from pocketseg.errors import ModelFileError, RecipeError
from pocketseg.halves import rounded
from pocketseg.quant.layers import Affine, IntegerConv2d, QuantConv2d, factors
from pocketseg.quant.quantizer import Quantizer
from pocketseg.quant.scheme import KINDS, Scheme, fits, is_bits
from pocketseg.quant.ternary import TernaryTanhActivation


class _Tracer(fx.Tracer):
    """Our layers are leaves, as torch's are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, QuantConv2d | IntegerConv2d | Affine | TernaryTanhActivation) or super().is_leaf_module(
            m, module_qualified_name
        )


def graph_of(core: nn.Module) -> fx.Graph:
    """The net's operations in the order they run; quantized layers are single nodes."""
    try:
        return _Tracer().trace(core)
    except RecipeError:
        raise
    except Exception as error:  # whatever a foreign forward raises for what stands for a tensor
        what = f"cannot be traced ({str(error).splitlines()[0]})"
        fix = "write its forward without conditions on the values of tensors"
        raise ModelFileError(type(core).__name__, what, fix) from error


def convolutions(core: nn.Module) -> Iterator[tuple[str, nn.Conv2d, tuple[str, ...]]]:
    """Name, layer and words of every convolution in the order they run.

    The words are its name, `first` or `last`, and its kind: `depthwise`, `pointwise` (`after depthwise`), `conv`.
    """
    graph = graph_of(core)
    layers = {
        node: core.get_submodule(str(node.target))
        for node in graph.nodes
        if node.op == "call_module" and isinstance(core.get_submodule(str(node.target)), nn.Conv2d)
    }
    for index, (node, layer) in enumerate(layers.items()):
        assert isinstance(layer, nn.Conv2d)
        words = [str(node.target)]
        words += ["first"] * (index == 0) + ["last"] * (index == len(layers) - 1)
        if _is_depthwise(layer):
            words.append("depthwise")
        elif layer.kernel_size == (1, 1):
            words.append("pointwise")
            before = layers.get(node.args[0])
            words += ["after depthwise"] * (isinstance(before, nn.Conv2d) and _is_depthwise(before))
        else:
            words.append("conv")
        yield str(node.target), layer, tuple(words)


def _is_depthwise(layer: nn.Conv2d) -> bool:
    return layer.groups == layer.in_channels > 1


def quantize_net(core: nn.Module, scheme: Scheme) -> None:
    """Put the scheme's quantizers into a net, in place; its weights stay.

    Where activations are signs, every ReLU and ReLU6 becomes a clip to [−1, 1], whose sign is that of its input.

    Raises:
        RecipeError: a pattern of `keep` or `layers` fits no layer, or nothing is left to quantize.
    """
    layers = list(convolutions(core))
    for pattern in (*(scheme.keep or ()), *scheme.layers):
        if not any(fits(words, pattern) for _, _, words in layers):
            key = "layers" if pattern in scheme.layers else "keep"
            kinds = [kind for kind in KINDS if any(kind in words for _, _, words in layers)]
            known = f"this net has {', '.join(kinds)}, and layers such as {layers[1][0]}"
            raise RecipeError(f"quant.{key}", f"{pattern!r} fits no layer", f"{known}; * stands for anything")
    found = [(name, layer, scheme.pair(words)) for name, layer, words in layers]
    chosen = [(name, layer, pair) for name, layer, pair in found if pair.weights or pair.inputs]
    if not chosen:
        raise RecipeError("quant.keep", "leaves no layer to quantize", "keep fewer layers in f32")
    quantized = partial(QuantConv2d, identity=scheme.gradient == "identity")
    for name, layer, pair in chosen:
        core.set_submodule(name, quantized(layer, pair.weights, pair.inputs).train(layer.training))
    if scheme.activation == "ternary-tanh":
        _replace_relu(core, TernaryTanhActivation)
    elif any(is_bits(pair.inputs) for _, _, pair in chosen):
        _replace_relu(core, partial(nn.Hardtanh, inplace=True))


def _replace_relu(core: nn.Module, make: Callable[[], nn.Module]) -> None:
    for name, module in list(core.named_modules()):
        if isinstance(module, nn.ReLU | nn.ReLU6):
            core.set_submodule(name, make())


def quantizers(core: nn.Module) -> dict[str, Quantizer]:
    return {name: module for name, module in core.named_modules() if isinstance(module, Quantizer)}


def latent_weights(core: nn.Module) -> dict[str, Tensor]:
    """The state of the float net that is inside of a quantized one."""
    added = [name for name, module in core.named_modules() if isinstance(module, Quantizer | TernaryTanhActivation)]
    grids = tuple(f"{name}." for name in added)
    return {name: value for name, value in core.state_dict().items() if not name.startswith(grids)}


def calibrate(core: nn.Module, batches: Iterable[Tensor]) -> None:
    """Let the quantizers see some batches; weights and norms do not change."""
    training = core.training
    core.eval()
    for quantizer in quantizers(core).values():
        quantizer.train()
    with torch.no_grad():
        for batch in batches:
            core(batch)
    core.train(training)


def integer_net(core: nn.Module, constants: Literal["f32", "f16"] = "f32") -> nn.Module:
    """A copy of a trained quantized net that computes on integers: what is evaluated, stored and deployed.

    A norm right behind a quantized convolution is folded into its factor and offset, never into its codes; other norms
    become `Affine`. Layers that stay in f32 are left as they are. With `constants` f16 what stands behind the sums is
    rounded to what 16 bits hold.
    """
    whole = copy.deepcopy(core).eval()
    graph = graph_of(whole)
    modules: dict[str, nn.Module] = dict(whole.named_modules())
    folded: set[str] = set()
    for node in list(graph.nodes):
        if node.op != "call_module":
            continue
        layer = modules[str(node.target)]
        if not isinstance(layer, QuantConv2d) or layer.weights is None:
            continue
        norm = _only_user(node, modules)
        if isinstance(norm, nn.BatchNorm2d):
            (user,) = node.users
            folded.add(str(user.target))
            whole.set_submodule(str(node.target), IntegerConv2d(layer, *factors(norm)))
            whole.set_submodule(str(user.target), nn.Identity())
        else:
            whole.set_submodule(str(node.target), IntegerConv2d(layer))
    for name, module in modules.items():
        if isinstance(module, nn.BatchNorm2d) and name not in folded:
            whole.set_submodule(name, Affine(module))
    if constants == "f16":
        for layer in whole.modules():
            for values in _constants(layer):
                values.copy_(torch.from_numpy(rounded(values.cpu().numpy())))
    return whole.requires_grad_(False)


def _constants(layer: nn.Module) -> tuple[Tensor, ...]:
    match layer:
        case IntegerConv2d():
            return layer.m, layer.b
        case Affine():
            return layer.a, layer.c
    return ()


def _only_user(node: fx.Node, modules: dict[str, nn.Module]) -> Any:
    users = list(node.users)
    return modules.get(str(users[0].target)) if len(users) == 1 and users[0].op == "call_module" else None


def integer_skeleton(core: nn.Module, scheme: Scheme) -> nn.Module:
    """The integer net of a scheme before any data: its layers are as they will be, their numbers mean nothing yet."""
    core = copy.deepcopy(core)
    quantize_net(core, scheme)
    for quantizer in quantizers(core).values():
        if quantizer.held:
            quantizer.started.fill_(True)
    return integer_net(core, scheme.constants)
