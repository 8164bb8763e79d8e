"""A net with its pipeline: saved, loaded, and run by torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pocketseg import memory
from pocketseg.errors import ModelFileError, RecipeError, named
from pocketseg.nets import AnySize, build, own_net, skeleton
from pocketseg.pipeline import Pipeline
from pocketseg.pipeline.pipeline import logit_count as logit_count
from pocketseg.predictors.base import NetPredictor
from pocketseg.quant import (
    PACKING,
    Scheme,
    calibrate,
    integer_net,
    integer_skeleton,
    pack_net,
    quantize_net,
    unpack_net,
)
from pocketseg.training.checkpoint import read_checkpoint, write_checkpoint
from pocketseg.training.device import Precision, autocast, wait_for

# Threads of OpenMP belong to the process that started them: a forked child would wait for them for ever, and takes one.
PROCESS = os.getpid()
# What a model's file always says; the rest are metadata.
STATE_KEYS = ("kind", "net", "pipeline", "quant", "packing")


@dataclass
class Model:
    """A net of the catalog, its options, and the pipeline around it.

    `quant` is how the net is quantized, in the words of a recipe, or None. `metadata` are what the file it was loaded
    from said besides: stage, epoch, score. `packed` is a net of integers that came from a packed file and cannot be
    trained.
    """

    net_options: dict[str, Any]
    pipeline: Pipeline
    net: AnySize
    quant: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    packed: bool = False

    @classmethod
    def fresh(cls, net_options: Mapping[str, Any], pipeline: Pipeline, seed: int) -> Model:
        """A model with newly drawn weights; the pipeline's multiple becomes the net's stride."""
        net = build(
            in_channels=pipeline.channels,
            out_channels=pipeline.logits,
            seed=seed,
            **net_options,
        )
        return cls(dict(net_options), replace(pipeline, multiple=net.stride), net)

    @classmethod
    def of(cls, module: nn.Module, pipeline: Pipeline) -> Model:
        """A model around a net of one's own, which stays as it is; it is packed or exported, not saved.

        Raises:
            ModelFileError: it gives no logits for the pipeline's channels and classes.
        """
        core = own_net(module, pipeline.channels, pipeline.logits)
        net = AnySize(core)
        return cls({"arch": type(module).__name__}, replace(pipeline, multiple=net.stride), net)

    def quantize(self, options: Mapping[str, Any], batches: Iterable[Tensor]) -> None:
        """Put a scheme's quantizers into the net and let them see some batches (n, c, h, w) of net input."""
        quantize_net(self.net.core, Scheme.of(options))
        calibrate(self.net.core, batches)
        self.quant = dict(options)

    def integer_core(self) -> nn.Module:
        """The net that is evaluated: on integers where it is quantized."""
        return (
            self.net.core
            if self.quant is None or self.packed
            else integer_net(self.net.core, self.quant.get("constants", "f32"))
        )

    @property
    def precision(self) -> str:
        """What it computes in: f32, or a scheme."""
        return "f32" if self.quant is None else str(self.quant["scheme"])

    def save(self, path: Path, metadata: Mapping[str, Any]) -> None:
        """Write weights and everything needed to run them; `metadata` (stage, epoch, score) go along."""
        write_checkpoint(path, self.net.core.state_dict(), self._state("model", metadata))

    def save_packed(self, path: Path) -> None:
        """Write the integer net of a quantized model, its weights in the bits they need."""
        write_checkpoint(
            path,
            {"weights": pack_net(self.integer_core())},
            self._state("packed", {**self.metadata, "packing": PACKING}),
        )

    def _state(self, kind: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        quant = {} if self.quant is None else {"quant": self.quant}
        return {"kind": kind, "net": self.net_options, "pipeline": self.pipeline.to_dict(), **quant, **metadata}

    @classmethod
    def load(cls, path: Path) -> Model:
        """A model from `best.safetensors`, or one that runs only from `packed.safetensors`.

        Raises:
            ModelFileError: truncated, altered, or not a model; its net and its weights do not go together, or a weight
                is nan or infinite.
        """
        tensors, state = read_checkpoint(path)
        if state.get("kind") not in ("model", "packed"):
            raise ModelFileError(str(path), "holds a training state, not a model", "give best.safetensors")
        pipeline = Pipeline.from_dict(state.get("pipeline"), str(path))
        try:
            model = cls._filled(tensors, state, pipeline, str(path))
        except ModelFileError:
            raise
        except RecipeError as error:
            found = error.problems[0]
            what = f"holds a net that cannot be built here ({found.where}: {found.what})"
            raise ModelFileError(str(path), what, found.fix or "use another checkpoint") from error
        except Exception as error:  # options of another type raise what a net makes of them
            what = f"holds no net that fits its weights ({type(error).__name__}: {str(error)[:200]})"
            raise memory.explained(error, ModelFileError(str(path), what, "use another checkpoint")) from error
        model.metadata = {key: value for key, value in state.items() if key not in STATE_KEYS}
        strange = [name for name, tensor in model.net.core.state_dict().items() if not tensor.isfinite().all()]
        if strange:
            what = f"holds weights that are NaN or infinite ({named(strange)})"
            raise ModelFileError(str(path), what, "use a checkpoint from before the training went wrong")
        return model

    @classmethod
    def _filled(cls, tensors: Mapping[str, Tensor], state: Mapping[str, Any], pipeline: Pipeline, where: str) -> Model:
        """The model that a state describes, with its weights."""
        options, quant = dict(state["net"]), state.get("quant")
        _check_size(options, pipeline, tensors, where)
        model = cls.fresh(options, pipeline, seed=0)
        model.quant, model.packed = quant, state["kind"] == "packed"
        if model.packed:
            core = integer_skeleton(model.net.core, Scheme.of(quant or {}))
            unpack_net(core, tensors["weights"], where, state.get("packing", 1))
            model.net.core = core
            return model
        if quant is not None:
            quantize_net(model.net.core, Scheme.of(quant))
        model.net.core.load_state_dict(tensors)
        return model

    def predictor(self, device: torch.device | None = None, precision: Precision = "f32") -> NetPredictor:
        """The model as a predictor; f32 unless asked otherwise, and on integers where it is quantized."""
        net = self.net if self.quant is None or self.packed else AnySize(self.integer_core())
        return NetPredictor(
            self.pipeline,
            torch_forward(net, device, precision),
            "torch",
            f"torch, {precision}" + ("" if device is None or device.type == "cpu" else f" on {device}"),
            {"precision": self.precision},
        )


def _check_size(options: Mapping[str, Any], pipeline: Pipeline, tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse a net that has more weights than the file, one bit each, could hold, before it takes memory."""
    core = skeleton(in_channels=pipeline.channels, out_channels=pipeline.logits, **options)
    needed = sum(parameter.numel() for parameter in core.parameters())
    held = 8 * sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if needed > held:
        raise ModelFileError(where, f"describes a net of {needed:,} weights, more than it holds", "use another file")


def torch_forward(
    net: torch.nn.Module, device: torch.device | None = None, precision: Precision = "f32"
) -> TorchForward:
    """NumPy in, NumPy out, in inference mode; the net's own mode comes back after each call."""
    device = device or torch.device("cpu")
    return TorchForward(net.to(device), device, precision)


@dataclass
class TorchForward:
    """A function that can be pickled."""

    net: torch.nn.Module
    device: torch.device
    precision: Precision

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if os.getpid() != PROCESS:
            torch.set_num_threads(1)
        training = self.net.training
        self.net.eval()
        try:
            logits: NDArray[np.float32] = self._run(self._there(batch)).float().cpu().contiguous().numpy()
        finally:
            self.net.train(training)
        return logits

    def call_on_device(self, batch: NDArray[np.float32]) -> Callable[[], None]:
        """A call of the net alone, for clocks: its input lies on the device, and it returns when the net is done."""
        self.net.eval()
        images = self._there(batch)

        def call() -> None:
            self._run(images)
            wait_for(self.device)

        return call

    def _there(self, batch: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(batch).to(self.device, memory_format=torch.channels_last)

    def _run(self, images: Tensor) -> Tensor:
        with torch.inference_mode(), autocast(self.device, self.precision):
            logits: Tensor = self.net(images)
        return logits
