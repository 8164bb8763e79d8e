"""What a shape costs before it is trained: an untrained net is packed and timed, since what it learns adds no byte."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch

from pocketseg.engine.session import Session
from pocketseg.packing.compile import file_of, program_of
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.predictors import default_threads
from pocketseg.search.shapes import Cost, Shape
from pocketseg.timing import in_turns
from pocketseg.training.device import autocast, choose_precision, torch_device, wait_for
from pocketseg.training.model import Model

# Characters of a card beside pipeline and net: digests, options of the quantizer, and the verification, which floats
# need more of. Never fewer than a real one has.
CARD, FLOAT_CARD = 1100, 4000
CALIBRATED_SIDE = 32
STEPS = 3
# Preparing and augmenting a sample of 128×128.
SAMPLE_S = 2e-3


def costs(
    shapes: Iterable[Shape], pipeline: Pipeline, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Shape, Cost]]:
    """Bytes, memory and time of each shape, packed with the pipeline."""
    every = list(shapes)
    floats: dict[Shape, int] = {}
    for done, shape in enumerate(every, start=1):
        plain = replace(shape, bits="")
        if plain not in floats:
            floats[plain] = len(_file(_model(shape, pipeline)))
        yield shape, _cost(shape, pipeline, floats[plain])
        if progress:
            progress(done, len(every))


def _cost(shape: Shape, pipeline: Pipeline, float_bytes: int) -> Cost:
    model = _model(shape, pipeline)
    side = max(CALIBRATED_SIDE, model.net.stride)
    model.quantize(shape.quant_of(shape.bits), [torch.randn(2, pipeline.channels, side, side)])
    content = _file(model)
    session = Session(content, shape.name, default_threads())
    height, width = model.pipeline.net_size
    image = torch.zeros(1, pipeline.channels, height, width).numpy()
    took = in_turns({shape: lambda: session(image)}, turns=3, turn_s=0.02)[shape]
    return Cost(len(content), session.arena_bytes(height, width), took.median_ms, float_bytes)


def _model(shape: Shape, pipeline: Pipeline) -> Model:
    return Model.fresh(shape.net, _learned(pipeline), seed=0)


def _learned(pipeline: Pipeline) -> Pipeline:
    """With numbers in the place of those that training images give, as long as these may be."""
    if pipeline.normalization.kind != "train-mean-std":
        return pipeline
    numbers = (0.12345678901234567,) * pipeline.channels
    return replace(pipeline, normalization=Normalization("train-mean-std", mean=numbers, std=numbers))


def _file(model: Model) -> bytes:
    """With whole constants: whether halves of them do is seen when a net is trained, and makes its file smaller."""
    program = program_of(model.integer_core(), model.pipeline.channels)
    about = "x" * (FLOAT_CARD if model.quant is None else CARD)
    return file_of(program, {"pipeline": model.pipeline.to_dict(), "net": model.net_options, "about": about})


def step_seconds(shape: Shape, pipeline: Pipeline, batch: int, device: str) -> float:
    """How long a training step takes here, its samples included: the shortest of some."""
    place = torch_device(device)
    model = _model(shape, pipeline)
    net = model.net.to(place).train()
    height, width = model.pipeline.net_size
    images = torch.randn(batch, pipeline.channels, height, width, device=place).to(memory_format=torch.channels_last)
    precision, _ = choose_precision("auto", place)
    took = []
    for _ in range(STEPS + 1):
        began = time.perf_counter()
        with autocast(place, precision):
            loss = net(images).float().square().mean()
        loss.backward()
        wait_for(place)
        took.append(time.perf_counter() - began)
    return min(took[1:]) + batch * SAMPLE_S * height * width / 128**2
