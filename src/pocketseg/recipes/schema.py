"""The recipe: everything that decides a result. Unknown keys, wrong types, impossible values are errors."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pocketseg.names import check_name
from pocketseg.text import counted

# Becomes part of file names.
Name = Annotated[str, AfterValidator(check_name)]


def _no_file(name: str) -> str:
    if name.lower().endswith((".csv", ".json", ".onnx", ".pseg")):
        raise ValueError(f"the name {name!r} is that of a file which lies beside the folder of the stage")
    return name


def _color(text: str) -> str:
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", text):
        raise ValueError(f"{text!r} is not a color; write it as '#ff0000' (red, green, blue)")
    return text.lower()


Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Threshold = Annotated[float, Field(gt=0, lt=1)]
Side = Annotated[int, Field(ge=8, le=4096)]
# Stands for the name of a class in folders and names of masks.
CLASS = "{class}"


def _square(size: Any) -> Any:
    return (size, size) if type(size) is int else size


def _or_number(schema: dict[str, Any]) -> None:
    """The schema of a pair also allows one of its numbers."""
    pair = {key: schema.pop(key) for key in ("type", "prefixItems", "minItems", "maxItems")}
    schema["anyOf"] = [pair, pair["prefixItems"][0]]


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"the range runs from {values[0]:g} down to {values[1]:g}; write the smaller number first")
    return values


Range = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Sigma = Annotated[float, Field(ge=0, le=8)]
# What is drawn for each sample: up to a largest number, or between two.
Strength = Share | Annotated[tuple[Share, Share], AfterValidator(_ordered)]
Blur = Sigma | Annotated[tuple[Sigma, Sigma], AfterValidator(_ordered)]
Auto = Literal["auto"]
# Of names of layers.
Pattern = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A frozen part of a recipe that knows all its keys; true and false stand only where a key asks for them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _bool_is_no_number(cls, values: Any) -> Any:
        fields = cls.model_fields.items() if isinstance(values, dict) else ()
        wrong = [name for name, field in fields if _has_bool(values.get(name)) and not _takes_bool(field.annotation)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: true and false are neither numbers nor names; write what is meant")
        return values


def _has_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_has_bool, value)))


def _takes_bool(annotation: Any) -> bool:
    """Whether a type names bool anywhere, as in `bool | None`."""
    return annotation is bool or isinstance(annotation, bool) or any(map(_takes_bool, get_args(annotation)))


class MaskSection(Section):
    """How the mask files store classes."""

    invert: bool = False
    """Foreground is stored as 0 and background as something else (black objects on white)."""
    values: list[int] | None = None
    """The stored value of each class, in the order of `classes`. null: the one value above 0 that a mask holds where
    there is one class, else 1, 2 and so on. Of a palette (indexed PNG) they are the indices."""
    colors: list[Annotated[str, AfterValidator(_color)]] | None = None
    """The color of each class as "#rrggbb", in the order of `classes`, for masks in colors or with a palette; the one
    other color is background. null: black or transparent is background, and of a palette that begins with it the index
    is the class; otherwise a single other color is the foreground."""
    threshold: Positive | None = None
    """For one class: stored values of at least this are foreground. For gray, blurred or JPEG masks."""
    layers: list[Annotated[list[int], Field(min_length=1)]] | None = None
    """For `multilabel`: the stored values that each class is in, in the order of `classes`, such as
    [[1, 2, 4], [1, 4], [4]], where a value stands for several classes. null: masks store a plane for each class."""
    suffix: str | Annotated[list[str], Field(min_length=1)] | None = None
    """What a mask's name has after that of its image, such as `_segmentation`, or a pattern such as `mask_{stem}`; a
    list names the masks of several raters. null: the text that all masks have in common is found. For `multilabel`
    `{class}` stands for the name of a class, as in `_{class}`, where each has a file of its own."""
    by_folder: bool = False
    """The masks hold one foreground, and the class folder that a case lies in (benign, malignant) says which class it
    is."""

    @field_validator("suffix")
    @classmethod
    def _names_masks(cls, given: str | list[str] | None) -> str | list[str] | None:
        for text in [given] if isinstance(given, str) else given or []:
            if not text or text.count("{stem}") > 1 or "/" in text or "\0" in text:
                raise ValueError(f"{text!r} is not a part of a file's name; for example _mask, or mask_{{stem}}")
        return given

    @property
    def naming(self) -> tuple[str, ...]:
        """The texts of `suffix`."""
        return (self.suffix,) if isinstance(self.suffix, str) else tuple(self.suffix or ())


class OnlySection(Section):
    """Which subjects, sites and raters to use, as far as the file names tell them."""

    subject: list[str] | None = None
    """Regular expressions; a case is used if its subject matches one of them. null: all."""
    site: list[str] | None = None
    """The same for the site (hospital, scanner)."""
    rater: list[str] | None = None
    """The same for the rater who drew the mask."""


class DataSection(Section):
    """What the net sees, and how images, masks and groups are found."""

    size: Annotated[tuple[Side, Side], BeforeValidator(_square), Field(json_schema_extra=_or_number)] = (128, 128)
    """Height and width in pixels of the net's input; one number is a square."""
    channels: Annotated[int, Field(ge=1, le=16)] | Auto = "auto"
    """Channels of the net's input: 1 for gray, 3 for color; `auto` takes 1 where all images are gray, even if stored as
    color, 3 where some are colored, and the number of contrasts where images have several. Images are converted where a
    rule exists."""
    fit: Literal["resize", "letterbox", "pad", "crop", "tile"] = "resize"
    """How an image of another size is brought to `size`: stretched (`resize`), scaled with its shape kept
    (`letterbox`), padded, cropped, or cut into tiles (`tile`: random windows in training, a sliding window in
    prediction)."""
    spacing_mm: tuple[Positive, Positive] | None = None
    """Pixel size (row, column) in mm that every image is resampled to before `pad`, `crop` or `tile`. null: pixels as
    they are."""
    axis: Literal["auto", "axial", "coronal", "sagittal"] = "auto"
    """For volumes: the direction of the slices. `auto` takes the planes with the finest pixels."""
    window: tuple[float, Positive] | Literal["stored"] | None = None
    """For volumes: center and width of the values that become 0 to 1, such as [40, 400] in Hounsfield units; `stored`
    takes the window of the DICOM file."""
    drop_empty: Literal["train"] | None = None
    """`train` leaves blank images and empty masks out of the training part. They are evaluated all the same."""
    only: OnlySection = OnlySection()
    """Use only some subjects, sites or raters."""
    paint_out_calipers: bool = False
    """Fill the crosses and dotted lines of calipers, and colored marks, before the net sees an image, in training and
    in prediction: each pixel becomes the mean of its known neighbors, from the rim inwards. For pictures of 8 bits;
    what `pocketseg doctor` does not find stays."""
    raters: Literal["majority", "staple", "each"] = "majority"
    """What to do with masks of several raters: fuse them (`majority` vote, of two raters what both drew, or `staple`),
    or make a case of `each`."""
    classes: Annotated[list[Name], Field(min_length=1, max_length=255)] = ["lesion"]
    """Names of the foreground classes, in the order of their indices, which start at 1."""
    multilabel: bool = False
    """Classes may overlap, as a tumor in an organ: each has a probability of its own (a sigmoid), a threshold and a
    plane of the mask. false: they exclude each other."""
    mask: MaskSection = MaskSection()
    """How the mask files store classes."""
    range: tuple[float, float] | None = None
    """The stored values that become 0 and 1. null: the range of the integer type, or the image's own range for floating
    point."""
    layout: str = "auto"
    """How files are arranged in the folder; `auto` detects it, `pocketseg data layouts` lists the names."""
    images: str | None = None
    """Folder of images inside of the data folder, of any name; needs `masks`."""
    masks: str | None = None
    """Folder of masks inside of the data folder, of any name; needs `images`. For `multilabel` `{class}` stands for the
    name of a class, as in `masks/{class}`, where each has a folder of its own."""
    follow_links: bool = False
    """Also read what symbolic links point to outside of the data folder."""
    group_csv: str | None = None
    """Table in the data folder whose first column names the case. Cases of one group (patient) always stay in one part
    of the split."""
    group_column: str | None = None
    """Column of `group_csv` that holds the group."""
    group_regex: str | None = None
    """Regular expression on the case name; its first parenthesis is the group, such as ^([^_]+)_."""
    group_folder: bool = False
    """The folder that a case lies in is its group."""

    @model_validator(mode="after")
    def _consistent(self) -> DataSection:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: a name appears twice; give every class a name of its own")
        if self.mask.values is not None and len(self.mask.values) != len(self.classes):
            raise ValueError(
                f"mask.values: needs one value for each of {counted(len(self.classes), '[class|classes]')}"
            )
        if self.mask.values is not None and len(set(self.mask.values)) < len(self.mask.values):
            raise ValueError("mask.values: a value appears twice; give every class a value of its own")
        if self.mask.colors is not None and len(self.mask.colors) != (1 if self.mask.by_folder else len(self.classes)):
            raise ValueError(f"mask.colors: needs one color for each of the {len(self.classes)} classes")
        if self.mask.colors is not None and (self.mask.values is not None or self.mask.threshold is not None):
            raise ValueError("mask: colors, values and threshold all say what is foreground; give one of them")
        if self.mask.colors is not None and len(set(self.mask.colors)) < len(self.mask.colors):
            raise ValueError("mask.colors: a color appears twice; give every class a color of its own")
        if self.mask.values is not None and self.mask.by_folder:
            raise ValueError("mask: values and by_folder both say which class a mask shows; give one of them")
        self._check_multilabel()
        stored_apart = len(self.classes) > 1 and not (self.mask.by_folder or self.multilabel)
        if stored_apart and (self.mask.invert or self.mask.threshold is not None):
            raise ValueError("mask: invert and threshold make sense for one class only; remove them")
        if sum([self.group_csv is not None, self.group_regex is not None, self.group_folder]) > 1:
            raise ValueError("give one of group_csv, group_regex and group_folder")
        if self.group_column is not None and self.group_csv is None:
            raise ValueError("group_column is a column of group_csv, which is not given")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError("range: the first value must be below the second")
        if self.range is not None and self.window is not None:
            raise ValueError("range and window both say which values become 0 and 1; give one of them")
        if self.spacing_mm is not None and self.fit in ("resize", "letterbox"):
            raise ValueError(f"spacing_mm has no effect with fit: {self.fit}; use fit: pad, crop or tile")
        return self

    def _check_multilabel(self) -> None:
        """Raises: ValueError: keys that contradict what is said of overlapping classes."""
        layers, by_class = self.mask.layers, [text for text in (self.masks or "", *self.mask.naming) if CLASS in text]
        if not self.multilabel:
            if layers is not None or by_class:
                key = "mask.layers" if layers is not None else f"{CLASS} in masks and mask.suffix"
                raise ValueError(f"{key}: is for classes that may overlap; set multilabel: true, or remove it")
            return
        if len(self.classes) == 1:
            raise ValueError("multilabel: one class overlaps with none; name several classes, or remove it")
        keys: dict[str, Any] = {"invert": self.mask.invert, "values": self.mask.values, "colors": self.mask.colors}
        keys |= {"by_folder": self.mask.by_folder, "threshold": layers is not None and self.mask.threshold}
        vain = ", ".join(f"mask.{key}" for key, value in keys.items() if value)
        if vain:
            raise ValueError(f"{vain}: does not say which classes overlap; remove it (mask.layers names stored values)")
        if layers is not None and by_class:
            raise ValueError(f"mask.layers and {CLASS} both say how classes are stored; give one of them")
        if by_class and len(self.mask.naming) > 1:
            raise ValueError(f"mask.suffix: a list names raters, and {CLASS} files of classes; give one pattern")
        if layers is not None and len(layers) != len(self.classes):
            raise ValueError(f"mask.layers: needs a list of values for each of the {len(self.classes)} classes")
        if layers is not None and any(0 in values or len(set(values)) < len(values) for values in layers):
            raise ValueError("mask.layers: 0 is background, and a class has each value once; correct the lists")


class SplitSection(Section):
    """How cases are divided into training, validation and test parts. Groups are never split."""

    kind: Literal["holdout", "kfold", "given"] = "holdout"
    """`holdout`: one random split; `kfold`: every case is a test case once; `given`: the parts that the data's own
    folders say (train, val, test)."""
    test: Share = 0.2
    """Fraction of the cases held out for the test, for `holdout`; `kfold` has `fixed_test`."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Fraction of the cases for validation."""
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    """Number of folds, for `kfold`."""
    fixed_test: Share | Annotated[int, Field(strict=True, ge=0)] = 0
    """For `kfold`: cases that are kept out of all folds, a share (0.2) or their number (10; whole groups come near to
    it). The net of each fold is evaluated on them beside the cases that its fold holds out, and all nets together as an
    ensemble."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Other seeds give other splits."""
    contiguous: bool = False
    """Divide the groups in the order of their names, so that neighboring slices of a volume stay together."""
    ignore_parts: bool = False
    """Divide the cases by this rule although the data's own folders (train, val, test) say which part they are. Without
    it those parts are kept, and validation cases are taken from train where the data has none."""

    @model_validator(mode="after")
    def _something_trains(self) -> SplitSection:
        if self.kind == "holdout" and self.test + self.validation >= 1:
            raise ValueError("test and validation together leave nothing to train on; make them smaller")
        if self.fixed_test and self.kind != "kfold":
            raise ValueError(f"fixed_test is for kind: kfold; with {self.kind} the test part is fixed already")
        return self


class NormalizeSection(Section):
    """Intensity normalization, after the image was scaled to 0 … 1."""

    kind: Literal["unit-range", "min-max", "z-score", "train-mean-std"] = "train-mean-std"
    """`unit-range`: nothing more; `min-max`: each image to 0 … 1; `z-score`: each image to mean 0 and standard
    deviation 1; `train-mean-std`: by the mean and standard deviation of the training part."""
    clip: Positive | None = None
    """For `z-score`: values are cut at this many standard deviations. null: no limit."""


class AffineSection(Section):
    """Random rotation, scale, translation and shear."""

    degrees: Annotated[float, Field(ge=0, le=180)] = 10
    """Largest rotation, in degrees, in both directions."""
    scale: Range = (0.9, 1.1)
    """Smallest and largest scale factor."""
    translate: Share = 0.05
    """Largest shift, as a fraction of the image's side."""
    shear: Annotated[float, Field(ge=0, le=45)] = 0
    """Largest shear angle, in degrees."""
    per_axis: bool = False
    """Draw the scales of rows and columns independently."""
    probability: Probability | None = None
    """Probability that a sample is changed. null: that of `augment`, or 1 where it has none."""


class ElasticSection(Section):
    """Smooth random deformation."""

    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.02
    """Standard deviation of the displacement, as a fraction of the image's side."""
    grid: Annotated[int, Field(ge=2, le=32)] = 5
    """Control points along each side; more points give finer deformations."""
    probability: Probability | None = None
    """Probability that a sample is changed. null: that of `augment`, or 0.5 where it has none."""


# What each strength of augmentation sets; flips are left to the recipe, since they depend on what is shown.
STRENGTHS: dict[str, dict[str, Any]] = {
    "light": {
        "probability": 0.3,
        "affine": {"degrees": 10, "scale": (0.9, 1.1), "translate": 0.05},
        "gamma": 0.15,
        "brightness": 0.05,
    },
    "standard": {
        "probability": 0.5,
        "affine": {"degrees": 15, "scale": (0.8, 1.25), "translate": 0.08},
        "elastic": {"alpha": 0.02},
        "gamma": 0.25,
        "brightness": 0.1,
        "speckle": 0.1,
    },
    "strong": {
        "probability": 0.5,
        "affine": {"degrees": 20, "scale": (0.7, 1.4), "translate": 0.1, "per_axis": True},
        "elastic": {"alpha": 0.03},
        "gamma": 0.4,
        "brightness": 0.15,
        "illumination": 0.2,
        "speckle": 0.15,
        "noise": 0.05,
        "blur": 1.0,
    },
}
# Changes without a section, whose probability stands in that of `augment`.
ChangeName = Literal["zoom", "histogram", "gamma", "brightness", "illumination", "speckle", "noise", "blur"]


class AugmentSection(Section):
    """Random changes of training samples (data augmentation). 0, null and an empty list turn a change off.

    Changes of intensity act on the image stretched to 0 … 1.
    """

    strength: Literal["light", "standard", "strong"] | None = None
    """Sets `probability`, `affine`, `elastic` and changes of intensity together, as `docs/training.md` lists them;
    `light` is for the smallest nets. Flips, turns, `cutmix` and `paste` stand beside it."""
    probability: Probability | dict[ChangeName, Annotated[float, Field(strict=True, ge=0, le=1)]] | None = None
    """Probability of each change by itself, so that some samples stay almost as they are: one number for all, or some
    by name, such as {gamma: 0.3, blur: 0.2}. Not of flips and turns. null: every sample gets every change."""
    flip: list[Literal["horizontal", "vertical"]] = []
    """Directions in which a sample is mirrored, each with probability 0.5."""
    rotate90: bool = False
    """Rotate by a random multiple of 90 degrees; needs a square `data.size`."""
    affine: AffineSection | None = None
    """Random rotation, scale, translation and shear; `affine: {}` takes the defaults."""
    elastic: ElasticSection | None = None
    """Smooth random deformation; `elastic: {}` takes the defaults."""
    zoom: Range | None = None
    """Smallest and largest zoom factor, beside the scale of `affine`."""
    border: Literal["reflect", "edge", "zero"] = "reflect"
    """What fills pixels from outside of the image, for image and mask alike."""
    histogram: Annotated[int, Field(ge=0, le=16)] = 0
    """Number of control points of a random rising curve that changes the gray values."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0
    """Standard deviation of the logarithm of a random gamma exponent."""
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0
    """Standard deviation of a random value added to all pixels."""
    illumination: Annotated[float, Field(ge=0, lt=1)] = 0
    """Standard deviation of a random linear gradient of brightness, in both directions."""
    speckle: Strength = 0
    """Standard deviation of multiplicative noise; each sample draws its own, up to this number or between two;
    [0.1, 0.1] is always 0.1."""
    noise: Strength = 0
    """Standard deviation of additive noise; drawn as `speckle` is."""
    blur: Blur = 0
    """Sigma of a Gaussian blur, in pixels; drawn as `speckle` is."""
    cutmix: Probability = 0
    """Probability that a rectangle of a sample comes from another training case, mask included (Yun et al. 2019)."""
    paste: Probability = 0
    """Probability that a sample without foreground gets the objects of another training case, their rims blended in."""
    own: Annotated[str, Field(min_length=1)] | None = None
    """A function of your own, FILE:NAME of a Python file that is given with --allow-code: `name(image, mask, rng)` with
    float32 (h, w, c) from 0 to 1, uint8 (h, w) of class indices and a NumPy generator gives a changed image and mask,
    before all other changes."""
    copies: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often an epoch goes through every case, with new random changes each time. Raise it for few or large images,
    above all with `data.fit: tile`, where a copy is one random window."""

    @model_validator(mode="before")
    @classmethod
    def _of_strength(cls, values: Any) -> Any:
        """The settings in place of their name, so that a run's recipe says what was done."""
        strength = values.get("strength") if isinstance(values, dict) else None
        if not isinstance(strength, str) or strength not in STRENGTHS:
            return values
        settings = STRENGTHS[strength]
        beside = [name for name in settings if name in values]
        if beside:
            raise ValueError(
                f"strength: {strength} sets {', '.join(beside)} too; give one of them, as in augment={{strength: "
                f"{strength}, flip: [horizontal]}}"
            )
        return {name: value for name, value in values.items() if name != "strength"} | settings

    def chance(self, change: str) -> float:
        """The probability of a change, of `affine` and `elastic` too."""
        section = getattr(self, change)
        own = section.probability if isinstance(section, AffineSection | ElasticSection) else None
        if own is not None:
            return float(own)
        usual = 0.5 if change == "elastic" else 1.0
        if isinstance(self.probability, dict):
            return {str(name): value for name, value in self.probability.items()}.get(change, usual)
        return usual if self.probability is None else self.probability


class LossSection(Section):
    """The loss: a weighted sum of parts. At least one of `bce`, `ce`, `dice` and `batch_dice` needs a weight."""

    bce: Annotated[float, Field(ge=0)] = 0
    """Weight of the binary cross-entropy; for one class, and for those of `data.multilabel` the mean of theirs."""
    ce: Annotated[float, Field(ge=0)] = 0
    """Weight of the categorical cross-entropy; for several classes that exclude each other."""
    dice: Annotated[float, Field(ge=0)] = 0
    """Weight of the soft Dice loss, computed for each image."""
    batch_dice: Annotated[float, Field(ge=0)] = 0
    """Weight of the soft Dice loss, computed over the whole batch."""
    tv: Annotated[float, Field(ge=0)] = 0
    """Weight of the total variation of the probabilities, which favors smooth outlines."""
    boundary: Annotated[float, Field(ge=0)] = 0
    """Weight of the boundary loss (Vaze et al. 2020), which favors sharp edges of objects."""
    dice_smoothing: Positive = 1.0
    """Pixels added to numerator and denominator of the Dice ratio. With 1, a false alarm on an empty mask costs as much
    with ten pixels as with a thousand, so nothing makes it smaller; with about the area of a small object (300), it
    costs by its area."""
    class_weights: list[Positive] | None = None
    """Weights of background and each class in the cross-entropy, in the order of the class indices."""
    pixel_weights: Literal["files", "borders"] | None = None
    """Weights of the pixels in the cross-entropy: from `files` beside the images, or larger at the `borders` between
    neighboring objects (Ronneberger et al. 2015)."""

    @model_validator(mode="after")
    def _something(self) -> LossSection:
        if not (self.bce or self.ce or self.dice or self.batch_dice):
            raise ValueError("none of bce, ce, dice and batch_dice has a weight; for example {bce: 1, dice: 1}")
        if self.pixel_weights and not (self.bce or self.ce):
            raise ValueError("pixel_weights: weigh bce or ce, of which there is none")
        return self

    def arguments(self) -> dict[str, Any]:
        """For `training.losses.segmentation_loss`; the weights of pixels come with the samples."""
        return self.model_dump(exclude={"pixel_weights"})


class OptimizerSection(Section):
    """The optimizer and its numbers."""

    kind: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    """Optimizer, as PyTorch has it."""
    lr: Annotated[float, Field(gt=0, le=100)] = 2e-3
    """Learning rate at the top of the schedule."""
    lr_scale: dict[Pattern, Annotated[float, Field(strict=True, gt=0, le=100)]] = {}
    """Factors of the learning rate for some layers, by patterns of their names, such as {encoder: 0.1}; what is inside
    of them is meant too, and the first pattern that fits counts."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0
    """Weight decay; decoupled from the gradient with `adamw`."""
    decay: Literal["all", "kernels"] = "kernels"
    """What weight decay acts on: only the `kernels` of layers, or `all` parameters, biases and norms included."""
    l2_kernel: Annotated[float, Field(ge=0, le=1)] = 0
    """Strength of an L2 penalty on kernels in the loss, as Keras' kernel_regularizer."""
    momentum: Share = 0.9
    """Momentum of `sgd` and `rmsprop`."""
    nesterov: bool = False
    """Nesterov momentum, for `sgd`."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient; larger gradients are scaled down. null: no limit."""

    @model_validator(mode="after")
    def _consistent(self) -> OptimizerSection:
        if self.nesterov and (self.kind != "sgd" or self.momentum == 0):
            raise ValueError("nesterov: is for sgd with a momentum above 0")
        return self


class ConstantSchedule(Section):
    """The learning rate stays as it is."""

    kind: Literal["constant"] = "constant"
    """Name of this schedule."""


class CosineSchedule(Section):
    """Linear warm-up, then half a cosine."""

    kind: Literal["cosine"] = "cosine"
    """Name of this schedule."""
    warmup: Share = 0.0
    """Fraction of the training in which the rate rises from 0."""
    floor: Share = 0.0
    """Fraction of the rate that is left at the end."""


class StepSchedule(Section):
    """The rate is multiplied by `factor` every few epochs."""

    kind: Literal["step"] = "step"
    """Name of this schedule."""
    every: Annotated[int, Field(ge=1)] = 15
    """Epochs between two steps."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What the rate is multiplied by at each step."""


class MultiStepSchedule(Section):
    """The rate is multiplied by `factor` at given points of the training."""

    kind: Literal["multi-step"] = "multi-step"
    """Name of this schedule."""
    at: list[Annotated[float, Field(gt=0, lt=1)]] = [0.5, 0.75]
    """Points of the training, as fractions of all epochs."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What the rate is multiplied by at each point."""


class InterpolatedSchedule(Section):
    """The rate follows straight lines between given points."""

    kind: Literal["interpolated"] = "interpolated"
    """Name of this schedule."""
    points: Annotated[
        list[tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1000)]]], Field(min_length=1)
    ] = [(0, 1), (1, 0.01)]
    """Pairs of a fraction of all epochs and what the rate is multiplied by there, such as [[0, 1], [0.5, 1], [1, 0.1]].
    Before the first and behind the last the rate stays."""

    @field_validator("points")
    @classmethod
    def _rise(cls, given: list[tuple[float, float]]) -> list[tuple[float, float]]:
        if any(later[0] <= earlier[0] for earlier, later in pairwise(given)):
            raise ValueError("points: the fractions must rise from pair to pair")
        return given


class RestartSchedule(Section):
    """Steps as in `step`, which start again after every cycle. Weights and momentum are kept."""

    kind: Literal["step-restarts"] = "step-restarts"
    """Name of this schedule."""
    every: Annotated[int, Field(ge=1)] = 15
    """Epochs between two steps."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """What the rate is multiplied by at each step."""
    cycle: Annotated[int, Field(ge=1)] = 40
    """Epochs until the rate returns to its start."""
    first: Literal[0, 1] = 0
    """Number of a cycle's first epoch: counted from 1, the first step comes one epoch earlier."""


class ConstantThenDecaySchedule(Section):
    """Constant for the first part of the training, then multiplied by `factor` every epoch."""

    kind: Literal["constant-then-decay"] = "constant-then-decay"
    """Name of this schedule."""
    constant: Share = 0.5
    """Fraction of the training with a constant rate."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """What the rate is multiplied by in each later epoch, the first of them too."""


class PlateauSchedule(Section):
    """The rate is multiplied by `factor` when validation stops improving."""

    kind: Literal["plateau"] = "plateau"
    """Name of this schedule."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """What the rate is multiplied by."""
    patience: Annotated[int, Field(ge=0)] = 5
    """Epochs without a better `best_by` that are tolerated."""
    min_delta: Share = 0.0
    """Smallest relative improvement that counts; PyTorch's ReduceLROnPlateau has 1e-4."""
    floor: Share = 0.0
    """Smallest fraction of the rate."""


Schedule = Annotated[
    ConstantSchedule
    | CosineSchedule
    | StepSchedule
    | MultiStepSchedule
    | InterpolatedSchedule
    | RestartSchedule
    | ConstantThenDecaySchedule
    | PlateauSchedule,
    Field(discriminator="kind"),
]


class SamplingSection(Section):
    """Which samples an epoch takes."""

    empty: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How often a case with an empty mask is taken, where one with foreground is taken once. An epoch does not get
    longer."""
    windows: Literal["one", "area"] = "one"
    """For `data.fit: tile`: `one` window of each case an epoch, or as many as cover its `area`; `augment.copies`
    multiplies both."""
    foreground: Probability = 0.0
    """For `data.fit: tile`: share of the windows that are laid over a pixel of foreground, each class as likely; the
    others lie anywhere."""


class AverageSection(Section):
    """Averaged weights: what is validated and kept is a running mean of the weights, not the weights of a moment."""

    kind: Literal["ema"] = "ema"
    """Exponential moving average over the steps, running statistics of norms included."""
    decay: Annotated[float, Field(gt=0, lt=1)] = 0.998
    """Share of the average that is left after a step; it begins smaller, so that short trainings forget their start."""


class DeepSupervisionSection(Section):
    """Decoder blocks before the last one learn from the masks too, by heads that the model does not keep."""

    levels: Annotated[int, Field(ge=1, le=8)] = 2
    """How many of them."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of the loss of the first of them; each further one has this share of the weight of the one above."""


class EarlyStopSection(Section):
    """Stop when validation no longer improves."""

    patience: Annotated[int, Field(ge=1)] = 20
    """Epochs without a better `best_by` after which training stops."""
    min_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs that are trained in any case."""


class NetSection(BaseModel):
    """Name of a net and its options; `docs/nets.md` lists both. The net itself checks its options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    arch: str
    """Name of the net; `pocketseg nets` lists them."""

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


IMAGENET = "imagenet"


class InitSection(Section):
    """Where the weights of a stage come from: one of `stage`, `run` (with `stage`) and `weights`."""

    stage: str | None = None
    """The best weights of this earlier stage of the recipe; with `run`, a stage of that run."""
    run: str | None = None
    """Another run folder: the best weights of its last stage, of the same fold."""
    weights: str | None = None
    """A file of weights (.safetensors, .pth, Keras .h5, or .tflite of MobileNetV1), the name of a model that ships with
    the package (`pocketseg models`), or `imagenet` for nets with a published encoder."""
    match: Literal["strict", "name", "order"] = "strict"
    """`strict`: every weight must fit; `name`: take what fits by name and shape and leave the rest random; `order`: for
    weights of another program, which have other names: one layer after another, all must fit (Keras files always)."""
    allow_leak: bool = False
    """Allow a start from a run that was trained on this run's test cases."""

    @model_validator(mode="after")
    def _one_source(self) -> InitSection:
        if self.weights is not None and (self.stage is not None or self.run is not None):
            raise ValueError("weights stands alone; remove stage and run, or remove weights")
        if self.weights is None and self.stage is None and self.run is None:
            raise ValueError("does not say what to start from; give stage, run or weights, or write init: null")
        if "" in (self.stage, self.run, self.weights):
            raise ValueError("stage, run and weights cannot be empty; give a name or path, or write init: null")
        if self.allow_leak and self.run is None:
            raise ValueError("allow_leak is for run; remove it")
        if self.match == "order" and self.weights in (None, IMAGENET):
            raise ValueError("match: order is for a file of weights; give weights, or remove match")
        return self


Rule = Literal["min-max", "percentile", "mse", "learned"]


class QuantSection(Section):
    """How the net of a stage is quantized; `docs/quantization.md` explains the schemes."""

    scheme: str
    """Bits of weights and activations, such as w8a8, w4a8, w2a8 or `residual w3a3`; `compat …` are quantizers as the
    fixed-point study published them."""
    keep: list[str] | None = None
    """Layers that stay in f32: first, last, depthwise, pointwise, conv, or patterns of names. null: first and last
    layer get 8 bits where the scheme has fewer."""
    layers: dict[str, str] = {}
    """Another scheme for some layers, such as {depthwise: w8a8}."""
    rule: Rule = "min-max"
    """How the range of activations is found; `learned` trains it (LSQ)."""
    weight_rule: Rule = "min-max"
    """How the range of weights is found."""
    binarize_depthwise: bool = False
    """Also binarize between a depthwise and a pointwise convolution."""
    start: Literal["data", "source"] = "data"
    """First gammas of residual planes: found from the `data`, or as published (`source`)."""
    activation: Literal["relu", "ternary-tanh"] = "relu"
    """`ternary-tanh` replaces every ReLU by a smooth step to −1, 0 and 1."""
    gradient: Literal["kind", "identity"] = "kind"
    """The gradient of quantized values: what the `kind` of quantizer says (most pass nothing where values saturate), or
    the `identity`, which passes everything on."""
    constants: Literal["f32", "f16"] = "f32"
    """Scales, biases and norms of the trained net, where it computes on integers: `f16` rounds them to 11 bits with an
    exponent for each layer, so that a packed file holds them in half the bytes; every form of the model has them."""
    calibrate: Annotated[int, Field(ge=1, le=1000)] = 8
    """Number of training batches that set the ranges before the first step."""
    max_drop: Annotated[float, Field(gt=0, lt=1)] | None = None
    """For a stage of 0 epochs: the worst layers go back to f32 until validation Dice falls by no more than this."""


class TeacherSection(Section):
    """The teacher of knowledge distillation: one of `stage`, `run` (with `stage`), `runs`, `onnx` and `maps`."""

    stage: str | None = None
    """An earlier stage of the recipe; with `run`, a stage of that run."""
    run: str | None = None
    """Another run folder: its last stage, of the same fold."""
    runs: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    """Several run folders; the mean of their probabilities teaches."""
    onnx: str | None = None
    """A file that `pocketseg export` wrote."""
    maps: str | None = None
    """A folder of probability maps (PNG, NPY or NPZ), made by any program."""
    outputs: Literal["auto", "live", "cached"] = "auto"
    """`live`: the teacher sees every augmented image; `cached`: it sees each image once; `auto`: cached only where that
    changes nothing and is faster."""
    unlabelled: str | None = None
    """A folder of images without masks, which only the teacher labels."""
    allow_leak: bool = False
    """Allow a teacher that was trained on this run's test cases."""

    @model_validator(mode="after")
    def _one_source(self) -> TeacherSection:
        if "" in (self.stage, self.run, self.onnx, self.maps, self.unlabelled):
            raise ValueError("stage, run, onnx, maps and unlabelled cannot be empty; give a name or path, or null")
        given = [name for name in ("run", "runs", "onnx", "maps") if getattr(self, name) is not None]
        if len(given) > 1 or (given and given != ["run"] and self.stage is not None):
            raise ValueError("names more than one teacher; give one of stage, run (with stage), runs, onnx and maps")
        if not given and self.stage is None:
            raise ValueError("does not say who teaches; give one of stage, run, runs, onnx and maps")
        if self.maps is not None and self.outputs == "live":
            raise ValueError("outputs: maps are not asked again; remove outputs")
        if self.allow_leak and not (self.run or self.runs or self.unlabelled):
            raise ValueError("allow_leak is for run, runs and unlabelled; remove it")
        return self

    @property
    def has_layers(self) -> bool:
        """Whether it is a single net of ours, whose inside can be seen."""
        return self.runs is None and self.onnx is None and self.maps is None


class DistilSection(Section):
    """Soft targets: (1 − weight) · loss of the masks + weight · loss against the teacher's probabilities."""

    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Weight of the teacher's part."""
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    """Divides the logits of both nets; the loss is multiplied by its square."""
    kind: Literal["bce", "kl", "mse"] = "bce"
    """Cross-entropy (`bce`), Kullback–Leibler divergence (`kl`) or squared difference (`mse`)."""
    per: Literal["pixel", "region"] = "pixel"
    """`region` gives background and each class of the teacher's mask equal weight in an image, however small."""
    boundary: Annotated[float, Field(ge=0, le=1000)] = 0
    """Additional weight of the pixels on both sides of the teacher's contours."""

    def arguments(self) -> dict[str, Any]:
        """For `training.distil.soft_loss`."""
        return self.model_dump(exclude={"weight"})


class HintLayers(Section):
    """A pair of layers, by patterns of names; * stands for anything between two dots."""

    student: Annotated[str, Field(min_length=1)]
    """Layers of the student."""
    teacher: Annotated[str, Field(min_length=1)] | None = None
    """Layers of the teacher; null: those of the same names."""


class HintsSection(Section):
    """Hints: layers of the student learn to match layers of the teacher. The defaults are those of Vaze et al. 2020."""

    layers: Literal["blocks", "convs"] | Annotated[list[HintLayers], Field(min_length=1)] = "blocks"
    """`blocks`: the blocks at equal levels; `convs`: every convolution in them, after its activation; or a list of
    pairs."""
    part: Literal["all", "encoder", "decoder"] = "all"
    """Only the encoder's or the decoder's layers."""
    at: Literal["before-norm", "after-norm"] = "before-norm"
    """Take a block before or after its last norm."""
    kind: Literal["l1", "l2", "cosine", "attention"] = "l1"
    """What is compared: absolute or squared differences, cosines, or attention maps."""
    weights: Literal["uniform", "area"] | Annotated[list[Positive], Field(min_length=1)] = "area"
    """Weights of the layers: equal, by inverse area, or a list."""
    total: Positive | None = None
    """Sum of the weights, 10 where it is null; not with a list."""

    @model_validator(mode="after")
    def _consistent(self) -> HintsSection:
        if isinstance(self.layers, list) and self.part != "all":
            raise ValueError("part chooses among the blocks; with a list of layers, list only those you want")
        if isinstance(self.weights, list) and self.total is not None:
            raise ValueError("total is for uniform and area weights; a list is taken as it is")
        return self


class StageSection(Section):
    """One training: a net, its start, its teacher, its quantization, its loss, optimizer and schedule."""

    name: Annotated[Name, AfterValidator(_no_file), Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the stage, and of its folder in the run."""
    net: NetSection
    """The net and its options."""
    init: InitSection | None = None
    """Where the weights come from. null: random weights."""
    teacher: TeacherSection | None = None
    """A trained net to learn from; needs `distil` or `hints`."""
    distil: DistilSection | None = None
    """Learn the teacher's probabilities."""
    hints: HintsSection | None = None
    """Learn the teacher's layers."""
    freeze: list[Pattern] | dict[Pattern, Annotated[int, Field(strict=True, ge=1)]] = []
    """Patterns of layers that are not trained, their norms included; with numbers, such as {encoder: 10}, only for so
    many epochs from the first."""
    quant: QuantSection | None = None
    """Train with quantized weights and activations. A list makes a chain of stages that share the epochs."""
    loss: LossSection | None = LossSection(bce=1, dice=1)
    """Loss against the masks. null: learn from hints and soft targets alone."""
    soft_masks: bool = False
    """The loss compares with the share of each pixel that a class covers, where masks are made smaller, and not with
    the class that covers most of it. Validation compares with the masks as they are."""
    deep_supervision: DeepSupervisionSection | None = None
    """Heads for training alone, on decoder blocks; `{}` takes the defaults. Not together with a teacher."""
    optimizer: OptimizerSection = OptimizerSection()
    """The optimizer and its numbers."""
    schedule: Schedule = CosineSchedule()
    """Learning rate over the training."""
    epochs: Annotated[int, Field(ge=0, le=100_000)] = 60
    """Passes over the training part. 0, for a stage with `init`, only evaluates, and with `quant` calibrates before
    (post-training quantization)."""
    batch: Annotated[int, Field(ge=1, le=4096)] = 16
    """Samples in a step."""
    sampling: Literal["uniform", "balanced"] | SamplingSection = "uniform"
    """`balanced` draws masks with each combination of classes (no class included) equally often; a section, such as
    {empty: 1.5}, says more."""
    best_by: Literal["dice", "iou", "loss", "hint"] = "dice"
    """What is compared to keep the best epoch: Dice or IoU of the validation part, its loss, or its hint loss."""
    keep: Literal["best", "last"] = "best"
    """Weights that the stage leaves: those of the `best` epoch, or of the `last`."""
    average: AverageSection | None = None
    """Validate and keep averaged weights; `average: {}` takes the defaults. null: the weights as they are."""
    ignore_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs at the beginning whose validation counts neither for the best epoch nor for `early_stop`."""
    validate_every: Annotated[int, Field(ge=1)] | Auto = 1
    """Epochs from one validation to the next; the last epoch always has one. `patience` counts validations. `auto`: so
    many that validation does not take more work than training."""
    early_stop: EarlyStopSection | None = None
    """Stop when validation no longer improves. null: never."""
    precision: Literal["auto", "f32", "bf16"] = "auto"
    """Number format of the training; `auto` takes bf16 where the hardware has it. Evaluation is always f32."""

    @model_validator(mode="after")
    def _trains_or_quantizes(self) -> StageSection:
        if self.epochs == 0 and self.init is None:
            raise ValueError("0 epochs are for a stage that starts from trained weights (init); give epochs")
        if self.ignore_epochs and self.ignore_epochs >= self.epochs:
            raise ValueError(
                f"ignore_epochs: {self.ignore_epochs} of {self.epochs} epochs leave none to keep; take fewer"
            )
        if self.quant is not None and self.quant.max_drop is not None and self.epochs > 0:
            raise ValueError("quant.max_drop is for a stage of 0 epochs; remove it or set epochs: 0")
        return self

    @model_validator(mode="after")
    def _learns_from_someone(self) -> StageSection:
        teaches = self.distil is not None or self.hints is not None
        if teaches and self.teacher is None:
            raise ValueError("distil and hints need a teacher; for example teacher: {stage: NAME}")
        if self.teacher is not None and not teaches:
            raise ValueError("a teacher says nothing without distil or hints; for example distil: {weight: 0.5}")
        if self.teacher is not None and self.epochs == 0:
            raise ValueError("nothing is learned from a teacher in 0 epochs; give epochs or remove the teacher")
        if self.hints is not None and self.teacher is not None and not self.teacher.has_layers:
            raise ValueError("hints come from a single net of ours: teacher {stage: NAME} or {run: PATH}")
        if self.hints is not None and self.teacher is not None and self.teacher.outputs == "cached":
            raise ValueError("teacher.outputs: cached is for soft targets alone; hints need the teacher itself")
        if self.hints is None and (self.loss is None or self.best_by == "hint"):
            raise ValueError("loss: null and best_by: hint are for a stage with hints")
        if self.loss is None and self.best_by == "loss":
            raise ValueError("best_by: loss is for a stage with a loss; take hint or dice")
        if self.deep_supervision is not None and (self.teacher is not None or self.loss is None):
            raise ValueError("deep_supervision: is for a stage that learns from masks alone; remove it or the teacher")
        if self.loss is None and self.soft_masks:
            raise ValueError("soft_masks: is for a stage with a loss; remove it")
        return self


class PresenceSection(Section):
    """From which evidence on anything of a class is there: the mean of the highest thousandth of its probabilities has
    to be above a limit, else the class is left empty."""

    specificity: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    """Choose each class's limit after training: the lowest that leaves this share of the cases without the class empty.
    It takes 40 groups with and 40 without the class; with fewer there is no limit."""
    out_of_fold: list[str] = []
    """Where to choose it, beside the validation part: files `cases.csv` of evaluations in which other folds of this
    recipe predicted what they had not learned from. Only training cases of this run are taken from them."""
    evidence: list[Annotated[float, Field(ge=0, lt=1)]] | None = None
    """The limits themselves, one for each class."""

    @model_validator(mode="after")
    def _one_way(self) -> PresenceSection:
        if (self.specificity is None) == (self.evidence is None):
            raise ValueError("give specificity: 0.9, by which limits are chosen, or evidence: the limits themselves")
        if self.out_of_fold and self.specificity is None:
            raise ValueError("out_of_fold is for specificity: evidence says the limits already")
        return self


class PostprocessSection(Section):
    """Rules from probabilities to a mask. `auto` is chosen on the validation part, after training, by Dice, where that
    has enough groups to tell; else it stays mild."""

    threshold: Threshold | Auto | Annotated[list[Threshold], Field(min_length=1)] = 0.5
    """For one class, and for those of `data.multilabel`: pixels of at least this probability are foreground. A list has
    one for each class of `data.multilabel`; `auto` chooses one for each."""
    min_pixels: Annotated[int, Field(ge=0)] | Auto = 0
    """Components with fewer pixels are removed."""
    min_peak: Annotated[float, Field(ge=0, lt=1)] | Auto = 0.0
    """Components whose highest probability is lower are removed."""
    keep: Literal["all", "largest"] = "all"
    """Keep all components, or the largest of each class."""
    fill_holes: bool = False
    """Fill background that a component encloses."""
    presence: PresenceSection | None = None
    """Leave a class empty in images whose map is not sure that it is there."""


class EvaluateSection(Section):
    """What is evaluated at the end of a run."""

    parts: list[Literal["train", "validation", "test"]] = ["validation", "test"]
    """Parts of the split. `test` includes the cases of `split.fixed_test`, where there are some."""
    metrics: Annotated[list[str], Field(min_length=1)] = ["dice", "iou", "precision", "recall", "hd95", "assd"]
    """Names of metrics; `docs/metrics.md` lists them."""
    tolerance: Annotated[float, Field(ge=0)] = 2.0
    """Tolerance of `surface_dice` and `boundary_f1`, in mm where the pixel size is known, else in pixels."""
    lesion_iou: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Intersection over union from which a lesion counts as found."""
    every: Annotated[int, Field(ge=0)] = 0
    """Epochs from one measurement of all `metrics` to the next while a stage is trained: on validation cases, at
    threshold 0.5, without component rules; columns `val_NAME` of `history.csv`. A multiple of the stages'
    `validate_every`. 0: only loss, Dice and IoU."""


class CardSection(Section):
    """What the report's model card says and no run can know. It changes no result."""

    intended_use: str = ""
    """What the model is for."""
    not_intended_use: str = ""
    """What it is not for."""
    limits: list[str] = []
    """Known limits, beside those that the report finds."""
    contact: str = ""
    """Whom to ask."""
    folders: list[str] = []
    """Class folders that the report may show by name. Others are numbered, since they may be named after patients."""


class DataRecipe(Section):
    """The sections of a recipe that say how a data set is read, split and measured: all that needs no stage."""

    data: DataSection = DataSection()
    split: SplitSection = SplitSection()
    evaluate: EvaluateSection = EvaluateSection()


class Recipe(Section):
    """Everything that decides a result, apart from the data itself; and what the report says of its use."""

    name: str = ""
    """Name in tables. Empty: the name of the file or of the shipped recipe."""
    description: str = ""
    """One line for people."""
    data: DataSection = DataSection()
    """What the net sees, and how images and masks are found."""
    split: SplitSection = SplitSection()
    """Training, validation and test parts."""
    normalize: NormalizeSection = NormalizeSection()
    """Intensity normalization."""
    augment: AugmentSection = AugmentSection()
    """Random changes of training samples."""
    stages: Annotated[list[StageSection], Field(min_length=1)]
    """The trainings, in order."""
    postprocess: PostprocessSection = PostprocessSection()
    """Rules from probabilities to a mask."""
    tta: Annotated[list[Literal["horizontal", "vertical"]], Field(max_length=2)] = []
    """Test-time mirroring: probabilities are the mean over an image and its mirror images. Each direction doubles the
    time of an image. The model file carries it; `predict --tta none` leaves it out."""
    evaluate: EvaluateSection = EvaluateSection()
    """What is evaluated at the end."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Seed of weights, order and augmentation."""
    card: CardSection = CardSection()
    """Use, limits and contact, for the report."""

    @field_validator("stages")
    @classmethod
    def _stages_in_order(cls, stages: list[StageSection]) -> list[StageSection]:
        earlier: set[str] = set()
        for stage in stages:
            if stage.name in earlier:
                raise ValueError(f"two stages are named {stage.name!r}; give each a name of its own")
            if stage.init and stage.init.stage and not stage.init.run and stage.init.stage not in earlier:
                known = ", ".join(sorted(earlier)) or "none"
                raise ValueError(
                    f"stage {stage.name!r} starts from {stage.init.stage!r}, "
                    f"which is not an earlier stage (earlier: {known})"
                )
            if stage.teacher and stage.teacher.stage and not stage.teacher.run and stage.teacher.stage not in earlier:
                known = ", ".join(sorted(earlier)) or "none"
                raise ValueError(
                    f"stage {stage.name!r} learns from {stage.teacher.stage!r}, "
                    f"which is not an earlier stage (earlier: {known})"
                )
            earlier.add(stage.name)
        return stages

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        self._check_multilabel()
        several = len(self.data.classes) > 1 and not self.data.multilabel
        limits = self.postprocess.presence.evidence if self.postprocess.presence else None
        if limits is not None and len(limits) != len(self.data.classes):
            raise ValueError(
                f"postprocess.presence.evidence: {len(limits)} limits for {len(self.data.classes)} classes"
            )
        for stage in self.stages:
            apart = stage.validate_every
            if self.evaluate.every and (apart == "auto" or self.evaluate.every % apart):
                raise ValueError(
                    f"evaluate.every: {self.evaluate.every} is not a multiple of validate_every "
                    f"({apart}) of stage {stage.name!r}; metrics are measured where a validation is"
                )
            if stage.loss is None:
                continue
            if several and stage.loss.bce:
                raise ValueError(f"stage {stage.name!r}: bce is for one class; use ce with {len(self.data.classes)}")
            if not several and stage.loss.ce:
                which = "data.multilabel" if self.data.multilabel else "one"
                raise ValueError(f"stage {stage.name!r}: ce is for several classes; use bce with {which}")
            weights = stage.loss.class_weights
            if weights is not None and len(weights) != len(self.data.classes) + 1:
                raise ValueError(
                    f"stage {stage.name!r}: class_weights needs {len(self.data.classes) + 1} numbers, background first"
                )
        for stage in self.stages:
            sampling = stage.sampling
            tiled = isinstance(sampling, SamplingSection) and (sampling.windows == "area" or sampling.foreground > 0)
            if tiled and self.data.fit != "tile":
                raise ValueError(f"stage {stage.name!r}: sampling.windows and foreground are for data.fit: tile")
        if self.augment.rotate90 and self.data.size[0] != self.data.size[1]:
            raise ValueError(f"augment.rotate90 needs a square data.size, not {self.data.size[0]}×{self.data.size[1]}")
        return self

    def _check_multilabel(self) -> None:
        """Raises: ValueError: what classes that may overlap have not, or alone have."""
        threshold = self.postprocess.threshold
        if isinstance(threshold, list) and len(threshold) != len(self.data.classes) * self.data.multilabel:
            raise ValueError("postprocess.threshold: a list needs data.multilabel, and one number for each class")
        for stage in self.stages if self.data.multilabel else ():
            if stage.teacher is not None:
                raise ValueError(
                    f"stage {stage.name!r}: nets of data.multilabel learn from masks alone; remove teacher, distil and "
                    "hints, or start from a net with init"
                )
            if stage.loss is not None and stage.loss.class_weights is not None:
                raise ValueError(
                    f"stage {stage.name!r}: class_weights are of classes that exclude each other; remove it"
                )
            if stage.loss is not None and stage.loss.pixel_weights == "borders":
                raise ValueError(
                    f"stage {stage.name!r}: pixel_weights: borders are between objects that do not overlap; remove it, "
                    "or give files"
                )
