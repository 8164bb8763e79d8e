"""Whether a model computes on this machine what it computed where it was packed. No training image is needed.

Images come from a stated generator: s ← 1664525 · s + 1013904223 mod 2³², from the seed on, and each value, in C order,
is ⌊s / 2¹⁶⌋ / 2¹⁴ − 2, exact in f32. Nets on integers must give the same bytes, of which the file holds the SHA-256;
float nets the same numbers within a tolerance, of which it holds some.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketseg import notebook
from pocketseg.engine.container import AGAIN
from pocketseg.engine.session import Session
from pocketseg.errors import ModelFileError
from pocketseg.text import brief

Array = NDArray[np.float32]

SEED = 1
MIN_SIDE = 32
KEPT = 64
MAX_SIDE = 1024
# Of all generated images together: they are made one value after the other.
MAX_VALUES = 2**22
# Of the largest logit, or of 1 where that is smaller.
TOLERANCE = 1e-4


@dataclass(frozen=True, repr=False)
class Verified:
    """What was found.

    Attributes:
        exact: whether bytes were compared.
        difference: the largest of a logit; 0 where bytes are equal.
        isa: whose kernels ran.
    """

    exact: bool
    difference: float
    isa: str

    @property
    def text(self) -> str:
        """In words."""
        how = "equal to the byte" if self.exact else f"equal within {self.difference:.1e}"
        return f"{how} ({self.isa} kernels)"

    def __repr__(self) -> str:
        return brief(self, self.text)

    def _repr_html_(self) -> str:
        """The same, for notebooks."""
        return notebook.facts({"verified": self.text})


def generated(channels: int, height: int, width: int, seed: int = SEED) -> Array:
    """An image f32 (c, h, w) with values in [−2, 2).

    Example:
        >>> generated(1, 1, 3).tolist()
        [[[-1.05419921875, -0.52294921875, 0.0169677734375]]]
    """
    values = np.empty(channels * height * width, np.uint32)
    state = seed
    for index in range(values.size):
        state = (1664525 * state + 1013904223) % 2**32
        values[index] = state >> 16
    return (values.astype(np.float32) / np.float32(2**14) - 2).reshape(channels, height, width).astype(np.float32)


def recorded(session: Session, exact: bool) -> dict[str, Any]:
    """What a file keeps to be verified by."""
    side = -(-MIN_SIDE // session.multiple) * session.multiple
    sizes = [[side, side], [side, side + session.multiple]]
    logits = _logits(session, sizes)
    if exact:
        return {"kind": "exact", "seed": SEED, "sizes": sizes, "sha256": _digest(logits)}
    kept = [[float(value) for value in _some(each)] for each in logits]
    return {
        "kind": "tolerance",
        "seed": SEED,
        "sizes": sizes,
        "tolerance": TOLERANCE * _largest(logits),
        "logits": kept,
    }


def verified(session: Session, record: Mapping[str, Any]) -> Verified:
    """Run the same images here.

    Raises:
        ModelFileError: the results differ, or the file holds no valid record.
    """
    try:
        sizes, seed = [(_whole(height), _whole(width)) for height, width in record["sizes"]], _whole(record["seed"])
        pixels = sum(height * width for height, width in sizes)
        if not sizes or any(max(size) > MAX_SIDE for size in sizes) or pixels * session.in_channels > MAX_VALUES:
            raise ValueError("sizes")
        logits = _logits(session, sizes, seed)
        if record["kind"] == "exact":
            return _same_bytes(session, logits, str(record["sha256"]))
        if record["kind"] != "tolerance":
            raise ValueError(record["kind"])
        wanted = [np.array(each, np.float32) for each in record["logits"]]
        tolerance = float(record["tolerance"])
        if tolerance > 2 * TOLERANCE * _largest(logits):  # twice: those of the other machine may be larger a little
            raise ValueError("tolerance")
        return _near(session, [_some(each) for each in logits], wanted, tolerance)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelFileError(session.where, f"holds no valid verification ({error!r})", AGAIN) from error


def _same_bytes(session: Session, logits: list[Array], wanted: str) -> Verified:
    if _digest(logits) != wanted:
        raise _other(session, "other bytes")
    return Verified(True, 0.0, session.isa)


def _near(session: Session, found: list[Array], wanted: list[Array], tolerance: float) -> Verified:
    if [each.shape for each in found] != [each.shape for each in wanted]:
        raise ValueError("logits")
    # NumPy's max keeps nan, Python's may lose it.
    difference = float(np.max([np.abs(a - b).max() for a, b in zip(found, wanted, strict=True)]))
    if not difference <= tolerance:
        raise _other(session, f"logits that differ by {difference:.1e} (allowed {tolerance:.1e})")
    return Verified(False, difference, session.isa)


def _whole(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise ValueError(number)
    return number


def _largest(logits: list[Array]) -> float:
    """The largest logit, or 1 where that is smaller; nan where one is."""
    return float(np.max([1.0, *(np.abs(each).max() for each in logits)]))


def _other(session: Session, what: str) -> ModelFileError:
    return ModelFileError(
        session.where,
        f"gives {what} on this machine than where it was packed ({session.isa} kernels)",
        "try POCKETSEG_ISA=scalar, and report this machine",
    )


def _logits(session: Session, sizes: Any, seed: int = SEED) -> list[Array]:
    found = [session(generated(session.in_channels, height, width, seed)[None])[0] for height, width in sizes]
    if not all(np.isfinite(each).all() for each in found):
        raise ModelFileError(session.where, "gives NaN or infinite numbers", "train with a lower optimizer.lr")
    return found


def _digest(logits: list[Array]) -> str:
    whole = hashlib.sha256()
    for each in logits:
        whole.update(each.astype("<f4").tobytes())
    return whole.hexdigest()


def _some(logits: Array) -> Array:
    """At most `KEPT` numbers, evenly spread."""
    flat = logits.reshape(-1)
    return flat[:: -(-flat.size // KEPT)]
