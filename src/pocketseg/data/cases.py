"""A data set: its cases, decoded on demand, checked before anything else is done with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.annotations.classes import with_classes
from pocketseg.data.annotations.images import base_of
from pocketseg.data.case import BoundedCache, Case, Source, open_array
from pocketseg.data.doctor.finding import Finding
from pocketseg.data.doctor.names import links_outside, paths_outside, same_names
from pocketseg.data.doctor.quick import duplicates, quick_findings
from pocketseg.data.doctor.statistics import CaseStatistics, Look, statistics_of
from pocketseg.data.doctor.surroundings import folder_findings, left_out, one_patient
from pocketseg.data.filters import Only
from pocketseg.data.groups import Grouping, table_beside
from pocketseg.data.layouts import find_cases, natural_key, paths_csv
from pocketseg.data.masks import MaskCoding
from pocketseg.data.planes import find_by_class, is_by_class, of_classes, with_planes
from pocketseg.data.raters import Fusion, Raters, fuse
from pocketseg.data.readers import unreadable
from pocketseg.errors import SHOWN_PROBLEMS, DataError, EnvironmentProblem, Problem, lines
from pocketseg.files import by_parts, open_regular
from pocketseg.layers import grid_of
from pocketseg.pipeline.reading import Reading

CACHE = "POCKETSEG_CACHE_MIB"
CACHE_MIB = 1024


class CasesOptions(TypedDict, total=False):
    """How a data set is opened.

    Attributes:
        images, masks: two folders of any name, relative to path or absolute.
        coding: how stored mask values name classes; default: one class.
        names: of the classes, by which annotations in files of their own (COCO and others) find theirs.
        grouping: where groups come from; default: what the layout knows (a volume, a patient), else every case is its
            own group.
        reading: how volumes are cut into slices.
        raters: masks of several raters are fused by majority or STAPLE, or `each` gives a case.
        class_folders: names of the classes, where the folder a case lies in says which one its mask shows.
        only: which cases to keep.
        follow_links: read what links point to outside of the data set.
        channels: that the net takes, where it is known.
        naming: how masks are called after their images: texts such as `_seg` or `mask_{stem}`, one for each rater;
            empty: what all masks have in common is found. Here and in `masks` `{class}` stands for the name of a class,
            where classes may overlap and each has files of its own.
    """

    images: str | None
    masks: str | None
    coding: MaskCoding | None
    names: tuple[str, ...]
    grouping: Grouping | None
    reading: Reading | None
    raters: Raters
    class_folders: tuple[str, ...]
    only: Only | None
    follow_links: bool
    channels: int | None
    naming: Sequence[str]


@dataclass(frozen=True)
class CheckedData:
    """What a check found.

    Attributes:
        digest: SHA-256 over all files' names and contents.
        files: number of files.
        empty: names of the cases whose mask holds no foreground.
        channels: the channel counts of the images.
        contrasts: those of images whose channels are images of their own (contrasts of a scan), not colors.
        colored: how many images are in color, not gray stored as color.
        notes: what is odd but not wrong.
        findings: the same, one by one.
        blank: names of the cases whose image holds a single value.
        duplicates: names of cases whose images are the same, pixel by pixel.
        stored: NumPy's name of each type of the images -> the lowest and the highest value in them.
        shapes: (height, width) of the images, by the names of their cases.
    """

    digest: str
    files: int
    empty: frozenset[str]
    channels: frozenset[int]
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    blank: frozenset[str] = frozenset()
    duplicates: tuple[tuple[str, ...], ...] = ()
    stored: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    contrasts: frozenset[int] = frozenset()
    colored: int = 0
    shapes: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def fitting_channels(self) -> int:
        """How many channels a net for these images takes: 1 for gray, 3 for color, all contrasts."""
        others = self.contrasts or self.channels - {1, 3}
        return max(others) if others else 3 if self.colored else 1


@dataclass
class Cases(Sequence[Case]):
    """The cases of a data set in natural order of their names.

    Nothing is decoded before it is asked for, and then once: images and masks stay in a bounded cache.

    Example:
        cases = Cases.open("busi", grouping=Grouping(csv="clusters.csv", column="cluster"))
        image, mask = cases.image(cases[0]), cases.mask(cases[0])
    """

    root: Path
    layout: str
    cases: list[Case]
    coding: MaskCoding = field(default_factory=MaskCoding)
    grouped: bool = False
    fusion: Fusion = "majority"
    class_folders: tuple[str, ...] = ()
    cache: BoundedCache = field(default_factory=lambda: BoundedCache(cache_bytes()))
    channels: int | None = None
    said: tuple[Finding, ...] = ()
    rule: str = ""

    @classmethod
    def open(cls, path: str | Path, layout: str = "auto", **options: Unpack[CasesOptions]) -> Cases:
        """Find the cases of a folder (or `.npz` file) and pair images with masks.

        Args:
            path: the data set.
            layout: a name from `data.layouts.LAYOUTS`, or `auto`.
            options: see `CasesOptions`.

        Raises:
            DataError: nothing was found, or images and masks do not pair; all faults are reported at once.
        """
        cases, problems = cls.found(path, layout, **options)
        if problems:
            # What does not pair stops everything; the files that do are looked at all the same, to tell all at once.
            unread = [finding.problem for finding in cases.said if finding.code == "unread-format"]
            raise DataError.of([*problems, *cases._inspect(None)[1], *unread])
        return cases

    @classmethod
    def found(
        cls, path: str | Path, layout: str = "auto", **options: Unpack[CasesOptions]
    ) -> tuple[Cases, list[Problem]]:
        """As `open`: the cases that pair, and what is wrong with the rest.

        Raises:
            DataError: nothing was found.
        """
        root, raters = Path(path), options.get("raters", "majority")
        places, naming = (options.get("images"), options.get("masks")), tuple(options.get("naming", ()))
        coding, names = options.get("coding") or MaskCoding(), options.get("names", ())
        how: dict[str, Any] = {"reading": options.get("reading"), "each_rater": raters == "each"}
        if is_by_class(places[1], naming):
            name, folder, listing = find_by_class(root, layout, *places, naming, names, coding, **how)
        else:
            name, folder, listing = find_cases(root, layout, *places, naming=naming, **how)
            coding = replace(coding, named=listing.classes)
            listing = with_planes(with_classes(listing, names, coding), coding)
        if not listing.cases and not listing.problems:
            raise DataError(str(folder), "holds no images", "check the path of the data set").coded("layout")
        problems = [*listing.problems, *same_names(listing.cases)]
        if not options.get("follow_links"):
            of_paths = name == paths_csv.NAME
            within = base_of(root) if not of_paths else folder if folder.is_dir() else folder.parent
            problems += (paths_outside if of_paths else links_outside)(within, listing.cases)
        kept = (options.get("only") or Only()).of(listing.cases)
        ordered = sorted(kept, key=lambda case: natural_key(case.name))
        grouping = options.get("grouping") or Grouping()
        base, said = base_of(root), list[Finding]()
        try:
            found, table, beside = (None, base, "") if grouping else table_beside(ordered, [base, base_of(folder)])
            if beside:
                fix = "data.group_csv or data.group_regex says otherwise" if found else "correct it, or move it away"
                said.append(Finding("groups-table", (str(table),), beside, fix))
            ordered = found or grouping.assign(ordered, base)
        except DataError as error:
            problems += error.coded("groups").problems
        if not grouping:
            said += one_patient(ordered)
            said += folder_findings(ordered)
        given = [Path(root, each) for place in places if place for each in of_classes(place, names)]
        reported = {place for problem in problems for place in problem.places}
        said += left_out(given or [root], listing.cases, reported)
        grouped = bool(grouping) or any(case.group not in ("", case.name) for case in ordered)
        fusion: Fusion = "staple" if raters == "staple" else "majority"
        opened = cls(
            root, name, ordered, coding, grouped, fusion, options.get("class_folders", ()),
            channels=options.get("channels"), said=tuple(said), rule=listing.rule,
        )  # fmt: skip
        return opened, problems

    @property
    def classes(self) -> int:
        """The number of foreground classes."""
        return len(self.class_folders) or self.coding.classes

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> list[Case]: ...
    def __getitem__(self, index: int | slice) -> Case | list[Case]:
        return self.cases[index]

    def named(self, names: Sequence[str]) -> list[Case]:
        """Cases by name, in the order of the names."""
        table = {case.name: case for case in self.cases}
        unknown = [name for name in names if name not in table]
        if unknown:
            where, fix = str(self.root), "use the split of this data"
            raise DataError.of([Problem(where, f"has no case named {name!r}", fix) for name in unknown])
        return [table[name] for name in names]

    def image(self, case: Case) -> NDArray[np.generic]:
        """The decoded image, (h, w) or (h, w, c)."""
        return self.cache.get(("image", case.name), lambda: (case.image.image(),))[0]

    def mask(self, case: Case) -> NDArray[np.uint8]:
        """Class indices, uint8 (h, w); planes (k, h, w) of 0 and 1 where classes may overlap.

        Several masks of a case are united (the highest index wins), those of several raters fused; planes one by one.
        """
        return self._mask_and_values(case)[0]

    def _of_its_folder(self, case: Case, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask of one foreground with the class that the case's folder names, where folders do."""
        if not self.class_folders or not mask.any():
            return mask
        if case.label not in self.class_folders:
            where = f"the folder {case.label!r}" if case.label else "no class folder"
            raise DataError(
                case.masks[0].where,
                f"shows something, but lies in {where}; the classes are {', '.join(self.class_folders)}",
                "name the folder in data.classes, or set data.mask.by_folder=false",
            )
        return mask * np.uint8(self.class_folders.index(case.label) + 1)

    def look(self, case: Case) -> Look:
        """Image, mask and what they tell, decoded once.

        Raises:
            DataError: with every fault of the case; the codes of its problems say what is faulty.
        """
        image, (mask, values) = _together(
            [_coded("image", partial(self.image, case)), _coded("mask", partial(self._mask_and_values, case))]
        )
        _coded("weights", partial(self.weights, case))()
        if image.shape[:2] != grid_of(mask):
            raise _size_mismatch(case.masks[0].where, grid_of(mask), case.image.where, image.shape[:2])
        return Look(image, mask, statistics_of(case, image, mask, values))

    def _mask_and_values(self, case: Case) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
        mask, values = self.cache.get(("mask", case.name), lambda: self._united(case))
        return mask, values

    def _united(self, case: Case) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
        """The mask, and the values that stand for foreground where it is stored."""
        decoded = _together(partial(self._decoded, source) for source in case.masks)
        layers = [layer for layer, _ in decoded]
        values = np.unique(np.concatenate([found for _, found in decoded])) if len(decoded) > 1 else decoded[0][1]
        for source, layer in zip(case.masks, layers, strict=True):
            if layer.shape != layers[0].shape:
                raise _size_mismatch(source.where, grid_of(layer), case.masks[0].where, grid_of(layers[0]))
        several = len(case.raters) > 1
        mask = fuse(np.stack(layers), self.coding.classes, self.fusion) if several else np.maximum.reduce(layers)
        return self._of_its_folder(case, mask), values

    def weights(self, case: Case) -> NDArray[np.float32] | None:
        """The weight of every pixel (h, w), where the data has them."""
        if case.weights is None:
            return None
        values = open_array(case.weights, None)
        shape = self.image(case).shape[:2]
        with np.errstate(over="ignore"):
            weights = np.asarray(values, np.float32) if values.dtype.kind in "fiu" else None
        if values.shape != shape or weights is None or not np.isfinite(weights).all():
            what = f"holds {values.dtype} of the shape {values.shape}, not a finite number a pixel of {shape}"
            raise DataError(str(case.weights), what, "make the weights again")
        return weights

    def _decoded(self, source: Source) -> tuple[NDArray[np.uint8], NDArray[np.generic]]:
        stored = source.mask(gray=self.coding.threshold is not None, colors=self.coding.color_rule)
        return self.coding.decode_with_values(stored, source.where)

    def check(self, progress: Callable[[int, int], None] | None = None) -> CheckedData:
        """Decode everything once and tell every fault of every file together.

        Raises:
            DataError: with one problem for each file that cannot be used.
        """
        statistics, problems = self._inspect(progress)
        findings = [*quick_findings(self.cases, statistics, self)]
        problems += [finding.problem for finding in findings if finding.level == "error"]
        if problems:
            raise DataError.of(problems)
        return CheckedData(
            self.digest(),
            len(self.files()),
            empty=frozenset(each.name for each in statistics if not each.foreground),
            channels=frozenset(each.channels for each in statistics),
            notes=tuple(lines([finding.problem for finding in findings], SHOWN_PROBLEMS)),
            findings=tuple(findings),
            blank=frozenset(each.name for each in statistics if each.constant),
            duplicates=tuple(tuple(each.name for each in same) for same in duplicates(statistics)),
            stored=_stored(statistics),
            contrasts=frozenset(each.channels for each in statistics if each.contrasts),
            colored=sum(each.colored for each in statistics),
            shapes={each.name: each.shape for each in statistics},
        )

    def _inspect(self, progress: Callable[[int, int], None] | None) -> tuple[list[CaseStatistics], list[Problem]]:
        """What all cases tell, and the faults of all files."""
        statistics: list[CaseStatistics] = []
        problems: list[Problem] = []
        for done, case in enumerate(self.cases, start=1):
            try:
                statistics.append(self.look(case).statistics)
            except DataError as error:
                problems += error.problems
            if progress:
                progress(done, len(self.cases))
        return statistics, problems

    def files(self) -> list[Path]:
        """Every file of every case, in an order that is the same on every system."""
        paths = {file for case in self.cases for source in (case.image, *case.masks) for file in source.files}
        return by_parts(paths | {case.weights for case in self.cases if case.weights})

    def digest(self) -> str:
        """SHA-256 over all files' names and contents, as they are now."""
        whole = hashlib.sha256()
        base = base_of(self.root)
        for path in self.files():
            name = (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()
            try:
                with open_regular(path) as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise unreadable(path, error) from None
            whole.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
        return whole.hexdigest()


def _stored(statistics: Iterable[CaseStatistics]) -> dict[str, tuple[float, float]]:
    """Which types images are stored as, and between which values."""
    found: dict[str, tuple[float, float]] = {}
    for each in statistics:
        low, high = found.get(each.kind, (each.low, each.high))
        found[each.kind] = min(low, each.low), max(high, each.high)
    return found


def cache_bytes() -> int:
    """How much of decoded images and masks is kept.

    Raises:
        EnvironmentProblem: the environment says something that is not a number.
    """
    given = os.environ.get(CACHE, str(CACHE_MIB))
    if not given.isdecimal():
        raise EnvironmentProblem(f"{CACHE}={given}", "is not a number of MiB", f"for example {CACHE}={CACHE_MIB}")
    return int(given) * 2**20


def _together(reads: Iterable[Callable[[], Any]]) -> list[Any]:
    """What all of them return, or one error that tells the faults of all."""
    found: list[Any] = []
    problems: list[Problem] = []
    for read in reads:
        try:
            found.append(read())
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError.of(problems)
    return found


def _coded(code: str, read: Callable[[], Any]) -> Callable[[], Any]:
    """The same, but its faults have a code."""

    def coded() -> Any:
        try:
            return read()
        except DataError as error:
            raise error.coded(code) from None

    return coded


def _size_mismatch(mask: str, mask_shape: Any, image: str, image_shape: Any) -> DataError:
    transposed = tuple(mask_shape) == tuple(image_shape)[::-1]
    sizes = "is {}×{}, but {} is {}×{} (rows×columns)".format(*mask_shape, image, *image_shape)
    fix = (
        "transposed? `pocketseg doctor DATA --fix OUT` turns it"
        if transposed
        else "export the mask at the image's size"
    )
    return DataError(mask, sizes, fix).coded("transposed" if transposed else "size")
