"""The plan: from a data set in numbers to a recipe, every choice with its reason. Pure functions of a `DataSummary`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pocketseg.recipes import Recipe, load_recipe
from pocketseg.search.shapes import Shape
from pocketseg.search.summary import DataSummary
from pocketseg.text import counted

STEP = 32
# The side of a net's input: no smaller where the images are not, and no larger unless small objects ask for it.
USUAL_SIDE, MOST_SIDE = 128, 256
# An object of fewer pixels across on the net's grid may vanish.
VISIBLE = 5.0
# Images whose widths and heights differ in ratio by more lose their shape where they are stretched.
SAME_ASPECT = 1.25
# Below these, what is measured says little.
FEW_GROUPS, FEW_TO_CLAIM = 40, 20
# Of all images, in color, from which color is taken to tell something.
SOME_COLOR = 0.1
# Values of CT in Hounsfield units begin here at the latest.
HOUNSFIELD = -500
SAMPLES_AT_LEAST = 64
BATCH = 8
RATE, QUANT_RATE = 2e-3, 5e-4


@dataclass(frozen=True)
class Choice:
    """A key of the recipe, its value, and one sentence why."""

    key: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Start:
    """Weights that some shapes start from.

    Attributes:
        weights: the file.
        net: what it is, in words.
        shapes: names of those it fits.
    """

    weights: str
    net: str
    shapes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What will be done with a data set.

    Attributes:
        choices: all that was decided, in the order of a recipe.
        notes: what the user should know first: what the data cannot carry, what was seen.
        start: what nets start from; None: random weights.
    """

    choices: tuple[Choice, ...]
    notes: tuple[str, ...] = ()
    start: Start | None = None

    def value(self, key: str) -> Any:
        """Of a key that was decided."""
        return next(choice.value for choice in self.choices if choice.key == key)

    def values(self, shape: Shape, epochs: Mapping[str, int]) -> dict[str, Any]:
        """The recipe as plain values: this shape, and so many epochs of each of its stages, by their names."""
        values: dict[str, Any] = {}
        stage: dict[str, Any] = {}
        for choice in self.choices:
            at, (*path, last) = (stage, choice.key.split(".")[1:]) if choice.key.startswith("stage.") else (
                values, choice.key.split(".")
            )  # fmt: skip
            for part in path:
                at = at.setdefault(part, {})
            at[last] = choice.value
        first, *quantized = _stages(shape, stage, epochs)
        if self.start is not None and shape.name in self.start.shapes:
            first = {**first, "init": {"weights": self.start.weights}}
        return {**values, "stages": [first, *quantized]}

    def recipe(self, shape: Shape, epochs: Mapping[str, int], overrides: Sequence[str] = ()) -> Recipe:
        """As `values`, with what the user set, checked."""
        return load_recipe(self.values(shape, epochs), overrides)


def _stages(shape: Shape, shared: Mapping[str, Any], epochs: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """A stage in floats, and one for each scheme that has epochs, trained on from it with a rate that ends at 0."""
    base = {**shared, "net": shape.net, "keep": "last", "validate_every": "auto"}
    yield {**base, "name": "float", "epochs": epochs["float"], "validate_every": _every(epochs["float"])}
    for name, count in epochs.items():
        if name != "float":
            optimizer = {**shared.get("optimizer", {}), "lr": QUANT_RATE}
            yield {
                **base, "name": name, "init": {"stage": "float"}, "quant": shape.quant_of(name), "epochs": count,
                "optimizer": optimizer, "schedule": {"kind": "cosine"}, "validate_every": _every(count),
            }  # fmt: skip


def _every(epochs: int) -> int:
    """Validation is for the eye here, since the last weights are kept: ten times in a training."""
    return max(1, epochs // 10)


def make_plan(found: DataSummary, given: Collection[str] = ()) -> Plan:
    """Decide everything but the shape of the net and its epochs.

    Args:
        found: the data set in numbers.
        given: keys of the recipe that the user sets; what else is decided does not depend on their values.
    """
    data = [*_data(found)]
    tiled = any(choice.key == "data.fit" and choice.value == "tile" for choice in data)
    training = [*_augment(found), *_stage(found, tiled=tiled)]
    choices = [*data, *_split(found), *_normalize(found), *training, *_rules(found)]
    mine = [choice for choice in choices if not any(_covers(key, choice.key) for key in given)]
    return Plan(tuple(mine), tuple(_notes(found)))


def _covers(given: str, key: str) -> bool:
    """Whether a key that the user sets is this one, or a section around it."""
    given = given.replace("stages.*.", "stage.")  # what is set of one stage leaves the plan of the others
    return key == given or key.startswith(f"{given}.")


# --- data ---------------------------------------------------------------------------------------------------------


def _data(found: DataSummary) -> Iterator[Choice]:
    yield _channels(found)
    yield Choice("data.classes", list(found.classes), f"{found.coding}.")
    if found.mask:
        yield Choice("data.mask", dict(found.mask), f"{found.coding}.")
    yield from _grid(found)
    if found.volumes and (low := min((low for low, _ in found.values.values()), default=0.0)) <= HOUNSFIELD:
        why = f"the values begin at {low:g}, as those of CT in Hounsfield units do: the usual window of soft tissue."
        yield Choice("data.window", [40, 400], why)


def _channels(found: DataSummary) -> Choice:
    if found.contrasts or set(found.channels) - {1, 3}:
        count = max(found.channels)
        return Choice("data.channels", count, f"images have {counted(count, 'channel')} of their own.")
    share = f"{found.colored} of {counted(found.looked, 'image')}"
    if found.colored >= SOME_COLOR * max(1, found.looked):
        return Choice("data.channels", 3, f"{share} are in color, which may tell something.")
    if found.colored:
        why = f"only {share} are in color, and they are read as gray; --set data.channels=3 keeps their colors."
        return Choice("data.channels", 1, why)
    stored = ", although they are stored as color" if 3 in found.channels else ""
    return Choice("data.channels", 1, f"all images are gray{stored}.")


def _grid(found: DataSummary) -> Iterator[Choice]:
    """Size and fit: nothing that is to be found may become smaller than a few pixels."""
    if found.one_spacing:
        why = f"pixel sizes differ ({_spacings(found)} mm), so all images are brought to one."
        yield Choice("data.spacing_mm", found.one_spacing["spacing_mm"], why)
        size = found.one_spacing.get("size", [USUAL_SIDE, USUAL_SIDE])
        fits = (
            "one input holds the largest image" if "size" in found.one_spacing else "images are too large for one input"
        )
        yield Choice("data.fit", found.one_spacing["fit"], f"at one pixel size, {fits}.")
        yield Choice("data.size", size, f"{fits}.")
        return
    smallest = found.smallest()
    long = max(found.usual_shape)
    sides = [USUAL_SIDE, 192, MOST_SIDE] if long > USUAL_SIDE else [_up(long)]
    seen = [side for side in sides if smallest is None or smallest.share * side >= VISIBLE]
    if not seen and long > MOST_SIDE:
        assert smallest is not None
        why = (
            f"the smallest objects are {smallest.diameter:.0f} pixels across in images of {found.usual_shape[0]}×"
            f"{found.usual_shape[1]}, and would vanish where those are made smaller"
        )
        side = MOST_SIDE if found.largest() > USUAL_SIDE / 2 else USUAL_SIDE
        yield Choice("data.fit", "tile", f"{why}.")
        yield Choice(
            "data.size", [side, side], f"windows of {side} pixels hold the largest objects with what is around."
        )
        return
    side = seen[0] if seen else sides[-1]
    low, high = found.aspects
    if high <= SAME_ASPECT * low:
        yield Choice("data.fit", "resize", "all images have nearly the same shape.")
        size = _like(found.usual_shape, side)
    else:
        why = f"images are of different shapes (width to height {low:.2f} to {high:.2f}), which are kept."
        yield Choice("data.fit", "letterbox", why)
        size = [side, side]
    small = "" if smallest is None else f"; the smallest objects are {smallest.share * side:.0f} pixels across then"
    before = (
        "the images are no larger"
        if long <= USUAL_SIDE
        else f"images are {found.usual_shape[0]}×{found.usual_shape[1]}"
    )
    yield Choice("data.size", size, f"{before}{small}.")


def _spacings(found: DataSummary) -> str:
    sides = sorted({round(side, 3) for spacing in found.spacings for side in spacing})
    return f"{sides[0]:g} to {sides[-1]:g}"


def _up(side: int) -> int:
    return max(STEP, -(-side // STEP) * STEP)


def _like(shape: tuple[int, int], side: int) -> list[int]:
    """A size of the shape of the images, the long side given, in steps that halve well."""
    height, width = shape
    scale = side / max(height, width)
    return [max(STEP, round(each * scale / STEP) * STEP) for each in (height, width)]


# --- split ----------------------------------------------------------------------------------------------------------


def _split(found: DataSummary) -> Iterator[Choice]:
    groups = counted(found.groups, "group")
    if found.parts:
        yield Choice("split.kind", "given", "the data came in parts, which are kept.")
    else:
        yield Choice("split.kind", "holdout", "one part is kept for the end, and nothing is chosen by it.")
        yield Choice("split.test", 0.2, f"a fifth of {counted(found.cases, 'case')} in {groups}, whole groups.")
    share = 0.2 if found.groups >= FEW_GROUPS else 0.25
    searched = (
        "what is chosen is chosen by it"
        if found.groups >= FEW_GROUPS
        else f"with {groups}, shapes are compared out of fold: on every case that is not held out"
    )
    yield Choice("split.validation", share, f"{searched}.")
    yield Choice("split.seed", 0, "the same groups every time.")


# --- intensities ----------------------------------------------------------------------------------------------------


def _normalize(found: DataSummary) -> Iterator[Choice]:
    kinds = set(found.values)
    if kinds <= {"uint8", "bool"}:
        yield Choice(
            "normalize.kind", "train-mean-std", "pictures of 8 bits have one scale; the training part gives it."
        )
        return
    if found.volumes and min(low for low, _ in found.values.values()) <= HOUNSFIELD:
        yield Choice("normalize.kind", "train-mean-std", "Hounsfield units mean the same in every image.")
        return
    shown = ", ".join(f"{kind} from {low:g} to {high:g}" for kind, (low, high) in sorted(found.values.items()))
    why = f"images are {shown}: each gets mean 0 and deviation 1, so that neither an offset nor unused bits matter."
    yield Choice("normalize.kind", "z-score", why)


def _augment(found: DataSummary) -> Iterator[Choice]:
    why = "nets of few weights have little room for what stronger augmentation teaches (NetAug, 2022)."
    yield Choice("augment.strength", "standard" if found.cases < 200 else "light", why if found.cases >= 200 else
                 f"{counted(found.cases, 'case')} are few, and augmentation stands in for more.")  # fmt: skip
    if found.contrasts or found.volumes or len(found.classes) > 1:
        yield Choice("augment.flip", [], "left and right may mean something in slices of a body, or between classes.")
    else:
        yield Choice("augment.flip", ["horizontal"], "a mirror image is plausible; upside down it may not be.")
    copies = max(1, -(-SAMPLES_AT_LEAST // max(1, found.looked)))
    if copies > 1:
        why = f"{counted(found.looked, 'case')} make an epoch of a few steps; so each comes {copies} times."
        yield Choice("augment.copies", copies, why)


# --- training -------------------------------------------------------------------------------------------------------


def _stage(found: DataSummary, *, tiled: bool) -> Iterator[Choice]:
    smoothing = "with 300 pixels of smoothing, a false alarm on an empty mask costs by its area"
    if len(found.classes) == 1:
        yield Choice("stage.loss", {"bce": 1, "dice": 1, "dice_smoothing": 300}, f"one class; {smoothing}.")
    else:
        why = "several classes; Dice over the batch, since not every class is in every image."
        yield Choice("stage.loss", {"ce": 1, "batch_dice": 1}, why)
    if tiled:
        why = "a third of the windows are laid over foreground, which is rare in large images."
        yield Choice("stage.sampling", {"foreground": 0.33}, why)
    elif len(found.shares) > 1 and min(found.shares) * 20 < max(found.shares):
        low, high = min(found.shares), max(found.shares)
        why = f"classes cover {100 * low:.2g} % to {100 * high:.2g} % of the pixels: rare ones come more often."
        yield Choice("stage.sampling", "balanced", why)
    yield Choice(
        "stage.optimizer", {"kind": "adamw", "lr": RATE, "weight_decay": 1e-2}, "what thin nets learn well with."
    )
    yield Choice(
        "stage.schedule", {"kind": "cosine", "warmup": 0.03}, "the rate ends at 0, so that the last weights are good."
    )
    yield Choice("stage.average", {}, "averaged weights vary less from seed to seed, and cost nothing.")
    yield Choice("stage.batch", BATCH, "more steps for the same images.")


def _rules(found: DataSummary) -> Iterator[Choice]:
    why = "0.5: shapes and files are compared on validation; rules that it chose too would count it twice."
    yield Choice("postprocess.threshold", 0.5, why)
    yield Choice("evaluate.parts", ["validation", "test"], "the test part is measured once, at the end.")
    yield Choice("seed", 0, "a repetition gives the same.")


# --- what to know first ---------------------------------------------------------------------------------------------


def _notes(found: DataSummary) -> Iterator[str]:
    if found.groups < FEW_TO_CLAIM:
        yield (
            f"{counted(found.cases, 'image')} in {counted(found.groups, 'group')} cannot carry a claim: "
            "take every figure here as a first impression"
        )
    images, clusters = found.near_duplicates
    if clusters:
        yield (
            f"{counted(images, 'image')} are near-duplicates in {counted(clusters, 'cluster')}: each cluster was made "
            "one group, so that none is learned from and tested on"
        )
    elif not found.grouped:
        yield (
            "nobody said which images show one patient: every image counts as a patient of its own, and figures are "
            "too good if that is not so (--set data.group_regex, data.group_folder or data.group_csv)"
        )


# --- in words -------------------------------------------------------------------------------------------------------


def plan_text(plan: Plan, more: Iterable[Choice] = ()) -> str:
    """The plan as Markdown."""
    lines = ["# Plan", "", *(f"- **Note.** {note}." for note in plan.notes), ""]
    lines += ["| what | value | why |", "|---|---|---|"]
    lines += [
        f"| `{choice.key}` | `{shown_value(choice.value)}` | {choice.reason} |" for choice in (*plan.choices, *more)
    ]
    return "\n".join(lines) + "\n"


def shown_value(value: Any) -> str:
    """A value as a recipe has it, in a line.

    Example:
        >>> shown_value({"ce": 1, "dice": 1}), shown_value([128, 128]), shown_value("tile")
        ('{ce: 1, dice: 1}', '[128, 128]', 'tile')
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(shown_value, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)
