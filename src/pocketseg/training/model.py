"""A net with its pipeline: saved, loaded, and run by torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pocketseg.errors import ModelFileError
from pocketseg.nets import AnySize, build
from pocketseg.pipeline import Forward, Pipeline
from pocketseg.predictors.base import NetPredictor
from pocketseg.training.checkpoint import read_checkpoint, write_checkpoint
from pocketseg.training.device import Precision, autocast


def logit_count(classes: int) -> int:
    """One logit for one class; background and classes for several."""
    return 1 if classes == 1 else classes + 1


@dataclass
class Model:
    """A net of the catalogue, its options, and the pipeline around it.

    `facts` are what the file it was loaded from said besides: stage, epoch, score.
    """

    net_options: dict[str, Any]
    pipeline: Pipeline
    net: AnySize
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def fresh(cls, net_options: Mapping[str, Any], pipeline: Pipeline, seed: int) -> Model:
        """A model with newly drawn weights; the pipeline's multiple becomes the net's stride."""
        net = build(
            in_channels=pipeline.channels,
            out_channels=logit_count(len(pipeline.classes)),
            seed=seed,
            **net_options,
        )
        return cls(dict(net_options), replace(pipeline, multiple=net.stride), net)

    def save(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Write weights and everything needed to run them; `facts` (stage, epoch, score) go along."""
        state = {"kind": "model", "net": self.net_options, "pipeline": asdict(self.pipeline), **facts}
        write_checkpoint(path, self.net.core.state_dict(), state)

    @classmethod
    def load(cls, path: Path) -> Model:
        """A model from `best.safetensors`.

        Raises:
            ModelFileError: torn, altered, or no model.
        """
        tensors, state = read_checkpoint(path)
        if state.get("kind") != "model":
            raise ModelFileError(str(path), "holds a training state, not a model", "give best.safetensors")
        pipeline = Pipeline.from_dict(state["pipeline"], str(path))
        model = cls.fresh(state["net"], pipeline, seed=0)
        model.net.core.load_state_dict(tensors)
        model.facts = {key: value for key, value in state.items() if key not in ("kind", "net", "pipeline")}
        return model

    def predictor(self, device: torch.device | None = None, precision: Precision = "f32") -> NetPredictor:
        """The model as a predictor; f32 unless asked otherwise."""
        return NetPredictor(self.pipeline, torch_forward(self.net, device, precision), name="torch")


def torch_forward(net: torch.nn.Module, device: torch.device | None = None, precision: Precision = "f32") -> Forward:
    """NumPy in, NumPy out, in inference mode; the net's own mode comes back after each call."""
    device = device or torch.device("cpu")
    net = net.to(device)

    def forward(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        training = net.training
        net.eval()
        try:
            with torch.inference_mode(), autocast(device, precision):
                images = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
                logits: NDArray[np.float32] = net(images).float().cpu().contiguous().numpy()
        finally:
            net.train(training)
        return logits

    return forward
