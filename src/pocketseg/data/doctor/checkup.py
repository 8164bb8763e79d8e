"""The whole examination: every case is decoded once, and little is kept of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pocketseg.data.case import Case, ChannelSource
from pocketseg.data.cases import Cases
from pocketseg.data.doctor import pictures, references
from pocketseg.data.doctor.finding import LEVELS, Finding
from pocketseg.data.doctor.headers import header_findings
from pocketseg.data.doctor.likeness import Pair, Thumbnail, near_pairs, thumbnail
from pocketseg.data.doctor.names import case_names, ignored_files
from pocketseg.data.doctor.quick import duplicates, quick_findings
from pocketseg.data.doctor.sets import set_findings
from pocketseg.data.doctor.statistics import CaseStatistics, Look
from pocketseg.data.groups import joined, tied
from pocketseg.data.volumes import SliceSource
from pocketseg.errors import DataError, Problem
from pocketseg.layers import grid_of
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.geometry import resize_labels
from pocketseg.text import brief, counted

# From here on two images are one picture, and their masks must agree.
SAME_PICTURE, SAME_REFERENCE = 0.99, 0.7
# Where more masks than this share reach all four sides, what they show does.
USUAL = 0.5
MESSAGES = {
    "text": (
        "image[ seems|s seem] to have text drawn into [it|them]; others may have some that is faint or touches "
        "bright tissue",
        "crop or mask it; where it may name a person, look at every image",
    ),
    "calipers": (
        "image[ seems|s seem] to have calipers drawn into [it|them] (crosses, dotted lines)",
        "look for the images without them, and evaluate the net on such images of another scanner",
    ),
    "marks": ("gray image[ has|s have] colored marks", "look for images without calipers and labels"),
    "saturated": (
        "image[ is|s are] at [its|their] brightest value in more than a tenth of [its|their] pixels",
        "export them again",
    ),
    "specks": (
        "mask[ has|s have] objects of a few pixels beside large ones",
        "clean them: pocketseg data convert auto DATA OUT --min-pixels 20",
    ),
    "border": ("mask[ reaches|s reach] all four sides of [its|their] image", "check them"),
}


@dataclass(repr=False)
class Checkup:
    """What the doctor found.

    Attributes:
        root: the data set.
        layout: how it lies.
        cases: all that pair, whether they can be read or not.
        readable: names of the cases that can be read.
        findings: the worst first.
        clusters: names of cases whose images are alike, in clusters of two and more, in the order of the cases.
        duplicates: names of cases whose images are equal.
        groups_given: whether the user said which cases belong together.
    """

    root: Path
    layout: str = ""
    cases: list[Case] = field(default_factory=list)
    readable: frozenset[str] = frozenset()
    findings: list[Finding] = field(default_factory=list)
    clusters: list[list[str]] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    groups_given: bool = False

    def __repr__(self) -> str:
        findings = counted(len(self.findings), "finding")
        return brief(self, f"{self.root}: {counted(len(self.cases), 'case')}, {findings}")

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.level == "error"]

    def add(self, findings: Sequence[Finding]) -> None:
        """More findings, sorted in; those of one kind stay in their order."""
        self.findings = sorted([*self.findings, *findings], key=lambda finding: LEVELS.index(finding.level))

    def groups(self) -> dict[str, str]:
        """A group for every case; groups that the user gave are theirs, others are joined where images are alike."""
        return {case.name: case.group for case in self.cases} if self.groups_given else self.joined()

    def joined(self) -> dict[str, str]:
        """A group for every case: what is alike lies in one, and so does what lay in one before."""
        return {case.name: case.group for case in tied(self.cases, (*self.clusters, *self.duplicates))}


def checkup(
    cases: Cases,
    problems: Sequence[Problem] = (),
    progress: Callable[[int, int], None] | None = None,
    *,
    groups_given: bool = False,
    pipeline: Pipeline | None = None,
    seen: Callable[[Case, Look], None] | None = None,
) -> Checkup:
    """Examine a data set.

    Args:
        cases: what pairs of it.
        problems: what was wrong in finding them.
        progress: called with (done, of).
        groups_given: whether the user said which cases belong together.
        pipeline: how images come to a net, to find those that cannot.
        seen: called with each case that can be read, decoded, for who wants to know more of it.
    """
    findings = [Finding.of(problem) for problem in problems]
    suspects: dict[str, list[str]] = defaultdict(list)
    statistics: list[CaseStatistics] = []
    looked: list[Case] = []
    thumbnails: list[Thumbnail] = []
    for done, case in enumerate(cases, start=1):
        try:
            look = cases.look(case)
        except DataError as error:
            findings += [Finding.of(problem) for problem in error.problems]
        else:
            looked.append(case)
            if seen:
                seen(case, look)
            statistics.append(look.statistics)
            thumbnails.append(thumbnail(look.image))
            for code in pictures.suspicions(look.image):
                suspects[code].append(look.statistics.image)
            for code in references.suspicions(look.mask):
                suspects[code].append(look.statistics.mask)
        if progress:
            progress(done, len(cases))
    findings += quick_findings(cases.cases, statistics, cases)
    findings += [
        Finding(code, tuple(files), counted(len(files), MESSAGES[code][0]), MESSAGES[code][1])
        for code, files in suspects.items()
        if code != "border" or len(files) <= USUAL * len(statistics)
    ]
    findings += [
        *set_findings(cases.cases, statistics, grouped=cases.grouped, pipeline=pipeline),
        *header_findings(looked),
    ]
    findings += [*case_names(cases.cases), *ignored_files(cases.root)]
    found = Checkup(cases.root, cases.layout, cases.cases, frozenset(case.name for case in looked))
    found.groups_given = groups_given
    found.duplicates = [[each.name for each in same] for same in duplicates(statistics)]
    pairs = _pairs(looked, statistics, thumbnails)
    place = {case.name: number for number, case in enumerate(looked)}
    ties = [(pair.first, pair.second) for pair in pairs]
    ties += [(place[names[0]], place[name]) for names in found.duplicates for name in names[1:]]
    found.clusters = [[looked[number].name for number in same] for same in joined(len(looked), ties) if len(same) > 1]
    findings += [*_near(looked, found), *_contradictions(cases, looked, pairs)]
    found.add(findings)
    return found


def _pairs(looked: Sequence[Case], statistics: Sequence[CaseStatistics], thumbnails: Sequence[Thumbnail]) -> list[Pair]:
    """Pairs of alike images that are not slices of one volume; of equal images one stands for all, then all pair."""
    first: dict[bytes, int] = {}
    for number, each in enumerate(statistics):
        first.setdefault(each.digest, number)
    apart = list(first.values())
    found = [
        Pair(apart[pair.first], apart[pair.second], pair.correlation, pair.flip)
        for pair in near_pairs([thumbnails[number] for number in apart])
    ]
    found += [
        Pair(first[each.digest], number, 1.0, (False, False))
        for number, each in enumerate(statistics)
        if first[each.digest] != number and not each.constant
    ]
    return [
        pair
        for pair in found
        if _volume(looked[pair.first]) is None or _volume(looked[pair.first]) != _volume(looked[pair.second])
    ]


def _volume(case: Case) -> Path | None:
    source = case.image.parts[0] if isinstance(case.image, ChannelSource) else case.image
    return source.path if isinstance(source, SliceSource) else None


def _near(looked: Sequence[Case], found: Checkup) -> Iterator[Finding]:
    group = {case.name: case.group for case in looked}
    torn = [names for names in found.clusters if len({group[name] for name in names}) > 1]
    if torn:
        count = sum(map(len, torn))
        largest = ", ".join(repr(name) for name in max(torn, key=len)[:4])
        clusters = counted(len(torn), "cluster")
        what = (
            f"{counted(count, 'image')} are near-duplicates of images in another group, in {clusters} (one: {largest})"
        )
        fix = (
            "look at them; where they show one patient, correct your groups, or take the column `joined` of the "
            "OUT/groups.csv that `pocketseg doctor DATA --fix OUT` writes; its column `group` has your groups unchanged"
            if found.groups_given
            else "`pocketseg doctor DATA --fix OUT` writes OUT/groups.csv; then "
            "--set data.group_csv=groups.csv --set data.group_column=group"
        )
        yield Finding("near-duplicate", tuple(name for names in torn for name in names), what, fix)


def _contradictions(cases: Cases, looked: Sequence[Case], pairs: Sequence[Pair]) -> Iterator[Finding]:
    """Images that are one picture, but not of one class or not with one mask."""
    for pair in (pair for pair in pairs if pair.correlation >= SAME_PICTURE):
        a, b = looked[pair.first], looked[pair.second]
        if a.label != b.label:
            what = f"are alike (correlation {pair.correlation:.3f}) but are {a.label} and {b.label}"
            yield Finding("contradictory-class", (a.image.where, b.image.where), what, "decide, and drop the other")
        overlap = _overlap(cases, a, b, pair.flip)
        if overlap < SAME_REFERENCE:
            what = f"are alike (correlation {pair.correlation:.3f}) but their masks overlap by {overlap:.2f} (IoU)"
            yield Finding("contradictory-mask", (a.image.where, b.image.where), what, "look at both masks")


def _overlap(cases: Cases, a: Case, b: Case, flip: tuple[bool, bool]) -> float:
    """IoU of two masks on the first one's grid, with the second turned as its image is; 1 where both are empty."""
    one = cases.mask(a)
    down, across = (slice(None, None, -1 if side else 1) for side in flip)
    other = resize_labels(cases.mask(b)[..., down, across], grid_of(one), cases.classes)
    union = int(((one > 0) | (other > 0)).sum())
    return int(((one == other) & (one > 0)).sum()) / union if union else 1.0
