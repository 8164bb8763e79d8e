"""Quantisers: what a low-bit number is, how it is trained, and how it is packed. See docs/decisions/0006."""

from pocketseg.quant.apply import calibrate, integer_net, integer_skeleton, latent_weights, quantize_net
from pocketseg.quant.binary import Binary, ResidualBinary
from pocketseg.quant.codes import Codes, Planes, Spec, State
from pocketseg.quant.fixed import Fixed, PowerOfTwo
from pocketseg.quant.quantizer import Quantizer
from pocketseg.quant.scheme import Scheme, check_quant
from pocketseg.quant.stored import Storage, nominal, pack_net, storage, stored_bytes, unpack_net
from pocketseg.quant.ternary import Ternary, TernaryTanh, ternary_beta, ternary_tanh
from pocketseg.quant.uniform import Int

QUANTIZERS: dict[str, type[Spec]] = {
    "int": Int,
    "fixed": Fixed,
    "power_of_two": PowerOfTwo,
    "ternary": Ternary,
    "binary": Binary,
    "residual_binary": ResidualBinary,
}

__all__ = [
    "QUANTIZERS",
    "Binary",
    "Codes",
    "Fixed",
    "Int",
    "Planes",
    "PowerOfTwo",
    "Quantizer",
    "ResidualBinary",
    "Scheme",
    "Spec",
    "State",
    "Storage",
    "Ternary",
    "TernaryTanh",
    "calibrate",
    "check_quant",
    "integer_net",
    "integer_skeleton",
    "latent_weights",
    "nominal",
    "pack_net",
    "quantize_net",
    "storage",
    "stored_bytes",
    "ternary_beta",
    "ternary_tanh",
    "unpack_net",
]
