"""The three encodings in which codes of weights are stored, in packed checkpoints and in files of the engine alike."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pocketseg.quant.codes import Spec
from pocketseg.quant.fixed import exponents, from_exponents
from pocketseg.quant.packing import pack, pack_planes, unpack, unpack_planes


def packed_codes(spec: Spec, codes: Tensor) -> NDArray[np.uint8]:
    """Codes (planes, …) as uint8 (planes, bytes), in as few bits as their quantizer needs.

    Example:
        >>> from pocketseg.quant.uniform import Int
        >>> packed_codes(Int(4), torch.tensor([[1, -1, 7]]))
        array([[241,   7]], dtype=uint8)
    """
    codes = codes.cpu().int().contiguous()
    match spec.encoding:
        case "integers":
            return pack(codes[0].numpy(), spec.bits, signed=True)[None]
        case "powers":
            return pack(exponents(codes[0]).numpy(), spec.bits, signed=True)[None]
        case "signs":
            return pack_planes(codes.numpy())


def unpacked_codes(spec: Spec, packed: NDArray[np.uint8], like: Tensor) -> Tensor:
    """The inverse of `packed_codes`, in the shape and type of `like`; bytes of any shape.

    Raises:
        ModelFileError: another number of bytes than the codes need, or bits set after the last code.
    """
    count = like[0].numel()
    match spec.encoding:
        case "integers":
            codes = torch.from_numpy(unpack(packed.reshape(-1), spec.bits, count, signed=True))
        case "powers":
            codes = from_exponents(torch.from_numpy(unpack(packed.reshape(-1), spec.bits, count, signed=True)))
        case "signs":
            codes = torch.from_numpy(unpack_planes(packed.reshape(len(like), -1), count))
    return codes.reshape(like.shape).to(like.dtype)
