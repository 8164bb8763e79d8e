"""The recipe: everything that decides a result. Unknown keys, wrong types, impossible values are errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from pocketseg.names import check_name

# Becomes part of file names.
Name = Annotated[str, AfterValidator(check_name)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _ordered(values: tuple[float, float]) -> tuple[float, float]:
    if values[0] > values[1]:
        raise ValueError(f"the range runs from {values[0]:g} down to {values[1]:g}; write the smaller number first")
    return values


Range = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
Auto = Literal["auto"]


class Section(BaseModel):
    """A frozen part of a recipe that knows all its keys; true and false stand only where a key asks for them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _bool_is_no_number(cls, values: Any) -> Any:
        fields = cls.model_fields.items() if isinstance(values, dict) else ()
        wrong = [name for name, field in fields if _has_bool(values.get(name)) and not _takes_bool(field.annotation)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: true and false are no numbers and no names; write what is meant")
        return values


def _has_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, list | tuple) and any(map(_has_bool, value)))


def _takes_bool(annotation: Any) -> bool:
    """Whether a type names bool anywhere, as in `bool | None`."""
    return annotation is bool or isinstance(annotation, bool) or any(map(_takes_bool, get_args(annotation)))


class MaskSection(Section):
    """How masks store classes: `values` per class, `invert` or `threshold` for a single one.

    `by_folder`: masks hold one foreground, whose class is the folder the case lies in (benign, malignant).
    """

    invert: bool = False
    values: list[int] | None = None
    threshold: Positive | None = None
    by_folder: bool = False


class OnlySection(Section):
    """Patterns of the subjects, sites and raters to use, as far as the data's file names tell them."""

    subject: list[str] | None = None
    site: list[str] | None = None
    rater: list[str] | None = None


class DataSection(Section):
    """What the net sees, and how images, masks and groups are found; docs/data.md explains every key.

    `spacing_mm` (row, column) brings every image to one pixel size before `pad`, `crop` or `tile`. `axis` and `window`
    are for volumes. `drop_empty: train` leaves blank images and empty masks out of training, never out of judging.
    `follow_links` reads what symbolic links point to outside of the data set.
    """

    size: tuple[Annotated[int, Field(ge=8, le=4096)], Annotated[int, Field(ge=8, le=4096)]] = (128, 128)
    channels: Annotated[int, Field(ge=1, le=16)] = 1
    fit: Literal["resize", "letterbox", "pad", "crop", "tile"] = "resize"
    spacing_mm: tuple[Positive, Positive] | None = None
    axis: Literal["auto", "axial", "coronal", "sagittal"] = "auto"
    window: tuple[float, Positive] | Literal["stored"] | None = None
    drop_empty: Literal["train"] | None = None
    only: OnlySection = OnlySection()
    raters: Literal["majority", "staple", "each"] = "majority"
    classes: Annotated[list[Name], Field(min_length=1, max_length=255)] = ["lesion"]
    mask: MaskSection = MaskSection()
    range: tuple[float, float] | None = None
    layout: str = "auto"
    images: str | None = None
    masks: str | None = None
    follow_links: bool = False
    group_csv: str | None = None
    group_column: str | None = None
    group_regex: str | None = None
    group_folder: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> DataSection:
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes: a name stands twice; give every class a name of its own")
        if self.mask.values is not None and len(self.mask.values) != len(self.classes):
            raise ValueError(f"mask.values: needs one value for each of the {len(self.classes)} classes")
        if self.mask.values is not None and len(set(self.mask.values)) < len(self.mask.values):
            raise ValueError("mask.values: a value stands twice; give every class a value of its own")
        if self.mask.values is not None and self.mask.by_folder:
            raise ValueError("mask: values and by_folder both say which class a mask shows; give one of them")
        stored_apart = len(self.classes) > 1 and not self.mask.by_folder
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


class SplitSection(Section):
    """Shares of a holdout split, or folds; `contiguous` keeps neighbouring slices of a volume in one part.

    `given` takes the parts that the data's own folders say (train, val, test).
    """

    kind: Literal["holdout", "kfold", "given"] = "holdout"
    test: Share = 0.2
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    folds: Annotated[int, Field(ge=2, le=100)] = 5
    seed: Annotated[int, Field(ge=0)] = 0
    contiguous: bool = False

    @model_validator(mode="after")
    def _something_trains(self) -> SplitSection:
        if self.kind == "holdout" and self.test + self.validation >= 1:
            raise ValueError("test and validation together leave nothing to train on; make them smaller")
        return self


class NormalizeSection(Section):
    """Intensity normalisation after scaling to [0, 1]; `clip` in standard deviations, for z-score."""

    kind: Literal["unit-range", "min-max", "z-score", "train-mean-std"] = "train-mean-std"
    clip: Positive | None = None


class AffineSection(Section):
    """Random rotation, scale, translation and shear. Translation is a share of the image's side.

    `per_axis` draws the scale of rows and columns apart.
    """

    degrees: Annotated[float, Field(ge=0, le=180)] = 10
    scale: Range = (0.9, 1.1)
    translate: Share = 0.05
    shear: Annotated[float, Field(ge=0, le=45)] = 0
    per_axis: bool = False
    probability: Probability = 1.0


class ElasticSection(Section):
    """Smooth random displacement of `grid` control points; `alpha`: its standard deviation as a share of the side."""

    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.02
    grid: Annotated[int, Field(ge=2, le=32)] = 5
    probability: Probability = 0.5


class AugmentSection(Section):
    """Random changes of training samples. Numbers are standard deviations unless they are ranges; 0 is off.

    `border` fills what comes from outside: the same rule for image and mask. `histogram` is a number of control points
    for a random rising curve of grey values.
    """

    flip: list[Literal["horizontal", "vertical"]] = []
    rotate90: bool = False
    affine: AffineSection | None = None
    elastic: ElasticSection | None = None
    zoom: Range | None = None
    border: Literal["reflect", "edge", "zero"] = "reflect"
    histogram: Annotated[int, Field(ge=0, le=16)] = 0
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0
    brightness: Annotated[float, Field(ge=0, lt=1)] = 0
    illumination: Annotated[float, Field(ge=0, lt=1)] = 0
    speckle: Annotated[float, Field(ge=0, lt=1)] = 0
    noise: Annotated[float, Field(ge=0, lt=1)] = 0
    blur: Annotated[float, Field(ge=0, le=8)] = 0
    copies: Annotated[int, Field(ge=1, le=1000)] = 1


class LossSection(Section):
    """Weights of the parts of the loss.

    `bce` is for one class, `ce` for several; `dice` is per image, `batch_dice` over the batch. `tv` (total variation of
    the probabilities) and `boundary` (sharp rims of objects) only add to one of these.

    `dice_smoothing` pixels are added to both sides of the Dice ratio: the more, the less an empty mask costs.
    `class_weights` weighs background and each class in the cross-entropy part, in the order of the indices.
    `pixel_weights` weighs its pixels: `files` has them beside the images, `borders` counts the gaps between objects.
    """

    bce: Annotated[float, Field(ge=0)] = 0
    ce: Annotated[float, Field(ge=0)] = 0
    dice: Annotated[float, Field(ge=0)] = 0
    batch_dice: Annotated[float, Field(ge=0)] = 0
    tv: Annotated[float, Field(ge=0)] = 0
    boundary: Annotated[float, Field(ge=0)] = 0
    dice_smoothing: Positive = 1.0
    class_weights: list[Positive] | None = None
    pixel_weights: Literal["files", "borders"] | None = None

    @model_validator(mode="after")
    def _something(self) -> LossSection:
        if not (self.bce or self.ce or self.dice or self.batch_dice):
            raise ValueError("none of bce, ce, dice and batch_dice has a weight; for example {bce: 1, dice: 1}")
        if self.pixel_weights and not (self.bce or self.ce):
            raise ValueError("pixel_weights: weigh bce or ce, of which there is none")
        return self


class OptimizerSection(Section):
    """The optimiser and its numbers.

    `decay: kernels` spares biases and norms; `l2_kernel` adds the gradient of l2·Σw² of kernels (the Keras
    regulariser).
    """

    kind: Literal["adamw", "adam", "sgd", "rmsprop"] = "adamw"
    lr: Annotated[float, Field(gt=0, le=100)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0
    decay: Literal["all", "kernels"] = "kernels"
    l2_kernel: Annotated[float, Field(ge=0, le=1)] = 0
    momentum: Share = 0.9
    nesterov: bool = False
    clip_norm: Positive | None = None

    @model_validator(mode="after")
    def _consistent(self) -> OptimizerSection:
        if self.nesterov and (self.kind != "sgd" or self.momentum == 0):
            raise ValueError("nesterov: is for sgd with a momentum above 0")
        return self


class ConstantSchedule(Section):
    kind: Literal["constant"] = "constant"


class CosineSchedule(Section):
    """Linear warm-up over a share of the training, then half a cosine down to `floor` times the rate."""

    kind: Literal["cosine"] = "cosine"
    warmup: Share = 0.0
    floor: Share = 0.0


class StepSchedule(Section):
    """The rate times `factor` after every `every` epochs."""

    kind: Literal["step"] = "step"
    every: Annotated[int, Field(ge=1)] = 15
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


class MultiStepSchedule(Section):
    """The rate times `factor` at each share of the training in `at`."""

    kind: Literal["multi-step"] = "multi-step"
    at: list[Annotated[float, Field(gt=0, lt=1)]] = [0.5, 0.75]
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1


class RestartSchedule(Section):
    """Steps as in `step`, starting anew after every `cycle` epochs; weights and momentum go on.

    `first` is the number of a cycle's first epoch: counted from 1, the first step comes an epoch earlier.
    """

    kind: Literal["step-restarts"] = "step-restarts"
    every: Annotated[int, Field(ge=1)] = 15
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    cycle: Annotated[int, Field(ge=1)] = 40
    first: Literal[0, 1] = 0


class ConstantThenDecaySchedule(Section):
    """Constant for a share of the training, then times `factor` every epoch."""

    kind: Literal["constant-then-decay"] = "constant-then-decay"
    constant: Share = 0.5
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.95


class PlateauSchedule(Section):
    """The rate times `factor` whenever `best_by` has not improved for more than `patience` epochs."""

    kind: Literal["plateau"] = "plateau"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    patience: Annotated[int, Field(ge=0)] = 5
    floor: Share = 0.0


Schedule = Annotated[
    ConstantSchedule
    | CosineSchedule
    | StepSchedule
    | MultiStepSchedule
    | RestartSchedule
    | ConstantThenDecaySchedule
    | PlateauSchedule,
    Field(discriminator="kind"),
]


class EarlyStopSection(Section):
    """Stop when `best_by` has not improved for `patience` epochs, but never before `min_epochs`."""

    patience: Annotated[int, Field(ge=1)] = 20
    min_epochs: Annotated[int, Field(ge=0)] = 0


class NetSection(BaseModel):
    """Name of a net of the catalogue and its options, which the net itself checks."""

    model_config = ConfigDict(extra="allow", frozen=True)
    arch: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class InitSection(Section):
    """Where the weights of a stage come from.

    `stage` alone: the best weights of an earlier stage of this recipe. `run`: those of the same fold of another run,
    of its last stage or the one named by `stage`. `weights`: a file, or `imagenet` for nets with a published encoder.

    `match: name` takes what fits by name and shape and leaves the rest as drawn; `strict` wants everything to fit.
    `allow_leak` lets a run start from one that was trained on its test cases.
    """

    stage: str | None = None
    run: str | None = None
    weights: str | None = None
    match: Literal["strict", "name"] = "strict"
    allow_leak: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> InitSection:
        if self.weights is not None and (self.stage is not None or self.run is not None):
            raise ValueError("weights stands alone; remove stage and run, or remove weights")
        if self.weights is None and self.stage is None and self.run is None:
            raise ValueError("says not what to start from; give stage, run or weights, or write init: null")
        if "" in (self.stage, self.run, self.weights):
            raise ValueError("stage, run and weights cannot be empty; give a name or path, or write init: null")
        if self.allow_leak and self.run is None:
            raise ValueError("allow_leak is for run; remove it")
        return self


Rule = Literal["min-max", "percentile", "mse", "learned"]


class QuantSection(Section):
    """How a stage's net is quantised; docs/quantization.md lists the schemes.

    `keep` are layers that stay in f32 (first, last, depthwise, pointwise, conv, or patterns of names); null gives the
    first and last layer 8 bits where the scheme has fewer. `layers` gives some layers another scheme. `rule` finds the
    scale of activations, `weight_rule` that of weights. `calibrate` is the number of training batches that set the
    grids before the first step. `max_drop`: layers whose quantisation costs most validation Dice go back to f32 until
    no more than this is lost; for a stage of 0 epochs.
    """

    scheme: str
    keep: list[str] | None = None
    layers: dict[str, str] = {}
    rule: Rule = "min-max"
    weight_rule: Rule = "min-max"
    binarize_depthwise: bool = False
    start: Literal["data", "source"] = "data"
    activation: Literal["relu", "ternary-tanh"] = "relu"
    calibrate: Annotated[int, Field(ge=1, le=1000)] = 8
    max_drop: Annotated[float, Field(gt=0, lt=1)] | None = None


class TeacherSection(Section):
    """What a stage learns from besides the labels.

    `stage`: an earlier stage of this recipe, of the same fold. `run`: the same fold of another run, of its last stage
    or the one named by `stage`. `runs`: the mean of their probabilities. `onnx`: an exported file. `maps`: a folder of
    probability maps (PNG or NPZ) that anything made.

    `outputs`: `live` asks the teacher about every augmented image; `cached` asks it once for each image, keeps the
    answer on disk and augments it as a mask is; `auto` takes `cached` only where no sample ever changes and it is
    faster. `unlabelled` is a folder of images of which only the teacher says what is in them. `allow_leak` lets a stage
    learn from what was trained on its test cases.
    """

    stage: str | None = None
    run: str | None = None
    runs: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    onnx: str | None = None
    maps: str | None = None
    outputs: Literal["auto", "live", "cached"] = "auto"
    unlabelled: str | None = None
    allow_leak: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> TeacherSection:
        if "" in (self.stage, self.run, self.onnx, self.maps, self.unlabelled):
            raise ValueError("stage, run, onnx, maps and unlabelled cannot be empty; give a name or path, or null")
        given = [name for name in ("run", "runs", "onnx", "maps") if getattr(self, name) is not None]
        if len(given) > 1 or (given and given != ["run"] and self.stage is not None):
            raise ValueError("names more than one teacher; give one of stage, run (with stage), runs, onnx and maps")
        if not given and self.stage is None:
            raise ValueError("says not who teaches; give one of stage, run, runs, onnx and maps")
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
    """Soft targets: (1 − weight) · loss of the labels + weight · loss against the teacher's probabilities.

    `temperature` T divides both logits, and the loss is multiplied by T². `kind`: cross-entropy, Kullback–Leibler
    divergence (the same gradient; 0 where both agree) or the squared difference of the probabilities. `per: region`
    counts the background and each class that the teacher sees in an image alike, however small. `boundary` adds this
    weight to the pixels on both sides of the teacher's contours.
    """

    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    temperature: Annotated[float, Field(gt=0, le=100)] = 2.0
    kind: Literal["bce", "kl", "mse"] = "bce"
    per: Literal["pixel", "region"] = "pixel"
    boundary: Annotated[float, Field(ge=0, le=1000)] = 0


class HintLayers(Section):
    """Layers of student and teacher by pattern; `*` stands for anything between two dots.

    What two patterns fit is paired in order. Without `teacher` its layers have the student's names.
    """

    student: Annotated[str, Field(min_length=1)]
    teacher: Annotated[str, Field(min_length=1)] | None = None


class HintsSection(Section):
    """Layers of the student that are to say what the teacher's say. The defaults are those of Vaze et al. 2020.

    `layers`: `blocks` pairs the blocks at equal levels, `convs` every convolution of these blocks after its activation;
    or pairs of patterns. `part` leaves out the decoder or all but it. `at` takes a block before or after its last
    norm. `weights`: equal or by inverse area, summing to `total` (10 unless given), or a list of them.
    """

    layers: Literal["blocks", "convs"] | Annotated[list[HintLayers], Field(min_length=1)] = "blocks"
    part: Literal["all", "encoder", "decoder"] = "all"
    at: Literal["before-norm", "after-norm"] = "before-norm"
    kind: Literal["l1", "l2", "cosine", "attention"] = "l1"
    weights: Literal["uniform", "area"] | Annotated[list[Positive], Field(min_length=1)] = "area"
    total: Positive | None = None

    @model_validator(mode="after")
    def _consistent(self) -> HintsSection:
        if isinstance(self.layers, list) and self.part != "all":
            raise ValueError("part chooses among the blocks; with a list of layers, list only those you want")
        if isinstance(self.weights, list) and self.total is not None:
            raise ValueError("total is for uniform and area weights; a list is taken as it is")
        return self


class StageSection(Section):
    """One training: a net, where it starts from, its teacher, its quantisation, its loss, optimiser and schedule.

    No epochs: the start is only calibrated and judged (post-training quantisation). `freeze`: patterns of layers that
    stay as they are, norms included. `loss: null` learns from hints (and soft targets) alone.
    """

    name: Annotated[Name, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    net: NetSection
    init: InitSection | None = None
    teacher: TeacherSection | None = None
    distil: DistilSection | None = None
    hints: HintsSection | None = None
    freeze: list[Annotated[str, Field(min_length=1)]] = []
    quant: QuantSection | None = None
    loss: LossSection | None = LossSection(bce=1, dice=1)
    optimizer: OptimizerSection = OptimizerSection()
    schedule: Schedule = CosineSchedule()
    epochs: Annotated[int, Field(ge=0, le=100_000)] = 60
    batch: Annotated[int, Field(ge=1, le=4096)] = 16
    sampling: Literal["uniform", "balanced"] = "uniform"
    best_by: Literal["dice", "iou", "loss", "hint"] = "dice"
    early_stop: EarlyStopSection | None = None
    precision: Literal["auto", "f32", "bf16"] = "auto"

    @model_validator(mode="after")
    def _trains_or_quantises(self) -> StageSection:
        if self.epochs == 0 and (self.quant is None or self.init is None):
            raise ValueError("0 epochs are for a stage with quant that starts from a trained one (init); give epochs")
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
        return self


class PostprocessSection(Section):
    """Rules from probabilities to a mask. `auto` is chosen on the validation part, after training, by Dice."""

    threshold: Annotated[float, Field(gt=0, lt=1)] | Auto = 0.5
    min_pixels: Annotated[int, Field(ge=0)] | Auto = 0
    min_peak: Annotated[float, Field(ge=0, lt=1)] | Auto = 0.0
    keep: Literal["all", "largest"] = "all"
    fill_holes: bool = False


class EvaluateSection(Section):
    """Parts that are judged at the end of a run, and by which metrics; docs/metrics.md lists them.

    `tolerance` belongs to surface_dice and boundary_f1: mm where spacing is known, pixels elsewhere. From an
    intersection over union of `lesion_iou` on, a lesion counts as found.
    """

    parts: list[Literal["train", "validation", "test"]] = ["validation", "test"]
    metrics: Annotated[list[str], Field(min_length=1)] = ["dice", "iou", "precision", "recall", "hd95", "assd"]
    tolerance: Annotated[float, Field(ge=0)] = 2.0
    lesion_iou: Annotated[float, Field(gt=0, le=1)] = 0.1


class CardSection(Section):
    """What the report's model card says and no run can know; it decides no result.

    `folders`: names of class folders (benign, malignant) that the report may show; others are numbered there, since
    folders may be called like patients.
    """

    intended_use: str = ""
    not_intended_use: str = ""
    limits: list[str] = []
    contact: str = ""
    folders: list[str] = []


class Recipe(Section):
    """Everything that decides a result, apart from the data itself; and what the report says of its use.

    `name` is for tables: a file's or shipped recipe's own, with its form, where the YAML does not say.
    """

    name: str = ""
    description: str = ""
    data: DataSection = DataSection()
    split: SplitSection = SplitSection()
    normalize: NormalizeSection = NormalizeSection()
    augment: AugmentSection = AugmentSection()
    stages: Annotated[list[StageSection], Field(min_length=1)]
    postprocess: PostprocessSection = PostprocessSection()
    evaluate: EvaluateSection = EvaluateSection()
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    card: CardSection = CardSection()

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
                    f"which is no earlier stage (earlier: {known})"
                )
            if stage.teacher and stage.teacher.stage and not stage.teacher.run and stage.teacher.stage not in earlier:
                known = ", ".join(sorted(earlier)) or "none"
                raise ValueError(
                    f"stage {stage.name!r} learns from {stage.teacher.stage!r}, "
                    f"which is no earlier stage (earlier: {known})"
                )
            earlier.add(stage.name)
        return stages

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        several = len(self.data.classes) > 1
        for stage in self.stages:
            if stage.loss is None:
                continue
            if several and stage.loss.bce:
                raise ValueError(f"stage {stage.name!r}: bce is for one class; use ce with {len(self.data.classes)}")
            if not several and stage.loss.ce:
                raise ValueError(f"stage {stage.name!r}: ce is for several classes; use bce with one")
            weights = stage.loss.class_weights
            if weights is not None and len(weights) != len(self.data.classes) + 1:
                raise ValueError(
                    f"stage {stage.name!r}: class_weights needs {len(self.data.classes) + 1} numbers, background first"
                )
        if self.augment.rotate90 and self.data.size[0] != self.data.size[1]:
            raise ValueError(f"augment.rotate90 needs a square data.size, not {self.data.size[0]}×{self.data.size[1]}")
        return self
