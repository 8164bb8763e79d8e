"""What a shape costs before it is trained: an untrained net is packed and timed, since what it learns adds no byte."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from pocketseg.engine.session import Session
from pocketseg.packing.compile import file_of, program_of
from pocketseg.pipeline import Normalization, Pipeline
from pocketseg.predictors import default_threads
from pocketseg.recipes import Recipe
from pocketseg.search.shapes import FLOAT, Cost, Shape
from pocketseg.timing import in_turns
from pocketseg.training.augment import augment, draw, sample_generator
from pocketseg.training.device import autocast, choose_precision, torch_device, wait_for
from pocketseg.training.model import Model
from pocketseg.training.optim import make_optimizer
from pocketseg.training.samples import AUGMENT

# Characters of a card beside pipeline and net: digests, options of the quantizer, and the verification, which floats
# need more of. Never fewer than a real one has.
CARD, FLOAT_CARD = 1100, 4000
CALIBRATED_SIDE = 32
STEPS = 3


def costs(
    shapes: Iterable[Shape], pipeline: Pipeline, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[Shape, Cost]]:
    """Bytes, memory and time of each shape, packed with the pipeline."""
    every = list(shapes)
    floats: dict[Shape, int] = {}
    for done, shape in enumerate(every, start=1):
        plain = replace(shape, bits="")
        with _one_thread():
            if plain not in floats:
                floats[plain] = len(_file(_model(shape, pipeline)))
            cost = _cost(shape, pipeline, floats[plain])
        yield shape, cost
        if progress:
            progress(done, len(every))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Nets so small take several times as long on several threads, which wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _cost(shape: Shape, pipeline: Pipeline, float_bytes: int) -> Cost:
    model = _untrained(shape, pipeline)
    content = _file(model)
    session = Session(content, shape.name, default_threads())
    height, width = model.pipeline.net_size
    image = torch.zeros(1, pipeline.channels, height, width).numpy()
    took = in_turns({shape: lambda: session(image)}, turns=3, turn_s=0.02)[shape]
    return Cost(len(content), session.arena_bytes(height, width), took.median_ms, float_bytes)


def packed_untrained(shape: Shape, pipeline: Pipeline) -> bytes:
    """The file of an untrained net."""
    with _one_thread():
        return _file(_untrained(shape, pipeline))


def _untrained(shape: Shape, pipeline: Pipeline) -> Model:
    """A net in the bits of its shape."""
    model = _model(shape, pipeline)
    if shape.bits != FLOAT:
        side = max(CALIBRATED_SIDE, model.net.stride)
        drawn = torch.Generator().manual_seed(0)
        model.quantize(shape.quant_of(shape.bits), [torch.randn(2, pipeline.channels, side, side, generator=drawn)])
    return model


def _model(shape: Shape, pipeline: Pipeline) -> Model:
    """An untrained net, with biases and norms as a training may leave them at most.

    They differ in each channel, since equal ones take 4 bytes, and have both signs, since values behind a norm and the
    maxima of them may share a grid otherwise.
    """
    model = Model.fresh(shape.net, _learned(pipeline), seed=0)
    drawn = torch.Generator().manual_seed(0)
    for name, values in model.net.state_dict().items():
        if values.ndim == 1:
            value = torch.randn(values.shape, generator=drawn)
            values.copy_(value.abs() + 0.5 if name.endswith("running_var") else value)
    return model


def _learned(pipeline: Pipeline) -> Pipeline:
    """With numbers in the place of those that training images give, as long as these may be."""
    if pipeline.normalization.kind != "train-mean-std":
        return pipeline
    numbers = (0.12345678901234567,) * pipeline.channels
    return replace(pipeline, normalization=Normalization("train-mean-std", mean=numbers, std=numbers))


def _file(model: Model) -> bytes:
    program = program_of(model.integer_core(), model.pipeline.channels)
    about = "x" * (FLOAT_CARD if model.quant is None else CARD)
    return file_of(program, {"pipeline": model.pipeline.to_dict(), "net": model.net_options, "about": about})


@contextmanager
def side_by_side(jobs: int, device: str) -> Iterator[float]:
    """With the threads that each of so many trainings gets; and how often they take turns on GPUs that they share."""
    place, threads = torch_device(device), torch.get_num_threads()
    torch.set_num_threads(max(1, threads // jobs))
    try:
        yield max(1.0, jobs / max(1, torch.cuda.device_count())) if place.type != "cpu" else max(1.0, jobs / threads)
    finally:
        torch.set_num_threads(threads)


def step_seconds(shape: Shape, pipeline: Pipeline, recipe: Recipe, device: str) -> float:
    """How long a training step takes here, with all that it does and whatever else the machine does: the median.

    Args:
        shape, pipeline: the net.
        recipe: whose augmentation, and whose first stage's batch and optimizer, are those of the training.
        device: that trains.
    """
    place, stage = torch_device(device), recipe.stages[0]
    model = _model(shape, pipeline)
    net = model.net.to(place).train()
    optimizer = make_optimizer(net, stage.optimizer)
    height, width = model.pipeline.net_size
    images = torch.randn(stage.batch, pipeline.channels, height, width, device=place)
    masks = torch.zeros(stage.batch, height, width, dtype=torch.uint8, device=place)
    precision, _ = choose_precision(stage.precision, place)
    took = []
    for step in range(STEPS + 1):
        began = time.perf_counter()
        drawn = [
            draw(sample_generator(AUGMENT, 0, step, at), recipe.augment, height, width) for at in range(stage.batch)
        ]
        inputs, _ = augment(images, masks, drawn, recipe.augment)
        with autocast(place, precision):
            loss = net(inputs.contiguous(memory_format=torch.channels_last)).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wait_for(place)
        took.append(time.perf_counter() - began)
    return statistics.median(took[1:])
