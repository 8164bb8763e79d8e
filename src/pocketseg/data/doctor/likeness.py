"""Near-duplicates: images that stay alike when they are small, found without comparing all with all.

Thumbnails of 32×32 pixels are compared by their correlation. Which pairs are worth comparing is found by hashes: signs
of random projections of the lowest frequencies (Charikar 2002), cut at their medians so that every bit halves the set.
Two images of a correlation of 0.95 agree in a bit nine times in ten, and of the many hashes one is enough. Images that
follow each other are compared too, since the frames of a film may all be alike, and hashes tell what differs.

Images of one kind may be alike without being one picture: fundus images share their disk, skin its dark middle. So a
pair must also be alike in what is left without the mean image of its set, coarse and fine, or in nearly every detail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.generic]
Floats = NDArray[np.float32]

SIDE = 32
# Correlations of thumbnails from here on count; mirrored images need more, since left and right are often alike.
ALIKE, MIRRORED = 0.95, 0.98
# Without the set's mean: how far a correlation of thumbnails stands out from those of all pairs at least, in their
# spreads (of Fisher's transform), the lowest and the highest bound that gives, and the correlation of details.
# docs/doctor.md has what they find.
STANDS_OUT, BOUNDS, APART_DETAIL = 4.0, (0.75, 0.95), 0.3
# Details that correlate so are one picture's, however alike the whole set is.
SAME_DETAIL = 0.95
# From so many images on a set has a mean that is not mostly the pair itself.
MIN_SET = 4
# Images whose pairs tell how alike a set is.
SAMPLED_IMAGES = 256
# Details: a side in pixels, what is coarser than these blocks is left out, and how far two pictures may be shifted.
DETAIL, BLOCKS, SHIFT = 64, 8, 2
CLIP, STEPS = 3.0, 127
# Images that follow each other are compared with so many next ones.
NEXT = 2
FREQUENCIES = 40
HASHES = 24
MIN_BITS = 10
# Images that share a hash are compared all with all, up to so many.
MAX_BUCKET = 2000
FLIPS = ((False, False), (True, False), (False, True), (True, True))
# Pixels of an image that its thumbnail is made from, at most, a side.
SAMPLED = 512


@dataclass(frozen=True)
class Thumbnail:
    """What is kept of an image.

    Attributes:
        small: (32, 32), mean 0 and length 1; zeros for an image of one value.
        detail: int8 (64, 64), without what is coarser than an eighth of a side; a standard deviation is about 42.
    """

    small: NDArray[np.float16]
    detail: NDArray[np.int8]


@dataclass(frozen=True)
class Pair:
    """Two images by their place in the list: how alike, and how the second is flipped (down, across) to be so."""

    first: int
    second: int
    correlation: float
    flip: tuple[bool, bool]


def thumbnail(image: Pixels) -> Thumbnail:
    """What is kept of an image (h, w) or (h, w, c)."""
    rows, columns = (max(1, side // SAMPLED) for side in image.shape[:2])
    gray = image[::rows, ::columns].astype(np.float32)
    if gray.ndim == 3:
        gray = gray.mean(axis=2)
    least = 1e-6 * max(1.0, float(np.abs(gray).max()))
    small = _resized(gray, SIDE).astype(np.float64)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    fine = _resized(gray, DETAIL)
    fine = fine - _resized(_resized(fine, BLOCKS), DETAIL, Image.Resampling.BICUBIC)
    detail = np.clip(fine / max(float(fine.std()), least) / CLIP, -1, 1) * STEPS
    return Thumbnail((small / length if length > least else 0 * small).astype(np.float16), detail.astype(np.int8))


def _resized(gray: Floats, side: int, method: Image.Resampling = Image.Resampling.BOX) -> Floats:
    return np.asarray(Image.fromarray(gray).resize((side, side), method), np.float32)


def near_pairs(thumbnails: Sequence[Thumbnail]) -> list[Pair]:
    """All pairs of images that are alike, each once, in its best flip."""
    if len(thumbnails) < 2:
        return []
    whole = np.stack([each.small for each in thumbnails])
    best: dict[tuple[int, int], Pair] = {}
    for pair in (*_candidates(whole.reshape(len(whole), -1)), *_neighbors(whole.reshape(len(whole), -1))):
        key = (pair.first, pair.second)
        if key not in best or pair.correlation > best[key].correlation:
            best[key] = pair
    confirmed = _Confirmed(thumbnails, whole)
    return [best[key] for key in sorted(best) if confirmed(best[key])]


class _Confirmed:
    """Whether two images are one picture, and not only of one kind."""

    def __init__(self, thumbnails: Sequence[Thumbnail], whole: NDArray[np.float16]) -> None:
        self.thumbnails = thumbnails
        self.small, self.detail = np.zeros((SIDE, SIDE), np.float32), np.zeros((DETAIL, DETAIL), np.float32)
        if len(thumbnails) >= MIN_SET:
            self.small = whole.mean(axis=0, dtype=np.float32)
            self.detail = np.mean([each.detail for each in thumbnails], axis=0, dtype=np.float32)
        self.bound = _bound(whole[:: -(-len(whole) // SAMPLED_IMAGES)] - self.small, len(whole))

    def __call__(self, pair: Pair) -> bool:
        one, other = self.thumbnails[pair.first], self.thumbnails[pair.second]
        small, detail = _flipped(other.small, pair.flip), _flipped(other.detail, pair.flip)
        apart = _correlation(one.small - self.small, small - self.small)
        if apart >= self.bound and _shifted(one.detail - self.detail, detail - self.detail) >= APART_DETAIL:
            return True
        return _shifted(one.detail.astype(np.float32), detail.astype(np.float32)) >= SAME_DETAIL


def _bound(apart: Floats, count: int) -> float:
    """The correlation from which images without their mean, (n, 32, 32) of `count`, stand out from all pairs."""
    flat = apart.reshape(len(apart), -1)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    correlations = np.abs(flat @ flat.T)[np.triu_indices(len(flat), 1)]
    # The median distance from zero of a normal distribution is 0.6745 of its spread; of N pairs the farthest is about
    # sqrt(2 log N) spreads away.
    spread = np.arctanh(min(float(np.median(correlations)), 0.999)) / 0.6745
    times = max(STANDS_OUT, float(np.sqrt(2 * np.log(count * (count - 1) / 2))))
    return float(np.clip(np.tanh(times * spread), *BOUNDS))


def _correlation(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / length if length else 0.0


def _shifted(one: Floats, other: Floats) -> float:
    """The best correlation of the middle of one with the other, shifted by some pixels in each direction."""
    middle = one[SHIFT:-SHIFT, SHIFT:-SHIFT]
    windows = np.lib.stride_tricks.sliding_window_view(other, middle.shape).reshape(-1, middle.size)
    middle, windows = middle.ravel() - middle.mean(), windows - windows.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(windows, axis=1) * np.linalg.norm(middle)
    return float((windows @ middle / np.maximum(lengths, 1e-6)).max())


def _flipped(square: NDArray[Any], flip: tuple[bool, bool]) -> NDArray[Any]:
    down, across = (slice(None, None, -1 if side else 1) for side in flip)
    return square[..., down, across]


def _neighbors(whole: NDArray[np.float16]) -> Iterator[Pair]:
    """Pairs of images that follow each other and are alike as they are."""
    for step in range(1, min(NEXT, len(whole) - 1) + 1):
        correlations = np.einsum("ij,ij->i", whole[:-step], whole[step:], dtype=np.float32)
        for first in np.flatnonzero(correlations >= ALIKE):
            yield Pair(int(first), int(first) + step, float(correlations[first]), (False, False))


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
        turned = _flipped(whole[others].reshape(-1, SIDE, SIDE), flip).reshape(len(others), -1).astype(np.float32)
        correlation = whole[plain].astype(np.float32) @ turned.T
        for a, b in np.argwhere(correlation >= (MIRRORED if any(flip) else ALIKE)):
            if plain[a] < others[b]:
                yield Pair(int(plain[a]), int(others[b]), float(correlation[a, b]), flip)


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
