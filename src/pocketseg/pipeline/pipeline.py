"""The way of one image through a net: prepare, forward, restore, mask. It travels inside every model file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from pocketseg.errors import DataError, ModelFileError, NotFiniteError
from pocketseg.layers import grid_of
from pocketseg.names import check_name
from pocketseg.pipeline import geometry
from pocketseg.pipeline.arithmetic import added, exponential
from pocketseg.pipeline.drawn import paint_out
from pocketseg.pipeline.fields import Channels, Flag, Number, Positive, Side
from pocketseg.pipeline.given import as_image, as_spacing
from pocketseg.pipeline.intensity import Normalization, TrainedOn, bounds, is_colored, to_planes
from pocketseg.pipeline.postprocess import Postprocess
from pocketseg.pipeline.reading import Reading
from pocketseg.text import counted

Array = NDArray[np.float32]
# (n, c, h, w) float32 to logits (n, k', h, w) float32, h and w multiples of the net's stride.
Forward = Callable[[Array], Array]
Mirror = Literal["horizontal", "vertical"]

TILES_AT_ONCE = 8
# How what `warn` gets of colors begins.
OF_COLOR = "color: "
ODD_COLOR = OF_COLOR + "it is {}, those of training were {}, and the net takes {}"
# Smaller ones would be as many calls of the net as pixels. That of `data.size` in recipes.
MIN_TILE = 8
# Pixels of an image on the net's grid: as many as a file may have.
MAX_PIXELS = 144_000_000
AXIS_OF = {"horizontal": -1, "vertical": -2}
# Masks hold a byte a pixel.
MAX_CLASSES = 255

# Exported files carry the pipeline as JSON under this key, in this version of its form.
METADATA_KEY = "pocketseg"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Pipeline:
    """Everything but the weights that decides what comes out for an image.

    Attributes:
        size: (height, width) the net sees.
        channels: image channels the net takes.
        classes: names of the foreground classes; index 0 of a mask is background.
        fit: `resize` stretches the whole image to `size`; `letterbox` keeps its shape; `pad` and `crop` keep its
            pixels, in the middle of `size`; `tile` keeps its grid and covers it with blended tiles of `size`. What lies
            around an image is 0 after normalization; what was cut off is background.
        multiple: the net's total stride; its input is padded to multiples of it.
        spacing_mm: pixel size (row, column) that images are resampled to first, for `pad`, `crop` and `tile`.
        reading: how volumes are cut into images.
        intensity_range: the stored values that become 0 and 1; None: by dtype (see `intensity.unit_range`).
        paint_out_calipers: fill crosses, dotted lines and colored marks that are drawn into images of 8 bits
            (`drawn.paint_out`) before anything else.
        tta: directions of test-time mirroring: probabilities are the mean over the image and its mirror images, which
            are mirrored back; two directions make four images, each a run of the net.
        multilabel: whether classes may overlap: the net gives a logit for each, whose sigmoid is its probability, and
            masks are planes (k, h, w) of 0 and 1.
        trained_on: what training images held; None in files of before, which say nothing of it: then floats run over
            their own range, integers that are neither uint8 nor uint16 are refused, and no image is called unlike.
    """

    size: tuple[Side, Side]
    channels: Channels = 1
    classes: Annotated[
        tuple[Annotated[str, AfterValidator(check_name)], ...], Field(min_length=1, max_length=MAX_CLASSES)
    ] = ("foreground",)
    fit: geometry.Fit = "resize"
    multiple: Side = 1
    intensity_range: tuple[Number, Number] | None = None
    normalization: Normalization = field(default_factory=Normalization)
    postprocess: Postprocess = field(default_factory=Postprocess)
    spacing_mm: tuple[Positive, Positive] | None = None
    reading: Reading = field(default_factory=Reading)
    trained_on: TrainedOn | None = None
    paint_out_calipers: Flag = False
    tta: tuple[Mirror, ...] = ()
    multilabel: Flag = False

    def placement(self, shape: geometry.Shape, spacing_mm: geometry.Spacing | None = None) -> geometry.Placement:
        """How an image of this (height, width) and pixel size comes to the net's grid.

        Raises:
            DataError: its pixel size is needed and not known, or no pixel size; or it is too large to be padded, or at
                the model's pixel size to be held.
        """
        scale, spacing_mm = (1.0, 1.0), as_spacing(spacing_mm)
        if self.spacing_mm is not None:
            if spacing_mm is None:
                what = "its pixel size is not known, but the model works at {:g} × {:g} mm".format(*self.spacing_mm)
                raise DataError("image", what, "give images with a pixel size, or train without data.spacing_mm")
            scale = spacing_mm[0] / self.spacing_mm[0], spacing_mm[1] / self.spacing_mm[1]
            sides = shape[0] * scale[0], shape[1] * scale[1]
            if not sides[0] * sides[1] <= MAX_PIXELS or max(sides) > MAX_PIXELS:
                what = "would have {:.3g} × {:.3g} pixels of the model's {:g} × {:g} mm".format(
                    *sides, *self.spacing_mm
                )
                raise DataError("image", what, "check its pixel size, or cut it into parts")
        try:
            place = geometry.place(shape, self.size, self.fit, scale)
            most = max(have * want for have, want in zip(shape, place.inner, strict=True))
            if shape != place.inner and most > geometry.MAX_WEIGHTS:
                what = f"is too long to make {place.inner[0]}×{place.inner[1]} pixels of {shape[0]}×{shape[1]}"
                raise DataError("image", what, "cut it into parts")
            return place
        except ValueError as error:
            others = "crop, tile or letterbox" if self.spacing_mm is None else "crop or tile"
            raise DataError("image", str(error), f"enlarge data.size, or set data.fit to {others}") from error

    def fitted(self, image: NDArray[np.generic], spacing_mm: geometry.Spacing | None = None) -> Array:
        """Unit-range planes (c, h, w) of what the net sees of an image, not yet normalized and without surroundings."""
        image = as_image(image)
        numbers = None if self.trained_on is None else self.trained_on.numbers
        if self.paint_out_calipers:
            image = _without_calipers(image)
        try:
            planes = to_planes(image, self.channels, self.intensity_range, numbers)
        except ValueError as error:
            fix = "give images (h, w) or (h, w, c) of that kind, or train with data.channels set"
            raise DataError("image", str(error), fix) from error
        return self.placement((image.shape[0], image.shape[1]), spacing_mm).cut(planes)

    def prepare(self, image: NDArray[np.generic], spacing_mm: geometry.Spacing | None = None) -> Array:
        """Net input (c, h, w) of an image (h, w) or (h, w, c); what is taken for one, `given.as_image` says."""
        image = as_image(image)
        place = self.placement((image.shape[0], image.shape[1]), spacing_mm)
        return place.surround(self.normalization(self.fitted(image, spacing_mm)))

    def fit_mask(self, mask: NDArray[np.uint8], spacing_mm: geometry.Spacing | None = None) -> NDArray[np.uint8]:
        """A mask, class indices or planes, on the net's grid."""
        return self.placement(grid_of(mask), spacing_mm).cut_labels(mask, len(self.classes))

    def mask_shares(self, mask: NDArray[np.uint8], spacing_mm: geometry.Spacing | None = None) -> Array:
        """The share of each pixel of the net's grid that each class of a mask covers, (classes, height, width)."""
        return self.placement(grid_of(mask), spacing_mm).cut_shares(mask, len(self.classes))

    def empty_mask(self, shape: geometry.Shape) -> NDArray[np.uint8]:
        """A mask (height, width) of background alone."""
        return np.zeros((len(self.classes), *shape) if self.multilabel else shape, np.uint8)

    def predict(
        self,
        image: NDArray[np.generic],
        forward: Forward,
        spacing_mm: geometry.Spacing | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Array:
        """Foreground probabilities (h, w, k) on the image's own grid.

        `warn` gets what is odd about its intensities, and, after `OF_COLOR`, about its colors.

        Raises:
            DataError: it is not an image, or does not fit; or the net gives numbers for it that are not finite.
        """
        image = as_image(image)
        place = self.placement((image.shape[0], image.shape[1]), spacing_mm)
        planes = self.fitted(image, spacing_mm)
        if warn:
            for odd in self.oddities(image, bounds(planes)):
                warn(odd)
        return self.predict_prepared(place.surround(self.normalization(planes)), place, forward)

    def predict_prepared(self, prepared: Array, place: geometry.Placement, forward: Forward) -> Array:
        """The same from net input that `prepare` made of an image with this placement."""
        return self._restored(self._blend(prepared, forward), place)

    def predict_batch(
        self, prepared: Sequence[Array], places: Sequence[geometry.Placement], forward: Forward
    ) -> list[Array]:
        """`predict_prepared` for several images; where all come to one size, the net runs once for all of them."""
        if self.fit == "tile":
            return [
                self.predict_prepared(planes, place, forward) for planes, place in zip(prepared, places, strict=True)
            ]
        found = self._probabilities(list(prepared), forward)
        return [self._restored(planes, place) for planes, place in zip(found, places, strict=True)]

    def _restored(self, probabilities: Array, place: geometry.Placement) -> Array:
        """(k, h, w) on the net's grid to (h, w, k) on the image's."""
        return np.ascontiguousarray(np.moveaxis(place.restore(probabilities), 0, -1))

    def _blend(self, prepared: Array, forward: Forward) -> Array:
        """Probabilities (k, h, w) on the net's grid, from overlapping tiles where one does not cover it."""
        shape = (prepared.shape[1], prepared.shape[2])
        places = geometry.tiles(shape, self.size)
        if len(places) == 1:
            whole: Array = self._probabilities([prepared], forward)[0]
            return whole
        total = np.zeros((len(self.classes), *shape), np.float32)
        weight = np.zeros(shape, np.float32)
        for start in range(0, len(places), TILES_AT_ONCE):
            batch = places[start : start + TILES_AT_ONCE]
            found = self._probabilities([prepared[(slice(None), *place.window)] for place in batch], forward)
            for place, probability in zip(batch, found, strict=True):
                window = geometry.blending_window(place.height, place.width)
                total[(slice(None), *place.window)] += probability * window
                weight[place.window] += window
        total /= weight
        return total

    def _probabilities(self, inputs: list[Array], forward: Forward) -> Array:
        """Probabilities (n, k, h, w) of planes (c, h, w) of one size, over all mirror images of them."""
        total = self._of_view(inputs, forward)
        for axes in self._views():
            mirrored = self._of_view([np.flip(planes, axes) for planes in inputs], forward)
            total = total + np.flip(mirrored, axes)
        return total / np.float32(self.runs) if self.tta else total

    def _views(self) -> list[tuple[int, ...]]:
        """Axes of each mirroring, from the last."""
        axes = [AXIS_OF[direction] for direction in self.tta]
        return [tuple(some) for count in range(1, len(axes) + 1) for some in combinations(axes, count)]

    @property
    def runs(self) -> int:
        """How often the net runs for an image, or a tile of it."""
        return int(2 ** len(self.tta))

    def _of_view(self, inputs: list[Array], forward: Forward) -> Array:
        height, width = inputs[0].shape[1:]
        padded = np.stack([self._pad(planes) for planes in inputs])
        # The one place where what goes into a net and what it gives is looked at, whatever runs it: nan is below every
        # threshold, and some runtimes make numbers of it.
        if not np.isfinite(padded).all():
            raise self._not_finite()
        logits = forward(padded)
        wanted = (len(inputs), self.logits, *padded.shape[2:])
        if not isinstance(logits, np.ndarray) or logits.dtype.kind != "f" or logits.shape != wanted:
            found = f"{logits.dtype} {logits.shape}" if isinstance(logits, np.ndarray) else type(logits).__name__
            what = f"gives logits {found}; {len(self.classes)} classes need float32 {wanted}"
            raise ModelFileError("the net", what, "export it again")
        if not np.isfinite(logits).all():
            raise self._not_finite()
        return to_probabilities(logits[:, :, :height, :width], multilabel=self.multilabel)

    @staticmethod
    def _not_finite() -> NotFiniteError:
        fix = "check the image's intensities, and the model with `pocketseg verify`"
        return NotFiniteError("image", "makes the net give NaN or infinite numbers", fix)

    def _pad(self, planes: Array) -> Array:
        whole = geometry.pad_to_size(planes, self.size) if self.fit == "tile" else planes
        return geometry.pad_to_multiple(whole, self.multiple)

    @property
    def net_size(self) -> tuple[int, int]:
        """(height, width) of the tensors the net is called with."""
        return self.size[0] + -self.size[0] % self.multiple, self.size[1] + -self.size[1] % self.multiple

    @property
    def logits(self) -> int:
        """How many the net gives for a pixel, see `logit_count`."""
        return logit_count(len(self.classes), multilabel=self.multilabel)

    def mask(self, probabilities: Array) -> NDArray[np.uint8]:
        """uint8 (h, w) of class indices, or planes (k, h, w) where classes may overlap, post-processed."""
        return self.postprocess(probabilities, multilabel=self.multilabel)

    def oddities(self, image: NDArray[np.generic], seen: tuple[float, float]) -> list[str]:
        """How an image differs from those of training: in the bounds of its intensities, and in colors.

        Normalization by an image's own numbers makes all bounds alike.
        """
        by_image = self.normalization.kind in ("min-max", "z-score")
        far = "" if self.trained_on is None or by_image else self.trained_on.unlike(*seen)
        return [odd for odd in (far, self._odd_color(image)) if odd]

    def _odd_color(self, image: NDArray[np.generic]) -> str:
        """Whether an image is colored where those of training were gray, or the reverse; empty where it is as they."""
        usual = {1: "gray", 3: "colored"}.get(self.channels)
        seen = usual if self.trained_on is None or self.trained_on.colors is None else self.trained_on.colors
        have = "colored" if is_colored(image) else "gray"
        return (
            ""
            if usual is None or seen in (have, "mixed")
            else ODD_COLOR.format(have, seen, counted(self.channels, "channel"))
        )

    def to_dict(self) -> dict[str, Any]:
        """What model files hold of it."""
        content = {key: value for key, value in asdict(self).items() if (key, value) != ("trained_on", None)}
        if not self.paint_out_calipers:  # as in files of before it was known, here and below
            del content["paint_out_calipers"]
        if not self.tta:
            del content["tta"]
        if not self.multilabel:
            del content["multilabel"]
        if not self.postprocess.thresholds:
            del content["postprocess"]["thresholds"]
        if not self.postprocess.presence:
            del content["postprocess"]["presence"]
        if not self.reading.channel_files:  # as in files of before it was known
            del content["reading"]["channel_files"]
        if self.trained_on is not None and self.trained_on.colors is None:
            del content["trained_on"]["colors"]
        return content

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), sort_keys=True)

    @classmethod
    def from_dict(cls, fields: Any, file: str) -> Pipeline:
        """The pipeline stored in a model file; `file` is named in the error.

        Raises:
            ModelFileError: a field is missing, of another type, or outside of its bounds; or they contradict.
        """
        try:
            return _STORED.validate_python(fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "together"
            what = f"its pipeline is not valid ({where}: {first['msg'].removeprefix('Value error, ')})"
            raise ModelFileError(file, what, "export the model again") from error


def _without_calipers(image: NDArray[np.generic]) -> NDArray[np.generic]:
    if image.dtype != np.uint8 or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        what = f"holds {image.dtype} {image.shape}, and calipers are painted out of pictures of 8 bits alone"
        raise DataError("image", what, "give such pictures, or train with data.paint_out_calipers=false")
    return paint_out(image.astype(np.uint8, copy=False))


def _consistent(pipeline: Pipeline) -> Pipeline:
    """The pipeline, where its fields go together."""
    normalization, channels = pipeline.normalization, pipeline.channels
    if len(set(pipeline.classes)) < len(pipeline.classes):
        raise ValueError("a class appears twice")
    if len(set(pipeline.tta)) < len(pipeline.tta):
        raise ValueError("tta: a direction appears twice")
    if pipeline.postprocess.presence and len(pipeline.postprocess.presence) != len(pipeline.classes):
        raise ValueError(f"{len(pipeline.postprocess.presence)} limits of presence for {len(pipeline.classes)} classes")
    if pipeline.intensity_range is not None and pipeline.intensity_range[0] >= pipeline.intensity_range[1]:
        raise ValueError("intensity_range does not rise")
    if normalization.kind == "train-mean-std" and (len(normalization.mean), len(normalization.std)) != (channels,) * 2:
        raise ValueError(f"mean and std are not of {channels} channels")
    if pipeline.reading.channel_files and len(pipeline.reading.channel_files) != channels:
        raise ValueError(f"{len(pipeline.reading.channel_files)} files hold the {channels} channels of an image")
    if pipeline.multilabel and len(pipeline.classes) == 1:
        raise ValueError("multilabel: one class overlaps with none")
    if pipeline.postprocess.thresholds and not pipeline.multilabel:
        raise ValueError("thresholds of classes that do not overlap")
    if len(pipeline.postprocess.thresholds) not in (0, len(pipeline.classes)):
        raise ValueError(f"{len(pipeline.postprocess.thresholds)} thresholds of {len(pipeline.classes)} classes")
    if pipeline.fit == "tile" and min(pipeline.size) < MIN_TILE:
        raise ValueError(f"tiles of {pipeline.size[0]}×{pipeline.size[1]} pixels; {MIN_TILE} a side are needed")
    return pipeline


_STORED: TypeAdapter[Pipeline] = TypeAdapter(Annotated[Pipeline, AfterValidator(_consistent)])


def logit_count(classes: int, *, multilabel: bool = False) -> int:
    """One logit for one class, and for each that may overlap; background and classes for several that exclude."""
    return classes if classes == 1 or multilabel else classes + 1


def to_probabilities(logits: Array, *, multilabel: bool = False) -> Array:
    """Foreground probabilities (n, k, h, w): sigmoids of a single logit or of classes that may overlap, else softmax
    without the background."""
    if logits.shape[1] == 1 or multilabel:
        # exp of a non-positive number never overflows.
        small = exponential(-np.abs(logits))
        return np.where(logits >= 0, 1 / (1 + small), small / (1 + small)).astype(np.float32)
    powers = exponential(logits - logits.max(axis=1, keepdims=True))
    out: Array = (powers / added(np.moveaxis(powers, 1, 0))[:, None])[:, 1:]
    return out
