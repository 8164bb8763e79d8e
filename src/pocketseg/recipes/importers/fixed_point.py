"""The configuration files of the fixed-point study (AskariHemmat et al. 2019), read as recipes.

Such a file is one mapping named `UNET`. Its label `dataset` stands for what the source keeps in a script for each data
set: loss, schedule, batch, size and augmentation.
"""

from __future__ import annotations

import copy
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pocketseg.errors import Problem, RecipeError, near

log = logging.getLogger("pocketseg")

SECTION = "UNET"
MODES = ("normal", "retrain", "inference", "visualize")
ACTIVATIONS = ("relu", "tanh", "ternarytanh")
WIDTHS = tuple(f"{what}_{part}_width" for what in ("weight", "activation") for part in ("i", "f"))
# What each quantization of the source reads.
USES = {
    "fixed": WIDTHS,
    "int": ("weight_i_width", "activation_i_width"),
    "bnn": (),
    "ternary": (),
    "normal": (),
}
DEAD = {
    "model_type": "has no effect in the source; left out",
    "init_type": "has no effect in the source, which draws kernels from −1 to 1 whatever it says, as we do; left out",
    "dropout": "has no effect in the source, whose nets have none; left out",
    "gpu_core_num": "has no effect on results; left out, choose with --device cpu or --device cuda:N",
}
KEYS = (
    "dataset", "lr", "num_epochs", "quantization", *WIDTHS, "activation", "trained_model", "experiment_name",
    "log_output_dir", "operation_mode", *DEAD,
)  # fmt: skip
# What our schemes have: bits of integers, and most bits of a fixed-point number without its sign.
INT_BITS = (2, 3, 4, 5, 6, 7, 8, 16)
MAX_BITS = 16
TERNARY = "w2"
FOREIGN_WEIGHTS = (".pkl", ".pth", ".pt")


@dataclass(frozen=True)
class Script:
    """What a script of the source decides.

    Attributes:
        title: of the data.
        sections: of the recipe, apart from its stages.
        stage: of its only stage.
        corrected: faults of the source that are not repeated.
        chosen: what the source leaves open, or did to files in advance.
    """

    title: str
    sections: dict[str, Any]
    stage: dict[str, Any]
    corrected: tuple[str, ...]
    chosen: tuple[str, ...]


SCRIPTS = {
    "gm": Script(
        title="spinal cord gray matter",
        sections={
            "data": {"size": [200, 200], "channels": 1, "fit": "tile", "classes": ["gray-matter"]},
            "split": {"kind": "holdout", "test": 0.2, "validation": 0.15},
            "normalize": {"kind": "z-score"},
            "augment": {
                "affine": {"degrees": 4.6, "scale": [0.98, 1.02], "translate": 0.03},
                # Noise of ±1, smoothed with sigma 3.75 and times 29: 29/√3/(2√π·3.75) = 1.26 pixels of 200.
                "elastic": {"alpha": 0.0063, "grid": 24, "probability": 0.3},
                "brightness": 0.058,
            },
        },
        stage={
            "loss": {"batch_dice": 1, "dice_smoothing": 1e-4},
            "schedule": {"kind": "cosine"},
            "batch": 16,
        },
        corrected=("the four raters' masks of a slice counted as four samples; give one mask a slice.",),
        chosen=(
            "windows of 200×200 from anywhere instead of the center; a shift of brightness with the variance of ±0.1.",
            "elastic displacements about as large and as smooth as the source's, on a grid of 24 points.",
            "slices without gray matter are trained on too.",
            'slices of a subject stay together with --set "data.group_regex=site[0-9]-sc[0-9]+", if so named.',
        ),
    ),
    "em": Script(
        title="membranes in electron microscopy",
        sections={
            "data": {
                "size": [200, 200], "channels": 1, "fit": "tile", "classes": ["membrane"], "mask": {"invert": True},
            },
            "split": {"kind": "holdout", "test": 0.2, "validation": 0.15, "contiguous": True},
            "normalize": {"kind": "unit-range"},
            "augment": {"flip": ["horizontal", "vertical"], "rotate90": True, "copies": 8},
        },
        stage={
            "loss": {"bce": 0.5, "batch_dice": 0.5, "dice_smoothing": 1e-4},
            "schedule": {"kind": "multi-step", "at": [0.2, 0.4, 0.6, 0.8], "factor": 0.1},
            "batch": 5,
        },
        corrected=(
            "the loss took a second sigmoid of probabilities.",
            "validation used the statistics of its own batches.",
            "altered copies of one slice stood on both sides of the split; here parts are blocks of the volume.",
        ),
        chosen=(
            "copies made in advance became windows from anywhere, 8 a slice and epoch, turned and flipped.",
            "the rate falls in steps as in the code; the source's README says cosine.",
            "labels that already are 1 on membranes: --set data.mask.invert=false",
        ),
    ),
    "nih": Script(
        title="pancreas in CT",
        sections={
            "data": {"size": [112, 176], "channels": 1, "fit": "tile", "classes": ["pancreas"]},
            "split": {"kind": "holdout", "test": 0.2, "validation": 0.15},
            "normalize": {"kind": "unit-range"},
        },
        stage={
            "loss": {"batch_dice": 1, "dice_smoothing": 1e-4},
            "schedule": {"kind": "cosine"},
            "batch": 16,
        },
        corrected=("images were cut around the reference mask, in evaluation too.",),
        chosen=(
            "windows of 112×176 from anywhere in the slice.",
            "slices of a patient stay together with --set data.group_regex=…, a pattern of your file names.",
        ),
    ),
}  # fmt: skip
CORRECTED = ("the last epoch was saved over the best.", "masks were cut at a probability of 0.999.")
CORRECTED_ACTIVATIONS = (
    "values between the grid's points reached convolutions after upsampling; here every input of a quantized "
    "convolution is on its grid.",
)


@dataclass(frozen=True)
class Converted:
    """A recipe, and what its reader should know.

    Attributes:
        values: of the recipe.
        notes: what of the file has no effect or means something else here.
        corrected: faults of the source that the recipe does not repeat.
        chosen: what the source leaves open.
        mode: one of `MODES`.
        name: of the experiment.
        folder: for its results, None where the file names none.
        weights: the file's trained model.
    """

    values: dict[str, Any]
    notes: tuple[str, ...]
    corrected: tuple[str, ...]
    chosen: tuple[str, ...]
    mode: str
    name: str
    folder: str | None
    weights: str | None


def is_fixed_point(values: Any) -> bool:
    """Whether values read from YAML are a file of the study, and no recipe."""
    return isinstance(values, Mapping) and isinstance(values.get(SECTION), Mapping)


def from_fixed_point(values: Mapping[str, Any]) -> Converted:
    """A recipe from a file of the study.

    Args:
        values: as read from YAML, with the mapping `UNET`.

    Raises:
        RecipeError: every fault of the file, together.

    Example:
        >>> found = from_fixed_point(experiment("em/a6.0w0.4"))
        >>> found.values["stages"][0]["quant"]["scheme"]
        'fixed Q0.4/Q6.0'
    """
    file = _File.of(values)
    name = file.text("experiment_name") or "fixed-point"
    script = _script(file)
    mode = _mode(file)
    scheme = _scheme(file, script)
    activation = _activation(file, scheme)
    rate, epochs = file.number("lr"), file.whole("num_epochs", lowest=1)
    weights = file.text("trained_model")
    init = _init(file, mode, weights)
    for key, what in DEAD.items():
        if key in file.values:
            file.note(key, what)
    if file.problems or script is None:
        raise RecipeError.of(file.problems)
    stage = {
        "name": "fixed-point" if scheme else "float",
        "net": {"arch": "fixed_point_unet"},
        **({"init": init} if init else {}),
        **({"quant": {"scheme": scheme, "keep": ["encoder.0*", "last"], **activation}} if scheme else {}),
        **copy.deepcopy(script.stage),
        "optimizer": {"kind": "adam", "lr": rate},
        "epochs": epochs,
        "best_by": "dice",
    }
    recipe = {
        "description": f"{name}: fixed-point U-Net of AskariHemmat et al. 2019 ({script.title}), {scheme or 'f32'}.",
        **copy.deepcopy(script.sections),
        "stages": [stage],
        "postprocess": {"threshold": 0.5},
        "evaluate": {"parts": ["validation", "test"]},
        "seed": 0,
    }
    corrected = (*CORRECTED, *script.corrected, *(CORRECTED_ACTIVATIONS if scheme not in (None, TERNARY) else ()))
    return Converted(
        recipe, tuple(file.notes), corrected, script.chosen, mode, name, file.text("log_output_dir"), weights
    )


def to_train(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The recipe of a file that says to train; its notes go to the log.

    Raises:
        RecipeError: a fault, or an operation mode that trains nothing.
    """
    found = from_fixed_point(values)
    if found.mode in ("inference", "visualize"):
        what = f"operation_mode is {found.mode}, which trains nothing"
        raise RecipeError(f"{where}: {SECTION}", what, "use `pocketseg run`, or set operation_mode: normal")
    for note in found.notes:
        log.warning("%s: %s", where, note)
    return found.values


# --- the file's keys --------------------------------------------------------------------------------------


@dataclass
class _File:
    """The values of the `UNET` section, and what is to be said of them.

    As in the source, "none" is not a value, upper case is lower case in words, and numbers may be in quotes.
    """

    values: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> _File:
        section = values[SECTION]
        file = cls({str(key): None if _is_none(value) else value for key, value in section.items()})
        for key in values:
            if key != SECTION:
                file.problems.append(Problem(str(key), f"stands beside {SECTION}, alone in its file", "remove it"))
        for key in file.values:
            if key not in KEYS:
                file.fault(key, f"is not a key of {SECTION}", near(key, KEYS))
        return file

    def fault(self, key: str, what: str, fix: str) -> None:
        self.problems.append(Problem(f"{SECTION}.{key}", what, fix))

    def note(self, key: str, what: str) -> None:
        self.notes.append(f"{key} {what}.")

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        return None if value is None else str(value).strip()

    def word(self, key: str) -> str | None:
        text = self.text(key)
        return None if text is None else text.lower()

    def number(self, key: str) -> float | None:
        """A number above 0; anything else is reported."""
        text = self.text(key)
        if text is None:
            self.fault(key, "is missing", "add it, for example 0.001")
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            self.fault(key, f"is {text!r}, which is not a number above 0", "for example 0.001")
            return None
        return value

    def whole(self, key: str, *, lowest: int) -> int | None:
        """A whole number; anything else is reported."""
        text = self.text(key)
        if text is None:
            self.fault(key, "is missing", "add it")
        elif re.fullmatch(r"\d{1,9}(\.0*)?", text) and int(float(text)) >= lowest:
            return int(float(text))
        else:
            self.fault(key, f"is {text!r}, which is not a whole number from {lowest}", "correct it")
        return None


def _is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "none"))


def _script(file: _File) -> Script | None:
    """By the experiment's name first: several files of the study for membranes are labelled as spinal cord."""
    label, name = file.word("dataset") or "", file.word("experiment_name") or ""
    by_name = next((key for key in SCRIPTS if re.match(rf"{key}(?![a-z])", name)), None)
    by_label = next((key for key in SCRIPTS if label.startswith(key)), None)
    if by_name and by_label and by_name != by_label:
        file.note("dataset", f"is {label!r}, a label without effect in the source; experiment_name says {by_name}")
    found = by_name or by_label
    if found is None:
        what = f"is {label!r}, which tells none of {', '.join(SCRIPTS)} by its start" if label else "is missing"
        file.fault("dataset", what, "write gm (spinal cord), em (membranes) or nih (pancreas)")
        return None
    return SCRIPTS[found]


def _mode(file: _File) -> str:
    mode = file.word("operation_mode")
    if mode is None:
        file.fault("operation_mode", "is missing", f"write one of {', '.join(MODES)}")
    elif mode not in MODES:
        file.fault("operation_mode", f"is {mode!r}, which is not a mode", near(mode, MODES))
    return mode or ""


def _activation(file: _File, scheme: str | None) -> dict[str, str]:
    """What the recipe's `quant` says of it: nothing for ReLU."""
    activation = file.word("activation")
    if activation == "ternarytanh" and scheme:
        file.note("activation", "is ternarytanh, here in every block; for gm the source keeps relu in the first")
        return {"activation": "ternary-tanh"}
    if activation is None:
        file.note("activation", "is missing, which stops the source with a KeyError; relu is used")
    elif activation == "ternarytanh":
        file.note(
            "activation", "is ternarytanh, which we offer for quantized nets only; relu is used, so results will differ"
        )
    elif activation == "tanh":
        file.note("activation", "is tanh, which means relu in the source, where only ternarytanh is looked for")
    elif activation != "relu":
        file.note("activation", f"is {activation!r}, which means relu in the source; {near(activation, ACTIVATIONS)}")
    return {}


def _init(file: _File, mode: str, weights: str | None) -> dict[str, Any] | None:
    if mode != "retrain":
        if weights and mode == "normal":
            file.note("trained_model", "is where the source saves; here the best weights lie in the run folder")
        return None
    if weights is None:
        file.fault("trained_model", "is missing, and operation_mode retrain starts from it", "give a file of weights")
        return None
    return start_from(weights)


def start_from(weights: str) -> dict[str, Any]:
    """The `init` of a stage that starts from the file's trained model: the source's, one of ours, or a run folder."""
    if weights.lower().endswith(FOREIGN_WEIGHTS):
        return {"weights": weights, "match": "order"}
    return {"run": weights} if Path(weights).is_dir() else {"weights": weights}


# --- quantization -----------------------------------------------------------------------------------------


def _scheme(file: _File, script: Script | None) -> str | None:
    """The words of our scheme, None for f32."""
    quantization = file.word("quantization")
    if quantization is None and "quantization" not in file.values:
        file.fault("quantization", "is missing", "write INT, BNN, Normal, FIXED or Ternary")
        return None
    if quantization not in USES:
        described = repr(quantization) if quantization else "none"
        hint = near(quantization or "normal", USES)
        file.note("quantization", f"is {described}, which leaves the net in f32 in the source and here; {hint}")
    uses = USES.get(quantization or "", ())
    unused = [key for key in WIDTHS if key in file.values and key not in uses]
    if unused:
        file.note(", ".join(unused), f"{_have(unused)} no effect with quantization {quantization}; left out")
    if quantization == "fixed":
        weights, activations = _grid(file, "weight"), _grid(file, "activation")
        powers = script is SCRIPTS["em"]
        file.note(
            "quantization",
            "is FIXED: our Qi.f saturates and has 2·2^(i+f) − 1 levels, sign included; the source's wraps (gm, nih) or "
            "clamps powers of two (em; our power-of-two is nearer to it), and has more levels; as published it is "
            f'--set "stages.0.quant.scheme=compat {"powers" if powers else "fixed"} {weights}/{activations}"',
        )
        return f"fixed {weights}/{activations}"
    if quantization == "int":
        weights, activations = _bits(file, "weight_i_width"), _bits(file, "activation_i_width")
        file.note(
            "quantization",
            "is INT: our integers have a scale and 2^n − 1 (weights) or 2^n levels; the source's have 2^n + 1, and are "
            f'--set "stages.0.quant.scheme=compat int {weights}/{activations}"',
        )
        return f"w{'int' if weights == '2' else ''}{weights}a{activations}"
    if quantization == "bnn":
        file.note(
            "quantization",
            "is BNN: our weights have a scale for each channel, sign(0) is +1, not 0, and every ReLU becomes a clip to "
            '[−1, 1]; as published it is --set "stages.0.quant.scheme=compat bnn"',
        )
        return "w1a1"
    return TERNARY if quantization == "ternary" else None


def _grid(file: _File, what: str) -> str:
    i, f = (file.whole(f"{what}_{part}_width", lowest=0) for part in ("i", "f"))
    if i is not None and f is not None and not 1 <= i + f <= MAX_BITS:
        key = f"{what}_i_width and {what}_f_width"
        file.fault(key, f"are {i} and {f}; together they must be 1 to {MAX_BITS}", "0 and 4 or 6 and 0 are usual")
    return f"Q{i}.{f}"


def _bits(file: _File, key: str) -> str:
    bits = file.whole(key, lowest=1)
    if bits is not None and bits not in INT_BITS:
        file.fault(key, f"is {bits}; integers of 2 to 8, or 16 bits are offered", "for 1 bit use quantization: BNN")
    return str(bits)


def _have(keys: list[str]) -> str:
    return "has" if len(keys) == 1 else "have"


# --- the experiments of the study -------------------------------------------------------------------------

# Name -> what differs from a rate of 0.001, 200 epochs and, for gm and em, the word tanh for ReLU.
EXPERIMENTS: dict[str, dict[str, Any]] = {
    "gm/full": {"activation": "relu"},
    "gm/bnn": {"activation": "relu"},
    "gm/ternary": {"activation": "ternarytanh"},
    "gm/a8.8w8.8": {},
    "gm/a8.0w0.8": {},
    "gm/a6.0w0.4": {},
    "gm/a4.0w0.2": {},
    "gm/a2.0w0.2": {"activation": None, "lr": 1e-4, "num_epochs": 400},
    "gm/a4.0w0.3": {"activation": None},
    "gm/a8.8w8.8-dropout": {"activation": None, "dropout": "enable"},
    "gm/a8.0w0.8-dropout": {"activation": None, "dropout": "enable", "lr": 1e-4},
    "gm/a6.0w0.4-dropout": {"activation": None, "dropout": "enable", "lr": 1e-4},
    "gm/a4.0w0.2-dropout": {"activation": None, "dropout": "enable", "lr": 1e-4},
    "em/full": {},
    "em/bnn": {"activation": "relu"},
    "em/ternary": {"activation": "ternarytanh"},
    "em/a8.0w0.8": {"activation": "ternarytanh"},
    "em/a6.0w0.4": {},
    "em/a4.0w0.2": {"num_epochs": 40},
    "em/a6.0w0.2": {"activation": None},
    "nih/full": {"activation": "relu"},
    "nih/bnn": {"activation": "relu"},
    "nih/ternary": {"activation": "relu", "lr": 2.5e-3},
    "nih/a8.8w8.8": {"activation": "relu", "lr": 2.5e-3},
    "nih/a8.0w0.8": {"activation": "relu"},
    "nih/a6.0w0.4": {"activation": "relu"},
    "nih/a4.0w0.2": {"activation": "relu"},
}


def experiment(name: str) -> dict[str, Any]:
    """An experiment of the study as the values of its configuration file.

    Raises:
        RecipeError: no such experiment.

    Example:
        >>> experiment("gm/ternary")["UNET"]["quantization"]
        'ternary'
    """
    if name not in EXPERIMENTS:
        raise RecipeError(f"experiment {name!r}", "is not in the study", near(name, EXPERIMENTS))
    dataset, _, precision = name.partition("/")
    section: dict[str, Any] = {
        "dataset": dataset, "experiment_name": re.sub(r"(?=w\d)|\W", "_", name), "lr": 1e-3, "num_epochs": 200,
        "activation": "tanh", "operation_mode": "normal",
    }  # fmt: skip
    if widths := re.match(r"a(\d+)\.(\d+)w(\d+)\.(\d+)", precision):
        keys = ("activation_i_width", "activation_f_width", "weight_i_width", "weight_f_width")
        section |= {"quantization": "fixed", **dict(zip(keys, map(int, widths.groups()), strict=True))}
    else:
        section["quantization"] = "normal" if precision == "full" else precision
    return {SECTION: section | EXPERIMENTS[name]}
