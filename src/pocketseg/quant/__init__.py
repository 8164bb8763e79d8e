"""Quantizers: what a low-bit number is, how it is trained, and how it is packed. See docs/decisions/0006."""

from pocketseg.quant.apply import calibrate, integer_net, integer_skeleton, latent_weights, quantize_net
from pocketseg.quant.binary import Binary, ResidualBinary
from pocketseg.quant.codes import Codes, Pair, Planes, Spec, State
from pocketseg.quant.fixed import Fixed, PowerOfTwo
from pocketseg.quant.kinds import QUANTIZERS
from pocketseg.quant.quantizer import Quantizer
from pocketseg.quant.scheme import Scheme, check_quant
from pocketseg.quant.stored import PACKING, Storage, nominal, pack_net, storage, stored_bytes, unpack_net
from pocketseg.quant.ternary import Ternary, TernaryTanhActivation, ternary_beta, ternary_tanh
from pocketseg.quant.uniform import Int

__all__ = [
    "PACKING",
    "QUANTIZERS",
    "Binary",
    "Codes",
    "Fixed",
    "Int",
    "Pair",
    "Planes",
    "PowerOfTwo",
    "Quantizer",
    "ResidualBinary",
    "Scheme",
    "Spec",
    "State",
    "Storage",
    "Ternary",
    "TernaryTanhActivation",
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
