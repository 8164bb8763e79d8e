"""Near-duplicates: images that stay alike when they are small, found without comparing all with all.

Thumbnails of 32×32 pixels are compared by their correlation. Which pairs are worth comparing is found by hashes: signs
of random projections of the lowest frequencies (Charikar 2002), cut at their medians so that every bit halves the set.
Two images of a correlation of 0.95 agree in a bit nine times in ten, and of the many hashes one is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.generic]
Floats = NDArray[np.float32]

SIDE = 32
# Correlations of thumbnails from here on count; mirrored images need more, since left and right are often alike.
ALIKE, MIRRORED = 0.95, 0.98
FREQUENCIES = 40
HASHES = 24
MIN_BITS = 10
# Images that share a hash are compared all with all, up to so many.
MAX_BUCKET = 2000
FLIPS = ((False, False), (True, False), (False, True), (True, True))
# Pixels of an image that its thumbnail is made from, at most, a side.
SAMPLED = 512


@dataclass(frozen=True)
class Pair:
    """Two images by their place in the list: how alike, and how the second is flipped (down, across) to be so."""

    first: int
    second: int
    correlation: float
    flip: tuple[bool, bool]


def thumbnail(image: Pixels) -> NDArray[np.float16]:
    """(1024,) with mean 0 and length 1; zeros for an image of one value."""
    rows, columns = (max(1, side // SAMPLED) for side in image.shape[:2])
    gray = image[::rows, ::columns].astype(np.float32)
    if gray.ndim == 3:
        gray = gray.mean(axis=2)
    small = np.asarray(Image.fromarray(gray).resize((SIDE, SIDE), Image.Resampling.BOX), np.float64).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return (small / length if length > 1e-6 * max(1.0, float(np.abs(gray).max())) else 0 * small).astype(np.float16)


def near_pairs(thumbnails: Sequence[NDArray[np.float16]]) -> list[Pair]:
    """All pairs of thumbnails that are alike, each once, in its best flip."""
    if len(thumbnails) < 2:
        return []
    whole = np.stack(thumbnails)
    best: dict[tuple[int, int], Pair] = {}
    for pair in _candidates(whole):
        key = (pair.first, pair.second)
        if key not in best or pair.correlation > best[key].correlation:
            best[key] = pair
    return [best[key] for key in sorted(best)]


def _candidates(whole: NDArray[np.float16]) -> Iterator[Pair]:
    count = len(whole)
    filled = np.any(whole != 0, axis=1)
    low = _low_frequencies(whole)
    center, bits = low[0].mean(axis=0), max(MIN_BITS, int(np.ceil(np.log2(count))) + 4)
    random = np.random.default_rng(0)
    for _ in range(HASHES):
        projection = random.standard_normal((FREQUENCIES, bits)).astype(np.float32)
        sums = [(frequencies - center) @ projection for frequencies in low]
        cut = np.median(sums[0], axis=0)
        keys = np.concatenate([(sum_ > cut) @ (1 << np.arange(bits)) for sum_ in sums])
        order = np.lexsort((np.concatenate([sum_[:, 0] for sum_ in sums]), keys))
        ends = np.flatnonzero(np.diff(keys[order])) + 1
        for bucket in np.split(order, ends):
            members = bucket[filled[bucket % count]]
            for start in range(0, len(members), MAX_BUCKET):
                yield from _compared(whole, members[start : start + MAX_BUCKET])


def _compared(whole: NDArray[np.float16], members: NDArray[np.intp]) -> Iterator[Pair]:
    """The alike among the members of a bucket; a member is an image's place, plus the set's size for each flip."""
    count = len(whole)
    plain = members[members < count]
    if not len(plain) or len(members) < 2:
        return
    for number, flip in enumerate(FLIPS):
        others = members[members // count == number] % count
        if not len(others):
            continue
        turned = _flipped(whole[others].astype(np.float32), flip)
        correlation = whole[plain].astype(np.float32) @ turned.T
        for a, b in np.argwhere(correlation >= (MIRRORED if any(flip) else ALIKE)):
            if plain[a] < others[b]:
                yield Pair(int(plain[a]), int(others[b]), float(correlation[a, b]), flip)


def _flipped(flat: Floats, flip: tuple[bool, bool]) -> Floats:
    square = flat.reshape(-1, SIDE, SIDE)
    down, across = (slice(None, None, -1 if side else 1) for side in flip)
    return square[:, down, across].reshape(len(flat), -1)


def _low_frequencies(whole: NDArray[np.float16]) -> list[Floats]:
    """The lowest coefficients of a cosine transform, (n, FREQUENCIES), of the images in each flip.

    A flip only turns the sign of the odd waves across its axis.
    """
    waves = [(u, v) for u in range(SIDE) for v in range(SIDE) if u + v]
    waves = sorted(waves, key=lambda wave: (sum(wave), wave))[:FREQUENCIES]
    places = (np.arange(SIDE) + 0.5) * np.pi / SIDE
    basis = np.stack([np.outer(np.cos(u * places), np.cos(v * places)).ravel() for u, v in waves], axis=1)
    plain = np.concatenate([part.astype(np.float32) @ basis.astype(np.float32) for part in _parts(whole)])
    signs = [[(-1) ** (u * flip[0] + v * flip[1]) for u, v in waves] for flip in FLIPS]
    return [plain * np.array(sign, np.float32) for sign in signs]


def _parts(whole: NDArray[np.float16]) -> Iterator[NDArray[np.float16]]:
    return (whole[start : start + 4096] for start in range(0, len(whole), 4096))
