"""`wrap`: a net that another program exported to ONNX becomes a model: with a pipeline around it, in one file."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from pocketseg import memory, notebook
from pocketseg.errors import DataError, ModelFileError, RecipeError, near
from pocketseg.files import read_file, try_output, whole_file
from pocketseg.packages import require
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.geometry import Fit
from pocketseg.pipeline.intensity import Normalization, NormalizationKind
from pocketseg.pipeline.pipeline import FORMAT_VERSION, METADATA_KEY
from pocketseg.pipeline.postprocess import Postprocess
from pocketseg.predictors import load_onnx
from pocketseg.predictors.onnx import OnnxSession
from pocketseg.text import brief, counted
from pocketseg.version import VERSION

log = logging.getLogger("pocketseg")

Output = Literal["logits", "probabilities"]
# Probabilities are kept this far from 0 and 1, whose logits are infinite.
SMALLEST = 1e-7


@dataclass(frozen=True, repr=False)
class Wrapped:
    """The file, and what was found in it.

    Attributes:
        file: where it is.
        pipeline: that it holds now.
    """

    file: Path
    pipeline: Pipeline

    @property
    def text(self) -> str:
        """What the model takes and finds, in words."""
        height, width = self.pipeline.size
        channels = counted(self.pipeline.channels, "channel")
        return f"{', '.join(self.pipeline.classes)} in images of {height}×{width}, {channels}"

    def __repr__(self) -> str:
        return brief(self, f"{self.file}: {self.text}")

    def _repr_html_(self) -> str:
        """What was written, for notebooks."""
        return notebook.facts({"file": self.file, "finds": self.text})


def wrap(
    net: str | Path,
    out: str | Path,
    *,
    size: tuple[int, int] | None = None,
    classes: Sequence[str] = (),
    normalize: NormalizationKind = "unit-range",
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    fit: Fit = "resize",
    output: Output = "logits",
    threshold: float = 0.5,
    value_range: tuple[float, float] | None = None,
) -> Wrapped:
    """Put a pipeline around the net of an ONNX file, which then predicts, is evaluated, timed and packed as any model.

    Args:
        net: ONNX file with one input (n, c, h, w) and one output (n, k, h, w), f32, its weights inside.
        out: the new file, which ends in .onnx.
        size: (height, width) of the net's input; needed where the file leaves it open.
        classes: names of the foreground classes; k of them, or k - 1 where the first channel is background. Default:
            `foreground`, or `class-1`, `class-2`, … for k of 2 and more.
        normalize: what happens to an image after its values were scaled to 0 … 1: see `normalize.kind` of recipes.
        mean, std: for `train-mean-std`, one number a channel, of images scaled to 0 … 1.
        fit: how an image comes to the net's size: see `data.fit` of recipes.
        output: what the net gives: logits, or probabilities after a sigmoid or softmax.
        threshold: of the probability, for one class.
        value_range: the stored values that become 0 and 1; default: the full range of the files' type.

    Raises:
        ModelFileError: no such net.
        RecipeError: options that do not fit it.
        EnvironmentProblem: the package onnx or onnxruntime is not installed.
    """
    source, out = Path(net), Path(out)
    for name, value, known in (("normalize", normalize, get_args(NormalizationKind)), ("fit", fit, get_args(Fit)),
                               ("output", output, get_args(Output))):  # fmt: skip
        if value not in known:
            raise RecipeError(f"--{name} {value}", "is not known", near(value, known))
    if out.suffix.lower() != ".onnx":
        raise RecipeError(f"--out {out}", "is not a name of an ONNX file", "give one that ends in .onnx")
    try_output(out, source, ending=".onnx")
    model = _read(source)
    channels, outputs, shape = _shapes(model, source, size)
    names = _class_names(classes, outputs, source)
    pipeline = Pipeline(
        size=shape,
        channels=channels,
        classes=names,
        fit=fit,
        intensity_range=value_range,
        normalization=_normalization(normalize, mean, std, channels),
        postprocess=Postprocess(threshold=threshold),
    )
    if output == "probabilities" and not _cut_activation(model, outputs):
        _append_logits(model, outputs)
    elif output == "logits" and (last := _last(model).op_type) in ("Sigmoid", "Softmax"):
        what = f"is not what the net gives: it ends in {last}, and whatever is above 0 would be foreground"
        raise RecipeError("--output logits", what, "give --output probabilities")
    entry = model.metadata_props.add()
    card = {"version": FORMAT_VERSION, "pipeline": pipeline.to_dict(), "pocketseg": VERSION, "precision": "f32"}
    entry.key, entry.value = METADATA_KEY, json.dumps(card, sort_keys=True)
    content = model.SerializeToString()
    with whole_file(out, len(content)) as temporary:
        temporary.write_bytes(content)
        _try(temporary, out, pipeline)
    wrapped = Wrapped(out, pipeline)
    log.info("%s: %s", out, wrapped.text)
    return wrapped


def _read(source: Path) -> Any:
    require("export", "onnx")
    require("onnx", "onnxruntime")
    import onnx

    try:
        model = onnx.load_from_string(read_file(source, memory.MAX_FILE))
        onnx.checker.check_model(model)
    except FileNotFoundError:
        raise ModelFileError(str(source), "does not exist", "check the path") from None
    except Exception as error:  # the checker and Protocol Buffers raise kinds of their own
        what = f"cannot be read as ONNX ({str(error).splitlines()[0]})"
        raise memory.explained(error, ModelFileError(str(source), what, "export the net again, as one file")) from None
    if any(each.key == METADATA_KEY for each in model.metadata_props):
        raise ModelFileError(str(source), "has a pipeline already", "use it as it is")
    return model


def _shapes(model: Any, source: Path, size: tuple[int, int] | None) -> tuple[int, int, tuple[int, int]]:
    """Channels of the image, channels of the output, and (height, width); the model's input gets that size."""
    constants = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in constants]
    if (len(inputs), len(model.graph.output)) != (1, 1):
        ends = f"{counted(len(inputs), 'input')} and {counted(len(model.graph.output), 'output')}"
        what = f"has {ends}; a net of one image has one each"
        raise ModelFileError(str(source), what, "export the net alone")
    given, found = inputs[0].type.tensor_type.shape.dim, model.graph.output[0].type.tensor_type.shape.dim
    if len(given) != 4 or not given[1].dim_value:
        what = (
            f"takes an input of {counted(len(given), 'dimension')}; a net of images takes (n, c, h, w) with a known c"
        )
        raise ModelFileError(str(source), what, "export it for images")
    declared = (given[2].dim_value, given[3].dim_value)
    if size is None and not all(declared):
        raise RecipeError("--size", "is needed: the file leaves the size of images open", "for example --size 256 256")
    height, width = size or declared
    if any(have and have != want for have, want in zip(declared, (height, width), strict=True)):
        what = f"is {height} {width}, but the net takes {declared[0]}×{declared[1]}"
        raise RecipeError("--size", what, "leave it out")
    channels = given[1].dim_value
    _declare(given, (channels, height, width))
    outputs = found[1].dim_value if len(found) == 4 else 0
    outputs = outputs or _outputs(model, source, (channels, height, width))
    del model.graph.value_info[:]
    if len(found) == 4:
        _declare(found, (outputs, height, width))
    return channels, outputs, (height, width)


def _declare(dimensions: Any, shape: tuple[int, int, int]) -> None:
    """Any number of images of a shape (c, h, w)."""
    for each in dimensions:
        each.Clear()
    dimensions[0].dim_param = "images"
    for each, side in zip(dimensions[1:], shape, strict=True):
        each.dim_value = side


def _outputs(model: Any, source: Path, shape: tuple[int, int, int]) -> int:
    """How many channels the net gives, where its file does not say."""
    try:
        session = OnnxSession(model.SerializeToString(), threads=0, quantized=False)
        found = session(np.zeros((1, *shape), np.float32))
    except Exception as error:
        what = f"cannot run ({str(error).splitlines()[0]})"
        raise ModelFileError(str(source), what, "check --size, and export the net again") from None
    if found.ndim != 4:
        raise ModelFileError(str(source), f"gives an output of shape {found.shape}", "give a net that segments")
    return int(found.shape[1])


def _class_names(classes: Sequence[str], outputs: int, source: Path) -> tuple[str, ...]:
    count = 1 if outputs == 1 else outputs - 1
    names = tuple(classes) or (("foreground",) if count == 1 else tuple(f"class-{n}" for n in range(1, count + 1)))
    if len(names) != count:
        named = counted(len(names), "[class|classes]")
        what = f"names {named}, but the net of {source} gives {counted(outputs, 'channel')}"
        fix = "one channel is one class; of several the first is background, and the others are one class each"
        raise RecipeError("--class", what, fix)
    return names


def _normalization(
    kind: NormalizationKind, mean: Sequence[float], std: Sequence[float], channels: int
) -> Normalization:
    if (kind == "train-mean-std") != bool(mean or std):
        raise RecipeError("--mean and --std", "belong to --normalize train-mean-std", "give all three, or none")
    if kind == "train-mean-std" and not len(mean) == len(std) == channels:
        what = f"are {len(mean)} and {len(std)} numbers, but the net takes {counted(channels, 'channel')}"
        raise RecipeError("--mean and --std", what, "give one number a channel, of images scaled to 0 … 1")
    return Normalization(kind, mean=tuple(map(float, mean)), std=tuple(map(float, std)))


def _last(model: Any) -> Any:
    """The node that makes the output."""
    return next(node for node in reversed(model.graph.node) if model.graph.output[0].name in node.output)


def _cut_activation(model: Any, outputs: int) -> bool:
    """Take the sigmoid or softmax at the end away, where it is the last operation: what comes before are logits."""
    from onnx import helper

    graph, last = model.graph, _last(model)
    axis = {each.name: helper.get_attribute_value(each) for each in last.attribute}.get("axis", -1)
    fits = last.op_type == "Sigmoid" if outputs == 1 else last.op_type == "Softmax" and axis in (1, -3)
    if fits:
        graph.output[0].name = last.input[0]
        graph.node.remove(last)
    return fits


def _append_logits(model: Any, outputs: int) -> None:
    """Nodes that undo the sigmoid, log(p / (1 - p)), or the softmax, log(p), at the end of the net."""
    from onnx import helper, numpy_helper

    graph = model.graph
    old = graph.output[0].name
    low, high = (numpy_helper.from_array(np.asarray(value, np.float32), f"pocketseg_{name}")
                 for name, value in (("low", SMALLEST), ("high", 1 - SMALLEST)))  # fmt: skip
    one = numpy_helper.from_array(np.ones((), np.float32), "pocketseg_one")
    graph.initializer.extend([low, high, one])
    nodes = [
        helper.make_node("Max", [old, low.name], ["pocketseg_above"]),
        helper.make_node("Min", ["pocketseg_above", high.name], ["pocketseg_p"]),
        helper.make_node("Log", ["pocketseg_p"], ["pocketseg_log_p"]),
    ]
    last = "pocketseg_log_p"
    if outputs == 1:
        nodes += [
            helper.make_node("Sub", [one.name, "pocketseg_p"], ["pocketseg_rest"]),
            helper.make_node("Log", ["pocketseg_rest"], ["pocketseg_log_rest"]),
            helper.make_node("Sub", ["pocketseg_log_p", "pocketseg_log_rest"], ["pocketseg_logits"]),
        ]
        last = "pocketseg_logits"
    graph.node.extend(nodes)
    graph.output[0].name = last


def _try(file: Path, out: Path, pipeline: Pipeline) -> None:
    """Run the new file on two images: the number of images must be free, and logits must have the image's size."""
    try:
        predictor = load_onnx(file)
    except ModelFileError as error:
        raise ModelFileError.of([replace(each, where=str(out)) for each in error.problems]) from None
    batch = np.zeros((2, pipeline.channels, *pipeline.net_size), np.float32)
    try:
        found = predictor.forward(batch)
    except Exception as error:  # of the runtime: the number of images is fixed within the net
        what = f"does not run on two images at a time ({str(error).splitlines()[0]})"
        raise ModelFileError(str(out), what, "export it with a free number of images") from None
    wanted = (2, pipeline.logits, *pipeline.net_size)
    if found.shape != wanted:
        raise ModelFileError(str(out), f"gives {found.shape} for two images, not {wanted}", "give a net that segments")
    if not np.isfinite(found).all():
        raise DataError(str(out), "gives numbers that are not finite for an image of zeros", "check the net")
