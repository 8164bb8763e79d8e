"""How masks are called after their images: by the same stem, or with text before or after it.

This is the one place where names are compared. A rule that nobody gave must fit all masks, and be the only one that
does: what is in doubt is an error that shows the candidates.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pocketseg.text import counted

STEM = "{stem}"
KEY = "data.mask.suffix"
WORDS = (
    "masks?|msk|seg|segs|segmentations?|segmented|labels?|lbl|gt|gts|ground[_ -]?truth|truth|annotations?|annot|anno|"
    "manual|ref|reference|targets?|roi|contours?|outlines?"
)
# Words that say of a mask what it is.
MASK_WORD = re.compile(rf"(?<![a-z])({WORDS})(?![a-z])", re.IGNORECASE)
# As they were read before any rule was looked for: a folder may have masks of several of these kinds.
USUAL = re.compile(r"(?P<stem>.+)(?P<suffix>_mask|_seg|-label)(_\d+)?", re.DOTALL)
# Words that images carry where masks have another one: image_1 and mask_1.
IMAGE_WORDS = (
    "images?|imgs?|im|photos?|pictures?|pics?|scans?|inputs?|raw|orig|original|sat|us|ct|mri?|volume|vol|slice|frame"
)
PART_WORDS = "train|training|test|testing|val|validation"
AHEAD = re.compile(rf"((?:{IMAGE_WORDS})(?:[_\-. ]|(?![A-Za-z]))).+", re.IGNORECASE | re.DOTALL)
BEHIND = re.compile(rf".+?([_\-. ](?:{IMAGE_WORDS}|{PART_WORDS}))", re.IGNORECASE | re.DOTALL)
# Who drew a mask: _1stHO, _manual2, -rater_a, .observer1, _r3.
RATER = re.compile(
    r"[_\-. ]?((\d(st|nd|rd|th))[_-]?(ho|manual|rater|reader|observer|expert)?|"
    r"(manual|rater|reader|observer|expert|grader|annotator|doctor|ho|r)[_-]?(\d+|[a-z]))",
    re.IGNORECASE,
)
NUMBER = re.compile(r"_\d+$")
# Stems that are looked at to find what masks may be called; all are held against it.
SAMPLE = 48


@dataclass(frozen=True)
class Naming:
    """What stands before and after the stem of an image in that of its mask.

    Example:
        >>> naming = Naming.of("_mask")
        >>> str(naming), [naming.image_of(mask, {"a"}) for mask in ("a_mask", "a_mask_2", "b_mask")]
        ('{stem}_mask', ['a', 'a', None])
    """

    before: str = ""
    after: str = ""

    @classmethod
    def of(cls, text: str) -> Naming:
        """From what a recipe says: a suffix, or a pattern with `{stem}`."""
        before, sign, after = text.partition(STEM)
        return cls(before, after) if sign else cls("", text)

    def __str__(self) -> str:
        return f"{self.before}{STEM}{self.after}"

    @property
    def setting(self) -> str:
        """As it is given in a recipe."""
        return str(self) if self.before else self.after

    @property
    def command(self) -> str:
        """As it is given on the command line."""
        plain = re.fullmatch(r"[\w.-]+", self.setting)
        return f"--set {KEY}={self.setting}" if plain else f"--set '{KEY}={self.setting}'"

    @property
    def rater(self) -> str:
        """Whose masks are called so, where it says it."""
        return (self.before + self.after).strip("_-. ")

    def image_of(self, mask: str, images: Collection[str]) -> str | None:
        """The stem of a mask's image; of several masks of one (`_mask_1`, `_mask_2`) the number is left out."""
        for name in (mask, NUMBER.sub("", mask) if self.after else mask):
            if len(name) > len(self.before) + len(self.after) and name.startswith(self.before):
                stem = name[len(self.before) : len(name) - len(self.after)]
                if name.endswith(self.after) and stem in images:
                    return stem
        return None

    def pairs(self, masks: Iterable[str], images: Collection[str]) -> dict[str, str]:
        """The image of each mask that is called so."""
        found = ((mask, self.image_of(mask, images)) for mask in masks)
        return {mask: image for mask, image in found if image is not None and image != mask}


SAME = Naming()


@dataclass(frozen=True)
class Match:
    """Which masks belong to which image, all by their stems.

    Attributes:
        masks: of each image that has any, in the order of `raters` where there are several.
        raters: whose they are; empty where a mask is the reference, or several are parts of it.
        rule: how masks are called, for people.
        doubt: what is ambiguous, as (what, fix).
        beside: stems that are not to be paired: those in doubt, and what lies beside where a rule was given.
    """

    masks: Mapping[str, Sequence[str]] = field(default_factory=dict)
    raters: tuple[str, ...] = ()
    rule: str = str(SAME)
    doubt: tuple[str, str] | None = None
    beside: frozenset[str] = frozenset()


def match(images: Collection[str], masks: Collection[str], given: Sequence[Naming] = ()) -> Match:
    """Pair the stems of two folders."""
    if given:
        found = _by(given, images, masks)
        used = {mask for mine in found.masks.values() for mask in mine}
        return replace(found, beside=_beside(set(masks) - used, found))
    alike = _folded(images, masks)
    if alike or set(images) & set(masks):
        return alike or _by([SAME], images, masks)
    candidates = _candidates(masks, images)
    for cores, words in [({stem: stem for stem in images}, ""), *_bare(images)]:
        chosen, doubt = _choice(candidates if not words else _candidates(masks, cores), cores, masks, words)
        if doubt:
            return Match(doubt=doubt)
        if chosen:
            return _by(chosen, cores, masks, cores, words)
    return Match()


def match_folder(stems: Collection[str], given: Sequence[Naming] = ()) -> tuple[set[str], set[str], Match]:
    """Images, masks, and their pairs, of the stems of one folder; no masks where nothing says what they are."""
    every = set(stems)
    if given:
        return _apart(every, given)
    candidates = _candidates(every, every)
    chosen, doubt = _choice(candidates, dict.fromkeys(every, ""), every, "", one_folder=True)
    if doubt:
        return every, set(), Match(doubt=doubt)
    if chosen:
        masks = {mask for naming in chosen for mask in naming.pairs(every, every)}
        return every - masks, masks, _by(chosen, every - masks, masks)
    words = {stem for stem in every if MASK_WORD.fullmatch(stem)}
    if len(every) == 2 and len(words) == 1:
        (image,), (mask,) = every - words, words
        return {image}, {mask}, Match({image: [mask]}, rule=f"{image} and {mask}")
    for images in _image_named(every):
        apart = match(images, every - images)
        if apart.masks:
            return images, every - images, apart
    usual = {stem: found for stem in every if (found := USUAL.fullmatch(stem))}
    if usual:
        return every - set(usual), set(usual), _usual(usual, every)
    return every, set(), Match()


def _usual(usual: Mapping[str, re.Match[str]], every: Collection[str]) -> Match:
    """Masks of the usual suffixes; an image that has those of several is in doubt."""
    masks: dict[str, list[str]] = {}
    suffixes: dict[str, set[str]] = {}
    for stem in sorted(usual):
        masks.setdefault(usual[stem]["stem"], []).append(stem)
        suffixes.setdefault(usual[stem]["stem"], set()).add(usual[stem]["suffix"])
    several = {image for image, found in suffixes.items() if len(found) > 1 and image in every}
    if several:
        kinds = sorted({suffix for image in several for suffix in suffixes[image]})
        first = min(several)
        what = (
            f"{counted(len(several), 'image[ has|s have]')} masks of several kinds, such as {', '.join(masks[first])}"
        )
        apart = several | {mask for image in several for mask in masks.pop(image)}
        return Match(masks, doubt=(what, _either([Naming("", kind) for kind in kinds])), beside=frozenset(apart))
    return Match(masks, rule=", ".join(f"{STEM}{kind}" for kind in sorted({m["suffix"] for m in usual.values()})))


def _by(
    namings: Sequence[Naming],
    images: Collection[str],
    masks: Collection[str],
    cores: Mapping[str, str] | None = None,
    words: str = "",
) -> Match:
    """The pairs by one naming, or by those of several raters; `cores` say the images' whole stems."""
    found: dict[str, list[str]] = {}
    for naming in namings:
        pairs = naming.pairs(masks, images) if naming != SAME else {mask: mask for mask in masks if mask in images}
        for mask, core in sorted(pairs.items()):
            found.setdefault(cores[core] if cores else core, []).append(mask)
    raters = tuple(naming.rater for naming in namings) if len(namings) > 1 else ()
    rule = " and ".join(map(str, namings)) + (f", images as {words}" if words else "")
    return Match(found, raters, rule)


def _apart(every: set[str], given: Sequence[Naming]) -> tuple[set[str], set[str], Match]:
    """One folder by given namings. What is called after an image that has a mask, but otherwise, is left out."""
    masks = {mask for naming in given for mask in naming.pairs(every, every)}
    masks = {mask for mask in masks if not any(naming.image_of(mask, masks) for naming in given)} or masks
    images = every - masks
    found = _by(given, images, masks)
    beside = _beside(images - set(found.masks), found)
    return images - beside, masks, replace(found, beside=beside)


def _beside(stems: Collection[str], found: Match) -> frozenset[str]:
    """Stems that are called after an image that has a mask."""
    return frozenset(stem for stem in stems if any(image in found.masks for image in _contained(stem)))


def _contained(stem: str) -> Iterable[str]:
    """What a stem begins or ends with, at the borders of words."""
    cuts = _cuts(stem)
    return [stem[:cut] for cut in cuts] + [stem[cut:] for cut in cuts]


def _folded(images: Collection[str], masks: Collection[str]) -> Match | None:
    """Pairs of stems that are one name to some file systems, where no two images or masks are."""
    ours, theirs = ({_fold(stem): stem for stem in stems} for stems in (images, masks))
    if len(ours) < len(images) or len(theirs) < len(masks):
        return None
    pairs = {image: [theirs[key]] for key, image in ours.items() if key in theirs}
    return Match(pairs) if pairs else None


def _fold(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()


def _choice(
    candidates: Sequence[Naming],
    images: Mapping[str, str],
    masks: Collection[str],
    words: str,
    *,
    one_folder: bool = False,
) -> tuple[list[Naming], tuple[str, str] | None]:
    """The naming by which every mask belongs to an image, or those of several raters; or what is in doubt.

    Args:
        candidates: namings that some masks have.
        images: stems of images, or what they have beside a word for images.
        masks: stems of masks; of one folder all stems, of which those that are no masks are images.
        words: how images are called beside their stems; masks then need a word of their own.
        one_folder: whether images and masks lie together.
    """
    if words:
        candidates = [each for each in [SAME, *candidates] if _may_stand_beside(each, words)]
    pairs = {each: _all_pairs(each, masks, images) for each in candidates}
    pairs = {each: found for each, found in pairs.items() if found}

    def whole(found: Iterable[str], of: Iterable[str]) -> bool:
        return set(found) | (set(of) if one_folder else set()) == set(masks)

    alone = [each for each, found in pairs.items() if whole(found, found.values())]
    if one_folder:
        alone = [each for each in alone if not set(pairs[each]) & set(pairs[each].values())]
        alone = [each for each in alone if len(pairs[each]) > 1 or MASK_WORD.search(each.before + each.after)]
    full = [each for each in alone if set(pairs[each].values()) == set(images)]
    alone = full or alone
    if len(alone) == 1:
        return alone, None
    if len(alone) > 1:
        return [], (f"masks may be called {' or '.join(map(str, alone))}", _either(alone))
    several = _together(pairs, whole)
    some = [each for each in several if one_folder and len(pairs[each]) < 2]
    if not several or not all(MASK_WORD.search(each.before + each.after) for each in some):
        return [], None
    if all(RATER.fullmatch(each.before + each.after) for each in several):
        return several, None
    count = len(set(pairs[several[0]].values()))
    what = f"{counted(count, 'image[ has|s each have]')} {len(several)} files that may be masks: "
    return [], (what + ", ".join(map(str, several)), _either(several))


def _together(
    pairs: Mapping[Naming, Mapping[str, str]], whole: Callable[[Iterable[str], Iterable[str]], bool]
) -> list[Naming]:
    """Several namings of the same images that make up all masks; none where there are none."""
    most = max((len(set(found.values())) for found in pairs.values()), default=0)
    large = {each: found for each, found in pairs.items() if len(set(found.values())) == most}
    images = {frozenset(found.values()) for found in large.values()}
    masks = [mask for found in large.values() for mask in found]
    if len(large) < 2 or len(images) > 1 or len(set(masks)) < len(masks) or set(masks) & set(next(iter(images))):
        return []
    return sorted(large, key=str) if whole(masks, next(iter(images))) else []


def _all_pairs(naming: Naming, masks: Collection[str], images: Collection[str]) -> dict[str, str]:
    return {mask: mask for mask in masks if mask in images} if naming == SAME else naming.pairs(masks, images)


def _may_stand_beside(naming: Naming, words: str) -> bool:
    """Whether masks may be called so where images carry a word: mask_1 and image_1, not train_1 and test_1."""
    text = naming.before + naming.after
    return bool(MASK_WORD.search(text)) if text else not re.search(PART_WORDS, words, re.IGNORECASE)


def _candidates(masks: Collection[str], images: Collection[str]) -> list[Naming]:
    """What masks may be called, from a sample of them: stems of images with text around them that is set apart."""
    known = set(images)
    ordered = sorted(masks)
    sample = ordered if len(ordered) <= SAMPLE else random.Random(0).sample(ordered, SAMPLE)
    found = {_numberless(naming) for mask in sample for naming in _around(mask, known)}
    return sorted((each for each in found if any(map(str.isalpha, each.before + each.after))), key=str)


def _around(mask: str, images: Collection[str]) -> Iterable[Naming]:
    cuts = [0, *_cuts(mask), len(mask)]
    spans = ((start, end) for start in cuts for end in cuts if start < end and end - start < len(mask))
    return (Naming(mask[:start], mask[end:]) for start, end in spans if mask[start:end] in images)


def _numberless(naming: Naming) -> Naming:
    """`_mask` of `_mask_1`; but `_rater_1` is one of several raters, and `_1` alone says nothing."""
    plain = NUMBER.sub("", naming.after)
    rater = RATER.fullmatch(naming.after)
    return naming if rater or not any(map(str.isalpha, plain)) else Naming(naming.before, plain)


def _cuts(text: str) -> list[int]:
    """Where one word of a name ends and the next begins: at signs, between letters and digits, at a capital."""
    return [at for at in range(1, len(text)) if not _one_word(text[at - 1], text[at])]


def _one_word(left: str, right: str) -> bool:
    letters = left.isalpha() and right.isalpha() and not (left.islower() and right.isupper())
    return letters or (left.isdigit() and right.isdigit())


def _bare(images: Collection[str]) -> Iterable[tuple[dict[str, str], str]]:
    """What is left of images without a word that all of them carry (image_1, 1_scan) → the stem; and the word."""
    for pattern, strip in ((AHEAD, str.removeprefix), (BEHIND, str.removesuffix)):
        found = [pattern.fullmatch(image) for image in images]
        words = {each[1] for each in found if each}
        if found and all(found) and len(words) == 1:
            (word,) = words
            cores = {strip(image, word): image for image in images}
            if len(cores) == len(images):
                yield cores, f"{word}{STEM}" if pattern is AHEAD else f"{STEM}{word}"


def _image_named(every: set[str]) -> Iterable[set[str]]:
    """Stems of one folder that carry a word for images, beside others."""
    for pattern in (AHEAD, BEHIND):
        images = {stem for stem in every if pattern.fullmatch(stem) and not MASK_WORD.search(stem)}
        if images and all(MASK_WORD.search(stem) for stem in every - images):
            yield images


def _either(namings: Sequence[Naming]) -> str:
    one = " or ".join(each.command for each in namings[:4])
    return f"say which: {one}" + (
        f"; of several raters --set '{KEY}=[{','.join(each.setting for each in namings[:4])}]'"
    )


def closest(images: Collection[str], masks: Collection[str]) -> tuple[Naming | None, int]:
    """What most of the masks are called after an image, safe or not, and how many are."""
    known, ordered = set(images), sorted(masks)
    fits = partial(_fitting, masks=ordered, images=known)
    found = {naming for mask in ordered[:SAMPLE] for naming in _around(mask, known)}
    best = max(sorted(found, key=str), key=fits, default=None)
    return best, 0 if best is None else fits(best)


def hint(images: Collection[str], masks: Collection[str]) -> tuple[str, str]:
    """What masks are called that do not pair, and what would pair them; empty where one of the two is missing."""
    if not images or not masks:
        return "", ""
    naming, count = closest(images, masks)
    if naming is None:
        return f"images are called like {min(images)!r}, masks like {min(masks)!r}", ""
    share = f"all {count}" if count == len(masks) else f"{count} of {len(masks)}"
    return f"{share} masks are the image's stem as {naming}", f"{naming.command} pairs them"


def _fitting(naming: Naming, masks: Collection[str], images: Collection[str]) -> int:
    return len(naming.pairs(masks, images))
