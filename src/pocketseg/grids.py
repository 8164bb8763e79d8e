"""Grids: what the codes of a tensor mean. Quantizers, the engine and ONNX all speak of them in these words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Uniform:
    """code = clip(rint(x · inverse_scale) + zero_point, lowest, highest), value = (code − zero_point) · scale.

    All numbers of scale are exact f32.
    """

    zero_point: int
    lowest: int
    highest: int
    scale: float
    inverse_scale: float


@dataclass(frozen=True)
class PowersOfTwo:
    """0 and ±2^k with k = −f … i − 1; the code is ±2^(k+f)."""

    i: int
    f: int


@dataclass(frozen=True)
class BinaryPlanes:
    """Planes of ±1: b₁ = sign(x), the rest x − γ₁·b₁ goes on; sign(0) = +1."""

    gammas: tuple[float, ...]


Quantization = Uniform | PowersOfTwo | BinaryPlanes
