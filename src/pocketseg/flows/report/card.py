"""The model card: what the model is, what it is for, what it was made from, where it ends."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pocketseg.data import Split
from pocketseg.evaluation import CaseScore, by_size
from pocketseg.files import sha256_of
from pocketseg.flows.report.evaluated import EvaluatedModel
from pocketseg.flows.report.measurements import Curves
from pocketseg.recipes import Recipe, StageSection
from pocketseg.recipes.schema import DataSection
from pocketseg.reporting import Notes, Properties
from pocketseg.text import bytes_text, counted

# Below these, a result says little.
FEW_CASES, FEW_GROUPS, FEW_PER_CLASS = 30, 10, 10
# Of the test cases: from here on a single group rules the mean.
MUCH_OF_ONE = 0.2
# In Dice and in calibration error: what a reader should be informed of.
GAP, UNSURE = 0.1, 0.05
RULE = ("kind", "test", "fixed_test", "validation", "folds", "seed", "contiguous")
BLANK = "not stated (recipe key card.{})"


def use(recipe: Recipe) -> Properties:
    """What only its author knows."""
    card = recipe.card
    return Properties(
        "Use",
        [
            ("Intended use", card.intended_use or BLANK.format("intended_use")),
            (
                "Not intended for",
                card.not_intended_use
                or "diagnosis or treatment: not a medical device, validated on the data below only",
            ),
            ("Contact", card.contact or BLANK.format("contact")),
        ],
    )


def model_properties(model: EvaluatedModel, rules: str) -> Properties:
    """The net and the rules that make a mask of its answer."""
    data = model.recipe.data
    channels = int(model.manifest["data"].get("channels", 1 if data.channels == "auto" else data.channels))
    net = ", ".join(
        f"{key} {value}" for key, value in model.metadata.get("net", {"arch": model.stage.net.arch}).items()
    )
    return Properties(
        f"Model {model.name}",
        [
            ("Net", f"{net}; {model.precision}"),
            ("Classes", ", ".join(data.classes) + "; they may overlap" * data.multilabel),
            ("Input", f"{data.size[0]}×{data.size[1]}, {counted(channels, 'channel')}, {data.fit}"),
            ("From probability to mask", rules),
            ("Trained from", _start(model.metadata)),
            ("Parameters", f"{model.metadata.get('parameters', 0):,}"),
        ],
    )


def _start(metadata: Mapping[str, Any]) -> str:
    """Where weights and knowledge came from, by digest; a path may name a person."""
    start, teacher = metadata.get("start"), metadata.get("teacher")
    said = "random weights" if not start else "other weights" + _digest(start)
    return said + (f", with a teacher{_digest(teacher)}" if teacher else "")


def _digest(metadata: Mapping[str, Any]) -> str:
    found = metadata.get("sha256")
    first = found[0] if isinstance(found, list) and found else found
    return f" (SHA-256 {str(first)[:16]}…)" if first else ""


def data_properties(model: EvaluatedModel, seen: Sequence[Curves]) -> Properties:
    """The data in numbers."""
    stored, split = model.manifest["data"], Split.read(model.run.split_file)
    shapes = np.array([shape for one in seen for shape in one.shapes])
    smallest, middle, largest = (f"{h:.0f}×{w:.0f}" for h, w in np.quantile(shapes, [0, 0.5, 1], axis=0))
    sizes = smallest if smallest == largest else f"{smallest} to {largest}, median {middle}"
    spacings = {f"{h:g}×{w:g} mm" for one in seen for h, w in one.spacings}
    known = sorted(spacings)
    groups = len(set(split.groups.values()))
    alone = groups == len(split.groups)
    grouped = (
        "not given: each image is taken for a patient of its own" if alone else f"{groups:,}; none lies in two parts"
    )
    unit = {"mm": "mm²", "px": "px"}[model.rows[0].unit]
    areas = [row.reference_pixels * row.pixel_area for row in model.rows if row.reference_pixels]
    objects = f"{np.median(areas):,.0f} {unit} (median), {min(areas):,.0f} to {max(areas):,.0f}" if areas else "none"
    return Properties(
        "Data",
        [
            (
                "Cases",
                f"{counted(stored['cases'], 'image[ with its mask|s with masks]')}, "
                f"{stored.get('empty_masks', 0):,} of them without foreground",
            ),
            ("Groups", grouped),
            ("Image sizes", f"{sizes} ({counted(len(shapes), 'image')} looked at)"),
            ("Pixel size", "not known" if not known else known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}"),
            ("Size of objects", f"{objects}, in the {model.part} part"),
            ("Layout", str(stored["layout"])),
        ],
    )


def split_properties(model: EvaluatedModel) -> Properties:
    """How the data was dealt, and what of it was evaluated."""
    recipe, split = model.recipe, Split.read(model.run.split_file)
    fold = split.fold(model.folds[0])
    parts = ["train", "validation", "test", *["fixed_test"] * bool(fold.fixed_test)]
    sizes = ", ".join(f"{len(fold.part(part)):,} {part}" for part in parts)
    # A split file that was given may say anything else.
    rule = {key: split.rule[key] for key in RULE if split.rule.get(key, False) is not False}
    return Properties(
        "Split",
        [
            ("Rule", ", ".join(f"{key} {value}" for key, value in rule.items()) or "a split file that was given"),
            ("Parts", f"{sizes} cases" + (f" in fold {model.folds[0]}" if len(split.folds) > 1 else "")),
            (
                "Evaluated here",
                f"{counted(len(model.cases), f'{model.part} case')} of "
                + counted(len({row.group for row in model.rows}), "group")
                + (f", {len(model.folds)} folds together" if len(model.folds) > 1 else ""),
            ),
            ("Seeds", f"{recipe.seed} (training), {rule.get('seed', '–')} (split)"),
        ],
    )


def training_properties(model: EvaluatedModel) -> Properties:
    """The recipe in short; the whole of it stands further down."""
    recipe, manifest = model.recipe, model.manifest
    machine = manifest["hardware"]
    return Properties(
        "Training",
        [
            *((f"Stage {stage.name}", _stage(stage)) for stage in recipe.stages),
            ("Augmentation", ", ".join(_augmentation(recipe)) or "none"),
            ("Normalization", recipe.normalize.kind),
            (
                "Trained in",
                f"{manifest['wall_time_s'] / 60:.1f} min on {machine['device']} ({machine['machine']}, "
                f"{machine['cpu_capability']}, {counted(machine['threads'], 'thread')})",
            ),
            ("Repeatability", manifest["determinism"]),
            ("Finished", manifest.get("finished", "not finished")),
        ],
    )


def _stage(stage: StageSection) -> str:
    loss = (
        {} if stage.loss is None else {k: v for k, v in stage.loss.model_dump().items() if isinstance(v, int | float)}
    )
    parts = " + ".join(f"{weight:g} {name}" for name, weight in loss.items() if weight and name != "dice_smoothing")
    words = [
        stage.net.arch,
        f"from stage {stage.init.stage}" if stage.init and stage.init.stage and not stage.init.run else "",
        "with a teacher" if stage.teacher else "",
        "with hints" if stage.hints else "",
        f"quantized {stage.quant.scheme}" if stage.quant else "",
        f"{counted(stage.epochs, 'epoch')} of batches of {stage.batch}",
        f"{stage.optimizer.kind}, rate {stage.optimizer.lr:g}, {stage.schedule.kind}",
        *(f"rate of {layers} times {factor:g}" for layers, factor in stage.optimizer.lr_scale.items()),
        f"loss {parts}" if parts else "no loss of labels",
        f"best epoch by {stage.best_by}" if stage.keep == "best" else "last epoch",
        f"averaged weights (decay {stage.average.decay:g})" if stage.average else "",
    ]
    return ", ".join(word for word in words if word)


def _augmentation(recipe: Recipe) -> Iterator[str]:
    for name, value in recipe.augment.model_dump(mode="json").items():
        if value and name not in ("border", "copies"):
            described = " and ".join(map(str, value)) if isinstance(value, list) else value
            yield name if isinstance(value, dict | bool) else f"{name} {described}"


def digests(models: Sequence[EvaluatedModel]) -> Properties:
    """What a reader can hold other files against; what several models share stands once."""
    owners: dict[tuple[str, str], list[str]] = {}
    for model in models:
        run = [
            ("data", model.manifest["data"]["sha256"]),
            ("split", sha256_of(model.run.split_file)),
            ("recipe", model.manifest["recipe_sha256"]),
        ]
        for what, digest in [*run, *model.digests()]:
            owners.setdefault((what, digest), []).append(model.name)
    return Properties(
        "Digests (SHA-256)",
        [
            (what if len(names) == len(models) else f"{what} of {', '.join(names)}", digest)
            for (what, digest), names in owners.items()
        ],
    )


def versions(model: EvaluatedModel) -> Properties:
    found = {
        "pocketseg": model.manifest["pocketseg"],
        "python": model.manifest["python"],
        **model.manifest["libraries"],
    }
    return Properties("Versions", list(found.items()))


def limits(models: Sequence[EvaluatedModel], seen: Mapping[str, Sequence[Curves]], stated: Sequence[str]) -> Notes:
    """What these results do not tell, found in the results themselves; what the author says comes first."""
    looked_at = seen.get(models[-1].name, ())
    lines = [*models[-1].recipe.card.limits, *stated, *_about_data(models), *_about_marks(models[-1], looked_at)]
    described: dict[str, list[str]] = {}
    for model in models:
        for line in _about_model(model, seen.get(model.name, ())):
            described.setdefault(line, []).append(model.name)
    for line, names in described.items():
        who = "" if len(models) == 1 else "Each model: " if len(names) == len(models) else f"{', '.join(names)}: "
        lines.append(who + line if who else line[0].upper() + line[1:])
    return Notes("Limits", lines)


def _about_data(models: Sequence[EvaluatedModel]) -> Iterator[str]:
    model = models[0]
    rows, part = model.rows, model.part
    split = Split.read(model.run.split_file)
    groups = [row.group for row in rows]
    count, single = len(set(groups)), len(model.cases)
    yield (
        f"All cases ({model.manifest['data']['cases']:,}) come from one data set. Nothing tells how the model does on "
        "another scanner, site or population: no external test was made."
    )
    if len({one.manifest["data"]["sha256"] for one in models}) > 1:
        yield "The models were trained on different data: their digests differ."
    if part != "test":
        yield f"Evaluated on the {part} part, which chose epochs and rules too: the figures are too optimistic."
    if len(set(split.groups.values())) == len(split.groups):
        yield "Every case is its own group. If several show one patient, the split leaks and intervals are too narrow."
    if single < FEW_CASES or count < FEW_GROUPS:
        of = counted(count, "group")
        yield f"Few cases were evaluated ({single} of {of}): the intervals are wide and a few cases decide."
    largest = max(set(groups), key=groups.count)
    if count > 1 and groups.count(largest) > MUCH_OF_ONE * len(groups):
        yield f"One group holds {groups.count(largest) / len(groups):.0%} of the evaluated cases."
    for name in model.recipe.data.classes:
        positive = sum(row.class_name == name and row.outcome in ("scored", "miss") for row in rows)
        if positive < FEW_PER_CLASS:
            yield f"The class {name} occurs in {positive} evaluated cases" + (
                " only." if positive else ": nothing is known."
            )
    if not any(row.outcome in ("false alarm", "true negative") for row in rows):
        yield "Every evaluated case has foreground: false alarms on images without any were not measured."
    if all(row.unit == "px" for row in rows):
        yield "The pixel size is not known: distances are in pixels, and their meaning changes with the image."


def _about_marks(model: EvaluatedModel, seen: Sequence[Curves]) -> Iterator[str]:
    """What calipers in the images mean for another scanner."""
    marked, looked = sum(one.marked for one in seen), sum(one.cases for one in seen)
    if not marked:
        return
    found = f"Calipers or colored marks seem to be drawn into {marked} of {counted(looked, 'image')} looked at. "
    if model.recipe.data.paint_out_calipers:
        yield found + "They are painted out before the net sees an image, as far as they are found."
    else:
        yield found + (
            "A net may have learned that they mark what it is to find, and find less in images without them, such as "
            "those of another scanner, or before anything is measured. Evaluate it on such images."
        )


def _about_model(model: EvaluatedModel, seen: Sequence[Curves]) -> Iterator[str]:
    split = Split.read(model.run.split_file)
    init = model.stage.init
    if model.stage.epochs == 0 and init is not None and init.weights is not None:
        yield (
            "its weights were trained elsewhere, no epoch was trained here: the images they were trained on are not "
            "known, and those evaluated here may be among them."
        )
    elif len(model.folds) == 1:
        yield f"trained once, with seed {model.recipe.seed}: how much a seed or a split changes is not known."
    left = model.metadata.get("rules left", {})
    for why in dict.fromkeys(left.values()):
        names = ", ".join(name for name, each in left.items() if each == why)
        yield f"{names} not chosen, since validation cannot carry the choice: {why}."
    auto = [
        name
        for name in ("threshold", "min_peak", "min_pixels")
        if getattr(model.recipe.postprocess, name) == "auto" and not _was_left(name, left, model.recipe.data)
    ]
    cases = len(split.fold(model.folds[0]).validation)
    if auto and cases < FEW_CASES:
        yield f"{', '.join(auto)} chosen on {cases} validation cases only."
    for one in model.summaries:
        about = f" of {one.class_name}" if len(model.recipe.data.classes) > 1 else ""
        if one.misses:
            yield f"misses {one.misses} of {counted(one.positive, 'case')} with foreground{about} altogether."
        if one.false_alarms:
            without = counted(one.negative, "case")
            yield f"raises a false alarm in {one.false_alarms} of {without} without foreground{about}."
    yield from _by_size(model.rows)
    for curve in seen:
        error = curve.calibration.expected_error
        if curve.part == model.part and error > UNSURE:
            yield f"its probabilities are off by {error:.2f} on average (calibration error): they are not calibrated."


def _was_left(rule: str, left: Collection[str], data: DataSection) -> bool:
    """Whether a rule was not chosen; of classes that may overlap for none of them."""
    return rule in left or (data.multilabel and all(f"{rule} of {name}" in left for name in data.classes))


def _by_size(rows: Sequence[CaseScore]) -> Iterator[str]:
    found = by_size(rows)
    for name in dict.fromkeys(row["class_name"] for row in found):
        inside = [row for row in found if row["class_name"] == name and not math.isnan(row["dice"])]
        if len(inside) < 2:
            continue
        worst, best = (pick(inside, key=lambda row: row["dice"]) for pick in (min, max))
        if best["dice"] - worst["dice"] > GAP:
            yield (
                f"Dice differs by size: {worst['dice']:.2f} on {worst['size']} {name}s, {best['dice']:.2f} on "
                f"{best['size']} ones."
            )


def size_text(model: EvaluatedModel) -> str:
    form, count = model.size()
    return f"{bytes_text(count)} ({form})"
