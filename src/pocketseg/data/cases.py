"""A data set: its cases, decoded on demand, checked before anything else is done with it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from pocketseg.data.case import BoundedCache, Case, Source, open_array
from pocketseg.data.filters import Only
from pocketseg.data.groups import Grouping
from pocketseg.data.layouts import find_cases, natural_key
from pocketseg.data.masks import MaskCoding
from pocketseg.data.raters import Fusion, Raters, fuse
from pocketseg.errors import DataError, Problem
from pocketseg.pipeline.reading import Reading

CACHE_MIB = int(os.environ.get("POCKETSEG_CACHE_MIB", "1024"))
MOSTLY = 0.9


@dataclass(frozen=True)
class CheckedData:
    """What a check found.

    Attributes:
        digest: SHA-256 over all files' names and contents.
        files: number of files.
        empty: names of the cases whose mask holds no foreground.
        channels: the channel counts of the images.
        notes: what is odd but not wrong.
        blank: names of the cases whose image holds a single value.
    """

    digest: str
    files: int
    empty: frozenset[str]
    channels: frozenset[int]
    notes: tuple[str, ...] = ()
    blank: frozenset[str] = frozenset()


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
    cache: BoundedCache = field(default_factory=lambda: BoundedCache(CACHE_MIB * 2**20))

    @classmethod
    def open(
        cls,
        path: str | Path,
        layout: str = "auto",
        *,
        images: str | None = None,
        masks: str | None = None,
        coding: MaskCoding | None = None,
        grouping: Grouping | None = None,
        reading: Reading | None = None,
        raters: Raters = "majority",
        class_folders: tuple[str, ...] = (),
        only: Only | None = None,
    ) -> Cases:
        """Find the cases of a folder (or `.npz` file) and pair images with masks.

        Args:
            path: the data set.
            layout: a name from `data.layouts.LAYOUTS`, or `auto`.
            images, masks: two folders of any name, relative to path or absolute.
            coding: how stored mask values name classes; default: one class.
            grouping: where groups come from; default: what the layout knows (a volume, a patient), else every case is
                its own group.
            reading: how volumes are cut into slices.
            raters: masks of several raters are fused by majority or STAPLE, or `each` gives a case.
            class_folders: names of the classes, where the folder a case lies in says which one its mask shows.
            only: which cases to keep.

        Raises:
            DataError: nothing was found, or images and masks do not pair; all faults are told at once.
        """
        root = Path(path)
        each = raters == "each"
        name, folder, listing = find_cases(root, layout, images, masks, reading=reading, each_rater=each)
        if listing.problems:
            # What does not pair stops everything; the files that do are looked at all the same, to tell all at once.
            paired = cls(root, name, listing.cases, coding or MaskCoding())
            raise DataError.of([*listing.problems, *paired._inspect(None)[0]])
        if not listing.cases:
            raise DataError(str(folder), "holds no images", "check the path given as --data")
        grouping = grouping or Grouping()
        ordered = sorted((only or Only()).of(listing.cases), key=lambda case: natural_key(case.name))
        cases = grouping.assign(ordered, root if root.is_dir() else root.parent)
        grouped = bool(grouping) or any(case.group != case.name for case in cases)
        fusion: Fusion = "staple" if raters == "staple" else "majority"
        return cls(root, name, cases, coding or MaskCoding(), grouped, fusion, class_folders)

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
        """Class indices, uint8 (h, w).

        Several masks of a case are united (the highest index wins), those of several raters fused.
        """
        return self.cache.get(("mask", case.name), lambda: (self._of_its_folder(case, self._united(case)),))[0]

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

    def _united(self, case: Case) -> NDArray[np.uint8]:
        layers = _together(partial(self._decoded, source) for source in case.masks)
        for source, layer in zip(case.masks, layers, strict=True):
            if layer.shape != layers[0].shape:
                raise _size_mismatch(source.where, layer.shape, case.masks[0].where, layers[0].shape)
        if len(case.raters) > 1:
            return fuse(np.stack(layers), self.coding.classes, self.fusion)
        out: NDArray[np.uint8] = np.maximum.reduce(layers)
        return out

    def weights(self, case: Case) -> NDArray[np.float32] | None:
        """The weight of every pixel (h, w), where the data has them."""
        if case.weights is None:
            return None
        values = open_array(case.weights, None)
        shape = self.image(case).shape[:2]
        if values.shape != shape or values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            what = f"holds {values.dtype} of the shape {values.shape}, not a finite number a pixel of {shape}"
            raise DataError(str(case.weights), what, "make the weights anew")
        return np.asarray(values, np.float32)

    def _decoded(self, source: Source) -> NDArray[np.uint8]:
        return self.coding.decode(source.mask(grey=self.coding.threshold is not None), source.where)

    def check(self, progress: Callable[[int, int], None] | None = None) -> CheckedData:
        """Decode everything once and tell every fault of every file together.

        Raises:
            DataError: with one problem for each file that cannot be used.
        """
        problems, shares, channels, blank = self._inspect(progress)
        if problems:
            raise DataError.of(problems)
        digest, files = self._digest()
        empty = frozenset(name for name, share in shares.items() if share == 0)
        notes = tuple(self._notes(shares, channels))
        return CheckedData(digest, files, empty, frozenset(channels), notes, frozenset(blank))

    def _inspect(
        self, progress: Callable[[int, int], None] | None
    ) -> tuple[list[Problem], dict[str, float], set[int], set[str]]:
        """Faults of all files, each case's share of foreground, the images' channel counts, and the blank images."""
        problems: list[Problem] = []
        shares: dict[str, float] = {}
        channels: set[int] = set()
        blank: set[str] = set()
        for done, case in enumerate(self.cases, start=1):
            try:
                image, mask = _together([partial(self.image, case), partial(self.mask, case)])
                self.weights(case)
                if image.shape[:2] != mask.shape:
                    raise _size_mismatch(case.masks[0].where, mask.shape, case.image.where, image.shape[:2])
                shares[case.name] = float((mask > 0).mean())
                if image.min() == image.max():
                    blank.add(case.name)
                channels.add(1 if image.ndim == 2 else image.shape[2])
            except DataError as error:
                problems += error.problems
            if progress:
                progress(done, len(self.cases))
        return problems, shares, channels, blank

    def _digest(self) -> tuple[str, int]:
        paths = {file for case in self.cases for source in (case.image, *case.masks) for file in source.files}
        paths |= {case.weights for case in self.cases if case.weights}
        whole = hashlib.sha256()
        base = self.root if self.root.is_dir() else self.root.parent
        for path in sorted(paths):
            name = path.relative_to(base) if path.is_relative_to(base) else path
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
        return whole.hexdigest(), len(paths)

    def _notes(self, shares: dict[str, float], channels: set[int]) -> Iterator[str]:
        values = np.array(list(shares.values()))
        if not self.grouped:
            yield (
                "every case is its own group: if several images show one patient, set data.group_regex, "
                "data.group_folder or data.group_csv, or the test result will flatter"
            )
        if (values == 0).mean() > 0.5:
            yield f"{(values == 0).sum()} of {len(values)} masks are empty"
        if (values > MOSTLY).mean() > MOSTLY:
            yield "foreground covers most of most images: if it is stored inverted, set data.mask.invert=true"
        if len(channels) > 1:
            counts = " and ".join(map(str, sorted(channels)))
            yield f"images with {counts} channels are mixed; data.channels decides"
        if any(np.issubdtype(self.image(case).dtype, np.floating) for case in self.cases[:1]):
            yield "float images are scaled by their own minimum and maximum unless data.range declares them"


def _together(reads: Iterable[Callable[[], NDArray[Any]]]) -> list[NDArray[Any]]:
    """What all of them return, or one error that tells the faults of all."""
    arrays: list[NDArray[Any]] = []
    problems: list[Problem] = []
    for read in reads:
        try:
            arrays.append(read())
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError.of(problems)
    return arrays


def _size_mismatch(mask: str, mask_shape: Any, image: str, image_shape: Any) -> DataError:
    transposed = tuple(mask_shape) == tuple(image_shape)[::-1]
    sizes = "is {}×{}, but {} is {}×{} (rows×columns)".format(*mask_shape, image, *image_shape)
    return DataError(mask, sizes, "transposed?" if transposed else "export the mask at the image's size")
