"""The kinds of quantizers there are. A new one is a file with its `Spec`, and a line here."""

from __future__ import annotations

from pocketseg.quant.binary import Binary, ResidualBinary
from pocketseg.quant.codes import Spec
from pocketseg.quant.fixed import Fixed, PowerOfTwo
from pocketseg.quant.published import PublishedFixed, PublishedInt, PublishedPowers, PublishedSign
from pocketseg.quant.ternary import Ternary
from pocketseg.quant.uniform import Int

QUANTIZERS: dict[str, type[Spec]] = {
    "int": Int,
    "fixed": Fixed,
    "power_of_two": PowerOfTwo,
    "ternary": Ternary,
    "binary": Binary,
    "residual_binary": ResidualBinary,
    "compat_int": PublishedInt,
    "compat_fixed": PublishedFixed,
    "compat_powers": PublishedPowers,
    "compat_bnn": PublishedSign,
}
