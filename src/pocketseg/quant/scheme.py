"""Schemes: which layers of a net are quantized, and how, read from a few words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

from pocketseg.errors import Problem, RecipeError
from pocketseg.quant.binary import Binary
from pocketseg.quant.codes import Pair, Spec
from pocketseg.quant.kinds import QUANTIZERS
from pocketseg.quant.ternary import Ternary
from pocketseg.quant.uniform import Int, Rule

KINDS = ("first", "last", "conv", "depthwise", "pointwise")
SHORT = "w8a8", "w4a8", "w2a8", "wint2a8", "w1a1", "w4"


FLOAT = Pair(None, None)


@dataclass(frozen=True)
class Scheme:
    """What to quantize in a net, and how.

    Attributes:
        text: `wNaM` with N and M bits (w1: sign with a scale a channel, w2: ternary, wint2: uniform two bits; a1: sign;
            `wN` alone leaves activations in f32), or the words of a kind (`Spec.of_words`): `fixed Qi.f/Qi.f` and
            `power-of-two Qi.f/Qi.f` (weights/activations), `residual wNaM` (planes).
        keep: layers that stay in f32: `first`, `last`, a kind (`conv`, `depthwise`, `pointwise`), or a pattern of
            names (`encoder.0*`). None: no layer, but the first and the last one get 8 bits where the scheme has fewer.
        layers: other schemes for some layers, by the same words; the last that fits counts.
        rule: how integer scales of activations are found: min-max, percentile, mse, learned.
        weight_rule: the same for weights.
        binarize_depthwise: a binarizer between depthwise and pointwise, where activations are planes of ±1: the form
            that runs on bits. Without it, what is between them stays real, as published.
        start: of residual gammas: `data`, or `source` as published.
        activation: `ternary-tanh` puts a smooth step to −1, 0 and 1 in the place of every ReLU.
        gradient: of what is quantized: as its `kind` says, or the `identity`.
        constants: of the integer net: f32, or f16, rounded so that a packed file holds them in 16 bits.
    """

    text: str
    keep: tuple[str, ...] | None = None
    layers: Mapping[str, str] = field(default_factory=dict)
    rule: Rule = "min-max"
    weight_rule: Rule = "min-max"
    binarize_depthwise: bool = False
    start: Literal["data", "source"] = "data"
    activation: Literal["relu", "ternary-tanh"] = "relu"
    gradient: Literal["kind", "identity"] = "kind"
    constants: Literal["f32", "f16"] = "f32"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Scheme:
        """From the `quant` section of a recipe.

        Raises:
            RecipeError: no such scheme.
        """
        known = {key: value for key, value in options.items() if key in cls.__dataclass_fields__ and value is not None}
        if isinstance(known.get("keep"), Sequence):
            known["keep"] = tuple(known["keep"])
        scheme = cls(text=options["scheme"], **known)
        for text in (scheme.text, *(text for text in scheme.layers.values() if text != "float")):
            scheme.parsed(text)
        return scheme

    def pair(self, words: Sequence[str]) -> Pair:
        """How a layer is quantized that goes by these words: its name and its kinds."""
        found = self.parsed(self.text)
        if self.keep is None and fits(words, "first", "last") and found.weights and found.weights.bits < 8:
            found = self.parsed("w8a8" if found.inputs else "w8")
        if self.keep and fits(words, *self.keep):
            found = FLOAT
        for word, text in self.layers.items():
            if fits(words, word):
                found = FLOAT if text == "float" else self.parsed(text)
        if is_bits(found.inputs) and ("first" in words or ("after depthwise" in words and not self.binarize_depthwise)):
            # An image is not a sum of signs, and the published layers leave real what is between the two convolutions.
            found = replace(found, inputs=None)
        return found

    def parsed(self, text: str) -> Pair:
        if match := re.fullmatch(r"w(int)?(\d+)(?:a(\d+))?", text):
            integer, bits, activations = match.groups()
            return Pair(self._weights(text, int(bits), bool(integer)), self._inputs(text, activations))
        for kind in QUANTIZERS.values():
            if pair := kind.of_words(text, vars(self)):
                return pair
        raise RecipeError("quant.scheme", f"{text!r} is not a scheme", examples())

    def _weights(self, text: str, bits: int, integer: bool) -> Spec | None:
        if bits == 32:
            return None
        if bits == 1:
            return Binary(scale="mean", axis=0)
        if bits == 2 and not integer:
            return Ternary(axis=0)
        return self._int(text, bits, affine=False, axis=0, rule=self.weight_rule)

    def _inputs(self, text: str, bits: str | None) -> Spec | None:
        if bits is None or bits == "32":
            return None
        return Binary() if bits == "1" else self._int(text, int(bits), affine=True, axis=None, rule=self.rule)

    @staticmethod
    def _int(text: str, bits: int, *, affine: bool, axis: int | None, rule: Rule) -> Spec:
        try:
            return Int(bits, affine=affine, axis=axis, rule=rule)
        except RecipeError as error:
            raise RecipeError("quant.scheme", f"{text!r}: {error.problems[0].what}", examples()) from None


def examples() -> str:
    """Words of a scheme, some for every kind, as a hint."""
    return f"for example {', '.join([*SHORT, *(kind.words for kind in QUANTIZERS.values() if kind.words)])}"


def check_quant(quant: Mapping[str, Any], where: str) -> list[Problem]:
    """What is wrong with the schemes of a recipe's `quant`, whose types the recipe itself checks."""
    texts = [quant.get("scheme"), *(layers.values() if isinstance(layers := quant.get("layers"), Mapping) else ())]
    problems = []
    for text in texts:
        if isinstance(text, str) and text != "float":
            try:
                Scheme(text).parsed(text)
            except RecipeError as error:
                problems += [replace(problem, where=f"{where}.scheme") for problem in error.problems]
    return problems


def is_bits(spec: Spec | None) -> bool:
    """Whether values are sums of signs, which have both signs and so take the place of a ReLU."""
    return spec is not None and spec.encoding == "signs"


def fits(words: Sequence[str], *patterns: str) -> bool:
    """Whether one of a layer's words has one of the patterns."""
    return any(fnmatchcase(word, pattern) for word in words for pattern in patterns)
